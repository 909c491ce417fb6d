#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/time/time.h"
#include "daemon/config/config.h"

namespace supervisor {

// Something that somebody should know of, and that is over one day. At most one of a service and rule is open.
struct Alert {
  std::string service_id;  // of the instance; "supervisor": the daemon's own
  std::string rule;        // a name of alert_rule, or for the daemon's own what else there is
  Severity severity = Severity::kWarning;
  std::string message;
  std::string actor;                    // what found it: "policy", "health check", "limit", "kernel", "supervisor"
  std::vector<std::string> dependents;  // instances that the same cause affects, and that raise none of their own
  absl::Time raised;
  std::optional<absl::Time> resolved;  // none: it is open
  std::string resolution;              // why it is over
  // Of what a channel is told: how often it was told before that it is open. 0: not yet.
  int64_t repeats = 0;
};

namespace alert_rule {
inline constexpr std::string_view kFailed = "failed";                 // it gave up
inline constexpr std::string_view kUnhealthy = "unhealthy";           // by its health check
inline constexpr std::string_view kFlapping = "flapping";             // monitoring.alerts.restarts within a window
inline constexpr std::string_view kOutOfMemory = "oom";               // the kernel killed some of it
inline constexpr std::string_view kLimitExceeded = "limit_exceeded";  // one of resource_limits
inline constexpr std::string_view kCpu = "cpu";                       // monitoring.alerts.cpu_percent
inline constexpr std::string_view kMemory = "memory";                 // monitoring.alerts.memory_mb
inline constexpr std::string_view kDatabase = "database";             // the daemon's own: nothing can be written
inline constexpr std::string_view kChannelPrefix = "channel ";        // the daemon's own: a channel is dead
}  // namespace alert_rule

std::string_view SeverityName(Severity severity);
// kWarning for what is no name.
Severity ParseSeverity(std::string_view name);

}  // namespace supervisor
