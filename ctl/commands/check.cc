#include <fmt/format.h>
#include <unistd.h>

#include <climits>
#include <vector>

#include "common/errno_status.h"
#include "ctl/commands/commands.h"

namespace supervisor {
namespace {

constexpr const char* kProgram = "supervisord";

// The supervisord that was installed with this program; empty where that cannot be told.
std::string BesideThis() {
  char path[PATH_MAX];
  const ssize_t size = readlink("/proc/self/exe", path, sizeof(path));
  const std::string self = size > 0 ? std::string(path, static_cast<size_t>(size)) : "";
  const size_t slash = self.rfind('/');
  return slash == std::string::npos ? "" : self.substr(0, slash + 1) + kProgram;
}

}  // namespace

// supervisord has the checks, and the reader of the options, which are its configuration's: this process becomes one.
// So `check` does what the daemon does, and this program carries nothing of it.
ExitCode RunCheck(const Invocation& invocation, Output& output) {
  std::vector<std::string> arguments = {kProgram, "--internal-check"};
  if (invocation.json) {
    arguments.emplace_back("--json");
  }
  if (invocation.no_color) {
    arguments.emplace_back("--no-color");
  }
  arguments.insert(arguments.end(), invocation.arguments.begin(), invocation.arguments.end());
  std::vector<char*> pointers;
  pointers.reserve(arguments.size() + 1);
  for (std::string& argument : arguments) {
    pointers.push_back(argument.data());
  }
  pointers.push_back(nullptr);
  const std::string beside = BesideThis();
  if (!beside.empty()) {
    execv(beside.c_str(), pointers.data());
  }
  const int error = errno;
  execvp(kProgram, pointers.data());
  return output.Fail({.exit_code = ExitCode::kFailed,
                      .code = "failed",
                      .message = fmt::format("check: cannot run supervisord, which makes the check: {}: {}", beside,
                                             ErrnoText(error))});
}

}  // namespace supervisor
