#include "daemon/process/process_tree.h"

#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

#include "daemon/process/proc_fs.h"

namespace supervisor {

void ProcessTree::AddSession(pid_t session) {
  if (std::ranges::find(sessions_, session) == sessions_.end()) {
    sessions_.push_back(session);
  }
}

const std::vector<ProcStat>& EveryProcess::all() {
  if (!all_) {
    all_ = ReadAllProcesses();
  }
  return *all_;
}

const std::string& EveryProcess::MarkOf(pid_t pid) {
  const auto [entry, is_new] = marks_.emplace(pid, "");
  if (is_new) {
    entry->second = EnvironmentValue(pid, ProcessTree::kMarkVariable).value_or("");
  }
  return entry->second;
}

std::vector<pid_t> MembersOf(const ProcessTreeView& tree, EveryProcess& everybody) {
  if (tree.sessions.empty()) {
    return {};
  }
  const std::vector<ProcStat>& all = everybody.all();
  std::unordered_map<pid_t, const ProcStat*> by_pid;
  for (const ProcStat& stat : all) {
    by_pid[stat.pid] = &stat;
  }
  // The kernel gives a number away again only when no process has it as pid, group or session any more. So whoever has
  // a reaped leader's pid now is a stranger, and so is the session of that number.
  std::vector<pid_t> sessions = tree.sessions;
  std::erase_if(sessions, [&](pid_t session) {
    const auto holder = by_pid.find(session);
    return std::ranges::find(tree.reaped, session) != tree.reaped.end() && holder != by_pid.end() &&
           !holder->second->is_dead();
  });
  const pid_t self = getpid();
  const pid_t parent = getppid();
  std::unordered_set<pid_t> members;
  const auto belongs = [&](const ProcStat& stat) {
    if (std::ranges::find(sessions, stat.session) != sessions.end() ||
        std::ranges::find(sessions, stat.pid) != sessions.end() || members.contains(stat.parent)) {
      return true;
    }
    // Only what the subreapers inherited can be an orphan of ours; reading every environment would cost too much.
    const bool orphan = stat.parent == self || stat.parent == parent || stat.parent == 1;
    return orphan && stat.pid != self && stat.pid != parent && everybody.MarkOf(stat.pid) == tree.mark;
  };
  // A child can have a smaller pid than its parent once pids have wrapped around: until nothing is added.
  for (size_t before = members.size() + 1; before != members.size();) {
    before = members.size();
    for (const ProcStat& stat : all) {
      if (!stat.is_dead() && !members.contains(stat.pid) && belongs(stat)) {
        members.insert(stat.pid);
      }
    }
  }
  return {members.begin(), members.end()};
}

ProcessTreeView ProcessTree::view() const {
  return {.cgroup = cgroup_ != nullptr ? cgroup_->path() : std::string(),
          .has_memory_controller = cgroup_ != nullptr && cgroup_->controllers().memory,
          .sessions = sessions_,
          .reaped = reaped_,
          .mark = mark_};
}

std::vector<pid_t> ProcessTree::Pids() const {
  if (cgroup_ != nullptr) {
    return cgroup_->Pids();
  }
  EveryProcess everybody;
  return MembersOf(view(), everybody);
}

bool ProcessTree::Empty() const { return cgroup_ != nullptr ? !cgroup_->Populated() : Pids().empty(); }

void ProcessTree::SignalAll(int signal, pid_t except) const {
  struct Target {
    pid_t pid;
    UniqueFd fd;
  };
  std::vector<Target> targets;
  for (const pid_t pid : Pids()) {
    if (pid == except) {
      continue;
    }
    UniqueFd fd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
    if (fd) {
      targets.push_back({pid, std::move(fd)});
    }
  }
  if (targets.empty()) {
    return;
  }
  // A pid may have been reused between the listing and the pidfd: only those that are listed still are ours.
  const std::vector<pid_t> still = Pids();
  for (const Target& target : targets) {
    if (std::ranges::find(still, target.pid) != still.end()) {
      syscall(SYS_pidfd_send_signal, target.fd.get(), signal, nullptr, 0);
    }
  }
}

void ProcessTree::Kill() const {
  if (cgroup_ != nullptr && cgroup_->Kill()) {
    return;
  }
  SignalAll(SIGKILL, 0);
}

}  // namespace supervisor
