#pragma once

#include <cstddef>
#include <string_view>
#include <vector>

#include "common/unique_fd.h"

namespace supervisor {

// Looks at bytes that wait in a pipe and leaves them there, with tee(2) into a pipe of its own: a byte stays in the
// pipe until the kernel itself moves it to the file. One for all streams; the pump's thread.
class PipePeek {
 public:
  // The first bytes waiting in `pipe`, at most `max`; perhaps fewer than wait, and empty when none do or the kernel
  // has no pipe left to give. Valid until the next call.
  std::string_view Peek(int pipe, size_t max);

 private:
  bool MakeScratch();

  UniqueFd scratch_read_;
  UniqueFd scratch_write_;
  std::vector<char> buffer_;
};

}  // namespace supervisor
