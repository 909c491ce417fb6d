#include <fmt/format.h>

#include <cstdio>
#include <string_view>

#include "common/fail_point.h"
#include "common/version.h"
#include "daemon/startup/check_command.h"
#include "daemon/startup/commands.h"
#include "daemon/startup/launch.h"
#include "daemon/startup/options.h"

// How supervisord starts:
//   supervisord [-c FILE]     reads and checks the configuration, takes the lock beside the socket,
//     └─ exec: the guardian   and becomes the guardian, which does nothing but
//          └─ the daemon      start the daemon, and start it again should it die. The daemon does the rest.
int main(int argc, char** argv) {
  if (argc > 1 && std::string_view(argv[1]) == "--internal-check") {
    return supervisor::RunCheckCommand(argc - 1, argv + 1);  // supervisorctl check
  }
  using supervisor::DaemonOptions;
  const absl::StatusOr<DaemonOptions> options = supervisor::ParseDaemonOptions(argc, argv);
  if (!options.ok()) {
    fmt::print(stderr, "supervisord: {}\n", std::string(options.status().message()));
    return 2;
  }
  switch (options->command) {
    case DaemonOptions::Command::kShowVersion:
      fmt::print("supervisord {}\n", supervisor::kVersion);
      return 0;
    case DaemonOptions::Command::kShowHelp:
      fmt::print("{}", supervisor::kDaemonHelp);
      return 0;
    case DaemonOptions::Command::kListFailPoints:
      fmt::print("{}", supervisor::FailPointNames());
      return 0;
    case DaemonOptions::Command::kCheck:
      return supervisor::CheckConfiguration(*options);
    case DaemonOptions::Command::kInitDb:
      return supervisor::InitDatabase(*options);
    case DaemonOptions::Command::kStatus:
      return supervisor::ShowWhetherItRuns(*options);
    case DaemonOptions::Command::kStop:
      return supervisor::StopRunningDaemon(*options);
    case DaemonOptions::Command::kRun:
      return supervisor::LaunchSupervisor(*options);
    case DaemonOptions::Command::kGuardian:
      return supervisor::RunAsGuardian(*options);
    case DaemonOptions::Command::kDaemonProcess:
      return supervisor::RunAsDaemon(*options);
  }
  return 2;
}
