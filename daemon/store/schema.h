#pragma once

#include <string_view>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "daemon/store/sqlite.h"

namespace supervisor {

// The tables, as CONTRACT section 7 fixes them: other programs read them.
//
// Which version of the tables a file holds is kept in a table of our own, supervisor_schema, not in PRAGMA
// user_version: there is one user_version a file, the file may hold other programs' tables, and it is theirs to number
// as they like. A version newer than ours is left alone, since the three tables stay what the contract says.
inline constexpr int kSchemaVersion = 1;

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

// The service id under which the daemon's own events go; its row is always there.
inline constexpr std::string_view kSupervisorServiceId = "supervisor";

// Makes what is missing of our tables and indexes, in one transaction, and the row "supervisor". What exists is taken
// as it is. True: supervisor_services is new, so the caller writes what it knows of the services. kFailedPrecondition
// when a table of ours by name lacks columns, and names them.
absl::StatusOr<bool> EnsureSchema(SqliteDatabase& db, absl::Time now);

}  // namespace supervisor
