#pragma once

#include "daemon/startup/options.h"

namespace supervisor {

// What a daemon ends with that has stopped everything because of a failure, for the supervisor to end with `exit_code`:
// tells the guardian, where there is one, and else is that itself.
int TellExitCode(const DaemonOptions& options, int exit_code, bool has_guardian);

}  // namespace supervisor
