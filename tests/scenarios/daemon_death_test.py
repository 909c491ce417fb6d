"""The daemon dies, at random moments and at named ones; afterwards everything is as if it had not.

Services start, stop, crash and write numbered lines all the while. Each keeps a ledger of its own: a line when it
begins and one before it ends, written with one write(2) to a file that no supervisor touches. In the end the ledgers
must agree with what the daemon says: one live process of each instance that should run and none of the others, each
end in the events once, with its code, each byte in the logs.

    SCENARIO_KILLS=1000      so many kills at random moments, rather than a few
    SCENARIO_SEED=...        the same choices again (the moments are not the same)

Named moments (common/fail_point.h) are in the sanitizer and debug builds alone.
"""

import collections
import contextlib
import json
import os
import pathlib
import random
import re
import signal
import subprocess
import time
import unittest

from harness import (
    DONE,
    SCALE,
    SUPERVISORD,
    Daemon,
    Scenario,
    eventually,
    is_alive,
    kill,
    main,
    python,
    shell,
    sleeper,
    wait_until,
)

KILLS = int(os.environ.get("SCENARIO_KILLS", "25"))
SEED = os.environ.get("SCENARIO_SEED") or str(random.randrange(1 << 32))

# Ledger lines: "begin PID" and "end PID CODE"; a negative code is a signal. Asked to stop it ends with 40.
ACTOR = """
import os, random, signal, sys, time
name, ledger, mode = sys.argv[1:4]
book = os.open(ledger, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
pid = os.getpid()
def end(code):
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    os.write(1, b'last words of %d\\n' % pid)
    os.write(book, b'end %d %d\\n' % (pid, code))
    if code < 0:
        os.kill(pid, -code)
    os._exit(code)
signal.signal(signal.SIGTERM, lambda *_: end(40))
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
os.write(book, b'begin %d\\n' % pid)
os.write(1, b'first words of %d\\n' % pid)
signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
if mode == 'crash':
    time.sleep(random.choice([0, 0, 0.001, 0.01, 0.1, 0.3]))
    end(random.choice([0, 1, 2, 3, 77, 255, -signal.SIGKILL, -signal.SIGSEGV, -signal.SIGUSR1]))
if mode == 'once':
    end(0)
while True:
    time.sleep(60)
"""

WRITER = """
import os, signal, sys, time
ledger, pause = sys.argv[1], float(sys.argv[2])
number = int(open(ledger).read() or 0) if os.path.exists(ledger) else 0
stop = []
signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
while not stop:
    text = b''.join(b'line %d\\n' % (number + i) for i in range(1, 101))
    number += 100
    while text:
        text = text[os.write(1, text):]
    time.sleep(pause)
with open(ledger, 'w') as file:
    file.write(str(number))
"""

QUICK = {"mode": "always", "delay": 0.02, "backoff_multiplier": 1, "max_attempts": 0, "jitter": 0}
LARGE_LOGS = {"max_size_mb": 0.5, "max_files": 10000}


class World(Daemon):
    """A daemon with services that keep ledgers."""

    def __init__(self, **options):
        super().__init__(started=False, **options)
        self.ledgers = self.dir / "ledgers"
        self.ledgers.mkdir()
        self.config["services"] = {
            "lines": self.writer("lines", 0.0001, {"max_size_mb": 10}),
            "slow-lines": self.writer("slow-lines", 0.002),
            **{f"crash{i}": self.actor(f"crash{i}", "crash") for i in range(4)},
            **{f"toggled{i}": self.actor(f"toggled{i}", "run", enabled=i % 2 == 0) for i in range(4)},
            "once": self.actor("once", "once", restart_policy={"mode": "on-failure"}),
            "steady": sleeper(instances=3),
            "off": self.actor("off", "run", enabled=False),
        }
        self.write_config()

    def actor(self, name, mode, **changes):
        changes = {"restart_policy": QUICK, "logs": LARGE_LOGS, **changes}
        return python(ACTOR, name, str(self.ledgers / name), mode, **changes)

    def writer(self, name, pause, logs=None):
        return python(WRITER, str(self.ledgers / name), str(pause), logs={**LARGE_LOGS, **(logs or {})})

    def ledger(self, name):
        with contextlib.suppress(FileNotFoundError):
            return (self.ledgers / name).read_text().splitlines()
        return []

    def daemon_pid(self):
        """Of the daemon under the guardian, whoever it is just now; None between two."""
        children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        for child in children:
            with contextlib.suppress(OSError):
                if "--internal-daemon" in pathlib.Path(f"/proc/{child}/cmdline").read_text():
                    return int(child)
        return None

    def whole_log(self, name):
        """All of a log's bytes, rotated files included, oldest first."""
        files = [self.log_file(name), *self.log_dir.glob(f"{name}.log.[0-9]*")]
        files = [path for path in files if path.exists() and re.search(r"\.log(\.\d+)?$", path.name)]
        index = lambda path: int(path.suffix[1:]) if path.suffix[1:].isdigit() else 0  # noqa: E731
        return b"".join(path.read_bytes() for path in sorted(files, key=index, reverse=True))

    def try_ctl(self, *args):
        """A call that the daemon's death may meet. True: it was done."""
        return self.ctl(*args, expect=None, timeout=60).returncode == DONE


class Death(Scenario):
    def random_action(self, world, rng):
        name = f"toggled{rng.randrange(4)}"
        verb = rng.choice(["start", "stop", "restart", "restart"])
        return name, verb, subprocess.Popen(
            [str(part) for part in (pathlib.Path(SUPERVISORD).with_name("supervisorctl"), "--socket", world.socket, verb, name)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=world.client_env,
        )

    def settle(self, world):
        """To a state in which it is known what should run."""
        wait_until(lambda: world.try_ctl("version"), "the daemon to answer", timeout=60)
        for i in range(4):
            wait_until(lambda: world.try_ctl("start" if i < 2 else "stop", f"toggled{i}"), f"toggled{i}", timeout=60)
        for i in range(4):
            wait_until(lambda: world.try_ctl("stop", f"crash{i}"), f"crash{i} to stop", timeout=60)

    def check(self, world, codes_known=True):
        expected = {
            **{name: "running" for name in ("lines", "slow-lines", "toggled0", "toggled1", "steady:0", "steady:1", "steady:2")},
            **{name: "stopped" for name in ("toggled2", "toggled3", "off", *(f"crash{i}" for i in range(4)))},
            "once": "exited",
        }
        self.assert_becomes(lambda: {name: row["state"] for name, row in world.status().items()}, expected)
        eventually(lambda: self.check_processes(world, world.status()))
        eventually(lambda: self.check_ends(world, codes_known))
        world.ctl("stop", "all")
        eventually(lambda: self.check_logs(world), timeout=30)
        self.assertEqual(world.ledger("off"), [], "nobody has ever wanted it")
        self.assertEqual(len([line for line in world.ledger("once") if line.startswith("begin")]), 1, "a one-off runs once")

    def check_processes(self, world, rows):
        pids = [row["pid"] for row in rows.values() if row["pid"]]
        self.assertEqual(sorted(world.service_processes()), sorted(pids), "one process of each that runs, and no other")

    def check_ends(self, world, codes_known):
        names = [f"crash{i}" for i in range(4)] + [f"toggled{i}" for i in range(4)] + ["once"]
        told = collections.Counter()
        unknown = collections.Counter()
        rows = world.sql(
            "SELECT service_id, details FROM supervisor_events WHERE event_type IN ('exited', 'stopped') ORDER BY id"
        )
        for service, details in rows:
            details = json.loads(details)
            if service not in names or "pid" not in details:
                continue
            code = details.get("exit_code", -details["exit_signal"] if "exit_signal" in details else None)
            if code is None:
                unknown[service, details["pid"]] += 1
            else:
                told[service, details["pid"], code] += 1
        written = collections.Counter()
        for name in names:
            for line in world.ledger(name):
                word, pid, *code = line.split()
                if word == "end":
                    written[name, int(pid), int(code[0])] += 1
        for key, count in written.items():  # mostly 1; a long run sees pids again
            told_how = f"the end {key} is told {told[key]} times with its code, {unknown[key[:2]]} without"
            if codes_known:
                self.assertEqual(told[key], count, told_how)
            else:
                self.assertGreaterEqual(told[key] + unknown[key[:2]], count, told_how)
                self.assertLessEqual(told[key], count, told_how)
        strange = [key for key in told if key not in written]
        # Ended by force before it could write anything: a SIGKILL, or a SIGTERM before its handler was there.
        strange = [key for key in strange if key[2] not in (-9, -15)]
        self.assertEqual(strange, [], "ends that nobody had")
        return len(written)

    def check_logs(self, world):
        for name in ("lines", "slow-lines"):
            last = int((world.ledgers / name).read_text())
            expected = b"".join(b"line %d\n" % number for number in range(1, last + 1))
            log = world.whole_log(name)
            if log != expected:
                at = next((i for i, (a, b) in enumerate(zip(log, expected)) if a != b), min(len(log), len(expected)))
                self.fail(f"{name}: {len(log)} bytes, {len(expected)} written; differ at {at}: "
                          f"{log[at - 40:at + 40]} instead of {expected[at - 40:at + 40]}")
        for name in [f"crash{i}" for i in range(4)] + [f"toggled{i}" for i in range(4)] + ["once"]:
            log = world.whole_log(name)
            words = collections.Counter(log.splitlines())
            written = collections.Counter(tuple(line.split()[:2]) for line in world.ledger(name))
            for (word, pid), count in written.items():  # mostly 1; a long run sees pids again
                spoken = f"{'first' if word == 'begin' else 'last'} words of {pid}".encode()
                self.assertEqual(words[spoken], count, f"{name}: {spoken}")

    @staticmethod
    def await_moment(rng):
        """From before a daemon's first instruction to well after it serves: this is the moment, not a wait for one."""
        until = time.monotonic() + rng.choice([0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4]) * rng.random() * SCALE
        wait_until(lambda: time.monotonic() >= until, "the moment")

    def test_at_random_moments(self):
        rng = random.Random(SEED)
        print(f"seed {SEED}, {KILLS} kills", flush=True)
        with World() as world:
            world.start()
            clients = []
            steady = [world.wait_state(f"steady:{i}", "running")["pid"] for i in range(3)]
            for _ in range(KILLS):
                for _ in range(rng.randrange(3)):
                    clients.append(self.random_action(world, rng)[2])
                pid = wait_until(world.daemon_pid, "a daemon", timeout=30)
                self.await_moment(rng)
                kill(pid)
                wait_until(lambda: world.daemon_pid() not in (None, pid), "the next daemon", timeout=30)
                clients = [client for client in clients if client.poll() is None]
            for client in clients:
                client.wait(60 * SCALE)
            self.settle(world)
            self.assertEqual(
                [world.wait_state(f"steady:{i}", "running")["pid"] for i in range(3)], steady, "they never noticed"
            )
            self.check(world)

    def test_guardian_and_daemon_together(self):
        rng = random.Random(SEED)
        with World() as world:
            world.start()
            steady = [world.wait_state(f"steady:{i}", "running")["pid"] for i in range(3)]
            clients = []
            for _ in range(KILLS):
                for _ in range(rng.randrange(3)):
                    clients.append(self.random_action(world, rng)[2])
                self.await_moment(rng)
                world.kill_daemon()
                world.launch()
                clients = [client for client in clients if client.poll() is None]
            world.wait_ready()
            for client in clients:
                client.wait(60 * SCALE)
            self.settle(world)
            self.assertEqual(
                [world.wait_state(f"steady:{i}", "running")["pid"] for i in range(3)], steady, "they never noticed"
            )
            self.check(world, codes_known=False)


class WhatIsLeft(Scenario):
    """What the next daemon makes of the files of the last one."""

    def test_a_damaged_record_is_set_aside_and_told(self):
        with Daemon({"web": sleeper(), "other": sleeper()}, started=False) as daemon:
            daemon.start()
            daemon.ctl("start", "web", "other")  # its answer comes when their records are there
            pids = daemon.pid("web"), daemon.pid("other")
            daemon.kill_daemon()
            record = daemon.dir / "s.state/web.record"
            record.write_bytes(record.read_bytes()[:-9])
            daemon.start()
            event = daemon.wait_event("web", "failed")
            self.assertIn("web.record.damaged", event["message"])
            wait_until((daemon.dir / "s.state/web.record.damaged").exists, "it to be there")
            wait_until(lambda: not is_alive(pids[0]), "what ran without a record to be gone")
            self.assertNotEqual(daemon.wait_state("web", "running")["pid"], pids[0])
            self.assertEqual(daemon.wait_state("other", "running")["pid"], pids[1])
            (daemon.dir / "s.state/web.record.damaged").unlink()

    def test_foreign_files_in_the_state_directory_do_no_harm(self):
        with Daemon({"web": sleeper()}, started=False) as daemon:
            daemon.start()
            daemon.ctl("start", "web")
            pid = daemon.pid("web")
            daemon.kill_daemon()
            state = daemon.dir / "s.state"
            (state / "births").write_bytes(b"\xff" * 1000)
            (state / "nonsense.record").write_bytes(bytes(range(256)))
            (state / "applied.config").write_bytes(b"{")
            daemon.start()
            self.assertEqual(daemon.wait_state("web", "running")["pid"], pid)
            wait_until((state / "births.damaged").exists, "what is no note to be set aside")
            for path in state.glob("*.damaged"):
                path.unlink()

    def test_why_a_service_is_at_rest_is_known_to_the_next_daemon(self):
        services = {
            "failed": shell("exit 3", restart_policy={"mode": "never"}),
            "waiting": shell("exit 4", restart_policy={"delay": 600, "max_attempts": 0}),
            "stopped": sleeper(),
        }
        with Daemon(services) as daemon:
            daemon.wait_state("failed", "failed")
            daemon.wait_state("waiting", "backoff")
            daemon.ctl("stop", "stopped", "--reason", "maintenance")
            keys = ("state", "reason", "exit_code", "exit_signal", "restart_count")
            before = {name: {key: row[key] for key in keys} for name, row in daemon.status().items()}
            old = daemon.version()["pid"]
            kill(old)
            wait_until(lambda: daemon.version()["pid"] != old, "the next daemon", timeout=20)
            self.assert_becomes(
                lambda: {name: {key: row[key] for key in keys} for name, row in daemon.status().items()}, before
            )

    def test_how_long_it_has_been_up_is_not_a_matter_of_the_wall_clock(self):
        for step, waiting in ((10 * 3600, {"type": "uptime", "uptime": 3000}), (-10 * 3600, {"type": "exec"})):
            with self.subTest(step=step), Daemon({"web": sleeper(readiness=waiting)}, started=False) as daemon:
                daemon.start()
                pid = daemon.pid("web")
                daemon.kill_daemon()
                self.set_clock(daemon.dir / "s.state/web.record", step)
                daemon.start()
                row = daemon.wait_for("web", lambda row: row["pid"] == pid, "the process")
                self.assertEqual(row["state"], "starting" if step > 0 else "running")
                self.assertLess(row["uptime_seconds"], 3000)
                self.assertGreater(row["uptime_seconds"], 0)
                kill(pid)
                uptime = daemon.wait_event("web", "exited")["details"]["uptime_seconds"]
                self.assertLess(uptime, 3000)
                self.assertGreater(uptime, 0)

    def set_clock(self, record, step):
        """The wall clock is `step` seconds further than what the record says of its start."""
        body = record.read_text().rpartition("checksum ")[0]
        body = re.sub(r"(?<=^started_unix_ms )\d+$", lambda at: str(int(at[0]) - step * 1000), body, flags=re.M)
        checksum = 0xCBF29CE484222325  # FNV-1a
        for byte in body.encode():
            checksum = (checksum ^ byte) * 0x100000001B3 % 2**64
        record.write_text(f"{body}checksum {checksum:016x}\n")

    def test_an_end_that_was_still_to_be_told_is_told_whole(self):
        """Its process has ended, what that started has not: the event waits, and the daemon dies."""
        script = "trap 'exit 7' TERM; (trap '' TERM; echo set; while :; do sleep 0.05; done) & while :; do sleep 0.01; done"
        with Daemon({"web": shell(script, graceful_shutdown={"timeout": 600})}) as daemon:
            daemon.wait_log("web", "set")
            pid, old = daemon.pid("web"), daemon.version()["pid"]
            record = daemon.dir / "s.state/web.record"
            stop = daemon.stream("stop", "web")
            wait_until(lambda: f"ended_pid {pid}\n" in record.read_text(), "its end to be on record")
            kill(old)
            wait_until(lambda: daemon.version()["pid"] != old, "the next daemon", timeout=20)
            for left in daemon.service_processes():
                kill(left)
            event = daemon.wait_event("web", "stopped")
            self.assertEqual((event["details"]["pid"], event["details"]["exit_code"]), (pid, 7))
            stop.close()

    def test_ready_said_while_there_is_no_daemon_is_heard(self):
        script = (
            "import os, socket, sys, time\n"
            "while not os.path.exists(sys.argv[1]): time.sleep(0.005)\n"
            "talk = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n"
            "talk.connect(os.environ['NOTIFY_SOCKET'])\n"
            "talk.send(b'READY=1')\n"
            "open(sys.argv[2], 'w').close()\n"
            "while True: time.sleep(60)\n"
        )
        with Daemon(started=False) as daemon:
            go, said = daemon.dir / "go", daemon.dir / "said"
            daemon.write_config(
                {"web": python(script, str(go), str(said), readiness={"type": "notify", "timeout": 600})}
            )
            daemon.start()
            daemon.wait_for("web", lambda row: row["state"] == "starting" and row["pid"], "its process")
            guardian, old = daemon.process.pid, daemon.version()["pid"]
            os.kill(guardian, signal.SIGSTOP)  # so that nobody is there for as long as it takes
            kill(old)
            go.touch()
            wait_until(said.exists, "it to say that it is ready")
            os.kill(guardian, signal.SIGCONT)
            wait_until(lambda: daemon.ctl("version", expect=None).returncode == DONE, "the next daemon", timeout=20)
            daemon.wait_state("web", "running")

    def test_last_words_between_two_daemons_are_kept(self):
        with Daemon(started=False) as daemon:
            go = daemon.dir / "go"
            daemon.write_config(
                {
                    "web": shell(
                        f"echo up; while [ ! -e {go} ]; do sleep 0.01; done; echo last words; exit 3",
                        restart_policy={"mode": "never"},
                    )
                }
            )
            daemon.start()
            daemon.wait_log("web", "up")
            pid = daemon.pid("web")
            guardian, old = daemon.process.pid, daemon.version()["pid"]
            os.kill(guardian, signal.SIGSTOP)
            kill(old)
            go.touch()
            wait_until(lambda: not is_alive(pid), "it to end")
            os.kill(guardian, signal.SIGCONT)
            daemon.wait_log("web", "last words")
            wait_until(lambda: daemon.ctl("version", expect=None).returncode == DONE, "the next daemon", timeout=20)
            self.assertEqual(daemon.wait_state("web", "failed")["exit_code"], 3)


class NamedMoments(Scenario):
    """kill -9 at each fail point, and what an error or a delay there does."""

    @staticmethod
    def names():
        listed = subprocess.run([SUPERVISORD, "--internal-fail-points"], capture_output=True, text=True, check=False)
        return listed.stdout.split()

    def setUp(self):
        if not self.names():
            raise unittest.SkipTest("this build has no fail points (the asan, tsan and debug presets have)")

    def provoke(self, world, rng):
        """Does all that a daemon can be in the midst of."""
        for i in range(4):
            world.try_ctl(rng.choice(["start", "restart"]), f"toggled{i}")
        world.try_ctl("stop", "toggled3")
        world.try_ctl("restart", "hooked")
        world.try_ctl("restart", "stubborn")
        world.config["services"]["extra"] = sleeper()
        world.config["services"].pop("extra" if rng.random() < 0.5 else "none", None)
        world.write_config()
        world.try_ctl("reload")
        world.try_ctl("upgrade")

    def test_a_kill_at_each(self):
        points = self.names()
        rng = random.Random(SEED)
        armory = None
        with World() as world:
            armory = world.dir / "fail"
            armory.mkdir()
            world.env["SUPERVISOR_FAIL_POINTS"] = str(armory)
            hook = {"command": "/bin/sh", "args": ["-c", "exit 0"], "timeout": 10}
            world.config["services"]["hooked"] = sleeper(
                hooks={name: hook for name in ("pre_start", "post_start", "pre_stop", "post_stop")},
                environment={"WATCHDOG_USEC": "36000000000"},  # so that it has a notify socket
            )
            world.config["services"]["stubborn"] = shell(
                "trap '' TERM; echo up; while :; do sleep 0.05; done", graceful_shutdown={"timeout": 0.2}
            )
            world.write_config()
            world.start()
            missed = []
            for name in points:
                print(f"{time.time():.3f} {name}", flush=True)
                (armory / name).write_text("kill")
                if name.startswith(("boot.", "report.")):  # those of a daemon that follows another
                    kill(wait_until(world.daemon_pid, "a daemon"))
                deadline = time.monotonic() + 30 * SCALE
                while (armory / name).exists() and time.monotonic() < deadline:
                    self.provoke(world, rng)
                if (armory / name).exists():
                    missed.append(name)
                    (armory / name).unlink()
                wait_until(lambda: world.try_ctl("version"), f"the daemon after {name}", timeout=60)
            self.assertEqual(missed, [], "fail points that nothing came by")
            world.config["services"].pop("extra", None)
            world.write_config()
            world.ctl("reload")
            for name in ("hooked", "stubborn"):
                world.ctl("stop", name)
                world.config["services"].pop(name)
            world.write_config()
            world.ctl("reload")
            self.settle_and_check(world)
            state = world.dir / "s.state"
            self.assertEqual([path.name for path in state.glob("*.tmp")], [], "half-written files of dead daemons")

    def settle_and_check(self, world):
        death = Death()
        death.settle(world)
        death.check(world)

    def test_a_delay_at_each_loses_nothing(self):
        rng = random.Random(SEED)
        with World() as world:
            armory = world.dir / "fail"
            armory.mkdir()
            world.env["SUPERVISOR_FAIL_POINTS"] = str(armory)
            world.start()
            for name in self.names():
                (armory / name).write_text("delay 200")
                world.try_ctl("restart", f"toggled{rng.randrange(4)}")
                kill(wait_until(world.daemon_pid, "a daemon"))
                wait_until(lambda: world.try_ctl("version"), f"the daemon after {name}", timeout=60)
            self.settle_and_check(world)

    def test_a_record_that_cannot_be_written_is_told_and_written_later(self):
        with World() as world:
            armory = world.dir / "fail"
            armory.mkdir()
            world.env["SUPERVISOR_FAIL_POINTS"] = str(armory)
            world.start()
            # What became of the one-off is on disk when what was written after it is.
            world.wait_state("once", "exited")
            world.ctl("restart", "toggled1")
            marker = world.pid_file("toggled1")
            wait_until(lambda: marker.exists() and marker.read_text() == f"{world.pid('toggled1')}\n", "its pid file")
            (armory / "file.written").write_text("error 28")
            world.ctl("restart", "toggled0")
            wait_until(lambda: not (armory / "file.written").exists(), "the error to be met")
            wait_until(lambda: "No space left on device" in world.daemon_log.read_text(), "it to be told")
            pid = world.pid("toggled0")
            old = world.daemon_pid()
            kill(old)
            wait_until(lambda: world.daemon_pid() not in (None, old), "the next daemon")
            self.assertEqual(world.wait_state("toggled0", "running")["pid"], pid)
            self.settle_and_check(world)


if __name__ == "__main__":
    main()
