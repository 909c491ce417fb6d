#include "daemon/logs/pipe_peek.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

namespace supervisor {
namespace {

constexpr int kScratchBytes = 1 << 20;

}  // namespace

bool PipePeek::MakeScratch() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) {
    return false;
  }
  scratch_read_.Reset(ends[0]);
  scratch_write_.Reset(ends[1]);
  // As many slots as the largest FIFO has; with fewer Peek sees fewer bytes at a time, and nothing else changes.
  fcntl(scratch_write_.get(), F_SETPIPE_SZ, kScratchBytes);
  return true;
}

std::string_view PipePeek::Peek(int pipe, size_t max) {
  if (max == 0 || (!scratch_read_ && !MakeScratch())) {
    return {};
  }
  ssize_t copied = 0;
  do {
    copied = tee(pipe, scratch_write_.get(), max, SPLICE_F_NONBLOCK);
  } while (copied < 0 && errno == EINTR);
  if (copied <= 0) {
    return {};
  }
  const auto wanted = static_cast<size_t>(copied);
  if (buffer_.size() < wanted) {
    buffer_.resize(wanted);
  }
  size_t got = 0;
  while (got < wanted) {
    const ssize_t n = read(scratch_read_.get(), buffer_.data() + got, wanted - got);
    if (n < 0 && errno == EINTR) {
      continue;
    }
    if (n <= 0) {
      // What is left in the scratch pipe would be taken for the next stream's bytes.
      scratch_read_.Reset();
      scratch_write_.Reset();
      break;
    }
    got += static_cast<size_t>(n);
  }
  return {buffer_.data(), got};
}

}  // namespace supervisor
