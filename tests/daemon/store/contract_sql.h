#pragma once

namespace supervisor {

// The tables in the words of the contract, apart from the code under test.
inline constexpr char kContractSql[] = R"(
CREATE TABLE supervisor_services (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, description TEXT, state TEXT NOT NULL, pid INTEGER, port INTEGER,
    start_time TIMESTAMP, uptime_seconds INTEGER DEFAULT 0, restart_count INTEGER DEFAULT 0, last_restart TIMESTAMP,
    priority INTEGER DEFAULT 999, critical INTEGER DEFAULT 0, auto_restart INTEGER DEFAULT 1,
    created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP, updated_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP);
CREATE TABLE supervisor_metrics (
    id INTEGER PRIMARY KEY AUTOINCREMENT, service_id TEXT NOT NULL, timestamp TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
    cpu_percent REAL, memory_mb REAL, health_status TEXT, response_time_ms REAL,
    FOREIGN KEY (service_id) REFERENCES supervisor_services(id));
CREATE TABLE supervisor_events (
    id INTEGER PRIMARY KEY AUTOINCREMENT, service_id TEXT NOT NULL, event_type TEXT NOT NULL,
    timestamp TIMESTAMP DEFAULT CURRENT_TIMESTAMP, message TEXT, details TEXT,
    FOREIGN KEY (service_id) REFERENCES supervisor_services(id));
)";

}  // namespace supervisor
