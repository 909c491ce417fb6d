#pragma once

#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "daemon/store/sqlite.h"
#include "daemon/store/store.h"

namespace supervisor {

// Every one of these goes by an index: a test holds EXPLAIN QUERY PLAN against it. Of events, ?3 is the service, ?4 and
// ?5 bound the time, and ?6 lists the types that are wanted as ",started,exited,"; an empty ?6 means all.
inline constexpr char kSelectEvents[] =
    "SELECT id, service_id, event_type, timestamp, message, "
    "CASE WHEN json_valid(details) THEN json_remove(details, '$.actor') ELSE details END, "
    "CASE WHEN json_valid(details) THEN json_extract(details, '$.actor') END "
    "FROM supervisor_events WHERE id > ?1 AND (?6 = '' OR instr(?6, ',' || event_type || ',') > 0) "
    "ORDER BY id DESC LIMIT ?2";
inline constexpr char kSelectEventsInSpan[] =
    "SELECT id, service_id, event_type, timestamp, message, "
    "CASE WHEN json_valid(details) THEN json_remove(details, '$.actor') ELSE details END, "
    "CASE WHEN json_valid(details) THEN json_extract(details, '$.actor') END "
    "FROM supervisor_events WHERE timestamp >= ?4 AND timestamp <= ?5 AND +id > ?1 "
    "AND (?6 = '' OR instr(?6, ',' || event_type || ',') > 0) ORDER BY timestamp DESC, id DESC LIMIT ?2";
inline constexpr char kSelectEventsOfService[] =
    "SELECT id, service_id, event_type, timestamp, message, "
    "CASE WHEN json_valid(details) THEN json_remove(details, '$.actor') ELSE details END, "
    "CASE WHEN json_valid(details) THEN json_extract(details, '$.actor') END "
    "FROM supervisor_events WHERE service_id = ?3 AND id > ?1 AND (?4 IS NULL OR timestamp >= ?4) "
    "AND (?5 IS NULL OR timestamp <= ?5) "
    "AND (?6 = '' OR instr(?6, ',' || event_type || ',') > 0) ORDER BY id DESC LIMIT ?2";
inline constexpr char kSelectMetrics[] =
    "SELECT service_id, timestamp, cpu_percent, memory_mb, health_status, response_time_ms FROM supervisor_metrics "
    "WHERE service_id = ?1 AND timestamp >= ?2 AND timestamp <= ?3 ORDER BY timestamp DESC LIMIT ?4";
inline constexpr char kSelectHealth[] =
    "SELECT service_id, timestamp, cpu_percent, memory_mb, health_status, response_time_ms FROM supervisor_metrics "
    "WHERE service_id = ?1 AND timestamp >= ?2 AND timestamp <= ?3 AND response_time_ms IS NOT NULL "
    "ORDER BY timestamp DESC, id DESC LIMIT ?4";

inline constexpr char kSelectUsage[] =
    "SELECT service_id, timestamp, processes, descriptors, read_bytes_per_second, written_bytes_per_second "
    "FROM supervisor_usage WHERE service_id = ?1 AND timestamp >= ?2 AND timestamp <= ?3 "
    "ORDER BY timestamp DESC LIMIT ?4";
inline constexpr char kSelectMetricSpan[] =
    "SELECT timestamp, cpu_percent, memory_mb, response_time_ms, health_status FROM supervisor_metrics "
    "WHERE service_id = ?1 AND timestamp >= ?2 AND timestamp <= ?3 ORDER BY timestamp DESC LIMIT ?4";
inline constexpr char kSelectUsageSpan[] =
    "SELECT timestamp, processes, descriptors, read_bytes_per_second, written_bytes_per_second FROM supervisor_usage "
    "WHERE service_id = ?1 AND timestamp >= ?2 AND timestamp <= ?3 ORDER BY timestamp DESC LIMIT ?4";
inline constexpr char kSelectFirstMetric[] =
    "SELECT timestamp FROM supervisor_metrics WHERE service_id = ?1 AND timestamp >= '' ORDER BY timestamp LIMIT 1";
inline constexpr char kSelectAlerts[] =
    "SELECT id, service_id, rule, severity, message, dependents, raised_at, resolved_at, owed FROM supervisor_alerts "
    "WHERE id > 0 ORDER BY id DESC LIMIT ?1";
// By the index of those that are open: they are few, whatever the history holds.
inline constexpr char kSelectOpenAlerts[] =
    "SELECT id, service_id, rule, severity, message, dependents, raised_at, resolved_at, owed FROM supervisor_alerts "
    "INDEXED BY idx_supervisor_alerts_open WHERE resolved_at IS NULL ORDER BY id DESC LIMIT ?1";
inline constexpr char kSelectOwedAlerts[] =
    "SELECT id, service_id, rule, severity, message, dependents, raised_at, resolved_at, owed FROM supervisor_alerts "
    "INDEXED BY idx_supervisor_alerts_owed WHERE owed IS NOT NULL ORDER BY id DESC LIMIT ?1";
// Those of the policy have an attempt, which one that a caller asked for has not.
inline constexpr char kSelectRestarts[] =
    "SELECT service_id, timestamp FROM supervisor_events WHERE timestamp >= ?1 AND event_type = 'restarting' "
    "AND CASE WHEN json_valid(details) THEN json_extract(details, '$.attempt') END > 0 ORDER BY timestamp LIMIT ?2";
inline constexpr char kSelectServices[] =
    "SELECT id, name, description, state, pid, port, start_time, uptime_seconds, restart_count, last_restart, "
    "priority, critical, auto_restart FROM supervisor_services ORDER BY id";
// The columns' type, TIMESTAMP, has numeric affinity: a bound that looks like a number would be compared as one, and
// every text lies above every number.
// Counts no further than ?2: of a flood of events it is enough to know that it is one.
inline constexpr char kCountEventsSince[] =
    "SELECT count(*), max(timestamp) FROM (SELECT timestamp FROM supervisor_events "
    "WHERE timestamp >= ?1 AND timestamp <= '9999-12-31 24' ORDER BY timestamp DESC LIMIT ?2)";
inline constexpr char kCountOpenAlerts[] =
    "SELECT count(*) FROM supervisor_alerts INDEXED BY idx_supervisor_alerts_open WHERE resolved_at IS NULL";

// However much is asked for, an answer has no more rows than this.
inline constexpr size_t kMaxQueryRows = 100'000;

// The statements that read, prepared once a connection. Must go before the connection.
class RowReader {
 public:
  static absl::StatusOr<RowReader> Prepare(SqliteDatabase& db);
  // All that Prepare prepares: for the test of their plans.
  static std::vector<std::string> Sql();

  absl::StatusOr<std::vector<EventRow>> Events(const Store::EventQuery& query);
  absl::StatusOr<std::vector<MetricRow>> Metrics(const Store::MetricQuery& query);
  absl::StatusOr<std::vector<UsageRow>> UsageOf(const Store::MetricQuery& query);
  // At most two million samples, the newest.
  absl::StatusOr<MetricSpan> Span(const Store::SpanQuery& query, absl::Time now);
  absl::StatusOr<std::vector<AlertRow>> Alerts(const Store::AlertQuery& query);
  absl::StatusOr<std::vector<RestartRow>> Restarts(absl::Time since);
  absl::StatusOr<std::vector<ServiceRow>> Services(const std::vector<std::string>& ids);
  absl::StatusOr<StoreSummary> Summary(absl::Time now);

 private:
  using Prepared = std::pair<SqliteStatement RowReader::*, const char*>;
  static const std::vector<Prepared>& Statements();

  SqliteStatement events_;
  SqliteStatement events_in_span_;
  SqliteStatement events_of_service_;
  SqliteStatement metrics_;
  SqliteStatement health_;
  SqliteStatement usage_;
  SqliteStatement metric_span_;
  SqliteStatement usage_span_;
  SqliteStatement first_metric_;
  SqliteStatement alerts_;
  SqliteStatement open_alerts_;
  SqliteStatement owed_alerts_;
  SqliteStatement restarts_;
  SqliteStatement services_;
  SqliteStatement count_events_;
  SqliteStatement count_alerts_;
};

}  // namespace supervisor
