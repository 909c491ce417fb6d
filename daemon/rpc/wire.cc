#include "daemon/rpc/wire.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <string_view>

#include "daemon/store/row_text.h"

namespace supervisor::wire {
namespace {

v1::ServiceState ToWire(ServiceState state) {
  switch (state) {
    case ServiceState::kStopped:
      return v1::SERVICE_STATE_STOPPED;
    case ServiceState::kStarting:
      return v1::SERVICE_STATE_STARTING;
    case ServiceState::kRunning:
      return v1::SERVICE_STATE_RUNNING;
    case ServiceState::kStopping:
      return v1::SERVICE_STATE_STOPPING;
    case ServiceState::kBackoff:
      return v1::SERVICE_STATE_BACKOFF;
    case ServiceState::kFailed:
      return v1::SERVICE_STATE_FAILED;
    case ServiceState::kExited:
      return v1::SERVICE_STATE_EXITED;
  }
  return v1::SERVICE_STATE_UNSPECIFIED;
}

v1::ActionResult::Outcome ToWire(ActionOutcome::Kind kind) {
  switch (kind) {
    case ActionOutcome::Kind::kDone:
      return v1::ActionResult::OUTCOME_DONE;
    case ActionOutcome::Kind::kUnchanged:
      return v1::ActionResult::OUTCOME_UNCHANGED;
    case ActionOutcome::Kind::kAccepted:
      return v1::ActionResult::OUTCOME_ACCEPTED;
    case ActionOutcome::Kind::kFailed:
      return v1::ActionResult::OUTCOME_FAILED;
    case ActionOutcome::Kind::kTimedOut:
      return v1::ActionResult::OUTCOME_TIMED_OUT;
  }
  return v1::ActionResult::OUTCOME_UNSPECIFIED;
}

const char* CheckTypeName(HealthCheckType type) {
  switch (type) {
    case HealthCheckType::kNone:
      return "";
    case HealthCheckType::kHttp:
      return "http";
    case HealthCheckType::kTcp:
      return "tcp";
    case HealthCheckType::kProcess:
      return "process";
    case HealthCheckType::kScript:
      return "script";
    case HealthCheckType::kGrpc:
      return "grpc";
  }
  return "";
}

void FillLimits(const Instance& instance, v1::ServiceStatus* out) {
  const ResourceLimitsConfig& limits = instance.config().resource_limits;
  const LimitWays& ways = instance.limit_ways();
  out->set_limits_enforcement(LimitsEnforcement(ways));
  const auto add = [out](const char* name, double value, LimitWay way) {
    if (way != LimitWay::kNone) {
      v1::ResourceLimit* limit = out->add_limits();
      limit->set_name(name);
      limit->set_value(value);
      limit->set_enforcement(way == LimitWay::kCgroup ? "cgroup" : "watch");
    }
  };
  add("memory", limits.max_memory_mb, ways.memory);
  add("cpu", limits.max_cpu_percent, ways.cpu);
  add("processes", limits.max_processes, ways.processes);
}

}  // namespace

std::string Utf8(const std::string& text) { return WithValidUtf8(text); }

int64_t UnixMillis(absl::Time time) {
  return time == absl::InfinitePast() || time == absl::InfiniteFuture() ? 0 : absl::ToUnixMillis(time);
}

v1::HealthState ToWire(Health health) {
  switch (health) {
    case Health::kUnknown:
      return v1::HEALTH_STATE_UNKNOWN;
    case Health::kStarting:
      return v1::HEALTH_STATE_STARTING;
    case Health::kHealthy:
      return v1::HEALTH_STATE_HEALTHY;
    case Health::kUnhealthy:
      return v1::HEALTH_STATE_UNHEALTHY;
  }
  return v1::HEALTH_STATE_UNSPECIFIED;
}

v1::SystemHealth ToWire(SystemHealth health) {
  switch (health) {
    case SystemHealth::kHealthy:
      return v1::SYSTEM_HEALTH_HEALTHY;
    case SystemHealth::kDegraded:
      return v1::SYSTEM_HEALTH_DEGRADED;
    case SystemHealth::kCritical:
      return v1::SYSTEM_HEALTH_CRITICAL;
  }
  return v1::SYSTEM_HEALTH_UNSPECIFIED;
}

void FillStatus(const Instance& instance, const LogPump& logs, absl::Time now, v1::ServiceStatus* out) {
  const ServiceConfig& config = instance.config();
  const MachineState& machine = instance.machine();
  out->set_id(instance.id());
  out->set_service_id(config.id);
  out->set_name(config.name);
  out->set_description(config.description);
  out->set_state(ToWire(StateOf(machine.phase)));
  out->set_port(config.port);
  if (instance.pid() != 0) {
    out->set_pid(instance.pid());
    out->set_uptime_seconds(absl::ToDoubleSeconds(instance.uptime()));
    out->set_started_unix_ms(UnixMillis(instance.started()));
    out->set_cpu_percent(instance.usage().cpu_percent.value_or(0));
    out->set_memory_mb(instance.usage().memory_mb);
  }
  out->set_restart_count(static_cast<uint32_t>(machine.restart_count));
  out->set_health(ToWire(instance.health().health()));
  out->set_enabled(config.enabled);
  out->set_critical(config.critical);
  out->set_priority(config.priority);
  if (machine.last_exit) {
    if (const auto code = machine.last_exit->exit_code()) {
      out->set_exit_code(*code);
    } else if (const auto signal = machine.last_exit->signal()) {
      out->set_exit_signal(*signal);
    }
  }
  out->set_reason(Utf8(machine.reason));
  for (const std::string& group : config.groups) {
    out->add_groups(group);
  }
  for (const std::string& id : config.depends_on) {
    out->add_depends_on(id);
  }
  if (machine.phase == Phase::kBackoff) {
    out->set_next_start_unix_ms(UnixMillis(now + (machine.deadline - MonotonicNow())));
  }
  out->set_log_dropped_bytes(logs.Stats(instance.stdout_stream()).dropped_bytes +
                             logs.Stats(instance.stderr_stream()).dropped_bytes);
  FillLimits(instance, out);
  out->set_status_text(Utf8(instance.status_text()));
}

void FillHealth(const Instance& instance, size_t history, v1::ServiceHealth* out) {
  const HealthMonitor& monitor = instance.health();
  out->set_id(instance.id());
  out->set_health(ToWire(monitor.health()));
  out->set_check_type(CheckTypeName(instance.config().health_check.type));
  out->set_consecutive_failures(static_cast<uint32_t>(monitor.verdict().consecutive_failures));
  out->set_success_rate(monitor.verdict().success_rate());
  const std::deque<CheckResult>& results = monitor.history();
  if (!results.empty()) {
    out->set_last_check_unix_ms(UnixMillis(results.back().finished));
    out->set_response_time_ms(results.back().response_time_ms);
    out->set_message(Utf8(results.back().message));
  }
  for (size_t i = results.size() - std::min(history, results.size()); i < results.size(); ++i) {
    v1::HealthResult* entry = out->add_history();
    entry->set_timestamp_unix_ms(UnixMillis(results[i].finished));
    entry->set_health(results[i].success ? v1::HEALTH_STATE_HEALTHY : v1::HEALTH_STATE_UNHEALTHY);
    entry->set_response_time_ms(results[i].response_time_ms);
    entry->set_message(Utf8(results[i].message));
  }
}

void FillEvent(const EventRow& row, v1::Event* out) {
  out->set_id(row.id);
  out->set_service_id(Utf8(row.service_id));
  out->set_event_type(Utf8(row.event_type));
  out->set_timestamp_unix_ms(UnixMillis(row.timestamp));
  out->set_message(Utf8(row.message));
  out->set_details(Utf8(row.details));
  out->set_actor(Utf8(row.actor));
}

void FillReload(const ReloadResult& result, v1::ReloadResponse* out) {
  out->set_applied(result.applied);
  const auto fill = [](const std::vector<ServiceChange>& changes, auto add) {
    for (const ServiceChange& change : changes) {
      v1::ReloadChange* entry = add();
      entry->set_id(change.id);
      for (const std::string& key : change.keys) {
        const bool is_renamed = !change.was.empty() && key == "instances";
        entry->add_keys(is_renamed ? fmt::format("instances: it was {} so far", change.was) : key);
      }
    }
  };
  fill(result.plan.added, [out] { return out->add_added(); });
  fill(result.plan.removed, [out] { return out->add_removed(); });
  fill(result.plan.restarted, [out] { return out->add_restarted(); });
  fill(result.plan.updated, [out] { return out->add_updated(); });
  for (const std::string& id : result.plan.unchanged) {
    out->add_unchanged(id);
  }
  for (const std::string& key : result.plan.global_keys) {
    out->add_global_updated(key);
  }
  for (const std::string& key : result.plan.needs_daemon_restart) {
    out->add_needs_daemon_restart(key);
  }
  for (const std::string& error : result.errors) {
    out->add_errors(Utf8(error));
  }
}

void FillOutcome(const ActionOutcome& outcome, const Supervisor& supervisor, const LogPump& logs,
                 v1::ActionResult* out) {
  out->set_id(outcome.id);
  out->set_outcome(ToWire(outcome.kind));
  out->set_message(Utf8(outcome.message));
  out->set_implied(outcome.implied);
  out->set_is_dependent(outcome.is_dependent);
  out->set_left_running(Utf8(outcome.left_running));
  if (const Instance* instance = supervisor.Find(outcome.id)) {
    FillStatus(*instance, logs, WallNow(), out->mutable_service());
  }
}

grpc::Status ToGrpc(const absl::Status& status) {
  // It travels in the trailing metadata, of which a client takes 8 KiB, and what is no ASCII takes three times its
  // room.
  constexpr size_t kMostBytes = 2048;
  constexpr std::string_view kCut = "...";
  std::string message(status.message());
  if (message.size() > kMostBytes) {
    const auto is_within_character = [](char c) { return (static_cast<unsigned char>(c) & 0xC0U) == 0x80; };
    size_t end = kMostBytes - kCut.size();
    while (end > 0 && is_within_character(message[end])) {
      --end;
    }
    message.replace(end, std::string::npos, kCut);
  }
  return {static_cast<grpc::StatusCode>(status.code()), message};
}

}  // namespace supervisor::wire
