#pragma once

#include <cstdint>
#include <string>

#include "absl/time/time.h"
#include "common/clock.h"
#include "daemon/config/config.h"

namespace supervisor {

// How a run ended, as far as the policy cares.
enum class RunEnd {
  kSuccess,  // an exit code that counts as success
  kFailure,  // another code, a signal, a failed start, unhealthy, over a limit
};

struct RestartDecision {
  enum class Kind { kRestart, kGiveUp, kDone };
  Kind kind = Kind::kDone;
  absl::Duration delay;  // kRestart
  std::string why;       // kGiveUp: "gave up after 3 restarts", "restart_policy.mode is never"
};

// What follows the end of a run. `attempts` restarts after failures have been made since the service last proved
// itself; `random` is a number in [0, 1) for the jitter. After a failure the delay grows as delay * multiplier^attempts
// up to max_delay, and max_attempts is the bound. After a success (mode always) neither holds: a worker that recycles
// itself is restarted after `delay`, however often. Pure.
RestartDecision DecideRestart(const RestartPolicyConfig& policy, RunEnd end, int attempts, double random);

// How long a restart after so many waits; `random` as above, the default being the middle. Pure.
absl::Duration BackoffDelay(const RestartPolicyConfig& policy, int attempts, double random = 0.5);

// A token bucket: `burst` restarts at once, then one each `spacing`.
struct TokenBucket {
  int burst;
  absl::Duration spacing;
};
// The floor under `delay: 0`: a service that dies at once must not turn the machine into a fork bomb, whatever its
// configuration says.
inline constexpr TokenBucket kSpawnBucket{20, absl::Milliseconds(10)};
// And the one of all services together, against a storm: a thousand killed at once come back at once, a few times
// in a row, but a thousand that keep dying share what one core can start without being busy with nothing else.
inline constexpr TokenBucket kStormBucket{4000, absl::Microseconds(2500)};

// Takes one token. The bucket's state is one time stamp (the generic cell rate algorithm): when it would be full again.
// Returns how long the restart must wait.
absl::Duration TakeAllowance(MonoTime& allowance, MonoTime now, const TokenBucket& bucket);

// The next number in [0, 1) of the generator whose state is `state` (SplitMix64).
double NextRandom(uint64_t& state);

}  // namespace supervisor
