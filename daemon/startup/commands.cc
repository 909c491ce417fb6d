#include "daemon/startup/commands.h"

#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>

#include <chrono>
#include <future>

#include "common/console.h"
#include "common/errno_status.h"
#include "common/paths.h"
#include "common/unique_fd.h"
#include "daemon/config/applied_config.h"
#include "daemon/config/load.h"
#include "daemon/process/proc_fs.h"
#include "daemon/startup/check_warnings.h"
#include "daemon/startup/config_errors.h"
#include "daemon/startup/config_in_force.h"
#include "daemon/startup/find_daemon.h"
#include "daemon/startup/left_behind.h"
#include "daemon/startup/leftovers.h"
#include "daemon/startup/lock.h"
#include "daemon/startup/private_place.h"
#include "daemon/store/store.h"

namespace supervisor {
namespace {

// The configuration in force, for a program that is to take over from another; else the file.
LoadedConfig LoadFor(const DaemonOptions& options) {
  if (options.applied_config.empty()) {
    return LoadConfig(options.config_file, LoadOptionsFor(options));
  }
  absl::StatusOr<std::vector<ConfigText>> texts = ReadAppliedConfig(options.applied_config, options.trust_files);
  if (!texts.ok()) {
    ConfigError error{.file = options.applied_config,
                      .line = 0,
                      .column = 0,
                      .path = "",
                      .message = std::string(texts.status().message())};
    return {.config = std::nullopt, .errors = {std::move(error)}, .texts = {}};
  }
  return LoadConfig(*std::move(texts), LoadOptionsFor(options));
}

std::optional<Config> LoadOrPrintErrors(const DaemonOptions& options) {
  LoadedConfig loaded = LoadFor(options);
  PrintConfigErrors(loaded.errors);
  return std::move(loaded.config);
}

// Says what there is to say about the search. False: whether one runs cannot be told.
bool TellSearch(const DaemonSearch& search) {
  if (!search.trouble.empty()) {
    PrintError(fmt::format("supervisord: whether one runs cannot be told: {}\n", search.trouble));
    return false;
  }
  if (!search.remark.empty()) {
    PrintError(fmt::format("supervisord: {}\n", search.remark));
  }
  return true;
}

void SayThatNoneRuns(const RuntimePaths& paths) {
  PrintOut(fmt::format("supervisord is not running (socket {})\n", paths.socket));
}

// Asked to stop, and awake to hear it: it may have been suspended (^Z, SIGSTOP).
bool AskToStop(int pid_fd, pid_t pid) {
  const bool asked = syscall(SYS_pidfd_send_signal, pid_fd, SIGTERM, nullptr, 0) == 0;
  const int error = errno;
  // Only then: one that runs may already be ending, and SIGCONT would undo a debugger's or LeakSanitizer's SIGSTOP.
  if (const std::optional<ProcStat> stat = ReadProcStat(pid); stat && stat->state == 'T') {
    syscall(SYS_pidfd_send_signal, pid_fd, SIGCONT, nullptr, 0);
  }
  errno = error;
  return asked;
}

void AwaitEnd(int pid_fd, pid_t pid) {
  constexpr int kLongMs = 5'000;
  pollfd wait{.fd = pid_fd, .events = POLLIN, .revents = 0};
  int ready = poll(&wait, 1, kLongMs);
  if (ready == 0) {
    PrintError(
        fmt::format("supervisord: pid {} still stops its services, each within its own graceful_shutdown.timeout; "
                    "--stop once more, or SIGTERM, kills at once what is left of them\n",
                    pid));
  }
  while (ready == 0 || (ready < 0 && errno == EINTR)) {
    ready = poll(&wait, 1, -1);
  }
}

}  // namespace

int CheckConfiguration(const DaemonOptions& options) {
  const LoadedConfig loaded = LoadFor(options);
  PrintConfigErrors(loaded.errors);
  if (!loaded.config) {
    return 2;
  }
  if (!options.applied_config.empty()) {
    // It is to take over: what it would refuse at its start is told now, while the other one still serves.
    if (const absl::Status status = MakePidDirectory(*loaded.config, options.trust_files); !status.ok()) {
      PrintError(fmt::format("supervisord: {}\n", std::string(status.message())));
      return 1;
    }
  }
  // A program that is to take over from another is asked about the configuration alone: the services run.
  const bool judges_machine = options.applied_config.empty();
  const std::vector<ConfigError> warnings = judges_machine ? FindWarnings(loaded) : std::vector<ConfigError>();
  PrintConfigErrors(warnings);
  const size_t services = loaded.config->services.size();
  PrintOut(fmt::format(
      "{}: ok, {} service{}{}\n", options.config_file, services, services == 1 ? "" : "s",
      warnings.empty() ? "" : fmt::format(", {} warning{}", warnings.size(), warnings.size() == 1 ? "" : "s")));
  return 0;
}

int InitDatabase(const DaemonOptions& options) {
  const std::optional<Config> config = LoadOrPrintErrors(options);
  if (!config) {
    return 2;
  }
  std::promise<std::string> trouble;
  std::future<std::string> first_trouble = trouble.get_future();
  bool told = false;
  Store::Options store_options;
  store_options.path = config->global.database;
  absl::StatusOr<std::unique_ptr<Store>> store = Store::Open(
      store_options, [](const std::vector<EventRow>&) {},
      [&](const std::string& error) {
        if (!error.empty() && !std::exchange(told, true)) {
          trouble.set_value(error);
        }
      });
  if (!store.ok()) {
    PrintError(fmt::format("supervisord: {}\n", std::string(store.status().message())));
    return 1;
  }
  // A query is answered after everything before it is on disk: the schema, too.
  std::promise<absl::Status> answered;
  (*store)->QueryEvents({},
                        [&](const absl::StatusOr<std::vector<EventRow>>& rows) { answered.set_value(rows.status()); });
  const absl::Status status = answered.get_future().get();
  store->reset();
  if (first_trouble.wait_for(std::chrono::seconds(0)) == std::future_status::ready) {
    PrintError(fmt::format("supervisord: {}\n", first_trouble.get()));
    return 1;
  }
  if (!status.ok()) {
    PrintError(fmt::format("supervisord: {}\n", std::string(status.message())));
    return 1;
  }
  PrintOut(fmt::format("{}: ready\n", config->global.database));
  return 0;
}

int ShowWhetherItRuns(const DaemonOptions& options) {
  const DaemonSearch search = FindDaemon(options);
  if (!TellSearch(search)) {
    return search.exit_code;
  }
  if (!search.pid) {
    SayThatNoneRuns(search.paths);
    return 3;
  }
  PrintOut(fmt::format("supervisord is running: pid {}, socket {}\n", *search.pid, search.paths.socket));
  return 0;
}

int StopRunningDaemon(const DaemonOptions& options) {
  const DaemonSearch search = FindDaemon(options);
  if (!TellSearch(search)) {
    return search.exit_code;
  }
  if (!search.pid) {
    SayThatNoneRuns(search.paths);
    return EndLeftovers(search.paths);
  }
  const pid_t pid = *search.pid;
  const UniqueFd pid_fd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  // The pid file may be older than the process that has this pid now: only who still holds the lock is signalled.
  if (const auto still = RunningDaemon(search.paths); !pid_fd || !still.ok() || *still != pid) {
    PrintOut("supervisord has just ended\n");
    return 0;
  }
  if (!AskToStop(pid_fd.get(), pid)) {
    PrintError(errno == EPERM ? fmt::format("supervisord: not permitted to stop supervisord (pid {})\n", pid)
                              : fmt::format("supervisord: cannot stop pid {}: {}\n", pid, ErrnoText(errno)));
    return 1;
  }
  AwaitEnd(pid_fd.get(), pid);
  const std::vector<std::string> left = TakeLeftBehind(search.paths);
  if (left.empty()) {
    PrintOut(fmt::format("supervisord (pid {}) and all its services are stopped\n", pid));
    return 0;
  }
  PrintError(fmt::format("supervisord (pid {}) is stopped, and has left running what it could not stop:\n", pid));
  for (const std::string& line : left) {
    PrintError(fmt::format("  {}\n", line));
  }
  return 1;
}

}  // namespace supervisor
