#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

#include "daemon/loop/hang_judge.h"
#include "daemon/loop/loop_pulse.h"

namespace supervisor {

// Looks after the loop's thread from a thread of its own: a callback that hangs (hang_judge.h) takes all supervision
// with it, and nobody else would notice. Whatever the cause, the daemon's death is the lesser evil where a guardian
// starts the next one, which takes over all that runs.
class LoopWatchdog {
 public:
  struct Observer {
    // On the watchdog's thread, which is not to wait for the loop. `what` says how long, and in which system call.
    std::function<void(const std::string& what)> on_slow;
    std::function<void(const std::string& what)> on_hung;
  };
  // Watches the loop of the thread that makes it, which outlives it.
  explicit LoopWatchdog(Observer observer);
  ~LoopWatchdog();
  LoopWatchdog(const LoopWatchdog&) = delete;
  LoopWatchdog& operator=(const LoopWatchdog&) = delete;

 private:
  void Run();
  void Look(absl::Duration since_last);

  const LoopPulse& pulse_;
  const Observer observer_;
  HangJudge judge_;  // the thread's own
  std::mutex mutex_;
  std::condition_variable wake_;
  bool ends_ = false;
  std::thread thread_;
};

}  // namespace supervisor
