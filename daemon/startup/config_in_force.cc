#include "daemon/startup/config_in_force.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <utility>

#include "common/atomic_file.h"
#include "common/diag_log.h"
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

void AppliedConfigFile::Write(const std::vector<ConfigText>& texts) { Write(FormatAppliedConfig(texts)); }

void AppliedConfigFile::Restore() {
  struct stat info {};
  if (!file_ || fstat(file_.get(), &info) != 0 || info.st_nlink != 0) {
    return;
  }
  const absl::StatusOr<std::string> content =
      ReadWholeFile(fmt::format("/proc/self/fd/{}", file_.get()), static_cast<size_t>(info.st_size));
  if (content.ok()) {
    Write(*content);
  }
}

void AppliedConfigFile::Write(const std::string& content) {
  if (const absl::Status status = WriteFileAtomically(path_, content, 0600); !status.ok()) {
    LogError("cannot keep the configuration in force: should the daemon die, the next one reads the files as they are",
             {{"error", std::string(status.message())}});
    return;
  }
  file_.Reset(open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
}

}  // namespace supervisor
