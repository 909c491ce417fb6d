#include "daemon/startup/stranger_reaper.h"

#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "daemon/process/own_child.h"
#include "daemon/process/proc_fs.h"

namespace supervisor {
namespace {

// Long enough that of most ends nothing is left to look for, and that an owner has had its say.
constexpr absl::Duration kLookAfter = absl::Milliseconds(100);

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
  std::set<Process> unknown;
  if (SomeChildHasEnded()) {
    for (const ProcStat& stat : ReadAllProcesses()) {
      if (stat.parent != getpid() || !stat.is_dead() || OwnChild::Is(stat.pid)) {
        continue;
      }
      const Process process(stat.pid, stat.start_ticks);
      siginfo_t info{};
      if (!seen_.contains(process) || waitid(P_PID, static_cast<id_t>(stat.pid), &info, WEXITED | WNOHANG) != 0) {
        unknown.insert(process);
      }
    }
  }
  seen_ = std::move(unknown);
  if (!seen_.empty()) {
    look_is_due_ = true;
    look_timer_->ArmAfter(kLookAfter);
  }
}

}  // namespace supervisor
