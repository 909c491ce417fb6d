#include "daemon/startup/config_in_force.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <utility>

#include "common/atomic_file.h"
#include "common/diag_log.h"
#include "common/paths.h"
#include "daemon/config/applied_config.h"
#include "daemon/config/config_file.h"

namespace supervisor {

namespace {

LoadedConfig Unreadable(const std::string& file, std::string message) {
  ConfigError error{.file = file, .line = 0, .column = 0, .path = "", .message = std::move(message)};
  return {.config = std::nullopt, .errors = {std::move(error)}, .texts = {}};
}

// It was read once, by the launcher. A pipe holds it no more, and the descriptor may be another by now.
LoadedConfig FromStandardInput(const DaemonOptions& options) {
  absl::StatusOr<std::vector<ConfigText>> texts =
      ReadAppliedConfig(GetRuntimePaths(options.socket).applied_config, options.trust_files);
  return texts.ok()
             ? LoadConfig(*std::move(texts), LoadOptionsFor(options))
             : Unreadable(options.config_file,
                          fmt::format("was read when supervisord was started, and what was kept of it is unusable: {} "
                                      "(start supervisord again)",
                                      std::string(texts.status().message())));
}

}  // namespace

LoadOptions LoadOptionsFor(const DaemonOptions& options) {
  return {.trust = options.trust_files, .directory = options.config_directory};
}

LoadedConfig LoadAgain(const DaemonOptions& options, const std::string& applied_config) {
  LoadOptions how = LoadOptionsFor(options);
  if (InheritedDescriptor(options.config_file)) {
    absl::StatusOr<std::vector<ConfigText>> texts = ReadAppliedConfig(applied_config, options.trust_files);
    if (!texts.ok() || texts->empty()) {
      return Unreadable(options.config_file,
                        fmt::format("can't be read again, and what is in force can't be read either: {}",
                                    texts.ok() ? "it is empty" : std::string(texts.status().message())));
    }
    how.main_text = std::move(texts->front().text);
  }
  return LoadConfig(options.config_file, how);
}

absl::Status KeepForDaemon(const RuntimePaths& paths, const std::vector<ConfigText>& texts) {
  return WriteFileAtomically(paths.applied_config, FormatAppliedConfig(texts), 0600);
}

LoadedConfig LoadConfigInForce(const DaemonOptions& options, std::vector<std::string>& remarks) {
  if (!options.socket.empty() && InheritedDescriptor(options.config_file)) {
    return FromStandardInput(options);
  }
  LoadedConfig from_files = LoadConfig(options.config_file, LoadOptionsFor(options));
  if (options.socket.empty()) {
    return from_files;
  }
  const std::string file = GetRuntimePaths(options.socket).applied_config;
  absl::StatusOr<std::vector<ConfigText>> texts = ReadAppliedConfig(file, options.trust_files);
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
  LoadedConfig in_force = LoadConfig(*std::move(texts), LoadOptionsFor(options));
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
