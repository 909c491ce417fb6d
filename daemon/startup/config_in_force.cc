#include "daemon/startup/config_in_force.h"

#include <fmt/format.h>

#include <utility>

#include "common/paths.h"
#include "daemon/config/applied_config.h"

namespace supervisor {

LoadedConfig LoadConfigInForce(const DaemonOptions& options, std::vector<std::string>& remarks) {
  LoadedConfig from_files = LoadConfig(options.config_file);
  if (options.socket.empty()) {
    return from_files;
  }
  const std::string file = GetRuntimePaths(options.socket).applied_config;
  absl::StatusOr<std::vector<ConfigText>> texts = ReadAppliedConfig(file);
  if (absl::IsNotFound(texts.status())) {
    return from_files;
  }
  if (!texts.ok()) {
    remarks.push_back(
        fmt::format("the configuration that was in force is unusable, so the files are read as they are: {}: {}", file,
                    std::string(texts.status().message())));
    return from_files;
  }
  if (from_files.texts == *texts) {
    return from_files;
  }
  LoadedConfig in_force = LoadConfig(*std::move(texts));
  if (!in_force.config) {
    for (const ConfigError& error : in_force.errors) {
      remarks.push_back(
          fmt::format("the configuration that was in force is not accepted any more: {}", error.ToString()));
    }
    return from_files;
  }
  remarks.push_back(
      "the configuration's files have changed since they were applied: supervisorctl reload --dry-run shows what would "
      "come of it");
  return in_force;
}

}  // namespace supervisor
