"""Who starts when and who stops when: priority classes and depends_on, at every stop there is."""

import time

from harness import FAILED, NOT_RUNNING, SCALE, Daemon, Scenario, kill, main, merge, processes_with, shell, sleeper
from harness import wait_until

READY = {"readiness": {"type": "uptime", "uptime": 0.2}}


def recorder(out, id, **changes):
    """Says when it starts, when it is asked to go, and when it is gone; takes a little for the latter."""
    return shell(
        f"say() {{ echo $1 {id} >> {out}; }}; trap 'say asked; sleep 0.15; say gone; exit 0' TERM; say started; "
        "while :; do sleep 0.02; done",
        **changes,
    )


class Recorded(Scenario):
    def start(self, daemon, services, running=None):
        self.out = daemon.dir / "order"
        daemon.write_config({id: recorder(self.out, id, **changes) for id, changes in services.items()})
        daemon.start()
        for id in running if running is not None else services:
            daemon.wait_state(id, "running")
            wait_until(lambda id=id: f"started {id}" in self.lines(), f"{id} to have said so")

    def lines(self):
        return self.out.read_text().splitlines() if self.out.exists() else []

    def assert_one_by_one(self, classes):
        """Each of the classes is gone before the next is asked."""
        expected = {f"{what} {id}" for ids in classes for id in ids for what in ("asked", "gone")}
        stops = [line for line in self.lines() if line in expected]
        self.assertEqual(sorted(stops), sorted(expected))
        for later, earlier in zip(classes, classes[1:]):
            self.assertLess(
                max(stops.index(f"gone {id}") for id in later), min(stops.index(f"asked {id}") for id in earlier), stops
            )


class StopOrder(Recorded):
    # Three levels, and beside them one that has nothing to do with it.
    TOWER = {
        "db": {},
        "cache": {"depends_on": ["db"]},
        "api": {"depends_on": ["cache"]},
        "page": {"depends_on": ["api"]},
        "beside": {},
    }

    def test_stop_of_a_dependency_takes_its_dependents_first_over_three_levels_and_lists_them(self):
        with Daemon(started=False) as daemon:
            self.start(daemon, self.TOWER)
            result = daemon.ctl("stop", "db", "--reason", "for a backup")
            for id in ("cache", "api", "page"):
                self.assertRegex(result.stdout, rf"(?m)^{id}: stopped.*depends on")
            self.assertRegex(result.stdout, r"(?m)^db: stopped$")
            self.assertNotIn("beside", result.stdout)
            self.assert_one_by_one([["page"], ["api"], ["cache"], ["db"]])
            self.assertEqual(daemon.status("beside")["state"], "running")
            for id in ("cache", "api", "page", "db"):
                self.assertIn("for a backup", daemon.wait_event(id, "stopped")["details"]["reason"])

    def test_a_stop_lists_only_the_dependents_that_run(self):
        with Daemon(started=False) as daemon:
            self.start(
                daemon,
                {**self.TOWER, "page": {"depends_on": ["api"], "enabled": False}},
                ["db", "cache", "api", "beside"],
            )
            result = daemon.ctl("stop", "cache")
            self.assertIn("api", result.stdout)
            self.assertNotIn("page", result.stdout)
            self.assertEqual(daemon.status("db")["state"], "running")

    def test_stop_all_supervisord_stop_and_sigterm_keep_the_order(self):
        for way in ("all", "shutdown", "signal", "stop"):
            with self.subTest(way), Daemon(started=False) as daemon:
                self.start(daemon, self.TOWER)
                if way == "all":
                    daemon.ctl("stop", "all")
                elif way == "shutdown":
                    daemon.ctl("shutdown")
                elif way == "signal":
                    daemon.process.terminate()
                else:
                    daemon.supervisord("--stop", expect=0)
                if way != "all":
                    daemon.check_gone()
                self.assert_one_by_one([["page"], ["api"], ["cache"], ["db"]])

    def test_a_dependency_that_is_removed_goes_after_the_dependents_that_are_removed_with_it(self):
        with Daemon(started=False) as daemon:
            self.start(daemon, self.TOWER)
            daemon.write_config({"beside": daemon.config["services"]["beside"]})
            daemon.ctl("reload")
            wait_until(lambda: sorted(daemon.status()) == ["beside"], "the tower to be forgotten")
            self.assert_one_by_one([["page"], ["api"], ["cache"], ["db"]])

    def test_a_dependent_with_an_earlier_priority_still_stops_first(self):
        with Daemon(started=False) as daemon:
            self.start(daemon, {"db": {"priority": 50}, "web": {"priority": 1, "depends_on": ["db"]}})
            daemon.ctl("stop", "all")
            self.assert_one_by_one([["web"], ["db"]])

    def test_a_dependent_that_has_to_be_killed_is_gone_before_its_dependency_is_asked(self):
        with Daemon(started=False) as daemon:
            self.out = daemon.dir / "order"
            patience = {"timeout": 3 * SCALE}  # time enough to look
            stubborn = shell("trap '' TERM; echo set; while :; do sleep 0.02; done", graceful_shutdown=patience)
            daemon.write_config({"db": recorder(self.out, "db"), "web": merge(stubborn, {"depends_on": ["db"]})})
            daemon.start()
            daemon.wait_log("web", "set")
            pid = daemon.pid("web")
            stopping = daemon.stream("stop", "db")
            daemon.wait_state("web", "stopping")
            self.assertEqual(daemon.status("db")["state"], "running")
            self.assertNotIn("asked db", self.lines())
            self.assertEqual(stopping.wait(), 0)
            self.assert_becomes(
                lambda: sorted(event["service_id"] for event in daemon.events() if event["event_type"] == "stopped"),
                ["db", "web"],
            )
            self.assertNotIn(pid, daemon.service_processes())

    def test_the_instances_of_a_dependent_are_all_gone_first(self):
        with Daemon(started=False) as daemon:
            self.out = daemon.dir / "order"
            worker = recorder(self.out, "worker-${INSTANCE}", instances=3, depends_on=["db"])
            daemon.write_config({"db": recorder(self.out, "db"), "worker": worker})
            daemon.start()
            for i in range(3):
                wait_until(lambda i=i: f"started worker-{i}" in self.lines(), "all workers")
            daemon.ctl("stop", "db")
            self.assert_one_by_one([["worker-0", "worker-1", "worker-2"], ["db"]])


class StartOrder(Recorded):
    def starts(self):
        return [line.split()[1] for line in self.lines() if line.startswith("started")]

    def test_a_start_brings_up_all_that_it_needs_in_order_and_only_that(self):
        with Daemon(started=False) as daemon:
            services = {id: {**changes, **READY, "enabled": False} for id, changes in StopOrder.TOWER.items()}
            self.start(daemon, services, [])
            result = daemon.ctl("start", "page")
            self.assertEqual(self.starts(), ["db", "cache", "api", "page"])
            for id in ("db", "cache", "api"):
                self.assertRegex(result.stdout, rf"(?m)^{id}: started.*dependency")
            self.assertEqual(daemon.status("beside")["state"], "stopped")

    def test_a_dependent_of_what_failed_is_not_started_says_why_and_comes_up_by_itself_when_it_recovers(self):
        with Daemon(started=False) as daemon:
            self.out = daemon.dir / "order"
            flag = daemon.dir / "works"
            db = shell(
                f"test -e {flag} && exec sleep 1000; sleep 0.1; exit 4",
                restart_policy={"delay": 0.3, "max_attempts": 1},
                **READY,
            )
            daemon.write_config(
                {
                    "db": db,
                    "web": recorder(self.out, "web", depends_on=["db"], **READY),
                    "page": recorder(self.out, "page", depends_on=["web"]),
                }
            )
            daemon.start()
            daemon.wait_state("db", "failed")
            for id, cause in (("web", "db"), ("page", "web")):
                row = daemon.wait_for(id, lambda row: "dependency" in row["reason"], "its reason")
                self.assertIn(cause, row["reason"])
                self.assertFalse(row["pid"])
            result = daemon.ctl("start", "page", expect=FAILED)
            self.assertIn("db", result.stderr)
            self.assertEqual(self.starts(), [])
            daemon.ctl("status", "web", expect=NOT_RUNNING)
            flag.touch()
            daemon.ctl("start", "db")
            for id in ("web", "page"):
                daemon.wait_state(id, "running")
            self.assertEqual(self.starts(), ["web", "page"])

    def test_a_dependent_whose_dependency_was_in_back_off_comes_up_when_the_policy_has_mended_it(self):
        with Daemon(started=False) as daemon:
            self.out = daemon.dir / "order"
            flag = daemon.dir / "works"
            db = shell(
                f"test -e {flag} && exec sleep 1000; exit 4", restart_policy={"delay": 0.1, "max_attempts": 0}, **READY
            )
            daemon.write_config({"db": db, "web": recorder(self.out, "web", depends_on=["db"])})
            daemon.start()
            daemon.wait_for("db", lambda row: row["restart_count"] >= 3, "some attempts")
            self.assertEqual(self.starts(), [])
            flag.touch()
            daemon.wait_state("web", "running")

    def test_a_service_that_was_stopped_does_not_come_up_with_its_dependency(self):
        with Daemon(started=False) as daemon:
            self.start(daemon, {"db": {}, "web": {"depends_on": ["db"]}})
            daemon.ctl("stop", "web")
            daemon.ctl("restart", "db")
            kill(daemon.pid("db"))
            daemon.wait_for("db", lambda row: row["restart_count"] == 1 and row["state"] == "running", "db to be back")
            self.assertEqual(daemon.status("web")["state"], "stopped")

    def test_the_next_class_begins_when_the_earlier_are_ready_or_failed_or_timed_out(self):
        with Daemon(started=False) as daemon:
            never = {"restart_policy": {"mode": "never"}}
            self.out = daemon.dir / "order"
            daemon.write_config(
                {
                    "ready": recorder(self.out, "ready", priority=1, readiness={"type": "uptime", "uptime": 0.4}),
                    "fails": shell("exit 1", priority=1, **READY, **never),
                    "no-such": {"command": "/no/such/program", "priority": 1, **never},
                    "late": sleeper(priority=1, readiness={"type": "notify", "timeout": 0.6}, **never),
                    "second": recorder(self.out, "second", priority=2),
                    "third": recorder(self.out, "third", priority=3),
                }
            )
            began = time.monotonic()
            daemon.start()
            daemon.wait_state("third", "running")
            self.assertGreaterEqual(time.monotonic() - began, 0.6)
            daemon.wait_event("third", "started")
            events = [(event["service_id"], event["event_type"]) for event in daemon.events()]
            second = events.index(("second", "started"))
            for earlier in (("ready", "ready"), ("fails", "exited"), ("no-such", "failed"), ("late", "failed")):
                self.assertLess(events.index(earlier), second, events)
            self.assertLess(second, events.index(("third", "started")))

    def test_what_is_independent_starts_and_stops_in_parallel(self):
        slow = {"readiness": {"type": "uptime", "uptime": 1}, "priority": 5}
        stop = "trap 'sleep 1; exit 0' TERM; while :; do sleep 0.02; done"
        with Daemon({f"s{i}": shell(stop, **slow, enabled=False) for i in range(6)}) as daemon:
            began = time.monotonic()
            daemon.ctl("start", "all")
            self.assertGreaterEqual(time.monotonic() - began, 1)
            self.assert_quicker(5, began)  # one after the other they took 6 s, and 12 s
            began = time.monotonic()
            daemon.ctl("restart", "all")
            self.assert_quicker(9, began)

    def test_a_restart_by_policy_does_not_wait_for_its_class(self):
        with Daemon(
            {
                "early": sleeper(priority=1, enabled=False, readiness={"type": "uptime", "uptime": 600}),
                "late": sleeper(priority=2, environment={"PART": "late"}),
            }
        ) as daemon:
            pid = daemon.wait_state("late", "running")["pid"]
            daemon.ctl("start", "--no-wait", "early")
            kill(pid)
            daemon.wait_for("late", lambda row: row["state"] == "running" and row["pid"] != pid, "its restart")
            self.assertEqual(daemon.status("early")["state"], "starting")
            wait_until(lambda: processes_with(b"PART=late"), "its process, which may be in the midst of its execve(2)")


if __name__ == "__main__":
    main()
