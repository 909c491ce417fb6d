#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "daemon/loop/helper_pool.h"
#include "daemon/service/secret_mask.h"

namespace supervisor {

// Of whom the last lines are wanted.
struct LastLinesOf {
  std::vector<std::string> log_files;
  SecretMask secrets;
  std::string environment_file;  // whose secrets are to be hidden too; "" is none
};

// The last lines of a log, oldest first, 16 KiB at most. Of two logs the second's (of standard error) go before, and
// stand below. Secrets are hidden: what a service prints of its environment when it dies must not end up in a database
// that others read. Blocks on the disk.
std::vector<std::string> ReadLastLines(LastLinesOf of, uint64_t most);

// A JSON array of strings; "" for no lines.
std::string LastLinesAsJson(const std::vector<std::string>& lines);

// Reads them on threads of its own: logs and environment files lie where their owners want them, perhaps on a file
// system that has stopped to answer. Any thread.
class LastLinesReader {
 public:
  LastLinesReader();
  ~LastLinesReader();
  LastLinesReader(const LastLinesReader&) = delete;
  LastLinesReader& operator=(const LastLinesReader&) = delete;

  // `then` runs on one of those threads, unless Finish comes before. False, without it, where too many are read
  // already, and after Finish.
  bool Read(LastLinesOf of, uint64_t most, std::function<void(std::vector<std::string>)> then);
  // Gives what is under way half a second. No `then` runs after this has returned.
  void Finish();

 private:
  struct Shared;
  std::shared_ptr<Shared> shared_;
  HelperPool pool_;
};

}  // namespace supervisor
