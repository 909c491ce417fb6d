#include "daemon/startup/upgrade.h"

#include <fmt/format.h>
#include <unistd.h>

#include <climits>
#include <utility>
#include <vector>

#include "daemon/service/environment.h"
#include "daemon/startup/internal_arguments.h"

namespace supervisor {
namespace {

constexpr absl::Duration kTrialPatience = absl::Seconds(20);

}  // namespace

std::string OwnProgram() {
  constexpr std::string_view kDeleted = " (deleted)";  // proc(5): what the link says once the file was replaced
  char path[PATH_MAX];
  const ssize_t size = readlink("/proc/self/exe", path, sizeof(path));
  std::string program = size > 0 ? std::string(path, static_cast<size_t>(size)) : "/proc/self/exe";
  if (program.ends_with(kDeleted)) {
    program.resize(program.size() - kDeleted.size());
  }
  return program;
}

void UpgradeTrial::Run(std::function<void(absl::Status)> done) {
  if (trial_ != nullptr) {
    done(absl::AbortedError("another upgrade is under way"));
    return;
  }
  SpawnRequest request;
  request.command = program_;
  request.args = {"--check", "--config", options_.config_file,
                  fmt::format("--internal-applied-config={}", applied_config_),
                  fmt::format("--internal-protocol={}", kInternalProtocol)};
  if (options_.trust_files == FileTrust::kAny) {
    request.args.emplace_back("--trust-files=any");
  }
  if (!options_.config_directory.empty()) {
    request.args.push_back(fmt::format("--internal-config-directory={}", options_.config_directory));
  }
  request.environment = InheritedEnvironment();
  trial_ = std::make_unique<HelperCommand>(
      loop_, std::move(request), nullptr, RunMark::Random(), kTrialPatience,
      [this, done = std::move(done)](const HelperCommand::Result& result) {
        loop_.DestroyLater(std::move(trial_));
        done(result.success ? absl::OkStatus()
                            : absl::FailedPreconditionError(fmt::format(
                                  "{} can't take over, so nothing was changed: {}", program_, result.message)));
      });
}

void UpgradeTrial::Cancel() {
  if (trial_ != nullptr) {
    trial_->Cancel();
  }
}

void BecomeNewProgram(const DaemonOptions& options, const std::string& socket, const rlimit& limit) {
  DaemonOptions next = options;
  next.socket = socket;
  next.started_fd = -1;  // whoever waited knows
  next.reaped_read_fd = next.reaped_write_fd = next.ready_fd = -1;
  std::vector<std::string> arguments =
      InternalArguments(options.no_guardian ? "--internal-daemon" : "--internal-guardian", next);
  if (options.no_guardian) {
    arguments.emplace_back("--no-guardian");
  }
  const std::vector<char*> argv = AsArgv(arguments);
  const std::string program = OwnProgram();
  for (const int fd : {next.lock_fd, next.held_send_fd, next.held_receive_fd, next.keeper_fd}) {
    KeepOverExec(fd);
  }
  setrlimit(RLIMIT_NOFILE, &limit);
  execv(program.c_str(), argv.data());
  execv("/proc/self/exe", argv.data());  // it has gone since it was tried: rather the old one than none
}

}  // namespace supervisor
