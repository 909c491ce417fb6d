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

const std::array<Table, 6>& Tables() {
  static const auto* const tables = new std::array<Table, 6>{{
      {"supervisor_services",
       kCreateServices,
       {"id", "name", "description", "state", "pid", "port", "start_time", "uptime_seconds", "restart_count",
        "last_restart", "priority", "critical", "auto_restart", "created_at", "updated_at"}},
      {"supervisor_metrics",
       kCreateMetrics,
       {"id", "service_id", "timestamp", "cpu_percent", "memory_mb", "health_status", "response_time_ms"}},
      {"supervisor_events", kCreateEvents, {"id", "service_id", "event_type", "timestamp", "message", "details"}},
      {"supervisor_alerts",
       kCreateAlerts,
       {"id", "service_id", "rule", "severity", "message", "dependents", "raised_at", "resolved_at", "owed"}},
      {"supervisor_usage",
       kCreateUsage,
       {"service_id", "timestamp", "processes", "descriptors", "read_bytes_per_second", "written_bytes_per_second"}},
      {"supervisor_schema", "CREATE TABLE supervisor_schema (version INTEGER NOT NULL)", {"version"}},
  }};
  return *tables;
}

struct Index {
  std::string_view name;
  const char* create;
};

constexpr std::array<Index, 9> kIndexes = {{
    {"idx_supervisor_events_service",
     "CREATE INDEX IF NOT EXISTS idx_supervisor_events_service ON supervisor_events (service_id, id)"},
    {"idx_supervisor_events_timestamp",
     "CREATE INDEX IF NOT EXISTS idx_supervisor_events_timestamp ON supervisor_events (timestamp)"},
    // All that a span of metrics needs: read in order from the index alone, a week of a service is a few milliseconds.
    {"idx_supervisor_metrics_span",
     "CREATE INDEX IF NOT EXISTS idx_supervisor_metrics_span ON supervisor_metrics "
     "(service_id, timestamp, cpu_percent, memory_mb, health_status, response_time_ms)"},
    {"idx_supervisor_metrics_timestamp",
     "CREATE INDEX IF NOT EXISTS idx_supervisor_metrics_timestamp ON supervisor_metrics (timestamp)"},
    // The newest few results of checks, without reading through all the samples between them.
    {"idx_supervisor_metrics_health",
     "CREATE INDEX IF NOT EXISTS idx_supervisor_metrics_health ON supervisor_metrics (service_id, timestamp) "
     "WHERE response_time_ms IS NOT NULL"},
    {"idx_supervisor_usage_timestamp",
     "CREATE INDEX IF NOT EXISTS idx_supervisor_usage_timestamp ON supervisor_usage (timestamp)"},
    {"idx_supervisor_alerts_open",
     "CREATE UNIQUE INDEX IF NOT EXISTS idx_supervisor_alerts_open ON supervisor_alerts (service_id, rule) "
     "WHERE resolved_at IS NULL"},
    {"idx_supervisor_alerts_owed",
     "CREATE INDEX IF NOT EXISTS idx_supervisor_alerts_owed ON supervisor_alerts (service_id, rule, raised_at) "
     "WHERE owed IS NOT NULL"},
    {"idx_supervisor_alerts_resolved",
     "CREATE INDEX IF NOT EXISTS idx_supervisor_alerts_resolved ON supervisor_alerts (resolved_at)"},
}};

// What leads from one version to the next beyond making what is missing. Each holds for every file of the version
// before, also for one in which somebody has dropped things since.
struct Migration {
  int to_version;
  const char* sql;
};
constexpr std::array<Migration, 1> kMigrations = {{
    {2, "DROP INDEX IF EXISTS idx_supervisor_metrics_service"},  // idx_supervisor_metrics_span begins with the same
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
  return absl::OkStatus();
}

// 0: nothing of ours has been here.
absl::StatusOr<int64_t> VersionOf(SqliteDatabase& db, const std::set<std::string>& existing) {
  return existing.contains("supervisor_schema") ? db.FirstNumber("SELECT max(version) FROM supervisor_schema") : 0;
}

// ALTER TABLE knows no IF NOT EXISTS.
absl::Status AddColumn(SqliteDatabase& db, const std::string& table, const std::string& column) {
  const absl::StatusOr<std::set<std::string>> found = Names(db, "SELECT lower(name) FROM pragma_table_info(?1)", table);
  if (!found.ok()) {
    return found.status();
  }
  if (found->empty() || found->contains(column)) {
    return absl::OkStatus();
  }
  return db.Exec(fmt::format("ALTER TABLE {} ADD COLUMN {} TEXT", table, column));
}

absl::Status Migrate(SqliteDatabase& db, int64_t version) {
  for (const Migration& migration : kMigrations) {
    if (version == 0 || version >= migration.to_version) {
      continue;  // 0: nothing of ours is there to be changed, whatever bears its name
    }
    if (absl::Status status = db.Exec(migration.sql); !status.ok()) {
      return status;
    }
  }
  return version > 0 && version < 3 ? AddColumn(db, "supervisor_alerts", "owed") : absl::OkStatus();
}

// `version` is what the file had.
absl::Status NoteVersion(SqliteDatabase& db, int64_t version) {
  if (version >= kSchemaVersion) {
    return absl::OkStatus();
  }
  if (absl::Status status = db.Exec(
          fmt::format("DELETE FROM supervisor_schema; INSERT INTO supervisor_schema VALUES ({})", kSchemaVersion));
      !status.ok()) {
    return status;
  }
  const absl::StatusOr<bool> is_alone = IsOursAlone(db);
  const absl::StatusOr<int64_t> noted = db.FirstNumber("SELECT user_version FROM pragma_user_version");
  if (!is_alone.ok() || !noted.ok()) {
    return is_alone.ok() ? noted.status() : is_alone.status();
  }
  const bool is_ours = *is_alone && (*noted == 0 || *noted == version);
  return is_ours ? db.Exec(fmt::format("PRAGMA user_version = {}", kSchemaVersion)) : absl::OkStatus();
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
  const absl::StatusOr<int64_t> version = VersionOf(db, *existing);
  if (!version.ok()) {
    return version.status();
  }
  absl::Status status = Migrate(db, *version);
  if (status.ok()) {
    status = MakeMissing(db, *existing);
  }
  if (status.ok()) {
    status = NoteVersion(db, *version);
  }
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

absl::StatusOr<bool> IsOursAlone(SqliteDatabase& db) {
  const absl::StatusOr<int64_t> strangers = db.FirstNumber(
      "SELECT count(*) FROM sqlite_schema WHERE lower(tbl_name) NOT GLOB 'supervisor_*' AND "
      "lower(tbl_name) NOT GLOB 'sqlite_*'");
  if (!strangers.ok()) {
    return strangers.status();
  }
  return *strangers == 0;
}

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
