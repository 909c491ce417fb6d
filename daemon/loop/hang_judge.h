#pragma once

#include <cstdint>

#include "absl/time/time.h"

namespace supervisor {

// Decides, from looks at a loop's thread at regular times, whether it hangs. Pure.
//
// Only time that the thread spends in one and the same callback counts, and of that only what is the callback's own
// doing: waiting in a system call, or computing. A process that is stopped (SIGSTOP, a debugger), a machine that sleeps
// or swaps, and a thread that gets no processor do not make the callback a hanging one.
class HangJudge {
 public:
  static constexpr absl::Duration kInterval = absl::Seconds(2);  // between looks
  static constexpr absl::Duration kTellAfter = absl::Seconds(4);
  static constexpr absl::Duration kEndAfterWaiting = absl::Seconds(10);
  static constexpr absl::Duration kEndAfterComputing = absl::Seconds(30);

  enum class Thread {
    kWaits,    // interruptible sleep: a system call that may take for ever
    kRuns,     // computes, or would like to
    kStalled,  // stopped, traced, or in a wait that nothing interrupts: a disk, memory
  };
  struct Look {
    uint64_t callbacks = 0;  // as LoopPulse counts
    Thread thread = Thread::kRuns;
    absl::Duration cpu;         // of the thread, altogether
    absl::Duration since_last;  // the look before
  };
  enum class Verdict { kFine, kTell, kHangs };

  // kTell and kHangs come once each for a callback.
  Verdict Judge(const Look& look);
  // How long the callback has gone on, for the message.
  absl::Duration waited() const { return waited_; }
  absl::Duration computed() const { return computed_; }

 private:
  uint64_t callbacks_ = 0;
  absl::Duration cpu_;
  absl::Duration waited_;
  absl::Duration computed_;
  bool told_ = false;
  bool ended_ = false;
};

}  // namespace supervisor
