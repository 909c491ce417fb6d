#pragma once

#include <string>

#include "absl/status/status.h"
#include "daemon/config/config.h"
#include "daemon/process/held_descriptors.h"

namespace supervisor {

// Has the daemon's own log go where `global` says; called again after each reload, and to reopen the file.
absl::Status ConfigureOwnLog(const GlobalConfig& global, bool to_stderr);

// Holds the log file for the keeper (guardian/keeper.h), which tells there what is lost when all of us were killed.
// `former`: the name that it was held under, which is replaced by the one that is returned; empty: none.
std::string HoldOwnLog(const std::string& log_file, const std::string& former, HeldDescriptors& held);

}  // namespace supervisor
