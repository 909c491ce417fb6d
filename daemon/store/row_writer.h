#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "daemon/store/sqlite.h"
#include "daemon/store/store_queue.h"

namespace supervisor {

// What may be deleted, in steps that hold the lock for a few milliseconds only. Numbers in place of texts are another
// program's way to write a time: they are left alone.
inline constexpr char kDeleteOldMetrics[] =
    "DELETE FROM supervisor_metrics WHERE id IN (SELECT id FROM supervisor_metrics "
    "WHERE timestamp >= '' AND timestamp < ?1 ORDER BY timestamp LIMIT ?2)";
inline constexpr char kDeleteOldEvents[] =
    "DELETE FROM supervisor_events WHERE id IN (SELECT id FROM supervisor_events "
    "WHERE timestamp >= '' AND timestamp < ?1 ORDER BY timestamp LIMIT ?2)";

inline constexpr char kDeleteOldUsage[] =
    "DELETE FROM supervisor_usage WHERE (service_id, timestamp) IN (SELECT service_id, timestamp FROM "
    "supervisor_usage INDEXED BY idx_supervisor_usage_timestamp WHERE timestamp >= '' AND timestamp < ?1 "
    "ORDER BY timestamp LIMIT ?2)";
// Those that are open stay, however old.
inline constexpr char kDeleteOldAlerts[] =
    "DELETE FROM supervisor_alerts WHERE id IN (SELECT id FROM supervisor_alerts "
    "WHERE resolved_at >= '' AND resolved_at < ?1 ORDER BY resolved_at LIMIT ?2)";
inline constexpr char kResolveAlert[] =
    "UPDATE supervisor_alerts SET resolved_at = ?3, owed = ?4 "
    "WHERE service_id = ?1 AND rule = ?2 AND resolved_at IS NULL";
inline constexpr char kTellAlert[] =
    "UPDATE supervisor_alerts INDEXED BY idx_supervisor_alerts_owed SET owed = ?4 "
    "WHERE service_id = ?1 AND rule = ?2 AND raised_at = ?3 AND owed IS NOT NULL";

// By the index of times: of one moment there are few.
inline constexpr char kAmendEvent[] =
    "UPDATE supervisor_events SET details = json_set(details, '$.last_lines', json(?4)) WHERE id = "
    "(SELECT id FROM supervisor_events INDEXED BY idx_supervisor_events_timestamp "
    "WHERE timestamp = ?3 AND service_id = ?1 AND event_type = ?2 ORDER BY id DESC LIMIT 1) AND json_valid(details)";

struct BatchOutcome {
  uint64_t refused_rows = 0;   // that break a constraint somebody put on the table: the others are written
  absl::Status first_refusal;  // ok: none
};

// The statements that write, prepared once a connection. Must go before the connection.
class RowWriter {
 public:
  static absl::StatusOr<RowWriter> Prepare(SqliteDatabase& db);
  // All that Prepare prepares: for the test of their plans.
  static std::vector<std::string> Sql();

  // All of it in one transaction, or nothing. Gives the events their ids; one that was refused keeps id 0.
  // kOutOfRange: the ids have come to where none is possible, see row_ids.h.
  absl::StatusOr<BatchOutcome> Write(SqliteDatabase& db, StoreBatch& batch, absl::Time now);

  // Deletes at most `most` rows older than `cutoff` and says how many it were.
  enum class Table { kMetrics, kUsage, kEvents, kAlerts };
  absl::StatusOr<int64_t> DeleteOld(SqliteDatabase& db, Table table, absl::Time cutoff, int64_t most);

 private:
  using Prepared = std::pair<SqliteStatement RowWriter::*, const char*>;
  static const std::vector<Prepared>& Statements();

  absl::Status WriteRows(SqliteDatabase& db, StoreBatch& batch, BatchOutcome& outcome);
  absl::Status StopServicesExcept(const std::set<std::string>& keep);
  absl::Status UpsertService(const QueuedService& service);
  absl::Status InsertEvent(SqliteDatabase& db, EventRow& row);
  absl::Status InsertMetrics(SqliteDatabase& db, const MetricRow& row);
  absl::Status AmendEvent(const EventAmendment& amendment);
  absl::Status InsertUsage(const UsageRow& row);
  absl::Status WriteAlert(SqliteDatabase& db, const AlertRow& row);
  absl::Status EnsureService(const std::string& id);

  SqliteStatement begin_;
  SqliteStatement commit_;
  SqliteStatement unstopped_services_;
  SqliteStatement stop_service_;
  SqliteStatement upsert_service_;
  SqliteStatement ensure_service_;
  SqliteStatement find_event_;
  SqliteStatement insert_event_;
  SqliteStatement insert_metrics_;
  SqliteStatement amend_event_;
  SqliteStatement insert_usage_;
  SqliteStatement raise_alert_;
  SqliteStatement resolve_alert_;
  SqliteStatement tell_alert_;
  SqliteStatement delete_metrics_;
  SqliteStatement delete_usage_;
  SqliteStatement delete_events_;
  SqliteStatement delete_alerts_;

  // Of the batch under way.
  std::string now_text_;
  std::set<std::string, std::less<>> ensured_;  // services whose row is there
};

}  // namespace supervisor
