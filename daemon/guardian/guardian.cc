#include "daemon/guardian/guardian.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <ctime>

#include "daemon/guardian/guardian_voice.h"
#include "daemon/guardian/own_children.h"

namespace supervisor {
namespace {

// A daemon that has not come to serve for so long after a stop is killed by the next request to stop.
constexpr int64_t kTimeToServeMs = 2'000;
// What the guardian itself stops gets so long to end by itself, and so long to be taken down after SIGKILL.
constexpr int64_t kGraceMs = 10'000;
constexpr int64_t kTakingDownMs = 10'000;

int64_t NowMs() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000 + now.tv_nsec / 1'000'000;
}

// All but those that a fault of our own raises: what is not forwarded is taken and ignored.
sigset_t WatchedSignals() {
  sigset_t set;
  sigfillset(&set);
  for (const int signal : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP}) {
    sigdelset(&set, signal);
  }
  return set;
}

constexpr std::array<int, 3> kStops = {SIGTERM, SIGINT, SIGQUIT};

bool IsStop(int signal) { return std::find(kStops.begin(), kStops.end(), signal) != kStops.end(); }

bool IsForwarded(int signal) { return IsStop(signal) || signal == SIGHUP || signal == SIGUSR1 || signal == SIGUSR2; }

sigset_t StopSignals() {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : kStops) {
    sigaddset(&set, signal);
  }
  return set;
}

// As wait(2) has it.
int RawStatus(const siginfo_t& info) {
  return info.si_code == CLD_EXITED ? (info.si_status & 0xff) << 8
                                    : info.si_status | (info.si_code == CLD_DUMPED ? 0x80 : 0);
}

class Guardian {
 public:
  explicit Guardian(const GuardianOptions& options)
      : options_(options), signals_(WatchedSignals()), any_served_(options.has_served) {}

  int Run() {
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    pthread_sigmask(SIG_BLOCK, &signals_, nullptr);  // the daemon inherits the mask and reads them with signalfd(2)
    StartDaemon();
    Reap();  // a guardian whose place this one took may have left some behind
    while (!ended_) {
      const int signal = WaitForSignal();
      if (IsForwarded(signal) && !IsStop(signal)) {
        TakePendingStop();
      }
      HandleSignal(signal);
    }
    return exit_code_;
  }

 private:
  void StartDaemon() {
    started_ms_ = NowMs();
    restart_at_ms_ = 0;
    tries_to_stop_ += stop_requested_ ? 1 : 0;
    // This process is small and has one thread: a plain fork is the plainest thing that works.
    daemon_ = fork();
    if (daemon_ == 0) {
      ExecDaemon();
    }
    if (daemon_ < 0) {
      DaemonEnded(DaemonEnd::kNotForked);
    } else if (stop_requested_) {
      kill(daemon_, SIGTERM);
    }
  }

  // In the child, whose memory is its own: the note is for this daemon alone.
  [[noreturn]] void ExecDaemon() {
    Line why;
    if (StartsFromOwnProgram(unserved_) && AnotherLiesInPlace()) {
      why << options_.program << " has not come to serve";
    } else {
      execv(options_.program, options_.daemon_argv);
      why << options_.program << " cannot be started (" << strerrorname_np(errno) << ")";
    }
    if (options_.program_fd >= 0) {
      why << ": starts the program that the guardian itself runs";
      Say(why);
      AddToNote(why);
      execveat(options_.program_fd, "", options_.daemon_argv, environ, AT_EMPTY_PATH);
    }
    Say(Line() << "no program can be started: " << strerrorname_np(errno));
    _exit(127);
  }

  bool AnotherLiesInPlace() const {
    struct stat own {};
    struct stat there {};
    return fstat(options_.program_fd, &own) == 0 && stat(options_.program, &there) == 0 &&
           (own.st_dev != there.st_dev || own.st_ino != there.st_ino);
  }

  void AddToNote(const Line& line) const {
    if (options_.note == nullptr) {
      return;
    }
    const size_t used = strnlen(options_.note, options_.note_size);
    const size_t added = line.size() + 2;
    if (used + added < options_.note_size) {
      char* end = stpcpy(options_.note + used, used == 0 ? "" : "; ");
      std::memcpy(end, line.text(), line.size() + 1);
    }
  }

  // 0: it is time to look after the daemon.
  int WaitForSignal() {
    siginfo_t info{};
    if (restart_at_ms_ == 0 && !unreported_) {
      return std::max(sigwaitinfo(&signals_, &info), 0);
    }
    // A full pipe is looked at again soon: whoever reads it makes room.
    const int64_t wait_ms = unreported_ ? 20 : std::max<int64_t>(restart_at_ms_ - NowMs(), 0);
    return WaitForSignal(wait_ms);
  }

  int WaitForSignal(int64_t wait_ms) {
    siginfo_t info{};
    const timespec timeout{.tv_sec = wait_ms / 1000, .tv_nsec = (wait_ms % 1000) * 1'000'000};
    return std::max(sigtimedwait(&signals_, &info, &timeout), 0);
  }

  // Of two that are pending the kernel gives the one of the lower number, signal(7): a SIGHUP sent after a SIGTERM must
  // not start a service that the SIGTERM then stops.
  void TakePendingStop() {
    const sigset_t stops = StopSignals();
    const timespec now{};
    if (const int stop = sigtimedwait(&stops, nullptr, &now); stop > 0) {
      HandleSignal(stop);
    }
  }

  void HandleSignal(int signal) {
    if (signal == SIGCHLD || unreported_) {
      Reap();
    }
    if (IsStop(signal)) {
      RequestStop();
    } else if (IsForwarded(signal)) {
      SendToDaemon(signal);
    } else if (signal == SIGCONT) {
      ResumeDaemon();
    } else if (signal == SIGTSTP) {
      Suspend();
    }
    if (restart_at_ms_ != 0 && NowMs() >= restart_at_ms_ && !ended_) {
      StartDaemon();
    }
  }

  void SendToDaemon(int signal) const {
    if (daemon_ > 0) {
      kill(daemon_, signal);
    }
  }

  void RequestStop() {
    if (!stop_requested_) {
      stop_requested_ = true;
      stop_requested_ms_ = NowMs();
      delay_ms_ = 0;  // what it was before says nothing of how soon the next one is wanted now
    } else if (daemon_ > 0 && NowMs() - stop_requested_ms_ > kTimeToServeMs && !HasServed()) {
      kill(daemon_, SIGKILL);  // it hangs in its start, where it hears nothing
      return;
    }
    SendToDaemon(SIGTERM);
    ResumeDaemon();  // a stopped process would not hear it
    if (daemon_ > 0) {
      return;
    }
    if (any_served_ || HasChildren()) {
      restart_at_ms_ = tries_to_stop_ == 0 ? NowMs() : restart_at_ms_;  // only a daemon stops services in order
    } else {
      End(1);
    }
  }

  // The daemon that lives, not one before it.
  bool HasServed() const {
    pollfd told{.fd = options_.ready_fd, .events = POLLIN, .revents = 0};
    return poll(&told, 1, 0) == 1;
  }

  // A terminal's ^Z: the shell waits for this process to stop. The default action does that, or nothing where no shell
  // could ever continue it (an orphaned process group, setpgid(2)). The services have sessions of their own.
  void Suspend() {
    sigset_t suspend;
    sigemptyset(&suspend);
    sigaddset(&suspend, SIGTSTP);
    SendToDaemon(SIGTSTP);
    raise(SIGTSTP);
    pthread_sigmask(SIG_UNBLOCK, &suspend, nullptr);  // stops here, until SIGCONT
    pthread_sigmask(SIG_BLOCK, &suspend, nullptr);
    SendToDaemon(SIGCONT);
  }

  // SIGCONT is for a stopped daemon alone: to one that is ending it would undo the SIGSTOP of a debugger, or of
  // LeakSanitizer, which then waits for ever.
  void ResumeDaemon() {
    siginfo_t info{};
    const bool is_stopped = daemon_ > 0 &&
                            waitid(P_PID, static_cast<id_t>(daemon_), &info, WSTOPPED | WNOHANG | WNOWAIT) == 0 &&
                            info.si_pid != 0;
    if (is_stopped) {
      SendToDaemon(SIGCONT);
    }
  }

  void Reap() {
    ReapDaemon();
    ReapOthers();
  }

  // Apart from the others: with the pipe full only a daemon makes room, so its own end must not wait for room.
  void ReapDaemon() {
    siginfo_t info{};
    if (daemon_ > 0 && waitid(P_PID, static_cast<id_t>(daemon_), &info, WEXITED | WNOHANG) == 0 && info.si_pid != 0) {
      DaemonEnded(RawStatus(info));
    }
  }

  // Reported first, reaped then: with the pipe full a process stays a zombie until there is room for its exit code.
  void ReapOthers() {
    unreported_ = false;
    while (!ended_) {
      siginfo_t info{};
      if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) != 0 || info.si_pid == 0) {
        return;
      }
      if (info.si_pid == daemon_) {
        ReapDaemon();  // it has ended since
        continue;
      }
      const ReapedRecord record{info.si_pid, RawStatus(info)};
      if (write(options_.reaped_write_fd, &record, sizeof(record)) < 0 && errno == EAGAIN) {
        unreported_ = true;
        return;
      }
      waitid(P_PID, static_cast<id_t>(record.pid), &info, WEXITED | WNOHANG);
    }
  }

  void DaemonEnded(int status) {
    const pid_t pid = daemon_;
    daemon_ = -1;
    uint64_t told = 0;  // reading empties the eventfd: what it says is of this daemon alone
    const bool served = pid > 0 && read(options_.ready_fd, &told, sizeof(told)) == sizeof(told);
    any_served_ = any_served_ || served;
    unserved_ = served ? 0 : unserved_ + 1;
    const Verdict verdict = JudgeEnd({.status = status,
                                      .served = served,
                                      .any_served = any_served_,
                                      .has_children = HasChildren(),
                                      .is_awaited = options_.is_awaited,
                                      .stop_requested = stop_requested_,
                                      .unserved = unserved_,
                                      .tries_to_stop = tries_to_stop_});
    switch (verdict.next) {
      case AfterDaemon::kEnd:
        TellEnd(status, pid, served, verdict);
        // A daemon that ends for a failure may have said with which code.
        End(IsOrderlyFailure(status) ? std::max(static_cast<int>(told >> kExitCodeShift), verdict.exit_code)
                                     : verdict.exit_code);
        return;
      case AfterDaemon::kReplaceGuardian:
        End(kReplaceGuardian);
        return;
      case AfterDaemon::kStartAgain:
        delay_ms_ = NextRestartDelayMs(delay_ms_, served, NowMs() - started_ms_);
        restart_at_ms_ = std::max<int64_t>(NowMs() + delay_ms_, 1);
        TellEnd(status, pid, served, verdict);
        return;
      case AfterDaemon::kEndServices:
        TellEnd(status, pid, served, verdict);
        EndServices();
        End(verdict.exit_code);
        return;
    }
  }

  // What the daemon itself cannot say: that it was killed, and what follows. The note keeps how the last one that
  // served has ended, beside how the last one has.
  void TellEnd(int status, pid_t pid, bool served, const Verdict& verdict) {
    Line end;
    end << "the daemon";
    if (pid > 0) {
      end << " (pid " << int64_t{pid} << ")";
    }
    (end << " ").AddEnd(status) << (served ? "" : " before it served");
    if (options_.note != nullptr) {
      note_kept_ = served ? 0 : note_kept_;
      options_.note[note_kept_] = '\0';
      AddToNote(end);
      note_kept_ = served ? strnlen(options_.note, options_.note_size) : note_kept_;
    }
    if (verdict.next == AfterDaemon::kStartAgain) {
      Say(end << ": starts it again in " << delay_ms_ << " ms");
    } else if (verdict.next == AfterDaemon::kEndServices) {
      Say(end << ", as those before it: the guardian stops the services itself, all at once");
    } else if (status == DaemonEnd::kNotForked || !WIFEXITED(status)) {
      Say(end << ": supervisord ends");
    }
  }

  // The last resort: there is no daemon that would stop the services in their order. All are children of this process,
  // or become that when their parents end.
  void EndServices() {
    const int64_t begin_ms = NowMs();
    int64_t kill_at_ms = begin_ms + kGraceMs;
    int64_t next_ms = 0;
    for (int64_t now = begin_ms; HasChildren(); now = NowMs()) {
      siginfo_t info{};
      while (waitid(P_ALL, 0, &info, WEXITED | WNOHANG) == 0 && info.si_pid != 0) {
        info = {};
      }
      if (now >= kill_at_ms + kTakingDownMs) {
        Say(Line() << int64_t{SignalChildren(SIGKILL)} << " processes are left, which SIGKILL did not end");
        return;
      }
      if (now >= next_ms) {  // again: orphans of those that have ended have come since
        next_ms = now + (now >= kill_at_ms ? 50 : 1'000);
        if (SignalChildren(now >= kill_at_ms ? SIGKILL : SIGTERM) < 0) {
          Say(Line() << "the kernel does not list the children of a process: the services are left running");
          return;
        }
        SignalChildren(SIGCONT);
      }
      if (IsStop(WaitForSignal(50))) {
        kill_at_ms = std::min(kill_at_ms, NowMs());
      }
    }
  }

  void End(int exit_code) {
    ended_ = true;
    exit_code_ = exit_code;
  }

  const GuardianOptions& options_;
  const sigset_t signals_;
  pid_t daemon_ = -1;
  int64_t started_ms_ = 0;
  int64_t restart_at_ms_ = 0;  // 0: not waiting to restart it
  int64_t delay_ms_ = 0;
  int64_t stop_requested_ms_ = 0;
  int unserved_ = 0;       // daemons in a row that ended before they served
  int tries_to_stop_ = 0;  // daemons started since the stop was requested
  size_t note_kept_ = 0;   // so much of the note is about the last daemon that served
  bool unreported_ = false;
  bool any_served_;
  bool stop_requested_ = false;
  bool ended_ = false;
  int exit_code_ = 0;
};

}  // namespace

int RunGuardian(const GuardianOptions& options) { return Guardian(options).Run(); }

}  // namespace supervisor
