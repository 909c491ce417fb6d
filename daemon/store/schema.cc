#include "daemon/store/schema.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <array>
#include <set>
#include <string>
#include <vector>

#include "common/time_format.h"

namespace supervisor {
namespace {

struct Table {
  std::string_view name;
  const char* create;
  std::vector<std::string_view> columns;
};

const std::array<Table, 4>& Tables() {
  static const auto* const tables = new std::array<Table, 4>{{
      {"supervisor_services",
       kCreateServices,
       {"id", "name", "description", "state", "pid", "port", "start_time", "uptime_seconds", "restart_count",
        "last_restart", "priority", "critical", "auto_restart", "created_at", "updated_at"}},
      {"supervisor_metrics",
       kCreateMetrics,
       {"id", "service_id", "timestamp", "cpu_percent", "memory_mb", "health_status", "response_time_ms"}},
      {"supervisor_events", kCreateEvents, {"id", "service_id", "event_type", "timestamp", "message", "details"}},
      {"supervisor_schema", "CREATE TABLE supervisor_schema (version INTEGER NOT NULL)", {"version"}},
  }};
  return *tables;
}

struct Index {
  std::string_view name;
  const char* create;
};

constexpr std::array<Index, 5> kIndexes = {{
    {"idx_supervisor_events_service",
     "CREATE INDEX IF NOT EXISTS idx_supervisor_events_service ON supervisor_events (service_id, id)"},
    {"idx_supervisor_events_timestamp",
     "CREATE INDEX IF NOT EXISTS idx_supervisor_events_timestamp ON supervisor_events (timestamp)"},
    {"idx_supervisor_metrics_service",
     "CREATE INDEX IF NOT EXISTS idx_supervisor_metrics_service ON supervisor_metrics (service_id, timestamp)"},
    {"idx_supervisor_metrics_timestamp",
     "CREATE INDEX IF NOT EXISTS idx_supervisor_metrics_timestamp ON supervisor_metrics (timestamp)"},
    // The newest few results of checks, without reading through all the samples between them.
    {"idx_supervisor_metrics_health",
     "CREATE INDEX IF NOT EXISTS idx_supervisor_metrics_health ON supervisor_metrics (service_id, timestamp) "
     "WHERE response_time_ms IS NOT NULL"},
}};

// SQLite's names know no case.
absl::StatusOr<std::set<std::string>> Names(SqliteDatabase& db, const char* sql, std::string_view argument) {
  absl::StatusOr<SqliteStatement> statement = db.Prepare(sql);
  if (!statement.ok()) {
    return statement.status();
  }
  statement->Bind(1, argument);
  std::set<std::string> names;
  while (true) {
    const absl::StatusOr<bool> row = statement->Step();
    if (!row.ok()) {
      return row.status();
    }
    if (!*row) {
      return names;
    }
    names.insert(statement->Text(0));
  }
}

absl::StatusOr<std::set<std::string>> SchemaNames(SqliteDatabase& db) {
  return Names(db, "SELECT lower(name) FROM sqlite_schema WHERE lower(name) GLOB ?1", "*supervisor_*");
}

absl::Status CheckColumns(SqliteDatabase& db, const Table& table) {
  const absl::StatusOr<std::set<std::string>> found =
      Names(db, "SELECT lower(name) FROM pragma_table_info(?1)", table.name);
  if (!found.ok()) {
    return found.status();
  }
  std::vector<std::string_view> missing;
  for (const std::string_view column : table.columns) {
    if (!found->contains(std::string(column))) {
      missing.push_back(column);
    }
  }
  if (missing.empty()) {
    return absl::OkStatus();
  }
  return absl::FailedPreconditionError(fmt::format(
      "database {}: table {} lacks the column{} {}, so nothing can be written; add what is missing with ALTER "
      "TABLE, or rename the table",
      db.path(), table.name, missing.size() == 1 ? "" : "s", fmt::join(missing, ", ")));
}

absl::Status MakeMissing(SqliteDatabase& db, const std::set<std::string>& existing) {
  for (const Table& table : Tables()) {
    const bool exists = existing.contains(std::string(table.name));
    if (absl::Status status = exists ? CheckColumns(db, table) : db.Exec(table.create); !status.ok()) {
      return status;
    }
  }
  for (const Index& index : kIndexes) {
    if (existing.contains(std::string(index.name))) {
      continue;
    }
    if (absl::Status status = db.Exec(index.create); !status.ok()) {
      return status;
    }
  }
  if (absl::Status status = db.Exec(fmt::format("INSERT INTO supervisor_schema SELECT {} "
                                                "WHERE NOT EXISTS (SELECT 1 FROM supervisor_schema)",
                                                kSchemaVersion));
      !status.ok()) {
    return status;
  }
  return absl::OkStatus();
}

// The daemon that writes here runs.
absl::Status EnsureSupervisorRow(SqliteDatabase& db, absl::Time now) {
  absl::StatusOr<SqliteStatement> statement = db.Prepare(
      "INSERT INTO supervisor_services (id, name, state, created_at, updated_at) VALUES (?1, ?1, 'running', ?2, ?2) "
      "ON CONFLICT (id) DO UPDATE SET state = 'running', updated_at = ?2 WHERE state <> 'running'");
  if (!statement.ok()) {
    return statement.status();
  }
  return statement->Bind(1, kSupervisorServiceId).Bind(2, FormatTimestamp(now)).Run();
}

absl::StatusOr<bool> EnsureInTransaction(SqliteDatabase& db, absl::Time now) {
  // Looked up under the write lock, so that two programs that begin at once do not both make the tables.
  const absl::StatusOr<std::set<std::string>> existing = SchemaNames(db);
  if (!existing.ok()) {
    return existing.status();
  }
  absl::Status status = MakeMissing(db, *existing);
  if (status.ok()) {
    status = EnsureSupervisorRow(db, now);
  }
  if (status.ok()) {
    status = db.Exec("COMMIT");
  }
  if (!status.ok()) {
    return status;
  }
  return !existing->contains("supervisor_services");
}

}  // namespace

absl::StatusOr<bool> EnsureSchema(SqliteDatabase& db, absl::Time now) {
  if (absl::Status status = db.Exec("BEGIN IMMEDIATE"); !status.ok()) {
    return status;
  }
  absl::StatusOr<bool> fresh = EnsureInTransaction(db, now);
  if (!fresh.ok() && db.InTransaction()) {
    db.Exec("ROLLBACK").IgnoreError();  // what went wrong is said by `fresh`
  }
  return fresh;
}

}  // namespace supervisor
