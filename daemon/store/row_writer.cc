#include "daemon/store/row_writer.h"

#include <fmt/format.h>

#include <optional>
#include <utility>
#include <vector>

#include "common/errno_status.h"
#include "common/fail_point.h"
#include "common/time_format.h"
#include "daemon/store/row_ids.h"
#include "daemon/store/row_text.h"
#include "daemon/store/schema.h"

namespace supervisor {
namespace {

constexpr char kUnstoppedServices[] = "SELECT id FROM supervisor_services WHERE state <> 'stopped' OR pid IS NOT NULL";
constexpr char kStopService[] =
    "UPDATE supervisor_services SET state = 'stopped', pid = NULL, updated_at = ?2 WHERE id = ?1";
constexpr char kUpsertService[] =
    "INSERT INTO supervisor_services (id, name, description, state, pid, port, start_time, uptime_seconds, "
    "restart_count, last_restart, priority, critical, auto_restart, created_at, updated_at) "
    "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?14) "
    "ON CONFLICT (id) DO UPDATE SET name = excluded.name, description = excluded.description, state = excluded.state, "
    "pid = excluded.pid, port = excluded.port, start_time = excluded.start_time, "
    "uptime_seconds = excluded.uptime_seconds, restart_count = excluded.restart_count, "
    "last_restart = excluded.last_restart, priority = excluded.priority, critical = excluded.critical, "
    "auto_restart = excluded.auto_restart, updated_at = excluded.updated_at";
constexpr char kEnsureService[] =
    "INSERT INTO supervisor_services (id, name, state, created_at, updated_at) VALUES (?1, ?1, 'stopped', ?2, ?2) "
    "ON CONFLICT (id) DO NOTHING";
// ?5: details, a JSON object; ?6: the actor, NULL where there is none. What is no JSON object becomes the text of one.
constexpr char kInsertEvent[] =
    "INSERT INTO supervisor_events (service_id, event_type, timestamp, message, details) VALUES (?1, ?2, ?3, ?4, "
    "CASE WHEN NOT json_valid(?5) OR json_type(?5) <> 'object' THEN "
    "  CASE WHEN ?6 IS NULL THEN json_object('text', ?5) ELSE json_object('text', ?5, 'actor', ?6) END "
    "WHEN ?6 IS NULL THEN ?5 ELSE json_set(?5, '$.actor', ?6) END)";
// By the index of times, never by that of the service, of which there may be millions. Two processes of one service may
// have ended before a daemon that tells both in one millisecond: the pid says which.
constexpr char kFindEvent[] =
    "SELECT id FROM supervisor_events INDEXED BY idx_supervisor_events_timestamp "
    "WHERE timestamp = ?3 AND service_id = ?1 AND event_type = ?2 AND message = ?4 "
    "AND CASE WHEN json_valid(details) THEN json_extract(details, '$.pid') END "
    "IS CASE WHEN json_valid(?5) THEN json_extract(?5, '$.pid') END";
constexpr char kInsertMetrics[] =
    "INSERT INTO supervisor_metrics (service_id, timestamp, cpu_percent, memory_mb, health_status, response_time_ms) "
    "VALUES (?1, ?2, ?3, ?4, ?5, ?6)";

constexpr char kInsertUsage[] =
    "INSERT OR REPLACE INTO supervisor_usage (service_id, timestamp, processes, descriptors, read_bytes_per_second, "
    "written_bytes_per_second) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
constexpr char kRaiseAlert[] =
    "INSERT INTO supervisor_alerts (service_id, rule, severity, message, dependents, raised_at, resolved_at, "
    "owed) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (service_id, rule) WHERE resolved_at IS NULL DO UPDATE "
    "SET "
    "severity = excluded.severity, message = excluded.message, dependents = excluded.dependents, owed = excluded.owed";

void BindTime(SqliteStatement& statement, int index, const std::optional<absl::Time>& time) {
  if (time.has_value()) {
    statement.Bind(index, FormatTimestamp(*time));
  } else {
    statement.BindNull(index);
  }
}

void BindOrNull(SqliteStatement& statement, int index, const std::string& text) {
  if (text.empty()) {
    statement.BindNull(index);
  } else {
    statement.Bind(index, WithValidUtf8(text));
  }
}

void BindOwed(SqliteStatement& statement, int index, const AlertRow& row) {
  BindOrNull(statement, index, row.owed.empty() ? "" : JoinList(row.owed));
}

// Of the row just inserted. Not for alerts, where an upsert may have inserted none: their end tells itself.
absl::Status CheckId(const SqliteDatabase& db) {
  if (db.LastInsertId() > kMostPossibleId) {
    return absl::OutOfRangeError(fmt::format("database {}: the ids have come to {}", db.path(), db.LastInsertId()));
  }
  return absl::OkStatus();
}

bool IsRefusal(const absl::Status& status) { return status.code() == absl::StatusCode::kInvalidArgument; }

}  // namespace

const std::vector<RowWriter::Prepared>& RowWriter::Statements() {
  static const auto* const statements = new std::vector<Prepared>{
      {&RowWriter::begin_, "BEGIN IMMEDIATE"},
      {&RowWriter::commit_, "COMMIT"},
      {&RowWriter::unstopped_services_, kUnstoppedServices},
      {&RowWriter::stop_service_, kStopService},
      {&RowWriter::upsert_service_, kUpsertService},
      {&RowWriter::ensure_service_, kEnsureService},
      {&RowWriter::find_event_, kFindEvent},
      {&RowWriter::insert_event_, kInsertEvent},
      {&RowWriter::insert_metrics_, kInsertMetrics},
      {&RowWriter::amend_event_, kAmendEvent},
      {&RowWriter::insert_usage_, kInsertUsage},
      {&RowWriter::raise_alert_, kRaiseAlert},
      {&RowWriter::resolve_alert_, kResolveAlert},
      {&RowWriter::tell_alert_, kTellAlert},
      {&RowWriter::delete_metrics_, kDeleteOldMetrics},
      {&RowWriter::delete_usage_, kDeleteOldUsage},
      {&RowWriter::delete_events_, kDeleteOldEvents},
      {&RowWriter::delete_alerts_, kDeleteOldAlerts},
  };
  return *statements;
}

absl::StatusOr<RowWriter> RowWriter::Prepare(SqliteDatabase& db) {
  RowWriter writer;
  for (const auto& [statement, sql] : Statements()) {
    absl::StatusOr<SqliteStatement> prepared = db.Prepare(sql);
    if (!prepared.ok()) {
      return prepared.status();
    }
    writer.*statement = *std::move(prepared);
  }
  return writer;
}

std::vector<std::string> RowWriter::Sql() {
  std::vector<std::string> all;
  for (const Prepared& prepared : Statements()) {
    all.emplace_back(prepared.second);
  }
  return all;
}

absl::StatusOr<BatchOutcome> RowWriter::Write(SqliteDatabase& db, StoreBatch& batch, absl::Time now) {
  now_text_ = FormatTimestamp(now);
  ensured_.clear();
  if (absl::Status status = begin_.Run(); !status.ok()) {
    return status;
  }
  BatchOutcome outcome;
  absl::Status status = WriteRows(db, batch, outcome);
  if (const int error = FailPoint(FailPointId::kStoreWritten); error != 0 && status.ok()) {
    status = ErrnoToStatus(error, "commit");
  }
  if (status.ok()) {
    status = commit_.Run();
    FailPoint(FailPointId::kStoreCommitted);
  }
  if (status.ok()) {
    return outcome;
  }
  if (db.InTransaction()) {
    db.Exec("ROLLBACK").IgnoreError();  // what went wrong is said by `status`
  }
  for (QueuedEvent& event : batch.events) {
    event.row.id = 0;
  }
  return status;
}

absl::Status RowWriter::WriteRows(SqliteDatabase& db, StoreBatch& batch, BatchOutcome& outcome) {
  // A refusal ends one row, everything else the batch.
  const auto settle = [&](absl::Status status) {
    if (!IsRefusal(status) || !db.InTransaction()) {
      return status;
    }
    ++outcome.refused_rows;
    outcome.first_refusal.Update(status);
    return absl::OkStatus();
  };
  if (batch.keep.has_value()) {
    if (absl::Status status = settle(StopServicesExcept(*batch.keep)); !status.ok()) {
      return status;
    }
  }
  for (const auto& [id, service] : batch.services) {
    if (absl::Status status = settle(UpsertService(service)); !status.ok()) {
      return status;
    }
  }
  for (QueuedEvent& event : batch.events) {
    if (absl::Status status = settle(InsertEvent(db, event.row)); !status.ok()) {
      return status;
    }
  }
  for (const EventAmendment& amendment : batch.amendments) {
    if (absl::Status status = settle(AmendEvent(amendment)); !status.ok()) {
      return status;
    }
  }
  for (const AlertRow& row : batch.alerts) {
    if (absl::Status status = settle(WriteAlert(db, row)); !status.ok()) {
      return status;
    }
  }
  for (const MetricRow& row : batch.metrics) {
    if (absl::Status status = settle(InsertMetrics(db, row)); !status.ok()) {
      return status;
    }
  }
  for (const UsageRow& row : batch.usage) {
    if (absl::Status status = settle(InsertUsage(row)); !status.ok()) {
      return status;
    }
  }
  return absl::OkStatus();
}

absl::Status RowWriter::StopServicesExcept(const std::set<std::string>& keep) {
  std::vector<std::string> gone;
  {
    const StatementReset reset(unstopped_services_);
    while (true) {
      const absl::StatusOr<bool> row = unstopped_services_.Step();
      if (!row.ok()) {
        return row.status();
      }
      if (!*row) {
        break;
      }
      std::string id = unstopped_services_.Text(0);
      if (id != kSupervisorServiceId && !keep.contains(id)) {
        gone.push_back(std::move(id));
      }
    }
  }
  for (const std::string& id : gone) {
    if (absl::Status status = stop_service_.Bind(1, id).Bind(2, now_text_).Run(); !status.ok()) {
      return status;
    }
  }
  return absl::OkStatus();
}

absl::Status RowWriter::UpsertService(const QueuedService& service) {
  const ServiceRow& row = service.row;
  upsert_service_.Bind(1, row.id)
      .Bind(2, WithValidUtf8(row.name.empty() ? row.id : row.name))
      .Bind(3, WithValidUtf8(row.description))
      .Bind(4, row.state)
      .Bind(5, row.pid)
      .Bind(6, row.port)
      .Bind(8, row.uptime_seconds)
      .Bind(9, row.restart_count)
      .Bind(11, static_cast<int64_t>(row.priority))
      .Bind(12, static_cast<int64_t>(row.critical))
      .Bind(13, static_cast<int64_t>(row.auto_restart))
      .Bind(14, FormatTimestamp(service.changed_at));
  BindTime(upsert_service_, 7, row.start_time);
  BindTime(upsert_service_, 10, row.last_restart);
  return upsert_service_.Run();
}

absl::Status RowWriter::EnsureService(const std::string& id) {
  if (ensured_.contains(id)) {
    return absl::OkStatus();
  }
  absl::Status status = ensure_service_.Bind(1, id).Bind(2, now_text_).Run();
  if (status.ok()) {
    ensured_.insert(id);
  }
  return status;
}

absl::Status RowWriter::InsertEvent(SqliteDatabase& db, EventRow& row) {
  if (absl::Status status = EnsureService(row.service_id); !status.ok()) {
    return status;
  }
  if (row.unless_there) {
    const StatementReset reset(find_event_);
    find_event_.Bind(1, row.service_id)
        .Bind(2, row.event_type)
        .Bind(3, FormatTimestamp(row.timestamp))
        .Bind(4, WithValidUtf8(row.message))
        .Bind(5, WithValidUtf8(row.details));
    const absl::StatusOr<bool> found = find_event_.Step();
    if (!found.ok()) {
      return found.status();
    }
    if (*found) {
      row.id = find_event_.Int(0);
      return absl::OkStatus();
    }
  }
  insert_event_.Bind(1, row.service_id)
      .Bind(2, row.event_type)
      .Bind(3, FormatTimestamp(row.timestamp))
      .Bind(4, WithValidUtf8(row.message))
      .Bind(5, WithValidUtf8(row.details));
  BindOrNull(insert_event_, 6, row.actor);
  if (absl::Status status = insert_event_.Run(); !status.ok()) {
    return status;
  }
  row.id = db.LastInsertId();
  return CheckId(db);
}

absl::Status RowWriter::InsertMetrics(SqliteDatabase& db, const MetricRow& row) {
  if (absl::Status status = EnsureService(row.service_id); !status.ok()) {
    return status;
  }
  insert_metrics_.Bind(1, row.service_id)
      .Bind(2, FormatTimestamp(row.timestamp))
      .Bind(3, row.cpu_percent)
      .Bind(4, row.memory_mb)
      .Bind(6, row.response_time_ms);
  BindOrNull(insert_metrics_, 5, row.health_status);
  absl::Status status = insert_metrics_.Run();
  return status.ok() ? CheckId(db) : status;
}

absl::Status RowWriter::AmendEvent(const EventAmendment& amendment) {
  return amend_event_.Bind(1, amendment.service_id)
      .Bind(2, amendment.event_type)
      .Bind(3, FormatTimestamp(amendment.timestamp))
      .Bind(4, amendment.last_lines)
      .Run();
}

absl::Status RowWriter::InsertUsage(const UsageRow& row) {
  return insert_usage_.Bind(1, row.service_id)
      .Bind(2, FormatTimestamp(row.timestamp))
      .Bind(3, row.processes)
      .Bind(4, row.descriptors)
      .Bind(5, row.read_bytes_per_second)
      .Bind(6, row.written_bytes_per_second)
      .Run();
}

absl::Status RowWriter::WriteAlert(SqliteDatabase& db, const AlertRow& row) {
  if (row.only_owed) {
    tell_alert_.Bind(1, row.service_id).Bind(2, row.rule).Bind(3, FormatTimestamp(row.raised));
    BindOwed(tell_alert_, 4, row);
    return tell_alert_.Run();
  }
  if (absl::Status status = EnsureService(row.service_id); !status.ok()) {
    return status;
  }
  if (row.resolved.has_value()) {
    resolve_alert_.Bind(1, row.service_id).Bind(2, row.rule).Bind(3, FormatTimestamp(*row.resolved));
    BindOwed(resolve_alert_, 4, row);
    if (absl::Status status = resolve_alert_.Run(); !status.ok() || db.Changes() > 0) {
      return status;
    }
  }
  raise_alert_.Bind(1, row.service_id)
      .Bind(2, row.rule)
      .Bind(3, row.severity)
      .Bind(4, WithValidUtf8(row.message))
      .Bind(5, JoinList(row.dependents))
      .Bind(6, FormatTimestamp(row.raised));
  BindTime(raise_alert_, 7, row.resolved);
  BindOwed(raise_alert_, 8, row);
  return raise_alert_.Run();
}

absl::StatusOr<int64_t> RowWriter::DeleteOld(SqliteDatabase& db, Table table, absl::Time cutoff, int64_t most) {
  SqliteStatement& statement = [&]() -> SqliteStatement& {
    switch (table) {
      case Table::kMetrics:
        return delete_metrics_;
      case Table::kUsage:
        return delete_usage_;
      case Table::kEvents:
        return delete_events_;
      case Table::kAlerts:
        return delete_alerts_;
    }
    return delete_metrics_;
  }();
  if (absl::Status status = statement.Bind(1, TimestampLowerBound(cutoff)).Bind(2, most).Run(); !status.ok()) {
    return status;
  }
  return db.Changes();
}

}  // namespace supervisor
