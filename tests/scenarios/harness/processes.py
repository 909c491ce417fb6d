"""Processes as /proc shows them."""

import contextlib
import os
import pathlib
import random
import shutil
import signal
import socket

from .waiting import eventually, wait_until

EPHEMERAL = 32768  # from here on the kernel gives ports to whoever connects


def read_proc(pid, name):
    """The bytes of /proc/PID/name; empty where the process is gone or not ours to look at."""
    try:
        return pathlib.Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


def environment(pid):
    """The environment as a dict. A process that has just become its program has none for a moment."""
    raw = wait_until(lambda: read_proc(pid, "environ"), f"the environment of {pid}")
    pairs = (entry.partition(b"=") for entry in raw.split(b"\0") if entry)
    return {key.decode(): value.decode() for key, _, value in pairs}


def process_status(pid):
    """/proc/PID/status as a dict of strings."""
    lines = read_proc(pid, "status").decode(errors="replace").splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def process_stat(pid):
    """The fields of /proc/PID/stat, from the state (field 3) on: index 0 is the state."""
    return read_proc(pid, "stat").rpartition(b")")[2].decode().split()


def is_alive(pid):
    stat = process_stat(pid)
    return bool(stat) and stat[0] not in "ZX"


def children_of(pids):
    """The pids of all children of these."""
    return [int(child) for pid in pids for child in read_proc(pid, f"task/{pid}/children").split()]


def start_ticks(pid):
    return int(process_stat(pid)[19])


def cpu_seconds(pids):
    """User and system time of the processes, without that of their children."""
    total = 0
    for pid in pids:
        stat = process_stat(pid)
        if stat:
            total += int(stat[11]) + int(stat[12])
    return total / os.sysconf("SC_CLK_TCK")


def processes_with(needle):
    """The pids of all processes, threads aside, whose environment holds the bytes `needle`. Zombies have none."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) != os.getpid() and needle in read_proc(entry, "environ").split(b"\0"):
            found.append(int(entry))
    return found


def cgroup_of(pid):
    """The v2 cgroup of a process, as a directory; None where no such hierarchy is mounted."""
    with open(f"/proc/{pid}/cgroup", encoding="utf-8") as file:
        path = next((line.strip()[3:] for line in file if line.startswith("0::")), None)
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        mount = next((line.split()[4] for line in file if " - cgroup2 " in line), None)
    return pathlib.Path(mount + path.rstrip("/")) if path and mount else None


def describe(pid):
    return f"{pid} ({read_proc(pid, 'cmdline').replace(bytes(1), b' ').decode(errors='replace').strip()})"


def kill(pid, number=signal.SIGKILL):
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def remove_tree(path):
    """rm -rf of what a daemon fills again meanwhile."""
    eventually(lambda: shutil.rmtree(path))


def free_port():
    """A TCP port of 127.0.0.1 on which nobody listens at the moment, and which is given to nobody who asks for any."""

    def bound():
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", random.randrange(EPHEMERAL // 2, EPHEMERAL)))
            return probe.getsockname()[1]

    return wait_until(bound, "a free port")
