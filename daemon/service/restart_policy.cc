#include "daemon/service/restart_policy.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace supervisor {

absl::Duration BackoffDelay(const RestartPolicyConfig& policy, int attempts, double random) {
  // The exponent is capped where every configured delay has long reached a year.
  const double factor = std::pow(policy.backoff_multiplier, std::min(attempts, 64));
  absl::Duration delay = policy.delay * std::min(factor, 1e9);
  if (policy.max_delay > absl::ZeroDuration()) {
    delay = std::min(delay, std::max(policy.max_delay, policy.delay));
  }
  return delay * (1.0 + policy.jitter * (2.0 * random - 1.0));
}

RestartDecision DecideRestart(const RestartPolicyConfig& policy, RunEnd end, int attempts, double random) {
  using Kind = RestartDecision::Kind;
  switch (policy.mode) {
    case RestartMode::kNever:
      return end == RunEnd::kSuccess
                 ? RestartDecision{.kind = Kind::kDone, .delay = {}, .why = {}}
                 : RestartDecision{.kind = Kind::kGiveUp, .delay = {}, .why = "restart_policy.mode is never"};
    case RestartMode::kOnFailure:
      if (end == RunEnd::kSuccess) {
        return {.kind = Kind::kDone, .delay = {}, .why = {}};
      }
      break;
    case RestartMode::kAlways:
      if (end == RunEnd::kSuccess) {
        return {.kind = Kind::kRestart, .delay = BackoffDelay(policy, 0, random), .why = {}};
      }
      break;
  }
  if (policy.max_attempts > 0 && attempts >= policy.max_attempts) {
    return {.kind = Kind::kGiveUp,
            .delay = {},
            .why = fmt::format("gave up after {} restart{}", attempts, attempts == 1 ? "" : "s")};
  }
  return {.kind = Kind::kRestart, .delay = BackoffDelay(policy, attempts, random), .why = {}};
}

absl::Duration TakeAllowance(MonoTime& allowance, MonoTime now, const TokenBucket& bucket) {
  const MonoTime full = std::max(allowance, now) + bucket.spacing;
  const absl::Duration debt = full - now - bucket.burst * bucket.spacing;
  allowance = full;
  return std::max(debt, absl::ZeroDuration());
}

double NextRandom(uint64_t& state) {
  state += 0x9E3779B97F4A7C15u;
  uint64_t z = state;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  z ^= z >> 31;
  return static_cast<double>(z >> 11) * 0x1.0p-53;
}

}  // namespace supervisor
