#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "daemon/logs/log_chain.h"
#include "daemon/logs/log_index.h"

namespace supervisor {

// Whether a line (without its end) is one of those that are looked for. One that is longer than kLongestLine is asked
// about with its first or its last so many bytes.
using LineMatcher = std::function<bool(std::string_view line)>;
inline constexpr size_t kLongestLine = 1u << 20;

// Finds where the last lines of a file begin. A file may hold fewer than are wanted: the search then goes on in the
// next older one with what is left.
struct LastLines {
  uint64_t wanted = 0;     // in: lines; out: how many line starts are still to be found before this file
  bool at_log_end = true;  // in: the range's last byte is the last of all, so that a line end there begins no line
  LineMatcher matches;     // empty: every line counts
};

// The offset at which the last lines of the file's range begin, nothing when the range begins within them. Reads a
// plain file backwards from its end, a compressed one twice.
absl::StatusOr<std::optional<uint64_t>> FindLastLines(const LogChain& chain, const LogChain::File& file,
                                                      const LogRange& range, LastLines& lines);

// The range made to begin and end with whole lines: with more of them rather than fewer.
absl::StatusOr<LogRange> AlignToLines(const LogChain& chain, const LogChain::File& file, const LogRange& range);

}  // namespace supervisor
