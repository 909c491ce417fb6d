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

// What follows the end of a run. `attempts` restarts have been made since the service last proved itself; `random` is
// a number in [0, 1) for the jitter. The delay grows as delay * multiplier^attempts up to max_delay. Pure.
RestartDecision DecideRestart(const RestartPolicyConfig& policy, RunEnd end, int attempts, double random);

// The floor under `delay: 0`: a service that dies at once must not turn the machine into a fork bomb, whatever its
// configuration says. A token bucket as one time stamp (GCRA): kSpawnBurst restarts at once, then one each
// kSpawnSpacing. Returns how long the restart must wait, and moves `allowance`.
inline constexpr int kSpawnBurst = 20;
inline constexpr absl::Duration kSpawnSpacing = absl::Milliseconds(10);
absl::Duration TakeSpawnAllowance(MonoTime& allowance, MonoTime now);

// The next number in [0, 1) of the generator whose state is `state` (SplitMix64).
double NextRandom(uint64_t& state);

}  // namespace supervisor
