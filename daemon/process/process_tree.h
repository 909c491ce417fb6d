#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "daemon/process/cgroup.h"
#include "daemon/process/proc_fs.h"
#include "daemon/process/run_mark.h"
#include "daemon/process/signal_refusal.h"
#include "daemon/process/spawn.h"

namespace supervisor {

// Who may have inherited an orphan of ours. This process and its guardian are subreapers (prctl(2)); when both were
// killed, what they had inherited went on to the next reaper above, which in most places is pid 1.
struct Reapers {
  pid_t self = 0;
  pid_t parent = 0;
  bool parent_is_guardian = false;

  static Reapers OfThisProcess();
  bool IsOurs(pid_t pid) const { return pid == self || (pid == parent && parent_is_guardian); }
  bool IsSupervisor(pid_t pid) const { return pid == self || pid == parent; }
  bool MayHaveOrphans(pid_t pid) const { return pid == self || pid == parent || pid == 1; }
};

// One look at /proc, taken when it is first asked for, and what was read of marks since. One thread.
class EveryProcess {
 public:
  const std::vector<ProcStat>& all();
  // See RunMark. Each is read once.
  const std::string& SecretOf(pid_t pid);
  uint64_t LineageOf(pid_t pid);
  const Reapers& reapers();

 private:
  std::optional<std::vector<ProcStat>> all_;
  std::map<pid_t, std::string> secrets_;
  std::map<pid_t, uint64_t> lineages_;
  std::optional<Reapers> reapers_;
};

// What a tree is known by, for another thread to look at it.
struct ProcessTreeView {
  std::string cgroup;  // its directory; empty: none
  bool has_memory_controller = false;
  std::vector<pid_t> sessions;
  std::vector<pid_t> reaped;  // leaders of them whose number may be a stranger's by now
  RunMark mark = {};
  std::optional<uid_t> owner = {};  // as whom it was started; none: not known

  // Known by nothing.
  bool empty() const { return cgroup.empty() && sessions.empty(); }
};

// Of a tree without a cgroup. Any thread.
std::vector<pid_t> MembersOf(const ProcessTreeView& tree, EveryProcess& everybody);

// Whether the process is one of the tree's, without a look at all others: by its own line, and by those of its parents.
// Any thread.
bool IsMember(const ProcessTreeView& tree, pid_t pid);

// All processes of one instance: the main one and whatever it started, double-forked and setsid'ed ones included.
// Known by its cgroup v2 where there is one. Else by session, by descent, and for orphans by the mark of their run
// (run_mark.h): its lineage, or where they have none its secret. The secret alone counts only for what a subreaper of
// ours has inherited (this process or its guardian) and for the run's own user and root. Only a process of root's that
// leaves its session, loses its parents, resets its limits and wipes its environment escapes.
//
// Loop thread.
class ProcessTree {
 public:
  // `cgroup` may be null.
  explicit ProcessTree(std::unique_ptr<Cgroup> cgroup, RunMark mark = {})
      : cgroup_(std::move(cgroup)), mark_(std::move(mark)) {}

  const RunMark& mark() const { return mark_; }
  std::optional<uid_t> owner() const { return owner_; }
  // Of the run that an earlier daemon has started; `owner`: none where it is not known.
  void Resume(RunMark mark, std::optional<uid_t> owner) {
    mark_ = std::move(mark);
    owner_ = owner;
  }
  // Null where it has none.
  const Cgroup* cgroup() const { return cgroup_.get(); }
  void SetCgroup(std::unique_ptr<Cgroup> cgroup) { cgroup_ = std::move(cgroup); }
  std::unique_ptr<Cgroup> TakeCgroup() { return std::move(cgroup_); }
  // A run begins with what is requested: where its process is to live, and what it is to be known by.
  void PlaceIn(SpawnRequest& request, RunMark mark);

  // The session that the processes were started in, which is their first process's pid.
  void SetSession(pid_t session) {
    sessions_ = {session};
    reaped_.clear();
  }
  // Another one that is theirs: that of a main process which the service has named itself.
  void AddSession(pid_t session);
  // A process that led such a session has been reaped, so its pid may soon be a stranger's.
  void Reaped(pid_t leader) { reaped_.push_back(leader); }

  ProcessTreeView view() const;
  std::vector<pid_t> Pids() const;
  bool Empty() const;
  bool Contains(pid_t pid) const { return IsMember(view(), pid); }
  // To all but `except`, each through a pidfd that was checked to stand for a process of this tree. Returns those of
  // them that it did not reach.
  std::vector<SignalRefusal> SignalAll(int signal, pid_t except) const;
  // SIGKILL to all, stopped ones included. May have to be repeated until Empty: processes can fork while we look.
  // Returns those that it did not reach.
  std::vector<SignalRefusal> Kill() const;
  // Kill until Empty, or until all that is left refuses it. For what may block the thread for a moment: the start of a
  // daemon. Returns what is left.
  std::vector<SignalRefusal> KillUntilEmpty() const;

 private:
  std::unique_ptr<Cgroup> cgroup_;
  RunMark mark_;
  std::optional<uid_t> owner_;
  std::vector<pid_t> sessions_;
  std::vector<pid_t> reaped_;
  mutable bool cgroup_trouble_told_ = false;
};

}  // namespace supervisor
