#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>

#include "supervisor/v1/supervisor.pb.h"

namespace supervisor {

// Lets a follower go on where it was after the daemon was replaced. The interface cannot say "from this byte on", so
// the follower asks for the last lines again and this drops what was shown already: a chunk's offset says where it
// lies, and the bytes themselves say whether that is still the same file or one that rotation put in its place.
// Not for filtered logs, whose chunks have holes.
// Not thread-safe.
class LogResume {
 public:
  // How much of what was shown is kept per log, to be recognised.
  static constexpr size_t kTailBytes = size_t{4} << 20U;
  // How many lines to ask for again.
  static constexpr uint64_t kLines = 10000;

  struct Fresh {
    std::string_view data;      // of the chunk: what was not shown yet
    uint64_t missed_bytes = 0;  // before it, known to be lost to this reader
  };
  // For every chunk that came, in order.
  Fresh Accept(const v1::LogChunk& chunk);

  // The connection was lost; the chunks that come next may be old ones.
  void Reconnected();

 private:
  struct Log {
    std::string tail;         // the last bytes that were shown; ends at end_offset
    uint64_t end_offset = 0;  // after the last byte that was shown
    bool catching_up = false;
    uint64_t last_seen_end = 0;  // while catching up: after the chunk before; a step back is the next file
  };
  static Fresh CatchUp(Log& log, const v1::LogChunk& chunk);
  static void Remember(Log& log, const v1::LogChunk& chunk);

  std::map<std::pair<std::string, int>, Log> logs_;  // by instance and stream
};

}  // namespace supervisor
