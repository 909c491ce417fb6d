#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace supervisor {

// Where one log file ends and the next begins, and where a log that lost bytes goes on. Pure: no file is touched here.
//
// A file ends at the last line end within its maximum size. A line that began in a file is finished there, so that a
// file may outgrow its maximum by the rest of one line; a line without an end is cut kLineSlackBytes beyond it.
inline constexpr uint64_t kLineSlackBytes = 1u << 20;

struct AppendStep {
  enum class Kind {
    kAppend,  // move `bytes` of the waiting ones to the file
    kRotate,  // begin a new file, then plan again
    kPeek,    // look at the first `bytes` waiting ones, then ask PlanPeeked
  };
  Kind kind = Kind::kAppend;
  uint64_t bytes = 0;
};

// What to do with `waiting` bytes of which at most `budget` are moved in this turn; `max_size` 0: no limit.
AppendStep PlanAppend(uint64_t size, uint64_t waiting, uint64_t budget, uint64_t max_size);

// The same, knowing the first waiting bytes (perhaps fewer than were asked for) and whether the file ends at a line
// end (or is empty). Never answers kPeek.
AppendStep PlanPeeked(uint64_t size, std::string_view waiting, uint64_t max_size, bool file_at_line_start);

// After bytes were dropped: how many of `waiting` to drop as well, so that no line of the file is a mixture of two.
// Nothing: all of them, and look again at those that follow. A file that ends within a line goes on with a line end.
std::optional<size_t> BytesToSkip(std::string_view waiting, bool file_at_line_start, bool stream_at_line_start);

}  // namespace supervisor
