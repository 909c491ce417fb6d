"""How long the control interface is away when the daemon is replaced or killed. Run by run.py."""

import itertools
import os
import shutil
import signal
import threading
import time

import harness
from harness import Daemon, rpc_call, sleeper, shell, wait_until

MS = 1e-6  # milliseconds in a nanosecond
PROVEN_S = 10.5  # a daemon that lived so long is started again at once; see daemon/guardian


class Probe(threading.Thread):
    """Connects and calls, again and again: `answered` holds when each call was."""

    def __init__(self, path):
        super().__init__(daemon=True)
        self._path = path
        self._ended = threading.Event()
        self.answered = []

    def run(self):
        while not self._ended.is_set():
            if rpc_call.call(self._path, "Version") is not None:
                self.answered.append(time.monotonic_ns())
            time.sleep(0.001)

    def away_ms(self):
        """Ends it. The longest time in which no call was answered, from the last answer to the next."""
        self._ended.set()
        self.join()
        return max(later - earlier for earlier, later in zip(self.answered, self.answered[1:])) * MS


def bench_upgrade(table, options):
    rounds = 50 if options.many > 20 else 2
    services = {f"idle{i}": sleeper() for i in range(12)}
    services.update({f"lines{i}": shell("while :; do echo a line of some length; sleep 0.01; done") for i in range(6)})
    crashing = shell("sleep 0.1; exit 1", restart_policy={"delay": 0.05, "max_attempts": 0})
    services.update({f"crashing{i}": crashing for i in range(2)})
    with Daemon(services, started=False, global_={"log_level": "info"}) as daemon:
        programs = [str(daemon.dir / name) for name in ("a", "b")]
        for program in programs:
            shutil.copy2(harness.SUPERVISORD, program)
        daemon.program = str(daemon.dir / "supervisord")
        os.link(programs[0], daemon.program)
        daemon.start()
        steady = [name for name in services if not name.startswith("crashing")]
        for name in steady:
            daemon.wait_state(name, "running")
        before = {name: daemon.pid(name) for name in steady}
        away, took = [], []
        for program in itertools.islice(itertools.cycle(reversed(programs)), rounds):
            fresh = str(daemon.dir / "fresh")
            os.link(program, fresh)
            os.replace(fresh, daemon.program)
            probe = Probe(daemon.socket)
            probe.start()
            wait_until(lambda probe=probe: probe.answered, "the first answer")
            began = time.monotonic_ns()
            daemon.ctl("upgrade")
            took.append((time.monotonic_ns() - began) * MS)
            last = len(probe.answered)
            wait_until(lambda probe=probe, last=last: len(probe.answered) > last, "an answer of the next daemon")
            away.append(probe.away_ms())
        after = {name: daemon.pid(name) for name in steady}
        if after != before:
            raise RuntimeError(f"pids changed over {rounds} upgrades: {before} {after}")
    table.add(f"upgrade, 20 services, {rounds} times: control away", "ms", away, 200)
    table.add("supervisorctl upgrade returns", "ms", took)


def bench_crash(table, options, tools):
    times = []
    with tools.running(options.many) as (daemon, _):
        pids = {name: row["pid"] for name, row in daemon.status().items()}
        for _ in range(5 if options.many > 20 else 1):
            victim = daemon.version()["pid"]
            if options.many > 20:
                time.sleep(PROVEN_S)  # what is measured is the crash of a daemon that served for a while
            else:
                tools.settle(daemon)
            pid_fd = os.pidfd_open(victim)
            began = time.monotonic_ns()
            signal.pidfd_send_signal(pid_fd, signal.SIGKILL)
            rpc_call.wait_for_end(pid_fd)  # from here on an answer is the next daemon's
            answer, answered = rpc_call.wait_for_answer(daemon.socket, "Status")
            times.append((answered - began) * MS)
            shown = sum(f"s{i:03}".encode() in answer for i in range(options.many))
            if shown != options.many or {name: row["pid"] for name, row in daemon.status().items()} != pids:
                raise RuntimeError(f"{shown} of {options.many} services shown, or their pids changed")
    table.add(f"kill -9 of the daemon to its status, {options.many} services", "ms", times, 300)
