#include "daemon/health/tree_killer.h"

#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "common/diag_log.h"
#include "daemon/health/pidfd.h"
#include "daemon/process/proc_fs.h"

namespace supervisor {
namespace {

constexpr absl::Duration kFirstPause = absl::Milliseconds(1);
constexpr absl::Duration kLongestPause = absl::Milliseconds(100);
// After a look, in looks: a thousand scripts that time out one after another keep a third of one core busy, not all.
constexpr int kRest = 2;
constexpr absl::Duration kReportAfter = absl::Seconds(1);
constexpr absl::Duration kGiveUpAfter = absl::Minutes(1);
constexpr absl::Duration kLongestGoodbye = absl::Milliseconds(500);
// A process that forks and exits while /proc is read can slip past one look; hardly past two in a row.
constexpr int kEmptyPassesNeeded = 2;

void KillExactly(const ProcStat& process) {
  const UniqueFd pidfd = OpenPidfd(process.pid);
  if (!pidfd) {
    return;
  }
  // Only now the pid cannot change hands under us.
  const std::optional<ProcStat> now = ReadProcStat(process.pid);
  if (now.has_value() && now->start_ticks == process.start_ticks) {
    SignalPidfd(pidfd.get(), SIGKILL);
  }
}

}  // namespace

struct TreeKiller::Work {
  ScriptTree tree;
  Gone gone;
  MonoTime began;
  int empty_passes = 0;
  bool anybody = false;                          // in the last look
  std::set<std::pair<pid_t, uint64_t>> members;  // all that were ever found, by pid and start time
};

// One look at /proc: which process belongs to which tree.
struct TreeKiller::Look {
  std::vector<ProcStat> processes;
  std::map<pid_t, Work*> owners;

  void Claim(const ProcStat& process, Work* work) {
    // What is older than the leader only has a number that was used again.
    if (work != nullptr && process.start_ticks >= work->tree.start_ticks) {
      owners[process.pid] = work;
      work->members.insert({process.pid, process.start_ticks});
    }
  }

  // Pids wrap around, so a child may come before its parent: again until nobody is added.
  void ClaimDescendants() {
    for (size_t before = owners.size() + 1; before != owners.size();) {
      before = owners.size();
      for (const ProcStat& process : processes) {
        if (const auto parent = owners.find(process.parent); parent != owners.end() && !owners.contains(process.pid)) {
          Claim(process, parent->second);
        }
      }
    }
  }

  // Those that have left the session and lost their parent.
  void ClaimMarked(const std::map<std::string, Work*, std::less<>>& by_marker, uint64_t earliest) {
    for (const ProcStat& process : processes) {
      if (process.start_ticks < earliest || process.is_dead() || owners.contains(process.pid)) {
        continue;
      }
      if (const std::optional<std::string> marker = EnvironmentValue(process.pid, kScriptMarker)) {
        if (const auto found = by_marker.find(*marker); found != by_marker.end()) {
          Claim(process, found->second);
        }
      }
    }
  }
};

TreeKiller::TreeKiller(Loop& loop) : pause_(kFirstPause), timer_(loop.NewTimer([this] { Round(); })) {}

TreeKiller::~TreeKiller() {
  timer_.reset();
  for (const std::unique_ptr<Work>& work : work_) {
    work->gone = nullptr;
  }
  const MonoTime deadline = MonotonicNow() + kLongestGoodbye;
  while (!work_.empty() && MonotonicNow() < deadline) {
    PassOver();
    std::erase_if(work_, [](const std::unique_ptr<Work>& work) { return work->empty_passes >= kEmptyPassesNeeded; });
    if (!work_.empty()) {
      poll(nullptr, 0, 1);
    }
  }
}

void TreeKiller::Kill(ScriptTree tree, Gone gone) {
  auto work = std::make_unique<Work>();
  work->tree = std::move(tree);
  work->gone = std::move(gone);
  work->began = MonotonicNow();
  work->members.insert({work->tree.pid, work->tree.start_ticks});
  work_.push_back(std::move(work));
  pause_ = kFirstPause;
  timer_->ArmAt(rest_until_);  // where many trees come one after another, no look for each
}

void TreeKiller::Round() {
  const MonoTime began = MonotonicNow();
  PassOver();
  const MonoTime now = MonotonicNow();
  std::vector<std::pair<Gone, bool>> to_tell;  // told last: they may call Kill
  std::erase_if(work_, [&](const std::unique_ptr<Work>& work) {
    const bool all_gone = work->empty_passes >= kEmptyPassesNeeded;
    const bool late = now - work->began > kReportAfter;
    if ((all_gone || late) && work->gone) {
      to_tell.emplace_back(std::exchange(work->gone, nullptr), all_gone);
    }
    if (!all_gone && now - work->began > kGiveUpAfter) {
      LogWarning("processes of a check script do not die", {{"session", std::to_string(work->tree.pid)}});
      ReapIfOurs(work->tree.pidfd.get());
      return true;
    }
    return all_gone;
  });
  rest_until_ = now + kRest * (now - began);
  if (!work_.empty()) {
    timer_->ArmAt(std::max(rest_until_, now + pause_));
    pause_ = std::min(2 * pause_, kLongestPause);
  }
  for (const auto& [gone, all_gone] : to_tell) {
    gone(all_gone);
  }
}

void TreeKiller::PassOver() {
  std::map<pid_t, Work*> by_leader;
  std::map<std::pair<pid_t, uint64_t>, Work*> by_member;
  std::map<std::string, Work*, std::less<>> by_marker;
  uint64_t earliest = UINT64_MAX;
  for (const std::unique_ptr<Work>& work : work_) {
    work->anybody = false;
    by_leader[work->tree.pid] = work.get();
    by_marker[work->tree.marker] = work.get();
    earliest = std::min(earliest, work->tree.start_ticks);
    for (const auto& member : work->members) {
      by_member[member] = work.get();
    }
  }
  Look look{.processes = ReadAllProcesses(), .owners = {}};
  for (const ProcStat& process : look.processes) {
    const auto session = by_leader.find(process.session);
    const auto group = by_leader.find(process.group);
    const auto member = by_member.find({process.pid, process.start_ticks});
    look.Claim(process, session != by_leader.end()  ? session->second
                        : group != by_leader.end()  ? group->second
                        : member != by_member.end() ? member->second
                                                    : nullptr);
  }
  look.ClaimDescendants();
  look.ClaimMarked(by_marker, earliest);
  look.ClaimDescendants();
  Volley(look);
  for (const std::unique_ptr<Work>& work : work_) {
    work->empty_passes = work->anybody ? 0 : work->empty_passes + 1;
    if (work->empty_passes == kEmptyPassesNeeded) {
      ReapIfOurs(work->tree.pidfd.get());
    }
  }
}

void TreeKiller::Volley(const Look& look) {
  for (const ProcStat& process : look.processes) {
    const auto owner = look.owners.find(process.pid);
    if (owner == look.owners.end()) {
      continue;
    }
    if (!process.is_dead()) {
      owner->second->anybody = true;
      KillExactly(process);
    } else if (process.pid != owner->second->tree.pid && process.parent == getpid()) {
      // An orphan that came to us, where this process is the reaper.
      if (const UniqueFd pidfd = OpenPidfd(process.pid); pidfd) {
        ReapIfOurs(pidfd.get());
      }
    }
  }
}

bool PeekExit(int pidfd, ScriptExit& exit) {
  siginfo_t info{};
  if (waitid(P_PIDFD, static_cast<id_t>(pidfd), &info, WEXITED | WNOHANG | WNOWAIT) != 0 || info.si_pid == 0) {
    return false;
  }
  exit.exited = info.si_code == CLD_EXITED;
  exit.value = info.si_status;
  return true;
}

}  // namespace supervisor
