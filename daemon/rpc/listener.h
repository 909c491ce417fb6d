#pragma once

#include <sys/types.h>

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/unique_fd.h"
#include "daemon/loop/loop.h"

namespace supervisor {

// The listening Unix socket. Nobody whom mode and group do not allow can connect at any moment: it is bound under a
// name in a directory that is ours alone, given its mode and owner, and only then renamed to where it belongs. When
// somebody removes it, it comes back, and what has to be beside it before it. Loop thread.
class Listener {
 public:
  // What lies beside the socket and is as easily removed with it.
  struct Surroundings {
    std::function<bool()> are_whole = [] { return true; };
    std::function<absl::Status()> restore = [] { return absl::OkStatus(); };
  };
  struct Options {
    std::string path;
    std::string private_directory;  // exists, mode 0700 or such that others cannot connect within
    mode_t mode = 0660;
    gid_t group = static_cast<gid_t>(-1);  // -1: as it comes
    Surroundings surroundings = {};
  };
  static absl::StatusOr<std::unique_ptr<Listener>> Open(Loop& loop, const Options& options,
                                                        std::function<void(UniqueFd)> on_connection);
  ~Listener();  // removes the socket, if it is still ours
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;

  // From now on a socket that somebody removes comes back only at the next regular look. What is returned may be closed
  // on another thread: the kernel lets the closer of an inotify instance wait for a grace period.
  UniqueFd StopLookingAfter();

 private:
  Listener(Loop& loop, Options options, std::function<void(UniqueFd)> on_connection);
  absl::Status Bind();
  void Accept();
  void WatchDirectory();
  bool IsMissing() const;
  void OnDirectoryChanged();
  void LookAfter();

  Loop& loop_;
  Options options_;
  std::function<void(UniqueFd)> on_connection_;
  UniqueFd fd_;
  dev_t device_ = 0;
  ino_t inode_ = 0;
  std::unique_ptr<Loop::Watch> watch_;
  UniqueFd directory_fd_;
  std::unique_ptr<Loop::Watch> directory_watch_;
  std::unique_ptr<Loop::Timer> look_timer_;
  bool looks_soon_ = false;  // something is missing, and look_timer_ is armed for that
  absl::Duration retry_delay_;
  std::unique_ptr<Loop::Timer> resume_timer_;  // out of descriptors: accepting pauses
};

}  // namespace supervisor
