"""The benches of logs: capture, reading back, following. See run.py, which runs them."""

import contextlib
import os
import pathlib
import shutil
import statistics
import struct
import subprocess
import tempfile
import time
import zlib

from measuring import (
    DISK,
    MS,
    SERVICE,
    Daemon,
    call_ns,
    cpu_ns,
    harness,
    on_disk,
    pss_mib,
    settle,
    wait_until,
)

RECORD = struct.Struct("<4sIqQI")  # of an index of times: daemon/logs/log_index.h


def bare_mb_s(megabytes):
    """What a loop of splice(2) from a pipe to files reaches on the disk, in MB/s."""
    directory = pathlib.Path(tempfile.mkdtemp(prefix="bench-", dir=DISK))
    try:
        argv = [SERVICE, "splice", str(megabytes), str(directory / "out")]
        return megabytes / (call_ns(argv, dict(os.environ)) * 1e-9)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def writer(megabytes):
    return {
        "command": SERVICE,
        "args": ["write", str(megabytes)],
        "restart_policy": {"mode": "never"},
        "enabled": False,
        "logs": {"max_size_mb": 50, "max_files": 2},
    }


def capture(daemon, megabytes, services):
    """MB/s, and the supervisor's CPU seconds for a GiB, of so many services that write so much in sum."""
    pids = daemon.supervisors()
    settle(daemon)
    used = cpu_ns(pids)
    began = time.monotonic_ns()
    daemon.ctl("start", "--no-wait", "all")
    wait_until(lambda: all(daemon.status(s)["state"] == "exited" for s in services), "all to be written", timeout=300)
    took = (time.monotonic_ns() - began) * 1e-9
    return megabytes / took, (cpu_ns(pids) - used) * 1e-9 * 1024 / megabytes


def bench_log(table, options):
    megabytes = options.log_megabytes
    for count in (1, 10):
        own, cpu, bare = [], [], []
        for _ in range(max(1, options.rounds // 5)):
            bare.append(bare_mb_s(megabytes))
            services = {f"log{i}": writer(megabytes // count) for i in range(count)}
            with on_disk(), Daemon(services, global_={"log_level": "info"}) as daemon:
                mb_s, seconds = capture(daemon, megabytes // count * count, services)
            own.append(mb_s)
            cpu.append(seconds)
        what = f"log, {megabytes} MB with rotation at 50 MB, {count} service{'s' if count > 1 else ''}"
        table.add(what, "MB/s", own, 0.9 * statistics.median(bare), at_least=True, base=("splice", bare))
        table.add(f"CPU of the supervisor for a GiB, {count} service{'s' if count > 1 else ''}", "s", cpu)


# ------------------------------------------------------------------------------------------------------- reading back


def make_older(index, seconds):
    """Moves all that the index knows so many seconds into the past."""
    data = bytearray(index.read_bytes())
    for at in range(0, len(data), RECORD.size + 4):
        magic, span, first, offset, tag = RECORD.unpack_from(data, at)
        RECORD.pack_into(data, at, magic, span, first - int(seconds * 1000), offset, tag)
        struct.pack_into("<I", data, at + RECORD.size, zlib.crc32(data[at : at + RECORD.size]))
    index.write_bytes(data)


def bench_read(table, options):
    """A log of a GB in one file, an hour old but for its last lines."""
    service = {**writer(options.log_megabytes), "logs": {"max_size_mb": 0}}
    script = f"{SERVICE} write {options.log_megabytes}; echo; trap 'seq 1 20' USR1; while :; do sleep 0.01; done"
    poked = {**service, "command": "/bin/sh", "args": ["-c", script]}
    with Daemon({"log": poked}, global_={"log_level": "info"}) as daemon:
        daemon.ctl("start", "log")
        size = options.log_megabytes << 20
        wait_until(lambda: daemon.log_file("log").stat().st_size > size, "the log", timeout=120)
        written = daemon.log_file("log").stat().st_mtime
        wait_until(lambda: time.time() > written + 0.3, "a time of their own for the last lines")
        make_older(daemon.log_dir / ".log.log.index", 3600)
        old = time.time() - 3600
        os.utime(daemon.log_file("log"), (old, old))
        daemon.ctl("signal", "USR1", "log")
        wait_until(lambda: daemon.log_file("log").stat().st_size >= size + 52, "the last lines")
        ctl = [harness.SUPERVISORCTL, "--socket", str(daemon.socket), "logs", "log"]
        wanted = "".join(f"{i}\n" for i in range(1, 21))
        for what, arguments, lines, goal in (
            ("-n 10", ["-n", "10"], 10, 20),
            ("--since 5m", ["--since", "5m"], 20, 50),
        ):
            shown = daemon.ctl("logs", "log", *arguments).stdout
            if shown != "".join(wanted.splitlines(keepends=True)[-lines:]):
                raise RuntimeError(f"logs {what}: {shown[:1000]!r}")
            times = [call_ns([*ctl, *arguments], daemon.env) * MS for _ in range(options.rounds * 2)]
            table.add(f"logs {what} of {options.log_megabytes} MB", "ms", times, goal)


# ---------------------------------------------------------------------------------------------------------- following


@contextlib.contextmanager
def followers(daemon, service, count):
    """So many `logs -f`, their output thrown away."""
    argv = [harness.SUPERVISORCTL, "--socket", str(daemon.socket), "logs", "-f", "-n", "0", service]
    processes = [
        subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=daemon.env)
        for _ in range(count)
    ]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.wait()


def latencies(daemon, count):
    """Milliseconds from a line's writing until `logs -f` has printed it."""
    argv = [harness.SUPERVISORCTL, "--socket", str(daemon.socket), "logs", "-f", "-n", "0", "stamp"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, env=daemon.env, bufsize=0) as process:
        times, rest = [], b""
        settled = time.monotonic() + 0.3  # its own start is not what is measured
        while len(times) < count:
            data = os.read(process.stdout.fileno(), 1 << 16)
            now = time.monotonic_ns()
            *lines, rest = (rest + data).split(b"\n")
            if time.monotonic() > settled:
                times += [(now - int(line.split()[1])) * MS for line in lines]
        process.kill()
    return times


def bench_follow(table, options):
    services = {
        "stamp": {"command": SERVICE, "args": ["stamp", "5", "1000000"]},
        "flood": {
            "command": SERVICE,
            "args": ["flood"],
            "enabled": False,
            "logs": {"max_size_mb": 50, "max_files": 2},
        },
    }
    count = options.rounds * 20
    with Daemon(services, global_={"log_level": "info"}) as daemon:
        daemon.wait_state("stamp", "running")
        table.add("a line's way to logs -f", "ms", latencies(daemon, count), 2)
        daemon.ctl("start", "flood")
        wait_until((daemon.log_dir / "flood.log.1").exists, "the flood")
        table.add("a line's way to logs -f beside a flood", "ms", latencies(daemon, count), 2)
        daemon.ctl("stop", "all")


def bench_followers(table, options):
    count, megabytes = options.followers, options.log_megabytes
    alone, followed, memory = [], [], []
    for _ in range(max(1, options.rounds // 5)):
        for target, many in ((alone, 0), (followed, count)):
            with on_disk(), Daemon({"log": writer(megabytes)}, global_={"log_level": "info"}) as daemon:
                with followers(daemon, "log", many):
                    settle(daemon)
                    target.append(capture(daemon, megabytes, ["log"])[0])
                    if many:
                        memory.append(pss_mib(daemon.supervisors() + daemon.keepers()))
    table.add(
        f"log, {megabytes} MB with {count} followers",
        "MB/s",
        followed,
        0.9 * statistics.median(alone),
        at_least=True,
        base=("no follower", alone),
    )
    table.add(f"PSS of guardian, daemon and keeper with {count} followers", "MiB", memory, 60)


LOG_BENCHES = {
    "log": bench_log,
    "read": bench_read,
    "follow": bench_follow,
    "followers": bench_followers,
}
