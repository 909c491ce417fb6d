#include "daemon/startup/internal_arguments.h"

#include <fcntl.h>
#include <fmt/format.h>

namespace supervisor {

void KeepOverExec(int fd) {
  if (fd >= 0) {
    fcntl(fd, F_SETFD, 0);
  }
}

std::vector<char*> AsArgv(std::vector<std::string>& arguments) {
  std::vector<char*> argv;
  argv.reserve(arguments.size() + 1);
  for (std::string& argument : arguments) {
    argv.push_back(argument.data());
  }
  argv.push_back(nullptr);
  return argv;
}

std::vector<std::string> InternalArguments(const char* role, const DaemonOptions& options) {
  std::vector<std::string> arguments = {
      "supervisord",
      role,
      "--config",
      options.config_file,
      fmt::format("--internal-protocol={}", kInternalProtocol),
      fmt::format("--internal-socket={}", options.socket),
      fmt::format("--internal-lock-fd={}", options.lock_fd),
      fmt::format("--internal-started-fd={}", options.started_fd),
      fmt::format("--internal-supervisor-started={}", options.supervisor_started_unix_ms),
      fmt::format("--internal-reaped-read-fd={}", options.reaped_read_fd),
      fmt::format("--internal-reaped-write-fd={}", options.reaped_write_fd),
      fmt::format("--internal-ready-fd={}", options.ready_fd),
      fmt::format("--internal-held-send-fd={}", options.held_send_fd),
      fmt::format("--internal-held-receive-fd={}", options.held_receive_fd),
      fmt::format("--internal-keeper-fd={}", options.keeper_fd),
      fmt::format("--internal-keeper-pid={}", options.keeper_pid)};
  // Only where they say something: an older program, to which an upgrade may go back, does not know them.
  if (options.trust_files == FileTrust::kAny) {
    arguments.emplace_back("--trust-files=any");
  }
  if (!options.config_directory.empty()) {
    arguments.push_back(fmt::format("--internal-config-directory={}", options.config_directory));
  }
  return arguments;
}

}  // namespace supervisor
