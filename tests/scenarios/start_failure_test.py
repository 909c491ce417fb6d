"""A start that fails is told: exit 1, with the step that failed, the value concerned and the kernel's reason."""

import os

from harness import FAILED, NOT_RUNNING, Daemon, Scenario, cgroup_of, main, needs_root, shell, sleeper, wait_until


class StartFailure(Scenario):
    def check(self, service, *words, prepare=None):
        """`start` of the service fails with all of the words in its message, and so says the status."""
        with Daemon(started=False) as daemon:
            if prepare:
                prepare(daemon)
            fill = {
                key: value.format(dir=daemon.dir) if isinstance(value, str) else value for key, value in service.items()
            }
            daemon.write_config({"web": {**fill, "enabled": False}, "beside": sleeper()})
            daemon.start()
            result = daemon.ctl("start", "web", expect=FAILED)
            for word in words:
                self.assertIn(word.format(dir=daemon.dir), result.stderr, str(result))
            self.assertIn("web", result.stderr)
            row = daemon.wait_state("web", "failed", "backoff")
            self.assertFalse(row["pid"])
            for word in words:
                self.assertIn(word.format(dir=daemon.dir), row["reason"])
            self.assertFalse(daemon.pid_file("web").exists())
            daemon.ctl("status", "web", expect=NOT_RUNNING)
            self.assertEqual(
                daemon.ctl_json("start", "web", expect=FAILED).get("results", [{}])[0].get("id", "web"), "web"
            )
            daemon.wait_state("beside", "running")
            daemon.ctl("stop", "web")
            self.assertEqual(daemon.status("web")["state"], "stopped")

    QUICK = {"restart_policy": {"delay": 0.05, "max_attempts": 2}}

    def test_a_command_that_does_not_exist(self):
        self.check(
            {"command": "{dir}/no-such-program", **self.QUICK},
            "command {dir}/no-such-program",
            "No such file or directory",
        )

    def test_a_command_that_is_not_on_the_path(self):
        self.check(
            {"command": "no-such-program-on-path", **self.QUICK}, "no-such-program-on-path", "No such file or directory"
        )

    def test_a_command_that_is_not_executable(self):
        self.check(
            {"command": "{dir}/plain", **self.QUICK},
            "command {dir}/plain",
            "Permission denied",
            prepare=lambda daemon: (daemon.dir / "plain").write_text("#!/bin/sh\n"),
        )

    def test_a_command_that_is_a_directory(self):
        self.check({"command": "{dir}", **self.QUICK}, "command {dir}", "Permission denied")

    def test_a_command_in_a_format_that_the_kernel_does_not_know(self):
        def prepare(daemon):
            (daemon.dir / "garbage").write_bytes(b"\x01\x02\x03 no program\n")
            (daemon.dir / "garbage").chmod(0o755)

        self.check(
            {"command": "{dir}/garbage", **self.QUICK}, "command {dir}/garbage", "Exec format error", prepare=prepare
        )

    def test_a_script_whose_interpreter_does_not_exist(self):
        def prepare(daemon):
            (daemon.dir / "script").write_text("#!/no/such/interpreter\n")
            (daemon.dir / "script").chmod(0o755)

        self.check(
            {"command": "{dir}/script", **self.QUICK},
            "command {dir}/script",
            "No such file or directory",
            prepare=prepare,
        )

    def test_arguments_that_are_too_long(self):
        self.check(
            {"command": "/bin/true", "args": ["x" * 200_000], **self.QUICK}, "/bin/true", "Argument list too long"
        )

    def test_a_working_directory_that_does_not_exist(self):
        self.check(
            {"command": "/bin/true", "working_directory": "{dir}/nowhere", **self.QUICK},
            "working_directory {dir}/nowhere",
            "No such file or directory",
        )

    def test_a_working_directory_that_is_a_file(self):
        self.check(
            {"command": "/bin/true", "working_directory": "{dir}/file", **self.QUICK},
            "working_directory {dir}/file",
            "Not a directory",
            prepare=lambda daemon: (daemon.dir / "file").touch(),
        )

    @needs_root
    def test_a_user_that_does_not_exist(self):
        self.check({"command": "/bin/true", "user": "nosuchuser", **self.QUICK}, "user", "nosuchuser")

    @needs_root
    def test_a_group_that_does_not_exist(self):
        self.check({"command": "/bin/true", "group": "nosuchgroup", **self.QUICK}, "group", "nosuchgroup")

    @needs_root
    def test_a_working_directory_that_the_user_may_not_enter(self):
        def prepare(daemon):
            (daemon.dir / "closed").mkdir(mode=0o700)

        self.check(
            {"command": "/bin/true", "working_directory": "{dir}/closed", "user": "nobody", **self.QUICK},
            "working_directory {dir}/closed",
            "Permission denied",
            prepare=prepare,
        )

    def test_an_environment_file_that_does_not_exist(self):
        self.check(
            {"command": "/bin/true", "environment_file": "{dir}/nowhere.env", **self.QUICK},
            "environment_file",
            "{dir}/nowhere.env",
            "No such file or directory",
        )

    def test_a_log_directory_that_cannot_be_written_is_told_not_hidden(self):
        with Daemon(started=False, global_={"log_directory": "/proc/nowhere"}) as daemon:
            daemon.write_config({"web": sleeper(enabled=False)})
            result = daemon.supervisord(expect=FAILED)
            self.assertIn("/proc/nowhere", result.stderr)

    def test_a_service_that_ends_at_once_with_failure_does_not_count_as_started_where_it_must_be_ready(self):
        service = shell(
            "exit 4", enabled=False, readiness={"type": "uptime", "uptime": 0.5}, restart_policy={"mode": "never"}
        )
        with Daemon({"web": service}) as daemon:
            result = daemon.ctl("start", "web", expect=FAILED)
            self.assertIn("4", result.stderr)

    def test_a_cgroup_that_is_frozen_holds_up_nobody(self):
        with Daemon({"web": sleeper(enabled=False), "other": sleeper()}) as daemon:
            pid = daemon.wait_state("other", "running")["pid"]
            own = cgroup_of(pid)
            if own is None or own.name != "other" or not os.access(own.parent / "cgroup.freeze", os.W_OK):
                self.skipTest("no cgroup v2 to freeze")
            freeze = own.parent / "cgroup.freeze"
            freeze.write_text("1")
            try:
                result = daemon.ctl("start", "web", expect=FAILED)
                self.assertIn("did not get to run in time (is its cgroup frozen", result.stderr)
                daemon.ctl("status", "web", expect=NOT_RUNNING)
            finally:
                freeze.write_text("0")
            daemon.ctl("start", "web")

    def test_one_failure_among_several_targets_does_not_hold_up_the_others(self):
        services = {
            "bad": {"command": "/no/such/program", "enabled": False, **self.QUICK},
            "a": sleeper(enabled=False),
            "z": sleeper(enabled=False),
        }
        with Daemon(services) as daemon:
            result = daemon.ctl("start", "a", "bad", "z", expect=FAILED)
            self.assertIn("/no/such/program", result.stderr)
            for id in ("a", "z"):
                self.assertEqual(daemon.status(id)["state"], "running")

    def test_a_failing_start_is_tried_again_by_the_policy_and_then_given_up(self):
        with Daemon(started=False) as daemon:
            program = daemon.dir / "late"
            daemon.write_config(
                {
                    "never": {"command": "/no/such/program", "restart_policy": {"delay": 0.02, "max_attempts": 2}},
                    "late": {
                        "command": str(program),
                        "restart_policy": {"delay": 0.05, "max_attempts": 0, "jitter": 0, "backoff_multiplier": 1},
                    },
                }
            )
            daemon.start()
            row = daemon.wait_state("never", "failed")
            self.assertIn("No such file or directory", row["reason"])
            self.assertIn("No such file or directory", daemon.wait_event("never", "failed")["message"])
            wait_until(lambda: "restarting" in daemon.event_types("late"), "a further attempt")
            program.write_text("#!/bin/sh\nexec sleep 1000\n")
            program.chmod(0o755)
            daemon.wait_state("late", "running")


if __name__ == "__main__":
    main()
