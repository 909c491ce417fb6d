"""What is measured is the service's own, from its first sample on: not the supervisor's, not what it was before."""


from harness import (
    Daemon,
    Scenario,
    eventually,
    held_program,
    is_alive,
    kill,
    main,
    needs_root,
    python,
    read_proc,
    shell,
    sleeper,
    wait_until,
    without_cgroups,
)

OFTEN = {"monitoring": {"metrics_interval": 0.05}}
MEGABYTE = 1 << 20
# 60 MB of it in the shell's own memory.
BIG = "x=$(head -c 60000000 /dev/zero | tr '\\0' x); echo big; while :; do sleep 1000; done"


def pss_mb(pid):
    lines = read_proc(pid, "smaps_rollup").decode().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def rss_mb(pid):
    lines = read_proc(pid, "smaps_rollup").decode().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Rss:")) / 1024


class ExecWindow(Scenario):
    """The program is held between clone(2) and the end of execve(2), where the child runs on the daemon's memory."""

    def samples(self, daemon, service):
        return daemon.sql("SELECT memory_mb FROM supervisor_metrics WHERE service_id = ?", service)

    def wait_rounds(self, daemon):
        """Until rounds of sampling that began after this have ended."""
        before = len(self.samples(daemon, "other"))
        wait_until(lambda: len(self.samples(daemon, "other")) >= before + 3, "samples of the other service", timeout=30)

    def configure(self, daemon, held, script="echo up; while :; do sleep 1000; done", **changes):
        daemon.write_config({"web": shell(script, command=held.path, **changes), "other": sleeper()})

    def assert_measured(self, daemon):
        """What status tells is what a fresh look at the service's processes tells."""

        def same():
            pids = [pid for pid in daemon.service_processes() if pid != daemon.pid("other")]
            self.assertAlmostEqual(daemon.status("web")["memory_mb"], sum(map(pss_mb, pids)), delta=0.5)

        eventually(same, timeout=30)

    def test_nothing_is_sampled_before_exec_is_over_and_the_service_itself_after(self):
        with Daemon(started=False, extra=OFTEN) as daemon:
            with held_program("/bin/sh", daemon.dir / "program") as held:
                self.configure(daemon, held)
                daemon.start()
                wait_until(lambda: held.is_awaited, "the exec to begin")
                self.wait_rounds(daemon)
                self.assertEqual(self.samples(daemon, "web"), [])
            daemon.wait_log("web", "up")
            self.wait_rounds(daemon)
            self.assert_measured(daemon)

    def test_the_same_for_a_daemon_that_takes_such_a_process_over(self):
        with Daemon(started=False, extra=OFTEN) as daemon:
            with held_program("/bin/sh", daemon.dir / "program") as held:
                self.configure(daemon, held)
                daemon.start()
                wait_until(lambda: held.is_awaited, "the exec to begin")
                pid = daemon.pid("web")
                wait_until(
                    lambda: any(f"pid {pid}\n" in path.read_text() for path in daemon.dir.rglob("web.record")),
                    "the process to be on record",
                )
                old = daemon.version()["pid"]
                kill(old)
                wait_until(lambda: daemon.version()["pid"] != old, "the next daemon")
                self.wait_rounds(daemon)
                self.assertEqual(daemon.pid("web"), pid)
                self.assertEqual(self.samples(daemon, "web"), [])
            daemon.wait_log("web", "up")
            self.wait_rounds(daemon)
            self.assert_measured(daemon)

    @needs_root
    def test_a_memory_limit_acts_all_the_same(self):
        limits = {"max_memory_mb": 30, "on_exceed": "alert"}
        with Daemon(started=False, extra=OFTEN, prepare=without_cgroups) as daemon:
            with held_program("/bin/sh", daemon.dir / "program") as held:
                self.configure(daemon, held, BIG, resource_limits=limits)
                daemon.start()
                wait_until(lambda: held.is_awaited, "the exec to begin")
                self.wait_rounds(daemon)
                self.assertNotIn("limit_exceeded", daemon.event_types("web"))
            daemon.wait_log("web", "big")
            self.assertIn("max_memory_mb", daemon.wait_event("web", "limit_exceeded", timeout=30)["message"])

    def test_a_check_by_hand_does_not_take_the_supervisor_for_the_service(self):
        with Daemon(started=False, extra=OFTEN) as daemon:
            with held_program("/bin/sh", daemon.dir / "program") as held:
                self.configure(daemon, held)
                daemon.start()
                wait_until(lambda: held.is_awaited, "the exec to begin")
                arguments = (str(daemon.pid("web")), "--max-memory-mb", "1000", "--timeout", "1")
                check = daemon.ctl("check", "process", *arguments, expect=None)
                self.assertNotEqual(check.returncode, 0, check.stdout)
                self.assertIn("has not become its program yet", check.stdout + check.stderr)
            daemon.wait_log("web", "up")
            check = daemon.ctl("check", "process", str(daemon.pid("web")), "--max-memory-mb", "1000")
            self.assertRegex(check.stdout, r"alive \([0-2]\.\d MB")


class AnotherProgram(Scenario):
    def test_a_service_that_becomes_another_program_is_measured_as_that(self):
        # Of the first program memory is known when the second begins, which has as much again that it shares.
        second = "import signal; x = bytearray(30 << 20); print('second', flush=True); signal.pause()"
        service = python(
            "import os, signal, sys; signal.signal(signal.SIGUSR1, lambda *_: None); print('first', flush=True);"
            "signal.pause(); os.execv(sys.executable, [sys.executable, '-S', '-u', '-c', sys.argv[1]])",
            second,
        )
        with Daemon({"web": service}, extra=OFTEN) as daemon:
            daemon.wait_log("web", "first")
            daemon.wait_for("web", lambda row: row["memory_mb"], "the first program's memory")
            daemon.ctl("signal", "USR1", "web")
            daemon.wait_log("web", "second")
            pid = daemon.pid("web")
            self.assertGreater(rss_mb(pid) - pss_mb(pid), 1, "nothing that it shares: there is nothing to be told apart")
            eventually(lambda: self.assertAlmostEqual(daemon.status("web")["memory_mb"], pss_mb(pid), delta=0.5))
            self.assertTrue(is_alive(pid))


if __name__ == "__main__":
    main()
