#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "daemon/process/boot_identity.h"
#include "daemon/process/spawn.h"

namespace supervisor {

// What a process was cloned for, and with which counters: what its instance's record is going to say of it.
struct BirthPlan {
  std::string name;     // "web", "worker:0", "web#pre_start"; at most kMostName bytes
  uint64_t number = 0;  // of its instance's starts: rises over all daemons; 0 for hooks
  int attempts = 0;
  int restart_count = 0;
  int64_t started_unix_ms = 0;
  int64_t watchdog_us = 0;
  uint64_t begun_ticks = 0;  // when, as /proc/PID/stat counts: the process is not older, and hardly younger
  std::string mark;          // RunMark::secret
};

// The processes that this daemon has brought into the world and that stand on no record yet. A file in shared memory
// (mmap(2), MAP_SHARED), which outlives this process: the kernel itself puts the pid there before the child runs
// (CLONE_PARENT_SETTID), so no instant lies between a process's being and its being known; and no system call is spent
// on it. A daemon that dies between a clone and its record leaves an entry behind, by which the next one finds the
// process, or knows whose exit code the guardian has.
class BirthJournal {
 public:
  static constexpr size_t kMostName = 94;

  // What an earlier daemon has left.
  struct Left {
    BirthPlan plan;
    BirthNote note{};
  };

  // One entry: there while this is held, which is until the process is on record or gone. Any thread may let go of it.
  class Birth {
   public:
    virtual ~Birth() = default;
    // In shared memory, for the kernel and the child to write to.
    virtual BirthNote* note() = 0;
  };

  // Takes what lies there, unless it is of another boot than `boot`: its pids are nobody's. A file that is none of ours
  // is set aside (<path>.damaged).
  static absl::StatusOr<std::unique_ptr<BirthJournal>> Open(const std::string& path, const BootIdentity& boot);
  virtual ~BirthJournal() = default;

  // Oldest first, as far as that is known: by number.
  virtual const std::vector<Left>& left() const = 0;
  // All of that is on record by now.
  virtual void ForgetLeft() = 0;
  // Where the file was removed: a new one, for the births to come. Those of now stay where they are. Loop thread.
  virtual absl::Status MakeAnew(const std::string& path) = 0;
  // Null where there is no room (a full file system): the process then is found by its record alone. Loop thread.
  virtual std::shared_ptr<Birth> Begin(const BirthPlan& plan) = 0;
};

}  // namespace supervisor
