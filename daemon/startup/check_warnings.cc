#include "daemon/startup/check_warnings.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <optional>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>

#include "common/errno_status.h"
#include "common/unique_fd.h"
#include "daemon/config/expand.h"
#include "daemon/config/key_places.h"
#include "daemon/process/command_hint.h"
#include "daemon/process/spawn.h"
#include "daemon/process/spawn_failure.h"
#include "daemon/service/environment.h"

namespace supervisor {
namespace {

constexpr int kMostInstances = 100;  // of a service; the others differ by their number alone
constexpr mode_t kAnyExecute = S_IXUSR | S_IXGRP | S_IXOTH;

using Keys = std::vector<std::string>;

// stat(2): the entry, or why there is none. EACCES says nothing about what is there.
struct Look {
  int error = 0;
  struct stat info {};
  bool is_missing() const { return error == ENOENT || error == ENOTDIR; }
};

Look LookAt(const std::string& path) {
  Look look;
  if (stat(path.c_str(), &look.info) != 0) {
    look.error = errno;
  }
  return look;
}

std::string Missing(const std::string& path, int error) { return fmt::format("{}: {}", path, ErrnoText(error)); }

// The program that the first line of a script names ("#!/usr/bin/python3 -u"), execve(2). Empty: it is no script.
std::string InterpreterOf(const std::string& path) {
  const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  std::array<char, 256> head{};
  const ssize_t size = fd ? read(fd.get(), head.data(), head.size()) : -1;
  std::string_view line(head.data(), size > 0 ? static_cast<size_t>(size) : 0);
  if (!line.starts_with("#!")) {
    return "";
  }
  line = line.substr(2, line.find('\n') - 2);
  std::string interpreter;
  std::istringstream(std::string(line)) >> interpreter;
  return interpreter;
}

std::optional<std::string> ProgramProblem(const std::string& path, const Look& look) {
  if (S_ISDIR(look.info.st_mode)) {
    return fmt::format("{} is a directory (expected a program)", path);
  }
  if ((look.info.st_mode & kAnyExecute) == 0) {
    return fmt::format("{} cannot be executed by anybody (chmod +x)", path);
  }
  if (const std::string interpreter = InterpreterOf(path); !interpreter.empty()) {
    if (const Look found = LookAt(interpreter); found.is_missing()) {
      return fmt::format("the interpreter in the first line of {} is missing: {}", path,
                         Missing(interpreter, found.error));
    }
  }
  return std::nullopt;
}

std::string WithHint(std::string problem, const std::string& command) {
  const std::string hint = ArgumentsHint(command);
  return hint.empty() ? problem : fmt::format("{} ({})", problem, hint);
}

// `search_path`: the directories for a command without a slash.
std::optional<std::string> CommandProblem(const std::string& command, const std::string& search_path) {
  if (command.empty()) {
    return std::nullopt;
  }
  if (command.find('/') != std::string::npos) {
    const Look look = LookAt(command);
    if (look.is_missing()) {
      return WithHint(Missing(command, look.error), command);
    }
    return look.error != 0 ? std::nullopt : ProgramProblem(command, look);
  }
  std::istringstream directories(search_path);
  for (std::string directory; std::getline(directories, directory, ':');) {
    const Look look = LookAt(fmt::format("{}/{}", directory, command));
    if (look.error == EACCES ||
        (look.error == 0 && !S_ISDIR(look.info.st_mode) && (look.info.st_mode & kAnyExecute) != 0)) {
      return std::nullopt;
    }
  }
  return WithHint(fmt::format("{} is in none of {}", command, search_path), command);
}

class WarningFinder {
 public:
  explicit WarningFinder(const LoadedConfig& loaded) : config_(*loaded.config), places_(loaded.texts) {}

  std::vector<ConfigError> Find() && {
    for (const auto& [id, service] : config_.services) {
      service_ = id;
      for (int i = 0; i < std::min(std::max(service.instances, 1), kMostInstances); ++i) {
        LookAtInstance(ForInstance(service, i));
      }
      LookAtDependencies(service);
    }
    std::ranges::stable_sort(
        found_, {}, [](const ConfigError& warning) { return std::tie(warning.file, warning.line, warning.column); });
    return std::move(found_);
  }

 private:
  void Add(const Keys& keys, const std::string& problem) {
    ConfigError warning = places_.At(service_, keys, "warning: " + problem);
    if (told_.insert(warning.path + "\n" + warning.message).second) {  // each of the instances may say the same
      found_.push_back(std::move(warning));
    }
  }

  void LookAtInstance(const ServiceConfig& service) {
    SpawnRequest request;
    request.environment = InheritedEnvironment();
    LookAtEnvironmentFile(service, request.environment);
    for (const auto& [name, value] : service.environment) {
      SetVariable(request.environment, name, value);
    }
    const std::string path = SearchPathOf(request);
    for (const auto& [keys, run] : std::initializer_list<std::pair<Keys, const CommandConfig&>>{
             {{"command"}, service.run},
             {{"health_check", "command"}, service.health_check.run},
             {{"graceful_shutdown", "command"}, service.graceful_shutdown.run},
             {{"hooks", "pre_start", "command"}, service.hooks.pre_start.run},
             {{"hooks", "post_start", "command"}, service.hooks.post_start.run},
             {{"hooks", "pre_stop", "command"}, service.hooks.pre_stop.run},
             {{"hooks", "post_stop", "command"}, service.hooks.post_stop.run}}) {
      if (const std::optional<std::string> problem = CommandProblem(run.command, path)) {
        Add(keys, *problem);
      }
    }
    LookAtDirectory(service);
    LookAtIdentity(service);
    if (const std::string& file = service.health_check.ca_file; !file.empty()) {
      if (const Look look = LookAt(file); look.is_missing()) {
        Add({"health_check", "ca_file"}, Missing(file, look.error));
      }
    }
    const int files = service.resource_limits.max_open_files;
    if (const auto problem = OpenFilesProblem(static_cast<rlim_t>(files)); files > 0 && problem) {
      Add({"resource_limits", "max_open_files"}, fmt::format("{} is too much: {}", files, *problem));
    }
  }

  void LookAtEnvironmentFile(const ServiceConfig& service, Environment& environment) {
    if (service.environment_file.empty()) {
      return;
    }
    const absl::StatusOr<Environment> variables = ReadEnvironmentFileOf(service);
    if (variables.ok()) {
      for (const auto& [name, value] : *variables) {
        SetVariable(environment, name, value);
      }
    } else if (!absl::IsPermissionDenied(variables.status())) {
      const std::string message(variables.status().message());
      constexpr std::string_view kKey = "environment_file ";  // which the warning's path says already
      Add({"environment_file"}, message.starts_with(kKey) ? message.substr(kKey.size()) : message);
    }
  }

  void LookAtDirectory(const ServiceConfig& service) {
    const std::string& directory = service.working_directory;
    const Look look = LookAt(directory);
    if (look.is_missing()) {
      Add({"working_directory"}, Missing(directory, look.error));
    } else if (look.error == 0 && !S_ISDIR(look.info.st_mode)) {
      Add({"working_directory"}, fmt::format("{} is no directory", directory));
    }
  }

  void LookAtIdentity(const ServiceConfig& service) {
    for (const auto& [key, user, group] : std::initializer_list<std::tuple<const char*, std::string, std::string>>{
             {"user", service.user, ""}, {"group", "", service.group}}) {
      if (user.empty() && group.empty()) {
        continue;
      }
      if (const auto found = LookUpCredentials(user, group); !found.ok()) {
        Add({key}, std::string(found.status().message()));
      }
    }
  }

  void LookAtDependencies(const ServiceConfig& service) {
    for (const std::string& id : service.depends_on_completed) {
      const auto other = config_.services.find(id);
      if (other != config_.services.end() && other->second.restart_policy.mode == RestartMode::kAlways) {
        Add({"depends_on"}, fmt::format("{} never completes: its restart_policy.mode is always (expected on-failure or "
                                        "never)",
                                        id));
      }
    }
  }

  const Config& config_;
  const KeyPlaces places_;
  std::string service_;
  std::set<std::string> told_;
  std::vector<ConfigError> found_;
};

}  // namespace

std::vector<ConfigError> FindWarnings(const LoadedConfig& loaded) { return WarningFinder(loaded).Find(); }

}  // namespace supervisor
