"""sd_notify(3): what a service says of itself, who may say it, and what follows."""

import os
import signal
import socket
import sys
import time

from harness import SCALE, Daemon, Scenario, environment, eventually, kill, main, needs_root, python, shell, sleeper
from harness import wait_until

# Sends each of its arguments when SIGUSR1 comes, and says so; {pid} is its own. An argument "exit N" ends it.
TALKER = (
    "import os, signal, socket, sys\n"
    "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])\n"
    "s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n"
    "print('talks', flush=True)\n"
    "for text in sys.argv[1:]:\n"
    "    if not text.startswith('now '):\n"
    "        signal.sigwait([signal.SIGUSR1])\n"
    "    text = text.removeprefix('now ')\n"
    "    if text.startswith('exit '):\n"
    "        sys.exit(int(text[5:]))\n"
    "    s.sendto(text.replace('{pid}', str(os.getpid())).encode(), os.environ['NOTIFY_SOCKET'])\n"
    "    print('said', text.split('=')[0], flush=True)\n"
    "while True:\n"
    "    signal.pause()\n"
)
NOTIFY = {"type": "notify", "timeout": 60}


def talker(*says, **changes):
    return python(TALKER, *says, **{"readiness": NOTIFY, **changes})


class Says(Scenario):
    def explained(self, daemon, service="web"):
        return daemon.ctl_json("explain", service)["service"]

    def test_ready_ends_the_start(self):
        with Daemon({"web": talker("READY=1\nSTATUS=at your service")}) as daemon:
            daemon.wait_log("web", "talks")
            self.assertEqual(daemon.status("web")["state"], "starting")
            daemon.ctl("signal", "USR1", "web")
            daemon.wait_state("web", "running")
            self.assertEqual(self.explained(daemon)["status_text"], "at your service")
            eventually(lambda: self.assert_in_order(["started", "ready"], daemon.event_types("web")))

    @needs_root
    def test_a_service_of_another_user_can_say_it_too(self):
        with Daemon({"web": talker("now READY=1", user="nobody")}) as daemon:
            daemon.wait_state("web", "running")

    def test_a_service_that_never_says_it_has_failed_to_start(self):
        service = sleeper(
            enabled=False, readiness={"type": "notify", "timeout": 0.3}, restart_policy={"mode": "never"}
        )
        with Daemon({"web": service}) as daemon:
            result = daemon.ctl("start", "web", expect=1)
            self.assertIn("not ready after", result.stdout + result.stderr)
            self.assertEqual(daemon.service_processes(), [])
            self.assertEqual(daemon.status("web")["state"], "failed")

    def test_a_helper_that_lives_no_longer_than_its_message_may_say_it(self):
        helper = "import os, socket; socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b'READY=1', os.environ['NOTIFY_SOCKET'])"
        service = shell(f'{sys.executable} -S -c "{helper}"; exec sleep 1000', readiness=NOTIFY)
        with Daemon({"web": service}) as daemon:
            daemon.wait_state("web", "running")

    def test_nobody_else_may_say_it(self):
        with Daemon({"web": talker("READY=1")}) as daemon:
            daemon.wait_log("web", "talks")
            path = environment(daemon.pid("web"))["NOTIFY_SOCKET"]
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stranger:
                stranger.sendto(b"READY=1\nSTATUS=hijacked", path)
            wait_until(
                lambda: f"pid={os.getpid()}" in daemon.daemon_log.read_text() and "not of the service" in daemon.daemon_log.read_text(),
                "the stranger to be told of in the daemon's log",
            )
            self.assertEqual(daemon.status("web")["state"], "starting")
            daemon.ctl("signal", "USR1", "web")
            daemon.wait_state("web", "running")
            self.assertEqual(self.explained(daemon)["status_text"], "")

    def test_a_start_is_given_the_time_it_asks_for(self):
        timeout = 5 * SCALE
        service = talker(
            "now EXTEND_TIMEOUT_USEC=600000000", "READY=1", readiness={"type": "notify", "timeout": timeout}
        )
        with Daemon({"web": service}) as daemon:
            daemon.wait_log("web", "said EXTEND")
            over = time.monotonic() + timeout
            wait_until(lambda: time.monotonic() > over, "the time that it would have had", timeout=20)
            self.assertEqual(daemon.status("web")["state"], "starting")
            daemon.ctl("signal", "USR1", "web")
            daemon.wait_state("web", "running")
            self.assertEqual(daemon.status("web")["restart_count"], 0)

    def test_a_service_that_says_it_is_stopping_is_shown_so_and_may_end_as_it_should(self):
        service = talker("now READY=1", "STOPPING=1", "exit 0", restart_policy={"mode": "on-failure"})
        with Daemon({"web": service}) as daemon:
            daemon.wait_state("web", "running")
            daemon.ctl("signal", "USR1", "web")
            row = daemon.wait_state("web", "stopping")
            self.assertIn("STOPPING=1", row["reason"])
            daemon.ctl("signal", "USR1", "web")
            daemon.wait_state("web", "exited")

    def test_a_service_that_only_says_it_is_stopping_is_killed_at_the_deadline(self):
        service = talker("now READY=1", "STOPPING=1", graceful_shutdown={"timeout": 0.2})
        with Daemon({"web": service}) as daemon:
            daemon.wait_state("web", "running")
            daemon.ctl("signal", "USR1", "web")
            event = daemon.wait_event("web", "exited")
            self.assertIn("SIGKILL", event["message"])
            daemon.wait_for("web", lambda row: row["restart_count"] == 1 and row["state"] == "running", "its return")

    def test_reloading_is_shown_until_it_is_ready_again(self):
        with Daemon({"web": talker("now READY=1", "RELOADING=1", "READY=1")}) as daemon:
            daemon.wait_state("web", "running")
            daemon.ctl("signal", "USR1", "web")
            daemon.wait_for("web", lambda row: "RELOADING=1" in row["reason"], "the reload to be shown")
            daemon.ctl("signal", "USR1", "web")
            row = daemon.wait_for("web", lambda row: not row["reason"], "the end of the reload")
            self.assertEqual((row["state"], row["restart_count"]), ("running", 0))


class Watchdog(Scenario):
    PINGER = (
        "import os, socket, threading\n"
        "s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n"
        "s.sendto(b'READY=1', os.environ['NOTIFY_SOCKET'])\n"
        "while True:\n"
        "    s.sendto(b'WATCHDOG=1', os.environ['NOTIFY_SOCKET'])\n"
        "    print('alive', flush=True)\n"
        "    threading.Event().wait(0.1)\n"
    )

    def test_a_service_that_stops_answering_is_aborted_and_restarted(self):
        service = talker("now READY=1", environment={"WATCHDOG_USEC": "300000"})
        with Daemon({"web": service}) as daemon:
            event = daemon.wait_event("web", "unhealthy")
            self.assertIn("no WATCHDOG=1 for", event["message"])
            self.assertEqual(event["actor"], "watchdog")
            self.assertIn("SIGABRT", daemon.wait_event("web", "exited")["message"])
            started = daemon.wait_event("web", "started", lambda event: "restart 1" in event["message"])
            self.assertIn("watchdog", started["message"])

    def test_a_service_that_answers_is_left_alone(self):
        interval = 2 * SCALE
        service = python(self.PINGER, environment={"WATCHDOG_USEC": str(int(interval * 1e6))}, readiness=NOTIFY)
        with Daemon({"web": service}) as daemon:
            daemon.wait_state("web", "running")
            over = time.monotonic() + 1.2 * interval
            wait_until(lambda: time.monotonic() > over, "more than one interval", timeout=20)
            row = daemon.status("web")
            self.assertEqual((row["state"], row["restart_count"]), ("running", 0))

    def test_a_daemon_that_was_held_up_itself_does_not_blame_the_service(self):
        interval = 2 * SCALE
        service = python(self.PINGER, environment={"WATCHDOG_USEC": str(int(interval * 1e6))}, readiness=NOTIFY)
        with Daemon({"web": service}) as daemon:
            daemon.wait_log("web", "alive")
            daemon.wait_state("web", "running")
            pid = daemon.version()["pid"]
            os.kill(pid, signal.SIGSTOP)
            over = time.monotonic() + 1.5 * interval
            wait_until(lambda: time.monotonic() > over, "more than one interval", timeout=20)
            os.kill(pid, signal.SIGCONT)
            over = time.monotonic() + 0.5 * interval
            wait_until(lambda: time.monotonic() > over, "what it makes of that", timeout=20)
            row = daemon.status("web")
            self.assertEqual((row["state"], row["restart_count"]), ("running", 0))
            self.assertNotIn("unhealthy", daemon.event_types("web"))

    def test_the_service_can_set_it_and_ask_to_be_restarted(self):
        service = talker("now READY=1\nWATCHDOG_USEC=60000000", "WATCHDOG=trigger")
        with Daemon({"web": service}) as daemon:
            daemon.wait_log("web", "said READY")
            daemon.wait_state("web", "running")
            daemon.ctl("signal", "USR1", "web")
            self.assertIn("trigger", daemon.wait_event("web", "unhealthy")["message"])
            daemon.wait_for("web", lambda row: row["restart_count"] == 1 and row["state"] == "running", "its return")

    def test_an_interval_that_is_no_number_is_a_failed_start(self):
        service = sleeper(enabled=False, environment={"WATCHDOG_USEC": "5s"}, restart_policy={"mode": "never"})
        with Daemon({"web": service}) as daemon:
            result = daemon.ctl("start", "web", expect=1)
            self.assertIn('WATCHDOG_USEC is "5s" (expected a number of microseconds)', result.stdout + result.stderr)


class MainProcess(Scenario):
    # Starts the real service in a session of its own, names it and ends, as daemons of old do.
    FORKER = (
        "import os, socket, sys\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    os.setsid()\n"
        "    print('child', os.getpid(), flush=True)\n"
        "    os.execv('/bin/sleep', ['sleep', '1000'])\n"
        "s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n"
        "s.sendto(f'MAINPID={child}\\nREADY=1'.encode(), os.environ['NOTIFY_SOCKET'])\n"
    )

    def wait_child(self, daemon):
        child = int(daemon.wait_log("web", "child").split()[-1])
        daemon.wait_for("web", lambda row: row["state"] == "running" and row["pid"] == child, "the named main process")
        return child

    def test_the_service_lives_as_long_as_the_process_it_has_named(self):
        with Daemon({"web": python(self.FORKER, readiness=NOTIFY)}) as daemon:
            child = self.wait_child(daemon)
            wait_until(lambda: daemon.pid_file("web").read_text() == f"{child}\n", "the pid file to name it")
            self.assertEqual(daemon.status("web")["restart_count"], 0)
            self.assertNotIn("exited", daemon.event_types("web"))
            os.kill(child, signal.SIGKILL)
            self.assertIn("SIGKILL", daemon.wait_event("web", "exited")["message"])
            daemon.wait_for("web", lambda row: row["restart_count"] == 1 and row["pid"] not in (None, child), "its return")
            daemon.ctl("stop", "web")
            self.assertEqual(daemon.service_processes(), [])

    def test_the_next_daemon_knows_it_too(self):
        with Daemon({"web": python(self.FORKER, readiness=NOTIFY)}) as daemon:
            child = self.wait_child(daemon)
            old = daemon.version()["pid"]
            kill(old)
            wait_until(lambda: daemon.version()["pid"] != old, "the next daemon")
            row = daemon.wait_state("web", "running")
            self.assertEqual((row["pid"], row["restart_count"]), (child, 0))
            os.kill(child, signal.SIGKILL)
            self.assertIn("SIGKILL", daemon.wait_event("web", "exited")["message"])

    def test_a_process_that_is_not_of_the_service_is_refused(self):
        with Daemon({"web": talker(f"now MAINPID={os.getpid()}\nREADY=1")}) as daemon:
            daemon.wait_state("web", "running")
            self.assertNotEqual(daemon.pid("web"), os.getpid())
            wait_until(lambda: "ignores MAINPID" in daemon.daemon_log.read_text(), "it to be said")


class OverADaemonsDeath(Scenario):
    def test_what_it_says_to_the_next_daemon_is_heard(self):
        with Daemon({"web": talker("READY=1", "STATUS=after all")}) as daemon:
            daemon.wait_log("web", "talks")
            old = daemon.version()["pid"]
            kill(old)
            wait_until(lambda: daemon.version()["pid"] != old, "the next daemon")
            daemon.wait_for("web", lambda row: row["state"] == "starting" and row["pid"], "its adoption")
            daemon.ctl("signal", "USR1", "web")
            daemon.wait_state("web", "running")
            daemon.ctl("signal", "USR1", "web")
            wait_until(
                lambda: daemon.ctl_json("explain", "web")["service"]["status_text"] == "after all", "the new status"
            )


if __name__ == "__main__":
    main()
