#include "daemon/health/script_start.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <map>
#include <mutex>
#include <optional>
#include <system_error>
#include <utility>
#include <vector>

#include "common/errno_status.h"
#include "daemon/health/pidfd.h"
#include "daemon/process/launch.h"
#include "daemon/process/proc_fs.h"
#include "daemon/process/program_trust.h"

namespace supervisor {
namespace {

absl::Status StartError(const SpawnFailure& failure, const std::string& command) {
  if (failure.step != SpawnFailure::Step::kExec) {
    return ErrnoToStatus(failure.error, fmt::format("cannot run {}: {}", command, failure.what));
  }
  struct stat status {};
  const int error = failure.error;
  absl::Status plain = ErrnoToStatus(error, fmt::format("cannot run {}", command));
  const char* advice = error == ENOEXEC                                         ? "does it begin with #!?"
                       : error == EACCES                                        ? "is it executable?"
                       : error == ENOENT && stat(command.c_str(), &status) == 0 ? "does its #! interpreter exist?"
                                                                                : nullptr;
  if (advice == nullptr) {
    return plain;
  }
  return {plain.code(), fmt::format("{} ({})", std::string(plain.message()), advice)};
}

void AddOwnEnvironment(std::map<std::string, std::string>& variables) {
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    const std::string_view text = *entry;
    if (const size_t equals = text.find('='); equals != std::string_view::npos) {
      variables.insert_or_assign(std::string(text.substr(0, equals)), std::string(text.substr(equals + 1)));
    }
  }
}

std::string NewMarker() {
  uint64_t words[2] = {};
  if (getrandom(words, sizeof words, 0) != static_cast<ssize_t>(sizeof words)) {
    words[0] = static_cast<uint64_t>(absl::ToInt64Nanoseconds(MonotonicNow()));
  }
  return fmt::format("{:016x}{:016x}", words[0], words[1]);
}

// The thread waits for its newest child's exec. What still is this very program has not come so far: it
// hangs, as a rule where SIGKILL reaches it.
void KillUnborn(pid_t thread) {
  std::error_code error;
  const std::filesystem::path own = std::filesystem::read_symlink("/proc/self/exe", error);
  const std::vector<pid_t> children = ChildrenOfThread(thread);
  for (auto child = children.rbegin(); child != children.rend(); ++child) {
    const UniqueFd pidfd = OpenPidfd(*child);
    if (pidfd && std::filesystem::read_symlink(fmt::format("/proc/{}/exe", *child), error) == own && !error) {
      SignalPidfd(pidfd.get(), SIGKILL);
      return;
    }
  }
}

// Carries a started script to the loop thread. Where nobody unpacks it, since the checker has ended meanwhile, the
// script is killed: what it may have started already, as far as it stayed in its group, with it.
struct Parcel {
  explicit Parcel(absl::StatusOr<StartedScript> what) : started(std::move(what)) {}
  Parcel(const Parcel&) = delete;
  Parcel& operator=(const Parcel&) = delete;
  ~Parcel() {
    if (!started.ok() || !started->tree.pidfd) {
      return;
    }
    constexpr int kLongestMs = 200;
    kill(-started->tree.pid, SIGKILL);  // style-ok(signal-by-pid): not reaped yet, so still this group
    pollfd ended{.fd = started->tree.pidfd.get(), .events = POLLIN, .revents = 0};
    poll(&ended, 1, kLongestMs);
    ReapIfOurs(started->tree.pidfd.get());
  }

  absl::StatusOr<StartedScript> started;
};

}  // namespace

struct ScriptStarter::State {
  struct UnderWay {
    std::weak_ptr<const void> wanted;
    pid_t thread;
  };

  std::mutex mutex;
  std::condition_variable changed;
  bool closed = false;
  std::multimap<std::string, UnderWay> starts;  // by target
};

ScriptStarter::ScriptStarter(std::string path, std::shared_ptr<LoopMailbox> mailbox, StartGate& gate,
                             KillerThread& killer)
    : path_(std::move(path)), mailbox_(std::move(mailbox)), gate_(gate), killer_(killer), state_(new State) {}

ScriptStarter::~ScriptStarter() = default;

void ScriptStarter::Start(uint64_t visit, HelperPool& pool, const HealthCheckConfig& check, const CheckTarget& target,
                          const std::weak_ptr<const void>& wanted, const Done& done) {
  const auto job = [self = shared_from_this(), visit, check, target, wanted, done] {
    State& state = *self->state_;
    std::unique_lock lock(state.mutex);
    if (state.closed) {
      return;
    }
    const auto under_way = state.starts.emplace(target.id, State::UnderWay{.wanted = wanted, .thread = gettid()});
    lock.unlock();
    self->Hand(visit, self->StartNow(check, target), wanted, done);
    lock.lock();
    state.starts.erase(under_way);
    state.changed.notify_all();
  };
  if (!pool.Run(wanted, job)) {
    Hand(visit,
         absl::ResourceExhaustedError(fmt::format("cannot run {}: no thread to start it from", check.run.command)),
         wanted, done);
  }
}

void ScriptStarter::GiveUp(const std::weak_ptr<const void>& wanted) {
  const std::lock_guard lock(state_->mutex);
  for (const auto& [target, start] : state_->starts) {
    if (!start.wanted.owner_before(wanted) && !wanted.owner_before(start.wanted)) {
      KillUnborn(start.thread);
    }
  }
}

bool ScriptStarter::StillHangs(const std::string& target) const {
  const std::lock_guard lock(state_->mutex);
  const auto [first, last] = state_->starts.equal_range(target);
  return std::any_of(first, last, [](const auto& start) { return start.second.wanted.expired(); });
}

void ScriptStarter::Close(std::chrono::milliseconds longest) {
  std::unique_lock lock(state_->mutex);
  state_->closed = true;
  const auto none = [this] { return state_->starts.empty(); };
  if (state_->changed.wait_for(lock, longest, none)) {
    return;
  }
  for (const auto& [target, start] : state_->starts) {
    KillUnborn(start.thread);
  }
  state_->changed.wait_for(lock, longest, none);
}

std::vector<std::pair<std::string, std::string>> ScriptStarter::EnvironmentOf(const HealthCheckConfig& check,
                                                                              const CheckTarget& target) const {
  std::map<std::string, std::string> variables = {{"PATH", path_}};
  switch (check.script_environment) {
    case ScriptEnvironment::kMinimal:
      break;
    case ScriptEnvironment::kService:
      if (target.run_as == nullptr) {
        AddOwnEnvironment(variables);
      } else if (target.run_as->environment) {
        for (const auto& [name, value] : *target.run_as->environment) {
          variables.insert_or_assign(name, value);
        }
      }
      break;
  }
  variables.insert_or_assign("SERVICE_ID", target.id);
  variables.insert_or_assign("SERVICE_PID", fmt::format("{}", target.pid));
  return {variables.begin(), variables.end()};
}

absl::StatusOr<StartedScript> ScriptStarter::StartNow(const HealthCheckConfig& check, const CheckTarget& target) {
  const CommandConfig& run = check.run;
  int ends[2] = {-1, -1};
  if (pipe2(ends, O_CLOEXEC) != 0) {
    return ErrnoToStatus(errno, fmt::format("cannot run {}: pipe", run.command));
  }
  StartedScript started;
  started.output.Reset(ends[0]);
  const UniqueFd writer(ends[1]);
  fcntl(started.output.get(), F_SETFL, O_NONBLOCK);

  started.tree.marker = NewMarker();
  const UniqueFd null(open("/dev/null", O_RDONLY | O_CLOEXEC));
  if (!null) {
    return ErrnoToStatus(errno, fmt::format("cannot run {}: /dev/null", run.command));
  }
  SpawnRequest request;
  request.command = run.command;
  request.args = run.args;
  request.environment = EnvironmentOf(check, target);
  request.environment.emplace_back(kScriptMarker, started.tree.marker);
  request.working_directory = target.working_directory;
  if (target.run_as != nullptr) {
    request.credentials = target.run_as->credentials;
    request.umask = target.run_as->umask;
    request.no_new_privileges = target.run_as->no_new_privileges;
  } else {
    request.umask = std::nullopt;
  }
  request.stdin_fd = null.get();
  request.stdout_fd = writer.get();
  request.stderr_fd = writer.get();
  if (absl::Status status = CheckProgramTrust(request); !status.ok()) {
    return status;
  }
  SpawnedChild child = Launch::Run(std::move(request));
  if (child.failure) {
    return StartError(*child.failure, FindProgram(run.command, path_));
  }
  started.tree.pid = child.pid;
  started.tree.claim = std::make_unique<OwnChild>(started.tree.pid);
  started.tree.pidfd = std::move(child.pid_fd);
  const std::optional<ProcStat> stat = ReadProcStat(started.tree.pid);
  started.tree.start_ticks = stat.has_value() ? stat->start_ticks : 0;
  return started;
}

void ScriptStarter::Hand(uint64_t visit, absl::StatusOr<StartedScript> started, const std::weak_ptr<const void>& wanted,
                         const Done& done) {
  const auto parcel = std::make_shared<Parcel>(std::move(started));
  mailbox_->Post([self = shared_from_this(), visit, parcel, wanted, done] {
    self->gate_.Leave(visit);
    if (!wanted.expired()) {
      done(std::move(parcel->started));
    } else if (parcel->started.ok()) {
      self->killer_.Kill(std::move(parcel->started->tree), nullptr);
    }
  });
}

}  // namespace supervisor
