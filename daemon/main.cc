#include <fmt/format.h>

#include <string>
#include <string_view>

#include "common/console.h"
#include "common/fail_point.h"
#include "common/file_trust.h"
#include "common/process_start.h"
#include "common/version.h"
#include "daemon/startup/check_command.h"
#include "daemon/startup/commands.h"
#include "daemon/startup/launch.h"
#include "daemon/startup/options.h"

namespace supervisor {
namespace {

int Run(int argc, char** argv) {
  if (argc > 1 && std::string_view(argv[1]) == "--internal-check") {
    UnblockSignals();
    return RunCheckCommand(argc - 1, argv + 1);  // supervisorctl check
  }
  const absl::StatusOr<DaemonOptions> options = ParseDaemonOptions(argc, argv);
  if (!options.ok()) {
    PrintError(fmt::format("supervisord: {}\n", std::string(options.status().message())));
    return 2;
  }
  SetProcessFileTrust(options->trust_files);
  const bool is_our_own_child = options->command == DaemonOptions::Command::kGuardian ||
                                options->command == DaemonOptions::Command::kDaemonProcess;
  if (!is_our_own_child) {
    UnblockSignals();
  }
  switch (options->command) {
    case DaemonOptions::Command::kGuardian:
      return RunAsGuardian(*options);
    case DaemonOptions::Command::kDaemonProcess:
      return RunAsDaemon(*options);
    case DaemonOptions::Command::kRun:
      return LaunchSupervisor(*options);
    case DaemonOptions::Command::kStatus:
      return ShowWhetherItRuns(*options);
    case DaemonOptions::Command::kStop:
      return StopRunningDaemon(*options);
    case DaemonOptions::Command::kCheck:
      return CheckConfiguration(*options);
    case DaemonOptions::Command::kInitDb:
      return InitDatabase(*options);
    case DaemonOptions::Command::kShowVersion:
      PrintOut(fmt::format("supervisord {}\n", kVersion));
      return 0;
    case DaemonOptions::Command::kShowHelp:
      PrintOut(kDaemonHelp);
      return 0;
    case DaemonOptions::Command::kListFailPoints:
      PrintOut(FailPointNames());
      return 0;
  }
  return 2;
}

}  // namespace
}  // namespace supervisor

// How supervisord starts:
//   supervisord [-c FILE]     reads and checks the configuration, takes the lock beside the socket,
//     └─ exec: the guardian   and becomes the guardian, which does nothing but
//          └─ the daemon      start the daemon, and start it again should it die. The daemon does the rest.
int main(int argc, char** argv) {
  if (!supervisor::PrepareProcess(supervisor::ProgramKind::kDaemon)) {
    return 1;
  }
  return supervisor::ExitCodeOf(supervisor::Run(argc, argv));
}
