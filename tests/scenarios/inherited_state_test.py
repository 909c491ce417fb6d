"""What the programs inherit from the process that starts them: signals, descriptors, limits, directory, environment."""

import contextlib
import itertools
import os
import pathlib
import resource
import signal
import subprocess
import tempfile
import unittest

from harness import (
    DONE,
    FAILED,
    NOT_RUNNING,
    SCALE,
    SUPERVISORCTL,
    SUPERVISORD,
    UNREACHABLE,
    USAGE,
    Daemon,
    Scenario,
    Workspace,
    kill,
    main,
    process_status,
    run,
    sleeper,
    wait_until,
)

QUICK = {"delay": 0.05, "max_attempts": 0}


def ignore_children():
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)


def block_all():
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell's background job ignores it, and that is inherited
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())


def with_redirections(redirections, command, env, timeout=60.0):
    """The exit code of the command as a shell runs it with these redirections, such as `>&- 2>/dev/full`.

    What it left open of its own outputs is returned too.
    """
    done = subprocess.run(
        ["/bin/sh", "-c", f'exec "$@" {redirections}', "sh", *map(str, command)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=env,
        timeout=timeout * SCALE,
        check=False,
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def next_daemon(daemon, old):
    return wait_until(
        lambda: daemon.ctl("version", expect=None).returncode == DONE and daemon.version()["pid"] != old["pid"],
        "the next daemon",
        timeout=30,
    )


class Signals(Scenario):
    def test_with_sigchld_ignored_a_killed_daemon_comes_back_and_can_be_stopped(self):
        for arguments in ([], ["--no-guardian"]):
            with self.subTest(arguments=arguments), Daemon(
                {"web": sleeper(restart_policy=QUICK)}, started=False, prepare=ignore_children
            ) as daemon:
                daemon.arguments = arguments
                daemon.start()
                pid, version = daemon.wait_state("web", "running")["pid"], daemon.version()
                if not arguments:
                    kill(version["pid"])
                    next_daemon(daemon, version)
                    self.assertEqual(daemon.wait_state("web", "running")["pid"], pid)
                kill(pid)
                self.assertIn("SIGKILL", daemon.wait_event("web", "exited")["message"])
                daemon.stop()

    def test_with_sigchld_ignored_script_checks_end(self):
        check = {"type": "script", "command": "/bin/sh", "args": ["-c", "exit 0"], "interval": 0.1}
        with Daemon({"web": sleeper(health_check=check)}, background=True, prepare=ignore_children) as daemon:
            daemon.wait_for("web", lambda row: row["health"] == "healthy", "its health")
            done = subprocess.run(
                [SUPERVISORCTL, "check", "script", "/bin/true"],
                env=daemon.client_env,
                capture_output=True,
                timeout=30 * SCALE,
                preexec_fn=ignore_children,
                check=False,
            )
            self.assertEqual(done.returncode, 0, done)
            daemon.stop()

    def test_with_every_signal_blocked_all_of_them_are_heard(self):
        with Daemon({"web": sleeper()}, prepare=block_all) as daemon:
            version = daemon.version()
            self.assertEqual(int(process_status(daemon.wait_state("web", "running")["pid"])["SigBlk"], 16), 0)
            daemon.process.send_signal(signal.SIGHUP)
            daemon.wait_event("supervisor", "reloaded")
            kill(version["pid"])
            next_daemon(daemon, version)
            with subprocess.Popen(
                [SUPERVISORCTL, "--socket", daemon.socket, "events", "-f"],
                env=daemon.client_env,
                stdout=subprocess.PIPE,
                preexec_fn=block_all,
            ) as follower:
                follower.stdout.readline()
                follower.send_signal(signal.SIGINT)
                follower.wait(20 * SCALE)
            daemon.process.send_signal(signal.SIGTERM)
            daemon.check_gone()

    def test_what_nohup_ignores_is_still_a_reload(self):
        with Daemon(prepare=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)) as daemon:
            daemon.process.send_signal(signal.SIGHUP)
            daemon.wait_event("supervisor", "reloaded")


class ClosedDescriptors(Scenario):
    def test_no_file_of_the_daemon_takes_the_place_of_one_that_was_closed(self):
        for closed in (c for count in (1, 2, 3) for c in itertools.combinations((0, 1, 2), count)):
            redirections = " ".join(f"{fd}>&-" for fd in closed)
            with self.subTest(redirections=redirections), Daemon({"web": sleeper()}, started=False) as daemon:
                daemon.process = subprocess.Popen(
                    ["/bin/sh", "-c", f'exec "$@" {redirections}', "sh", SUPERVISORD, "-c", daemon.config_file],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env=daemon.env,
                )
                daemon.wait_ready()
                daemon.wait_state("web", "running")
                self.assertEqual((daemon.dir / "s.lock").read_bytes(), b"")
                for pid in daemon.supervisors():
                    for fd in closed:
                        self.assertEqual(os.readlink(f"/proc/{pid}/fd/{fd}"), "/dev/null")
                version = daemon.version()
                kill(version["pid"])
                next_daemon(daemon, version)
                daemon.stop()

    def test_the_background_is_reached_without_them_too(self):
        for redirections in (">&-", "2>&-", "<&-", ">&- 2>&-", "<&- >&- 2>&-"):
            with self.subTest(redirections=redirections), Daemon({"web": sleeper()}, started=False) as daemon:
                command = [SUPERVISORD, "-c", daemon.config_file, "--daemon"]
                self.assertEqual(with_redirections(redirections, command, daemon.env)[0], 0)
                daemon.wait_state("web", "running")
                self.assertEqual((daemon.dir / "s.lock").read_bytes(), b"")
                self.assertEqual(with_redirections(redirections, [*command[:3], "--stop"], daemon.env)[0] in (0, 1), True)
                daemon.check_gone()


class Unprintable(Scenario):
    """What cannot be printed is exit 1, or the exit code that was due anyway; never an abort."""

    def check(self, workspace, table, programs):
        for arguments, redirections, expected in table:
            with self.subTest(arguments=arguments, redirections=redirections):
                code, _, errors = with_redirections(redirections, [*programs, *arguments], workspace.env)
                self.assertEqual(code, expected, errors)
                if redirections == ">/dev/full":
                    self.assertIn("No space left on device", errors)
                elif redirections == ">&-":
                    self.assertIn("Bad file descriptor", errors)

    def test_of_supervisord(self):
        with Workspace({"web": sleeper()}) as workspace:
            results = [["--version"], ["--help"], ["--check"], ["--internal-fail-points"]]
            outputs = (">/dev/full", ">&-")
            nowhere = ("2>/dev/full", "2>&-", ">/dev/full 2>/dev/full", ">&- 2>&-", "<&- >&- 2>&-")
            if not workspace.supervisord("--internal-fail-points").stdout:
                results.pop()
            table = [(arguments, output, FAILED) for arguments in results for output in outputs]
            table += [(arguments, "2>/dev/full", DONE) for arguments in results]
            table += [(["--status"], redirection, NOT_RUNNING) for redirection in (*outputs, *nowhere)]
            table += [(["--stop"], output, FAILED) for output in outputs]
            table += [(["--bogus"], redirection, USAGE) for redirection in nowhere]
            self.check(workspace, table, [SUPERVISORD, "-c", workspace.config_file])
            workspace.write_text('{"version": "1.0", "servces": {}}')
            starts = [["--check"], [], ["--daemon"], ["--no-guardian"]]
            table = [(arguments, redirection, USAGE) for arguments in starts for redirection in nowhere]
            self.check(workspace, table, [SUPERVISORD, "-c", workspace.config_file])
            self.assertEqual(workspace.processes(), [])

    def test_of_a_second_supervisord(self):
        with Daemon({"web": sleeper()}) as daemon:
            for redirection in ("2>/dev/full", "2>&-", ">&- 2>&-"):
                for arguments in ([], ["--daemon"], ["--no-guardian"]):
                    command = [SUPERVISORD, "-c", daemon.config_file, *arguments]
                    self.assertEqual(with_redirections(redirection, command, daemon.env)[0], 1)
            daemon.ctl("version")
            code, _, _ = with_redirections(">/dev/full", [SUPERVISORD, "-c", daemon.config_file, "--stop"], daemon.env)
            self.assertEqual(code, 1)
            daemon.check_gone()  # it was stopped, and only that could not be told

    def test_of_supervisorctl(self):
        with Daemon({"web": sleeper()}) as daemon:
            daemon.wait_state("web", "running")
            results = [["status"], ["--json", "status"], ["version"], ["summary"], ["--help"], ["check", "--help"]]
            table = [(arguments, output, FAILED) for arguments in results for output in (">/dev/full", ">&-")]
            table += [(["check", "script", "/bin/true"], output, FAILED) for output in (">/dev/full", ">&-")]
            table += [(["status"], "2>&-", DONE), (["bogus"], "2>/dev/full", USAGE), (["bogus"], ">&- 2>&-", USAGE)]
            table += [(["status", "nobody"], "2>/dev/full", 4)]
            table += [(["--socket", daemon.dir / "none", "status"], "2>&-", UNREACHABLE)]
            env = {**daemon.client_env, "SUPERVISOR_SOCKET": str(daemon.socket)}
            for arguments, redirections, expected in table:
                with self.subTest(arguments=arguments, redirections=redirections):
                    code, _, errors = with_redirections(redirections, [SUPERVISORCTL, *arguments], env)
                    self.assertEqual(code, expected, errors)
            daemon.stop()

    def test_a_reader_that_goes_away_is_no_failure(self):
        with Workspace({"web": sleeper()}) as workspace:
            for arguments in (["--help"], ["--version"], ["--check"]):
                reader, writer = os.pipe()
                os.close(reader)
                try:
                    done = subprocess.run(
                        [SUPERVISORD, "-c", workspace.config_file, *arguments],
                        stdout=writer,
                        env=workspace.env,
                        timeout=60 * SCALE,
                        check=False,
                    )
                finally:
                    os.close(writer)
                self.assertEqual(done.returncode, 0, arguments)


class Surroundings(Scenario):
    def test_without_an_environment_and_a_name(self):
        for argv0 in (SUPERVISORD, "", "x"):
            with self.subTest(argv0=argv0), Workspace({"web": sleeper()}) as workspace:
                sanitizer = {key: value for key, value in workspace.env.items() if key.endswith("SAN_OPTIONS")}
                for arguments, expected in ((["--check"], 0), (["--status"], 3), (["--daemon"], 0), (["--status"], 0)):
                    done = subprocess.run(
                        [argv0, "-c", str(workspace.config_file), *arguments],
                        executable=SUPERVISORD,
                        env=sanitizer,
                        timeout=60 * SCALE,
                        check=False,
                        stdin=subprocess.DEVNULL,
                        stdout=subprocess.DEVNULL,
                        stderr=subprocess.DEVNULL,
                    )
                    self.assertEqual(done.returncode, expected, arguments)
                workspace.supervisord("--stop", expect=0)

    def test_a_directory_that_is_gone(self):
        with Workspace({"web": sleeper()}) as workspace:
            directory = tempfile.mkdtemp()

            def gone():
                os.chdir(directory)
                os.rmdir(directory)

            workspace.supervisord("--daemon", expect=0, preexec_fn=gone)
            os.mkdir(directory)
            workspace.supervisord("--stop", expect=0, preexec_fn=gone)
            os.mkdir(directory)
            relative = run([SUPERVISORD, "-c", "x.json"], 2, env=workspace.env, preexec_fn=gone)
            self.assertIn("absolute path after -c", relative.stderr)

    @unittest.skipIf(b"libtsan.so" in pathlib.Path(SUPERVISORD).read_bytes(), "its runtime writes a file before main")
    def test_a_limit_on_file_sizes_is_told_and_kills_nothing(self):
        def no_files():
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)

        with Workspace({"web": sleeper()}) as workspace:
            for arguments in ([], ["--daemon"], ["--no-guardian"]):
                result = workspace.supervisord(*arguments, expect=1, preexec_fn=no_files, restore_signals=False)
                self.assertIn("File too large", result.stderr)
            wait_until(lambda: workspace.processes() == [], "the guardian to end too")

    def test_a_umask_that_hides_everything(self):
        with Daemon({"web": sleeper()}, background=True, prepare=lambda: os.umask(0o777)) as daemon:
            daemon.wait_state("web", "running")
            for path in (daemon.dir / "s.pid", daemon.pid_file("web")):
                self.assertEqual(path.stat().st_mode & 0o777, 0o644, path)

    @unittest.skipIf(os.environ.get("SCENARIO_TIME_SCALE", "1") != "1", "a sanitizer takes terabytes of address space")
    def test_too_little_memory_is_told_and_tried_no_hundred_times_a_second(self):
        for arguments in ([], ["--daemon"], ["--no-guardian"]):
            with self.subTest(arguments=arguments), Workspace({"web": sleeper()}) as workspace:
                for megabytes in (48, 64, 80, 96, 128, 160):
                    limit = megabytes << 20
                    process = subprocess.Popen(
                        [SUPERVISORD, "-c", workspace.config_file, *arguments],
                        stdin=subprocess.DEVNULL,
                        stdout=subprocess.PIPE,
                        stderr=subprocess.STDOUT,
                        env=workspace.env,
                        preexec_fn=lambda limit=limit: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
                    )
                    with process:
                        with contextlib.suppress(subprocess.TimeoutExpired):
                            process.wait(1 * SCALE)
                        if process.poll() is None:
                            process.send_signal(signal.SIGTERM)
                            try:
                                process.wait(30 * SCALE)
                            except subprocess.TimeoutExpired:
                                process.kill()
                                self.fail(f"{megabytes} MB: it cannot be stopped")
                        said = process.stdout.read().decode(errors="replace")
                    workspace.supervisord("--stop", expect=0)
                    self.assertLess(said.count("supervisord: guardian:"), 12, said)


if __name__ == "__main__":
    main()
