#pragma once

#include <optional>
#include <string>
#include <vector>

#include "common/clock.h"
#include "daemon/config/config.h"
#include "daemon/process/cgroup.h"
#include "daemon/process/usage.h"
#include "daemon/process/wait_status.h"

namespace supervisor {

// What an instance may use: puts its limits into its cgroup where the kernel can enforce them, watches the others, and
// reads what the kernel counted (kernel: Documentation/admin-guide/cgroup-v2.rst, memory.events and pids.events).
// Owned by the instance; loop thread. `cgroup` is null everywhere where the instance has none.
class LimitKeeper {
 public:
  // Something for the events of the instance.
  struct Finding {
    std::string type;  // "oom_killed", "limit_exceeded"
    std::string message;
    std::string actor;
    bool must_restart = false;  // a watched limit with on_exceed "restart"
  };
  // What the kernel had counted when it was last looked at; kept in the record, for the next daemon to go on from.
  struct Counters {
    MemoryEvents memory;
    uint64_t refused_forks = 0;
    bool operator==(const Counters&) const = default;
  };

  // Writes the settings of the limits. What can't be written is watched. Returns the errors, for the log.
  std::vector<std::string> Apply(const Cgroup* cgroup, const ResourceLimitsConfig& limits);
  // Which way each limit will be in force for one that has no cgroup yet.
  void Foresee(const ResourceLimitsConfig& limits, const CgroupControllers& offered) {
    ways_ = ChooseLimitWays(limits, offered);
  }
  const LimitWays& ways() const { return ways_; }

  // Lifts the limit of memory, until Apply is called again. For a process that has not come to its execve(2): it is on
  // this process's memory, and the kernel kills for want of memory all who share what it chose (mm/oom_kill.c,
  // __oom_kill_process).
  void LeaveRoomForExec(const Cgroup* cgroup) const;
  // A process is about to be started: what is counted from now on is its run's.
  void BeginRun(const Cgroup* cgroup);
  // A process was taken over, whose run began with an earlier daemon.
  void ResumeRun(const Counters& counters);
  const Counters& counters() const { return seen_; }
  // At the last look it was over a watched limit, or was refused a process. None: of a run that was taken over there
  // was no look yet.
  std::optional<bool> exceeded() const {
    return unseen_ ? std::nullopt : std::optional(told_.memory || told_.cpu || told_.processes || told_.refused_forks);
  }

  // While it runs: `processes` and `usage` are its whole tree's. A CPU rate that is not known says neither that the
  // limit is exceeded nor that it is kept.
  std::vector<Finding> Look(const Cgroup* cgroup, const ResourceLimitsConfig& limits, const Usage& usage,
                            size_t processes, MonoTime now);

  // Its main process has ended. `why`: "out of memory (limit 64 MB)", where the kernel's want of memory has killed it.
  struct End {
    std::vector<Finding> findings;
    std::string why;
  };
  End LookAtEnd(const Cgroup* cgroup, const ResourceLimitsConfig& limits, const WaitStatus& status, MonoTime now);

 private:
  void TakeOomKills(const Cgroup* cgroup, const ResourceLimitsConfig& limits, MonoTime now,
                    std::vector<Finding>& findings);
  void TakeRefusedForks(const Cgroup* cgroup, const ResourceLimitsConfig& limits, std::vector<Finding>& findings);
  void Watch(const Cgroup* cgroup, const ResourceLimitsConfig& limits, const Usage& usage, size_t processes,
             std::vector<Finding>& findings);

  LimitWays ways_;
  Counters seen_;
  MemoryEvents at_start_;            // of this run
  MonoTime oom_kill_ = kNoDeadline;  // when the last one was seen; kNoDeadline: none in this run
  // What is told already, and goes on.
  struct Told {
    bool memory = false;
    bool cpu = false;
    bool processes = false;
    bool refused_forks = false;
  };
  Told told_;
  bool unseen_ = false;  // taken over, and not looked at since
};

}  // namespace supervisor
