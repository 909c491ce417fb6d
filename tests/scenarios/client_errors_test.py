"""supervisorctl says what is wrong, and its exit code says of which kind it is."""

import fcntl
import json
import os
import re
import socket
import struct
import subprocess
import termios
import threading

from harness import (
    DONE,
    NO_SUCH_SERVICE,
    NOT_RUNNING,
    SCALE,
    SUPERVISORCTL,
    UNREACHABLE,
    USAGE,
    Daemon,
    Scenario,
    Workspace,
    main,
    run,
    shell,
    sleeper,
)


class Arguments(Scenario):
    def test_none_of_them_is_asked_for_all_the_same(self):
        with Workspace() as workspace:
            for command in (("events",), ("alerts",), ("metrics", "web")):
                workspace.ctl(*command, "-n", "0", expect=UNREACHABLE)
        with Daemon({"web": sleeper(), "bad": shell("exit 1", restart_policy={"mode": "never"})}) as daemon:
            daemon.wait_event("bad", "alert_raised")
            for command in ("events", "metrics"):
                daemon.ctl(command, "nosuch", "-n", "0", expect=NO_SUCH_SERVICE)
            for command, rows in ((("events", "web"), "events"), (("alerts",), "alerts"), (("metrics", "web"), "points")):
                self.assertEqual(daemon.ctl_json(*command, "-n", "0")[rows], [])
            self.assertEqual(daemon.ctl("events", "-n", "0").stdout + daemon.ctl("alerts", "-n", "0").stdout, "")
            self.assertEqual(len(daemon.ctl_json("alerts", "-n", "1")["alerts"]), 1)

    def test_a_reason_has_a_bound(self):
        with Daemon({"web": sleeper()}) as daemon:
            daemon.wait_state("web", "running")
            result = daemon.ctl("restart", "web", "--reason", "x" * 1025, expect=USAGE)
            self.assertIn("1024", result.stderr)
            self.assertNotIn("restarting", daemon.event_types("web"))
            daemon.ctl("restart", "web", "--reason", "x" * 1024)
            event = daemon.wait_event("web", "restarting")
            self.assertEqual(event["details"]["reason"], "x" * 1024)


class Unreachable(Scenario):
    def test_no_daemon_is_exit_5_with_the_socket_and_how_to_start_one(self):
        with Workspace() as workspace:
            for command in (
                ["status"],
                ["start", "web"],
                ["events"],
                ["logs", "web"],
                ["shutdown"],
                ["reload"],
                ["health"],
                ["summary"],
            ):
                with self.subTest(command=command):
                    result = workspace.ctl(*command, expect=UNREACHABLE)
                    self.assertIn(str(workspace.socket), result.stderr)
                    self.assertIn("supervisord", result.stderr)
                    self.assertEqual(result.stdout, "")

    def test_the_message_says_whether_a_daemon_runs(self):
        with Workspace() as workspace:
            self.assertRegex(
                workspace.ctl("status", expect=UNREACHABLE).stderr.lower(),
                "no (daemon|supervisord)|not running|is not there",
            )

    def test_a_daemon_that_went_away_is_exit_5(self):
        with Daemon({"web": sleeper()}) as daemon:
            daemon.kill_daemon()
            self.assertIn(str(daemon.socket), daemon.ctl("status", expect=UNREACHABLE).stderr)
            daemon.start()

    def test_something_else_on_the_socket_is_exit_5_and_does_not_hang(self):
        with Workspace() as workspace, socket.socket(socket.AF_UNIX) as other:
            other.bind(str(workspace.socket))
            other.listen()

            def close_all():
                while True:
                    try:
                        other.accept()[0].close()
                    except OSError:
                        return

            thread = threading.Thread(target=close_all)
            thread.start()
            try:
                workspace.ctl("status", expect=UNREACHABLE)
            finally:
                other.shutdown(socket.SHUT_RDWR)
                thread.join()

    def test_the_environment_names_the_socket_and_the_option_wins(self):
        with Daemon({"web": sleeper(enabled=False)}) as daemon:

            def plain(*arguments, socket):
                return run([SUPERVISORCTL, *arguments], env={**daemon.env, "SUPERVISOR_SOCKET": str(socket)})

            self.assertEqual(plain("status", socket=daemon.socket).returncode, DONE)
            self.assertEqual(plain("status", socket="/nowhere/s.sock").returncode, UNREACHABLE)
            self.assertIn("/nowhere/s.sock", plain("status", socket="/nowhere/s.sock").stderr)
            self.assertEqual(plain("--socket", daemon.socket, "status", socket="/nowhere/s.sock").returncode, DONE)

    def test_a_socket_path_too_long_is_a_clear_error(self):
        for length in (107, 108, 200):
            path = "/tmp/" + "x" * (length - 5)
            result = run([SUPERVISORCTL, "--socket", path, "status"], expect=(UNREACHABLE, USAGE))
            self.assertIn(path, result.stderr)


class UnknownService(Scenario):
    def test_exit_4_with_near_misses(self):
        with Daemon({"architect-prod": sleeper(enabled=False), "reading-app": sleeper(enabled=False)}) as daemon:
            for command in ("status", "start", "stop", "restart", "health", "events", "logs"):
                with self.subTest(command=command):
                    result = daemon.ctl(command, "architect-prd", expect=NO_SUCH_SERVICE)
                    self.assertIn("architect-prd", result.stderr)
                    self.assertIn("architect-prod", result.stderr)
                    self.assertNotIn("reading-app", result.stderr)

    def test_explain_and_metrics_too(self):
        with Daemon({"architect-prod": sleeper(enabled=False)}) as daemon:
            for command in ("explain", "metrics"):
                daemon.require(command, "architect-prod")
                self.assertIn("architect-prod", daemon.ctl(command, "architect-prd", expect=NO_SUCH_SERVICE).stderr)

    def test_globs_groups_and_instances_that_match_nothing(self):
        with Daemon({"web": sleeper(enabled=False), "worker": sleeper(instances=2, enabled=False)}) as daemon:
            for target in ("x*", "@nobody", "worker:7", "web:0:1", "worker:x"):
                with self.subTest(target=target):
                    daemon.ctl("start", target, expect=(NO_SUCH_SERVICE, USAGE))
            daemon.ctl("start", "worker:7", expect=NO_SUCH_SERVICE)

    def test_one_unknown_among_several_targets_starts_none(self):
        with Daemon({"web": sleeper(enabled=False)}) as daemon:
            daemon.ctl("start", "web", "wbe", expect=NO_SUCH_SERVICE)
            for name in ("x", "ä"):  # the answer quotes it, as far as an answer holds
                self.assertIn(f"{name * 100}...", daemon.ctl("status", name * 20000, expect=NO_SUCH_SERVICE).stderr)
            self.assertEqual(daemon.status("web")["state"], "stopped")


class Usage(Scenario):
    def test_usage_errors_are_exit_2_even_without_a_daemon(self):
        with Workspace() as workspace:
            for arguments in (
                [],
                ["nonsense"],
                ["status", "--nonsense"],
                ["start"],
                ["stop"],
                ["restart"],
                ["start", "web", "--timeout", "soon"],
                ["start", "web", "--timeout", "-1"],
                ["events", "-n", "x"],
                ["explain"],
                ["signal", "TERM"],
                ["signal"],
                ["--nonsense", "status"],
            ):
                with self.subTest(arguments=arguments):
                    result = workspace.ctl(*arguments, expect=USAGE)
                    self.assertTrue(result.stderr.strip())
                    self.assertEqual(result.stdout, "")

    def test_an_unknown_command_names_near_misses(self):
        with Workspace() as workspace:
            self.assertIn("status", workspace.ctl("statsu", expect=USAGE).stderr)

    def test_help_is_on_stdout_and_names_the_commands(self):
        with Workspace() as workspace:
            text = workspace.ctl("--help").stdout
            for command in (
                "status",
                "start",
                "stop",
                "restart",
                "logs",
                "health",
                "events",
                "summary",
                "reload",
                "version",
                "shutdown",
            ):
                self.assertIn(command, text)
            self.assertIn("--timeout", workspace.ctl("start", "--help").stdout)

    def test_an_unknown_signal_is_a_usage_error(self):
        with Daemon({"web": sleeper()}) as daemon:
            daemon.wait_state("web", "running")
            daemon.ctl("signal", "NOPE", "web", expect=USAGE)

    def test_a_signal_to_a_service_that_does_not_run_fails(self):
        with Daemon({"web": sleeper(enabled=False)}) as daemon:
            daemon.ctl("signal", "HUP", "web", expect=(1, NOT_RUNNING))


class Output(Scenario):
    def test_results_go_to_stdout_messages_to_stderr_and_no_colour_into_a_pipe(self):
        with Daemon({"web": sleeper(), "off": sleeper(enabled=False)}) as daemon:
            daemon.wait_state("web", "running")
            for command in (["status"], ["summary"], ["events"], ["health"], ["version"]):
                result = daemon.ctl(*command)
                self.assertTrue(result.stdout)
                self.assertEqual(result.stderr, "")
                self.assertNotIn("\x1b", result.stdout)
            result = daemon.ctl("status", "off", expect=NOT_RUNNING)
            self.assertIn("stopped", result.stdout)

    def on_a_terminal(self, daemon, *arguments, columns=0, **environment):
        """What supervisorctl writes where its standard output is a terminal."""
        ours, theirs = os.openpty()
        try:
            fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24 if columns else 0, columns, 0, 0))
            command = [SUPERVISORCTL, "--socket", str(daemon.socket), *arguments]
            env = {**daemon.client_env, "TERM": "xterm", **environment}
            subprocess.run(
                command, stdin=theirs, stdout=theirs, stderr=theirs, env=env, timeout=30 * SCALE, check=False
            )
            return os.read(ours, 65536).decode()
        finally:
            os.close(theirs)
            os.close(ours)

    def test_colour_is_for_terminals_and_can_be_declined(self):
        with Daemon({"web": sleeper(), "ill": shell("exit 1", restart_policy={"mode": "never"})}) as daemon:
            daemon.wait_state("ill", "failed")
            self.assertIn("\x1b[", self.on_a_terminal(daemon, "status"))
            self.assertNotIn("\x1b[", self.on_a_terminal(daemon, "--no-color", "status"))
            self.assertNotIn("\x1b[", self.on_a_terminal(daemon, "status", NO_COLOR="1"))
            self.assertNotIn("\x1b[", self.on_a_terminal(daemon, "--json", "status"))
            for term in ("dumb", ""):
                self.assertNotIn("\x1b", self.on_a_terminal(daemon, "status", TERM=term))
                # No screen to draw on: one picture, and the end.
                self.assertNotIn("\x1b", self.on_a_terminal(daemon, "top", TERM=term))

    def test_tables_fit_the_terminal_and_say_what_they_left_out(self):
        services = {
            "a-service-with-a-longer-name": sleeper(port=8080, health_check={"type": "tcp", "port": 1, "interval": 60}),
            "ill": shell("exit 1", restart_policy={"mode": "never"}),
        }
        with Daemon(services) as daemon:
            daemon.wait_state("ill", "failed")
            for command in (["status"], ["summary"], ["health"], ["alerts"], ["status", "--no-color"]):
                shown = self.on_a_terminal(daemon, *command, columns=80)
                table = [re.sub("\x1b\\[[0-9;]*m", "", line) for line in shown.split("\r\n")]
                self.assertLessEqual(max(map(len, table)), 80, shown)
            shown = self.on_a_terminal(daemon, "status", columns=80)
            self.assertIn("a-service-with-a-longer-name", shown)
            self.assertIn("failed", shown)
            self.assertRegex(shown, r"too narrow for: .*PORT")
            wide = self.on_a_terminal(daemon, "status", columns=300)
            self.assertNotIn("too narrow", wide)
            self.assertIn("8080", wide)
            # A pipe has no width.
            self.assertIn("8080", daemon.ctl("status", "a-*").stdout)

    def test_instances_are_listed_by_number(self):
        with Daemon({"w": sleeper(instances=12, enabled=False)}) as daemon:
            expected = [f"w:{i}" for i in range(12)]
            for command in ("status", "summary"):
                self.assertEqual([row["id"] for row in daemon.ctl_json(command, expect=None)["services"]], expected)
            self.assertEqual([row["id"] for row in daemon.ctl_json("health")["services"]], expected)
            lines = daemon.ctl("start", "w", "--no-wait").stdout.split()
            self.assertEqual([word.rstrip(":") for word in lines if word.startswith("w:")], expected)

    def test_the_table_of_status_has_its_columns(self):
        with Daemon({"web": sleeper(port=8080)}) as daemon:
            pid = daemon.wait_state("web", "running")["pid"]
            head, *rows = daemon.ctl("status").stdout.splitlines()
            for column in ("service", "state", "pid", "uptime", "restarts", "health", "cpu", "memory", "port"):
                self.assertIn(column, head.lower())
            for cell in ("web", "running", str(pid), "8080"):
                self.assertIn(cell, rows[0].split())

    def test_json_of_an_error_leaves_stdout_to_json_or_empty(self):
        with Daemon({"web": sleeper(enabled=False)}) as daemon:
            result = daemon.ctl("--json", "status", "nobody", expect=NO_SUCH_SERVICE)
            if result.stdout:
                json.loads(result.stdout)
            self.assertIn("nobody", result.text)
            for arguments in (["bogus"], ["status", "--bogus"], ["stop"], ["logs", "web", "--since", "soon"]):
                result = daemon.ctl("--json", *arguments, expect=USAGE)
                self.assertTrue(result.json["error"]["message"])
                self.assertTrue(result.stderr.startswith("supervisorctl: "))
                result = daemon.ctl(*arguments, "--json", expect=USAGE)
                self.assertEqual(result.json["error"]["code"], "invalid_argument")

    def test_what_other_programs_teach_is_understood_or_answered(self):
        with Daemon({"web": shell("trap 'echo heard' HUP; echo up; while :; do sleep 0.05; done")}) as daemon:
            daemon.wait_log("web", "up")
            daemon.ctl("signal", "-HUP", "web")
            daemon.wait_log("web", "heard")
            daemon.ctl("signal", "-s", "HUP", "web")
            daemon.wait_log("web", "heard", count=2)
            self.assertEqual(daemon.ctl("logs", "web", "-1").stdout, "heard\n")
            hint = daemon.ctl("-c", daemon.config_file, "status", expect=USAGE).stderr
            self.assertIn("--socket PATH", hint)
            hint = daemon.ctl("restart", "web,db", expect=USAGE).stderr
            self.assertIn("separate targets by blanks: web db", hint)

    def test_options_may_come_after_the_command_too(self):
        with Daemon({"web": sleeper(enabled=False)}) as daemon:
            self.assertIn("services", daemon.ctl("status", "--json").json)
            run([SUPERVISORCTL, "status", "--socket", daemon.socket], expect=DONE, env=daemon.env)


if __name__ == "__main__":
    main()
