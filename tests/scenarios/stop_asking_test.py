"""How a service is asked to stop: by its stop command, by the signal when that does not do, and who gets the signal."""

import time

from harness import Daemon, Scenario, is_alive, kill, main, merge, process_stat, python, read_proc, shell, wait_until

# A database, say: ends well when it is asked by SIGTERM or SIGUSR2, and says which it was.
POLITE = "trap 'echo term; exit 0' TERM; trap 'echo usr2; exit 0' USR2; echo set; while :; do sleep 0.02; done"
LONG = 40  # seconds; nothing of what follows may take half of that


def polite(command, *args, timeout=LONG, **changes):
    stop = {"command": command, "args": list(args), "timeout": timeout}
    return merge(shell(POLITE, graceful_shutdown=stop), changes)


class StopCommand(Scenario):
    def assert_signalled_instead(self, daemon, *words, answer=None):
        """It ended by the signal and was not killed, and an event and the answer say why."""
        daemon.wait_log("web", "term")
        row = daemon.status("web")
        self.assertEqual((row["exit_code"], row["exit_signal"]), (0, None), row)
        words = ("graceful_shutdown command", *words, "SIGTERM was sent in its place")
        daemon.wait_event("web", "failed", lambda event: all(word in event["message"] for word in words))
        for word in words if answer else ():
            self.assertIn(word, answer.stdout)

    def test_one_that_fails_falls_back_to_the_signal_at_once(self):
        with Daemon(started=False) as daemon:
            data = daemon.dir / "data"
            data.write_text("no program\n")
            cases = {
                "code": (polite("/bin/sh", "-c", "echo no such cluster >&2; exit 3"), "code 3: no such cluster"),
                "missing": (polite("/no/such/program"), "/no/such/program: No such file or directory"),
                "unknown": (polite("no-such-program-in-path"), "No such file or directory"),
                "noexec": (polite(str(data)), "Permission denied"),
                "directory": (polite("/tmp"), "Permission denied"),
                "killed": (polite("/bin/sh", "-c", "kill -9 $$"), "SIGKILL"),
                "false": (polite("/bin/false"), "code 1"),
            }
            daemon.start()
            for run, (name, (service, words)) in enumerate(cases.items(), 1):
                with self.subTest(name):
                    daemon.write_config({"web": service})
                    daemon.ctl("reload")
                    daemon.ctl("start", "web")
                    daemon.wait_log("web", "set", count=run)
                    began = time.monotonic()
                    answer = daemon.ctl("stop", "web")
                    self.assert_quicker(LONG / 2 - 5, began)
                    self.assert_signalled_instead(daemon, words, answer=answer)
                    self.assertEqual(daemon.log("web").count(b"term"), run)

    def test_one_that_hangs_has_half_of_the_graceful_time(self):
        limit = 3
        with Daemon({"web": polite("/bin/sleep", "1000", timeout=limit)}) as daemon:
            daemon.wait_log("web", "set")
            began = time.monotonic()
            answer = daemon.ctl("stop", "web")
            self.assertGreaterEqual(time.monotonic() - began, limit / 2)
            self.assert_signalled_instead(daemon, answer=answer)
            left = [pid for pid in daemon.service_processes() if b"sleep\0001000\0" in read_proc(pid, "cmdline")]
            self.assertEqual(left, [])

    def test_one_that_ends_well_and_does_nothing_is_followed_by_the_signal(self):
        with Daemon({"web": polite("/bin/true", timeout=3)}) as daemon:
            daemon.wait_log("web", "set")
            answer = daemon.ctl("stop", "web")
            self.assert_signalled_instead(daemon, "still there after 1.5 s", answer=answer)

    def test_one_that_does_it_is_not_followed_by_anything(self):
        with Daemon({"web": polite("/bin/sh", "-c", "kill -USR2 $MAINPID; sleep 0.3")}) as daemon:
            daemon.wait_log("web", "set")
            answer = daemon.ctl("stop", "web")
            self.assertEqual(answer.stdout, "web: stopped\n")
            self.assert_becomes(lambda: daemon.log("web"), b"set\nusr2\n")
            self.assertNotIn("failed", daemon.event_types("web"))

    def test_restart_reload_and_shutdown_fall_back_too(self):
        with Daemon({"web": polite("/no/such/program")}) as daemon:
            daemon.wait_log("web", "set")
            daemon.ctl("restart", "web")
            daemon.wait_log("web", "set", count=2)
            self.assertEqual(daemon.log("web").count(b"term"), 1)
            daemon.config["services"]["web"]["umask"] = "027"
            daemon.write_config()
            daemon.ctl("reload")
            daemon.wait_log("web", "set", count=3)
            self.assertEqual(daemon.log("web").count(b"term"), 2)
            result = daemon.ctl("shutdown")
            self.assertIn("web: stopped (graceful_shutdown command", result.stdout)
            wait_until(lambda: daemon.process.poll() is not None, "the daemon's end")
            self.assertEqual(daemon.log("web").count(b"term"), 3)

    def test_what_ignores_the_signal_as_well_is_killed_when_the_graceful_time_is_over(self):
        deaf = shell("trap '' TERM; echo set; while :; do sleep 0.02; done",
                     graceful_shutdown={"command": "/bin/false", "timeout": 0.6})
        with Daemon({"web": deaf}) as daemon:
            daemon.wait_log("web", "set")
            began = time.monotonic()
            answer = daemon.ctl("stop", "web")
            self.assertGreaterEqual(time.monotonic() - began, 0.6)
            self.assertIn("SIGTERM was sent in its place; it did not stop within 600 ms: SIGKILL", answer.stdout)

    def test_explain_says_what_comes_next_while_the_command_runs(self):
        with Daemon({"web": polite("/bin/sleep", "1000", timeout=LONG)}) as daemon:
            daemon.wait_log("web", "set")
            daemon.ctl("stop", "web", "--no-wait")
            daemon.wait_state("web", "stopping")
            said = daemon.ctl("explain", "web").stdout
            self.assertRegex(said, r"it is sent SIGTERM in \S+ s if graceful_shutdown.command has not stopped it")
            kill(daemon.pid("web"), 15)
            daemon.wait_state("web", "stopped")

    def test_the_signal_follows_though_the_daemon_died_while_the_command_ran(self):
        with Daemon(started=False) as daemon:
            flag = daemon.dir / "tried"
            script = f"test -e {flag} && exit 3; touch {flag}; exec sleep 1000"
            daemon.write_config({"web": polite("/bin/sh", "-c", script)})
            daemon.start()
            daemon.wait_log("web", "set")
            daemon.ctl("stop", "web", "--no-wait")
            wait_until(flag.exists, "the command to run")
            kill(daemon.version()["pid"])
            daemon.wait_state("web", "stopped", timeout=30)
            self.assert_signalled_instead(daemon, "code 3")

    def test_the_command_of_one_run_does_not_reach_into_the_next(self):
        """It outlives the service that it was to stop, and a restart begins."""
        with Daemon(started=False) as daemon:
            out = daemon.dir / "out"
            script = f"kill -USR2 $MAINPID; sleep 1; echo late >> {out}"
            daemon.write_config({"web": polite("/bin/sh", "-c", script)})
            daemon.start()
            daemon.wait_log("web", "set")
            daemon.ctl("restart", "web")
            daemon.wait_log("web", "set", count=2)
            wait_until(
                lambda: not any(b"late" in read_proc(pid, "cmdline") for pid in daemon.service_processes()), "its end"
            )
            self.assertFalse(out.exists())


# Counts what it is asked, takes its time to go, and says so.
APP = """
import os, signal, sys, time
asked = 0
def term(number, frame):
    global asked
    asked += 1
signal.signal(signal.SIGTERM, term)
os.write(1, b'app up\\n')
while not asked: time.sleep(0.02)
time.sleep(0.3)
os.write(1, b'app asked %d\\n' % asked)
"""
# A wrapper as they are written: it waits for its program in the foreground, and a trap of its own runs after that.
WRAPPER = "trap 'echo wrapper asked' TERM; \"$@\"; echo wrapper done"


def wrapped(**graceful):
    app = python(APP)
    return merge(
        shell(WRAPPER, graceful_shutdown={"timeout": LONG, **graceful}),
        {"args": ["-c", WRAPPER, "sh", app["command"], *app["args"]]},
    )


class SignalTo(Scenario):
    def test_tree_reaches_the_program_behind_a_wrapper_script_once(self):
        with Daemon({"web": wrapped(signal_to="tree")}) as daemon:
            daemon.wait_log("web", "app up")
            began = time.monotonic()
            answer = daemon.ctl("stop", "web")
            self.assert_quicker(LONG - 10, began)
            self.assertEqual(answer.stdout, "web: stopped\n")
            self.assert_becomes(lambda: daemon.log("web"), b"app up\napp asked 1\nwrapper asked\nwrapper done\n")

    def test_what_outlives_its_wrapper_is_not_asked_twice(self):
        script = "trap 'echo wrapper asked; exit 0' TERM; \"$@\" & while :; do wait; done"
        service = wrapped(signal_to="tree")
        service["args"][1] = script
        with Daemon({"web": service}) as daemon:
            daemon.wait_log("web", "app up")
            daemon.ctl("stop", "web")
            self.assert_becomes(lambda: daemon.log("web"), b"app up\nwrapper asked\napp asked 1\n")

    def test_main_is_the_default_and_leaves_the_program_to_the_wrapper(self):
        for graceful in ({}, {"signal_to": "main"}):
            with self.subTest(graceful), Daemon({"web": wrapped(**graceful, timeout=1)}) as daemon:
                daemon.wait_log("web", "app up")
                answer = daemon.ctl("stop", "web")
                self.assertIn("it did not stop within 1.0 s: SIGKILL was sent", answer.stdout)
                self.assertEqual(daemon.log("web"), b"app up\n")

    def test_tree_reaches_what_left_the_session_and_what_is_frozen(self):
        source = (
            "import os, signal, time\n"
            "pid = os.fork()\n"
            "if pid == 0:\n"
            "    os.setsid()\n"
            "    def term(*_): os.write(1, b'child asked\\n'); os._exit(0)\n"
            "    signal.signal(signal.SIGTERM, term)\n"
            "    os.write(1, b'child %d\\n' % os.getpid())\n"
            "    os.kill(os.getpid(), signal.SIGSTOP)\n"
            "    while True: time.sleep(1000)\n"
            "signal.signal(signal.SIGTERM, lambda *_: None)\n"
            "os.waitpid(pid, 0)\n"
        )
        service = python(source, graceful_shutdown={"signal_to": "tree", "timeout": LONG})
        with Daemon({"web": service}) as daemon:
            child = int(daemon.wait_log("web", "\n").split()[1])
            wait_until(lambda: process_stat(child)[0] == "T", "the child to be frozen")
            daemon.ctl("stop", "web")
            self.assert_becomes(lambda: daemon.log("web").splitlines()[-1], b"child asked")

    def test_another_signal_goes_to_the_tree_too_and_after_a_stop_command_that_fails(self):
        source = (
            "import os, signal, time\n"
            "pid = os.fork()\n"
            "def asked(*_): os.write(1, b'child int\\n' if pid == 0 else b'main int\\n'); os._exit(0)\n"
            "signal.signal(signal.SIGINT, asked)\n"
            "os.write(1, b'set\\n')\n"
            "while True: time.sleep(1000)\n"
        )
        stop = {"signal": "INT", "signal_to": "tree", "command": "/bin/false", "timeout": LONG}
        with Daemon({"web": python(source, graceful_shutdown=stop)}) as daemon:
            daemon.wait_log("web", "set\n", count=2)
            daemon.ctl("stop", "web")
            wanted = [b"child int", b"main int", b"set", b"set"]
            self.assert_becomes(lambda: sorted(daemon.log("web").splitlines()), wanted)

    def test_a_reload_applies_it_without_a_restart(self):
        with Daemon({"web": wrapped()}) as daemon:
            daemon.wait_log("web", "app up")
            pid = daemon.pid("web")
            daemon.config["services"]["web"]["graceful_shutdown"]["signal_to"] = "tree"
            daemon.write_config()
            self.assertIn("graceful_shutdown.signal_to", daemon.ctl("reload").stdout)
            self.assertEqual(daemon.pid("web"), pid)
            daemon.ctl("stop", "web")
            self.assert_becomes(lambda: daemon.log("web").splitlines()[1], b"app asked 1")

    def test_a_wrong_value_is_an_error(self):
        with Daemon({"web": wrapped()}, started=False) as daemon:
            daemon.config["services"]["web"]["graceful_shutdown"]["signal_to"] = "group"
            daemon.write_config()
            result = daemon.supervisord("--check", expect=2)
            for words in ("services.web.graceful_shutdown.signal_to", '"main"', '"tree"'):
                self.assertIn(words, result.text)


class KillModeProcess(Scenario):
    """The main process alone is asked and killed; what it started is left to itself, and its writes never block."""

    # Its child goes on by itself: it writes when it is told to, and counts what it has written through the pipe.
    FAMILY = """
import os, signal, sys, time
go, done = sys.argv[1:3]
if os.fork() == 0:
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.write(1, b'child %d\\n' % os.getpid())
    while True:
        while not os.path.exists(go): time.sleep(0.02)
        for _ in range(400): os.write(1, b'x' * 9999 + b'\\n')
        os.rename(go, done)
if len(sys.argv) > 3: signal.signal(signal.SIGTERM, signal.SIG_IGN)
while True: time.sleep(1000)
"""
    BYTES = 400 * 10000

    def family(self, daemon, *more, **graceful):
        self.go = daemon.dir / "go"
        self.done = daemon.dir / "done"
        daemon.write_config(
            {"web": python(self.FAMILY, str(self.go), str(self.done), *more,
                           graceful_shutdown={"kill_mode": "process", **graceful})}
        )
        daemon.start()
        self.child = int(daemon.wait_log("web", "\n").split()[1])
        daemon.wait_state("web", "running")

    def assert_child_can_write(self):
        self.done.unlink(missing_ok=True)
        self.go.touch()
        wait_until(self.done.exists, "the child to have written four megabytes", timeout=30)

    def end_child(self, daemon):
        kill(self.child)
        wait_until(lambda: not daemon.processes(), "nothing to be left, nor what read its output")

    def test_at_the_deadline_the_children_are_left_too(self):
        with Daemon(started=False) as daemon:
            self.family(daemon, "deaf", timeout=0.4)
            answer = daemon.ctl("stop", "web")
            self.assertIn("SIGKILL was sent", answer.stdout)
            self.assertEqual(daemon.status("web")["exit_signal"], 9)
            self.assertTrue(is_alive(self.child))
            kill(self.child)

    def test_what_a_survivor_writes_goes_on_into_the_log_while_the_daemon_is_there(self):
        with Daemon(started=False) as daemon:
            self.family(daemon)
            daemon.ctl("stop", "web")
            self.assert_child_can_write()
            self.assert_becomes(lambda: daemon.log("web").count(b"x") + 400, self.BYTES)
            daemon.ctl("start", "web")  # beside it
            daemon.wait_log("web", "child", count=2)
            self.assertTrue(is_alive(self.child))
            daemon.ctl("stop", "web")  # else the policy starts it again, and with it another child
            for pid in daemon.service_processes():
                kill(pid)

    def test_a_survivor_does_not_block_after_the_daemons_end(self):
        with Daemon(started=False) as daemon:
            self.family(daemon)
            daemon.supervisord("--stop", expect=0)
            self.assertEqual(daemon.process.wait(), 0)
            daemon.process = None
            self.assertTrue(is_alive(self.child))
            for _ in range(2):
                self.assert_child_can_write()
            daemon.wait_daemon_log("thrown away")
            self.end_child(daemon)

    def test_a_survivor_of_a_service_that_a_reload_removed_does_not_block(self):
        with Daemon(started=False) as daemon:
            self.family(daemon)
            daemon.write_config({})
            daemon.ctl("reload")
            wait_until(lambda: "web" not in daemon.status(), "the service to be gone")
            self.assertTrue(is_alive(self.child))
            for _ in range(2):
                self.assert_child_can_write()
            daemon.supervisord("--stop", expect=0)
            self.assertEqual(daemon.process.wait(), 0)
            daemon.process = None
            self.assert_child_can_write()
            self.end_child(daemon)

    def test_the_next_daemon_leaves_survivors_alone(self):
        with Daemon(started=False) as daemon:
            self.family(daemon)
            daemon.ctl("stop", "web")
            kill(daemon.version()["pid"])
            wait_until(lambda: daemon.event_types("supervisor").count("supervisor_started") == 2, "the next daemon")
            self.assertEqual(daemon.status("web")["state"], "stopped")
            self.assertTrue(is_alive(self.child))
            self.assert_child_can_write()
            kill(self.child)

    def test_nothing_is_left_reading_where_nothing_survives(self):
        with Daemon({"web": shell("exec sleep 1000", graceful_shutdown={"kill_mode": "process"})}) as daemon:
            daemon.wait_state("web", "running")
            daemon.stop()


if __name__ == "__main__":
    main()
