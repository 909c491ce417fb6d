#pragma once

#include <vector>

#include "daemon/config/load.h"
#include "daemon/startup/options.h"

namespace supervisor {

// Why it was not started: all that is wrong with the configuration, to standard error.
void PrintConfigErrors(const std::vector<ConfigError>& errors);

// The daemon itself: everything is made, wired and run here. Returns the exit code.
int RunDaemonProcess(const DaemonOptions& options);

}  // namespace supervisor
