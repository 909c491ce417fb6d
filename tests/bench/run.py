#!/usr/bin/env python3
"""Measures supervisord and supervisorctl, and beside them, in the same run, what the machine does without them.

    cmake --preset release && cmake --build --preset release
    python3 tests/bench/run.py                        # all of it, some six minutes
    python3 tests/bench/run.py --only status kill     # some of it: see BENCHES
    python3 tests/bench/run.py --rounds 50 --json     # more rounds; one JSON object instead of the table
    python3 tests/bench/run.py --smoke                # one small round: does the bench still work?

SUPERVISOR_BIN_DIR names the directory of the programs (default: build/release/bin); bench_service is looked for in
../tests beside it. Run it on a machine that does nothing else, with a release build: sanitizers and debug builds say
nothing. Numbers are medians, with the quickest and the slowest round beside them; a goal is judged by the median. They
can be compared within one run only, since machines are noisy: hence the ratios to

    true     a spawn of /bin/true, for calls of supervisorctl
    bare     a loop of posix_spawn in C, its children's output in files, without any supervisor
    sh       a shell that starts all in the background likewise
    splice   a loop of splice(2) from a pipe into files

CPU time is that of guardian and daemon together, by the clocks of their processes (clock_getcpuclockid(3)); memory is
their PSS from smaps_rollup, with that of the keeper, which sleeps.
"""

import argparse
import contextlib
import json
import os
import pathlib
import platform
import select
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

import log_benches
from measuring import (
    MEMORY,
    MS,
    SERVICE,
    Daemon,
    call_ns,
    come_to_rest,
    cpu_ns,
    harness,
    pss_mib,
    settle,
    wait_until,
)

import checks  # isort: skip: measuring says where harness is
import daemon_death  # isort: skip


class Table:
    """What was measured: one row a quantity, printed as it comes."""

    def __init__(self, as_json, judge):
        self.rows = []
        self._as_json = as_json
        self._judge = judge

    def add(self, name, unit, samples, goal=None, at_least=False, base=None):
        """`base` is (name, samples) of what to compare with."""
        median = statistics.median(samples)
        row = {
            "name": name,
            "unit": unit,
            "median": median,
            "min": min(samples),
            "max": max(samples),
            "rounds": len(samples),
        }
        if goal is not None and self._judge:
            row.update(goal=goal, met=median >= goal if at_least else median <= goal)
        if base is not None:
            row.update(base=base[0], base_median=statistics.median(base[1]), ratio=median / statistics.median(base[1]))
        self.rows.append(row)
        if not self._as_json:
            self._print(row, at_least)

    @staticmethod
    def _print(row, at_least):
        text = f"{row['name']:<52}{row['median']:>10.3f} {row['unit']:<5} [{row['min']:.3f} .. {row['max']:.3f}]"
        if "ratio" in row:
            text += f"  {row['ratio']:.2f} x {row['base']} ({row['base_median']:.3f})"
        if "goal" in row:
            text += f"  goal {'>=' if at_least else '<='} {row['goal']:g}: {'met' if row['met'] else 'MISSED'}"
        print(text, flush=True)

    def finish(self):
        if self._as_json:
            print(json.dumps({"machine": platform.platform(), "cpus": os.cpu_count(), "rows": self.rows}, indent=2))


# ------------------------------------------------------------------------------------------------------- measuring


class Records:
    """The file into which every bench_service writes its first instant."""

    def __init__(self, path):
        self.path = path
        path.touch()

    def read(self):
        """(pid, nanoseconds) of every start so far."""
        text = self.path.read_text()
        return [tuple(map(int, line.split())) for line in text[: text.rfind("\n") + 1].splitlines()]

    def wait(self, count, timeout=60):
        deadline = time.monotonic() + timeout
        while True:
            if os.stat(self.path).st_size >= 10 * count:
                records = self.read()
                if len(records) >= count:
                    return records
            if time.monotonic() > deadline:
                raise RuntimeError(f"{len(self.read())} starts of {count} within {timeout} s")
            time.sleep(0.0002)


def await_end(process, timeout=60):
    """Popen.wait with a timeout sleeps up to 50 ms at a time: a pidfd tells at once."""
    fd = os.pidfd_open(process.pid)
    try:
        if not select.select([fd], [], [], timeout)[0]:
            raise RuntimeError(f"pid {process.pid} does not end")
    finally:
        os.close(fd)
    process.wait()


@contextlib.contextmanager
def running(count, started=True, metrics_interval=10, **changes):
    """A daemon with so many services that all run."""
    with Daemon(
        started=False, global_={"log_level": "info"}, extra={"monitoring": {"metrics_interval": metrics_interval}}
    ) as daemon:
        records = Records(daemon.dir / "records")
        daemon.write_config(
            {
                f"s{i:03}": harness.merge(
                    {
                        "command": SERVICE,
                        "args": [str(records.path)],
                        "restart_policy": {"delay": 0, "jitter": 0, "max_attempts": 0},
                    },
                    changes,
                )
                for i in range(count)
            }
        )
        if started:
            daemon.start()
            if count and changes.get("enabled", True):
                records.wait(count)
                wait_until(
                    lambda: all(row["state"] == "running" for row in daemon.status().values()), "all to run", timeout=60
                )
        yield daemon, records


# ---------------------------------------------------------------------------------------------------------- benches


def bench_status(table, options):
    for count, goal in ((10, 4), (options.many, 6)):
        with running(count) as (daemon, _):
            settle(daemon)
            ctl = [harness.SUPERVISORCTL, "--socket", str(daemon.socket), "status"]
            calls, bare = [], []
            for _ in range(options.rounds * 3):
                calls.append(call_ns(ctl, daemon.env) * MS)
                bare.append(call_ns(["/bin/true"], daemon.env) * MS)
            table.add(f"supervisorctl status, {count} services", "ms", calls, goal, base=("true", bare))


def bench_start(table, options):
    with running(10, enabled=False) as (daemon, records):
        first, returned = [], []
        for i in range(options.rounds):
            before = len(records.read())
            began = time.monotonic_ns()
            call_ns([harness.SUPERVISORCTL, "--socket", str(daemon.socket), "start", "s000"], daemon.env)
            returned.append((time.monotonic_ns() - began) * MS)
            first.append((records.wait(before + 1)[-1][1] - began) * MS)
            daemon.ctl("stop", "s000")
        table.add("supervisorctl start to the first instruction", "ms", first, 4)
        table.add("supervisorctl start returns", "ms", returned)


def bench_kill(table, options):
    with running(10) as (daemon, records):
        times = []
        for _ in range(options.rounds * 2):
            pid = daemon.pid("s000")
            before = len(records.read())
            began = time.monotonic_ns()
            os.kill(pid, signal.SIGKILL)
            times.append((records.wait(before + 1)[-1][1] - began) * MS)
            daemon.wait_for("s000", lambda row: row["state"] == "running" and row["pid"] != pid, "the next instance")
        table.add("kill -9 to the new instance, delay 0", "ms", times, 1.5)
    count = min(200, options.many)
    with running(count) as (daemon, records):
        times = []
        for _ in range(max(1, options.rounds // 4)):
            pids = [row["pid"] for row in daemon.status().values()]
            before = len(records.read())
            began = time.monotonic_ns()
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
            times.append((max(ns for _, ns in records.wait(before + count)) - began) * MS)
            wait_until(
                lambda: all(row["state"] == "running" and row["pid"] not in pids for row in daemon.status().values()),
                "all to be back",
            )
        table.add(f"{count} killed at once, all back", "ms", times, 120)


def boot_bare(count, kind):
    """Boot and shutdown in ms of so many services without a supervisor."""
    directory = pathlib.Path(tempfile.mkdtemp(prefix="bench-", dir=MEMORY))
    try:
        records = Records(directory / "records")
        if kind == "bare":
            argv = [SERVICE, "spawn", str(count), str(directory), str(records.path)]
        else:
            lines = "\n".join(
                f"{SERVICE} {records.path} >>{directory}/{i}.log 2>&1 & p=\"$p $!\"" for i in range(count)
            )
            argv = ["/bin/sh", "-c", f"trap 'kill $p; wait; exit 0' TERM\n{lines}\nwait"]
        began = time.monotonic_ns()
        process = subprocess.Popen(argv)
        boot = max(ns for _, ns in records.wait(count)) - began
        began = time.monotonic_ns()
        process.send_signal(signal.SIGTERM)
        await_end(process)
        return boot * MS, (time.monotonic_ns() - began) * MS
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def bench_boot(table, options):
    for count in dict.fromkeys((min(100, options.many), options.many)):
        boots, stops = {"own": [], "bare": [], "sh": []}, {"own": [], "bare": [], "sh": []}
        for _ in range(max(1, options.rounds // 4)):
            for kind in ("bare", "sh"):
                boot, stop = boot_bare(count, kind)
                boots[kind].append(boot)
                stops[kind].append(stop)
            with running(count, started=False) as (daemon, records):
                with open(daemon.stderr_file, "ab") as log:
                    began = time.monotonic_ns()
                    daemon.process = subprocess.Popen(
                        [harness.SUPERVISORD, "-c", str(daemon.config_file)],
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                        env=daemon.env,
                    )
                boots["own"].append((max(ns for _, ns in records.wait(count)) - began) * MS)
                daemon.wait_ready()
                wait_until(
                    lambda: all(row["state"] == "running" for row in daemon.status().values()), "all to run", timeout=60
                )
                settle(daemon)
                began = time.monotonic_ns()
                daemon.process.send_signal(signal.SIGTERM)
                await_end(daemon.process)
                stops["own"].append((time.monotonic_ns() - began) * MS)
                daemon.check_gone()
        for kind in ("bare", "sh"):
            goal = 1.25 * statistics.median(boots["bare"]) if kind == "bare" and count == options.many else None
            table.add(f"boot, {count} services", "ms", boots["own"], goal, base=(kind, boots[kind]))
        table.add(
            f"shutdown, {count} services",
            "ms",
            stops["own"],
            60 if count == options.many else None,
            base=("bare", stops["bare"]),
        )


def bench_idle(table, options):
    window = options.window
    for name, changes, goal in (
        ("", {}, 10),
        (", a process check each 10 s", {"health_check": {"type": "process", "interval": 10}}, None),
    ):
        with running(min(100, options.many), **changes) as (daemon, _):
            come_to_rest(daemon)
            pids = daemon.supervisors()
            before = cpu_ns(pids)
            time.sleep(window)  # what is measured is the span of time itself
            table.add(
                f"idle CPU in {window:g} s, {min(100, options.many)} services{name}",
                "ms",
                [(cpu_ns(pids) - before) * MS],
                goal,
            )


def bench_memory(table, options):
    for count, goal in ((10, 10), (min(100, options.many), 12), (options.many, 20)):
        with running(count) as (daemon, _):
            come_to_rest(daemon)
            table.add(f"PSS of guardian, daemon and keeper, {count} services", "MiB", [pss_mib(daemon.supervisors() + daemon.keepers())], goal)


class Tools:
    """What the benches of other files need of this one."""

    memory = MEMORY
    cpu_ns = staticmethod(cpu_ns)
    running = staticmethod(running)
    settle = staticmethod(settle)


BENCHES = {
    "status": bench_status,
    "start": bench_start,
    "kill": bench_kill,
    "boot": bench_boot,
    "idle": bench_idle,
    "memory": bench_memory,
    **log_benches.LOG_BENCHES,
    "checks": lambda table, options: checks.bench_checks(table, options, Tools),
    "hanging": lambda table, options: checks.bench_hanging(table, options, Tools),
    "upgrade": daemon_death.bench_upgrade,
    "crash": lambda table, options: daemon_death.bench_crash(table, options, Tools),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20, help="rounds of the quick measurements (default 20)")
    parser.add_argument(
        "--only", nargs="+", choices=BENCHES, default=list(BENCHES), metavar="BENCH", help=" ".join(BENCHES)
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    parser.add_argument("--smoke", action="store_true", help="one small round of each")
    options = parser.parse_args()
    options.many, options.window, options.log_megabytes = (20, 0.5, 32) if options.smoke else (500, 20, 1024)
    options.followers = 5 if options.smoke else 200
    if options.smoke:
        options.rounds = 1
    for program in (harness.SUPERVISORD, harness.SUPERVISORCTL, SERVICE):
        if not os.access(program, os.X_OK):
            sys.exit(f"{program} is not there: build it, or set SUPERVISOR_BIN_DIR")
    table = Table(options.json, judge=not options.smoke)
    for name in options.only:
        BENCHES[name](table, options)
    table.finish()


if __name__ == "__main__":
    main()
