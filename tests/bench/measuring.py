"""What the benches measure with."""

import contextlib
import os
import pathlib
import sys
import time

# State where a machine has it, in memory (/run is a tmpfs); but for the log bench, which is about the disk.
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else "/tmp"
DISK = "/tmp"
os.environ["SCENARIO_DIR"] = MEMORY

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "scenarios"))
import harness  # noqa: E402

Daemon, wait_until = harness.Daemon, harness.wait_until
SERVICE = str(harness.BIN_DIR.parent / "tests" / "bench_service")
MS = 1e-6  # milliseconds in a nanosecond


def call_ns(argv, env):
    """Wall time of a whole process, from before its spawn until it is reaped."""
    null = [(os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0)]
    began = time.monotonic_ns()
    pid = os.posix_spawn(argv[0], argv, env, file_actions=null)
    _, status = os.waitpid(pid, 0)
    took = time.monotonic_ns() - began
    if os.waitstatus_to_exitcode(status) != 0:
        raise RuntimeError(f"{argv}: {status}")
    return took


def cpu_ns(pids):
    """Processor time of these processes, with that of their threads that have ended: by each one's own clock."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            total += time.clock_gettime_ns(cpu_clock_of(pid))
    return total


def cpu_clock_of(pid):
    """As clock_getcpuclockid(3) makes it, which Python has for threads alone (Linux's MAKE_PROCESS_CPUCLOCK)."""
    per_process_sched = 2
    return (~pid << 3) | per_process_sched


def pss_mib(pids):
    total = 0
    for pid in pids:
        for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return total / 1024


def settle(daemon):
    """Until the daemon does nothing more of what the start left it to do."""
    last = -1
    while (now := cpu_ns(daemon.supervisors())) - last > 200_000:
        last = now
        time.sleep(0.2)


def come_to_rest(daemon):
    """Until it has also given back what start-up alone needed, which it does a second after that."""
    settle(daemon)
    time.sleep(2)
    settle(daemon)


@contextlib.contextmanager
def on_disk():
    os.environ["SCENARIO_DIR"] = DISK
    try:
        yield
    finally:
        os.environ["SCENARIO_DIR"] = MEMORY
