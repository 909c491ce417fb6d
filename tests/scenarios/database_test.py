"""The database: the contract's tables, readable by others while the daemon runs, and nothing of others' touched."""

import contextlib
import re
import signal
import sqlite3
import time

from harness import TIMESTAMP, Daemon, Scenario, kill, main, shell, sleeper, wait_until

COLUMNS = {
    "supervisor_services": [
        ("id", "TEXT", 0, None, 1),
        ("name", "TEXT", 1, None, 0),
        ("description", "TEXT", 0, None, 0),
        ("state", "TEXT", 1, None, 0),
        ("pid", "INTEGER", 0, None, 0),
        ("port", "INTEGER", 0, None, 0),
        ("start_time", "TIMESTAMP", 0, None, 0),
        ("uptime_seconds", "INTEGER", 0, "0", 0),
        ("restart_count", "INTEGER", 0, "0", 0),
        ("last_restart", "TIMESTAMP", 0, None, 0),
        ("priority", "INTEGER", 0, "999", 0),
        ("critical", "INTEGER", 0, "0", 0),
        ("auto_restart", "INTEGER", 0, "1", 0),
        ("created_at", "TIMESTAMP", 0, "CURRENT_TIMESTAMP", 0),
        ("updated_at", "TIMESTAMP", 0, "CURRENT_TIMESTAMP", 0),
    ],
    "supervisor_metrics": [
        ("id", "INTEGER", 0, None, 1),
        ("service_id", "TEXT", 1, None, 0),
        ("timestamp", "TIMESTAMP", 0, "CURRENT_TIMESTAMP", 0),
        ("cpu_percent", "REAL", 0, None, 0),
        ("memory_mb", "REAL", 0, None, 0),
        ("health_status", "TEXT", 0, None, 0),
        ("response_time_ms", "REAL", 0, None, 0),
    ],
    "supervisor_events": [
        ("id", "INTEGER", 0, None, 1),
        ("service_id", "TEXT", 1, None, 0),
        ("event_type", "TEXT", 1, None, 0),
        ("timestamp", "TIMESTAMP", 0, "CURRENT_TIMESTAMP", 0),
        ("message", "TEXT", 0, None, 0),
        ("details", "TEXT", 0, None, 0),
    ],
}

SCHEMA = """
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
"""


class Database(Scenario):
    def row(self, daemon, service, *columns):
        rows = daemon.sql(f"SELECT {', '.join(columns)} FROM supervisor_services WHERE id = ?", service)
        return rows[0] if rows else ()

    def test_the_three_tables_have_exactly_the_contracts_columns(self):
        with Daemon({"web": sleeper()}) as daemon:
            for table, columns in COLUMNS.items():
                found = wait_until(lambda: daemon.sql(f"PRAGMA table_info({table})"), table)
                self.assertEqual([row[1:] for row in found], columns, table)
            for table in ("supervisor_metrics", "supervisor_events"):
                keys = daemon.sql(f"PRAGMA foreign_key_list({table})")
                self.assertEqual(
                    [(key[2], key[3], key[4]) for key in keys], [("supervisor_services", "service_id", "id")]
                )
                (sql,) = daemon.sql("SELECT sql FROM sqlite_master WHERE name = ?", table)[0]
                self.assertIn("AUTOINCREMENT", sql.upper())
            for (name,) in daemon.sql(
                "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
            ):
                self.assertTrue(name.startswith("supervisor_"), name)
            self.assertEqual(daemon.sql("PRAGMA foreign_key_check"), [])
            self.assertEqual(daemon.sql("PRAGMA integrity_check"), [("ok",)])

    def test_the_rows_of_services_show_where_they_stand(self):
        services = {
            "web": sleeper(name="The Web", description="Serves", port=8080, priority=7, critical=True),
            "off": sleeper(enabled=False),
            "once": sleeper(restart_policy={"mode": "never"}),
        }
        with Daemon(services) as daemon:
            pid = daemon.wait_state("web", "running")["pid"]
            wait_until(lambda: self.row(daemon, "web", "state", "pid") == ("running", pid), "the row to show it")
            self.assertEqual(
                self.row(
                    daemon,
                    "web",
                    "name",
                    "description",
                    "port",
                    "priority",
                    "critical",
                    "auto_restart",
                    "restart_count",
                ),
                ("The Web", "Serves", 8080, 7, 1, 1, 0),
            )
            wait_until(
                lambda: self.row(daemon, "off", "state", "pid", "start_time") == ("stopped", None, None),
                "the disabled one's row",
            )
            wait_until(lambda: self.row(daemon, "once", "auto_restart") == (0,), "the row")
            kill(pid)
            next_pid = daemon.wait_for("web", lambda row: row["state"] == "running" and row["pid"] != pid, "the next")[
                "pid"
            ]
            wait_until(
                lambda: self.row(daemon, "web", "state", "pid", "restart_count") == ("running", next_pid, 1),
                "the row to show it",
            )
            self.assertRegex(self.row(daemon, "web", "last_restart")[0], f"^{TIMESTAMP.pattern}$")
            daemon.ctl("stop", "web")
            wait_until(lambda: self.row(daemon, "web", "state", "pid") == ("stopped", None), "the row to show the stop")

    def test_the_daemon_has_its_row_and_events(self):
        with Daemon(background=True) as daemon:
            wait_until(lambda: self.row(daemon, "supervisor", "id", "name", "state"), "the daemon's row")
            wait_until(
                lambda: ("supervisor_started",)
                in daemon.sql("SELECT event_type FROM supervisor_events WHERE service_id = 'supervisor'"),
                "its event",
            )
            daemon.stop()
            self.assertEqual(
                [
                    row[0]
                    for row in daemon.sql(
                        "SELECT event_type FROM supervisor_events WHERE service_id = 'supervisor' "
                        "AND event_type LIKE 'supervisor_%' ORDER BY id"
                    )
                ],
                ["supervisor_started", "supervisor_stopped"],
            )

    def test_what_a_command_has_answered_is_in_the_database(self):
        patience = 1.0  # of the daemon with a slow disk: an answer that took longer promises nothing
        with Daemon({"web": sleeper()}) as daemon:
            daemon.wait_state("web", "running")

            def ask(*command):
                began = time.monotonic()
                self.assertEqual(daemon.ctl(*command).returncode, 0)
                return time.monotonic() - began < patience

            last = (  # whatever a busy machine may raise alerts about
                "SELECT event_type FROM supervisor_events WHERE service_id = ? AND event_type NOT LIKE 'alert_%' "
                "ORDER BY id DESC LIMIT 1"
            )
            looked = 0
            for _ in range(10):
                for command, state, event in (("stop", "stopped", "stopped"), ("start", "running", "started")):
                    if ask(command, "web"):
                        looked += 1
                        self.assertEqual(self.row(daemon, "web", "state"), (state,))
                        self.assertEqual(daemon.sql(last, "web"), [(event,)])
                if ask("reload"):
                    self.assertEqual(daemon.sql(last, "supervisor"), [("reloaded",)])
                if ask("restart", "web"):
                    self.assertEqual(self.row(daemon, "web", "pid"), (daemon.pid("web"),))
            self.assertGreater(looked, 0)

    def test_after_a_stop_no_row_claims_a_process(self):
        with Daemon({"web": sleeper()}, background=True) as daemon:
            daemon.wait_state("web", "running")
            daemon.stop()
            self.assertEqual(self.row(daemon, "web", "state", "pid"), ("stopped", None))
            events = [
                row[0]
                for row in daemon.sql("SELECT event_type FROM supervisor_events WHERE service_id = 'web' ORDER BY id")
            ]
            self.assert_in_order(["started", "stopped"], events)

    def test_timestamps_are_utc_in_the_contracts_format(self):
        with Daemon({"web": shell("exit 0")}, extra={"monitoring": {"metrics_interval": 0.1}}) as daemon:
            daemon.wait_for("web", lambda row: row["restart_count"] >= 2, "restarts")
            wait_until(lambda: daemon.sql("SELECT 1 FROM supervisor_events WHERE service_id = 'web'"), "events")
            (now,) = daemon.sql("SELECT strftime('%s', 'now')")[0]
            pattern = re.compile(f"^{TIMESTAMP.pattern}$")
            values = [
                row[0]
                for row in daemon.sql(
                    "SELECT timestamp FROM supervisor_events UNION SELECT timestamp FROM supervisor_metrics "
                    "UNION SELECT start_time FROM supervisor_services UNION SELECT created_at FROM "
                    "supervisor_services UNION SELECT updated_at FROM supervisor_services"
                )
            ]
            self.assertTrue(values)
            for value in values:
                if value is not None:
                    self.assertRegex(value, pattern)
                    (then,) = daemon.sql("SELECT strftime('%s', ?)", value)[0]
                    self.assertLess(abs(int(now) - int(then)), 300)

    def test_metrics_are_recorded(self):
        with Daemon({"web": sleeper()}, extra={"monitoring": {"metrics_interval": 0.1}}) as daemon:

            def measured():
                rows = daemon.sql(
                    "SELECT cpu_percent, memory_mb FROM supervisor_metrics "
                    "WHERE service_id = 'web' AND memory_mb IS NOT NULL ORDER BY id"
                )
                return rows if any(cpu is not None for cpu, _ in rows) else None

            rows = wait_until(measured, "metrics")
            self.assertIsNone(rows[0][0])  # a rate since when?
            self.assertGreater(max(memory for _, memory in rows), 0.1)
            for cpu, memory in rows:
                self.assertGreaterEqual(memory, 0)  # in the midst of its execve(2) it has next to none
                self.assertGreaterEqual(cpu or 0, 0)
            daemon.require("metrics", "web")
            self.assertTrue(daemon.ctl_json("metrics", "web"))

    def test_no_rate_is_over_a_moment_and_none_is_made_up(self):
        with Daemon({"web": sleeper()}, extra={"monitoring": {"metrics_interval": 0.02}}) as daemon:

            def measured():
                rates, span = daemon.sql(
                    "SELECT count(cpu_percent), (julianday(max(timestamp)) - julianday(min(timestamp))) * 86400 "
                    "FROM supervisor_metrics WHERE service_id = 'web' AND memory_mb IS NOT NULL"
                )[0]
                return (rates, span) if rates >= 3 else None

            rates, span = wait_until(measured, "some rates")
            self.assertLessEqual(rates * 0.5, span + 0.5)
            unpaired = daemon.sql(
                "SELECT count(*) FROM supervisor_usage JOIN supervisor_metrics USING (service_id, timestamp) "
                "WHERE cpu_percent IS NULL AND read_bytes_per_second IS NOT NULL"
            )
            self.assertEqual(unpaired, [(0,)])
            self.assertIsInstance(daemon.status("web")["cpu_percent"], (int, float))

    def test_an_existing_database_with_foreign_tables_is_taken_as_it_is(self):
        for given in ("", SCHEMA):
            with self.subTest(supervisor_tables=bool(given)), Daemon({"web": sleeper()}, started=False) as daemon:
                with contextlib.closing(sqlite3.connect(daemon.database)) as database:
                    database.executescript(
                        given
                        + """
                        CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT);
                        CREATE INDEX users_by_name ON users (name);
                        CREATE VIEW names AS SELECT name FROM users;
                        INSERT INTO users (name) VALUES ('one'), ('two');
                        PRAGMA user_version = 42; PRAGMA application_id = 4711;"""
                    )
                    if given:
                        database.executescript(
                            "INSERT INTO supervisor_services (id, name, state, description) "
                            "VALUES ('old', 'Old', 'running', 'kept');"
                            "INSERT INTO supervisor_events (service_id, event_type, message) "
                            "VALUES ('old', 'started', 'then');"
                        )
                    schema = dict(database.execute("SELECT name, sql FROM sqlite_master"))
                daemon.start()
                daemon.wait_state("web", "running")
                wait_until(lambda: self.row(daemon, "web", "state") == ("running",), "the row")
                daemon.stop()
                after = dict(daemon.sql("SELECT name, sql FROM sqlite_master"))
                for name, sql in schema.items():
                    self.assertEqual(after[name], sql)
                self.assertEqual(daemon.sql("SELECT * FROM users"), [(1, "one"), (2, "two")])
                self.assertEqual(daemon.sql("PRAGMA user_version"), [(42,)])
                self.assertEqual(daemon.sql("PRAGMA application_id"), [(4711,)])
                if given:
                    self.assertEqual(
                        daemon.sql("SELECT message FROM supervisor_events WHERE service_id = 'old'"), [("then",)]
                    )
                    self.assertEqual(
                        daemon.sql("SELECT name, description FROM supervisor_services WHERE id = 'old'"),
                        [("Old", "kept")],
                    )

    def test_another_program_that_locks_the_database_does_not_stop_supervision(self):
        with Daemon({"web": sleeper()}) as daemon:
            pid = daemon.wait_state("web", "running")["pid"]
            wait_until(lambda: self.row(daemon, "web", "state") == ("running",), "the row")
            with contextlib.closing(sqlite3.connect(daemon.database, timeout=10, isolation_level=None)) as other:
                other.execute("BEGIN EXCLUSIVE")
                kill(pid)
                row = daemon.wait_for(
                    "web", lambda row: row["state"] == "running" and row["pid"] != pid, "the next instance"
                )
                daemon.ctl("restart", "web", timeout=10)
                other.execute("ROLLBACK")
            daemon.wait_event("web", "exited", lambda event: "SIGKILL" in event["message"], timeout=30)
            self.assertNotEqual(daemon.pid("web"), row["pid"])

    def test_a_malformed_file_is_set_aside_and_kept(self):
        with Daemon({"web": sleeper()}, started=False) as daemon:
            daemon.database.write_bytes(b"this is no database " * 1000)
            daemon.start()
            daemon.wait_state("web", "running")
            wait_until(lambda: self.row(daemon, "web", "state") == ("running",), "the row in a new database")
            kept = [
                path for path in daemon.dir.glob("supervisor.db*") if path.read_bytes()[:20] == b"this is no database "
            ]
            self.assertEqual(len(kept), 1)

    def test_events_say_who_caused_them(self):
        with Daemon({"web": sleeper()}) as daemon:
            daemon.wait_state("web", "running")
            daemon.ctl("restart", "web")
            daemon.wait_event("web", "started", lambda event: "uid" in event["actor"])
            kill(daemon.pid("web"), signal.SIGKILL)
            self.assertEqual(
                daemon.wait_event("web", "restarting", lambda event: event["actor"] == "policy")["actor"], "policy"
            )


if __name__ == "__main__":
    main()
