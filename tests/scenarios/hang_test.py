"""A daemon whose event loop hangs ends itself, and the next one takes over; without a guardian it is told."""

import os
import signal
import time
import unittest

from harness import SCALE, Daemon, Scenario, eventually, is_alive, main, shell, sleeper, wait_until


class Hang(Scenario):
    def armed(self, daemon, what):
        armory = daemon.dir / "fail"
        armory.mkdir(exist_ok=True)
        daemon.env["SUPERVISOR_FAIL_POINTS"] = str(armory)
        if not daemon.supervisord("--internal-fail-points").stdout:
            raise unittest.SkipTest("this build has no fail points (the asan, tsan and debug presets have)")
        return armory / what

    def test_it_ends_and_its_services_go_on(self):
        # The log pump's thread runs a loop too, and that goes on: it says nothing of the one that hangs.
        talks = shell("while :; do echo I am talking; sleep 0.01; done")
        with Daemon({"web": sleeper(), "other": sleeper(), "talks": talks}, started=False) as daemon:
            point = self.armed(daemon, "stop.decided")
            daemon.start()
            daemon.wait_log("talks", "talking")
            pids = {name: daemon.wait_state(name, "running")["pid"] for name in ("web", "other")}
            old = daemon.version()["pid"]
            point.write_text("delay 3600000")
            daemon.ctl("stop", "other", expect=None, timeout=120)  # its connection goes with the daemon
            wait_until(lambda: daemon.version()["pid"] != old, "the next daemon", timeout=60)
            self.assertFalse(is_alive(old))
            self.assertEqual(daemon.wait_state("web", "running")["pid"], pids["web"])
            daemon.wait_daemon_log("the daemon hangs: it ends itself")
            daemon.wait_daemon_log("is held up")

    def test_without_a_guardian_it_is_told_and_goes_on_when_it_can(self):
        with Daemon({"web": sleeper()}, started=False) as daemon:
            point = self.armed(daemon, "stop.decided")
            daemon.arguments = ["--no-guardian"]
            daemon.start()
            daemon.wait_state("web", "running")
            point.write_text("delay 16000")
            daemon.ctl("restart", "web", timeout=120)
            daemon.wait_daemon_log("hangs, and has no guardian")

    def test_a_daemon_that_works_or_is_stopped_is_left_alone(self):
        """SIGSTOP of the daemon is a debugger's doing, or a machine that sleeps."""
        with Daemon({"web": sleeper()}) as daemon:
            daemon.wait_state("web", "running")
            old = daemon.version()["pid"]
            os.kill(old, signal.SIGSTOP)
            over = time.monotonic() + 14 * SCALE
            wait_until(lambda: time.monotonic() > over, "longer than a hang may last", timeout=30)
            os.kill(old, signal.SIGCONT)
            eventually(lambda: self.assertEqual(daemon.version()["pid"], old))
            daemon.ctl("restart", "web")
            self.assertEqual(daemon.version()["pid"], old)
            self.assertNotIn("hangs", daemon.daemon_log.read_text())


if __name__ == "__main__":
    main()
