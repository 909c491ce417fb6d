"""A workspace with a configuration, and a daemon that runs in it."""

import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import unittest
import uuid

from .commands import Stream, run
from .processes import children_of, describe, is_alive, kill, processes_with, read_proc, start_ticks
from .services import merge
from .waiting import POLL_S, SCALE, ScenarioError, wait_until

ROOT = pathlib.Path(__file__).resolve().parents[3]
BIN_DIR = pathlib.Path(os.environ.get("SUPERVISOR_BIN_DIR") or ROOT / "build/release/bin").resolve()
SUPERVISORD = str(BIN_DIR / "supervisord")
SUPERVISORCTL = str(BIN_DIR / "supervisorctl")
MARK = "SCENARIO_MARK"
SANITIZER_REPORT = re.compile(r"ERROR: \w+Sanitizer|WARNING: \w+Sanitizer|runtime error:|SUMMARY: \w+Sanitizer")

# Exit codes of supervisorctl.
DONE, FAILED, USAGE, NOT_RUNNING, NO_SUCH_SERVICE, UNREACHABLE, NOT_PERMITTED, TIMED_OUT = range(8)


class Workspace:
    """A temporary directory with a configuration in it, and the programs run on that; no daemon yet."""

    def __init__(self, services=None, global_=None, extra=None, env=None):
        self.program = SUPERVISORD
        self.mark = f"{MARK}={uuid.uuid4().hex}"
        # Short: a socket's path ends at 107 bytes.
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="sv-", dir=os.environ.get("SCENARIO_DIR") or "/tmp"))
        self.dir.chmod(0o755)
        self.log_dir = self.dir / "log"
        self.pid_dir = self.dir / "pid"
        self.socket = self.dir / "s.sock"
        self.database = self.dir / "supervisor.db"
        self.daemon_log = self.dir / "supervisord.log"
        self.config_file = self.dir / "supervisor_config.json"
        self.env = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("SUPERVISOR_", "SCENARIO_", "NOTIFY_", "XDG_")) and key != "NO_COLOR"
        }
        self.env[MARK] = self.mark.partition("=")[2]
        for name in ("ASAN_OPTIONS", "TSAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS"):
            given = os.environ.get(name, "")
            self.env[name] = f"{given}{':' if given else ''}log_path={self.dir}/sanitizer"
        self.env.update(env or {})
        self.client_env = {key: value for key, value in self.env.items() if key != MARK}
        self.config = {
            "version": "1.0",
            "global": {
                "log_directory": str(self.log_dir),
                "pid_directory": str(self.pid_dir),
                "socket": str(self.socket),
                "database": str(self.database),
                "log_file": str(self.daemon_log),
                "log_level": "debug",
            },
            "services": services or {},
        }
        self.config = merge(self.config, {"global": global_ or {}, **(extra or {})})
        self.write_config()

    def write_config(self, services=None):
        """Writes the configuration as a user's editor does: a new file in the old one's place."""
        if services is not None:
            self.config["services"] = services
        self.write_text(json.dumps(self.config, indent=2))

    def write_text(self, text):
        fresh = self.config_file.with_suffix(".new")
        fresh.write_text(text)
        fresh.chmod(0o644)
        fresh.rename(self.config_file)

    def supervisord(self, *args, expect=None, timeout=60.0, **options):
        return run([self.program, "-c", self.config_file, *args], expect, timeout, **{"env": self.env, **options})

    def ctl(self, *args, expect=DONE, timeout=60.0, env=None, **options):
        """`supervisorctl ARGS`, which must end with the exit code `expect` (None: any)."""
        return run(
            [SUPERVISORCTL, "--socket", self.socket, *args],
            expect,
            timeout,
            **{"env": {**self.client_env, **(env or {})}, **options},
        )

    def ctl_json(self, *args, expect=DONE, **options):
        return self.ctl("--json", *args, expect=expect, **options).json

    def processes(self):
        """Every process of this workspace: services, whatever they started, daemon and guardian."""
        return processes_with(self.mark.encode())

    def supervisors(self):
        """Daemon and guardian."""
        keepers = self.keepers()
        return [pid for pid in self._own_processes() if pid not in keepers]

    def keepers(self):
        """What keeps the services' output should guardian and daemon be killed together: one while they live."""
        return [pid for pid in self._own_processes() if read_proc(pid, "comm") == b"supervisor-keep\n"]

    def _own_processes(self):
        return [pid for pid in self.processes() if os.path.basename(self._exe(pid)) == "supervisord"]

    def service_processes(self):
        return [pid for pid in self.processes() if os.path.basename(self._exe(pid)) != "supervisord"]

    @staticmethod
    def _exe(pid):
        with contextlib.suppress(OSError):
            return os.readlink(f"/proc/{pid}/exe").removesuffix(" (deleted)")
        return ""

    def kill_all(self):
        """What a scenario left behind, in its own workspace: so often that nothing is started in between."""
        for _ in range(100):
            left = self.processes()
            if not left:
                return
            for pid in sorted(left):  # the guardian, the oldest, before those whom it would start again
                kill(pid)
            time.sleep(POLL_S)

    def remove(self):
        shutil.rmtree(self.dir, ignore_errors=True)

    def sanitizer_reports(self):
        return "\n".join(path.read_text(errors="replace") for path in sorted(self.dir.glob("sanitizer.*")))

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        self.kill_all()
        self.remove()
        return False


class Daemon(Workspace):
    """A workspace with a daemon that runs in it.

    background   started with --daemon, rather than as a child in the foreground
    started      False: start() is left to the scenario
    prepare      called in the child between fork and exec

    With SCENARIO_CGROUP in the environment every daemon runs in a cgroup of its own below that one: `cgroup`, else None.
    """

    def __init__(
        self, services=None, *, global_=None, extra=None, env=None, background=False, started=True, prepare=None
    ):
        super().__init__(services, global_, extra, env)
        self._background = background
        self._start_at_once = started
        self._then_prepare = prepare
        self.cgroup = None
        if os.environ.get("SCENARIO_CGROUP"):
            self.cgroup = pathlib.Path(os.environ["SCENARIO_CGROUP"], self.dir.name)
            self.cgroup.mkdir()
        self.stderr_file = self.dir / "stderr"
        self.arguments = []  # more of them for supervisord
        self.process = None  # the foreground process
        self.streams = []

    # -- life

    def _prepare(self):
        if self.cgroup is not None:
            # After a kill -9 of all supervisors the cgroup still hands on controllers, and lets nobody in: as its leaf
            # does.
            for directory in (self.cgroup, *self.cgroup.glob("supervisord.*.daemon")):
                with contextlib.suppress(OSError):
                    (directory / "cgroup.procs").write_text("0")
                    break
            else:
                raise OSError(f"cannot enter {self.cgroup}")
        if self._then_prepare is not None:
            self._then_prepare()

    def _remove_cgroup(self):
        """Its cgroup, in which a daemon that was stopped has left nothing."""
        if self.cgroup is not None:
            with contextlib.suppress(FileNotFoundError):
                wait_until(lambda: not (self.cgroup / "cgroup.procs").read_text(), "the processes to be reaped")
                left = [str(path) for path in self.cgroup.glob("supervisord.*")]
                for path in sorted((path for path in self.cgroup.rglob("*") if path.is_dir()), reverse=True):
                    path.rmdir()
                self.cgroup.rmdir()
                if left:
                    raise ScenarioError(f"cgroups left after the stop: {left}")

    def __enter__(self):
        try:
            if self._start_at_once:
                self.start()
        except BaseException:
            self._report()
            self.kill_all()
            self.remove()
            raise
        return self

    def start(self):
        """Starts the daemon and waits until it answers."""
        if self._background:
            with open(self.stderr_file, "ab") as log:
                done = subprocess.run(
                    [self.program, "-c", self.config_file, "--daemon", *self.arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=self.env,
                    timeout=60 * SCALE,
                    preexec_fn=self._prepare,
                    check=False,
                )
            if done.returncode != 0:
                raise ScenarioError(f"supervisord --daemon: exit {done.returncode}")
            return self
        self.launch()
        self.wait_ready()
        return self

    def launch(self, preexec_fn=None):
        """Starts it in the foreground, and waits for nothing."""
        with open(self.stderr_file, "ab") as log:
            self.process = subprocess.Popen(
                [self.program, "-c", self.config_file, *self.arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.env,
                preexec_fn=preexec_fn or self._prepare,
            )

    def wait_ready(self):
        def answers():
            if self.process is not None and self.process.poll() is not None:
                raise RuntimeError(
                    f"supervisord ended with {self.process.returncode} before it answered:\n{self.stderr()}"
                )
            with socket.socket(socket.AF_UNIX) as probe:
                probe.connect(str(self.socket))
            return self.ctl("version", expect=None).returncode == DONE

        wait_until(answers, "supervisord to answer", timeout=30)

    def stop(self):
        """`supervisord --stop`, after which nothing of the daemon may be left."""
        self.supervisord("--stop", expect=0, timeout=90)
        self.check_gone()

    def check_gone(self):
        if self.process is not None:
            try:
                code = self.process.wait(10 * SCALE)
            except subprocess.TimeoutExpired:
                raise ScenarioError("supervisord is still there after its stop") from None
            self.process = None
            if code != 0:
                raise ScenarioError(f"supervisord ended with {code}, 0 expected")
        left = self.processes()
        if left:
            raise ScenarioError("left after the stop: " + ", ".join(map(describe, left)))
        files = [
            path
            for path in (self.socket, self.socket.with_suffix(".pid"), *self.pid_dir.glob("*.pid"))
            if path.exists()
        ]
        if files:
            raise ScenarioError(f"left after the stop: {files}")

    def kill_daemon(self):
        """kill -9 of guardian and daemon, the guardian first, so that nobody starts the daemon again."""
        if self.process is not None:
            kill(self.process.pid, signal.SIGSTOP)  # or it would start another behind our back
        # One in the midst of an execve(2) has no environment to be known by. The guardian we know; what it has just
        # started comes out of that in a moment.
        guardian = [self.process.pid] if self.process is not None else []
        with contextlib.suppress(ScenarioError):  # there are services without one
            wait_until(
                lambda: all(read_proc(pid, "environ") for pid in children_of(guardian) if is_alive(pid)),
                "the environment of what was just started",
                timeout=1,
            )
        supervisors = guardian + sorted(set(self.supervisors()) - set(guardian), key=start_ticks)
        for pid in supervisors:
            kill(pid, signal.SIGSTOP)
        for pid in supervisors:
            kill(pid)
        if self.process is not None:
            self.process.wait(10 * SCALE)
            self.process = None
        wait_until(lambda: not any(is_alive(pid) for pid in supervisors), "the killed daemon to be gone")

    def __exit__(self, kind, error, trace):
        if kind is not None and issubclass(kind, unittest.SkipTest):
            kind = None  # no failure: the end is checked as ever, and nothing told
        problem = None
        try:
            for stream in self.streams:
                stream.close()
            if kind is None:
                if self.supervisors():
                    self.stop()
                    self._remove_cgroup()
                else:
                    self.check_gone()
            reports = self.sanitizer_reports()
            if reports or SANITIZER_REPORT.search(self.stderr()):
                problem = ScenarioError("sanitizer report:\n" + (reports or self.stderr()))
        except (ScenarioError, OSError) as trouble:
            problem = trouble
        if kind is not None or problem is not None:
            self._report()
        self.kill_all()
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        if (kind is None and problem is None) or not os.environ.get("SCENARIO_KEEP"):
            self.remove()
        else:
            print(f"kept: {self.dir}", file=sys.stderr)
        if kind is None and problem is not None:
            raise problem
        return False

    def stderr(self):
        with contextlib.suppress(OSError):
            return self.stderr_file.read_text(errors="replace")
        return ""

    def _report(self):
        print("\n" + "-" * 40, "the daemon's stderr, its end", file=sys.stderr)
        print("\n".join(self.stderr().splitlines()[-40:]), file=sys.stderr)
        print("-" * 40, "the daemon's log, its end", file=sys.stderr)
        with contextlib.suppress(OSError):
            print("\n".join(self.daemon_log.read_text(errors="replace").splitlines()[-60:]), file=sys.stderr)
        print("-" * 40, file=sys.stderr, flush=True)

    # -- asking

    def stream(self, *args):
        """A supervisorctl that goes on; closed with the daemon."""
        stream = Stream([SUPERVISORCTL, "--socket", self.socket, *args], self.client_env)
        self.streams.append(stream)
        return stream

    def status(self, *targets):
        """The rows of `status --json` by id; of one service alone where just one is asked for by its id."""
        rows = {row["id"]: row for row in self.ctl_json("status", *targets, expect=(DONE, NOT_RUNNING))["services"]}
        return rows[targets[0]] if len(targets) == 1 and targets[0] in rows else rows

    def pid(self, service):
        """The pid of a running service."""
        pid = self.status(service)["pid"]
        if not pid:
            raise ScenarioError(f"{service} has no pid: {self.status(service)}")
        return pid

    def wait_for(self, service, predicate, what, timeout=10.0):
        """The row of `status --json` for which predicate(row) is true."""
        last = {}

        def holds():
            last.clear()
            last.update(self.status(service))
            return dict(last) if predicate(last) else None

        try:
            return wait_until(holds, what, timeout)
        except ScenarioError as error:
            raise ScenarioError(f"{service}: {error}; {last}") from None

    def wait_state(self, service, *states, timeout=10.0):
        return self.wait_for(service, lambda row: row["state"] in states, " or ".join(states), timeout)

    def events(self, *targets, count=1000):
        return self.ctl_json("events", "-n", count, *targets)["events"]

    def event_types(self, *targets):
        return [event["event_type"] for event in self.events(*targets)]

    def wait_event(self, service, event_type, predicate=lambda event: True, timeout=10.0):
        """The first event of that service and type for which the predicate is true."""
        return wait_until(
            lambda: next(
                (event for event in self.events(service) if event["event_type"] == event_type and predicate(event)),
                None,
            ),
            f"event {event_type} of {service}",
            timeout,
        )

    def wait_daemon_log(self, text, timeout=10.0):
        """Waits until the daemon's own log has the text: a thread of its own writes it, a moment after what it tells."""
        wait_until(
            lambda: self.daemon_log.exists() and text in self.daemon_log.read_text(), f"{text!r} in the log", timeout
        )

    def sql(self, query, *parameters):
        """Rows of the database, read as another program reads it while the daemon runs, whose first act its tables
        are not."""

        def rows():
            with contextlib.closing(
                sqlite3.connect(f"file:{self.database}?mode=ro", uri=True, timeout=10 * SCALE)
            ) as database:
                try:
                    return [database.execute(query, parameters).fetchall()]
                except sqlite3.OperationalError as error:
                    if "no such table" not in str(error):
                        raise
                    return None

        return wait_until(rows, f"the tables of {self.database}")[0]

    def log_file(self, service):
        return self.log_dir / f"{service}.log"

    def log(self, service):
        """The bytes of a service's log file; empty where there is none yet."""
        with contextlib.suppress(FileNotFoundError):
            return self.log_file(service).read_bytes()
        return b""

    def wait_log(self, service, text, count=1, timeout=10.0):
        """Until the log of the service holds the text, `count` times: how a scenario learns that a script is so far."""
        wanted = text.encode() if isinstance(text, str) else text
        return wait_until(
            lambda: self.log(service).count(wanted) >= count and self.log(service),
            f"{text!r} in the log of {service}",
            timeout,
        )

    def pid_file(self, service):
        return self.pid_dir / f"{service}.pid"

    def require(self, *command):
        """Skips the scenario where daemon and client are of a version that does not have the command yet."""
        result = self.ctl(*command, expect=None)
        if result.returncode in (FAILED, USAGE) and re.search("does not support|unknown command", result.stderr):
            raise unittest.SkipTest(result.stderr.strip())

    def version(self):
        """What the daemon says of itself: version, pid, guardian_pid, ..."""
        return self.ctl_json("version")["daemon"]
