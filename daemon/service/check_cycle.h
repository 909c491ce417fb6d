#pragma once

#include <cstdint>
#include <optional>

#include "absl/time/time.h"
#include "common/clock.h"
#include "daemon/config/config.h"
#include "daemon/health/verdict.h"

namespace supervisor {

// When an instance's checks are made, and what their results mean: (state, what happened, now) -> (state, what is to be
// done). Pure, as the service machine is; HealthMonitor performs it, and the simulator drives both against each other.
//
//   * one check at a time: the next is due only after the result of the one before;
//   * each check has a number. What comes with another number than that of the check under way (it ended after its
//     process stopped or was started anew) changes nothing;
//   * readiness first: until the service is ready, failures count for nothing and checks come quickly. Liveness after
//     that: `retries` failures in a row call for `on_failure`;
//   * spread: the first check comes at random within a second, the second at random within the latter half of an
//     interval, each later one within 5 % of it. So five hundred that start together never fire together.
struct CheckCycleState {
  bool running = false;  // the process is there, and has a check
  bool awaits_readiness = false;
  bool under_way = false;
  uint64_t check = 0;          // number of the last check begun
  uint64_t results = 0;        // since the process was there
  MonoTime due = kNoDeadline;  // when Due is to be called; kNoDeadline while a check is under way
  VerdictState verdict;
  uint64_t random = 1;  // state of the generator
};

struct CheckCycleStep {
  CheckCycleState state;
  bool begin_check = false;   // number state.check
  bool cancel_check = false;  // the one that was under way
  bool took_result = false;   // the result counts: history and metrics
  bool became_healthy = false;
  bool became_unhealthy = false;
  // The service lives no more and `on_failure` says restart. Said by each failing result while it is unhealthy: one
  // that could not be followed when it was said first is followed by the next.
  bool wants_restart = false;
};

// The process is there. `verdict` of an earlier daemon's checks of this same process, where it was adopted: it goes on,
// unless the service is yet to become ready. Ends what went on before.
CheckCycleStep BeginChecks(const HealthCheckConfig& config, CheckCycleState state, bool awaits_readiness,
                           const std::optional<VerdictState>& verdict, MonoTime now);
// It is gone, or is asked to go.
CheckCycleStep EndChecks(CheckCycleState state);
// It is ready: from now on failures count.
CheckCycleStep ServiceIsReady(CheckCycleState state);
CheckCycleStep CheckIsDue(CheckCycleState state, MonoTime now);
CheckCycleStep TakeCheckResult(const HealthCheckConfig& config, CheckCycleState state, uint64_t check, bool success,
                               MonoTime now);
// It could not be made, which says nothing of the service: nothing changes, and the next comes when it would have.
CheckCycleStep AbandonCheck(const HealthCheckConfig& config, CheckCycleState state, MonoTime now);
// Another configuration of the checks of a running process: the verdict stays, and the next check comes soon. One under
// way ends by the old one.
CheckCycleStep ChangeChecks(const HealthCheckConfig& config, CheckCycleState state, MonoTime now);

}  // namespace supervisor
