#include "daemon/startup/config_errors.h"

#include <fmt/format.h>

#include "common/console.h"

namespace supervisor {

void PrintConfigErrors(const std::vector<ConfigError>& errors) {
  for (const ConfigError& error : errors) {
    PrintError(fmt::format("{}\n", error.ToString()));
  }
}

void PrintNotStarted(const std::vector<ConfigError>& errors) {
  PrintConfigErrors(errors);
  PrintError(fmt::format("supervisord: not started: {} error{} in the configuration\n", errors.size(),
                         errors.size() == 1 ? "" : "s"));
}

}  // namespace supervisor
