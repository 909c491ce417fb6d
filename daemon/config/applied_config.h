#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "daemon/config/load.h"

namespace supervisor {

// The configuration that is in force, as a text to keep while the daemon runs: the next daemon of the same guardian
// goes on with this, and not with files that somebody may have changed, or spoilt, since. With its version and a
// checksum; a secret may be in it, so it is for the daemon's user alone.
std::string FormatAppliedConfig(const std::vector<ConfigText>& texts);
// DataLoss for what is torn or is none.
absl::StatusOr<std::vector<ConfigText>> ParseAppliedConfig(std::string_view text);
// The same of a file; NotFound where there is none. FailedPrecondition for one that another user can have put there:
// the way to it is trusted as far as `trust` says, its own owner is looked at in any case.
absl::StatusOr<std::vector<ConfigText>> ReadAppliedConfig(const std::string& path, FileTrust trust);

}  // namespace supervisor
