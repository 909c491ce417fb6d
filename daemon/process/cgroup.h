#pragma once

#include <sys/types.h>

#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/unique_fd.h"
#include "daemon/process/cgroup_limits.h"

namespace supervisor {

// One cgroup v2 of an instance: it knows every process that the instance ever started, whatever those did to hide
// (kernel: Documentation/admin-guide/cgroup-v2.rst). Works without controllers: an empty v2 hierarchy beside v1 will
// do.
class Cgroup {
 public:
  // CgroupRoot::Create makes them. `path`: its directory. `is_new`: it was made just now.
  Cgroup(std::string path, const CgroupControllers& controllers, bool is_new);
  ~Cgroup();  // removes the directory when it is empty
  Cgroup(const Cgroup&) = delete;
  Cgroup& operator=(const Cgroup&) = delete;

  const std::string& path() const { return path_; }
  // Those that this cgroup has the files of.
  const CgroupControllers& controllers() const { return controllers_; }
  bool Populated() const;
  // Processes in it and in cgroups below it.
  std::vector<pid_t> Pids() const;
  // A process may be born in it (CLONE_INTO_CGROUP, clone(2)), rather than moved into it. Not where cgroup.kill has
  // ever been used: Linux 6.12 and later (and stable kernels since) then take the birth for one that the kill has to
  // reach, since they compare with the count of kills of the parent's cgroup (cgroup_css_set_fork), and kill the
  // newborn.
  bool TakesBirths() const { return is_new_ && !killed_; }
  // SIGKILL to all of them at once (cgroup.kill, Linux 5.14), whosever they are. NotFound where the kernel does not
  // have it.
  absl::Status Kill() const;
  // To be called before a process is to move in: see MakeCgroupHabitable.
  void MakeHabitable() const;

  // One of its files, "memory.events"; empty where it is not there.
  std::string Read(const char* file) const;
  absl::Status Write(const char* file, const std::string& value) const;

 private:
  std::string path_;
  bool is_new_;
  mutable bool killed_ = false;
  CgroupControllers controllers_;
  mutable UniqueFd listing_fd_;  // cgroup.procs, kept open once it was read: it is read again every few seconds
};

// Of the cgroup in that directory and those below it. Any thread.
std::vector<pid_t> PidsBelow(const std::string& cgroup);

// Where this daemon may make cgroups, below its own one or, when that was left for a leaf (see below), beside it:
//
//   BASE                           where supervisord was started
//   ├── supervisord.NAME.daemon    guardian and daemon, where they may not stay in BASE
//   └── supervisord.NAME           this
//       ├── web                    a service each
//       └── worker:0
class CgroupRoot {
 public:
  // Null where there is no v2 hierarchy, or no right to make directories in it. `name` tells daemons apart: the next
  // daemon of the same name finds the same cgroups, wherever below BASE it was started. Moves and enables nothing.
  static std::unique_ptr<CgroupRoot> Detect(const std::string& name);
  // Removes what is empty, and when nothing else uses BASE by now, puts it back as it was found.
  ~CgroupRoot();
  CgroupRoot(const CgroupRoot&) = delete;
  CgroupRoot& operator=(const CgroupRoot&) = delete;

  // Hands the controllers that limits need, as far as BASE has them, to the cgroups that will be made here. A cgroup
  // but the real root hands on controllers only while it holds no process itself, so BASE's processes have to leave for
  // the leaf. That is done only where BASE is ours: the root of a cgroup namespace (a container), delegated to us
  // (systemd's Delegate=, which sets the attribute user.delegate or trusted.delegate:
  // https://systemd.io/CGROUP_DELEGATION), or home to nobody but `ours`, the supervisor's own processes.
  // To be called once, before Create. Says, for the log, which way limits will be in force and why.
  std::string TakeControllers(const std::vector<pid_t>& ours);

  // Makes those of many, ahead of Create, on another thread than the loop's: at boot, while that is busy with other
  // things. What it comes too late for it leaves alone. After TakeControllers.
  void Prepare(const std::vector<std::string>& instance_ids);
  // In place of one that is left of that name; that one itself where something still lives in it.
  absl::StatusOr<std::unique_ptr<Cgroup>> Create(const std::string& instance_id) const;
  // The one of that name that an earlier daemon has left, with or without processes in it, and with what the kernel has
  // counted; null where there is none.
  std::unique_ptr<Cgroup> Find(const std::string& instance_id) const;
  // There is no such cgroup for certain: nothing was here before this daemon.
  bool WasEmpty() const { return !was_there_; }
  const std::string& path() const { return path_; }
  const CgroupControllers& controllers() const { return controllers_; }

 private:
  CgroupRoot(std::string base, std::string path, std::string own, bool was_there)
      : base_(std::move(base)), path_(std::move(path)), own_(std::move(own)), was_there_(was_there) {}
  std::string leaf() const { return path_ + ".daemon"; }
  bool IsRealRoot() const;
  // Why BASE's processes may not be moved; empty: they may. `processes`: those in it.
  std::string WhyNotOurs(const std::vector<pid_t>& processes, const std::vector<pid_t>& ours) const;
  absl::Status MoveToLeaf(const std::vector<pid_t>& ours) const;
  void LeaveServicesCgroup(const std::vector<pid_t>& ours) const;
  void PutBack() const;

  std::string base_;
  std::string path_;
  std::string own_;  // the cgroup that this process was found in
  bool was_there_;   // path_, before this daemon
  CgroupControllers controllers_;
  mutable std::mutex mutex_;                             // over the two sets
  mutable std::set<std::string, std::less<>> prepared_;  // made, and not asked for yet
  mutable std::set<std::string, std::less<>> created_;   // asked for
};

// BASE for a daemon `name` that was found in the cgroup `own` ("/a/b", "/"): "" for the hierarchy's root. A daemon that
// was started from within its predecessor's cgroups must not nest in them, nor one from another daemon's leaf.
std::string CgroupBaseOf(const std::string& own, const std::string& name);

}  // namespace supervisor
