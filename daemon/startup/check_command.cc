#include "daemon/startup/check_command.h"

#include <fmt/format.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>

#include "common/clock.h"
#include "common/console.h"
#include "common/errno_status.h"
#include "common/file_trust.h"
#include "common/time_format.h"
#include "common/unique_fd.h"
#include "daemon/rpc/grpc_health_client.h"
#include "daemon/startup/check_options.h"

namespace supervisor {
namespace {

constexpr int kHealthy = 0;
constexpr int kFailed = 1;
constexpr int kUsage = 2;
constexpr int kUnhealthy = 3;
constexpr int kTimedOut = 7;
constexpr absl::Duration kLastCloses = absl::Milliseconds(500);  // a server that speaks first has said it by then

// The result, on its way from the checker's thread.
struct Outcome {
  std::mutex mutex;
  std::optional<CheckResult> result;
  UniqueFd told{eventfd(0, EFD_CLOEXEC)};
};

sigset_t EndingSignals() {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGQUIT}) {
    sigaddset(&set, signal);
  }
  return set;
}

// Waits for the result or for a signal that is to end us, whose number is returned; 0: the result is there.
int Await(const Outcome& outcome, int signal_fd) {
  pollfd fds[] = {{.fd = outcome.told.get(), .events = POLLIN, .revents = 0},
                  {.fd = signal_fd, .events = POLLIN, .revents = 0}};
  while (poll(fds, 2, -1) < 0 && errno == EINTR) {
  }
  signalfd_siginfo info{};
  const bool signalled = fds[0].revents == 0 && read(signal_fd, &info, sizeof(info)) == sizeof(info);
  return signalled ? static_cast<int>(info.ssi_signo) : 0;
}

bool WantsColor(const CheckOptions& options) {
  const char* no_color = std::getenv("NO_COLOR");  // NOLINT(concurrency-mt-unsafe): nothing here sets variables
  return !options.no_color && (no_color == nullptr || *no_color == '\0') && isatty(STDOUT_FILENO) != 0;
}

void Print(const CheckOptions& options, const CheckResult& result) {
  const char* health = result.success ? "healthy" : "unhealthy";
  if (options.json) {
    const nlohmann::ordered_json json = {{"health", health},
                                         {"check_type", options.type},
                                         {"target", options.target},
                                         {"timestamp", FormatTimestamp(result.finished)},
                                         {"response_time_ms", result.response_time_ms},
                                         {"timed_out", result.timed_out},
                                         {"message", result.message}};
    PrintOut(json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n");
  } else {
    const bool color = WantsColor(options);
    const char* begin = result.success ? "\x1b[32m" : "\x1b[31m";
    PrintOut(fmt::format("{}{}{}: {}\n", color ? begin : "", health, color ? "\x1b[0m" : "", result.message));
  }
}

[[noreturn]] void EndBy(int signal) {
  std::signal(signal, SIG_DFL);  // NOLINT(bugprone-unused-return-value): cannot fail for these
  sigset_t set = EndingSignals();
  pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
  std::raise(signal);
  _exit(kFailed);
}

// The check, until its result is there.
absl::StatusOr<CheckResult> Run(const CheckOptions& options) {
  const auto outcome = std::make_shared<Outcome>();
  sigset_t signals = EndingSignals();
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  const UniqueFd signal_fd(signalfd(-1, &signals, SFD_CLOEXEC));
  if (!outcome->told || !signal_fd) {
    return ErrnoToStatus(errno, "cannot make a descriptor");
  }
  prctl(PR_SET_CHILD_SUBREAPER, 1);  // what a script leaves behind comes to us, and is reaped
  std::unique_ptr<Checker> checker = MakeChecker({.lookup = nullptr, .last_closes = kLastCloses});
  checker->Start(options.check,
                 {.id = "check", .pid = options.pid, .working_directory = options.working_directory, .run_as = nullptr},
                 [outcome](CheckResult result) {
                   {
                     const std::lock_guard lock(outcome->mutex);
                     outcome->result = std::move(result);
                   }
                   const uint64_t one = 1;
                   static_cast<void>(!write(outcome->told.get(), &one, sizeof(one)));
                 });
  const int signal = Await(*outcome, signal_fd.get());
  checker.reset();  // ends a script under way, and waits until it is gone
  if (signal != 0) {
    EndBy(signal);
  }
  const std::lock_guard lock(outcome->mutex);
  return *outcome->result;
}

}  // namespace

int RunCheckCommand(int argc, char** argv) {
  SetProcessFileTrust(FileTrust::kAny);  // the caller named the script, and runs it himself
  const absl::StatusOr<CheckOptions> options = ParseCheckOptions(argc, argv);
  if (!options.ok()) {
    PrintError(fmt::format("supervisorctl: check: {}\n", std::string(options.status().message())));
    return kUsage;
  }
  if (options->help) {
    PrintOut(kCheckHelp);
    return kHealthy;
  }
  setenv("GRPC_VERBOSITY", "NONE", 0);  // NOLINT(concurrency-mt-unsafe): before any thread
  const absl::StatusOr<CheckResult> result = Run(*options);
  int code = kFailed;
  if (result.ok()) {
    Print(*options, *result);
    code = result->success ? kHealthy : result->timed_out ? kTimedOut : kUnhealthy;
  } else {
    PrintError(fmt::format("supervisorctl: check: {}\n", std::string(result.status().message())));
  }
  // A look-up that hangs may be left on a thread of its own: no destructor of a static must run beside it.
  _exit(ExitCodeOf(code));
}

}  // namespace supervisor
