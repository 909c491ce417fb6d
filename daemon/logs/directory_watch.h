#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "common/unique_fd.h"
#include "daemon/loop/loop.h"

namespace supervisor {

// Tells when names go away from the log directories (inotify), so that a deleted or replaced log file comes back
// although its service writes nothing, and idle streams cost nothing. Where the kernel gives no inotify all calls do
// nothing; the streams then look once a second while they write. The pump's thread.
class DirectoryWatch {
 public:
  // What is called with the directory's number and the name that went; an empty name: the directory itself, or
  // (with kAll) everything may have changed.
  using Callback = std::function<void(int directory, const std::string& name)>;
  static constexpr int kNone = -1;
  static constexpr int kAll = -2;

  DirectoryWatch(Loop& loop, Callback on_gone);

  // The number of the directory that `path` names now; the same for each caller. kNone when it cannot be watched.
  int Add(const std::string& path);
  void Remove(int directory);

 private:
  void ReadEvents();

  Callback on_gone_;
  UniqueFd inotify_;
  std::unique_ptr<Loop::Watch> watch_;
  std::map<int, int> users_;  // of each directory
};

}  // namespace supervisor
