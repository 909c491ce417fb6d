"""sd_notify(3): what a service says of itself, who may say it, and what follows."""

import os
import signal
import socket
import sys
import time

from harness import SCALE, Daemon, Scenario, cpu_seconds, environment, eventually, kill, main, needs_root, python, shell
from harness import sleeper, wait_until, without_cgroups

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


class Extensions(Scenario):
    """EXTEND_TIMEOUT_USEC is bounded, and does not hold up the end of the supervisor."""

    # Says READY=1 and asks for a century at each SIGTERM, and whenever SIGUSR1 comes.
    CLINGS = (
        "import os, signal, socket\n"
        "s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n"
        "def say(text): s.sendto(text.encode(), os.environ['NOTIFY_SOCKET'])\n"
        "def cling(*_):\n"
        "    say('EXTEND_TIMEOUT_USEC=3155760000000000')\n"
        "    print('clings', flush=True)\n"
        "signal.signal(signal.SIGTERM, cling)\n"
        "signal.signal(signal.SIGUSR1, cling)\n"
        "say('READY=1')\n"
        "print('up', flush=True)\n"
        "while True: signal.pause()\n"
    )

    def service(self, **changes):
        return python(self.CLINGS, **{"readiness": NOTIFY, **changes})

    def test_a_stop_ends_when_what_is_allowed_is_over(self):
        service = self.service(graceful_shutdown={"timeout": 0.3, "max_extension": 0.5})
        with Daemon({"web": service}) as daemon:
            daemon.wait_state("web", "running")
            daemon.ctl("stop", "web")
            self.assertIn(b"clings", daemon.log("web"))
            self.assertEqual(daemon.service_processes(), [])

    def test_a_start_too(self):
        source = self.CLINGS.replace("say('READY=1')", "cling()")
        readiness = {"type": "notify", "timeout": 0.3, "max_extension": 0.5}
        service = python(source, enabled=False, readiness=readiness, graceful_shutdown={"timeout": 0.2, "max_extension": 0.1})
        with Daemon({"web": service}) as daemon:
            result = daemon.ctl("start", "web", expect=1)
            self.assertIn("not ready", result.stdout + result.stderr)

    def test_the_end_of_the_supervisor_is_not_held_up(self):
        service = self.service(graceful_shutdown={"timeout": 0.5})
        with Daemon({"web": service}) as daemon:
            daemon.wait_state("web", "running")
            daemon.stop()

    def test_nor_by_a_stop_that_was_extended_before(self):
        service = self.service(graceful_shutdown={"timeout": 0.5})
        with Daemon({"web": service}) as daemon:
            daemon.wait_state("web", "running")
            daemon.ctl("stop", "--no-wait", "web")
            daemon.wait_log("web", "clings")
            over = time.monotonic() + 1 * SCALE
            wait_until(lambda: time.monotonic() > over, "the time that it would have had", timeout=20)
            self.assertEqual(daemon.status("web")["state"], "stopping")
            daemon.stop()


class Floods(Scenario):
    """Talking without end costs the daemon little, and nobody else anything."""

    FLOOD = (
        "import os, socket, sys\n"
        "path = os.environ['NOTIFY_SOCKET']\n"
        "def flood():\n"
        "    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n"
        "    while True:\n"
        "        s.sendto(sys.argv[1].encode(), path)\n"
        "s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n"
        "s.sendto(b'READY=1', path)\n"
        "for _ in range(int(sys.argv[2])):\n"
        "    if os.fork() == 0: flood()\n"
        "import threading\n"
        "while True:\n"
        "    s.sendto(b'WATCHDOG=1', path)\n"
        "    threading.Event().wait(0.1)\n"
    )

    def test_what_is_over_is_dropped_counted_and_shown(self):
        service = python(self.FLOOD, "STATUS=here I am", "1", readiness=NOTIFY)
        with Daemon({"web": service}) as daemon:
            daemon.wait_state("web", "running")
            wait_until(lambda: "of its notifications" in daemon.ctl("explain", "web").stdout, "the count", timeout=30)
            daemon.wait_daemon_log("drops notifications")

    def check_quiet(self, **options):
        interval = 5 * SCALE
        flood = python(self.FLOOD, "STATUS=x", "4", readiness=NOTIFY, environment={"WATCHDOG_USEC": str(int(interval * 1e6))})
        with Daemon({"web": flood, "other": sleeper()}, **options) as daemon:
            daemon.wait_state("web", "running")
            pid = daemon.version()["pid"]
            wait_until(lambda: "of its notifications" in daemon.ctl("explain", "web").stdout, "the flood", timeout=30)
            before, began = cpu_seconds([pid]), time.monotonic()
            wait_until(lambda: time.monotonic() > began + 2, "two seconds", timeout=20)
            share = (cpu_seconds([pid]) - before) / (time.monotonic() - began)
            self.assertLess(share, 0.5, "of a processor, for one service that talks")
            daemon.ctl("restart", "other")
            row = daemon.status("web")
            self.assertEqual((row["state"], row["restart_count"]), ("running", 0), "its watchdog is heard all the same")

    def test_the_daemon_stays_quiet(self):
        self.check_quiet()

    @needs_root
    def test_without_cgroups_too(self):
        self.check_quiet(prepare=without_cgroups)


class Descriptors(Scenario):
    """A descriptor whose close waits is sent along: a TCP socket with SO_LINGER, its peer's window full."""

    # At SIGUSR1 it sends one and closes its own, so that the last close is the receiver's; then it writes how that went.
    SENDS = (
        "import array, os, signal, socket, struct, sys\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])\n"
        "listener = socket.create_server(('127.0.0.1', 0))\n"
        "client = socket.create_connection(listener.getsockname())\n"
        "server, _ = listener.accept()\n"
        "client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 1000))\n"
        "client.setblocking(False)\n"
        "try:\n"
        "    while True: client.send(b'x' * 65536)\n"
        "except BlockingIOError: pass\n"
        "s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n"
        "s.connect(os.environ['NOTIFY_SOCKET'])\n"
        "s.send(b'READY=1')\n"
        "signal.sigwait([signal.SIGUSR1])\n"
        "passed = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [client.fileno()]))]\n"
        "try:\n"
        "    s.sendmsg([b'STATUS=take this'], passed)\n"
        "    os.close(client.detach())\n"
        "    said = 'sent'\n"
        "except PermissionError: said = 'refused'\n"
        "open(sys.argv[1], 'w').write(said)\n"
        "while True: signal.pause()\n"
    )

    def services(self, daemon, **changes):
        place = daemon.dir / "place"
        place.mkdir()
        place.chmod(0o777)
        self.marker = place / "marker"
        return {
            "web": python(self.SENDS, str(self.marker), readiness=NOTIFY, **changes),
            "other": talker("now READY=1"),
        }

    def check_lives(self, daemon):
        """Returns how the sending went. The daemon stands still for that moment, so that it is the last to close."""
        pid = daemon.wait_state("web", "running")["pid"]
        old = daemon.version()["pid"]
        os.kill(old, signal.SIGSTOP)
        try:
            os.kill(pid, signal.SIGUSR1)
            said = wait_until(lambda: self.marker.exists() and self.marker.read_text(), "it to be sent")
        finally:
            os.kill(old, signal.SIGCONT)
        for _ in range(3):
            daemon.ctl("restart", "other", timeout=30)
        daemon.wait_state("other", "running")
        daemon.ctl("stop", "web", timeout=30)
        self.assertEqual(daemon.version()["pid"], old)
        return said

    def test_the_daemon_is_not_held_up(self):
        with Daemon(started=False) as daemon:
            daemon.write_config(self.services(daemon))
            daemon.start()
            self.check_lives(daemon)

    @needs_root
    def test_not_by_an_ordinary_users_service(self):
        with Daemon(started=False) as daemon:
            daemon.write_config(self.services(daemon, user="nobody"))
            daemon.start()
            self.check_lives(daemon)

    def test_nor_where_the_kernel_cannot_refuse_them(self):
        """As before Linux 6.16. Only that service's own notifications wait."""
        with Daemon(started=False) as daemon:
            armory = daemon.dir / "fail"
            armory.mkdir()
            daemon.env["SUPERVISOR_FAIL_POINTS"] = str(armory)
            daemon.write_config(self.services(daemon, enabled=False))
            daemon.start()
            daemon.wait_state("other", "running")
            (armory / "notify.rights").write_text("error 92")
            daemon.ctl("start", "web")
            if (armory / "notify.rights").exists():
                self.skipTest("this build has no fail points (the asan, tsan and debug presets have)")
            self.assertEqual(self.check_lives(daemon), "sent")

    def test_the_control_socket_takes_none_where_the_kernel_can_refuse_them(self):
        passes_rights = 83  # SO_PASSRIGHTS
        ours, theirs = socket.socketpair(socket.AF_UNIX)
        with ours, theirs:
            try:
                ours.getsockopt(socket.SOL_SOCKET, passes_rights)
            except OSError:
                self.skipTest("Linux before 6.16")
        with Daemon() as daemon, socket.socket(socket.AF_UNIX) as caller:
            caller.connect(str(daemon.socket))
            with self.assertRaises(PermissionError):
                socket.send_fds(caller, [b"PRI * HTTP/2.0"], [0])


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
