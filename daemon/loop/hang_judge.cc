#include "daemon/loop/hang_judge.h"

#include <algorithm>
#include <utility>

namespace supervisor {

HangJudge::Verdict HangJudge::Judge(const Look& look) {
  const bool is_running = look.callbacks % 2 != 0;
  if (!is_running || look.callbacks != callbacks_) {
    *this = {};
    callbacks_ = look.callbacks;
    cpu_ = look.cpu;
    return Verdict::kFine;
  }
  // A look that comes late was held up together with the thread.
  const bool is_on_time = look.since_last < 1.5 * kInterval;
  const absl::Duration computed = std::max(look.cpu - std::exchange(cpu_, look.cpu), absl::ZeroDuration());
  if (is_on_time) {
    switch (look.thread) {
      case Thread::kWaits:
        waited_ += look.since_last;
        break;
      case Thread::kRuns:
        computed_ += computed;
        break;
      case Thread::kStalled:
        break;
    }
  }
  if ((waited_ >= kEndAfterWaiting || computed_ >= kEndAfterComputing) && !std::exchange(ended_, true)) {
    return Verdict::kHangs;
  }
  return waited_ + computed_ >= kTellAfter && !std::exchange(told_, true) ? Verdict::kTell : Verdict::kFine;
}

}  // namespace supervisor
