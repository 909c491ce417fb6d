#include "ctl/render/json.h"

#include "common/version.h"
#include "ctl/render/words.h"

namespace supervisor {
namespace {

template <class Strings>
void WriteStrings(JsonWriter& json, std::string_view key, const Strings& values) {
  json.Key(key).BeginArray();
  for (const auto& value : values) {
    json.String(value);
  }
  json.EndArray();
}

// The keys that the contract gives a service, and their order.
void WriteServiceKeys(JsonWriter& json, const v1::ServiceStatus& service) {
  json.Key("id").String(service.id());
  json.Key("name").String(service.name().empty() ? service.id() : service.name());
  json.Key("state").String(StateWord(service.state()));
  json.Key("pid").Int(service.pid());
  json.Key("port").Unsigned(service.port());
  json.Key("uptime_seconds").Double(service.uptime_seconds());
  json.Key("restart_count").Unsigned(service.restart_count());
  json.Key("health").String(HealthWord(service.health()));
  json.Key("cpu_percent").Double(service.cpu_percent());
  json.Key("memory_mb").Double(service.memory_mb());
  json.Key("enabled").Bool(service.enabled());
  json.Key("critical").Bool(service.critical());
  json.Key("priority").Int(service.priority());
  json.Key("exit_code");
  service.has_exit_code() ? json.Int(service.exit_code()) : json.Null();
  json.Key("exit_signal");
  service.has_exit_signal() ? json.Int(service.exit_signal()) : json.Null();
  json.Key("reason").String(service.reason());
}

void WriteLimits(JsonWriter& json, const v1::ServiceStatus& service) {
  json.Key("limits").BeginArray();
  for (const v1::ResourceLimit& limit : service.limits()) {
    json.BeginObject();
    json.Key("name").String(limit.name());
    json.Key("value").Double(limit.value());
    json.Key("enforcement").String(limit.enforcement());
    json.Key("watch_interval_seconds").Double(limit.watch_interval_seconds());
    json.EndObject();
  }
  json.EndArray();
}

void WriteService(JsonWriter& json, const v1::ServiceStatus& service) {
  json.BeginObject();
  WriteServiceKeys(json, service);
  json.EndObject();
}

void WriteServices(JsonWriter& json, const google::protobuf::RepeatedPtrField<v1::ServiceStatus>& services) {
  json.Key("services").BeginArray();
  for (const v1::ServiceStatus& service : services) {
    WriteService(json, service);
  }
  json.EndArray();
}

void WriteEvent(JsonWriter& json, const v1::Event& event) {
  json.BeginObject();
  json.Key("id").Int(event.id());
  json.Key("service_id").String(event.service_id());
  json.Key("event_type").String(event.event_type());
  json.Key("timestamp").Timestamp(event.timestamp_unix_ms());
  json.Key("message").String(event.message());
  json.Key("details").Details(event.details());
  json.Key("actor").String(event.actor());
  json.EndObject();
}

void WriteEvents(JsonWriter& json, const google::protobuf::RepeatedPtrField<v1::Event>& events) {
  json.Key("events").BeginArray();
  for (const v1::Event& event : events) {
    WriteEvent(json, event);
  }
  json.EndArray();
}

void WriteServiceHealth(JsonWriter& json, const v1::ServiceHealth& service) {
  json.BeginObject();
  json.Key("id").String(service.id());
  json.Key("health").String(HealthWord(service.health()));
  json.Key("check_type").String(service.check_type());
  json.Key("last_check").Timestamp(service.last_check_unix_ms());
  json.Key("response_time_ms").Double(service.response_time_ms());
  json.Key("consecutive_failures").Unsigned(service.consecutive_failures());
  json.Key("success_rate").Double(service.success_rate());
  json.Key("message").String(service.message());
  json.Key("history").BeginArray();
  for (const v1::HealthResult& result : service.history()) {
    json.BeginObject();
    json.Key("timestamp").Timestamp(result.timestamp_unix_ms());
    json.Key("health").String(HealthWord(result.health()));
    json.Key("response_time_ms").Double(result.response_time_ms());
    json.Key("message").String(result.message());
    json.EndObject();
  }
  json.EndArray();
  json.EndObject();
}

void WriteChanges(JsonWriter& json, std::string_view key,
                  const google::protobuf::RepeatedPtrField<v1::ReloadChange>& changes) {
  json.Key(key).BeginArray();
  for (const v1::ReloadChange& change : changes) {
    json.String(change.id());
  }
  json.EndArray();
}

template <class Write>
std::string Object(const Write& write) {
  JsonWriter json;
  json.BeginObject();
  write(json);
  json.EndObject();
  return json.Take();
}

}  // namespace

std::string StatusJson(const v1::StatusResponse& response) {
  return Object([&](JsonWriter& json) { WriteServices(json, response.services()); });
}

std::string ActionJson(const google::protobuf::RepeatedPtrField<v1::ActionResult>& results) {
  return Object([&](JsonWriter& json) {
    json.Key("results").BeginArray();
    for (const v1::ActionResult& result : results) {
      json.BeginObject();
      json.Key("id").String(result.id());
      json.Key("outcome").String(OutcomeWord(result.outcome()));
      json.Key("message").String(result.message());
      json.Key("implied").Bool(result.implied());
      json.Key("is_dependent").Bool(result.is_dependent());
      json.Key("left_running").String(result.left_running());
      json.Key("service");
      if (result.has_service()) {
        WriteService(json, result.service());
      } else {
        json.Null();
      }
      json.EndObject();
    }
    json.EndArray();
  });
}

std::string HealthJson(const v1::HealthResponse& response) {
  return Object([&](JsonWriter& json) {
    json.Key("status").String(SystemHealthWord(response.status()));
    json.Key("services").BeginArray();
    for (const v1::ServiceHealth& service : response.services()) {
      WriteServiceHealth(json, service);
    }
    json.EndArray();
  });
}

std::string EventsJson(const google::protobuf::RepeatedPtrField<v1::Event>& events) {
  return Object([&](JsonWriter& json) { WriteEvents(json, events); });
}

std::string EventJson(const v1::Event& event) {
  JsonWriter json;
  WriteEvent(json, event);
  return json.Take();
}

std::string SummaryJson(const v1::SummaryResponse& response) {
  return Object([&](JsonWriter& json) {
    json.Key("status").String(SystemHealthWord(response.status()));
    json.Key("total").Unsigned(response.total());
    json.Key("running").Unsigned(response.running());
    json.Key("stopped").Unsigned(response.stopped());
    json.Key("failed").Unsigned(response.failed());
    json.Key("unhealthy").Unsigned(response.unhealthy());
    json.Key("restarts").Unsigned(response.restarts());
    json.Key("alerts").Unsigned(response.alerts());
    json.Key("uptime_seconds").Double(response.uptime_seconds());
    json.Key("cpu_percent").Double(response.cpu_percent());
    json.Key("memory_mb").Double(response.memory_mb());
    json.Key("version").String(response.version());
    WriteServices(json, response.services());
  });
}

std::string ExplainJson(const v1::ExplainResponse& response) {
  return Object([&](JsonWriter& json) {
    json.Key("service").BeginObject();
    WriteServiceKeys(json, response.service());
    json.Key("service_id").String(response.service().service_id());
    json.Key("description").String(response.service().description());
    WriteStrings(json, "groups", response.service().groups());
    WriteStrings(json, "depends_on", response.service().depends_on());
    json.Key("started_at").Timestamp(response.service().started_unix_ms());
    json.Key("next_start_at").Timestamp(response.service().next_start_unix_ms());
    json.Key("log_dropped_bytes").Unsigned(response.service().log_dropped_bytes());
    json.Key("status_text").String(response.service().status_text());
    json.Key("limits_enforcement").String(response.service().limits_enforcement());
    WriteLimits(json, response.service());
    json.EndObject();
    WriteStrings(json, "causes", response.causes());
    json.Key("next").String(response.next());
    WriteStrings(json, "last_lines", response.last_lines());
    WriteEvents(json, response.events());
    json.Key("health");
    if (response.has_health()) {
      WriteServiceHealth(json, response.health());
    } else {
      json.Null();
    }
  });
}

std::string ReloadJson(const v1::ReloadResponse& response) {
  return Object([&](JsonWriter& json) {
    json.Key("applied").Bool(response.applied());
    WriteChanges(json, "added", response.added());
    WriteChanges(json, "removed", response.removed());
    WriteChanges(json, "restarted", response.restarted());
    WriteChanges(json, "updated", response.updated());
    WriteStrings(json, "unchanged", response.unchanged());
    WriteStrings(json, "errors", response.errors());
  });
}

std::string MetricsJson(const v1::MetricsResponse& response) {
  return Object([&](JsonWriter& json) {
    json.Key("id").String(response.id());
    json.Key("points").BeginArray();
    const auto optional_number = [&](std::string_view key, bool has, double value) {
      json.Key(key);
      has ? json.Double(value) : json.Null();
    };
    for (const v1::MetricPoint& point : response.points()) {
      json.BeginObject();
      json.Key("timestamp").Timestamp(point.timestamp_unix_ms());
      optional_number("cpu_percent", point.has_cpu_percent(), point.cpu_percent());
      optional_number("memory_mb", point.has_memory_mb(), point.memory_mb());
      json.Key("health_status").String(point.health_status());
      optional_number("response_time_ms", point.has_response_time_ms(), point.response_time_ms());
      optional_number("processes", point.has_processes(), point.processes());
      optional_number("descriptors", point.has_descriptors(), point.descriptors());
      optional_number("read_bytes_per_second", point.has_read_bytes_per_second(), point.read_bytes_per_second());
      optional_number("written_bytes_per_second", point.has_written_bytes_per_second(),
                      point.written_bytes_per_second());
      json.EndObject();
    }
    json.EndArray();
    json.Key("point_seconds").Double(response.point_seconds());
    json.Key("summary").BeginObject();
    for (const v1::MetricSummary& summary : response.summaries()) {
      json.Key(summary.name()).BeginObject();
      json.Key("samples").Unsigned(summary.samples());
      json.Key("min").Double(summary.min());
      json.Key("mean").Double(summary.mean());
      json.Key("p95").Double(summary.p95());
      json.Key("max").Double(summary.max());
      json.EndObject();
    }
    json.EndObject();
  });
}

std::string AlertsJson(const v1::AlertsResponse& response) {
  return Object([&](JsonWriter& json) {
    json.Key("alerts").BeginArray();
    for (const v1::Alert& alert : response.alerts()) {
      json.BeginObject();
      json.Key("id").Int(alert.id());
      json.Key("service_id").String(alert.service_id());
      json.Key("severity").String(alert.severity());
      json.Key("rule").String(alert.rule());
      json.Key("message").String(alert.message());
      json.Key("raised_at").Timestamp(alert.raised_unix_ms());
      json.Key("resolved_at").Timestamp(alert.resolved_unix_ms());
      WriteStrings(json, "dependents", alert.dependents());
      json.EndObject();
    }
    json.EndArray();
  });
}

std::string ChannelTestsJson(const v1::TestNotificationsResponse& response) {
  return Object([&](JsonWriter& json) {
    json.Key("results").BeginArray();
    for (const v1::ChannelTest& channel : response.channels()) {
      json.BeginObject();
      json.Key("channel").String(channel.channel());
      json.Key("type").String(channel.type());
      json.Key("outcome").String(channel.delivered() ? "delivered" : "failed");
      json.Key("message").String(channel.message());
      json.Key("response_time_ms").Double(channel.response_time_ms());
      json.EndObject();
    }
    json.EndArray();
  });
}

std::string UpgradeJson(const v1::UpgradeResponse& response) {
  return Object([&](JsonWriter& json) {
    json.Key("old_version").String(response.old_version());
    json.Key("new_version").String(response.new_version());
  });
}

std::string VersionJson(std::string_view client_grpc_version, const v1::VersionResponse* daemon) {
  return Object([&](JsonWriter& json) {
    json.Key("client").BeginObject();
    json.Key("version").String(kVersion);
    json.Key("grpc_version").String(client_grpc_version);
    json.EndObject();
    json.Key("daemon");
    if (daemon == nullptr) {
      json.Null();
      return;
    }
    json.BeginObject();
    json.Key("version").String(daemon->version());
    json.Key("pid").Int(daemon->pid());
    json.Key("guardian_pid").Int(daemon->guardian_pid());
    json.Key("started_at").Timestamp(daemon->started_unix_ms());
    json.Key("config_file").String(daemon->config_file());
    json.Key("database").String(daemon->database());
    json.Key("grpc_version").String(daemon->grpc_version());
    json.Key("sqlite_version").String(daemon->sqlite_version());
    json.Key("kernel").String(daemon->kernel());
    json.EndObject();
  });
}

std::string ErrorJson(std::string_view code, std::string_view message) {
  return Object([&](JsonWriter& json) {
    json.Key("error").BeginObject();
    json.Key("code").String(code);
    json.Key("message").String(message);
    json.EndObject();
  });
}

void WriteLogLine(JsonWriter& json, const v1::LogChunk& origin, std::string_view line) {
  json.BeginObject();
  json.Key("service_id").String(origin.id());
  json.Key("stream").String(origin.stream() == v1::LOG_STREAM_STDERR ? "stderr" : "stdout");
  json.Key("line").String(line);
  json.Key("timestamp").Timestamp(origin.time_unix_ms());
  json.EndObject();
}

}  // namespace supervisor
