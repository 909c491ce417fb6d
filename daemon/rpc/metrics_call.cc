#include <fmt/format.h>
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <string_view>
#include <utility>

#include "daemon/rpc/supervisor_service.h"
#include "daemon/rpc/wire.h"

// `metrics` and `alerts`: what was measured, and what became of it.

namespace supervisor {
namespace {

constexpr uint32_t kDefaultPoints = 500;
constexpr uint32_t kMostPoints = 100'000;
constexpr uint32_t kDefaultAlerts = 50;                 // of the history; those that are open are all shown
constexpr absl::Duration kMostAhead = absl::Hours(24);  // of a clock that is not set as ours is
constexpr std::array<std::string_view, 4> kHealthNames = {"unknown", "starting", "healthy", "unhealthy"};

void FillSpan(const MetricSpan& span, v1::MetricsResponse* out) {
  out->set_point_seconds(absl::ToDoubleSeconds(span.point_width));
  for (const MetricPoint& from : span.points) {
    v1::MetricPoint* point = out->add_points();
    point->set_timestamp_unix_ms(wire::UnixMillis(from.timestamp));
    point->set_health_status(wire::Utf8(from.health_status));
    const auto set = [&](Metric metric, auto setter) {
      if (const std::optional<double>& value = from.values[static_cast<size_t>(metric)]) {
        (point->*setter)(*value);
      }
    };
    set(Metric::kCpu, &v1::MetricPoint::set_cpu_percent);
    set(Metric::kMemory, &v1::MetricPoint::set_memory_mb);
    set(Metric::kResponse, &v1::MetricPoint::set_response_time_ms);
    set(Metric::kProcesses, &v1::MetricPoint::set_processes);
    set(Metric::kDescriptors, &v1::MetricPoint::set_descriptors);
    set(Metric::kRead, &v1::MetricPoint::set_read_bytes_per_second);
    set(Metric::kWritten, &v1::MetricPoint::set_written_bytes_per_second);
  }
  for (size_t i = 0; i < kMetricCount; ++i) {
    const MetricSummary& from = span.summaries[i];
    if (from.samples > 0) {
      v1::MetricSummary* summary = out->add_summaries();
      summary->set_name(std::string(kMetricNames[i]));
      summary->set_samples(from.samples);
      summary->set_min(from.min);
      summary->set_mean(from.mean);
      summary->set_p95(from.p95);
      summary->set_max(from.max);
    }
  }
}

// A sample from outside, checked: what it says is read by dashboards.
absl::StatusOr<MetricRow> SampleOf(const v1::MetricPoint& point, absl::Time now) {
  MetricRow row{.service_id = "",
                .timestamp = now,
                .cpu_percent = std::nullopt,
                .memory_mb = std::nullopt,
                .health_status = point.health_status(),
                .response_time_ms = std::nullopt};
  if (point.timestamp_unix_ms() != 0) {
    row.timestamp = absl::FromUnixMillis(point.timestamp_unix_ms());
    if (row.timestamp < absl::UnixEpoch() || row.timestamp > now + kMostAhead) {
      return absl::InvalidArgumentError("the sample's time is before 1970, or more than a day ahead");
    }
  }
  if (point.has_cpu_percent()) {
    row.cpu_percent = point.cpu_percent();
  }
  if (point.has_memory_mb()) {
    row.memory_mb = point.memory_mb();
  }
  if (point.has_response_time_ms()) {
    row.response_time_ms = point.response_time_ms();
  }
  if (point.has_processes() || point.has_descriptors() || point.has_read_bytes_per_second() ||
      point.has_written_bytes_per_second()) {
    return absl::InvalidArgumentError(
        "processes, descriptors and bytes are measured by the daemon alone (expected cpu_percent, memory_mb, "
        "health_status or response_time_ms)");
  }
  for (const std::optional<double>& value : {row.cpu_percent, row.memory_mb, row.response_time_ms}) {
    if (value && (!std::isfinite(*value) || *value < 0)) {
      return absl::InvalidArgumentError("a value of the sample is no number from 0 on");
    }
  }
  if (!row.health_status.empty() && std::ranges::count(kHealthNames, row.health_status) == 0) {
    return absl::InvalidArgumentError(
        "health_status is none that there is (expected unknown, starting, healthy or unhealthy)");
  }
  if (!row.cpu_percent && !row.memory_mb && !row.response_time_ms && row.health_status.empty()) {
    return absl::InvalidArgumentError(
        "the sample holds nothing (expected cpu_percent, memory_mb, health_status or response_time_ms)");
  }
  return row;
}

void FillAlert(const AlertRow& row, v1::Alert* out) {
  out->set_id(row.id);
  out->set_service_id(wire::Utf8(row.service_id));
  out->set_severity(wire::Utf8(row.severity));
  out->set_rule(wire::Utf8(row.rule));
  out->set_message(wire::Utf8(row.message));
  out->set_raised_unix_ms(wire::UnixMillis(row.raised));
  out->set_resolved_unix_ms(row.resolved ? wire::UnixMillis(*row.resolved) : 0);
  for (const std::string& id : row.dependents) {
    out->add_dependents(wire::Utf8(id));
  }
}

}  // namespace

grpc::ServerUnaryReactor* SupervisorService::Metrics(grpc::CallbackServerContext* call,
                                                     const v1::MetricsRequest* request, v1::MetricsResponse* response) {
  grpc::ServerUnaryReactor* reactor = call->DefaultReactor();
  OnTurnOf(call, reactor, [this, reactor, request, response] {
    const auto instances = context_.supervisor.Resolve({request->target()});
    if (!instances.ok() || instances->size() != 1) {
      reactor->Finish(wire::ToGrpc(
          !instances.ok() ? instances.status()
                          : absl::InvalidArgumentError(fmt::format("{}: names {} instances; metrics are of one",
                                                                   request->target(), instances->size()))));
      return;
    }
    Store::SpanQuery query;
    query.service_id = instances->front()->id();
    query.most_points = request->max_points() > 0 ? std::min(request->max_points(), kMostPoints) : kDefaultPoints;
    if (request->since_unix_ms() != 0) {
      query.since = absl::FromUnixMillis(request->since_unix_ms());
    }
    if (request->until_unix_ms() != 0) {
      query.until = absl::FromUnixMillis(request->until_unix_ms());
    }
    response->set_id(query.service_id);
    const auto finish = [reactor, response](absl::StatusOr<v1::MetricsResponse> found) {
      if (found.ok()) {
        response->MergeFrom(*found);
      }
      reactor->Finish(found.ok() ? grpc::Status::OK : StoreTrouble(found.status()));
    };
    // A hundred thousand points are written into the answer on the database's thread.
    context_.store.QueryMetricSpan(query, [answer = FromStore<v1::MetricsResponse>(context_.loop, finish)](
                                              const absl::StatusOr<MetricSpan>& span) {
      if (!span.ok()) {
        answer(span.status());
        return;
      }
      v1::MetricsResponse filled;
      FillSpan(*span, &filled);
      answer(std::move(filled));
    });
  });
  return reactor;
}

grpc::ServerUnaryReactor* SupervisorService::RecordMetrics(grpc::CallbackServerContext* call,
                                                           const v1::RecordMetricsRequest* request,
                                                           v1::RecordMetricsResponse* response) {
  static_cast<void>(response);
  if (const absl::StatusOr<Cause> cause = Authorize(call, ""); !cause.ok()) {
    grpc::ServerUnaryReactor* reactor = call->DefaultReactor();
    reactor->Finish(wire::ToGrpc(cause.status()));
    return reactor;
  }
  return OnLoop(call, [this, request]() -> absl::Status {
    const auto instances = context_.supervisor.Resolve({request->service_id()});
    if (!instances.ok()) {
      return instances.status();
    }
    if (instances->size() != 1) {
      return absl::InvalidArgumentError(
          fmt::format("{}: names {} instances; a sample is of one", request->service_id(), instances->size()));
    }
    absl::StatusOr<MetricRow> row = SampleOf(request->point(), WallNow());
    if (!row.ok()) {
      return row.status();
    }
    row->service_id = instances->front()->id();
    context_.store.RecordMetrics(*std::move(row));
    return absl::OkStatus();
  });
}

// The open ones are known here, whatever becomes of the database; that has their ids and those that are over.
grpc::ServerUnaryReactor* SupervisorService::Alerts(grpc::CallbackServerContext* call, const v1::AlertsRequest* request,
                                                    v1::AlertsResponse* response) {
  grpc::ServerUnaryReactor* reactor = call->DefaultReactor();
  OnTurnOf(call, reactor, [this, reactor, request, response] {
    std::vector<AlertRow> open;
    for (const Alert& alert : context_.supervisor.alerts().open()) {
      open.push_back(context_.supervisor.alerts().RowOf(alert));
    }
    const size_t given = request->limit();
    const size_t most_resolved = given > 0 ? given : kDefaultAlerts;
    const size_t most_kept = most_resolved + open.size();
    const auto finish = [reactor, response, given, most_resolved,
                         open = std::move(open)](const absl::StatusOr<std::vector<AlertRow>>& kept) mutable {
      std::vector<AlertRow> rows;
      if (kept.ok()) {
        rows = *kept;
      }
      std::erase_if(rows, [&](const AlertRow& row) {
        if (row.resolved) {
          return false;
        }
        for (AlertRow& known : open) {
          if (known.service_id == row.service_id && known.rule == row.rule) {
            known.id = row.id;
          }
        }
        return true;  // told from memory, or over since
      });
      rows.erase(rows.begin(), rows.end() - static_cast<std::ptrdiff_t>(std::min(most_resolved, rows.size())));
      rows.insert(rows.end(), open.begin(), open.end());
      std::ranges::stable_sort(rows, {}, &AlertRow::raised);
      const size_t limit = given > 0 ? std::min(given, rows.size()) : rows.size();
      for (size_t i = rows.size() - limit; i < rows.size(); ++i) {
        FillAlert(rows[i], response->add_alerts());
      }
      reactor->Finish(grpc::Status::OK);
    };
    context_.store.QueryAlerts({.include_resolved = request->include_resolved(), .limit = most_kept},
                               FromStore<std::vector<AlertRow>>(context_.loop, finish));
  });
  return reactor;
}

}  // namespace supervisor
