#include "daemon/health/verdict.h"

#include <algorithm>

namespace supervisor {
namespace {

VerdictChange ApplySuccess(const HealthCheckConfig& config, VerdictState state) {
  ++state.checks;
  ++state.successes;
  ++state.consecutive_successes;
  state.consecutive_failures = 0;
  state.succeeded_once = true;
  // A service that comes up owes nobody a streak; one that was declared unhealthy does.
  const int needed = state.health == Health::kUnhealthy ? std::max(1, config.success_threshold) : 1;
  if (state.health == Health::kHealthy || state.consecutive_successes < needed) {
    return {.state = state};
  }
  state.health = Health::kHealthy;
  return {.state = state, .became_healthy = true};
}

VerdictChange ApplyFailure(const HealthCheckConfig& config, VerdictState state, MonoTime now) {
  if (!state.succeeded_once && now - state.started < config.start_period) {
    return {.state = state};
  }
  ++state.checks;
  ++state.consecutive_failures;
  state.consecutive_successes = 0;
  if (state.health == Health::kUnhealthy || state.consecutive_failures < std::max(1, config.retries)) {
    return {.state = state};
  }
  state.health = Health::kUnhealthy;
  return {.state = state, .became_unhealthy = true};
}

}  // namespace

const char* HealthName(Health health) {
  switch (health) {
    case Health::kUnknown:
      return "unknown";
    case Health::kStarting:
      return "starting";
    case Health::kHealthy:
      return "healthy";
    case Health::kUnhealthy:
      return "unhealthy";
  }
  return "unknown";
}

std::optional<Health> ParseHealth(std::string_view name) {
  for (const Health health : {Health::kUnknown, Health::kStarting, Health::kHealthy, Health::kUnhealthy}) {
    if (name == HealthName(health)) {
      return health;
    }
  }
  return std::nullopt;
}

VerdictState VerdictAtStart(MonoTime now) {
  VerdictState state;
  state.health = Health::kStarting;
  state.started = now;
  return state;
}

VerdictChange ApplyResult(const HealthCheckConfig& config, VerdictState state, bool success, MonoTime now) {
  return success ? ApplySuccess(config, state) : ApplyFailure(config, state, now);
}

}  // namespace supervisor
