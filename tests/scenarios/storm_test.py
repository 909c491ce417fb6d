"""Five hundred deaths at once, and a service that dies a thousand times."""

import collections
import os
import time

from harness import Daemon, Scenario, is_alive, kill, main, process_stat, sleeper, wait_until

MANY = 500


class Storm(Scenario):
    def zombies_of(self, daemon):
        """Zombies have no environment, so they are found by their parent."""
        supervisors = set(daemon.supervisors())
        return [
            entry
            for entry in os.listdir("/proc")
            if entry.isdigit() and (stat := process_stat(entry)) and stat[0] == "Z" and int(stat[1]) in supervisors
        ]

    def test_five_hundred_killed_at_once_are_all_back_and_every_exit_is_in_events_and_database(self):
        with Daemon({f"s{i:03}": sleeper(restart_policy={"delay": 0}) for i in range(MANY)}) as daemon:

            def running():
                rows = daemon.status()
                return len(rows) == MANY and all(row["state"] == "running" for row in rows.values()) and rows

            before = {id: row["pid"] for id, row in wait_until(running, "all to run", timeout=60).items()}
            began = time.monotonic()
            for pid in before.values():
                kill(pid)

            def back():
                rows = running()
                return (
                    rows and all(row["pid"] != before[id] and is_alive(row["pid"]) for id, row in rows.items()) and rows
                )

            rows = wait_until(back, "all to be back", timeout=60)
            self.assert_quicker(15, began)
            self.assertEqual({row["restart_count"] for row in rows.values()}, {1})
            self.assertEqual({row["exit_signal"] for row in rows.values()}, {9})
            once = {id: 1 for id in before}

            def exits():
                return collections.Counter(
                    event["service_id"]
                    for event in daemon.events(count=100 * MANY)
                    if event["event_type"] == "exited" and event["details"]["exit_signal"] == 9
                )

            wait_until(lambda: len(exits()) == MANY, "every exit to be told")
            self.assertEqual(exits(), once)
            ends = "SELECT service_id, count(*) FROM supervisor_events WHERE event_type = 'exited' GROUP BY service_id"
            self.assert_becomes(lambda: dict(daemon.sql(ends)), once)
            wait_until(
                lambda: dict(daemon.sql("SELECT id, pid FROM supervisor_services WHERE id <> 'supervisor'"))
                == {id: row["pid"] for id, row in rows.items()},
                "the database to have the new pids",
            )
            wait_until(lambda: not self.zombies_of(daemon), "zombies to be reaped")
            self.assert_becomes(lambda: len(daemon.service_processes()), MANY)

    def test_a_service_that_dies_at_once_is_restarted_a_thousand_times_and_each_exit_is_recorded(self):
        quick = {"command": "/bin/false", "restart_policy": {"delay": 0, "max_attempts": 0, "jitter": 0}}
        with Daemon({"quick": quick, "beside": sleeper()}) as daemon:
            beside = daemon.wait_state("beside", "running")["pid"]
            version = daemon.version()["pid"]
            began = time.monotonic()
            # A stop or a restart comes when it comes: often just as the process dies by itself.
            for _ in range(20):
                daemon.ctl("stop", "quick")
                daemon.ctl("start", "quick")
            daemon.wait_for("quick", lambda row: row["restart_count"] >= 1000, "a thousand restarts", timeout=90)
            self.assertGreater(time.monotonic() - began, 5, "the rate is bounded: see kSpawnSpacing")
            daemon.ctl("stop", "quick")

            def rows_to_the_end():
                rows = daemon.sql(
                    "SELECT id, event_type FROM supervisor_events WHERE service_id = 'quick' "
                    "AND event_type IN ('started', 'exited', 'stopped') ORDER BY id"
                )
                return rows[-1][1] != "started" and rows

            # An answer waits for the database, but not for long.
            rows = wait_until(rows_to_the_end, "the last end to be on disk")
            alive = False
            for id, kind in rows:  # each start has its one end
                self.assertNotEqual(alive, kind == "started" if kind != "stopped" else None, f"event {id}: {kind}")
                alive = kind == "started"
            self.assertFalse(alive)
            self.assertGreaterEqual([kind for _, kind in rows].count("exited"), 1000)
            wait_until(lambda: not self.zombies_of(daemon), "zombies to be reaped")
            self.assertEqual(daemon.pid("beside"), beside)
            self.assertEqual(daemon.version()["pid"], version, "the daemon must not have died of it")


if __name__ == "__main__":
    main()
