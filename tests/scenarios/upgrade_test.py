"""A new program takes the daemon's place while the services run on; one that can't is refused."""

import os
import re
import shutil
import signal
import stat

from harness import FAILED, SUPERVISORD, Daemon, Scenario, is_alive, kill, main, shell, sleeper, wait_until
from harness.processes import process_stat, read_proc


class Upgradable(Daemon):
    """A daemon whose program lies in its workspace, to be replaced there."""

    def __enter__(self):
        self.program = str(self.dir / "supervisord")
        shutil.copy2(SUPERVISORD, self.program)
        return super().__enter__()

    def start(self):
        """Until all that is enabled has been started: what it has by then must be as it is afterwards."""
        super().start()
        begun = lambda row: row["state"] not in ("stopped", "starting") or not row["enabled"]  # noqa: E731
        wait_until(lambda: all(map(begun, self.status().values())), "all to have begun", timeout=30)
        return self

    def put(self, path_or_text):
        """Another program in the place of the present one, as a package manager does it."""
        fresh = self.dir / "supervisord.new"
        if isinstance(path_or_text, bytes):
            fresh.write_bytes(path_or_text)
            fresh.chmod(0o755)
        else:
            shutil.copy2(path_or_text, fresh)
        fresh.rename(self.program)

    def __exit__(self, *error):
        self.put(SUPERVISORD)  # --stop needs a program that can
        return super().__exit__(*error)

    def wait_other(self, old):
        return wait_until(lambda: self.version()["pid"] != old and self.version()["pid"], "the next daemon", timeout=20)


class Upgrade(Scenario):
    def pids(self, daemon):
        return {name: row["pid"] for name, row in daemon.status().items()}

    def test_services_notice_nothing(self):
        services = {
            "web": sleeper(),
            "lines": shell("i=0; while :; do i=$((i+1)); echo line $i; sleep 0.001; done"),
            "once": shell("echo ran", restart_policy={"mode": "on-failure"}),
            "broken": shell("echo tried; exit 3", restart_policy={"mode": "never"}),
            "by-hand": sleeper(enabled=False),
            "off": sleeper(),
        }
        with Upgradable(services) as daemon:
            daemon.wait_state("once", "exited")
            daemon.wait_state("broken", "failed")
            daemon.ctl("start", "by-hand")
            daemon.wait_log("lines", "line 20\n")
            daemon.ctl("stop", "off")
            before = self.pids(daemon)
            version = daemon.version()
            daemon.put(SUPERVISORD)
            result = daemon.ctl("upgrade", "--reason", "security update")
            self.assertIn("was replaced by", result.stdout)
            after = daemon.version()
            self.assertNotEqual(after["pid"], version["pid"])
            self.assertEqual(after["guardian_pid"], version["guardian_pid"], "the guardian is replaced in place")
            self.assertEqual(os.readlink(f"/proc/{after['guardian_pid']}/exe"), daemon.program)
            self.assert_becomes(lambda: self.pids(daemon), before)
            rows = daemon.status()
            self.assertEqual({row["restart_count"] for row in rows.values()}, {0})
            states = {name: row["state"] for name, row in rows.items() if name not in ("web", "lines")}
            self.assertEqual(
                states, {"off": "stopped", "once": "exited", "broken": "failed", "by-hand": "running"}, "all stay as they were"
            )
            self.assert_becomes(lambda: (daemon.log("once"), daemon.log("broken")), (b"ran\n", b"tried\n"))
            daemon.ctl("stop", "lines")
            numbers = [int(n) for n in re.findall(rb"line (\d+)\n", daemon.log("lines"))]
            self.assertEqual(numbers, list(range(1, len(numbers) + 1)), "not a line lost, doubled or torn")
            wait_until(
                lambda: any("makes room" in event["message"] for event in daemon.events("supervisor")), "its event"
            )

    def test_sigusr2_does_the_same_and_exits_are_still_known(self):
        with Upgradable({"web": sleeper()}) as daemon:
            pid = daemon.pid("web")
            old = daemon.version()["pid"]
            kill(int(daemon.socket.with_suffix(".pid").read_text()), signal.SIGUSR2)
            daemon.wait_other(old)
            self.assertEqual(daemon.wait_state("web", "running")["pid"], pid)
            kill(pid, signal.SIGTERM)
            self.assertIn("SIGTERM", daemon.wait_event("web", "exited")["message"])
            daemon.wait_for("web", lambda row: row["state"] == "running" and row["pid"] != pid, "the next instance")

    def refused(self, daemon, expected):
        version = daemon.version()
        pid = daemon.pid("web")
        result = daemon.ctl("upgrade", expect=FAILED)
        self.assertIn("can't take over, so nothing was changed", result.stderr)
        self.assertIn(expected, result.stderr)
        self.assertEqual(daemon.version()["pid"], version["pid"])
        self.assertEqual(daemon.pid("web"), pid)

    def test_a_program_that_does_not_run_is_refused(self):
        with Upgradable({"web": sleeper()}) as daemon:
            daemon.put(b"not a program")
            self.refused(daemon, "ENOEXEC")
            os.unlink(daemon.program)
            self.refused(daemon, "No such file or directory")
            daemon.put(SUPERVISORD)
            os.chmod(daemon.program, stat.S_IRUSR)
            self.refused(daemon, "Permission denied")
            daemon.put(SUPERVISORD)
            daemon.ctl("upgrade")

    def test_a_program_that_refuses_the_configuration_is_refused_with_its_reason(self):
        with Upgradable({"web": sleeper()}) as daemon:
            daemon.put(b"#!/bin/sh\necho \"$*\" >&2\necho 'services.web: no longer known' >&2\nexit 2\n")
            self.refused(daemon, "services.web: no longer known")

    def test_a_stop_does_not_wait_for_a_program_that_is_being_tried(self):
        with Upgradable({"web": sleeper()}) as daemon:
            tried = daemon.dir / "tried"
            daemon.put(f"#!/bin/sh\n: > {tried}\nexec sleep 1000\n".encode())
            upgrade = daemon.stream("upgrade")
            wait_until(tried.exists, "the trial")
            daemon.process.terminate()
            self.assertEqual(upgrade.wait(), FAILED)
            self.assertIn("stopping all services", " ".join(upgrade.errors()))
            daemon.check_gone()

    def test_a_program_of_before_upgrades_is_refused(self):
        with Upgradable({"web": sleeper()}) as daemon:
            daemon.put(b'#!/bin/sh\ncase "$*" in *--internal-protocol*) echo "unknown option" >&2; exit 2;; esac\nexit 0\n')
            self.refused(daemon, "unknown option")

    def test_it_goes_on_with_the_configuration_in_force_whatever_became_of_the_files(self):
        with Upgradable({"web": sleeper(), "extra": sleeper()}) as daemon:
            before = self.pids(daemon)
            daemon.write_config({"web": sleeper()})
            daemon.ctl("upgrade")
            self.assert_becomes(lambda: self.pids(daemon), before)  # a changed file is for a reload to apply
            daemon.write_text("{ nonsense")
            daemon.ctl("upgrade")
            self.assert_becomes(lambda: self.pids(daemon), before)
            said = "have changed since they were applied"
            wait_until(lambda: said in daemon.daemon_log.read_text(), "it to be said")
            daemon.write_config({"web": sleeper()})
            daemon.ctl("reload")
            self.assert_becomes(lambda: list(daemon.status()), ["web"])
            wait_until(lambda: not is_alive(before["extra"]), "the removed service to be gone")

    def test_a_crash_goes_on_with_the_configuration_in_force_too(self):
        with Upgradable({"web": sleeper(), "extra": sleeper()}) as daemon:
            before = self.pids(daemon)
            daemon.write_text("{ nonsense")
            old = daemon.version()["pid"]
            kill(old)
            daemon.wait_other(old)
            self.assert_becomes(lambda: self.pids(daemon), before)
            result = daemon.supervisord("--status", expect=0)
            self.assertIn("the configuration cannot be used", result.stderr)
            daemon.write_config()

    def test_a_restart_under_way_is_carried_out(self):
        slow = shell("trap 'echo asked' TERM; echo up; while :; do sleep 0.01; done", graceful_shutdown={"timeout": 1})
        with Upgradable({"slow": slow, "idle": sleeper(enabled=False, restart_policy={"delay": 600})}) as daemon:
            daemon.wait_log("slow", "up")
            pid = daemon.pid("slow")
            daemon.ctl("start", "idle")
            kill(daemon.pid("idle"))
            waits = daemon.wait_state("idle", "backoff")
            daemon.ctl("restart", "slow", "--no-wait")
            daemon.wait_log("slow", "asked")
            daemon.ctl("upgrade")
            daemon.wait_for("slow", lambda row: row["state"] == "running" and row["pid"] != pid, "the next instance")
            after = daemon.status()["idle"]
            for key in ("state", "reason", "exit_signal", "restart_count"):
                self.assertEqual(after[key], waits[key], key)

    def test_another_socket_waits_for_the_next_start(self):
        with Upgradable({"web": sleeper()}) as daemon:
            pid = daemon.pid("web")
            daemon.config["global"]["socket"] = str(daemon.dir / "other.sock")
            daemon.write_config()
            daemon.ctl("reload")
            old = daemon.version()["pid"]
            kill(old)
            daemon.wait_other(old)
            self.assertEqual(daemon.wait_state("web", "running")["pid"], pid)
            self.assert_becomes(lambda: daemon.service_processes(), [pid])  # one instance of each
            daemon.config["global"]["socket"] = str(daemon.socket)
            daemon.write_config()

    def test_what_another_configuration_left_running_is_stopped(self):
        with Upgradable({"web": sleeper(), "extra": sleeper()}) as daemon:
            pids = self.pids(daemon)
            daemon.kill_daemon()
            daemon.write_config({"web": sleeper()})
            daemon.start()
            wait_until(lambda: not is_alive(pids["extra"]), "the service that is not configured any more to be gone")
            wait_until(lambda: list(daemon.status()) == ["web"], "it to be forgotten")
            self.assertEqual(daemon.wait_state("web", "running")["pid"], pids["web"])

    def test_a_follower_goes_on_without_a_gap(self):
        service = shell("i=0; while :; do i=$((i+1)); echo line $i; sleep 0.005; done")
        with Upgradable({"lines": service}) as daemon:
            stream = daemon.stream("logs", "lines", "-f", "-n", "100000")
            stream.wait_for(lambda line: line == "line 10")
            for _ in range(3):
                daemon.ctl("upgrade")
            last = int(re.findall(rb"line (\d+)\n", daemon.log("lines"))[-1])
            stream.wait_for(lambda line: line == f"line {last}")
            numbers = [int(line.split()[1]) for line in stream.seen if line.startswith("line ")]
            self.assertEqual(numbers[:last], list(range(1, last + 1)))

    def test_two_at_once(self):
        with Upgradable({"web": sleeper()}) as daemon:
            pid = daemon.pid("web")
            first, second = daemon.stream("upgrade"), daemon.stream("upgrade")
            codes = sorted([first.wait(), second.wait()])
            self.assertEqual(codes[0], 0)
            self.assertEqual(daemon.wait_state("web", "running")["pid"], pid)


class WithoutGuardian(Scenario):
    """The daemon itself becomes the new program: same pid, same children."""

    @staticmethod
    def daemon(services):
        daemon = Upgradable(services, started=False)
        daemon.arguments = ["--no-guardian"]
        return daemon

    def wait_next(self, daemon, before):
        def other():
            version = daemon.version()
            return version if version["started_at"] != before["started_at"] else None

        return wait_until(other, "the next program", timeout=20)

    def test_services_notice_nothing_and_exits_stay_known(self):
        lines = shell("i=0; while :; do i=$((i+1)); echo line $i; sleep 0.001; done")
        with self.daemon({"web": sleeper(), "lines": lines, "off": sleeper()}) as daemon:
            daemon.start()
            daemon.ctl("stop", "off")
            daemon.wait_log("lines", "line 20\n")
            pids = {name: daemon.pid(name) for name in ("web", "lines")}
            limits = read_proc(pids["web"], "limits")
            version = daemon.version()
            for count in range(1, 4):
                daemon.put(SUPERVISORD)
                self.assertIn("was replaced by", daemon.ctl("upgrade").stdout)
                after = daemon.version()
                self.assertEqual(after["pid"], version["pid"], "it is the same process")
                self.assertEqual(after["guardian_pid"] or 0, 0)
                self.assertEqual({name: daemon.pid(name) for name in pids}, pids)
                self.assertEqual(daemon.status("off")["state"], "stopped")
                kill(pids["web"], signal.SIGTERM)
                wait_until(
                    lambda: sum("SIGTERM" in e["message"] for e in daemon.events("web") if e["event_type"] == "exited")
                    == count,
                    "the exit code of a child that a former program started",
                )
                row = daemon.wait_for("web", lambda row: row["state"] == "running" and row["pid"] != pids["web"], "it")
                pids["web"] = row["pid"]
            self.assertEqual(read_proc(pids["web"], "limits"), limits, "what services get is not what the daemon takes")
            daemon.supervisord("--status", expect=0)
            self.assertIn(str(version["pid"]), daemon.supervisord(expect=1).stderr, "the lock is held on")
            daemon.ctl("stop", "lines")
            numbers = [int(n) for n in re.findall(rb"line (\d+)\n", daemon.log("lines"))]
            self.assertEqual(numbers, list(range(1, len(numbers) + 1)), "not a line lost, doubled or torn")

    def test_sigusr2_too(self):
        with self.daemon({"web": sleeper()}) as daemon:
            daemon.start()
            pid, before = daemon.pid("web"), daemon.version()
            kill(before["pid"], signal.SIGUSR2)
            self.assertEqual(self.wait_next(daemon, before)["pid"], before["pid"])
            self.assertEqual(daemon.wait_state("web", "running")["pid"], pid)

    def test_a_bad_program_is_refused(self):
        with self.daemon({"web": sleeper()}) as daemon:
            daemon.start()
            pid, before = daemon.pid("web"), daemon.version()
            daemon.put(b"not a program")
            self.assertIn("nothing was changed", daemon.ctl("upgrade", expect=FAILED).stderr)
            self.assertEqual(daemon.version()["started_at"], before["started_at"])
            self.assertEqual(daemon.pid("web"), pid)

    def test_orphans_come_to_it_and_are_reaped(self):
        orphans = shell(
            "for i in 1 2 3 4 5 6 7 8; do (setsid sh -c 'echo orphan $$; sleep 0.05; exit 3' &); done; exec sleep 1000000"
        )
        crasher = shell("exit 4", restart_policy={"delay": 0.01, "max_delay": 0.01})
        with self.daemon({"orphans": orphans, "crasher": crasher}) as daemon:
            daemon.start()
            daemon.wait_log("orphans", "orphan", count=8)
            pids = [int(pid) for pid in re.findall(rb"orphan (\d+)\n", daemon.log("orphans"))]
            wait_until(lambda: not any(process_stat(pid) for pid in pids), "the orphans to be gone, not zombies")
            wait_until(lambda: daemon.event_types("crasher").count("exited") >= 30, "30 ends", timeout=30)
            for event in daemon.events("crasher"):
                if event["event_type"] == "exited":
                    self.assertIn("4", event["message"], "an own child's exit code is never taken by the reaper")

    def test_after_the_guardian_was_killed_an_upgrade_brings_one_back(self):
        with Upgradable({"web": sleeper()}) as daemon:
            pid, before = daemon.pid("web"), daemon.version()
            kill(before["guardian_pid"])
            wait_until(
                lambda: daemon.socket.with_suffix(".pid").read_text().strip() == str(before["pid"]),
                "the daemon to have noticed",
            )
            daemon.process.wait()
            daemon.process = None
            daemon.ctl("upgrade")
            after = daemon.version()
            self.assertEqual(after["guardian_pid"], before["pid"])
            self.assertNotEqual(after["pid"], before["pid"])
            self.assertEqual(daemon.pid("web"), pid)
            kill(after["pid"])
            daemon.wait_other(after["pid"])
            self.assertEqual(daemon.wait_state("web", "running")["pid"], pid)


if __name__ == "__main__":
    main()
