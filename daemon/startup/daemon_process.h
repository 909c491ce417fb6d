#pragma once

#include "daemon/startup/options.h"

namespace supervisor {

// The daemon itself: everything is made, wired and run here. Returns the exit code.
int RunDaemonProcess(const DaemonOptions& options);

}  // namespace supervisor
