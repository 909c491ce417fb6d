"""What there is not enough of (processes, descriptors, disk) fails new starts alone; they are tried again and say why."""

import os
import pathlib
import pwd
import resource
import time
import unittest

from harness import (
    FAILED,
    SCALE,
    SUPERVISORD,
    Daemon,
    Scenario,
    cpu_seconds,
    is_alive,
    kill,
    main,
    needs_root,
    read_only,
    shell,
    sleeper,
    small_disk,
    wait_until,
)

# Its check of objects opens a pipe to see whether memory can be read, and takes EMFILE for a bad object.
UBSAN = b"libubsan" in pathlib.Path(SUPERVISORD).read_bytes()

TRY_AGAIN = {"restart_policy": {"delay": 0.1, "max_attempts": 0, "jitter": 0, "backoff_multiplier": 1}}


class Exhaustion(Scenario):
    @needs_root
    def test_no_more_processes_for_the_services_user_is_told_and_tried_again(self):
        uid = pwd.getpwnam("games").pw_uid

        # The limit is the daemon's, inherited by the services; as root it does not bind the daemon itself.
        def prepare():
            resource.setrlimit(resource.RLIMIT_NPROC, (2, 2))

        # One more than the limit: setresuid(2) looks before it counts the process that asks.
        services = {f"s{i}": sleeper(user="games", **TRY_AGAIN) for i in range(3)}
        with Daemon({**services, "late": sleeper(user="games", enabled=False, **TRY_AGAIN)}, prepare=prepare) as daemon:
            for id in services:
                daemon.wait_state(id, "running")
            result = daemon.ctl("start", "late", expect=FAILED)
            for words in ("late", "EAGAIN", "Resource temporarily unavailable"):
                self.assertIn(words, result.stderr)
            self.assertRegex(result.stderr, r"cannot start late: \S+")
            wait_until(lambda: daemon.status("late")["restart_count"] >= 2, "it to be tried again")
            pids = {id: daemon.pid(id) for id in services}
            self.assertTrue(all(map(is_alive, pids.values())))
            daemon.ctl("stop", "s0")
            daemon.wait_state("late", "running")
            self.assertEqual(os.stat(f"/proc/{daemon.pid('late')}").st_uid, uid)

    @unittest.skipIf(UBSAN, "the undefined behaviour sanitizer needs descriptors itself")
    def test_no_more_descriptors_in_the_daemon_fails_new_starts_only(self):
        def limit(number):
            for pid in daemon.supervisors():
                hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)[1]
                resource.prlimit(pid, resource.RLIMIT_NOFILE, (number or hard, hard))

        with Daemon({f"s{i}": sleeper(**TRY_AGAIN) for i in range(3)}) as daemon:
            pids = {id: daemon.wait_state(id, "running")["pid"] for id in daemon.config["services"]}
            limit(3)  # whatever is open stays so; nothing more can be opened
            supervisors = daemon.supervisors()
            before = cpu_seconds(supervisors)
            began = time.monotonic()
            waiting = daemon.stream("status")  # connects, and is not accepted
            kill(pids["s0"])
            wait_until(
                lambda: daemon.stderr().count("cannot start s0") >= 3 and time.monotonic() - began > 1,
                "the start to be tried several times",
            )
            self.assertLess(cpu_seconds(supervisors) - before, 0.5 * SCALE * (time.monotonic() - began))
            for id in ("s1", "s2"):
                self.assertTrue(is_alive(pids[id]))
            limit(None)
            self.assertIn(waiting.wait(), (0, 3))
            daemon.wait_state("s0", "running")
            self.assertEqual({id: daemon.pid(id) for id in ("s1", "s2")}, {id: pids[id] for id in ("s1", "s2")})
            failed = daemon.wait_event("s0", "failed")
            self.assertIn("cannot start s0: ", failed["message"])
            self.assertIn("Too many open files (EMFILE)", failed["message"])
            daemon.ctl("restart", "all")

    @needs_root
    def test_a_read_only_or_full_state_directory_makes_no_storm_and_services_run_on(self):
        with Daemon(started=False) as daemon:
            place = daemon.dir / "disk"
            with small_disk(place, 64 << 20):  # room for what "dies" leaves in the database, however long it takes
                for key, name in (("socket", "s.sock"), ("database", "supervisor.db"), ("log_directory", "log")):
                    daemon.config["global"][key] = str(place / name)
                daemon.config["global"]["pid_directory"] = str(place / "pid")
                daemon.socket = place / "s.sock"
                daemon.pid_dir = place / "pid"
                daemon.database = place / "supervisor.db"
                daemon.log_dir = place / "log"
                daemon.write_config(
                    {
                        "web": sleeper(),
                        "talks": shell("while :; do echo tick; sleep 0.01; done"),
                        "dies": shell("exit 1", restart_policy={"delay": 0, "jitter": 0, "max_attempts": 0}),
                        "again": sleeper(),
                    }
                )
                daemon.start()
                pids = {id: daemon.wait_state(id, "running")["pid"] for id in ("web", "talks", "again")}
                self.fill(place)
                self.in_trouble(daemon, pids)
                (place / "filler").unlink()
                pids["again"] = daemon.wait_state("again", "running", timeout=20)["pid"]
                with read_only(place / "s.state"):
                    self.in_trouble(daemon, pids)
                self.assertNotEqual(daemon.wait_state("again", "running", timeout=20)["pid"], pids["again"])
                ticks = daemon.log("talks").count(b"tick")
                daemon.wait_log("talks", "tick", count=ticks + 10)
                log = daemon.daemon_log.read_text()
                for words in ("No space left on device", "Read-only file system"):
                    self.assertIn(words, log)
                daemon.stop()

    def in_trouble(self, daemon, pids):
        """Callers are served, a service that dies has its death seen, the others live, restarts are bounded."""
        before = daemon.status("dies")["restart_count"]
        began = time.monotonic()
        kill(pids["again"])
        daemon.wait_for("again", lambda row: row["pid"] != pids["again"], "its death to be seen", timeout=20)
        wait_until(lambda: time.monotonic() - began > 1, "a second of trouble")
        rate = (daemon.status("dies")["restart_count"] - before) / (time.monotonic() - began)
        self.assertLess(rate, 150, "restarts a second")
        for id in ("web", "talks"):
            self.assertEqual(daemon.pid(id), pids[id])
            self.assertTrue(is_alive(pids[id]))

    @staticmethod
    def fill(place):
        with open(place / "filler", "wb", buffering=0) as file:
            try:
                for size in (65536, 4096, 1):
                    while True:
                        try:
                            file.write(b"x" * size)
                        except OSError:
                            break
            finally:
                os.fsync(file.fileno())

    @needs_root
    def test_a_read_only_log_directory_never_shows_running_without_a_process(self):
        with Daemon(started=False) as daemon:
            place = daemon.dir / "logs"
            with small_disk(place, 1 << 20):
                daemon.config["global"]["log_directory"] = str(place)
                daemon.write_config({"web": sleeper(enabled=False, **TRY_AGAIN), "beside": sleeper()})
                daemon.start()
                beside = daemon.wait_state("beside", "running")["pid"]
                with read_only(place):
                    result = daemon.ctl("start", "web", expect=(0, FAILED))
                    row = daemon.status("web")
                    self.assertEqual(row["state"] == "running", bool(row["pid"]), row)
                    if result.returncode == FAILED:
                        for words in (str(place), "Read-only file system"):
                            self.assertIn(words, result.stderr)
                daemon.wait_state("web", "running")
                self.assertEqual(daemon.pid("beside"), beside)
                daemon.stop()

    def test_an_environment_too_large_for_exec_is_told_with_its_step(self):
        big = {f"BIG{i}": "x" * 100_000 for i in range(30)}
        with Daemon({"web": sleeper(enabled=False, environment=big, restart_policy={"mode": "never"})}) as daemon:
            result = daemon.ctl("start", "web", expect=FAILED)
            for words in ("cannot start web", "command /bin/sleep", "E2BIG"):
                self.assertIn(words, result.stderr)
            self.assertIn("E2BIG", daemon.status("web")["reason"])


if __name__ == "__main__":
    main()
