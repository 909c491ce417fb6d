"""The guardian: it is stopped whatever has become of its daemon, finds its program, and keeps to the shell's job control."""

import contextlib
import os
import pathlib
import pty
import resource
import shutil
import signal
import stat
import subprocess
import termios
import unittest

from harness import (
    BIN_DIR,
    DONE,
    SCALE,
    SUPERVISORCTL,
    SUPERVISORD,
    Daemon,
    Scenario,
    Workspace,
    is_alive,
    kill,
    main,
    process_stat,
    shell,
    sleeper,
    wait_until,
)

THREAD_FAILURE = BIN_DIR.parent / "tests" / "thread_failure.so"
IS_SANITIZED = os.environ.get("SCENARIO_TIME_SCALE", "1") != "1"


def forks_of(said):
    return said.count("starts it again in")


class NeverServed(Scenario):
    """A daemon that cannot come so far as to say why."""

    # So little address space that the program is loaded and its first large allocation or thread fails, or the loading.
    LIMITS_MB = (40, 60, 80, 100, 130)

    @unittest.skipIf(IS_SANITIZED, "a sanitizer takes terabytes of address space")
    def test_with_too_little_memory_it_ends_or_is_ended_by_a_stop(self):
        with Workspace({"web": sleeper()}) as workspace:
            for megabytes in self.LIMITS_MB:
                limit = megabytes << 20
                with open(workspace.dir / "said", "w+b") as said:
                    process = subprocess.Popen(
                        [SUPERVISORD, "-c", workspace.config_file],
                        stdin=subprocess.DEVNULL,
                        stdout=said,
                        stderr=said,
                        env=workspace.env,
                        preexec_fn=lambda limit=limit: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
                    )
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(1.5)
                    running = process.poll() is None
                    process.send_signal(signal.SIGTERM)
                    try:
                        code = process.wait(20 * SCALE)
                    except subprocess.TimeoutExpired:
                        kill(process.pid)
                        process.wait()
                        self.fail(f"{megabytes} MB: SIGTERM did not end it")
                    said.seek(0)
                    text = said.read().decode(errors="replace")
                if running and not workspace.daemon_log.exists():
                    self.assertLessEqual(forks_of(text), 8, text)  # 50 ms, 100, 200, ...
                    self.assertNotEqual(code, 0, text)
                workspace.kill_all()
                workspace.daemon_log.unlink(missing_ok=True)

    @unittest.skipIf(IS_SANITIZED, "a sanitizer takes terabytes of address space")
    def test_a_caller_is_told_and_not_left_waiting(self):
        with Workspace({"web": sleeper()}) as workspace:
            for megabytes in self.LIMITS_MB:
                limit = megabytes << 20
                done = workspace.supervisord(
                    "--daemon", preexec_fn=lambda limit=limit: resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
                )
                if done.returncode != 0:
                    self.assertNotEqual(done.stderr, "")
                    wait_until(lambda: not workspace.supervisors(), "it to be gone")
                else:
                    workspace.supervisord("--stop", expect=0)

    @unittest.skipUnless(THREAD_FAILURE.exists(), "a sanitizer makes the threads")
    def test_a_thread_that_cannot_be_made_keeps_nobody_waiting(self):
        """Whichever it is, of the libraries' too: the start fails and says so, or the daemon serves and can be stopped."""
        served = 0
        for number in range(1, 25):
            preload = {"LD_PRELOAD": str(THREAD_FAILURE), "THREAD_FAILURE": str(number)}
            with Workspace({"web": sleeper()}, env=preload) as workspace, self.subTest(thread=number):
                done = workspace.supervisord("--daemon")
                if done.returncode != 0:
                    self.assertNotEqual(done.stderr, "")
                    wait_until(lambda workspace=workspace: not workspace.supervisors(), "it to be gone")
                else:
                    served += 1
                    # Where gRPC lacks a thread it may answer nobody.
                    asker = subprocess.Popen(
                        [SUPERVISORCTL, "--socket", workspace.socket, "status"], stdout=subprocess.DEVNULL
                    )
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        asker.wait(0.5)
                    try:
                        workspace.supervisord("--stop", expect=0)
                    finally:
                        asker.kill()
                        asker.wait()
        self.assertGreater(served, 5)

    def test_a_daemon_that_is_killed_at_each_start_is_tried_ever_more_rarely_until_the_stop(self):
        with Daemon({"web": sleeper()}, started=False) as daemon:
            if not daemon.supervisord("--internal-fail-points").stdout:
                self.skipTest("this build has no fail points")
            armory = daemon.dir / "armory"
            armory.mkdir()
            daemon.env["SUPERVISOR_FAIL_POINTS"] = str(armory)

            def three_starts():
                # For the next one, which comes 50 ms later or more. Never seen half written by one that looks just now.
                (daemon.dir / "arming").write_text("kill")
                os.replace(daemon.dir / "arming", armory / "boot.served")
                return forks_of(daemon.stderr_file.read_text()) >= 3

            daemon.stderr_file.touch()
            three_starts()
            daemon.launch()
            wait_until(three_starts, "three starts")
            self.assertIn("was killed by SIGKILL before it served", daemon.stderr_file.read_text())
            daemon.process.send_signal(signal.SIGTERM)
            # The last one may have been killed before it could hear the stop, or may have lived and stopped.
            self.assertIn(daemon.process.wait(30 * SCALE), (0, 1))
            daemon.process = None
            self.assertEqual(daemon.processes(), [])
            del daemon.env["SUPERVISOR_FAIL_POINTS"]
            daemon.start()  # the socket's file that the last one may have left is no obstacle
            daemon.wait_state("web", "running")


class Release(Daemon):
    """A daemon of a release directory of its own, which can go away."""

    def __init__(self, services, **options):
        super().__init__(services, started=False, **options)
        self.release = self.dir / "release"
        self.release.mkdir()
        self.program = str(self.release / "supervisord")
        shutil.copy(SUPERVISORD, self.program)

    def start(self):
        super().start()
        self.before = self.version()
        return self

    def put(self, text):
        self.release.mkdir(exist_ok=True)
        fresh = self.release / "new"
        fresh.write_text(text)
        fresh.chmod(0o755)
        fresh.rename(self.program)

    def kill_and_await_the_next(self):
        kill(self.before["pid"])
        wait_until(
            lambda: self.ctl("version", expect=None).returncode == DONE
            and self.version()["pid"] != self.before["pid"],
            "the next daemon",
            timeout=30,
        )

    def wait_told(self, text):
        wait_until(lambda: text in self.daemon_log.read_text(), f"{text!r} in the daemon's log")


class ProgramIsGone(Scenario):
    def check(self, change, told, background=False):
        with Release({"web": sleeper()}, background=background) as daemon:
            daemon.start()
            pid = daemon.wait_state("web", "running")["pid"]
            change(daemon)
            daemon.kill_and_await_the_next()
            self.assertEqual(daemon.wait_state("web", "running")["pid"], pid)
            for text in ("started again by the guardian", "was killed by SIGKILL", *told):
                daemon.wait_told(text)
            for running in daemon.supervisors():
                self.assertEqual((pathlib.Path(f"/proc/{running}/comm").read_text()), "supervisord\n")
            daemon.program = SUPERVISORD
            daemon.stop()
            self.assertFalse(is_alive(pid))

    def test_its_directory_is_deleted(self):
        for background in (False, True):
            self.check(
                lambda daemon: shutil.rmtree(daemon.release),
                ["cannot be started (ENOENT): starts the program that the guardian itself runs"],
                background=background,
            )

    def test_what_lies_in_its_place_may_not_be_executed(self):
        def change(daemon):
            daemon.put("")
            os.chmod(daemon.program, stat.S_IRUSR)

        self.check(change, ["cannot be started (EACCES)"])

    def test_what_lies_in_its_place_is_no_program(self):
        self.check(lambda daemon: daemon.put("half a copy"), ["cannot be started (ENOEXEC)"])

    def test_what_lies_in_its_place_does_not_come_to_serve(self):
        self.check(
            lambda daemon: daemon.put("#!/bin/sh\nexit 127\n"),
            ["exited with code 127 before it served", "has not come to serve: starts the program that the guardian itself"],
        )

    def test_another_program_in_its_place_is_preferred(self):
        with Release({"web": sleeper()}) as daemon:
            daemon.start()
            shutil.rmtree(daemon.release)
            mark = daemon.dir / "taken"
            daemon.put(f'#!/bin/sh\n: >{mark}\nexec {SUPERVISORD} "$@"\n')
            daemon.kill_and_await_the_next()
            self.assertTrue(mark.exists())
            daemon.stop()

    def test_a_stop_ends_it_where_no_program_can_be_started_and_takes_the_services_along(self):
        def no_memory(pid):
            resource.prlimit(pid, resource.RLIMIT_AS, (1 << 20, 1 << 20))

        slow = shell("trap 'echo asked; exit 0' TERM; echo set; while :; do sleep 0.02; done")
        with Release({"web": sleeper(), "slow": slow}) as daemon:
            if IS_SANITIZED:
                self.skipTest("a sanitizer takes terabytes of address space")
            daemon.start()
            daemon.wait_log("slow", "set")
            services = daemon.service_processes()
            no_memory(daemon.process.pid)
            kill(daemon.before["pid"])
            wait_until(lambda: forks_of(daemon.stderr_file.read_text()) >= 2, "it to try")
            daemon.process.send_signal(signal.SIGTERM)
            self.assertEqual(daemon.process.wait(60 * SCALE), 1)
            daemon.process = None
            self.assertIn("the guardian stops the services itself", daemon.stderr_file.read_text())
            self.assertEqual([pid for pid in services if is_alive(pid)], [])
            daemon.start()  # what was left of the files is no obstacle
            daemon.wait_state("web", "running")
            daemon.wait_state("slow", "running")


class JobControl(Scenario):
    """A shell's: the test is the shell, in a session with a terminal of its own."""

    def in_a_session(self, daemon, work, *arguments):
        """Runs work(pid) in a child that leads a session with a terminal; pid: supervisord, in a process group of its own."""
        child, terminal = pty.fork()
        if child == 0:
            code = 1
            try:
                signal.signal(signal.SIGTTOU, signal.SIG_IGN)
                work(self.spawn(daemon, *arguments))
                code = 0
            except BaseException as error:  # its words are all that reaches the test
                os.write(2, f"\nERROR: {error!r}\n".encode())
            finally:
                os._exit(code)
        said = b""
        with contextlib.suppress(OSError):
            while chunk := os.read(terminal, 4096):
                said += chunk
        os.close(terminal)
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), 0, said.decode(errors="replace"))

    @staticmethod
    def spawn(daemon, *arguments):
        pid = os.fork()
        if pid == 0:
            os.setpgid(0, 0)
            signal.signal(signal.SIGTTOU, signal.SIG_DFL)
            os.execve(SUPERVISORD, [SUPERVISORD, "-c", str(daemon.config_file), *arguments], daemon.env)
        with contextlib.suppress(OSError):
            os.setpgid(pid, pid)
        return pid

    def test_ctrl_z_suspends_all_of_the_job_and_fg_brings_it_back(self):
        for arguments in ([], ["--no-guardian"]):
            with self.subTest(arguments=arguments), Daemon(
                {"web": shell("while :; do echo tick; sleep 0.02; done")}, started=False
            ) as daemon:

                def work(pid, daemon=daemon):
                    os.tcsetpgrp(0, pid)
                    daemon.wait_ready()
                    service = daemon.wait_state("web", "running")["pid"]
                    supervisors = daemon.supervisors()
                    terminal = os.ttyname(0)
                    for _ in range(3):
                        with open(terminal, "wb", buffering=0):
                            os.killpg(pid, signal.SIGTSTP)  # what the terminal's driver does at ^Z
                        got, status = os.waitpid(pid, os.WUNTRACED)
                        assert got == pid and os.WIFSTOPPED(status), status
                        wait_until(lambda: {process_stat(one)[0] for one in supervisors} == {"T"}, "all to be suspended")
                        assert process_stat(service)[0] != "T"
                        os.tcsetpgrp(0, os.getpgrp())
                        os.tcsetpgrp(0, pid)
                        os.killpg(pid, signal.SIGCONT)
                        ticks = daemon.log("web").count(b"tick\n")
                        assert daemon.wait_state("web", "running")["pid"] == service
                        assert daemon.supervisors() == supervisors
                        daemon.wait_log("web", "tick\n", count=ticks + 5)
                    os.killpg(pid, signal.SIGINT)
                    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0

                self.in_a_session(daemon, work, *arguments)
                self.assertEqual(daemon.processes(), [])

    def test_in_the_background_of_a_terminal_that_stops_writers_it_goes_on(self):
        for arguments in ([], ["--no-guardian"]):
            with self.subTest(arguments=arguments), Daemon({"web": sleeper()}, started=False) as daemon:

                def work(_, daemon=daemon, arguments=arguments):
                    attributes = termios.tcgetattr(0)
                    attributes[3] |= termios.TOSTOP
                    termios.tcsetattr(0, termios.TCSANOW, attributes)
                    pid = self.spawn(daemon, *arguments)
                    daemon.wait_ready()
                    daemon.ctl("restart", "web")
                    daemon.ctl("reload")
                    assert os.waitpid(pid, os.WNOHANG | os.WUNTRACED) == (0, 0)
                    daemon.supervisord("--stop", expect=0)
                    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0

                self.in_a_session(daemon, work, "--version")

    def test_a_suspended_one_hears_a_stop(self):
        with Daemon({"web": sleeper()}) as daemon:
            daemon.wait_state("web", "running")
            for pid in daemon.supervisors():
                kill(pid, signal.SIGSTOP)
                wait_until(lambda pid=pid: process_stat(pid)[0] == "T", "it to be suspended")
            daemon.stop()

    def test_where_no_shell_could_resume_it_ctrl_z_suspends_nothing(self):
        with Daemon({"web": sleeper()}, background=True) as daemon:
            for pid in daemon.supervisors():
                kill(pid, signal.SIGTSTP)
            daemon.ctl("restart", "web")
            daemon.stop()


if __name__ == "__main__":
    main()
