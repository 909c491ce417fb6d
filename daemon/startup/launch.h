#pragma once

#include "daemon/startup/options.h"

namespace supervisor {

// Checks the configuration, takes the lock, and becomes the guardian (or, without one, the daemon itself), in the
// foreground or the background. Returns only with an exit code that is due.
int LaunchSupervisor(const DaemonOptions& options);

// The guardian, as LaunchSupervisor has exec'd it: a process that has read and allocated nothing before.
int RunAsGuardian(const DaemonOptions& options);

// The daemon as the guardian has exec'd it, or as a daemon without one has exec'd another in its place.
int RunAsDaemon(const DaemonOptions& options);

}  // namespace supervisor
