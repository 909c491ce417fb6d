"""What happens when a service ends by itself: restart, back-off, giving up, or rest."""

import signal
import time

from harness import DONE, FAILED, NOT_RUNNING, SCALE, Daemon, Scenario, kill, main, shell, sleeper, wait_until


def counting(end, **changes):
    """A service that writes a line a run and then ends as told."""
    return shell(f"echo run; {end}", **changes)


class RestartPolicy(Scenario):
    def runs(self, daemon, service="web"):
        return daemon.log(service).count(b"run\n")

    def test_a_killed_service_comes_back_and_the_events_say_sigkill(self):
        with Daemon({"web": sleeper()}) as daemon:
            first = daemon.wait_state("web", "running")
            seen = daemon.wait_event("web", "started")["id"]
            kill(first["pid"])
            row = daemon.wait_for(
                "web", lambda row: row["state"] == "running" and row["pid"] != first["pid"], "the next instance"
            )
            self.assertEqual(row["restart_count"], 1)
            self.assertEqual((row["exit_signal"], row["exit_code"]), (signal.SIGKILL, None))
            daemon.wait_event("web", "started", lambda event: event["id"] > seen)
            events = [event for event in daemon.events("web") if event["id"] > seen]
            self.assert_in_order(["exited", "restarting", "started"], [event["event_type"] for event in events])
            exited = next(event for event in events if event["event_type"] == "exited")
            self.assertIn("SIGKILL", exited["message"])
            restarting = next(event for event in events if event["event_type"] == "restarting")
            self.assertIn("SIGKILL", restarting["message"] + str(restarting["details"]))
            self.assertEqual(restarting["actor"], "policy")
            self.assert_becomes(daemon.pid_file("web").read_text, f"{row['pid']}\n")

    def test_restarts_are_counted_and_an_operators_restart_clears_the_count(self):
        with Daemon({"web": sleeper()}) as daemon:
            for count in (1, 2, 3):
                kill(daemon.wait_state("web", "running")["pid"])
                daemon.wait_for(
                    "web", lambda row: row["state"] == "running" and row["restart_count"] == count, f"restart {count}"
                )
            daemon.ctl("restart", "web")
            self.assertEqual(daemon.status("web")["restart_count"], 0)

    def test_always_restarts_after_exit_0(self):
        with Daemon({"web": counting("exit 0", restart_policy={"mode": "always"})}) as daemon:
            wait_until(lambda: self.runs(daemon) >= 3, "three runs")

    def test_a_worker_that_recycles_itself_uses_up_no_attempts(self):
        policy = {"mode": "always", "delay": 0.02, "max_attempts": 3}
        with Daemon({"web": counting("sleep 0.05", restart_policy=policy)}) as daemon:
            wait_until(lambda: self.runs(daemon) >= 8, "more runs than there are attempts")
            row = daemon.status("web")
            self.assertIn(row["state"], ("running", "backoff", "starting"))
            self.assertGreaterEqual(row["restart_count"], 6)
            self.assertNotIn("failed", daemon.event_types("web"))
            event = daemon.wait_event("web", "restarting")
            self.assertTrue(event["message"].startswith("restart in "), event)
            self.assertNotIn("attempt", event["details"])

    def test_failures_among_clean_exits_still_count(self):
        script = 'echo x >> "$LOG"; n=$(wc -l < "$LOG"); test $((n % 2)) = 0 || exit 3; exit 0'
        with Daemon(started=False) as daemon:
            daemon.write_config(
                {
                    "web": shell(
                        script,
                        environment={"LOG": str(daemon.dir / "runs")},
                        restart_policy={"mode": "always", "delay": 0.02, "max_delay": 0.02, "max_attempts": 2},
                    )
                }
            )
            daemon.start()
            row = daemon.wait_state("web", "failed")
            self.assertEqual((daemon.dir / "runs").read_text().count("x"), 5)  # 3, 0, 3, 0, 3
            self.assertIn("gave up after 2 restarts", row["reason"])

    def test_on_failure_leaves_a_service_that_ended_well_exited(self):
        with Daemon({"web": counting("exit 0", restart_policy={"mode": "on-failure"})}) as daemon:
            row = daemon.wait_state("web", "exited")
            self.assertEqual((row["exit_code"], row["exit_signal"], row["restart_count"]), (0, None, 0))
            self.assert_becomes(lambda: self.runs(daemon), 1)
            daemon.ctl("status", "web")  # exited counts as well: exit 0
            daemon.wait_event("web", "exited")
            self.assertNotIn("restarting", daemon.event_types("web"))

    def test_on_failure_restarts_after_a_failure_and_after_a_signal(self):
        with Daemon(
            {
                "web": counting("exit 1", restart_policy={"mode": "on-failure"}),
                "struck": counting("kill -SEGV $$", restart_policy={"mode": "on-failure"}),
            }
        ) as daemon:
            for id in ("web", "struck"):
                wait_until(lambda: self.runs(daemon, id) >= 3, "three runs")
            self.assertIn("SIGSEGV", daemon.wait_event("struck", "exited")["message"])

    def test_success_exit_codes_count_as_success(self):
        policy = {"mode": "on-failure", "success_exit_codes": [0, 42]}
        with Daemon({"web": counting("exit 42", restart_policy=policy)}) as daemon:
            self.assertEqual(daemon.wait_state("web", "exited")["exit_code"], 42)
            self.assert_becomes(lambda: self.runs(daemon), 1)

    def test_never_leaves_a_service_down_however_it_ended(self):
        with Daemon(
            {
                "well": counting("exit 0", restart_policy={"mode": "never"}),
                "ill": counting("exit 7", restart_policy={"mode": "never"}),
            }
        ) as daemon:
            daemon.wait_state("well", "exited")
            row = daemon.wait_state("ill", "failed")
            self.assertEqual(row["exit_code"], 7)
            self.assertIn("7", row["reason"])
            self.assert_becomes(lambda: (self.runs(daemon, "well"), self.runs(daemon, "ill")), (1, 1))

    def test_max_attempts_are_made_and_then_it_has_failed(self):
        with Daemon({"web": counting("exit 3", restart_policy={"delay": 0.02, "max_attempts": 2})}) as daemon:
            row = daemon.wait_state("web", "failed")
            self.assert_becomes(lambda: self.runs(daemon), 3)
            self.assertEqual((row["restart_count"], row["exit_code"], row["pid"] or 0), (2, 3, 0))
            self.assertTrue(row["reason"])
            daemon.wait_event("web", "failed")
            self.assertEqual(daemon.event_types("web").count("restarting"), 2)
            self.assertEqual(daemon.event_types("web").count("failed"), 1)
            daemon.ctl("status", expect=NOT_RUNNING)
            # An operator's start begins anew.
            daemon.ctl("start", "web", expect=(DONE, FAILED))
            wait_until(lambda: self.runs(daemon) == 6, "three more runs")
            daemon.wait_state("web", "failed")

    def test_the_global_number_of_attempts_and_delay_are_the_defaults(self):
        with Daemon(
            {"web": {"command": "/bin/sh", "args": ["-c", "echo run; exit 1"]}},
            global_={"max_restart_attempts": 1, "restart_delay": 0.05},
        ) as daemon:
            daemon.wait_state("web", "failed")
            self.assert_becomes(lambda: self.runs(daemon), 2)

    def test_attempts_are_forgotten_after_a_good_while(self):
        policy = {"delay": 0.02, "max_attempts": 2, "reset_after": 0.2}
        with Daemon({"web": shell("echo run; sleep 0.4; exit 1", restart_policy=policy)}) as daemon:
            wait_until(lambda: self.runs(daemon) >= 5, "more runs than attempts", timeout=20)
            self.assertNotIn("failed", daemon.event_types("web"))

    def test_delays_grow_up_to_the_longest(self):
        policy = {"delay": 0.2, "backoff_multiplier": 2, "max_delay": 0.5, "jitter": 0, "max_attempts": 4}
        with Daemon({"web": shell("date +%s.%N; exit 1", restart_policy=policy)}) as daemon:
            daemon.wait_state("web", "failed", timeout=20)
            self.assert_becomes(lambda: len(daemon.log("web").splitlines()), 5)
            times = list(map(float, daemon.log("web").split()))
            gaps = [later - earlier for earlier, later in zip(times, times[1:])]
            for gap, least in zip(gaps, (0.2, 0.4, 0.5, 0.5)):
                self.assertGreaterEqual(gap, least - 0.01, gaps)
            if max(gaps) > 2 * SCALE:
                self.fail(f"delays far beyond what is configured: {gaps}")

    def test_back_off_is_shown_with_its_reason(self):
        with Daemon({"web": counting("exit 9", restart_policy={"delay": 60})}) as daemon:
            row = daemon.wait_state("web", "backoff")
            self.assertEqual((row["pid"] or 0, row["exit_code"]), (0, 9))
            self.assertIn("9", row["reason"])
            daemon.ctl("status", "web", expect=NOT_RUNNING)

    def test_a_stop_during_back_off_works_at_once(self):
        with Daemon({"web": counting("exit 1", restart_policy={"delay": 60})}) as daemon:
            daemon.wait_state("web", "backoff")
            began = time.monotonic()
            daemon.ctl("stop", "web")
            self.assert_quicker(3, began)
            self.assertEqual(daemon.status("web")["state"], "stopped")
            self.assert_becomes(lambda: self.runs(daemon), 1)

    def test_a_start_during_back_off_does_not_wait_for_its_end(self):
        with Daemon(started=False) as daemon:
            daemon.write_config(
                {
                    "web": shell(
                        f"echo run; test -e {daemon.dir}/good || exit 1; exec sleep 1000", restart_policy={"delay": 60}
                    )
                }
            )
            daemon.start()
            daemon.wait_state("web", "backoff")
            (daemon.dir / "good").touch()
            began = time.monotonic()
            daemon.ctl("start", "web")
            self.assert_quicker(5, began)
            self.assertEqual(daemon.status("web")["state"], "running")

    def test_the_daemon_stops_at_once_while_a_service_is_in_back_off(self):
        with Daemon({"web": counting("exit 1", restart_policy={"delay": 60})}) as daemon:
            daemon.wait_state("web", "backoff")
            began = time.monotonic()
            daemon.stop()
            self.assert_quicker(5, began)

    def test_a_stopped_service_does_not_come_back(self):
        with Daemon({"web": sleeper(), "beside": sleeper()}) as daemon:
            daemon.wait_state("web", "running")
            daemon.ctl("stop", "web")
            seen = daemon.wait_event("web", "stopped")["id"]
            # What could bring it back: others' restarts, and a second stop.
            kill(daemon.pid("beside"))
            daemon.wait_for(
                "beside", lambda row: row["restart_count"] == 1 and row["state"] == "running", "the other's restart"
            )
            daemon.ctl("stop", "web")
            self.assertEqual(daemon.status("web")["state"], "stopped")
            self.assertNotIn("started", [event["event_type"] for event in daemon.events("web") if event["id"] > seen])

    def test_an_exit_that_was_asked_for_is_no_restart(self):
        with Daemon({"web": shell("trap 'exit 5' TERM; echo set; while :; do sleep 0.02; done")}) as daemon:
            daemon.wait_log("web", "set")
            daemon.ctl("stop", "web")
            self.assertEqual(daemon.status("web")["state"], "stopped")
            daemon.wait_event("web", "stopped")
            self.assertNotIn("restarting", daemon.event_types("web"))

    def test_the_failure_of_a_critical_service_ends_the_daemon_where_configured(self):
        services = {"web": sleeper(), "vital": counting("exit 1", critical=True, restart_policy={"mode": "never"})}
        with Daemon(services, global_={"exit_on_critical_failure": True}, started=False) as daemon:
            result = daemon.supervisord(expect=1)
            self.assertIn("vital", result.stderr + daemon.daemon_log.read_text())
            self.assertEqual(daemon.processes(), [])

    def test_the_system_is_critical_when_a_critical_service_failed_and_degraded_when_another(self):
        for critical, status in ((False, "degraded"), (True, "critical")):
            services = {
                "web": sleeper(),
                "ill": counting("exit 1", critical=critical, restart_policy={"mode": "never"}),
            }
            with self.subTest(critical=critical), Daemon(services) as daemon:
                daemon.wait_state("ill", "failed")
                daemon.wait_state("web", "running")
                self.assertEqual(daemon.ctl_json("summary", expect=None)["status"], status)


if __name__ == "__main__":
    main()
