#include "daemon/process/program_trust.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <variant>

#include "common/trusted_path.h"

namespace supervisor {

std::string FindProgram(const std::string& command, std::string_view path) {
  if (command.find('/') != std::string::npos) {
    return command;
  }
  while (!path.empty()) {
    const std::string_view directory = path.substr(0, path.find(':'));
    path.remove_prefix(std::min(path.size(), directory.size() + 1));
    std::string candidate = fmt::format("{}/{}", directory, command);
    struct stat status {};
    if (stat(candidate.c_str(), &status) == 0 && S_ISREG(status.st_mode)) {
      return candidate;
    }
  }
  return command;
}

absl::Status CheckProgramTrust(const SpawnRequest& request, FileTrust trust) {
  if (trust == FileTrust::kAny || (request.credentials && request.credentials->uid != geteuid())) {
    return absl::OkStatus();
  }
  const auto path =
      std::ranges::find_if(request.environment, [](const auto& variable) { return variable.first == "PATH"; });
  std::string program = FindProgram(request.command, path == request.environment.end() ? "" : path->second);
  if (program.find('/') == std::string::npos) {
    return absl::OkStatus();
  }
  if (!program.starts_with('/')) {
    program = fmt::format("{}/{}", request.working_directory, program);
  }
  const std::variant<UniqueFd, PathProblem> opened = WalkToFile(program, O_PATH, OwnTrust(trust));
  const auto* problem = std::get_if<PathProblem>(&opened);
  if (problem == nullptr || problem->kind != PathProblem::Kind::kDistrusted) {
    return absl::OkStatus();
  }
  return absl::FailedPreconditionError(fmt::format("cannot run {}: it {}", program, problem->what));
}

}  // namespace supervisor
