"""The database in trouble: supervision goes on, rows wait, and nothing of others' is lost."""

import contextlib
import os
import sqlite3
import threading
import time
import unittest

from database_test import SCHEMA
from harness import DONE, FAILED, Daemon, Scenario, kill, main, needs_root, sleeper, small_disk, wait_until


class Trouble(Scenario):
    def restarts(self, daemon):
        """Supervision goes on: a killed service is back at once, and a caller is served."""
        pid = daemon.wait_state("web", "running")["pid"]
        kill(pid)
        daemon.wait_for("web", lambda row: row["state"] == "running" and row["pid"] != pid, "the next")
        daemon.ctl("restart", "web", timeout=10)

    def in_trouble(self, daemon):
        return "database" in [alert["rule"] for alert in daemon.ctl_json("alerts")["alerts"]]

    def start_with_fail_point(self, daemon, name):
        """Whoever comes there next hangs for good, which is when the file that is returned goes."""
        if not daemon.supervisord("--internal-fail-points").stdout:
            raise unittest.SkipTest("this build has no fail points (the asan, tsan and debug presets have)")
        armory = daemon.dir / "fail"
        armory.mkdir()
        daemon.env["SUPERVISOR_FAIL_POINTS"] = str(armory)
        daemon.start()
        self.wait_written(daemon)
        (armory / name).write_text("delay 3600000")
        return armory / name

    def write(self, daemon, statement, *parameters):
        """As another program does."""
        with contextlib.closing(sqlite3.connect(daemon.database, timeout=30)) as other, other:
            other.execute(statement, parameters)

    def wait_written(self, daemon):
        """An event that happens now reaches the file."""
        daemon.ctl("restart", "web")
        pid = daemon.pid("web")
        wait_until(
            lambda: daemon.sql("SELECT 1 FROM supervisor_services WHERE id = 'web' AND pid = ?", pid),
            "the row with the present pid",
            timeout=30,
        )

    def test_a_large_one_is_taken_over_while_others_read_and_write(self):
        with Daemon({"web": sleeper()}, extra={"monitoring": {"metrics_interval": 0.1}}, started=False) as daemon:
            with contextlib.closing(sqlite3.connect(daemon.database)) as database:
                database.executescript(
                    SCHEMA
                    + """
                    CREATE TABLE orders (id INTEGER PRIMARY KEY, item TEXT, amount REAL);
                    CREATE TABLE audit (id INTEGER PRIMARY KEY AUTOINCREMENT, who TEXT, at TEXT);
                    CREATE INDEX orders_by_item ON orders (item);
                    INSERT INTO supervisor_services (id, name, state) VALUES ('old', 'Old', 'running');
                    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 100000)
                    INSERT INTO supervisor_metrics (service_id, cpu_percent) SELECT 'old', i FROM n;
                    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 100000)
                    INSERT INTO supervisor_events (service_id, event_type, message) SELECT 'old', 'started', i FROM n;
                    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 100000)
                    INSERT INTO orders (item, amount) SELECT 'item ' || i, i FROM n;"""
                )

            def digest():
                return [
                    daemon.sql(query)
                    for query in (
                        "SELECT count(*), sum(id), sum(length(item)), sum(amount) FROM orders",
                        "SELECT count(*), sum(id), sum(cpu_percent), min(timestamp), max(timestamp) "
                        "FROM supervisor_metrics WHERE service_id = 'old'",
                        "SELECT count(*), sum(id), sum(message) FROM supervisor_events WHERE service_id = 'old' "
                        "AND event_type = 'started'",
                    )
                ]

            before = digest()
            failures, written, ended = [], [0], threading.Event()

            def write():
                with contextlib.closing(sqlite3.connect(daemon.database, timeout=30)) as other:
                    while not ended.is_set():
                        try:
                            other.execute("INSERT INTO audit (who) VALUES ('other')")
                            other.commit()
                            written[0] += 1
                        except sqlite3.Error as error:
                            failures.append(error)

            def read():
                while not ended.is_set():
                    try:
                        daemon.sql("SELECT count(*) FROM orders WHERE item LIKE 'item 1%'")
                    except sqlite3.Error as error:
                        failures.append(error)

            threads = [threading.Thread(target=work) for work in (write, read)]
            for thread in threads:
                thread.start()
            try:
                daemon.start()
                self.wait_written(daemon)
                self.restarts(daemon)
                wait_until(lambda: written[0] > 50, "the other program's rows", timeout=60)
                wait_until(
                    lambda: daemon.sql("SELECT count(*) FROM supervisor_metrics WHERE service_id = 'web'")[0][0] > 5,
                    "our own",
                    timeout=30,
                )
            finally:
                ended.set()
                for thread in threads:
                    thread.join()
            self.assertEqual(failures, [])
            self.assertEqual(digest(), before)
            self.assertEqual(daemon.sql("SELECT count(*) FROM audit"), [(written[0],)])
            self.assertEqual(daemon.sql("PRAGMA user_version"), [(0,)])
            self.assertEqual(daemon.sql("PRAGMA integrity_check"), [("ok",)])
            self.assertTrue(daemon.ctl_json("metrics", "web")["points"])

    def test_our_own_file_says_its_version(self):
        with Daemon({"web": sleeper()}) as daemon:
            self.wait_written(daemon)
            (version,) = daemon.sql("SELECT version FROM supervisor_schema")[0]
            self.assertEqual(daemon.sql("PRAGMA user_version"), [(version,)])

    def test_deleted(self):
        with Daemon({"web": sleeper()}) as daemon:
            self.wait_written(daemon)
            for path in daemon.dir.glob("supervisor.db*"):
                path.unlink()
            self.restarts(daemon)
            self.wait_written(daemon)
            daemon.ctl("events")

    def test_malformed_while_it_is_used(self):
        with Daemon({"web": sleeper()}) as daemon:
            self.wait_written(daemon)
            # All of it into the file, as sooner or later by itself, and then every page but the first is spoiled.
            with contextlib.closing(sqlite3.connect(daemon.database, timeout=30)) as other:
                wait_until(
                    lambda: other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0, "the checkpoint"
                )
            with open(daemon.database, "r+b") as file:
                file.seek(4096)
                file.write(b"spoiled " * ((daemon.database.stat().st_size - 4096) // 8))
            self.restarts(daemon)
            wait_until(
                lambda: daemon.ctl("events", expect=None) and list(daemon.dir.glob("supervisor.db.malformed-*")),
                "the spoiled file, kept",
                timeout=60,
            )
            self.wait_written(daemon)
            daemon.wait_daemon_log("malformed")

    def test_the_last_id_that_sqlite_has(self):
        """Another program writes it: SQLite takes no further row then. It is told, and the history goes on."""
        row = "INSERT INTO supervisor_events (id, service_id, event_type, message) VALUES (?, 'web', 'note', 'theirs')"
        with Daemon({"web": sleeper()}) as daemon:
            self.wait_written(daemon)
            self.write(daemon, row, 2**63 - 1)
            self.wait_written(daemon)
            ((theirs, last),) = daemon.sql(
                "SELECT (SELECT id FROM supervisor_events WHERE message = 'theirs'), max(id) FROM supervisor_events"
            )
            self.assertLess(theirs, last)
            self.assertLess(last, 1000)
            told = "supervisor_events had come to the id 9223372036854775807"
            wait_until(lambda: told in daemon.daemon_log.read_text(), "the word in the log")
            wait_until(lambda: told in daemon.ctl("events", "supervisor", "--type", "note").stdout, "the event")
            wait_until(lambda: not self.in_trouble(daemon), "the end of the trouble", timeout=30)
            # Deleted, it is still what SQLite counts from; and so it may lie there when the daemon starts.
            daemon.stop()
            self.write(daemon, row, 2**63 - 1)
            self.write(daemon, "DELETE FROM supervisor_events WHERE id > 1000")
            daemon.start()
            self.wait_written(daemon)
            self.assertLess(daemon.sql("SELECT max(id) FROM supervisor_events")[0][0], 1000)
            self.assertEqual(daemon.sql("PRAGMA integrity_check"), [("ok",)])

    @needs_root
    def test_on_a_read_only_disk(self):
        """As a disk is after an error: supervision goes on, and what waited is written when it can be."""
        with Daemon({"web": sleeper()}, started=False) as daemon:
            disk = daemon.dir / "disk"
            with small_disk(disk, 16 << 20) as mounted:
                daemon.database = disk / "supervisor.db"
                daemon.config["global"]["database"] = str(daemon.database)
                daemon.write_config()
                daemon.start()
                self.wait_written(daemon)
                # A disk that somebody writes to cannot be made read-only (EBUSY): only while the daemon is away.
                daemon.kill_daemon()
                mounted.remount(read_only=True)
                daemon.start()
                self.restarts(daemon)
                wait_until(lambda: self.in_trouble(daemon), "the trouble", timeout=30)
                self.assertRegex(daemon.daemon_log.read_text(), "read-only|readonly|Read-only")
                # What was written before can be read, and what happens now is seen by those who follow.
                stream = daemon.stream("--json", "events", "-f", "-n", "0")
                while not stream.rest():
                    self.restarts(daemon)
                pid = daemon.pid("web")
                mounted.remount(read_only=False)
                wait_until(lambda: not self.in_trouble(daemon), "the end of the trouble", timeout=60)
                wait_until(
                    lambda: daemon.sql("SELECT 1 FROM supervisor_services WHERE id = 'web' AND pid = ?", pid),
                    "what waited in the file",
                    timeout=30,
                )
                self.assertEqual(daemon.sql("PRAGMA integrity_check"), [("ok",)])
                daemon.stop()

    @needs_root
    def test_on_a_full_disk(self):
        with Daemon({"web": sleeper()}, started=False) as daemon:
            disk = daemon.dir / "disk"
            with small_disk(disk, 1 << 20):
                daemon.database = disk / "supervisor.db"
                daemon.config["global"]["database"] = str(daemon.database)
                daemon.write_config()
                daemon.start()
                self.wait_written(daemon)
                filler = disk / "filler"
                with contextlib.suppress(OSError), open(filler, "wb", buffering=0) as file:
                    while True:
                        file.write(bytes(4096))
                self.restarts(daemon)
                wait_until(lambda: self.restarts(daemon) or self.in_trouble(daemon), "the trouble", timeout=60)
                filler.unlink()
                wait_until(lambda: not self.in_trouble(daemon), "the end of the trouble", timeout=60)
                self.wait_written(daemon)
                daemon.stop()

    def test_the_writer_hangs_in_the_disk_and_nobody_waits_for_it(self):
        """The writer never comes back from its transaction: whatever a caller asks for is done all the same."""
        with Daemon({"web": sleeper(), "api": sleeper(enabled=False)}, started=False) as daemon:
            point = self.start_with_fail_point(daemon, "store.written")
            daemon.ctl("start", "api")
            wait_until(lambda: not point.exists(), "the writer to hang")
            before = daemon.sql("SELECT max(id) FROM supervisor_events")
            self.restarts(daemon)
            daemon.ctl("stop", "api")
            self.assertEqual(daemon.status("api")["state"], "stopped")
            daemon.write_config({"web": sleeper(), "more": sleeper()})
            daemon.ctl("reload")
            daemon.wait_state("more", "running")
            for command in (["health"], ["summary"], ["alerts"], ["explain", "web"]):
                daemon.ctl(*command, expect=None, timeout=10)
            # It hangs to this moment: nothing of all that is in the file. Nor does the end of the daemon wait for it.
            self.assertEqual(daemon.sql("SELECT max(id) FROM supervisor_events"), before)
            daemon.stop()

    def test_the_reader_hangs_in_the_disk_and_everybody_is_answered(self):
        """From memory where that has it, with a word about the rest; and the end of the daemon does not wait either."""
        with Daemon({"web": sleeper()}, started=False) as daemon:
            point = self.start_with_fail_point(daemon, "store.asked")
            follows = daemon.stream("events", "-f")
            asked = [daemon.stream(*command) for command in (["summary"], ["alerts"], ["explain", "web"], ["health", "web"])]
            for client in asked:
                self.assertEqual(client.wait(), DONE)
            self.assertFalse(point.exists())
            self.assertIn("did not answer in time", " ".join(asked[2].errors() + asked[3].errors()))
            refused = [daemon.stream(*command) for command in (["metrics", "web"], ["events"])]
            for client in refused:
                self.assertEqual(client.wait(), FAILED)
                self.assertIn("the database did not answer in time", " ".join(client.errors()))
            self.restarts(daemon)
            follows.wait_for("restarting")
            daemon.stop()

    def test_locked_for_good_nobody_waits_for_it(self):
        """What waits is counted, callers are answered as ever, and a stop takes no longer than the time to flush."""
        with Daemon({"web": sleeper()}) as daemon:
            self.wait_written(daemon)
            with contextlib.closing(sqlite3.connect(daemon.database, timeout=30, isolation_level=None)) as other:
                other.execute("BEGIN EXCLUSIVE")
                for _ in range(5):
                    self.restarts(daemon)
                wait_until(lambda: self.in_trouble(daemon), "the trouble", timeout=30)
                slowest = 0.0
                for _ in range(20):
                    began = time.monotonic()
                    daemon.status("web")
                    slowest = max(slowest, time.monotonic() - began)
                self.assertLess(slowest, 5 * float(os.environ.get("SCENARIO_TIME_SCALE") or 1))
                daemon.stop()
                other.execute("ROLLBACK")


if __name__ == "__main__":
    main()
