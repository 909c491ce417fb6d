#include "daemon/startup/notifications.h"

#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <map>
#include <string>
#include <utility>

#include "common/errno_status.h"
#include "common/unique_fd.h"
#include "daemon/loop/helper_calls.h"
#include "daemon/process/program_trust.h"
#include "daemon/service/environment.h"
#include "daemon/service/helper_command.h"

namespace supervisor {
namespace {

std::string HostName() {
  std::array<char, 256> name{};
  return gethostname(name.data(), name.size() - 1) == 0 ? std::string(name.data()) : "localhost";
}

// A file in memory, to be read from its beginning.
absl::StatusOr<UniqueFd> InputOf(const std::string& text) {
  UniqueFd fd(memfd_create("notification", MFD_CLOEXEC));
  if (!fd) {
    return ErrnoToStatus(errno, "memfd_create");
  }
  for (size_t at = 0; at < text.size();) {
    const ssize_t written = write(fd.get(), text.data() + at, text.size() - at);
    if (written <= 0) {
      return ErrnoToStatus(errno, "the input of the command");
    }
    at += static_cast<size_t>(written);
  }
  if (lseek(fd.get(), 0, SEEK_SET) != 0) {
    return ErrnoToStatus(errno, "the input of the command");
  }
  return fd;
}

// Loop thread. Goes with the last work that refers to it, at the latest with the loop.
class CommandRunner : public std::enable_shared_from_this<CommandRunner> {
 public:
  CommandRunner(Loop& loop, std::string directory) : loop_(loop), directory_(std::move(directory)) {}

  // Who else could exchange the program is asked on a helper thread: its file system may hang.
  void Run(const CommandConfig& run, std::string input, absl::Duration limit,
           const std::function<void(absl::Status)>& done) {
    lookups_.Ask<bool>(
        weak_from_this(),
        [request = RequestFor(run)]() -> absl::StatusOr<bool> {
          const absl::Status status = CheckProgramTrust(request);
          return status.ok() ? absl::StatusOr<bool>(true) : status;
        },
        [this, run, input = std::move(input), limit, done](const absl::StatusOr<bool>& trusted) {
          if (trusted.ok()) {
            Start(run, input, limit, done);
          } else {
            done(trusted.status());
          }
        });
  }

 private:
  static constexpr size_t kMostLookups = 2;

  SpawnRequest RequestFor(const CommandConfig& run) const {
    SpawnRequest request;
    request.command = run.command;
    request.args = run.args;
    request.environment = InheritedEnvironment();
    request.working_directory = directory_;
    return request;
  }

  void Start(const CommandConfig& run, const std::string& input, absl::Duration limit,
             const std::function<void(absl::Status)>& done) {
    const absl::StatusOr<UniqueFd> stdin_fd = InputOf(input);
    if (!stdin_fd.ok()) {
      done(stdin_fd.status());
      return;
    }
    SpawnRequest request = RequestFor(run);
    request.stdin_fd = stdin_fd->get();
    const uint64_t number = ++last_;
    running_[number] = std::make_unique<HelperCommand>(
        loop_, std::move(request), nullptr, RunMark::Random(), limit,
        [this, number, done](const HelperCommand::Result& result) {
          auto node = running_.extract(number);
          loop_.DestroyLater(std::move(node.mapped()));
          done(result.success ? absl::OkStatus() : absl::UnavailableError(result.message));
        });
  }

  Loop& loop_;
  std::string directory_;
  HelperCalls lookups_{loop_, kMostLookups};
  uint64_t last_ = 0;
  std::map<uint64_t, std::unique_ptr<HelperCommand>> running_;
};

}  // namespace

std::unique_ptr<Notifier> MakeNotifier(Loop& loop, const Config& config,
                                       const std::unique_ptr<Supervisor>& supervisor) {
  auto runner = std::make_shared<CommandRunner>(loop, config.file.substr(0, config.file.rfind('/')));
  Notifier::Options options;
  options.host = HostName();
  options.run_command = [&loop, runner](const CommandConfig& run, std::string input, absl::Duration limit,
                                        std::function<void(absl::Status)> done) {
    loop.Post([runner, run, input = std::move(input), limit, done = std::move(done)] {
      runner->Run(run, input, limit, done);
    });
  };
  options.on_told = [&loop, &supervisor](const std::string& label, const std::vector<Alert>& alerts) {
    loop.Post([&supervisor, label, alerts] {
      if (supervisor != nullptr) {
        supervisor->alerts().OnTold(label, alerts);
      }
    });
  };
  options.on_dropped = [&loop, &supervisor](const std::string& label, const std::vector<Alert>& alerts,
                                            const std::string& why) {
    loop.Post([&supervisor, label, alerts, why] {
      if (supervisor != nullptr) {
        supervisor->alerts().OnDropped(label, alerts, why);
      }
    });
  };
  options.on_channel = [&loop, &supervisor](const std::string& label, const std::string& trouble) {
    loop.Post([&supervisor, label, trouble] {
      if (supervisor != nullptr) {
        supervisor->alerts().OnChannel(label, trouble);
      }
    });
  };
  return std::make_unique<Notifier>(std::move(options), config.notifications);
}

}  // namespace supervisor
