#include "daemon/startup/running_supervisors.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/atomic_file.h"
#include "daemon/process/proc_fs.h"

namespace supervisor {
namespace {

constexpr size_t kLongestCommandLine = size_t{64} << 10;

// The next argument, taken from the front.
std::string_view TakeArgument(std::string_view& rest) {
  const size_t end = rest.find('\0');
  const std::string_view argument = rest.substr(0, end);
  rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
  return argument;
}

}  // namespace

std::optional<RunningSupervisor> ParseSupervisor(pid_t pid, std::string_view command_line) {
  constexpr std::string_view kSocket = "--internal-socket=";
  RunningSupervisor found{.pid = pid, .config_file = {}, .socket = {}};
  const std::string_view program = TakeArgument(command_line);
  const std::string_view role = TakeArgument(command_line);
  if (program != "supervisord" || (role != "--internal-guardian" && role != "--internal-daemon")) {
    return std::nullopt;
  }
  while (!command_line.empty()) {
    const std::string_view argument = TakeArgument(command_line);
    if (argument == "--config") {
      found.config_file = TakeArgument(command_line);
    } else if (argument.starts_with(kSocket)) {
      found.socket = argument.substr(kSocket.size());
    }
  }
  return found.socket.empty() ? std::nullopt : std::optional(std::move(found));
}

std::vector<RunningSupervisor> ListSupervisors() {
  std::vector<RunningSupervisor> found;
  for (const ProcStat& stat : ReadAllProcesses()) {
    const absl::StatusOr<std::string> line =
        ReadWholeFile(fmt::format("/proc/{}/cmdline", stat.pid), kLongestCommandLine);
    if (std::optional<RunningSupervisor> one = line.ok() ? ParseSupervisor(stat.pid, *line) : std::nullopt) {
      found.push_back(*std::move(one));
    }
  }
  return found;
}

bool IsSameFile(const std::string& one, const std::string& other) {
  struct stat a {};
  struct stat b {};
  return one == other ||
         (stat(one.c_str(), &a) == 0 && stat(other.c_str(), &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino);
}

}  // namespace supervisor
