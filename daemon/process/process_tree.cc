#include "daemon/process/process_tree.h"

#include <fmt/format.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <functional>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "common/diag_log.h"
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

const std::string& EveryProcess::SecretOf(pid_t pid) {
  const auto [entry, is_new] = secrets_.emplace(pid, "");
  if (is_new) {
    entry->second = EnvironmentValue(pid, RunMark::kVariable).value_or("");
  }
  return entry->second;
}

uint64_t EveryProcess::LineageOf(pid_t pid) {
  const auto [entry, is_new] = lineages_.emplace(pid, 0);
  if (is_new) {
    entry->second = supervisor::LineageOf(pid);
  }
  return entry->second;
}

const Reapers& EveryProcess::reapers() {
  if (!reapers_) {
    reapers_ = Reapers::OfThisProcess();
  }
  return *reapers_;
}

// A guardian runs the same program; where there is none the parent is a shell, or another supervisor.
Reapers Reapers::OfThisProcess() {
  Reapers reapers{.self = getpid(), .parent = getppid(), .parent_is_guardian = false};
  struct stat own {};
  struct stat its {};
  reapers.parent_is_guardian = stat("/proc/self/exe", &own) == 0 &&
                               stat(fmt::format("/proc/{}/exe", reapers.parent).c_str(), &its) == 0 &&
                               own.st_dev == its.st_dev && own.st_ino == its.st_ino;
  return reapers;
}

namespace {

bool Has(const std::vector<pid_t>& list, pid_t pid) { return std::ranges::find(list, pid) != list.end(); }

// By its mark alone. Only orphans are asked for theirs: to read those of all would cost too much.
bool IsMarkedOrphan(const ProcessTreeView& tree, const ProcStat& stat, EveryProcess& everybody) {
  const Reapers& reapers = everybody.reapers();
  if (tree.mark.empty() || !reapers.MayHaveOrphans(stat.parent) || reapers.IsSupervisor(stat.pid)) {
    return false;
  }
  const uint64_t lineage = everybody.LineageOf(stat.pid);
  if (lineage != 0 && lineage == tree.mark.lineage()) {
    return true;
  }
  if (lineage != 0 && GivesLineages()) {
    return false;  // another run's
  }
  if (!reapers.IsOurs(stat.parent) || everybody.SecretOf(stat.pid) != tree.mark.secret()) {
    return false;
  }
  const std::optional<uid_t> user = RealUid(stat.pid);
  return user == 0u || !tree.owner || user == tree.owner;
}

// The kernel gives a number away again only when no process has it as pid, group or session any more. So a living
// process with a reaped leader's pid is a stranger, and so is the session of that number.
std::vector<pid_t> OwnSessions(const ProcessTreeView& tree, const std::function<bool(pid_t)>& is_alive) {
  std::vector<pid_t> sessions = tree.sessions;
  std::erase_if(sessions, [&](pid_t session) { return Has(tree.reaped, session) && is_alive(session); });
  return sessions;
}

bool IsAlive(pid_t pid) {
  const std::optional<ProcStat> stat = ReadProcStat(pid);
  return stat && !stat->is_dead();
}

// Its cgroup v2 is that directory or one below it. Compared by the last two components, which are this supervisor's
// name and the instance's: where the hierarchy is mounted, and which part of it, the kernel's text does not say.
bool IsInCgroup(pid_t pid, const std::string& directory) {
  const size_t instance = directory.rfind('/');
  const size_t supervisor = instance == std::string::npos || instance == 0 ? 0 : directory.rfind('/', instance - 1);
  const std::string wanted = directory.substr(supervisor == std::string::npos ? 0 : supervisor);
  const std::string text = "\n" + ReadProcFile(pid, "cgroup");
  const size_t line = text.find("\n0::");
  if (line == std::string::npos) {
    return false;
  }
  const std::string path = text.substr(line + 4, text.find('\n', line + 1) - line - 4);
  const size_t at = path.find(wanted);
  const size_t end = at + wanted.size();
  return at != std::string::npos && (end == path.size() || path[end] == '/');
}

}  // namespace

std::vector<pid_t> MembersOf(const ProcessTreeView& tree, EveryProcess& everybody) {
  if (tree.sessions.empty()) {
    return {};
  }
  const std::vector<ProcStat>& all = everybody.all();
  std::unordered_map<pid_t, const ProcStat*> by_pid;
  for (const ProcStat& stat : all) {
    by_pid[stat.pid] = &stat;
  }
  const std::vector<pid_t> sessions = OwnSessions(tree, [&](pid_t session) {
    const auto holder = by_pid.find(session);
    return holder != by_pid.end() && !holder->second->is_dead();
  });
  std::unordered_set<pid_t> members;
  const auto belongs = [&](const ProcStat& stat) {
    return Has(sessions, stat.session) || Has(sessions, stat.pid) || members.contains(stat.parent) ||
           IsMarkedOrphan(tree, stat, everybody);
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

bool IsMember(const ProcessTreeView& tree, pid_t pid) {
  if (!tree.cgroup.empty()) {
    return IsInCgroup(pid, tree.cgroup);
  }
  if (tree.sessions.empty()) {
    return false;
  }
  const std::vector<pid_t> sessions = OwnSessions(tree, IsAlive);
  EveryProcess everybody;
  constexpr int kMostGenerations = 64;
  for (int generation = 0; generation < kMostGenerations && pid > 1 && !everybody.reapers().IsSupervisor(pid);
       ++generation) {
    const std::optional<ProcStat> stat = ReadProcStat(pid);
    if (!stat || stat->is_dead()) {
      return false;
    }
    if (Has(sessions, stat->session) || Has(sessions, stat->pid) || IsMarkedOrphan(tree, *stat, everybody)) {
      return true;
    }
    pid = stat->parent;
  }
  return false;
}

void ProcessTree::PlaceIn(SpawnRequest& request, RunMark mark) {
  request.cgroup = cgroup_ != nullptr ? cgroup_->path() : std::string();
  request.born_in_cgroup = cgroup_ != nullptr && cgroup_->TakesBirths();
  mark_ = std::move(mark);
  owner_ = request.credentials ? request.credentials->uid : geteuid();
  mark_.PutOn(request, cgroup_ == nullptr);
}

ProcessTreeView ProcessTree::view() const {
  return {.cgroup = cgroup_ != nullptr ? cgroup_->path() : std::string(),
          .has_memory_controller = cgroup_ != nullptr && cgroup_->controllers().memory,
          .sessions = sessions_,
          .reaped = reaped_,
          .mark = mark_,
          .owner = owner_};
}

std::vector<pid_t> ProcessTree::Pids() const {
  if (cgroup_ != nullptr) {
    return cgroup_->Pids();
  }
  EveryProcess everybody;
  return MembersOf(view(), everybody);
}

bool ProcessTree::Empty() const { return cgroup_ != nullptr ? !cgroup_->Populated() : Pids().empty(); }

std::vector<SignalRefusal> ProcessTree::SignalAll(int signal, pid_t except) const {
  std::vector<SignalRefusal> refusals;
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
    } else if (errno != ESRCH) {
      refusals.push_back({pid, errno});
    }
  }
  if (targets.empty()) {
    return refusals;
  }
  // A pid may have been reused between the listing and the pidfd: only those that are listed still are ours.
  const std::vector<pid_t> still = Pids();
  for (const Target& target : targets) {
    if (std::ranges::find(still, target.pid) != still.end()) {
      if (const int error = SendSignalTo(target.fd.get(), signal); error != 0) {
        refusals.push_back({target.pid, error});
      }
    }
  }
  return refusals;
}

std::vector<SignalRefusal> ProcessTree::Kill() const {
  if (cgroup_ != nullptr) {
    const absl::Status killed = cgroup_->Kill();
    if (killed.ok()) {
      return {};
    }
    // An old kernel or a cgroup that is gone is no trouble.
    if (!absl::IsNotFound(killed) && !std::exchange(cgroup_trouble_told_, true)) {
      LogWarning("a cgroup cannot be killed as a whole: its processes are signalled one by one",
                 {{"cgroup", cgroup_->path()}, {"error", std::string(killed.message())}});
    }
  }
  return SignalAll(SIGKILL, 0);
}

std::vector<SignalRefusal> ProcessTree::KillUntilEmpty() const {
  constexpr int kMostRounds = 1000;
  std::vector<SignalRefusal> refusals;
  for (int round = 0; round < kMostRounds && !Empty(); ++round) {
    refusals = Kill();
    if (!refusals.empty() && refusals.size() == Pids().size()) {
      return refusals;
    }
  }
  return {};
}

}  // namespace supervisor
