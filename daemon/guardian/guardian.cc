#include "daemon/guardian/guardian.h"

#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <ctime>

namespace supervisor {
namespace {

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
      : options_(options), signals_(WatchedSignals()), was_ready_(options.has_served) {}

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
    // This process is small and has one thread: a plain fork is the plainest thing that works.
    daemon_ = fork();
    if (daemon_ == 0) {
      execv(options_.program, options_.daemon_argv);
      _exit(127);
    }
    if (daemon_ < 0) {
      ScheduleRestart(false);
    } else if (stop_requested_) {
      kill(daemon_, SIGTERM);
    }
  }

  void ScheduleRestart(bool served) {
    delay_ms_ = NextRestartDelayMs(delay_ms_, served, NowMs() - started_ms_);
    restart_at_ms_ = NowMs() + delay_ms_;
    daemon_ = -1;
  }

  // 0: it is time to look after the daemon.
  int WaitForSignal() {
    siginfo_t info{};
    if (restart_at_ms_ == 0 && !unreported_) {
      return std::max(sigwaitinfo(&signals_, &info), 0);
    }
    // A full pipe is looked at again soon: whoever reads it makes room.
    const int64_t wait_ms = unreported_ ? 20 : std::max<int64_t>(restart_at_ms_ - NowMs(), 0);
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
    if (IsForwarded(signal)) {
      stop_requested_ = stop_requested_ || IsStop(signal);
      if (daemon_ > 0) {
        kill(daemon_, IsStop(signal) ? SIGTERM : signal);
      }
    }
    if (restart_at_ms_ != 0 && (NowMs() >= restart_at_ms_ || stop_requested_) && !ended_) {
      StartDaemon();
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
    for (;;) {
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
    uint64_t told = 0;  // reading empties the eventfd: what it says is of this daemon alone
    const bool served = read(options_.ready_fd, &told, sizeof(told)) == sizeof(told);
    was_ready_ = was_ready_ || served;
    const bool exited = WIFEXITED(status);
    if (exited && WEXITSTATUS(status) == kExitForUpgrade && !stop_requested_) {
      ended_ = true;
      exit_code_ = kReplaceGuardian;
      return;
    }
    const bool meant = exited && (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == kExitOrderlyFailure);
    if (meant || (exited && !was_ready_)) {
      ended_ = true;
      exit_code_ = WEXITSTATUS(status) == kExitOrderlyFailure ? 1 : WEXITSTATUS(status);
      return;
    }
    ScheduleRestart(served);
  }

  const GuardianOptions& options_;
  const sigset_t signals_;
  pid_t daemon_ = -1;
  int64_t started_ms_ = 0;
  int64_t restart_at_ms_ = 0;  // 0: not waiting to restart it
  int64_t delay_ms_ = 0;
  bool unreported_ = false;
  bool was_ready_;
  bool stop_requested_ = false;
  bool ended_ = false;
  int exit_code_ = 0;
};

}  // namespace

int64_t NextRestartDelayMs(int64_t last_ms, bool served, int64_t lived_ms) {
  constexpr int64_t kProvenMs = 10'000;  // who lived so long did not die of how it starts
  if (!served) {
    return std::clamp<int64_t>(last_ms * 2, 50, 5'000);
  }
  return lived_ms >= kProvenMs ? 0 : std::clamp<int64_t>(last_ms * 2, 10, 200);
}

int RunGuardian(const GuardianOptions& options) { return Guardian(options).Run(); }

}  // namespace supervisor
