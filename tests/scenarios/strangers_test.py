"""What a stranger's processes carry is nothing to a service: not its mark, guessed or copied. No cgroups here."""

import os
import subprocess
import sys

from harness import (
    Daemon,
    Scenario,
    environment,
    is_alive,
    kill,
    main_in_pid_namespace,
    needs_root,
    process_stat,
    python,
    sleeper,
    wait_until,
    without_cgroups,
)

NOBODY = 65534
# An orphan in a session of its own with 60 MB, whose mark is the first argument; it writes its pid, deaf to SIGTERM.
ORPHAN = """
import os, signal, sys, time
first = os.fork()
if first:
    os.waitpid(first, 0)
    if sys.argv[2] == 'end': os._exit(0)
    while True: time.sleep(1000)
os.setsid()
if os.fork(): os._exit(0)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
program = "import os; x = bytearray(60 << 20); print('orphan', os.getpid(), flush=True); import time; time.sleep(100000)"
os.execve(sys.executable, [sys.executable, '-S', '-c', program], {'SUPERVISOR_INSTANCE': sys.argv[1]})
"""
BRIEF = {"graceful_shutdown": {"timeout": 5}}
OFTEN = {"monitoring": {"metrics_interval": 0.05}}


@needs_root
class Strangers(Scenario):
    def daemon(self, **services):
        return Daemon({"web": sleeper(**BRIEF), **services}, extra=OFTEN, prepare=without_cgroups)

    def marks(self, daemon):
        """The mark of the service as somebody may have seen it, and as somebody may guess it."""
        state = next(path for path in daemon.dir.rglob("web.record")).parent
        return [environment(daemon.pid("web"))["SUPERVISOR_INSTANCE"], f"{state}/web"]

    def stranger(self, mark, user=NOBODY):
        """The pid of such an orphan, a child of this namespace's pid 1."""
        command = [sys.executable, "-S", "-c", ORPHAN, mark, "end"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, user=user, extra_groups=[], env={})
        pid = int(process.stdout.readline().split()[1])
        process.wait()
        process.stdout.close()
        self.addCleanup(kill, pid)
        self.assertEqual(process_stat(pid)[1], "1", "its parent")
        return pid

    def assert_is_nothing_to_web(self, daemon, pids):
        rows = len(daemon.sql("SELECT 1 FROM supervisor_metrics WHERE service_id = 'web'"))
        wait_until(
            lambda: len(daemon.sql("SELECT 1 FROM supervisor_metrics WHERE service_id = 'web'")) > rows + 3,
            "samples",
            timeout=30,
        )
        self.assertLess(daemon.status("web")["memory_mb"], 50)
        daemon.ctl("restart", "web")
        daemon.ctl("stop", "web")
        self.assertEqual([pid for pid in pids if not is_alive(pid)], [])

    def test_an_orphan_of_pid_1_is_not_counted_not_killed_and_holds_up_nothing(self):
        with self.daemon() as daemon:
            daemon.wait_state("web", "running")
            pids = [self.stranger(mark) for mark in self.marks(daemon)]
            self.assert_is_nothing_to_web(daemon, pids)

    def test_not_even_one_of_the_same_user(self):
        with self.daemon() as daemon:
            daemon.wait_state("web", "running")
            pids = [self.stranger(mark, user=0) for mark in self.marks(daemon)]
            self.assert_is_nothing_to_web(daemon, pids)

    def test_nor_is_an_orphan_of_another_service_and_its_own_stop_finds_it(self):
        """Such an orphan has come to the daemon's own subreaper, as the service's own would have."""
        with self.daemon() as daemon:
            daemon.wait_state("web", "running")
            for number, mark in enumerate(self.marks(daemon)):
                name = f"other{number}"
                daemon.config["services"][name] = python(ORPHAN, mark, "stay", user="nobody", **BRIEF)
            daemon.write_config()
            daemon.ctl("reload")
            others = [name for name in daemon.config["services"] if name != "web"]
            pids = [int(daemon.wait_log(name, "orphan").split()[-1]) for name in others]
            self.assertEqual([os.stat(f"/proc/{pid}").st_uid for pid in pids], [NOBODY] * len(pids))
            self.assert_is_nothing_to_web(daemon, pids)
            daemon.ctl("stop", *others)
            self.assertEqual([pid for pid in pids if is_alive(pid)], [])

    def test_two_runs_of_a_service_have_different_marks(self):
        with self.daemon() as daemon:
            daemon.wait_state("web", "running")
            first = self.marks(daemon)[0]
            daemon.ctl("restart", "web")
            second = self.marks(daemon)[0]
            self.assertNotEqual(first, second)
            self.assertRegex(second, r"^[0-9a-f]{32}$")


if __name__ == "__main__":
    main_in_pid_namespace()
