#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <mutex>

#include "daemon/loop/thread_priority.h"
#include "daemon/loop/worker.h"

namespace supervisor {

// The threads that read logs for `logs` calls. What is there to be told at once (a line that has just come, the last
// ten lines) is read by one; what takes long (a follower far behind, a search through all that is kept) by others, at
// the lowest priority: two hundred followers of a flood then take what processor time is left, and neither the capture
// nor another's line waits for them. Thread-safe.
class LogWorkers {
 public:
  LogWorkers() = default;
  LogWorkers(const LogWorkers&) = delete;
  LogWorkers& operator=(const LogWorkers&) = delete;

  Worker& Prompt() { return prompt_; }
  // The same for the same number.
  Worker& Patient(size_t number) {
    std::call_once(lowered_, [this] {
      for (Worker& worker : patient_) {
        worker.Post(LowerThreadPriority);
      }
    });
    return patient_[number % patient_.size()];
  }
  size_t NextNumber() { return next_++; }

 private:
  Worker prompt_;
  std::array<Worker, 2> patient_;
  std::once_flag lowered_;
  std::atomic<size_t> next_{0};
};

}  // namespace supervisor
