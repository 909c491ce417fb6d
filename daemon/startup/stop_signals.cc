#include "daemon/startup/stop_signals.h"

#include <algorithm>
#include <csignal>
#include <utility>

namespace supervisor {
namespace {

// Two signals that follow each other at once are one impatient finger or two scripts: each service has so long at
// least.
constexpr absl::Duration kShortestGrace = absl::Seconds(2);

}  // namespace

SignalSource SourceOf(const signalfd_siginfo& info, pid_t guardian) {
  if (info.ssi_code == SI_KERNEL) {
    return SignalSource::kKernel;
  }
  return guardian != 0 && info.ssi_pid == static_cast<uint32_t>(guardian) ? SignalSource::kGuardian
                                                                          : SignalSource::kOther;
}

int StopRequests::Take(SignalSource source, bool has_guardian) {
  if (source == SignalSource::kKernel && has_guardian) {
    return 0;
  }
  ++counts_[source];
  return std::ranges::max_element(counts_, {}, [](const auto& count) { return count.second; })->second;
}

StopSignals::StopSignals(Loop& loop, Actions actions)
    : actions_(std::move(actions)), hurry_timer_(loop.NewTimer([this] { actions_.hurry(); })) {}

void StopSignals::Take(const signalfd_siginfo& info, pid_t guardian) {
  const int requests = requests_.Take(SourceOf(info, guardian), guardian != 0);
  if (requests == 1 && begun_ == MonoTime()) {
    begun_ = MonotonicNow();
  }
  if (requests == 1) {
    actions_.begin(static_cast<int>(info.ssi_signo));
  } else if (requests > 1) {
    hurry_timer_->ArmAfter(std::max(begun_ + kShortestGrace - MonotonicNow(), absl::ZeroDuration()));
  }
}

}  // namespace supervisor
