#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <set>
#include <utility>

#include "common/unique_fd.h"
#include "daemon/loop/loop.h"

namespace supervisor {

// Without a guardian the daemon is the child subreaper (prctl(2)), in a container PID 1: orphans become its children,
// and those that have ended stay zombies until it reaps them. Children that somebody here waits for
// (process/own_child.h) are left alone, and so is, for one look, whoever is not known: its owner may be about to say
// so. Loop thread.
class StrangerReaper {
 public:
  // REQUIRES: SIGCHLD is blocked in every thread, which is how it is read here.
  explicit StrangerReaper(Loop& loop);

 private:
  using Process = std::pair<pid_t, uint64_t>;  // pid and start time, which no two have
  void Look();

  Loop& loop_;
  UniqueFd signal_fd_;
  std::unique_ptr<Loop::Watch> signal_watch_;
  std::unique_ptr<Loop::Timer> look_timer_;
  bool look_is_due_ = true;
  std::set<Process> seen_;  // at the last look: zombies nobody waits for
};

}  // namespace supervisor
