#include "common/paths.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdlib>
#include <string_view>

namespace supervisor {
namespace {

// Nobody here changes the environment, so reading it is safe in every thread.
const char* Variable(const char* name) {
  return std::getenv(name);  // NOLINT(concurrency-mt-unsafe)
}

// The XDG specification: a relative path in one of its variables is invalid and ignored.
std::string XdgDirectory(const char* variable, std::string_view home_relative) {
  if (const char* value = Variable(variable); value != nullptr && value[0] == '/') {
    return value;
  }
  const char* home = Variable("HOME");
  return fmt::format("{}/{}", home != nullptr && home[0] == '/' ? home : "/", home_relative);  // "//..." without one
}

}  // namespace

DefaultPaths GetDefaultPaths() {
  if (geteuid() == 0) {
    return {.config_file = "/etc/supervisord/supervisor_config.json",
            .socket = "/run/supervisord/supervisord.sock",
            .database = "/var/lib/supervisord/supervisor.db",
            .log_directory = "/var/log/supervisord"};
  }
  const char* runtime = Variable("XDG_RUNTIME_DIR");
  const std::string runtime_directory = runtime != nullptr && runtime[0] == '/'
                                            ? fmt::format("{}/supervisord", runtime)
                                            : fmt::format("/tmp/supervisord-{}", geteuid());
  // Of a uid that the system does not know HOME is "/" or not set, as in many a container: nothing can be written
  // there.
  const std::string state_home = XdgDirectory("XDG_STATE_HOME", ".local/state");
  const std::string state = state_home.starts_with("//") ? runtime_directory + "/state" : state_home + "/supervisord";
  return {.config_file = XdgDirectory("XDG_CONFIG_HOME", ".config") + "/supervisord/supervisor_config.json",
          .socket = runtime_directory + "/supervisord.sock",
          .database = state + "/supervisor.db",
          .log_directory = state};
}

RuntimePaths GetRuntimePaths(const std::string& socket) {
  std::string_view stem = socket;
  if (stem.ends_with(".sock")) {
    stem.remove_suffix(5);
  }
  return {.socket = socket,
          .pid_file = fmt::format("{}.pid", stem),
          .lock_file = fmt::format("{}.lock", stem),
          .state_directory = fmt::format("{}.state", stem),
          .births = fmt::format("{}.state/births", stem),
          .applied_config = fmt::format("{}.state/applied.config", stem)};
}

}  // namespace supervisor
