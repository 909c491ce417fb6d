#include "daemon/process/spawn_failure.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "common/errno_status.h"
#include "daemon/process/command_hint.h"

namespace supervisor {
namespace {

using Step = SpawnFailure::Step;

constexpr const char* kDefaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

std::string CommandText(int error, const SpawnRequest& request) {
  std::string what = fmt::format("command {}", request.command);
  if (const std::string hint = error == ENOENT ? ArgumentsHint(request.command) : ""; !hint.empty()) {
    return fmt::format("{} ({})", what, hint);
  }
  if (error == ENOENT && request.command.find('/') == std::string::npos) {
    return fmt::format("{} (looked for in {})", what, SearchPathOf(request));
  }
  if (error == ENOENT && access(request.command.c_str(), F_OK) == 0) {
    return what + " (the file exists: its interpreter, named in its first line, does not)";
  }
  return what;
}

// Only the number of open files is set there.
std::string LimitsText(const SpawnRequest& request) {
  for (const SpawnRequest::Limit& limit : request.limits) {
    if (limit.resource == RLIMIT_NOFILE) {
      const std::optional<std::string> problem = OpenFilesProblem(limit.value.rlim_max);
      return fmt::format("resource_limits.max_open_files {}{}", limit.value.rlim_max,
                         problem ? fmt::format(" ({})", *problem) : "");
    }
  }
  return "resource_limits";
}

std::string StepText(Step step, int error, const SpawnRequest& request) {
  switch (step) {
    case Step::kClone:
      return "clone";
    case Step::kSession:
      return "setsid";
    case Step::kCgroup:
      return fmt::format("cgroup {}", request.cgroup);
    case Step::kOomScore:
      return fmt::format("resource_limits.oom_score_adj {}", request.oom_score_adj.value_or(0));
    case Step::kLimits:
      return LimitsText(request);
    case Step::kNice:
      return fmt::format("resource_limits.nice {}", request.nice);
    case Step::kDescriptors:
      return "stdin, stdout and stderr";
    case Step::kGroups:
      return fmt::format("supplementary groups of user {}", request.credentials->user);
    case Step::kGroup:
      return fmt::format("group {}", request.credentials->gid);
    case Step::kUser:
      return fmt::format("user {}", request.credentials->user);
    case Step::kNoNewPrivileges:
      return "no_new_privileges";
    case Step::kWorkingDirectory:
      return fmt::format("working_directory {}", request.working_directory.empty() ? "/" : request.working_directory);
    case Step::kExec:
      return CommandText(error, request);
  }
  return "";
}

}  // namespace

std::string SearchPathOf(const SpawnRequest& request) {
  for (const auto& [name, value] : request.environment) {
    if (name == "PATH" && !value.empty()) {
      return value;
    }
  }
  return kDefaultPath;
}

SpawnFailure DescribeFailure(Step step, int error, const SpawnRequest& request) {
  return {.step = step, .error = error, .what = StepText(step, error, request)};
}

std::string SpawnFailure::ToString() const { return fmt::format("{}: {}", what, ErrnoText(error)); }

}  // namespace supervisor
