#include "daemon/service/check_cycle.h"

#include <algorithm>
#include <utility>

#include "daemon/service/restart_policy.h"

namespace supervisor {
namespace {

// How often one looks while somebody waits for the service to be ready.
constexpr absl::Duration kReadinessInterval = absl::Milliseconds(250);
// A service is looked at soon after it has started, whatever its interval.
constexpr absl::Duration kFirstCheck = absl::Seconds(1);
constexpr double kSpread = 0.1;

absl::Duration Pause(const HealthCheckConfig& config, CheckCycleState& state) {
  const double random = NextRandom(state.random);
  return config.interval * (state.results == 1 ? 0.5 + 0.5 * random : 1.0 + kSpread * (random - 0.5));
}

}  // namespace

CheckCycleStep BeginChecks(const HealthCheckConfig& config, CheckCycleState state, bool awaits_readiness,
                           const std::optional<VerdictState>& verdict, MonoTime now) {
  CheckCycleStep step = EndChecks(state);
  if (config.type == HealthCheckType::kNone) {
    return step;
  }
  step.state.running = true;
  step.state.awaits_readiness = awaits_readiness;
  step.state.results = 0;
  step.state.verdict = verdict && !awaits_readiness ? *verdict : VerdictAtStart(now);
  step.state.due =
      awaits_readiness ? now : now + std::min(config.interval, kFirstCheck) * NextRandom(step.state.random);
  return step;
}

CheckCycleStep EndChecks(CheckCycleState state) {
  const bool under_way = std::exchange(state.under_way, false);
  state.running = false;
  state.awaits_readiness = false;
  state.due = kNoDeadline;
  return {.state = state, .cancel_check = under_way};
}

CheckCycleStep ServiceIsReady(CheckCycleState state) {
  state.awaits_readiness = false;
  return {.state = state};
}

CheckCycleStep CheckIsDue(CheckCycleState state, MonoTime now) {
  if (!state.running || state.under_way || now < state.due) {
    return {.state = state};
  }
  state.under_way = true;
  state.due = kNoDeadline;
  ++state.check;
  return {.state = state, .begin_check = true};
}

CheckCycleStep TakeCheckResult(const HealthCheckConfig& config, CheckCycleState state, uint64_t check, bool success,
                               MonoTime now) {
  if (!state.running || !state.under_way || check != state.check) {
    return {.state = state};
  }
  state.under_way = false;
  ++state.results;
  HealthCheckConfig rules = config;
  if (state.awaits_readiness) {
    rules.start_period = absl::InfiniteDuration();
  }
  const VerdictChange change = ApplyResult(rules, state.verdict, success, now);
  state.verdict = change.state;
  const bool waits = state.awaits_readiness && !success;
  state.due = now + (waits ? std::min(config.interval, kReadinessInterval) : Pause(config, state));
  return {.state = state,
          .took_result = true,
          .became_healthy = change.became_healthy,
          .became_unhealthy = change.became_unhealthy,
          .wants_restart =
              !success && change.state.health == Health::kUnhealthy && config.on_failure == OnFailure::kRestart};
}

CheckCycleStep AbandonCheck(const HealthCheckConfig& config, CheckCycleState state, MonoTime now) {
  if (std::exchange(state.under_way, false)) {
    state.due = now + Pause(config, state);
  }
  return {.state = state};
}

CheckCycleStep ChangeChecks(const HealthCheckConfig& config, CheckCycleState state, MonoTime now) {
  if (config.type == HealthCheckType::kNone) {
    return EndChecks(state);
  }
  if (!state.running) {
    return BeginChecks(config, state, false, std::nullopt, now);
  }
  if (!state.under_way) {
    state.due = now + std::min(config.interval, state.awaits_readiness ? kReadinessInterval : kFirstCheck);
  }
  return {.state = state};
}

}  // namespace supervisor
