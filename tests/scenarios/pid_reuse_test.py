"""A pid that was reused is never signalled: in a pid namespace a decoy is put onto the pid that a service had."""

import contextlib
import pathlib
import subprocess

from harness import (
    SCALE,
    Daemon,
    Scenario,
    is_alive,
    kill,
    main_in_pid_namespace,
    needs_root,
    process_stat,
    python,
    shell,
    sleeper,
    wait_until,
    without_cgroups,
)

LAST_PID = pathlib.Path("/proc/sys/kernel/ns_last_pid")


@needs_root
class PidReuse(Scenario):
    def decoy(self, pid):
        """A process of nobody's, with that pid, leader of its own session."""
        self.assertFalse(pathlib.Path(f"/proc/{pid}").exists(), f"pid {pid} is still taken")
        for _ in range(200):
            LAST_PID.write_text(str(pid - 1))
            child = subprocess.Popen(["/bin/sleep", "1000000"], start_new_session=True, env={})
            if child.pid == pid:
                self.addCleanup(self.end, child)
                return child
            self.end(child)  # somebody was quicker: the pid after it was taken
        raise self.failureException(f"no decoy could be put onto pid {pid}")

    @staticmethod
    def end(child):
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        child.wait()

    def assert_untouched(self, decoy):
        self.assertIsNone(decoy.poll(), f"the decoy was signalled: {decoy.returncode}")
        self.assertIn(process_stat(decoy.pid)[0], "SR")

    def gone(self, daemon, pid, state):
        """Kills the service's process, and waits until daemon and kernel have let go of the pid."""
        kill(pid)
        daemon.wait_state("web", state)
        wait_until(lambda: not process_stat(pid), "the pid to be free")

    def test_a_stop_in_back_off_leaves_a_stranger_with_the_old_pid_alone(self):
        with Daemon({"web": sleeper(restart_policy={"delay": 300})}) as daemon:
            pid = daemon.wait_state("web", "running")["pid"]
            self.gone(daemon, pid, "backoff")
            decoy = self.decoy(pid)
            daemon.ctl("signal", "KILL", "web", expect=1)
            daemon.ctl("stop", "web")
            self.assert_untouched(decoy)
            daemon.ctl("start", "web")
            self.assertNotEqual(daemon.pid("web"), pid)
            daemon.ctl("restart", "web")
            daemon.ctl("stop", "web")
            self.assert_untouched(decoy)

    # Leaves a child that has left its session and ignores SIGTERM, so that the stop goes on after its own death.
    ORPHAN = """
import os, signal, time
if os.fork() == 0:
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if os.fork(): os._exit(0)
    os.write(1, b'orphan %d\\n' % os.getpid())
    while True: time.sleep(1000)
os.wait()
while True: time.sleep(1000)
"""

    def test_while_what_a_dead_service_left_behind_is_being_killed_a_stranger_with_its_pid_is_not(self):
        for prepare in (None, without_cgroups):
            with self.subTest(cgroups=prepare is None), Daemon(
                {"web": python(self.ORPHAN, graceful_shutdown={"timeout": 3 * SCALE}, restart_policy={"delay": 300})},
                prepare=prepare,
            ) as daemon:
                orphan = int(daemon.wait_log("web", b"\n").split()[1])
                pid = daemon.pid("web")
                kill(pid)
                wait_until(lambda: not process_stat(pid), "the pid to be free")
                decoy = self.decoy(pid)
                self.assertTrue(is_alive(orphan), "the scenario needs the orphan to outlive its parent for a while")
                daemon.wait_state("web", "backoff")
                self.assertFalse(is_alive(orphan))
                self.assert_untouched(decoy)
                daemon.ctl("stop", "web")
                self.assert_untouched(decoy)

    def test_what_a_service_left_behind_while_no_daemon_ran_is_gone_before_it_begins_again(self):
        for prepare in (None, without_cgroups):
            with self.subTest(cgroups=prepare is None), Daemon(
                {"web": python(self.ORPHAN, graceful_shutdown={"timeout": 0.5})}, prepare=prepare
            ) as daemon:
                orphan = int(daemon.wait_log("web", b"\n").split()[1])
                pid = daemon.pid("web")
                daemon.kill_daemon()
                kill(pid)
                wait_until(lambda: not process_stat(pid), "the pid to be free")
                decoy = self.decoy(pid)
                self.assertTrue(is_alive(orphan))
                daemon.start()
                daemon.wait_log("web", b"\n", count=2)
                self.assertFalse(is_alive(orphan))
                self.assert_untouched(decoy)

    def test_a_new_daemon_does_not_adopt_a_stranger_with_the_recorded_pid(self):
        with Daemon({"web": sleeper(environment={"PART": "web"})}) as daemon:
            pid = daemon.wait_state("web", "running")["pid"]
            daemon.kill_daemon()
            kill(pid)
            wait_until(lambda: not process_stat(pid), "the pid to be free")
            decoy = self.decoy(pid)
            daemon.start()
            row = daemon.wait_state("web", "running")
            self.assertNotEqual(row["pid"], pid)
            self.assertNotIn("adopted, pid", daemon.status("web")["reason"])
            self.assert_untouched(decoy)
            daemon.ctl("restart", "web")
            daemon.ctl("stop", "web")
            self.assert_untouched(decoy)

    def test_after_an_adopted_service_ended_a_stranger_with_its_pid_lives_through_the_stop(self):
        with Daemon({"web": sleeper(restart_policy={"delay": 300})}) as daemon:
            pid = daemon.wait_state("web", "running")["pid"]
            daemon.kill_daemon()
            daemon.start()
            self.assertEqual(daemon.wait_state("web", "running")["pid"], pid)
            self.gone(daemon, pid, "backoff")
            decoy = self.decoy(pid)
            daemon.ctl("stop", "web")
            self.assert_untouched(decoy)

    def test_a_hook_that_runs_at_the_stop_gets_no_strangers_killed(self):
        hook = {"command": "/bin/sh", "args": ["-c", "echo $$ > $OUT"]}
        with Daemon(started=False) as daemon:
            out = daemon.dir / "hook"
            daemon.write_config(
                {"web": shell("exec sleep 1000", environment={"OUT": str(out)}, hooks={"pre_stop": hook})}
            )
            daemon.start()
            daemon.wait_state("web", "running")
            daemon.ctl("stop", "web")
            pid = int(out.read_text())
            wait_until(lambda: not process_stat(pid), "the pid to be free")
            decoy = self.decoy(pid)
            daemon.ctl("start", "web")
            daemon.ctl("stop", "web")
            self.assert_untouched(decoy)


if __name__ == "__main__":
    main_in_pid_namespace()
