#pragma once

#include "absl/status/status.h"
#include "daemon/config/config.h"

namespace supervisor {

// Has the daemon's own log go where `global` says; called again after each reload, and to reopen the file.
absl::Status ConfigureOwnLog(const GlobalConfig& global, bool to_stderr);

}  // namespace supervisor
