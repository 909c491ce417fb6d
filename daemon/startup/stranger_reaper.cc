#include "daemon/startup/stranger_reaper.h"

#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <optional>

#include "daemon/process/own_child.h"
#include "daemon/process/proc_fs.h"

namespace supervisor {
namespace {

// Long enough that of most ends nothing is left to look for.
constexpr absl::Duration kLookAfter = absl::Milliseconds(300);
// Until then an owner has had its say: on a busy machine a thread that has just cloned may be kept waiting before it
// claims its child.
constexpr absl::Duration kClaimedWithin = absl::Milliseconds(1500);
// Reaping takes the kernel some 50 us each, and a service can leave any number.
constexpr size_t kMostAtOnce = 100;
constexpr absl::Duration kGoOnAfter = absl::Milliseconds(20);

// Own children that have ended included: those are looked at closer.
bool SomeChildHasEnded() {
  siginfo_t info{};
  return waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid != 0;
}

}  // namespace

StrangerReaper::StrangerReaper(Loop& loop) : loop_(loop), look_timer_(loop.NewTimer([this] { Look(); })) {
  sigset_t child;
  sigemptyset(&child);
  sigaddset(&child, SIGCHLD);
  signal_fd_.Reset(signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK));
  signal_watch_ = loop_.WatchFd(signal_fd_.get(), Loop::Interest::kRead, [this](Loop::Ready) {
    signalfd_siginfo info{};
    while (read(signal_fd_.get(), &info, sizeof(info)) == sizeof(info)) {
    }
    if (!std::exchange(look_is_due_, true)) {
      look_timer_->ArmAfter(kLookAfter);
    }
  });
  look_timer_->ArmAfter(kLookAfter);  // the program that this one has replaced may have left some
}

void StrangerReaper::Look() {
  look_is_due_ = false;
  std::map<Process, MonoTime> unknown;
  const MonoTime now = MonotonicNow();
  size_t reaped = 0;
  if (SomeChildHasEnded()) {
    for (const pid_t pid : ChildrenOf(getpid())) {
      if (OwnChild::Is(pid)) {
        continue;
      }
      const std::optional<ProcStat> stat = ReadProcStat(pid);
      if (!stat || stat->parent != getpid() || !stat->is_dead()) {
        continue;
      }
      const Process process(pid, stat->start_ticks);
      const auto seen = seen_.find(process);
      const MonoTime since = seen != seen_.end() ? seen->second : now;
      siginfo_t info{};
      if (now - since >= kClaimedWithin && reaped < kMostAtOnce &&
          waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOHANG) == 0) {
        ++reaped;
      } else {
        unknown.emplace(process, since);
      }
    }
  }
  seen_ = std::move(unknown);
  if (!seen_.empty()) {
    look_is_due_ = true;
    look_timer_->ArmAfter(reaped == kMostAtOnce ? kGoOnAfter : kLookAfter);
  }
}

}  // namespace supervisor
