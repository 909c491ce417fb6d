#include "ctl/commands/commands.h"

namespace supervisor {

ExitCode RunCommand(const Invocation& invocation, Client& client, Output& output) {
  switch (invocation.command) {
    case Command::kStatus:
      return RunStatus(invocation, client, output);
    case Command::kStart:
    case Command::kStop:
    case Command::kRestart:
      return RunAction(invocation, client, output);
    case Command::kSignal:
      return RunSignal(invocation, client, output);
    case Command::kLogs:
      return RunLogs(invocation, client, output);
    case Command::kHealth:
      return RunHealth(invocation, client, output);
    case Command::kEvents:
      return RunEvents(invocation, client, output);
    case Command::kSummary:
      return RunSummary(invocation, client, output);
    case Command::kExplain:
      return RunExplain(invocation, client, output);
    case Command::kCheck:
      return RunCheck(invocation, output);
    case Command::kReload:
      return RunReload(invocation, client, output);
    case Command::kMetrics:
      return RunMetrics(invocation, client, output);
    case Command::kAlerts:
      return RunAlerts(invocation, client, output);
    case Command::kTop:
      return RunTop(invocation, client, output);
    case Command::kVersion:
      return RunVersion(invocation, client, output);
    case Command::kShutdown:
      return RunShutdown(invocation, client, output);
    case Command::kUpgrade:
      return RunUpgrade(invocation, client, output);
  }
  return ExitCode::kFailed;
}

}  // namespace supervisor
