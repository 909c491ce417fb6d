#include "daemon/startup/options.h"

#include <fmt/format.h>
#include <getopt.h>
#include <unistd.h>

#include <array>
#include <climits>
#include <cstdlib>
#include <memory>
#include <vector>

#include "common/near_miss.h"
#include "common/paths.h"
#include "common/version.h"
#include "daemon/config/config_file.h"

namespace supervisor {

const char* const kDaemonHelp =
    R"(supervisord - starts, watches and stops services

Usage: supervisord [-c FILE] [--trust-files RULE] [--daemon | --stop | --status | --check | --init-db]

Without a command it runs in the foreground until SIGTERM or Ctrl-C, then stops all services and ends.

  -c, --config FILE   the configuration (default: /etc/supervisord/supervisor_config.json, for ordinary users
                      $XDG_CONFIG_HOME/supervisord/supervisor_config.json); "-" or /dev/stdin reads standard input,
                      once: relative paths in it refer to the working directory
      --trust-files strict|any
                      strict (default): what decides which programs run (the configuration, environment files, hooks,
                      checks) is refused where another user could have written or could exchange it, unless its mount
                      is read-only; any: it is taken from everybody, as for an image whose files belong to another uid
  -d, --daemon        run in the background; returns when the daemon answers
      --stop          stop a running daemon and all its services; returns when they are gone. Once more, during that:
                      kills what is left of them
      --status        say whether a daemon runs (exit 0) or not (exit 3), or that it cannot be told (exit 1 or 2)
      --check         validate the configuration and start nothing (exit 0, or 2 with all errors)
      --init-db       create or open the database that the configuration names, and end
      --no-guardian   run without the small parent process that restarts the daemon should it die: for service
                      managers that do the restarting themselves; an upgrade keeps the daemon's pid then
  -V, --version
  -h, --help

Signals: SIGTERM, SIGINT (Ctrl-C) stop everything, and a second one kills what is left; SIGHUP reloads the
configuration; SIGUSR1 reopens log files; SIGUSR2 replaces the daemon by the program that lies in its place now, its
services untouched.
Exit codes: 0 done, 1 failed, 2 usage or configuration error, 3 not running.
Services are looked at and controlled with supervisorctl.
)";

namespace {

enum Option : int {
  kStop = 256,
  kStatus,
  kCheck,
  kInitDb,
  kNoGuardian,
  kGuardian,
  kDaemonProcess,
  kLockFd,
  kReapedReadFd,
  kReapedWriteFd,
  kReadyFd,
  kStartedFd,
  kGuardianPid,
  kSocket,
  kSupervisorStarted,
  kAppliedConfig,
  kProtocol,
  kFailPoints,
  kHeldSendFd,
  kHeldReceiveFd,
  kKeeperFd,
  kKeeperPid,
  kGuardianNote,
  kTrustFiles,
  kConfigDirectory,
};

constexpr std::array<option, 30> kOptions = {{
    {"config", required_argument, nullptr, 'c'},
    {"daemon", no_argument, nullptr, 'd'},
    {"stop", no_argument, nullptr, kStop},
    {"status", no_argument, nullptr, kStatus},
    {"check", no_argument, nullptr, kCheck},
    {"init-db", no_argument, nullptr, kInitDb},
    {"no-guardian", no_argument, nullptr, kNoGuardian},
    {"trust-files", required_argument, nullptr, kTrustFiles},
    {"version", no_argument, nullptr, 'V'},
    {"help", no_argument, nullptr, 'h'},
    // Between our own processes.
    {"internal-guardian", no_argument, nullptr, kGuardian},
    {"internal-daemon", no_argument, nullptr, kDaemonProcess},
    {"internal-lock-fd", required_argument, nullptr, kLockFd},
    {"internal-reaped-read-fd", required_argument, nullptr, kReapedReadFd},
    {"internal-reaped-write-fd", required_argument, nullptr, kReapedWriteFd},
    {"internal-ready-fd", required_argument, nullptr, kReadyFd},
    {"internal-held-send-fd", required_argument, nullptr, kHeldSendFd},
    {"internal-held-receive-fd", required_argument, nullptr, kHeldReceiveFd},
    {"internal-keeper-fd", required_argument, nullptr, kKeeperFd},
    {"internal-keeper-pid", required_argument, nullptr, kKeeperPid},
    {"internal-started-fd", required_argument, nullptr, kStartedFd},
    {"internal-guardian-pid", required_argument, nullptr, kGuardianPid},
    {"internal-guardian-note", required_argument, nullptr, kGuardianNote},
    {"internal-socket", required_argument, nullptr, kSocket},
    {"internal-supervisor-started", required_argument, nullptr, kSupervisorStarted},
    {"internal-applied-config", required_argument, nullptr, kAppliedConfig},
    {"internal-config-directory", required_argument, nullptr, kConfigDirectory},
    {"internal-protocol", required_argument, nullptr, kProtocol},
    {"internal-fail-points", no_argument, nullptr, kFailPoints},
    {nullptr, 0, nullptr, 0},
}};

absl::Status UsageError(const std::string& what) {
  return absl::InvalidArgumentError(what + "\nTry: supervisord --help");
}

absl::Status UnknownOption(const std::string& argument) {
  std::vector<std::string> known;
  for (const option& entry : kOptions) {
    if (entry.name != nullptr && !std::string(entry.name).starts_with("internal-")) {
      known.push_back(fmt::format("--{}", entry.name));
    }
  }
  const std::vector<std::string> near = NearMisses(argument, known, 1);
  return UsageError(fmt::format("unknown option {}{}", argument,
                                near.empty() ? "" : fmt::format(" (did you mean {}?)", near.front())));
}

// Empty where the working directory is gone.
std::string WorkingDirectory() {
  const std::unique_ptr<char, decltype(&std::free)> here(getcwd(nullptr, 0), std::free);
  return here != nullptr ? here.get() : "";
}

std::string Absolute(const std::string& path) {
  const std::string here = path.starts_with('/') ? "" : WorkingDirectory();
  return here.empty() ? path : fmt::format("{}/{}", here, path);
}

absl::Status TakeTrust(std::string_view text, DaemonOptions& options) {
  if (text != "strict" && text != "any") {
    return UsageError(fmt::format("--trust-files {}: no such rule (expected strict or any)", text));
  }
  options.trust_files = text == "any" ? FileTrust::kAny : FileTrust::kStrict;
  return absl::OkStatus();
}

int Number(const char* text) { return static_cast<int>(std::strtol(text, nullptr, 10)); }

// Those of our own processes; true where it was one.
bool TakeInternal(int choice, DaemonOptions& options) {
  switch (choice) {
    case kLockFd:
      options.lock_fd = Number(optarg);
      return true;
    case kReapedReadFd:
      options.reaped_read_fd = Number(optarg);
      return true;
    case kReapedWriteFd:
      options.reaped_write_fd = Number(optarg);
      return true;
    case kReadyFd:
      options.ready_fd = Number(optarg);
      return true;
    case kHeldSendFd:
      options.held_send_fd = Number(optarg);
      return true;
    case kHeldReceiveFd:
      options.held_receive_fd = Number(optarg);
      return true;
    case kKeeperFd:
      options.keeper_fd = Number(optarg);
      return true;
    case kKeeperPid:
      options.keeper_pid = Number(optarg);
      return true;
    case kStartedFd:
      options.started_fd = Number(optarg);
      return true;
    case kGuardianPid:
      options.guardian_pid = Number(optarg);
      return true;
    case kGuardianNote:
      options.guardian_note = optarg;
      return true;
    case kSocket:
      options.socket = optarg;
      return true;
    case kSupervisorStarted:
      options.supervisor_started_unix_ms = std::strtoll(optarg, nullptr, 10);
      return true;
    case kAppliedConfig:
      options.applied_config = optarg;
      return true;
    case kProtocol:
      options.protocol = Number(optarg);
      return true;
    case kConfigDirectory:
      options.config_directory = optarg;
      return true;
    default:
      return false;
  }
}

}  // namespace

absl::StatusOr<DaemonOptions> ParseDaemonOptions(int argc, char** argv) {
  using Command = DaemonOptions::Command;
  DaemonOptions options;
  std::string command_option;
  const auto choose = [&](Command command, const char* name) -> absl::Status {
    if (!command_option.empty() && command_option != name) {
      return UsageError(fmt::format("{} and {} exclude each other", command_option, name));
    }
    command_option = name;
    options.command = command;
    return absl::OkStatus();
  };
  opterr = 0;
  for (;;) {
    const int here = optind;
    // The command line is parsed once, before there is another thread.
    const int choice = getopt_long(argc, argv, ":c:dVh", kOptions.data(), nullptr);  // NOLINT(concurrency-mt-unsafe)
    if (choice == -1) {
      break;
    }
    if (TakeInternal(choice, options)) {
      continue;
    }
    absl::Status status;
    switch (choice) {
      case 'c':
        options.config_file = optarg;
        options.config_given = true;
        break;
      case 'd':
        options.background = true;
        break;
      case 'V':
        status = choose(Command::kShowVersion, "--version");
        break;
      case 'h':
        status = choose(Command::kShowHelp, "--help");
        break;
      case kStop:
        status = choose(Command::kStop, "--stop");
        break;
      case kStatus:
        status = choose(Command::kStatus, "--status");
        break;
      case kCheck:
        status = choose(Command::kCheck, "--check");
        break;
      case kInitDb:
        status = choose(Command::kInitDb, "--init-db");
        break;
      case kNoGuardian:
        options.no_guardian = true;
        break;
      case kTrustFiles:
        status = TakeTrust(optarg, options);
        break;
      case kGuardian:
        options.command = Command::kGuardian;
        break;
      case kDaemonProcess:
        options.command = Command::kDaemonProcess;
        break;
      case kFailPoints:
        options.command = Command::kListFailPoints;
        break;
      case ':':
        status = UsageError(fmt::format("{} needs a value", argv[here]));
        break;
      default:
        status = UnknownOption(argv[here]);
        break;
    }
    if (!status.ok()) {
      return status;
    }
  }
  if (optind < argc) {
    return UsageError(fmt::format("unexpected argument {} (services are controlled with supervisorctl)", argv[optind]));
  }
  if (options.background && options.command != Command::kRun) {
    return UsageError(fmt::format("--daemon and {} exclude each other", command_option));
  }
  if (options.protocol > kInternalProtocol) {  // what an older one says is understood
    return UsageError(fmt::format("supervisord {} can't take over from one that speaks protocol {} (it speaks {})",
                                  kVersion, options.protocol, kInternalProtocol));
  }
  if (!options.config_given) {
    options.config_file = GetDefaultPaths().config_file;
  }
  options.config_file = options.config_file == "-" ? "/dev/stdin" : Absolute(options.config_file);
  if (options.config_directory.empty() && InheritedDescriptor(options.config_file)) {
    options.config_directory = WorkingDirectory();
  }
  return options;
}

}  // namespace supervisor
