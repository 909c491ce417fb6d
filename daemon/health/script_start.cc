#include "daemon/health/script_start.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <spawn.h>
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
#include "daemon/process/proc_fs.h"

namespace supervisor {
namespace {

// posix_spawn's two parameter objects, which want to be destroyed.
class SpawnSettings {
 public:
  SpawnSettings() {
    posix_spawn_file_actions_init(&actions_);
    posix_spawnattr_init(&attributes_);
  }
  SpawnSettings(const SpawnSettings&) = delete;
  SpawnSettings& operator=(const SpawnSettings&) = delete;
  ~SpawnSettings() {
    posix_spawn_file_actions_destroy(&actions_);
    posix_spawnattr_destroy(&attributes_);
  }

  // The first errno of all of them, 0 when all is well.
  int Fill(int output_fd, const std::string& directory) {
    sigset_t none;
    sigset_t all;
    sigemptyset(&none);
    std::memset(&all, 0xff, sizeof all);  // sigfillset leaves out glibc's own two, which the child would then ignore
    constexpr int kStdinFd = 0;
    constexpr int kStdoutFd = 1;
    constexpr int kStderrFd = 2;
    const int errors[] = {
        posix_spawnattr_setflags(&attributes_, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF),
        posix_spawnattr_setsigmask(&attributes_, &none),
        posix_spawnattr_setsigdefault(&attributes_, &all),
        posix_spawn_file_actions_addopen(&actions_, kStdinFd, "/dev/null", O_RDONLY, 0),
        posix_spawn_file_actions_adddup2(&actions_, output_fd, kStdoutFd),
        posix_spawn_file_actions_adddup2(&actions_, output_fd, kStderrFd),
        posix_spawn_file_actions_addclosefrom_np(&actions_, kStderrFd + 1),
        posix_spawn_file_actions_addchdir_np(&actions_, directory.empty() ? "/" : directory.c_str()),
    };
    for (const int error : errors) {
      if (error != 0) {
        return error;
      }
    }
    return 0;
  }

  const posix_spawn_file_actions_t* actions() const { return &actions_; }
  const posix_spawnattr_t* attributes() const { return &attributes_; }

 private:
  posix_spawn_file_actions_t actions_{};
  posix_spawnattr_t attributes_{};
};

std::vector<char*> Pointers(std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  pointers.reserve(strings.size() + 1);
  for (std::string& text : strings) {
    pointers.push_back(text.data());
  }
  pointers.push_back(nullptr);
  return pointers;
}

// execvp(3)'s search, but in the script's own PATH. The errno of the last candidate that exists, else ENOENT.
std::string FindCommand(const std::string& command, std::string_view path) {
  if (command.find('/') != std::string::npos) {
    return command;
  }
  std::string denied;
  while (!path.empty()) {
    const std::string_view directory = path.substr(0, path.find(':'));
    path.remove_prefix(std::min(path.size(), directory.size() + 1));
    std::string candidate = fmt::format("{}/{}", directory.empty() ? "." : directory, command);
    struct stat status {};
    if (stat(candidate.c_str(), &status) != 0 || !S_ISREG(status.st_mode)) {
      continue;
    }
    if (access(candidate.c_str(), X_OK) == 0) {
      return candidate;
    }
    denied = candidate;
  }
  return denied.empty() ? command : denied;
}

// posix_spawn tells an errno but not of which step.
absl::Status SpawnError(int error, const std::string& command, const std::string& directory) {
  struct stat status {};
  if (!directory.empty() && (stat(directory.c_str(), &status) != 0 || access(directory.c_str(), X_OK) != 0)) {
    return ErrnoToStatus(errno, fmt::format("cannot run {}: working_directory {}", command, directory));
  }
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

std::string NewMarker() {
  uint64_t words[2] = {};
  if (getrandom(words, sizeof words, 0) != static_cast<ssize_t>(sizeof words)) {
    words[0] = static_cast<uint64_t>(absl::ToInt64Nanoseconds(MonotonicNow()));
  }
  return fmt::format("{:016x}{:016x}", words[0], words[1]);
}

// The thread waits in posix_spawn for its newest child's exec. What still is this very program has not come so far: it
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

void ScriptStarter::Start(uint64_t visit, HelperPool& pool, const CommandConfig& run, const CheckTarget& target,
                          const std::weak_ptr<const void>& wanted, const Done& done) {
  const auto job = [self = shared_from_this(), visit, run, target, wanted, done] {
    State& state = *self->state_;
    std::unique_lock lock(state.mutex);
    if (state.closed) {
      return;
    }
    const auto under_way = state.starts.emplace(target.id, State::UnderWay{.wanted = wanted, .thread = gettid()});
    lock.unlock();
    self->Hand(visit, self->StartNow(run, target), wanted, done);
    lock.lock();
    state.starts.erase(under_way);
    state.changed.notify_all();
  };
  if (!pool.Run(wanted, job)) {
    Hand(visit, absl::ResourceExhaustedError(fmt::format("cannot run {}: no thread to start it from", run.command)),
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

absl::StatusOr<StartedScript> ScriptStarter::StartNow(const CommandConfig& run, const CheckTarget& target) {
  int ends[2] = {-1, -1};
  if (pipe2(ends, O_CLOEXEC) != 0) {
    return ErrnoToStatus(errno, fmt::format("cannot run {}: pipe", run.command));
  }
  StartedScript started;
  started.output.Reset(ends[0]);
  const UniqueFd writer(ends[1]);
  fcntl(started.output.get(), F_SETFL, O_NONBLOCK);

  started.tree.marker = NewMarker();
  std::vector<std::string> environment = {fmt::format("PATH={}", path_), fmt::format("SERVICE_ID={}", target.id),
                                          fmt::format("SERVICE_PID={}", target.pid),
                                          fmt::format("{}={}", kScriptMarker, started.tree.marker)};
  std::vector<std::string> arguments = run.args;
  arguments.insert(arguments.begin(), run.command);

  SpawnSettings settings;
  int error = settings.Fill(writer.get(), target.working_directory);
  const std::string command = FindCommand(run.command, path_);
  if (error == 0) {
    // style-ok(fork): on a helper thread, where exec may hang; ChildProcess belongs to the loop
    error = posix_spawn(&started.tree.pid, command.c_str(), settings.actions(), settings.attributes(),
                        Pointers(arguments).data(), Pointers(environment).data());
  }
  if (error != 0) {
    return SpawnError(error, command, target.working_directory);
  }
  started.tree.claim = std::make_unique<OwnChild>(started.tree.pid);
  // Not reaped yet, so the pid is still this child's.
  started.tree.pidfd = OpenPidfd(started.tree.pid);
  const int pidfd_error = errno;
  const std::optional<ProcStat> stat = ReadProcStat(started.tree.pid);
  started.tree.start_ticks = stat.has_value() ? stat->start_ticks : 0;
  if (!started.tree.pidfd) {
    kill(-started.tree.pid, SIGKILL);  // style-ok(signal-by-pid): not reaped yet, and there is no pidfd
    siginfo_t info{};
    waitid(P_PID, static_cast<id_t>(started.tree.pid), &info, WEXITED);
    return ErrnoToStatus(pidfd_error, fmt::format("cannot watch {}: pidfd_open", run.command));
  }
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
