#pragma once

#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "daemon/store/sqlite.h"
#include "daemon/store/store.h"

namespace supervisor {

// Every one of these goes by an index: a test holds EXPLAIN QUERY PLAN against it.
inline constexpr char kSelectEvents[] =
    "SELECT id, service_id, event_type, timestamp, message, "
    "CASE WHEN json_valid(details) THEN json_remove(details, '$.actor') ELSE details END, "
    "CASE WHEN json_valid(details) THEN json_extract(details, '$.actor') END "
    "FROM supervisor_events WHERE id > ?1 ORDER BY id DESC LIMIT ?2";
inline constexpr char kSelectEventsOfService[] =
    "SELECT id, service_id, event_type, timestamp, message, "
    "CASE WHEN json_valid(details) THEN json_remove(details, '$.actor') ELSE details END, "
    "CASE WHEN json_valid(details) THEN json_extract(details, '$.actor') END "
    "FROM supervisor_events WHERE service_id = ?3 AND id > ?1 ORDER BY id DESC LIMIT ?2";
inline constexpr char kSelectMetrics[] =
    "SELECT service_id, timestamp, cpu_percent, memory_mb, health_status, response_time_ms FROM supervisor_metrics "
    "WHERE service_id = ?1 AND timestamp >= ?2 AND timestamp <= ?3 ORDER BY timestamp DESC, id DESC LIMIT ?4";
inline constexpr char kSelectHealth[] =
    "SELECT service_id, timestamp, cpu_percent, memory_mb, health_status, response_time_ms FROM supervisor_metrics "
    "WHERE service_id = ?1 AND timestamp >= ?2 AND timestamp <= ?3 AND response_time_ms IS NOT NULL "
    "ORDER BY timestamp DESC, id DESC LIMIT ?4";

// However much is asked for, an answer has no more rows than this.
inline constexpr size_t kMaxQueryRows = 100'000;

// The statements that read, prepared once a connection. Must go before the connection.
class RowReader {
 public:
  static absl::StatusOr<RowReader> Prepare(SqliteDatabase& db);

  absl::StatusOr<std::vector<EventRow>> Events(const Store::EventQuery& query);
  absl::StatusOr<std::vector<MetricRow>> Metrics(const Store::MetricQuery& query);

 private:
  SqliteStatement events_;
  SqliteStatement events_of_service_;
  SqliteStatement metrics_;
  SqliteStatement health_;
};

}  // namespace supervisor
