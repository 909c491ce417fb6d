"""Checks of type process: what a service uses is its whole tree's, and is what `status` tells."""

import contextlib
import os
import signal

from harness import Daemon, Scenario, main, python, wait_until

# 60 MB that ten children share, as those of a server that forks its workers do.
PREFORK = """
import os, signal
block = bytearray(os.urandom(1 << 20) * 60)
for _ in range(10):
    if os.fork() == 0:
        signal.pause()
print("all are there", flush=True)
signal.pause()
"""
# Its second process has left session and parent; on SIGUSR1 that one takes 60 MB, on SIGUSR2 it spins.
DAEMONIZED = """
import os, signal, time
held = []
def take(*_): held.append(os.urandom(1 << 20) * 60)
def spin(*_):
    while True: pass
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        signal.signal(signal.SIGUSR1, take)
        signal.signal(signal.SIGUSR2, spin)
        print(os.getpid(), flush=True)
        while True: signal.pause()
    os._exit(0)
os.wait()
while True: time.sleep(1000)
"""
MEGABYTE = 1 << 20


def resident_mb(pids):
    pages = 0
    for pid in pids:
        with open(f"/proc/{pid}/statm", encoding="utf-8") as file:
            pages += int(file.read().split()[1])
    return pages * os.sysconf("SC_PAGESIZE") / MEGABYTE


def children_of(pid):
    with open(f"/proc/{pid}/task/{pid}/children", encoding="utf-8") as file:
        return [int(child) for child in file.read().split()]


class ProcessTree(Scenario):
    CHECK = {"type": "process", "interval": 0.05, "timeout": 20, "retries": 1, "on_failure": "alert"}

    def row(self, daemon):
        return daemon.ctl_json("health", "web", expect=None)["services"][0]

    def wait_health(self, daemon, health):
        return daemon.wait_for("web", lambda row: row["health"] == health, health)

    def next_checks(self, daemon):
        """Waits until some checks that began after this have ended."""
        for _ in range(3):
            before = self.row(daemon)["last_check"]
            wait_until(lambda before=before: self.row(daemon)["last_check"] != before, "a check")

    def daemonized(self, daemon):
        """The pid of the process that has left its session, which is killed at the end."""
        daemon.wait_log("web", b"\n")
        pid = int(daemon.log("web"))
        self.addCleanup(self.end, pid)
        return pid

    @staticmethod
    def end(pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    def test_what_processes_share_counts_once(self):
        service = python(PREFORK, health_check={**self.CHECK, "max_memory_mb": 300})
        with Daemon({"web": service}) as daemon:
            daemon.wait_log("web", b"all are there")
            main_process = daemon.pid("web")
            self.assertGreater(resident_mb([main_process, *children_of(main_process)]), 600)
            self.wait_health(daemon, "healthy")
            self.next_checks(daemon)
            row = self.row(daemon)
            self.assertEqual(row["health"], "healthy")
            self.assertRegex(row["message"], r"alive \(\d+\.\d MB, 11 processes\)")
            self.assertNotIn("unhealthy", daemon.event_types("web"))

    def test_so_it_does_for_a_check_by_hand(self):
        with Daemon({"web": python(PREFORK)}) as daemon:
            daemon.wait_log("web", b"all are there")
            check = daemon.ctl("check", "process", str(daemon.pid("web")), "--max-memory-mb", "300")
            self.assertIn("11 processes", check.stdout)

    def test_the_memory_of_a_process_that_has_left_the_session_counts(self):
        service = python(DAEMONIZED, health_check={**self.CHECK, "max_memory_mb": 50})
        with Daemon({"web": service}) as daemon:
            pid = self.daemonized(daemon)
            self.wait_health(daemon, "healthy")
            os.kill(pid, signal.SIGUSR1)
            self.wait_health(daemon, "unhealthy")
            self.assertRegex(self.row(daemon)["message"], r"memory \d+\.\d MB \(at most 50 MB; 2 processes\)")

    def test_so_does_its_processor_time(self):
        service = python(DAEMONIZED, health_check={**self.CHECK, "max_cpu_percent": 5, "timeout": 2})
        with Daemon({"web": service}) as daemon:
            pid = self.daemonized(daemon)
            os.kill(pid, signal.SIGUSR2)
            self.wait_health(daemon, "unhealthy")
            self.assertRegex(self.row(daemon)["message"], r"CPU \d+\.\d % \(at most 5 %; 2 processes\)")

    def test_a_daemon_that_takes_the_service_over_counts_it_too(self):
        service = python(DAEMONIZED, health_check={**self.CHECK, "max_memory_mb": 50})
        with Daemon({"web": service}) as daemon:
            pid = self.daemonized(daemon)
            self.wait_health(daemon, "healthy")
            daemon.kill_daemon()
            daemon.start()
            os.kill(pid, signal.SIGUSR1)
            self.wait_health(daemon, "unhealthy")
            self.assertRegex(self.row(daemon)["message"], r"at most 50 MB; 2 processes")


if __name__ == "__main__":
    main()
