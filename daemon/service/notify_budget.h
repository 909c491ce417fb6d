#pragma once

#include <cstdint>

#include "absl/time/time.h"
#include "common/clock.h"

namespace supervisor {

// How many notifications of one service are heard. Its main process and all its other processes together have a budget
// each (a token bucket), so children that talk without end do not drown its WATCHDOG=1. Pure.
class NotifyBudget {
 public:
  static constexpr int kASecond = 100;
  static constexpr int kAtOnce = 200;

  // False: it is over the budget, to be dropped, and counted.
  bool Take(bool is_main_process, MonoTime now);
  // Since the service was started.
  uint64_t dropped() const { return dropped_; }
  // True for the first that is dropped in a while: that is worth a word in the log, and the others are not.
  bool IsNews(MonoTime now);

 private:
  struct Bucket {
    MonoTime spent_until;  // the time at which it is full again
    bool Take(MonoTime now);
  };
  Bucket main_;
  Bucket others_;
  uint64_t dropped_ = 0;
  MonoTime quiet_until_ = -kNoDeadline;
};

}  // namespace supervisor
