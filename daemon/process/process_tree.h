#pragma once

#include <sys/types.h>

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "daemon/process/cgroup.h"
#include "daemon/process/proc_fs.h"
#include "daemon/process/spawn.h"

namespace supervisor {

// One look at /proc, taken when it is first asked for, and what was read of environments since. One thread.
class EveryProcess {
 public:
  const std::vector<ProcStat>& all();
  // The mark of a process, "" where it has none.
  const std::string& MarkOf(pid_t pid);

 private:
  std::optional<std::vector<ProcStat>> all_;
  std::map<pid_t, std::string> marks_;
};

// What a tree is known by, for another thread to look at it.
struct ProcessTreeView {
  std::string cgroup;  // its directory; empty: none
  bool has_memory_controller = false;
  std::vector<pid_t> sessions;
  std::vector<pid_t> reaped;  // leaders of them whose number may be a stranger's by now
  std::string mark;

  // Known by nothing.
  bool empty() const { return cgroup.empty() && sessions.empty(); }
};

// Of a tree without a cgroup. Any thread.
std::vector<pid_t> MembersOf(const ProcessTreeView& tree, EveryProcess& everybody);

// All processes of one instance: the main one and whatever it started, double-forked and setsid'ed ones included.
// Known by its cgroup v2 where there is one. Else by session, by descent, and for orphans (which the subreaper above
// us has inherited) by the mark in the environment they were started with; a process that has left its session, lost
// its parents and wiped its environment then escapes, which is why the cgroup is the better way.
//
// Loop thread.
class ProcessTree {
 public:
  // The variable that carries the mark.
  static constexpr const char* kMarkVariable = "SUPERVISOR_INSTANCE";

  // `cgroup` may be null. `mark` is unique to the instance on this machine.
  ProcessTree(std::unique_ptr<Cgroup> cgroup, std::string mark) : cgroup_(std::move(cgroup)), mark_(std::move(mark)) {}

  const std::string& mark() const { return mark_; }
  // Null where it has none.
  const Cgroup* cgroup() const { return cgroup_.get(); }
  void SetCgroup(std::unique_ptr<Cgroup> cgroup) { cgroup_ = std::move(cgroup); }
  std::unique_ptr<Cgroup> TakeCgroup() { return std::move(cgroup_); }
  // Where the request's process is to live.
  void PlaceIn(SpawnRequest& request) const {
    request.cgroup = cgroup_ != nullptr ? cgroup_->path() : std::string();
    request.born_in_cgroup = cgroup_ != nullptr && cgroup_->TakesBirths();
  }

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
  // To all but `except`, each through a pidfd that was checked to stand for a process of this tree.
  void SignalAll(int signal, pid_t except) const;
  // SIGKILL to all, stopped ones included. May have to be repeated until Empty: processes can fork while we look.
  void Kill() const;

 private:
  std::unique_ptr<Cgroup> cgroup_;
  std::string mark_;
  std::vector<pid_t> sessions_;
  std::vector<pid_t> reaped_;
};

}  // namespace supervisor
