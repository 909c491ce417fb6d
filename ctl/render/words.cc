#include "ctl/render/words.h"

#include <fmt/format.h>

#include <cmath>

#include "absl/time/time.h"
#include "common/signal_names.h"
#include "common/time_format.h"

namespace supervisor {

// Protocol Buffers adds two sentinels to each enumeration, and a newer daemon may send numbers that this client does
// not know: both, like UNSPECIFIED, read "unknown".
std::string_view StateWord(v1::ServiceState state) {
  switch (state) {
    case v1::SERVICE_STATE_STOPPED:
      return "stopped";
    case v1::SERVICE_STATE_STARTING:
      return "starting";
    case v1::SERVICE_STATE_RUNNING:
      return "running";
    case v1::SERVICE_STATE_STOPPING:
      return "stopping";
    case v1::SERVICE_STATE_BACKOFF:
      return "backoff";
    case v1::SERVICE_STATE_FAILED:
      return "failed";
    case v1::SERVICE_STATE_EXITED:
      return "exited";
    case v1::SERVICE_STATE_UNSPECIFIED:
    case v1::ServiceState_INT_MIN_SENTINEL_DO_NOT_USE_:
    case v1::ServiceState_INT_MAX_SENTINEL_DO_NOT_USE_:
      break;
  }
  return "unknown";
}

std::string_view HealthWord(v1::HealthState health) {
  switch (health) {
    case v1::HEALTH_STATE_STARTING:
      return "starting";
    case v1::HEALTH_STATE_HEALTHY:
      return "healthy";
    case v1::HEALTH_STATE_UNHEALTHY:
      return "unhealthy";
    case v1::HEALTH_STATE_UNKNOWN:
    case v1::HEALTH_STATE_UNSPECIFIED:
    case v1::HealthState_INT_MIN_SENTINEL_DO_NOT_USE_:
    case v1::HealthState_INT_MAX_SENTINEL_DO_NOT_USE_:
      break;
  }
  return "unknown";
}

std::string_view SystemHealthWord(v1::SystemHealth health) {
  switch (health) {
    case v1::SYSTEM_HEALTH_HEALTHY:
      return "healthy";
    case v1::SYSTEM_HEALTH_DEGRADED:
      return "degraded";
    case v1::SYSTEM_HEALTH_CRITICAL:
      return "critical";
    case v1::SYSTEM_HEALTH_UNSPECIFIED:
    case v1::SystemHealth_INT_MIN_SENTINEL_DO_NOT_USE_:
    case v1::SystemHealth_INT_MAX_SENTINEL_DO_NOT_USE_:
      break;
  }
  return "unknown";
}

std::string_view OutcomeWord(v1::ActionResult::Outcome outcome) {
  switch (outcome) {
    case v1::ActionResult::OUTCOME_DONE:
      return "done";
    case v1::ActionResult::OUTCOME_UNCHANGED:
      return "unchanged";
    case v1::ActionResult::OUTCOME_ACCEPTED:
      return "accepted";
    case v1::ActionResult::OUTCOME_FAILED:
      return "failed";
    case v1::ActionResult::OUTCOME_TIMED_OUT:
      return "timed_out";
    case v1::ActionResult::OUTCOME_UNSPECIFIED:
    case v1::ActionResult_Outcome_ActionResult_Outcome_INT_MIN_SENTINEL_DO_NOT_USE_:
    case v1::ActionResult_Outcome_ActionResult_Outcome_INT_MAX_SENTINEL_DO_NOT_USE_:
      break;
  }
  return "unknown";
}

std::string MemoryText(double megabytes) {
  if (!std::isfinite(megabytes) || megabytes <= 0) {
    return "-";
  }
  return megabytes < 1024 ? fmt::format("{:.1f} MB", megabytes) : fmt::format("{:.1f} GB", megabytes / 1024);
}

std::string CpuText(double percent) {
  return std::isfinite(percent) && percent >= 0 ? fmt::format("{:.1f}%", percent) : "-";
}

std::string MillisecondsText(double milliseconds) {
  if (!std::isfinite(milliseconds) || milliseconds < 0) {
    return "-";
  }
  return milliseconds < 1000 ? fmt::format("{:.1f} ms", milliseconds) : fmt::format("{:.2f} s", milliseconds / 1000);
}

std::string UptimeText(double seconds) {
  return std::isfinite(seconds) && seconds > 0 ? FormatSpan(absl::Seconds(seconds)) : "-";
}

std::string TimeText(int64_t unix_ms) { return unix_ms == 0 ? "-" : FormatTimestamp(absl::FromUnixMillis(unix_ms)); }

std::string LastExitText(const v1::ServiceStatus& service) {
  if (service.has_exit_signal() && service.exit_signal() != 0) {
    return fmt::format("killed by {}", SignalName(service.exit_signal()));
  }
  return service.has_exit_code() ? fmt::format("exit code {}", service.exit_code()) : std::string();
}

std::string LimitsText(const v1::ServiceStatus& service) {
  std::string out;
  for (const v1::ResourceLimit& limit : service.limits()) {
    const std::string_view unit = limit.name() == "memory" ? " MB" : limit.name() == "cpu" ? "%" : "";
    std::string way = limit.enforcement();
    if (way == "watch") {
      way = limit.watch_interval_seconds() > 0
                ? fmt::format("watched every {}", FormatSpan(absl::Seconds(limit.watch_interval_seconds())))
                : "watched";
    }
    out += fmt::format("{}{} {:.6g}{} ({})", out.empty() ? "" : ", ", limit.name(), limit.value(), unit, way);
  }
  return out;
}

bool IsUpOrFinished(v1::ServiceState state) {
  return state == v1::SERVICE_STATE_RUNNING || state == v1::SERVICE_STATE_EXITED;
}

}  // namespace supervisor
