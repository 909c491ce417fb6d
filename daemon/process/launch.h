#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <optional>

#include "absl/status/statusor.h"
#include "common/unique_fd.h"
#include "daemon/process/spawn.h"

namespace supervisor {

// A child that has exec'd, or not.
struct SpawnedChild {
  std::optional<SpawnFailure> failure;  // then it is gone and reaped, if it ever was
  pid_t pid = -1;
  UniqueFd pid_fd;
};

// The steps between clone(2) and execve(2), for child_process.cc, and for the scripts of checks (Run).
//
// The child shares this process's memory (CLONE_VM) until it execs, and runs at the same time. So all that it touches
// is prepared before and stays untouched by us until its report pipe ends; and it calls the kernel directly, for
// glibc's wrappers write errno, which is in the memory of the thread that cloned it.
class Launch {
 public:
  // Takes the few descriptors that every launch goes through. To be called early, while low numbers are free: what lies
  // below them is copied for each child. Start does it where nobody has.
  static absl::Status Prepare();

  // One thread at a time: waits until the child has left our descriptor table, which is its first system call. Not
  // until it execs, which a dead file system can hold up for ever.
  // Clones. Fails (with the Status of clone or of what it needs: descriptors, memory) where there is no child.
  static absl::StatusOr<std::unique_ptr<Launch>> Start(SpawnRequest request);

  // Any thread that may sleep as long as execve(2) does: for ever, on a dead file system, unless somebody kills what is
  // not yet born. The descriptors 0 to 2 are to be given, and cgroup, oom_score_adj and birth are not for this way.
  static SpawnedChild Run(SpawnRequest request);

  ~Launch();  // only after Finished() gave a result, or the process's memory goes too
  Launch(const Launch&) = delete;
  Launch& operator=(const Launch&) = delete;

  pid_t pid() const { return pid_; }
  uint64_t start_ticks() const { return start_ticks_; }
  UniqueFd TakePidFd() { return std::move(pid_fd_); }
  // Readable when Finished() has a result.
  int report_fd() const { return report_fd_.get(); }

  struct Result {
    std::optional<SpawnFailure> failure;  // none: exec'd
    bool must_kill = false;               // exec'd, and failed all the same
  };
  // Nothing while the child is still on its way. Never blocks.
  std::optional<Result> Finished();

 private:
  struct Plan;
  explicit Launch(std::unique_ptr<Plan> plan);
  Result SetOomScore() const;

  std::unique_ptr<Plan> plan_;
  UniqueFd report_fd_;
  UniqueFd pid_fd_;
  pid_t pid_ = -1;
  uint64_t start_ticks_ = 0;
};

}  // namespace supervisor
