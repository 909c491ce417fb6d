"""The live screen on a real terminal: it follows, obeys its keys, and gives the terminal back as it was."""

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
import time

from harness import (
    DONE,
    SCALE,
    SUPERVISORCTL,
    UNREACHABLE,
    Daemon,
    Scenario,
    kill,
    main,
    sleeper,
    wait_until,
)
from harness.processes import children_of

ENTER, LEAVE, HOME = b"\x1b[?1049h", b"\x1b[?1049l", b"\x1b[H\x1b[2J"
NO_WRAP, WRAP = b"\x1b[?7l", b"\x1b[?7h"


class Screen:
    """supervisorctl top, or `argv`, on a terminal of its own."""

    def __init__(self, daemon, rows=24, columns=100, argv=None):
        self.shown = b""
        read, write = os.pipe()
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.read(read, 1)  # until the terminal has its size
            try:
                argv = argv or [SUPERVISORCTL, "--socket", str(daemon.socket), "--no-color", "top"]
                os.execve(argv[0], argv, {**daemon.client_env, "TERM": "xterm"})
            finally:
                os._exit(127)
        fcntl.ioctl(self.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.before = termios.tcgetattr(self.terminal)
        os.write(write, b"x")
        os.close(read)
        os.close(write)

    def press(self, key):
        os.write(self.terminal, key.encode())

    def look(self):
        """What has been shown so far, and is yet to be read within a moment."""
        with contextlib.suppress(OSError):
            while select.select([self.terminal], [], [], 0.01)[0]:
                data = os.read(self.terminal, 1 << 16)
                if not data:
                    break
                self.shown += data
        return self.shown

    def picture(self):
        """The newest that is complete: another has begun, or nothing has come for a moment."""
        return self.look().rpartition(HOME)[2].decode(errors="replace")

    def wait(self, pattern, what, timeout=10.0):
        return wait_until(lambda: re.search(pattern, self.picture(), re.MULTILINE), what, timeout)

    def end(self):
        """Its exit code, once it has ended by itself."""
        deadline = time.monotonic() + 10 * SCALE
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.pid = 0
                return os.waitstatus_to_exitcode(status)
            if time.monotonic() > deadline:
                raise AssertionError("top does not end: " + self.picture())
            self.look()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        if self.pid:
            kill(self.pid)
            os.waitpid(self.pid, 0)
        os.close(self.terminal)


class Top(Scenario):
    def check_given_back(self, screen):
        self.assertTrue(screen.look().startswith(ENTER))
        last = screen.shown[screen.shown.rindex(HOME) :]
        self.assertIn(LEAVE, last)
        self.assertIn(NO_WRAP, screen.shown)
        self.assertIn(WRAP, last)
        self.assertEqual(termios.tcgetattr(screen.terminal), screen.before)

    def order(self, screen):
        return re.findall(r"^(a|b|c) ", screen.picture(), re.MULTILINE)

    def test_it_follows_and_obeys_its_keys(self):
        with Daemon({name: sleeper() for name in "abc"}, extra={"monitoring": {"metrics_interval": 0.1}}) as daemon:
            for name in "abc":
                daemon.wait_state(name, "running")
            daemon.ctl("signal", "KILL", "c")
            daemon.wait_for("c", lambda row: row["state"] == "running" and row["restart_count"] > 0, "c's restart")
            with Screen(daemon) as screen:
                screen.wait("3 running", "the first picture")
                screen.press("n")
                wait_until(lambda: self.order(screen) == ["a", "b", "c"], "the order of names")
                screen.press("r")
                wait_until(lambda: self.order(screen)[:1] == ["c"], "the one that was restarted first")
                daemon.ctl("stop", "b")
                screen.wait("2 running, 1 stopped", "what has happened meanwhile")
                screen.press("q")
                self.assertEqual(screen.end(), DONE)
                self.check_given_back(screen)

    def test_a_key_that_means_nothing_changes_nothing(self):
        with Daemon({"a": sleeper()}) as daemon, Screen(daemon) as screen:
            screen.wait("1 running", "the first picture")
            screen.press("x" * 500)
            screen.press("n")
            screen.wait("by name", "the order by name")
            self.assertLess(screen.shown.count(HOME), 10)

    def test_each_line_ends_where_the_terminal_does(self):
        with Daemon({"a": sleeper(port=8080, enabled=False)}) as daemon, Screen(daemon, columns=60) as screen:
            screen.wait("1 stopped", "the first picture")
            lines = screen.picture().replace("\r", "").split("\n")
            self.assertLessEqual(max(map(len, lines)), 60, lines)
            self.assertTrue(any(line.endswith("…") for line in lines), lines)
            self.assertTrue(any("too narrow for" in line for line in lines), lines)
            fcntl.ioctl(screen.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 200, 0, 0))
            screen.wait("8080", "all of it on a larger screen")

    def test_a_shell_can_suspend_it_and_go_on_with_it(self):
        with Daemon({"a": sleeper()}) as daemon:
            command = f"{SUPERVISORCTL} --socket {daemon.socket} --no-color top"
            for suspend in ("\x1a", None):
                with Screen(daemon, argv=["/bin/bash", "--norc", "--noprofile", "-i"]) as shell:
                    shell.press(f"PS1='ready> '; {command}\n")
                    shell.wait("1 running", "the first picture")
                    if suspend:
                        shell.press(suspend)
                    else:
                        (top,) = children_of([shell.pid])
                        os.kill(top, signal.SIGTSTP)
                    wait_until(lambda: b"Stopped" in shell.look(), "the shell's word that it is stopped")  # noqa: B023
                    self.assertIn(LEAVE, shell.shown[shell.shown.rindex(HOME) :])
                    pictures = shell.shown.count(HOME)
                    shell.press("echo $((6 * 7))\n")  # the terminal is the shell's
                    wait_until(lambda: b"42" in shell.look(), "what is typed meanwhile")  # noqa: B023
                    shell.press("fg\n")
                    wait_until(lambda: shell.look().count(HOME) > pictures, "a picture after it went on")  # noqa: B023
                    self.assertIn(ENTER, shell.shown[shell.shown.rindex(LEAVE) :])
                    shell.press("q")
                    wait_until(lambda: b"ready> " in shell.look()[shell.shown.rindex(LEAVE) :], "the prompt")  # noqa: B023
                    shell.press("exit $?\n")
                    self.assertEqual(shell.end(), DONE)

    def test_no_longer_than_the_terminal_is_high(self):
        services = {f"service-{i}": sleeper(enabled=False) for i in range(40)}
        with Daemon(services) as daemon, Screen(daemon, rows=12) as screen:
            screen.wait("40 stopped", "the first picture")
            self.assertLessEqual(screen.picture().count("\n"), 12)

    def test_the_terminal_is_given_back_however_it_ends(self):
        with Daemon({"a": sleeper()}) as daemon:
            for end in (
                lambda screen: screen.press("\x03"),
                lambda screen: os.kill(screen.pid, signal.SIGTERM),
                lambda screen: os.kill(screen.pid, signal.SIGHUP),
            ):
                with Screen(daemon) as screen:
                    screen.wait("1 running", "the first picture")
                    end(screen)
                    self.assertEqual(screen.end(), DONE)
                    self.check_given_back(screen)
            with Screen(daemon) as screen:
                screen.wait("1 running", "the first picture")
                daemon.stop()
                self.assertEqual(screen.end(), UNREACHABLE)
                self.check_given_back(screen)
                self.assertIn(b"daemon", screen.shown[screen.shown.rindex(LEAVE) :])


if __name__ == "__main__":
    main()
