"""Scenarios that need a machine a little different from this one: other pids, no cgroups, a disk that is full."""

import contextlib
import ctypes
import os
import pathlib
import signal
import subprocess
import sys
import tempfile

from .commands import run
from .daemon import Daemon
from .processes import is_alive, kill, process_stat
from .scenario import main
from .waiting import wait_until

IN_NAMESPACE = "SCENARIO_IN_PID_NAMESPACE"
CLONE_NEWNS, MS_RDONLY, MS_REMOUNT, MS_REC, MS_PRIVATE, MS_BIND, MNT_DETACH = 0x20000, 1, 0x20, 0x4000, 1 << 18, 0x1000, 2


def main_in_pid_namespace():
    """main(), of a scenario file whose scenarios want a pid namespace of their own. Without root they are skipped."""
    if os.geteuid() != 0:
        main()
    elif os.environ.get(IN_NAMESPACE):
        sys.exit(_as_init(main))
    else:
        command = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", sys.executable, *sys.argv]
        sys.exit(subprocess.run(command, env={**os.environ, IN_NAMESPACE: "1"}, check=False).returncode)


def _as_init(work):
    """The namespace's first process: reaps what others leave to it while a child of it does the work."""
    worker = os.fork()
    if worker == 0:
        work()
        os._exit(0)
    while True:
        pid, status = os.wait()
        if pid == worker:
            return os.waitstatus_to_exitcode(status)


def _children(parent):
    """The pids of its children, as this namespace has them, zombies included."""
    pids = [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]
    return [pid for pid in pids if (stat := process_stat(pid)) and int(stat[1]) == parent]


class Container(Daemon):
    """A daemon in a pid namespace of its own, as in a container. Needs root.

    shell    the namespace's PID 1 is a shell that waits for supervisord, else it is supervisord itself
    init     the pid of that PID 1 outside
    """

    def __init__(self, services=None, *, shell=False, **options):
        super().__init__(services, started=False, **options)
        self._shell = shell
        self.init = None

    def command(self):
        """What starts it, for subprocess."""
        start = ["/bin/sh", "-c", '"$@"; exit $?', "init"] if self._shell else []
        unshare = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
        return [*unshare, *start, self.program, "-c", self.config_file, *self.arguments]

    def launch(self):
        with open(self.stderr_file, "ab") as log:
            self.process = subprocess.Popen(
                self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.env
            )

    def start(self):
        self.launch()
        self.wait_ready()
        self.init = _children(self.process.pid)[0]
        return self

    def kill(self):
        """Ends the container and all that is in it at once."""
        processes = self.processes()
        kill(self.process.pid)
        self.process.wait()
        self.process = None
        wait_until(lambda: not any(map(is_alive, processes)), "the container to be gone")

    def stop(self):
        """Not with --stop, which would take the pid file's pid for one of this namespace."""
        if self._shell:
            self.ctl("shutdown")
        else:
            kill(self.init, signal.SIGTERM)
        self.check_gone()

    def run_beside(self, script):
        """What `docker exec` does: a stranger in the container, whose parent is outside."""
        argv = ["nsenter", "--target", str(self.init), "--pid", "--mount", "/bin/sh", "-c", script]
        return run(argv, expect=0, env=self.client_env)

    def zombies(self):
        return [pid for pid in _children(self.init) if process_stat(pid)[0] == "Z"]


def _check(result, what):
    if result != 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")


def without_cgroups():
    """A Daemon's `prepare`: the daemon finds no cgroup v2 and goes by session and descent. Needs root."""
    libc = ctypes.CDLL(None, use_errno=True)
    _check(libc.unshare(CLONE_NEWNS), "unshare")
    _check(libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None), "mount /")
    for line in pathlib.Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        if " - cgroup2 " in line:
            _check(libc.umount2(line.split()[4].encode(), MNT_DETACH), "umount")


@contextlib.contextmanager
def hung_file_system(directory):
    """A Daemon's `prepare`: to it alone, `directory` is a file system that answers nothing while the block lasts."""
    fuse = os.open("/dev/fuse", os.O_RDWR)  # while it is open nobody is told that nobody answers

    def prepare():
        libc = ctypes.CDLL(None, use_errno=True)
        options = f"fd={fuse},rootmode=40000,user_id=0,group_id=0".encode()
        _check(libc.unshare(CLONE_NEWNS), "unshare")
        _check(libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None), "mount /")
        _check(libc.mount(b"hung", str(directory).encode(), b"fuse", 0, options), f"mount {directory}")

    try:
        yield prepare
    finally:
        os.close(fuse)


class _Disk:
    def __init__(self, libc, target):
        self._libc = libc
        self._target = target

    def remount(self, read_only):
        """Makes it read-only, as the kernel does after an error of the disk, or gives it back."""
        flags = MS_REMOUNT | (MS_RDONLY if read_only else 0)
        # EBUSY: a process that was killed is still on its way out of its files.
        wait_until(lambda: self._libc.mount(b"tmpfs", self._target, b"tmpfs", flags, None) == 0, "the remount")


def with_name_server(address):
    """A Daemon's `prepare`: names are asked of that address alone, and patiently. Needs root."""

    file = tempfile.NamedTemporaryFile()  # as long as `prepare` is there
    file.write(f"nameserver {address}\noptions timeout:30 attempts:5\n".encode())
    file.flush()
    os.chmod(file.name, 0o644)

    def prepare():
        libc = ctypes.CDLL(None, use_errno=True)
        _check(libc.unshare(CLONE_NEWNS), "unshare")
        _check(libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None), "mount /")
        target = os.path.realpath("/etc/resolv.conf").encode()
        _check(libc.mount(file.name.encode(), target, None, MS_BIND, None), "mount resolv.conf")

    return prepare


@contextlib.contextmanager
def small_disk(path, size):
    """A file system of that many bytes at the path, which is made; for as long as the block runs. Needs root."""
    libc = ctypes.CDLL(None, use_errno=True)
    path.mkdir(exist_ok=True)
    target = str(path).encode()
    _check(libc.mount(b"tmpfs", target, b"tmpfs", 0, f"size={size},mode=0755".encode()), f"mount {path}")
    try:
        yield _Disk(libc, target)
    finally:
        _check(libc.umount2(target, MNT_DETACH), f"umount {path}")


def private_read_only(path, fill):
    """A Daemon's `prepare`: to it alone, `path` is a file system that fill() filled, and that is read-only since."""

    def prepare():
        libc = ctypes.CDLL(None, use_errno=True)
        target = str(path).encode()
        _check(libc.unshare(CLONE_NEWNS), "unshare")
        _check(libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None), "mount /")
        _check(libc.mount(b"tmpfs", target, b"tmpfs", 0, b"mode=0755"), f"mount {path}")
        fill()
        _check(libc.mount(b"tmpfs", target, b"tmpfs", MS_REMOUNT | MS_RDONLY, None), f"remount {path}")

    return prepare


@contextlib.contextmanager
def read_only(path):
    """Covers the directory with an empty one that nobody can write to, for as long as the block runs. Needs root."""
    libc = ctypes.CDLL(None, use_errno=True)
    target = str(path).encode()
    _check(libc.mount(b"tmpfs", target, b"tmpfs", MS_RDONLY, b"mode=0755"), f"mount {path}")
    try:
        yield
    finally:
        _check(libc.umount2(target, MNT_DETACH), f"umount {path}")
