#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstdint>

namespace supervisor {

// What a thread that runs a loop lets its watchdog see (loop_watchdog.h). Each thread has its own: the log pump and the
// gate of the control socket run loops too, and what they do says nothing of supervision.
struct LoopPulse {
  std::atomic<pid_t> thread{0};        // its own; 0: it runs no loop
  std::atomic<uint64_t> callbacks{0};  // begun and ended: odd while one runs
};

LoopPulse& ThisThreadsPulse();

// For as long as a callback of the loop runs. Two atomic additions, so it can stand around every one of them.
class CallbackRuns {
 public:
  CallbackRuns() { ThisThreadsPulse().callbacks.fetch_add(1, std::memory_order_relaxed); }
  ~CallbackRuns() { ThisThreadsPulse().callbacks.fetch_add(1, std::memory_order_relaxed); }
  CallbackRuns(const CallbackRuns&) = delete;
  CallbackRuns& operator=(const CallbackRuns&) = delete;
};

}  // namespace supervisor
