#include "daemon/service/environment.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <string_view>

#include "common/atomic_file.h"
#include "common/trusted_path.h"
#include "daemon/process/process_tree.h"
#include "daemon/process/program_trust.h"
#include "daemon/service/environment_digest.h"
#include "daemon/service/log_access.h"

namespace supervisor {
namespace {

constexpr size_t kMostEnvironmentFile = 1u << 20;

// What tells this process about its own service manager is not the services' business.
constexpr std::array<std::string_view, 8> kOwnVariables = {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID",
                                                           "LISTEN_FDS",    "LISTEN_PID",    "LISTEN_FDNAMES",
                                                           "INVOCATION_ID", "JOURNAL_STREAM"};

}  // namespace

Environment InheritedEnvironment() {
  Environment inherited;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    const std::string_view text = *entry;
    const size_t equals = text.find('=');
    if (equals == std::string_view::npos || equals == 0) {
      continue;
    }
    const std::string_view name = text.substr(0, equals);
    if (std::ranges::find(kOwnVariables, name) == kOwnVariables.end() && name != RunMark::kVariable) {
      inherited.emplace_back(name, text.substr(equals + 1));
    }
  }
  return inherited;
}

namespace {

absl::StatusOr<UniqueFd> OpenEnvironmentFile(const std::string& path, FileTrust trust,
                                             std::optional<uid_t> service_user) {
  TrustRule rule = OwnTrust(trust);
  rule.harm = "choose what the service runs, or read other users' files through it";
  absl::StatusOr<UniqueFd> file = OpenTrustedFile(path, O_RDONLY, rule);
  if (!absl::IsFailedPrecondition(file.status()) || !service_user) {
    return file;
  }
  AddTrusted(*service_user, rule);
  absl::StatusOr<UniqueFd> his = OpenTrustedFile(path, O_RDONLY, rule);
  struct stat info {};
  if (!his.ok() || fstat(his->get(), &info) != 0) {
    return his;
  }
  return info.st_uid == *service_user ? std::move(his) : std::move(file);
}

}  // namespace

absl::StatusOr<Environment> ReadEnvironmentFile(const std::string& path, std::optional<uid_t> service_user,
                                                FileTrust trust) {
  const absl::StatusOr<UniqueFd> file = OpenEnvironmentFile(path, trust, service_user);
  const absl::StatusOr<std::string> text =
      file.ok() ? ReadWholeFile(file->get(), path, kMostEnvironmentFile) : file.status();
  if (!text.ok()) {
    return absl::Status(text.status().code(), fmt::format("environment_file {}", std::string(text.status().message())));
  }
  absl::StatusOr<Environment> variables = ParseEnvironmentFile(*text);
  if (!variables.ok()) {
    return absl::InvalidArgumentError(
        fmt::format("environment_file {}: {}", path, std::string(variables.status().message())));
  }
  return variables;
}

namespace {

std::vector<const CommandConfig*> HelperCommandsOf(const ServiceConfig& config) {
  std::vector<const CommandConfig*> commands;
  for (const CommandConfig* run :
       {&config.hooks.pre_start.run, &config.hooks.post_start.run, &config.hooks.pre_stop.run,
        &config.hooks.post_stop.run, &config.graceful_shutdown.run}) {
    if (!run->command.empty()) {
      commands.push_back(run);
    }
  }
  return commands;
}

void LookAtPrograms(const ServiceConfig& config, ServiceIdentity& identity) {
  SpawnRequest request;
  request.environment = InheritedEnvironment();
  for (const auto& [name, value] : identity.variables) {
    SetVariable(request.environment, name, value);
  }
  request.working_directory = config.working_directory;
  request.credentials = identity.credentials;
  for (const CommandConfig* run : HelperCommandsOf(config)) {
    request.command = run->command;
    if (const absl::Status status = CheckProgramTrust(request); !status.ok()) {
      identity.distrusted[run->command] = std::string(status.message());
    }
  }
}

}  // namespace

const std::string* ServiceIdentity::Distrusts(const std::string& command) const {
  const auto found = distrusted.find(command);
  return found == distrusted.end() ? nullptr : &found->second;
}

absl::StatusOr<Environment> ReadEnvironmentFileOf(const ServiceConfig& config) {
  std::optional<uid_t> service_user;
  if (!config.user.empty() || !config.group.empty()) {
    const absl::StatusOr<SpawnRequest::Credentials> credentials = LookUpCredentials(config.user, config.group);
    if (credentials.ok()) {
      service_user = credentials->uid;
    }
  }
  return ReadEnvironmentFile(config.environment_file, service_user);
}

bool NeedsLookup(const ServiceConfig& config) {
  return !config.user.empty() || !config.group.empty() || !config.environment_file.empty() ||
         NeedsLookUp(config.logs) || !HelperCommandsOf(config).empty();
}

absl::StatusOr<ServiceIdentity> ResolveIdentity(const ServiceConfig& config) {
  ServiceIdentity identity{.credentials = {}, .variables = {}};
  if (const absl::StatusOr<WantedAccess> log_access = ResolveLogAccess(config.logs); log_access.ok()) {
    identity.log_access = *log_access;
  } else {
    return log_access.status();
  }
  if (!config.user.empty() || !config.group.empty()) {
    absl::StatusOr<SpawnRequest::Credentials> credentials = LookUpCredentials(config.user, config.group);
    if (!credentials.ok()) {
      return credentials.status();
    }
    if (!credentials->user.empty()) {
      SetVariable(identity.variables, "USER", credentials->user);
      SetVariable(identity.variables, "LOGNAME", credentials->user);
    }
    if (!credentials->home.empty()) {
      SetVariable(identity.variables, "HOME", credentials->home);
      SetVariable(identity.variables, "SHELL", credentials->shell);
    }
    identity.credentials = *std::move(credentials);
  }
  if (!config.environment_file.empty()) {
    const absl::StatusOr<Environment> variables = ReadEnvironmentFile(
        config.environment_file, identity.credentials ? std::optional<uid_t>(identity.credentials->uid) : std::nullopt);
    if (!variables.ok()) {
      return variables.status();
    }
    identity.environment_file_digest = EnvironmentDigest(*variables);
    for (const auto& [name, value] : *variables) {
      SetVariable(identity.variables, name, value);
    }
  }
  for (const auto& [name, value] : config.environment) {
    SetVariable(identity.variables, name, value);
  }
  LookAtPrograms(config, identity);
  return identity;
}

}  // namespace supervisor
