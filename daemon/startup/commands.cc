#include "daemon/startup/commands.h"

#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>

#include <chrono>
#include <cstdio>
#include <future>

#include "common/errno_status.h"
#include "common/paths.h"
#include "common/unique_fd.h"
#include "daemon/config/applied_config.h"
#include "daemon/config/load.h"
#include "daemon/startup/lock.h"
#include "daemon/store/store.h"

namespace supervisor {
namespace {

// The socket of the configuration; where that can't be read, or names none, the default.
RuntimePaths PathsFor(const DaemonOptions& options) {
  const std::optional<std::string> configured = LoadSocketPath(options.config_file);
  return GetRuntimePaths(configured.value_or(GetDefaultPaths().socket));
}

// The configuration in force, for a program that is to take over from another; else the file.
LoadedConfig LoadFor(const DaemonOptions& options) {
  if (options.applied_config.empty()) {
    return LoadConfig(options.config_file);
  }
  absl::StatusOr<std::vector<ConfigText>> texts = ReadAppliedConfig(options.applied_config);
  if (!texts.ok()) {
    ConfigError error{.file = options.applied_config,
                      .line = 0,
                      .column = 0,
                      .path = "",
                      .message = std::string(texts.status().message())};
    return {.config = std::nullopt, .errors = {std::move(error)}, .texts = {}};
  }
  return LoadConfig(*std::move(texts));
}

std::optional<Config> LoadOrPrintErrors(const DaemonOptions& options) {
  LoadedConfig loaded = LoadFor(options);
  for (const ConfigError& error : loaded.errors) {
    fmt::print(stderr, "{}\n", error.ToString());
  }
  return std::move(loaded.config);
}

void SayThatNoneRuns(const DaemonOptions& options, const RuntimePaths& paths) {
  fmt::print("supervisord is not running (socket {})\n", paths.socket);
  if (!LoadConfig(options.config_file).config) {
    fmt::print(stderr,
               "supervisord: {} has errors, so a daemon that it started may have another socket (supervisord --check "
               "tells them)\n",
               options.config_file);
  }
}

int SayThatItCannotBeTold(const RuntimePaths& paths, const absl::Status& status) {
  fmt::print(stderr, "supervisord: whether one runs on {} cannot be told: {}\n", paths.socket,
             std::string(status.message()));
  return 1;
}

}  // namespace

int CheckConfiguration(const DaemonOptions& options) {
  const std::optional<Config> config = LoadOrPrintErrors(options);
  if (!config) {
    return 2;
  }
  fmt::print("{}: ok, {} service{}\n", options.config_file, config->services.size(),
             config->services.size() == 1 ? "" : "s");
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
    fmt::print(stderr, "supervisord: {}\n", std::string(store.status().message()));
    return 1;
  }
  // A query is answered after everything before it is on disk: the schema, too.
  std::promise<absl::Status> answered;
  (*store)->QueryEvents({},
                        [&](const absl::StatusOr<std::vector<EventRow>>& rows) { answered.set_value(rows.status()); });
  const absl::Status status = answered.get_future().get();
  store->reset();
  if (first_trouble.wait_for(std::chrono::seconds(0)) == std::future_status::ready) {
    fmt::print(stderr, "supervisord: {}\n", first_trouble.get());
    return 1;
  }
  if (!status.ok()) {
    fmt::print(stderr, "supervisord: {}\n", std::string(status.message()));
    return 1;
  }
  fmt::print("{}: ready\n", config->global.database);
  return 0;
}

int ShowWhetherItRuns(const DaemonOptions& options) {
  const RuntimePaths paths = PathsFor(options);
  const absl::StatusOr<std::optional<pid_t>> pid = RunningDaemon(paths);
  if (!pid.ok()) {
    return SayThatItCannotBeTold(paths, pid.status());
  }
  if (*pid) {
    fmt::print("supervisord is running: pid {}, socket {}\n", **pid, paths.socket);
    return 0;
  }
  SayThatNoneRuns(options, paths);
  return 3;
}

int StopRunningDaemon(const DaemonOptions& options) {
  const RuntimePaths paths = PathsFor(options);
  const absl::StatusOr<std::optional<pid_t>> running = RunningDaemon(paths);
  if (!running.ok()) {
    return SayThatItCannotBeTold(paths, running.status());
  }
  const std::optional<pid_t> pid = *running;
  if (!pid) {
    SayThatNoneRuns(options, paths);
    return 0;
  }
  const UniqueFd pid_fd(static_cast<int>(syscall(SYS_pidfd_open, *pid, 0)));
  // The pid file may be older than the process that has this pid now: only who still holds the lock is signalled.
  if (const auto still = RunningDaemon(paths); !pid_fd || !still.ok() || *still != pid) {
    fmt::print("supervisord has just ended\n");
    return 0;
  }
  if (syscall(SYS_pidfd_send_signal, pid_fd.get(), SIGTERM, nullptr, 0) != 0) {
    if (errno == EPERM) {
      fmt::print(stderr, "supervisord: not permitted to stop supervisord (pid {})\n", *pid);
    } else {
      fmt::print(stderr, "supervisord: cannot stop pid {}: {}\n", *pid, ErrnoText(errno));
    }
    return 1;
  }
  pollfd wait{.fd = pid_fd.get(), .events = POLLIN, .revents = 0};
  while (poll(&wait, 1, -1) < 0 && errno == EINTR) {
  }
  fmt::print("supervisord (pid {}) and all its services are stopped\n", *pid);
  return 0;
}

}  // namespace supervisor
