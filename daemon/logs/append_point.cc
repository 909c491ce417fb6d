#include "daemon/logs/append_point.h"

#include <unistd.h>

#include <algorithm>
#include <array>

namespace supervisor {
namespace {

// File systems tell holes by the block, which is no larger than this.
constexpr uint64_t kFirstBytes = 64u << 10;

}  // namespace

AppendPoint::AppendPoint(int fd, uint64_t at)
    : fd_(fd), at_(at), ended_in_nul_(at > 0 && at <= kFirstBytes && EndsInNul()) {}

bool AppendPoint::EndsInNul() const {
  char last = '\n';
  return pread(fd_, &last, 1, static_cast<off_t>(at_ - 1)) == 1 && last == '\0';
}

bool AppendPoint::WasCutSince() const {
  if (at_ == 0 || !EndsInNul()) {
    return false;
  }
  if (at_ <= kFirstBytes) {
    return !ended_in_nul_;
  }
  return lseek(fd_, 0, SEEK_HOLE) == 0;
}

void AppendPoint::CloseHole(uint64_t count) const {
  std::array<char, 64u << 10> buffer;  // NOLINT(cppcoreguidelines-pro-type-member-init): pread(2) fills it
  uint64_t moved = 0;
  while (moved < count) {
    const ssize_t got =
        pread(fd_, buffer.data(), std::min<uint64_t>(buffer.size(), count - moved), static_cast<off_t>(at_ + moved));
    if (got <= 0 || pwrite(fd_, buffer.data(), static_cast<size_t>(got), static_cast<off_t>(moved)) != got) {
      break;
    }
    moved += static_cast<uint64_t>(got);
  }
  if (moved == count) {
    const int cut = ftruncate(fd_, static_cast<off_t>(moved));
    static_cast<void>(cut);  // fails for a file that was made immutable
  }
}

}  // namespace supervisor
