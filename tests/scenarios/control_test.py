"""start, stop, restart: what they wait for, what they say, and what they are told to act on."""

import json
import os
import signal
import time

from harness import (
    DONE,
    FAILED,
    NO_SUCH_SERVICE,
    TIMED_OUT,
    Daemon,
    Scenario,
    eventually,
    is_alive,
    main,
    shell,
    sleeper,
    wait_until,
)

STUBBORN = "trap '' TERM; echo set; while :; do sleep 0.05; done"


class Control(Scenario):
    def test_start_returns_when_it_runs_and_stop_when_it_is_gone(self):
        with Daemon({"web": sleeper(enabled=False)}) as daemon:
            result = daemon.ctl("start", "web")
            self.assertIn("web", result.stdout)
            row = daemon.status("web")
            self.assertEqual(row["state"], "running")
            self.assertTrue(is_alive(row["pid"]))
            self.assertIn("web", daemon.ctl("stop", "web").stdout)
            self.assertFalse(is_alive(row["pid"]))
            row = daemon.status("web")
            self.assertEqual((row["state"], row["pid"] or 0, row["uptime_seconds"]), ("stopped", 0, 0))
            self.assert_in_order(["started", "stopped"], daemon.event_types("web"))

    def test_stop_is_idempotent(self):
        with Daemon({"web": sleeper()}) as daemon:
            daemon.wait_state("web", "running")
            for _ in range(3):
                daemon.ctl("stop", "web")
            self.assertEqual(daemon.event_types("web").count("stopped"), 1)

    def test_starting_what_runs_is_fine_and_leaves_it_alone(self):
        with Daemon({"web": sleeper()}) as daemon:
            pid = daemon.wait_state("web", "running")["pid"]
            for _ in range(3):
                daemon.ctl("start", "web")
            self.assertEqual(daemon.pid("web"), pid)
            self.assertEqual(daemon.event_types("web").count("started"), 1)

    def test_restart_gives_a_new_pid(self):
        with Daemon({"web": sleeper()}) as daemon:
            pid = daemon.wait_state("web", "running")["pid"]
            daemon.ctl("restart", "web")
            row = daemon.status("web")
            self.assertEqual(row["state"], "running")
            self.assertNotEqual(row["pid"], pid)
            self.assertFalse(is_alive(pid))

    def test_restart_starts_what_is_stopped(self):
        with Daemon({"web": sleeper(enabled=False)}) as daemon:
            daemon.ctl("restart", "web")
            self.assertEqual(daemon.status("web")["state"], "running")

    def test_a_finished_one_off_can_be_started_again(self):
        with Daemon({"job": shell("echo run", restart_policy={"mode": "on-failure"})}) as daemon:
            daemon.wait_state("job", "exited")
            daemon.ctl("start", "job")
            daemon.wait_log("job", "run", count=2)
            daemon.wait_state("job", "exited")

    def test_several_targets(self):
        with Daemon({id: sleeper(enabled=False) for id in "abc"}) as daemon:
            daemon.ctl("start", "a", "c")
            self.assertEqual([daemon.status(id)["state"] for id in "abc"], ["running", "stopped", "running"])
            daemon.ctl("start", "a", "a", "a")
            self.assertEqual(daemon.event_types("a").count("started"), 1)

    def test_globs(self):
        with Daemon({id: sleeper(enabled=False) for id in ("web-1", "web-2", "worker")}) as daemon:
            daemon.ctl("start", "web*")
            self.assertEqual(
                {id: row["state"] for id, row in daemon.status("*").items()},
                {"web-1": "running", "web-2": "running", "worker": "stopped"},
            )
            daemon.ctl("stop", "web-?")
            self.assertEqual({row["state"] for row in daemon.status("web*").values()}, {"stopped"})
            daemon.ctl("start", "web-[2-9]")
            self.assertEqual(daemon.status("web-2")["state"], "running")
            daemon.ctl("start", "x*", expect=NO_SUCH_SERVICE)

    def test_all(self):
        with Daemon({id: sleeper(enabled=False) for id in "abc"}) as daemon:
            daemon.ctl("start", "all")
            self.assertEqual({row["state"] for row in daemon.status("all").values()}, {"running"})
            daemon.ctl("stop", "all")
            self.assertEqual({row["state"] for row in daemon.status().values()}, {"stopped"})

    def test_groups(self):
        services = {
            "api": sleeper(enabled=False, groups=["backend", "all-day"]),
            "db": sleeper(enabled=False, groups=["backend"]),
            "page": sleeper(enabled=False, groups=["frontend"]),
        }
        with Daemon(services) as daemon:
            daemon.ctl("start", "@backend")
            self.assertEqual(
                {id: row["state"] for id, row in daemon.status().items()},
                {"api": "running", "db": "running", "page": "stopped"},
            )
            self.assertEqual(set(daemon.status("@backend")), {"api", "db"})
            daemon.ctl("stop", "@all-day", "page")
            self.assertEqual(daemon.status("api")["state"], "stopped")
            daemon.ctl("start", "@nobody", expect=NO_SUCH_SERVICE)

    def test_instances(self):
        services = {
            "worker": shell(
                'echo "instance $INSTANCE_NUMBER"; exec sleep 1000',
                instances=3,
                environment={"INSTANCE_NUMBER": "${INSTANCE}"},
            )
        }
        with Daemon(services) as daemon:
            rows = [daemon.wait_state(f"worker:{i}", "running") for i in range(3)]
            self.assertEqual(len({row["pid"] for row in rows}), 3)
            for i in range(3):
                daemon.wait_log(f"worker:{i}", f"instance {i}\n")
            daemon.ctl("stop", "worker:1")
            self.assertEqual(
                [daemon.status(f"worker:{i}")["state"] for i in range(3)], ["running", "stopped", "running"]
            )
            daemon.ctl("stop", "worker")
            self.assertEqual({row["state"] for row in daemon.status("worker").values()}, {"stopped"})
            daemon.ctl("start", "worker:0")
            self.assertEqual(daemon.status("worker:0")["state"], "running")
            self.assertEqual(set(daemon.status("worker")), {"worker:0", "worker:1", "worker:2"})

    def test_no_wait_returns_before_it_is_done(self):
        with Daemon(
            {
                "web": shell(STUBBORN, graceful_shutdown={"timeout": 60}),
                "slow": sleeper(enabled=False, readiness={"type": "uptime", "uptime": 60}),
            }
        ) as daemon:
            daemon.wait_log("web", "set")
            began = time.monotonic()
            daemon.ctl("stop", "--no-wait", "web")
            daemon.ctl("start", "slow", "--no-wait")
            self.assert_quicker(5, began)
            self.assertEqual(daemon.wait_state("web", "stopping")["state"], "stopping")
            self.assertEqual(daemon.wait_state("slow", "starting")["state"], "starting")
            daemon.ctl("signal", "KILL", "web")
            daemon.wait_state("web", "stopped")

    def test_a_timeout_is_exit_7_and_what_was_asked_for_goes_on(self):
        with Daemon({"web": shell(STUBBORN, graceful_shutdown={"timeout": 60})}) as daemon:
            daemon.wait_log("web", "set")
            began = time.monotonic()
            result = daemon.ctl("stop", "web", "--timeout", "0.3", expect=TIMED_OUT)
            self.assertGreaterEqual(time.monotonic() - began, 0.3)
            self.assert_quicker(5, began)
            self.assertIn("web", result.stderr)
            self.assertEqual(daemon.status("web")["state"], "stopping")
            daemon.ctl("signal", "KILL", "web")
            daemon.wait_state("web", "stopped")

    def test_a_start_that_is_not_ready_in_time_is_exit_7(self):
        with Daemon({"web": sleeper(enabled=False, readiness={"type": "uptime", "uptime": 60})}) as daemon:
            daemon.ctl("start", "web", "--timeout", "0.2", expect=TIMED_OUT)
            self.assertEqual(daemon.status("web")["state"], "starting")
            began = time.monotonic()
            daemon.ctl("stop", "web")
            self.assert_quicker(5, began)

    def test_the_reason_is_kept_with_the_event(self):
        with Daemon({"web": sleeper()}) as daemon:
            daemon.wait_state("web", "running")
            daemon.ctl("stop", "web", "--reason", "a new disk, \"soon\"")
            event = daemon.wait_event("web", "stopped")
            self.assertIn("a new disk", event["message"] + json.dumps(event["details"]))
            ((details, message),) = daemon.sql(
                "SELECT details, message FROM supervisor_events WHERE service_id = 'web' " "AND event_type = 'stopped'"
            )
            self.assertIn("a new disk", details + message)
            daemon.ctl("start", "--reason", "done", "web")
            self.assertTrue(
                any(
                    "done" in event["message"] + json.dumps(event["details"])
                    for event in daemon.events("web")
                    if event["event_type"] == "started"
                )
            )

    def test_a_start_during_a_stop_and_a_stop_during_a_start(self):
        slow = shell("trap 'sleep 0.5; exit 0' TERM; echo set; while :; do sleep 0.02; done")
        with Daemon(
            {"web": slow, "other": sleeper(enabled=False, readiness={"type": "uptime", "uptime": 30})}
        ) as daemon:
            daemon.wait_log("web", "set")
            pid = daemon.pid("web")
            daemon.ctl("stop", "--no-wait", "web")
            daemon.ctl("start", "web")
            row = daemon.status("web")
            self.assertEqual(row["state"], "running")
            self.assertNotEqual(row["pid"], pid)
            self.assertFalse(is_alive(pid))
            starting = daemon.stream("start", "other")
            daemon.wait_state("other", "starting")
            daemon.ctl("stop", "other")
            self.assertEqual(daemon.status("other")["state"], "stopped")
            self.assertNotEqual(starting.wait(), DONE)

    def test_clients_at_random_never_make_two_instances_and_all_are_answered(self):
        with Daemon({"web": sleeper(environment={"PART": "web"})}) as daemon:
            daemon.wait_state("web", "running")
            clients = [daemon.stream(("start", "stop", "restart")[i % 3], "web") for i in range(24)]

            def instances():
                found = []
                for pid in daemon.service_processes():
                    with open(f"/proc/{pid}/comm", encoding="utf-8") as file:
                        if file.read().strip() == "sleep":
                            found.append(pid)
                return found

            most = 0
            while any(client._process.poll() is None for client in clients):
                try:
                    most = max(most, len(instances()))
                except OSError:
                    continue
            self.assertLessEqual(most, 1)
            for client in clients:
                self.assertIn(client.wait(), (DONE, FAILED))
            daemon.ctl("start", "web")
            self.assert_becomes(instances, [daemon.pid("web")])

    def test_a_start_brings_up_what_it_depends_on_and_a_stop_takes_its_dependents_along(self):
        services = {"db": sleeper(enabled=False), "web": sleeper(enabled=False, depends_on=["db"]), "alone": sleeper()}
        with Daemon(services) as daemon:
            daemon.ctl("start", "web")
            self.assertEqual(daemon.status("db")["state"], "running")
            result = daemon.ctl("stop", "db")
            self.assertIn("web", result.stdout)
            self.assertEqual((daemon.status("db")["state"], daemon.status("web")["state"]), ("stopped", "stopped"))
            self.assertEqual(daemon.wait_state("alone", "running")["state"], "running")

    def test_shutdown_stops_the_daemon_and_all(self):
        with Daemon({"web": sleeper()}) as daemon:
            daemon.wait_state("web", "running")
            daemon.ctl("shutdown", "--reason", "moving house")
            daemon.check_gone()
            rows = daemon.sql("SELECT message, details FROM supervisor_events WHERE event_type = 'supervisor_stopped'")
            self.assertTrue(any("moving house" in f"{message} {details}" for message, details in rows), rows)

    def test_a_signal_reaches_the_service_and_only_that(self):
        services = {id: shell("trap 'echo hup' HUP; echo set; while :; do sleep 0.02; done") for id in ("a", "b")}
        with Daemon(services) as daemon:
            for id in services:
                daemon.wait_log(id, "set")
            for name in ("HUP", "SIGHUP", "1"):
                hups = daemon.log("a").count(b"hup\n")
                daemon.ctl("signal", name, "a")
                daemon.wait_log("a", "hup\n", count=hups + 1)
            self.assertNotIn(b"hup", daemon.log("b"))

    def test_explain_says_why(self):
        with Daemon({"web": shell("echo cannot find my keys; exit 17", restart_policy={"mode": "never"})}) as daemon:
            daemon.wait_state("web", "failed")
            daemon.wait_log("web", "cannot find my keys")
            daemon.require("explain", "web")
            text = daemon.ctl("explain", "web").stdout
            for words in ("failed", "17", "cannot find my keys"):
                self.assertIn(words, text)

    def test_memory_and_cpu_are_of_the_whole_tree(self):
        source = "dd if=/dev/zero bs=60M count=1 2>/dev/null | sleep 1000"
        with Daemon({"web": shell(source)}, extra={"monitoring": {"metrics_interval": 0.1}}) as daemon:
            row = daemon.wait_for("web", lambda row: row["memory_mb"] > 50, "the memory of a child to be counted")
            self.assertLess(row["memory_mb"], 200)


class Events(Scenario):
    def test_the_live_stream_shows_what_happens(self):
        with Daemon({"web": sleeper(), "other": sleeper()}) as daemon:
            daemon.wait_state("web", "running")
            stream = daemon.stream("--json", "events", "-f", "-n", 100, "web")
            stream.wait_for('"started"')
            daemon.ctl("stop", "web", "--reason", "watch me")
            event = json.loads(stream.wait_for('"stopped"'))
            self.assertEqual(event["service_id"], "web")
            os.kill(daemon.pid("other"), signal.SIGKILL)
            daemon.ctl("start", "web")
            self.assertEqual(json.loads(stream.wait_for('"started"'))["service_id"], "web")
            events = [json.loads(line) for line in stream.seen]
            self.assertEqual({event["service_id"] for event in events}, {"web"})
            ids = [event["id"] for event in events]
            self.assertEqual(ids, sorted(set(ids)))

    def test_history_goes_over_into_the_live_stream_without_a_gap(self):
        with Daemon({"web": shell("exit 0", restart_policy={"delay": 0.01})}) as daemon:
            daemon.wait_for("web", lambda row: row["restart_count"] >= 3, "some restarts")
            stream = daemon.stream("--json", "events", "-f", "-n", "5", "web")
            for _ in range(40):
                stream.next()
            daemon.ctl("stop", "web")
            ids = [json.loads(line)["id"] for line in stream.seen]
            in_database = [
                id
                for (id,) in daemon.sql(
                    "SELECT id FROM supervisor_events WHERE service_id = 'web' AND id BETWEEN ? AND ? ORDER BY id",
                    ids[0],
                    ids[-1],
                )
            ]
            self.assertEqual(ids, in_database)

    def test_a_stream_ends_when_the_daemon_does(self):
        with Daemon({"web": sleeper()}) as daemon:
            daemon.wait_state("web", "running")
            stream = daemon.stream("events", "-f")
            stream.next()
            daemon.stop()
            stream.wait()

    def test_the_daemons_own_events(self):
        with Daemon(background=True) as daemon:
            daemon.wait_event("supervisor", "supervisor_started")
            daemon.stop()
            daemon.start()
            life = ["supervisor_started", "supervisor_stopped", "supervisor_started"]
            eventually(lambda: self.assert_in_order(life, daemon.event_types("supervisor")))

    def test_a_dependent_that_is_taken_along_says_who_asked(self):
        services = {"db": sleeper(), "web": sleeper(depends_on=["db"])}
        with Daemon(services) as daemon:
            daemon.wait_state("web", "running")
            daemon.ctl("stop", "db", "--reason", "for a backup")
            event = daemon.wait_event("web", "stopped")
            self.assertRegex(event["actor"], rf"\buid {os.getuid()}\b|dependency")
            self.assertIn("for a backup", event["message"] + str(event["details"]))
            wait_until(lambda: daemon.events("db")[-1]["event_type"] == "stopped", "the end of the other")


if __name__ == "__main__":
    main()
