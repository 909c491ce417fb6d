"""depends_on with the condition "completed": a one-off has to end as it should before others start."""

from harness import FAILED, Daemon, Scenario, main, shell, sleeper, wait_until

AFTER = {"depends_on": [{"service": "migrate", "condition": "completed"}]}
ONCE = {"restart_policy": {"mode": "on-failure", "delay": 0.02, "max_delay": 0.02, "max_attempts": 2}}


class Completed(Scenario):
    def test_what_depends_on_it_starts_when_it_has_ended_well_and_not_when_it_runs(self):
        with Daemon(started=False) as daemon:
            gate = daemon.dir / "gate"
            script = f"while ! test -e {gate}; do sleep 0.02; done; echo migrated"
            daemon.write_config({"web": sleeper(**AFTER), "migrate": shell(script, **ONCE), "other": sleeper()})
            daemon.start()
            daemon.wait_state("migrate", "running")
            daemon.wait_state("other", "running")
            self.assertEqual(daemon.status("web")["state"], "starting")
            explained = daemon.ctl("explain", "web").stdout
            self.assertIn("waits until migrate, which is running, has completed", explained)
            gate.touch()
            daemon.wait_state("web", "running")
            self.assertEqual(daemon.status("migrate")["state"], "exited")
            self.assertEqual(daemon.log("migrate"), b"migrated\n")

    def test_its_failure_blocks_what_depends_on_it_and_says_so_until_it_has_ended_well(self):
        with Daemon(started=False) as daemon:
            good = daemon.dir / "good"
            daemon.write_config({"web": sleeper(**AFTER), "migrate": shell(f"test -e {good} || exit 3", **ONCE)})
            daemon.start()
            daemon.wait_state("migrate", "failed")
            row = daemon.wait_for("web", lambda row: "has failed" in row["reason"], "web to be blocked")
            self.assertEqual((row["state"], row["pid"]), ("stopped", 0))
            self.assertIn("dependency migrate has not completed: it has failed: exited with code 3", row["reason"])
            result = daemon.ctl("start", "web", expect=FAILED)
            self.assertIn("dependency migrate has not completed", result.stderr)
            good.touch()
            daemon.ctl("start", "migrate")
            daemon.wait_state("web", "running")

    def test_once_completed_it_is_not_run_again_for_what_depends_on_it(self):
        with Daemon({"web": sleeper(**AFTER), "migrate": shell("echo run", **ONCE)}) as daemon:
            daemon.wait_state("web", "running")
            daemon.ctl("restart", "web")
            daemon.ctl("stop", "web")
            daemon.ctl("start", "web")
            self.assertEqual(daemon.log("migrate"), b"run\n")

    def test_of_several_conditions_each_holds(self):
        depends = [{"service": "db", "condition": "ready"}, "cache", {"service": "migrate", "condition": "completed"}]
        with Daemon(
            {
                "web": sleeper(depends_on=depends),
                "db": sleeper(),
                "cache": sleeper(),
                "migrate": shell("echo migrated", depends_on=["db"], **ONCE),
            }
        ) as daemon:
            for id, state in (("web", "running"), ("db", "running"), ("cache", "running"), ("migrate", "exited")):
                daemon.wait_state(id, state)

    def test_one_that_is_always_started_again_never_completes_and_that_is_said(self):
        with Daemon({"web": sleeper(**AFTER), "migrate": sleeper()}) as daemon:
            daemon.wait_state("migrate", "running")
            row = daemon.wait_for("web", lambda row: "never completes" in row["reason"], "the reason")
            self.assertIn("restart_policy.mode is always", row["reason"])
            # A reload mends it: from then on its next good end counts.
            script = "sleep 0.02; echo done"
            daemon.write_config({"web": sleeper(**AFTER), "migrate": shell(script, **ONCE)})
            daemon.ctl("reload")
            daemon.wait_state("web", "running")

    def test_the_condition_can_be_changed_by_a_reload_without_a_restart(self):
        with Daemon({"web": sleeper(depends_on=["migrate"]), "migrate": shell("exit 0", **ONCE)}) as daemon:
            pid = daemon.wait_state("web", "running")["pid"]
            daemon.write_config({"web": sleeper(**AFTER), "migrate": shell("exit 0", **ONCE)})
            self.assertEqual(daemon.ctl_json("reload")["updated"], ["web"])
            self.assertEqual(daemon.pid("web"), pid)

    def test_a_completed_one_is_known_to_the_next_daemon(self):
        with Daemon({"web": sleeper(**AFTER), "migrate": shell("echo run", **ONCE)}) as daemon:
            daemon.wait_state("web", "running")
            daemon.kill_daemon()
            daemon.start()
            daemon.ctl("restart", "web")
            self.assertEqual(daemon.log("migrate"), b"run\n")
            wait_until(lambda: daemon.status("migrate")["state"] == "exited", "it to be at rest")


if __name__ == "__main__":
    main()
