#pragma once

#include "daemon/startup/options.h"

namespace supervisor {

// What supervisord does besides being the daemon. Each returns the exit code.
int CheckConfiguration(const DaemonOptions& options);
int InitDatabase(const DaemonOptions& options);
int ShowWhetherItRuns(const DaemonOptions& options);
int StopRunningDaemon(const DaemonOptions& options);

}  // namespace supervisor
