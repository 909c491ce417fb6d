#pragma once

#include <cstdint>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "daemon/logs/log_chain.h"

namespace supervisor {

// Finds where the last lines of a file begin. A file may hold fewer than are wanted: the search then goes on in the
// next older one with what is left.
struct LastLines {
  uint64_t wanted = 0;     // in: lines; out: how many line starts are still to be found before this file
  bool at_log_end = true;  // in: the file's last byte is the log's, so that a line end there begins no line
};

// The offset at which the last lines begin, nothing when the file begins within them. Reads a plain file backwards
// from its end, a compressed one twice.
absl::StatusOr<std::optional<uint64_t>> FindLastLines(const LogChain& chain, const LogChain::File& file,
                                                      LastLines& lines);

}  // namespace supervisor
