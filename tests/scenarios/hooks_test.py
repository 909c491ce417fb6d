"""Hooks: each has its time limit, none leaves a process behind, and a stop does not wait for one that hangs."""

import time

from harness import (
    FAILED,
    SCALE,
    Daemon,
    Scenario,
    is_alive,
    kill,
    main,
    merge,
    processes_with,
    read_proc,
    shell,
    sleeper,
    wait_until,
)

# Leaves a child that has left the session and ignores SIGTERM, then hangs.
HANGS = "echo $1 hangs >> $OUT; (trap '' TERM HUP; setsid sleep 1000 &) ; exec sleep 1000"
LIMIT = 1 * SCALE  # enough for what hangs to have spoken before


def hook(script, name="hook", timeout=10.0):
    return {"command": "/bin/sh", "args": ["-c", script, "sh", name], "timeout": timeout}


class Hooks(Scenario):
    def daemon(self, hooks, **changes):
        daemon = Daemon(started=False)
        self.out = daemon.dir / "out"
        service = merge(
            shell(
                "trap 'echo asked >> $OUT; exit 0' TERM; echo main >> $OUT; while :; do sleep 0.02; done",
                enabled=False,
                environment={"OUT": str(self.out), "PART": "web"},
                hooks=hooks,
                restart_policy={"mode": "never"},
            ),
            changes,
        )
        daemon.write_config({"web": service, "beside": sleeper()})
        return daemon

    def lines(self):
        return self.out.read_text().split("\n")[:-1] if self.out.exists() else []

    def assert_nothing_left(self, daemon):
        left = [pid for pid in processes_with(b"PART=web") if pid in daemon.processes()]
        self.assertEqual(left, [], "the hook or a child of it is left")

    def test_a_pre_start_that_hangs_fails_the_start_when_its_time_is_up(self):
        with self.daemon({"pre_start": hook(HANGS, "pre_start", LIMIT)}) as daemon:
            daemon.start()
            began = time.monotonic()
            result = daemon.ctl("start", "web", expect=FAILED)
            self.assertGreaterEqual(time.monotonic() - began, LIMIT)
            self.assert_quicker(6, began)
            for words in ("pre_start", "timed out"):
                self.assertIn(words, result.stderr)
            self.assertEqual(self.lines(), ["pre_start hangs"])
            self.assertIn("pre_start", daemon.wait_event("web", "failed")["message"])
            self.assert_nothing_left(daemon)

    def test_a_post_start_that_hangs_is_ended_and_the_service_goes_on(self):
        with self.daemon({"post_start": hook(HANGS, "post_start", LIMIT)}) as daemon:
            daemon.start()
            daemon.ctl("start", "web")
            pid = daemon.pid("web")
            wait_until(lambda: "post_start hangs" in self.lines(), "the hook")
            row = daemon.wait_for("web", lambda row: "post_start" in row["reason"], "the hook's end to be told")
            self.assertEqual((row["state"], row["pid"]), ("running", pid))
            hooks = [p for p in daemon.service_processes() if b"sleep\0001000\0" in read_proc(p, "cmdline")]
            self.assertEqual(hooks, [])

    def test_a_pre_stop_that_hangs_delays_the_stop_by_its_time_limit_only(self):
        with self.daemon({"pre_stop": hook(HANGS, "pre_stop", LIMIT)}) as daemon:
            daemon.start()
            daemon.ctl("start", "web")
            wait_until(lambda: "main" in self.lines(), "the service")
            began = time.monotonic()
            daemon.ctl("stop", "web")
            self.assertGreaterEqual(time.monotonic() - began, LIMIT)
            self.assert_quicker(6, began)
            self.assertEqual(self.lines(), ["main", "pre_stop hangs", "asked"])
            self.assert_nothing_left(daemon)

    def test_a_post_stop_that_hangs_ends_with_its_time_limit_and_the_stop_with_it(self):
        with self.daemon({"post_stop": hook(HANGS, "post_stop", LIMIT)}) as daemon:
            daemon.start()
            daemon.ctl("start", "web")
            wait_until(lambda: "main" in self.lines(), "the service")
            began = time.monotonic()
            daemon.ctl("stop", "web")
            self.assertGreaterEqual(time.monotonic() - began, LIMIT)
            self.assert_quicker(6, began)
            self.assertEqual(self.lines(), ["main", "asked", "post_stop hangs"])
            self.assertEqual(daemon.status("web")["state"], "stopped")
            self.assert_nothing_left(daemon)

    def test_a_stop_while_pre_start_hangs_does_not_wait_for_it(self):
        for user in ({}, {"user": "root"}):  # a user is looked up elsewhere first
            with self.subTest(user), self.daemon({"pre_start": hook(HANGS, "pre_start", 600)}, **user) as daemon:
                daemon.start()
                starting = daemon.stream("start", "web")
                daemon.wait_state("web", "starting")
                began = time.monotonic()
                daemon.ctl("stop", "web")
                self.assert_quicker(4, began)
                self.assertEqual(starting.wait(), FAILED)
                self.assertEqual(daemon.status("web")["state"], "stopped")
                self.assertNotIn("main", self.lines())
                self.assert_nothing_left(daemon)
                for _ in range(5):  # before it has begun even
                    began = time.monotonic()
                    daemon.ctl("start", "--no-wait", "web")
                    daemon.ctl("stop", "web")
                    self.assert_quicker(4, began)
                self.assert_nothing_left(daemon)

    def test_a_restart_while_pre_start_hangs_begins_anew(self):
        # It decides first and speaks then: who has heard it may make the file.
        script = 'if test -e "$OUT.go"; then echo try >> $OUT; else echo try >> $OUT; exec sleep 1000; fi'
        with self.daemon({"pre_start": hook(script, "pre_start", 600)}) as daemon:
            daemon.start()
            daemon.ctl("start", "--no-wait", "web")
            wait_until(lambda: "try" in self.lines(), "the hook to run")
            (daemon.dir / "out.go").touch()
            daemon.ctl("restart", "web")
            self.assertEqual(self.lines()[:2], ["try", "try"])
            self.assertEqual(daemon.status("web")["state"], "running")

    def test_a_service_that_dies_during_its_pre_stop_ends_the_hook_and_the_stop(self):
        with self.daemon({"pre_stop": hook(HANGS, "pre_stop", 600), "post_stop": hook("echo post >> $OUT")}) as daemon:
            daemon.start()
            daemon.ctl("start", "web")
            pid = daemon.pid("web")
            stopping = daemon.stream("stop", "web")
            wait_until(lambda: "pre_stop hangs" in self.lines(), "the hook")
            kill(pid)
            self.assertEqual(stopping.wait(), 0)
            self.assertEqual(self.lines()[-1], "post")
            self.assert_nothing_left(daemon)

    def test_the_daemon_stops_with_hooks_that_hang(self):
        hooks = {"pre_stop": hook(HANGS, "pre_stop", LIMIT), "post_stop": hook(HANGS, "post_stop", LIMIT)}
        with self.daemon(hooks) as daemon:
            daemon.start()
            daemon.ctl("start", "web")
            began = time.monotonic()
            daemon.stop()
            self.assert_quicker(10, began)
            self.assertEqual(self.lines()[-1], "post_stop hangs")

    def test_a_failing_post_stop_or_pre_stop_does_not_keep_a_service_from_being_stopped_or_restarted(self):
        failing = {"pre_stop": hook("exit 3"), "post_stop": {"command": "/no/such/hook"}, "post_start": hook("exit 9")}
        with self.daemon(failing) as daemon:
            daemon.start()
            daemon.ctl("start", "web")
            pid = daemon.pid("web")
            daemon.ctl("restart", "web")
            self.assertFalse(is_alive(pid))
            daemon.ctl("stop", "web")
            self.assertEqual(daemon.status("web")["state"], "stopped")

    def test_a_pre_start_that_does_not_exist_is_named(self):
        with self.daemon({"pre_start": {"command": "/no/such/hook"}}) as daemon:
            daemon.start()
            result = daemon.ctl("start", "web", expect=FAILED)
            for words in ("pre_start", "/no/such/hook", "No such file or directory"):
                self.assertIn(words, result.stderr)

    def test_a_failing_pre_start_says_what_it_wrote_last_and_is_tried_again_by_the_policy(self):
        script = "echo try >> $OUT; echo 'the disk is not there' >&2; test -e $OUT.go"
        with self.daemon(
            {"pre_start": hook(script)}, restart_policy={"mode": "always", "delay": 0.05, "max_attempts": 0}
        ) as daemon:
            daemon.start()
            result = daemon.ctl("start", "web", expect=FAILED)
            self.assertIn("the disk is not there", result.stderr)
            wait_until(lambda: self.lines().count("try") >= 3, "further attempts")
            (daemon.dir / "out.go").touch()
            daemon.wait_state("web", "running")

    def test_a_hook_runs_as_the_service_does_and_knows_its_main_process(self):
        script = "echo $SERVICE_ID $MAINPID $(pwd) $GREETING >> $OUT"
        with self.daemon(
            {"pre_stop": hook(script)}, working_directory="/tmp", environment={"GREETING": "hi"}
        ) as daemon:
            daemon.start()
            daemon.ctl("start", "web")
            pid = daemon.pid("web")
            daemon.ctl("stop", "web")
            self.assertIn(f"web {pid} /tmp hi", self.lines())


if __name__ == "__main__":
    main()
