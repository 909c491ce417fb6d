#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <memory>
#include <utility>

#include "common/clock.h"
#include "common/unique_fd.h"
#include "daemon/loop/loop.h"

namespace supervisor {

// Reaps children of this process that nothing in it waits for; they would stay zombies for its lifetime.
//
//   beside a guardian    children that a service has made with CLONE_PARENT (clone(2)), so that they are not its own
//   without one          orphans too: then the daemon is the child subreaper (prctl(2)), in a container PID 1
//
// Children that something here waits for (process/own_child.h) are left alone, and so is, for a moment, a child that is
// not known: its owner may be about to claim it. Loop thread.
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
  std::map<Process, MonoTime> seen_;  // at the last look: zombies that nothing waits for, and since when
};

}  // namespace supervisor
