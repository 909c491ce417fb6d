#pragma once

#include <string>

#include "absl/status/status.h"

namespace supervisor {

// Gives a log with its rotated files, the ledger of these and its index of times another name in the same directory:
// the instance that it is of has another name now. Each with one rename(2), the oldest first, so a process that dies
// half-way loses nothing. Where a log of the new name is there already, nothing is moved: both stay what they are. A
// log that is not there is no failure. Blocks on the disk.
absl::Status MoveLog(const std::string& from, const std::string& to);

}  // namespace supervisor
