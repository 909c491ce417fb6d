"""What health checks cost, and what those that hang cost others. Run by run.py."""

import contextlib
import datetime
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

from harness import wait_until

NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
MS = 1e-6  # milliseconds in a nanosecond


@contextlib.contextmanager
def nginx(directory):
    """A server that answers 200 with a short body; yields its URL. One process, no log."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = pathlib.Path(directory, "nginx.conf")
    config.write_text(
        "daemon off; master_process off; error_log /dev/null;\n"
        f"pid {directory}/nginx.pid;\n"
        "events { worker_connections 4096; }\n"
        "http { access_log off; server {\n"
        f"  listen 127.0.0.1:{port} backlog=4096;\n"
        '  location / { return 200 "all is well"; }\n'
        "} }\n"
    )
    server = subprocess.Popen([NGINX, "-p", str(directory), "-c", str(config)], stderr=subprocess.DEVNULL)
    try:

        def answers():
            with socket.create_connection(("127.0.0.1", port), timeout=1):
                return True

        wait_until(answers, "nginx")
        yield f"http://127.0.0.1:{port}/health"
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait()


class Silent:
    """A server that takes every connection and never says a word."""

    def __init__(self, most):
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=most)
        self.port = self._listener.getsockname()[1]
        self._held = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                self._held.append(self._listener.accept()[0])
                if len(self._held) > 4096:
                    for peer in self._held[:2048]:
                        peer.close()
                    del self._held[:2048]

    def close(self):
        self._listener.close()
        for peer in self._held:
            peer.close()


@contextlib.contextmanager
def scratch(parent):
    directory = tempfile.mkdtemp(prefix="bench-", dir=parent)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def results_of(daemon, service):
    """When each check of the service ended, seconds."""
    rows = daemon.sql(
        "SELECT timestamp FROM supervisor_metrics WHERE service_id = ? AND response_time_ms IS NOT NULL ORDER BY id",
        service,
    )
    return [datetime.datetime.fromisoformat(row[0]).timestamp() for row in rows]


def count_results(daemon):
    return daemon.sql("SELECT count(*) FROM supervisor_metrics WHERE response_time_ms IS NOT NULL")[0][0]


def bench_checks(table, options, tools):
    """1,000 HTTP checks a second, all of them answered."""
    services = options.many
    with scratch(tools.memory) as directory, nginx(directory) as url:
        check = {"type": "http", "url": url, "interval": services / 1000, "timeout": 5, "on_failure": "alert"}
        with tools.running(services, health_check=check) as (daemon, _):
            wait_until(lambda: count_results(daemon) >= 2 * services, "the checks to be under way", timeout=60)
            pids = daemon.supervisors()
            used, before, began = tools.cpu_ns(pids), count_results(daemon), time.monotonic_ns()
            time.sleep(options.window)  # what is measured is the span of time itself
            used, span = tools.cpu_ns(pids) - used, time.monotonic_ns() - began
            rate = (count_results(daemon) - before) / (span * 1e-9)
            wrong = daemon.sql("SELECT count(*) FROM supervisor_metrics WHERE health_status = 'unhealthy'")[0][0]
            if wrong:
                raise RuntimeError(f"{wrong} checks failed")
            table.add("HTTP checks that were made", "/s", [rate])
            table.add(
                "CPU of the supervisor at 1,000 HTTP checks a second", "%", [100 * used / span * 1000 / rate], 25
            )


def hanging_check(kind, port):
    how = {
        "http": {"type": "http", "url": f"http://127.0.0.1:{port}/"},
        "tcp": {"type": "tcp", "port": port, "expected_content": "never"},
        "script": {"type": "script", "command": "/bin/sh", "args": ["-c", "sleep 999 & wait"]},
        "grpc": {"type": "grpc", "port": port},
    }[kind]
    return {**how, "interval": 1, "timeout": 4, "retries": 1000, "on_failure": "alert"}


def stop_ms(daemon, ids, span):
    """Stops of these services, spread over a span of seconds: what hangs comes and goes in waves."""
    times = []
    start = time.monotonic()
    for i, service in enumerate(ids):
        time.sleep(max(0, start + span * i / len(ids) - time.monotonic()))
        began = time.monotonic_ns()
        daemon.ctl("stop", service)
        times.append((time.monotonic_ns() - began) * MS)
    return times


def bench_hanging(table, options, tools):
    """So many checks that hang until their timeout, again and again, beside one that is answered."""
    services = 2 * options.many
    span = options.window / 2  # two waves: interval and timeout of hanging_check are five seconds together
    stopped = [f"s{i:03}" for i in range(options.rounds)]
    for kind in ("http", "tcp", "script", "grpc"):
        silent = Silent(services)
        try:
            with scratch(tools.memory) as directory, nginx(directory) as url:
                with tools.running(services) as (daemon, _):
                    tools.settle(daemon)
                    free = stop_ms(daemon, stopped, span)
                check = hanging_check(kind, silent.port)
                with tools.running(services, started=False, health_check=check) as (daemon, _):
                    interval = 0.1
                    daemon.config["services"]["quick"] = {
                        "command": "sleep",
                        "args": ["infinity"],
                        "health_check": {"type": "http", "url": url, "interval": interval, "on_failure": "alert"},
                    }
                    daemon.write_config()
                    daemon.start()
                    wait_until(lambda: count_results(daemon) >= services, "every check to have hung", timeout=120)
                    before = len(results_of(daemon, "quick"))
                    stops = stop_ms(daemon, stopped, span)
                    wait_until(lambda: len(results_of(daemon, "quick")) > before + 10, "the other check's results")
                    times = results_of(daemon, "quick")[before:]
            # The interval is spread by 5 % to both sides.
            late = [1000 * (b - a - 1.05 * interval) for a, b in zip(times, times[1:])]
            table.add(f"another check beside {services} hanging ({kind}): late by", "ms", [max(late)], 100)
            table.add(f"stop beside {services} hanging checks ({kind})", "ms", stops, base=("none hang", free))
        finally:
            silent.close()
