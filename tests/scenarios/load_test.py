"""Many at once: deaths, quick exits, services, and what must not cost anything."""

import collections
import json
import os
import signal
import time

from harness import (
    DONE,
    Daemon,
    Scenario,
    cpu_seconds,
    eventually,
    is_alive,
    kill,
    main,
    process_stat,
    python,
    shell,
    sleeper,
    wait_until,
    SCALE,
)


class Load(Scenario):
    def zombies_of(self, daemon):
        """Zombies have no environment, so they are found by their parent."""
        supervisors = set(daemon.supervisors())
        return [
            entry
            for entry in os.listdir("/proc")
            if entry.isdigit() and (stat := process_stat(entry)) and stat[0] == "Z" and int(stat[1]) in supervisors
        ]

    def test_thirty_killed_at_once_come_back_and_every_exit_is_recorded(self):
        with Daemon({f"s{i:02}": sleeper() for i in range(30)}) as daemon:
            wait_until(
                lambda: {row["state"] for row in daemon.status().values()} == {"running"}, "all to run", timeout=30
            )
            before = {id: row["pid"] for id, row in daemon.status().items()}
            for pid in before.values():
                kill(pid)

            def back():
                rows = daemon.status()
                return all(row["state"] == "running" and row["pid"] != before[id] for id, row in rows.items()) and rows

            rows = wait_until(back, "all to be back", timeout=30)
            self.assertEqual({row["restart_count"] for row in rows.values()}, {1})

            def exits():
                return collections.Counter(
                    event["service_id"]
                    for event in daemon.events()
                    if event["event_type"] == "exited" and "SIGKILL" in event["message"]
                )

            self.assert_becomes(exits, {id: 1 for id in before})
            self.assert_becomes(lambda: len(daemon.service_processes()), 30)
            wait_until(lambda: not self.zombies_of(daemon), "zombies to be reaped")

    def test_two_hundred_services_start_and_stop(self):
        with Daemon({f"s{i:03}": sleeper() for i in range(200)}) as daemon:
            wait_until(
                lambda: {row["state"] for row in daemon.status().values()} == {"running"}, "all to run", timeout=60
            )
            self.assert_becomes(lambda: len(daemon.service_processes()), 200)
            began = time.monotonic()
            daemon.stop()
            self.assert_quicker(20, began)

    def test_a_child_that_closes_its_output_does_not_make_the_daemon_spin(self):
        with Daemon(started=False) as daemon:
            script = f"echo set; exec 1>&- 2>&-; sleep 1; : > {daemon.dir}/done; exec sleep 1000"
            daemon.write_config({"web": shell(script), "other": shell(script)})
            daemon.start()
            daemon.wait_log("web", "set")
            daemon.wait_log("other", "set")
            supervisors = daemon.supervisors()
            before = cpu_seconds(supervisors)
            wait_until((daemon.dir / "done").exists, "the script's mark")
            self.assertLess(cpu_seconds(supervisors) - before, 0.2 * SCALE)
            self.assertEqual(daemon.status("web")["state"], "running")

    def test_a_child_that_kept_its_parents_output_does_not_make_the_daemon_spin(self):
        with Daemon(started=False) as daemon:
            daemon.write_config(
                {
                    "web": shell(
                        f"(sleep 1; : > {daemon.dir}/done; sleep 1000) & echo set; exit 0",
                        graceful_shutdown={"kill_mode": "process"},
                        restart_policy={"mode": "never"},
                    )
                }
            )
            daemon.start()
            daemon.wait_log("web", "set")
            supervisors = daemon.supervisors()
            before = cpu_seconds(supervisors)
            wait_until((daemon.dir / "done").exists, "the script's mark")
            self.assertLess(cpu_seconds(supervisors) - before, 0.2 * SCALE)
            for pid in daemon.service_processes():
                kill(pid)

    def test_many_quick_exits_are_all_counted_and_a_stop_ends_them(self):
        with Daemon(
            {
                "quick": {"command": "/bin/true", "restart_policy": {"delay": 0, "max_attempts": 0, "jitter": 0}},
                "beside": sleeper(),
            }
        ) as daemon:
            beside = daemon.wait_state("beside", "running")["pid"]
            daemon.wait_for("quick", lambda row: row["restart_count"] >= 300, "300 restarts", timeout=60)
            began = time.monotonic()
            daemon.ctl("stop", "quick")
            self.assert_quicker(5, began)
            row = daemon.status("quick")
            self.assertEqual(row["state"], "stopped")
            self.assertEqual(daemon.pid("beside"), beside)

            def check_counts():
                counts = dict(
                    daemon.sql(
                        "SELECT event_type, count(*) FROM supervisor_events WHERE service_id = 'quick' "
                        "AND event_type IN ('started', 'exited', 'restarting') GROUP BY 1"
                    )
                )
                self.assertGreaterEqual(counts["exited"], 300)
                self.assertLessEqual(counts["started"] - counts["exited"], 1)

            eventually(check_counts)
            wait_until(lambda: not self.zombies_of(daemon), "zombies to be reaped")

    def test_a_service_that_dies_at_once_does_not_busy_the_machine(self):
        with Daemon(
            {
                "quick": {
                    "command": "/no/such/program",
                    "restart_policy": {"delay": 0, "max_attempts": 0, "jitter": 0, "max_delay": 0},
                },
                "beside": shell("sleep 2; echo done"),
            }
        ) as daemon:
            supervisors = daemon.supervisors()
            before = cpu_seconds(supervisors)
            daemon.wait_log("beside", "done")
            self.assertLess(cpu_seconds(supervisors) - before, 1.5 * SCALE)
            rate = len([event for event in daemon.events("quick") if event["event_type"] == "restarting"])
            self.assertLess(rate, 1000)

    def test_a_service_that_dies_just_as_it_is_killed(self):
        with Daemon(
            {"brief": {"command": "/bin/sleep", "args": ["0.01"], "restart_policy": {"delay": 0, "max_attempts": 0}}}
        ) as daemon:
            for _ in range(30):
                daemon.ctl("stop", "brief")
                self.assertEqual(daemon.status("brief")["state"], "stopped")
                self.assertEqual(daemon.service_processes(), [])
                daemon.ctl("start", "brief")
                daemon.ctl("restart", "brief")
            daemon.ctl("version")

    def test_a_flood_of_output_does_not_delay_what_others_ask(self):
        flood = "import os\ndata = b'x' * 4095 + b'\\n'\nwhile True: os.write(1, data)"
        services = {f"flood{i}": python(flood, logs={"max_size_mb": 1, "max_files": 1}) for i in range(2)}
        with Daemon({**services, "web": sleeper()}) as daemon:
            daemon.wait_state("web", "running")
            for i in range(2):
                wait_until((daemon.log_dir / f"flood{i}.log.1").exists, "a rotation")
            began = time.monotonic()
            for _ in range(5):
                daemon.ctl("restart", "web")
            self.assert_quicker(30, began)
            daemon.ctl("stop", "all", timeout=30)
            self.assertEqual(daemon.service_processes(), [])

    def test_signals_at_random_do_not_confuse_the_daemon(self):
        with Daemon({f"s{i}": sleeper() for i in range(4)}) as daemon:
            for id in daemon.config["services"]:
                daemon.wait_state(id, "running")
            for number in (
                signal.SIGHUP,
                signal.SIGUSR1,
                signal.SIGCHLD,
                signal.SIGPIPE,
                signal.SIGHUP,
                signal.SIGUSR1,
            ):
                for pid in daemon.supervisors():
                    kill(pid, number)
                for id in daemon.config["services"]:
                    kill(daemon.wait_state(id, "running")["pid"])
            for id in daemon.config["services"]:
                daemon.wait_for(id, lambda row: row["state"] == "running" and is_alive(row["pid"]), "running")
            self.assert_becomes(lambda: len(daemon.service_processes()), 4)

    def test_the_event_stream_of_a_storm_is_whole(self):
        with Daemon({f"s{i}": shell("exit 0", restart_policy={"delay": 0.01}) for i in range(5)}) as daemon:
            stream = daemon.stream("--json", "events", "-f")
            ids = [json.loads(stream.next())["id"] for _ in range(300)]
            self.assertEqual(ids, list(range(ids[0], ids[0] + 300)))
            self.assertEqual(daemon.ctl("stop", "all").returncode, DONE)


if __name__ == "__main__":
    main()
