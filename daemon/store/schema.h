#pragma once

#include <string_view>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "daemon/store/sqlite.h"

namespace supervisor {

// The tables, as CONTRACT section 7 fixes them: other programs read them.
//
// Which version of the tables a file holds is kept in PRAGMA user_version where the file is ours alone. There is one
// user_version a file: in a file that holds other programs' tables too it is theirs to number as they like, also while
// it is 0, so there (and beside it, everywhere) the version stands in a table of our own, supervisor_schema. A version
// newer than ours is left alone, since the three tables stay what the contract says.
//
//   1  the contract's three tables
//   2  supervisor_alerts, supervisor_usage; the index of metrics holds what `metrics` reads
//   3  supervisor_alerts.owed
inline constexpr int kSchemaVersion = 3;

inline constexpr char kCreateServices[] = R"(CREATE TABLE supervisor_services (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, description TEXT, state TEXT NOT NULL, pid INTEGER, port INTEGER,
    start_time TIMESTAMP, uptime_seconds INTEGER DEFAULT 0, restart_count INTEGER DEFAULT 0, last_restart TIMESTAMP,
    priority INTEGER DEFAULT 999, critical INTEGER DEFAULT 0, auto_restart INTEGER DEFAULT 1,
    created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP, updated_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP))";
inline constexpr char kCreateMetrics[] = R"(CREATE TABLE supervisor_metrics (
    id INTEGER PRIMARY KEY AUTOINCREMENT, service_id TEXT NOT NULL, timestamp TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
    cpu_percent REAL, memory_mb REAL, health_status TEXT, response_time_ms REAL,
    FOREIGN KEY (service_id) REFERENCES supervisor_services(id)))";
inline constexpr char kCreateEvents[] = R"(CREATE TABLE supervisor_events (
    id INTEGER PRIMARY KEY AUTOINCREMENT, service_id TEXT NOT NULL, event_type TEXT NOT NULL,
    timestamp TIMESTAMP DEFAULT CURRENT_TIMESTAMP, message TEXT, details TEXT,
    FOREIGN KEY (service_id) REFERENCES supervisor_services(id)))";

// At most one alert a service and rule is open: whoever raises it, and after whatever crash. `owed` is a JSON array of
// the channels that have not been told of its present state, NULL where all have.
inline constexpr char kCreateAlerts[] = R"(CREATE TABLE supervisor_alerts (
    id INTEGER PRIMARY KEY AUTOINCREMENT, service_id TEXT NOT NULL, rule TEXT NOT NULL, severity TEXT NOT NULL,
    message TEXT, dependents TEXT, raised_at TIMESTAMP NOT NULL, resolved_at TIMESTAMP, owed TEXT,
    FOREIGN KEY (service_id) REFERENCES supervisor_services(id)))";
// What a sample holds beyond the contract's columns, of the whole tree of a service; rates are bytes a second.
inline constexpr char kCreateUsage[] = R"(CREATE TABLE supervisor_usage (
    service_id TEXT NOT NULL, timestamp TIMESTAMP NOT NULL, processes INTEGER, descriptors INTEGER,
    read_bytes_per_second REAL, written_bytes_per_second REAL, PRIMARY KEY (service_id, timestamp)) WITHOUT ROWID)";

// The service id under which the daemon's own events go; its row is always there.
inline constexpr std::string_view kSupervisorServiceId = "supervisor";

// Brings the file to this version: takes the steps from the version that it has, makes what is missing of our tables
// and indexes, all in one transaction, and the row "supervisor". What exists is taken
// as it is. True: supervisor_services is new, so the caller writes what it knows of the services. kFailedPrecondition
// when a table of ours by name lacks columns, and names them.
absl::StatusOr<bool> EnsureSchema(SqliteDatabase& db, absl::Time now);

// Returns true iff no other program has tables, views or indexes in the file.
absl::StatusOr<bool> IsOursAlone(SqliteDatabase& db);

}  // namespace supervisor
