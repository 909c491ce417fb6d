#pragma once

#include "ctl/client.h"
#include "ctl/exit_code.h"
#include "ctl/invocation.h"
#include "ctl/output.h"

namespace supervisor {

// One function a command: asks the daemon, shows the answer, and says how the process shall end.
ExitCode RunStatus(const Invocation& invocation, Client& client, Output& output);
ExitCode RunAction(const Invocation& invocation, Client& client, Output& output);  // start, stop, restart
ExitCode RunSignal(const Invocation& invocation, Client& client, Output& output);
ExitCode RunLogs(const Invocation& invocation, Client& client, Output& output);
ExitCode RunHealth(const Invocation& invocation, Client& client, Output& output);
ExitCode RunEvents(const Invocation& invocation, Client& client, Output& output);
ExitCode RunSummary(const Invocation& invocation, Client& client, Output& output);
ExitCode RunExplain(const Invocation& invocation, Client& client, Output& output);
ExitCode RunCheck(const Invocation& invocation, Output& output);  // does not return where supervisord is installed
ExitCode RunReload(const Invocation& invocation, Client& client, Output& output);
ExitCode RunMetrics(const Invocation& invocation, Client& client, Output& output);
ExitCode RunAlerts(const Invocation& invocation, Client& client, Output& output);
ExitCode RunTop(const Invocation& invocation, Client& client, Output& output);
ExitCode RunVersion(const Invocation& invocation, Client& client, Output& output);
ExitCode RunShutdown(const Invocation& invocation, Client& client, Output& output);
ExitCode RunUpgrade(const Invocation& invocation, Client& client, Output& output);

ExitCode RunCommand(const Invocation& invocation, Client& client, Output& output);

}  // namespace supervisor
