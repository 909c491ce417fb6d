#pragma once

#include <optional>
#include <string_view>

#include "absl/time/time.h"
#include "common/clock.h"
#include "daemon/config/config.h"

namespace supervisor {

enum class Health { kUnknown, kStarting, kHealthy, kUnhealthy };
const char* HealthName(Health health);  // "unknown", "starting", "healthy", "unhealthy"

std::optional<Health> ParseHealth(std::string_view name);  // nothing for what is no such name

// The rules that turn single results into a verdict. Pure: no clock, no I/O.
//   * start: kStarting until the first verdict
//   * a success: healthy after success_threshold in a row (the first success suffices while starting)
//   * a failure: within start_period after the start it counts for nothing while no success was seen;
//     else unhealthy after `retries` failures in a row
struct VerdictState {
  Health health = Health::kUnknown;
  MonoTime started;
  int consecutive_failures = 0;
  int consecutive_successes = 0;
  bool succeeded_once = false;
  int64_t checks = 0;
  int64_t successes = 0;
  double success_rate() const {
    return checks == 0 ? 0 : 100.0 * static_cast<double>(successes) / static_cast<double>(checks);
  }
};

struct VerdictChange {
  VerdictState state;
  bool became_healthy = false;
  bool became_unhealthy = false;
};

VerdictState VerdictAtStart(MonoTime now);
VerdictChange ApplyResult(const HealthCheckConfig& config, VerdictState state, bool success, MonoTime now);

}  // namespace supervisor
