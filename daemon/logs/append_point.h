#pragma once

#include <cstdint>

namespace supervisor {

// The end of a log file, where splice(2) is about to write: it takes an offset and knows no O_APPEND. When another
// program truncates the file between the look at its size and the write (logrotate's copytruncate), the bytes land
// behind a hole, which reads as NULs. This finds that out afterwards and moves them to the file's start.
//
// A truncation is told from bytes that are NULs of the service's own: the last byte before the end has become a NUL,
// and was none before (in a file's first bytes), or the file begins with a hole (lseek(2), SEEK_HOLE), which no write
// of ours leaves. The pump's thread; blocks on the disk.
class AppendPoint {
 public:
  // REQUIRES: `fd` outlives it; `at` is the size of the file.
  AppendPoint(int fd, uint64_t at);

  // After a write to the point.
  bool WasCutSince() const;
  // `count` bytes were written to the point: they go to the start, and the file ends behind them.
  void CloseHole(uint64_t count) const;

 private:
  bool EndsInNul() const;

  const int fd_;
  const uint64_t at_;
  bool ended_in_nul_ = false;  // before the write; known where the file is short
};

}  // namespace supervisor
