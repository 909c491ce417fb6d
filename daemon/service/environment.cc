#include "daemon/service/environment.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <string_view>

#include "common/atomic_file.h"
#include "daemon/process/process_tree.h"

namespace supervisor {
namespace {

constexpr size_t kMostEnvironmentFile = 1u << 20;

// What tells this process about its own service manager is not the services' business.
constexpr std::array<std::string_view, 8> kOwnVariables = {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID",
                                                           "LISTEN_FDS",    "LISTEN_PID",    "LISTEN_FDNAMES",
                                                           "INVOCATION_ID", "JOURNAL_STREAM"};

std::string_view Trim(std::string_view text) {
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.front())) != 0) {
    text.remove_prefix(1);
  }
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.back())) != 0) {
    text.remove_suffix(1);
  }
  return text;
}

absl::StatusOr<std::string> Unquote(std::string_view value, int line) {
  if (value.empty() || (value.front() != '"' && value.front() != '\'')) {
    return std::string(value);
  }
  const char quote = value.front();
  std::string out;
  for (size_t i = 1; i < value.size(); ++i) {
    if (value[i] == quote) {
      return i + 1 == value.size()
                 ? absl::StatusOr<std::string>(std::move(out))
                 : absl::InvalidArgumentError(fmt::format("line {}: text after the closing quote", line));
    }
    if (quote == '"' && value[i] == '\\' && i + 1 < value.size()) {
      ++i;
    }
    out += value[i];
  }
  return absl::InvalidArgumentError(fmt::format("line {}: the closing quote is missing", line));
}

bool IsVariableName(std::string_view name) {
  return !name.empty() && std::isdigit(static_cast<unsigned char>(name.front())) == 0 &&
         std::ranges::all_of(name, [](unsigned char c) { return std::isalnum(c) != 0 || c == '_'; });
}

}  // namespace

void SetVariable(Environment& environment, const std::string& name, const std::string& value) {
  for (auto& [known, old] : environment) {
    if (known == name) {
      old = value;
      return;
    }
  }
  environment.emplace_back(name, value);
}

Environment InheritedEnvironment() {
  Environment inherited;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    const std::string_view text = *entry;
    const size_t equals = text.find('=');
    if (equals == std::string_view::npos || equals == 0) {
      continue;
    }
    const std::string_view name = text.substr(0, equals);
    if (std::ranges::find(kOwnVariables, name) == kOwnVariables.end() && name != ProcessTree::kMarkVariable) {
      inherited.emplace_back(name, text.substr(equals + 1));
    }
  }
  return inherited;
}

absl::StatusOr<Environment> ParseEnvironmentFile(const std::string& text) {
  Environment environment;
  int number = 0;
  for (size_t begin = 0; begin < text.size();) {
    ++number;
    const size_t end = std::min(text.find('\n', begin), text.size());
    std::string_view line = Trim(std::string_view(text).substr(begin, end - begin));
    begin = end + 1;
    if (line.empty() || line.front() == '#' || line.front() == ';') {
      continue;
    }
    if (line.starts_with("export ")) {
      line = Trim(line.substr(7));
    }
    const size_t equals = line.find('=');
    const std::string_view name = Trim(line.substr(0, equals));
    if (equals == std::string_view::npos || !IsVariableName(name)) {
      return absl::InvalidArgumentError(fmt::format("line {}: not of the form NAME=value", number));
    }
    const absl::StatusOr<std::string> value = Unquote(Trim(line.substr(equals + 1)), number);
    if (!value.ok()) {
      return value.status();
    }
    SetVariable(environment, std::string(name), *value);
  }
  return environment;
}

absl::StatusOr<Environment> ReadEnvironmentFile(const std::string& path) {
  const absl::StatusOr<std::string> text = ReadWholeFile(path, kMostEnvironmentFile);
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

absl::StatusOr<ServiceIdentity> ResolveIdentity(const ServiceConfig& config) {
  ServiceIdentity identity{.credentials = {}, .variables = {}};
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
    const absl::StatusOr<Environment> variables = ReadEnvironmentFile(config.environment_file);
    if (!variables.ok()) {
      return variables.status();
    }
    for (const auto& [name, value] : *variables) {
      SetVariable(identity.variables, name, value);
    }
  }
  for (const auto& [name, value] : config.environment) {
    SetVariable(identity.variables, name, value);
  }
  return identity;
}

}  // namespace supervisor
