"""Callers who may only look cannot hold up or swell the daemon: an administrator is served all the while."""

import contextlib
import os
import signal
import socket
import struct
import threading
import time

from harness import SCALE, SUPERVISORCTL, Daemon, Scenario, main, needs_root, process_status, run, sleeper, wait_until

NOBODY = 65534
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
OPEN = {"socket_mode": "0666"}


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def headers(stream, method=b"Status"):
    """A HEADERS frame that begins a call, without any compression (RFC 7541, 6.2.2)."""

    def literal(name, value):
        return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value

    path = b"/supervisor.v1.Supervisor/" + method
    block = b"\x83\x86" + literal(b":path", path) + literal(b":authority", b"localhost")
    block += literal(b"content-type", b"application/grpc") + literal(b"te", b"trailers")
    return frame(1, 4, stream, block)


def reset(stream):
    return frame(3, 0, stream, struct.pack(">I", 8))


class Stranger:
    """Whoever may connect: runs `work(connect)` as uid 65534, over and over, in a process of its own, until the end."""

    def __init__(self, daemon, work, processes=2):
        self.pids = []
        for _ in range(processes):
            pid = os.fork()
            if pid == 0:
                try:
                    os.setgroups([])
                    os.setgid(NOBODY)
                    os.setuid(NOBODY)
                    while True:
                        with contextlib.suppress(OSError):
                            work(lambda: self.connect(daemon))
                finally:
                    os._exit(0)
            self.pids.append(pid)

    @staticmethod
    def connect(daemon):
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(60)
        connection.connect(str(daemon.socket))
        connection.sendall(PREFACE + frame(4, 0, 0))
        return connection

    def __enter__(self):
        return self

    def __exit__(self, *args):
        for pid in self.pids:
            os.kill(pid, 9)
            os.waitpid(pid, 0)


def drain(connection):
    """Reads what comes, so that only what is sent holds up anything."""

    def read():
        with contextlib.suppress(OSError):
            while connection.recv(65536):
                pass

    threading.Thread(target=read, daemon=True).start()


@needs_root
class ReaderLimits(Scenario):
    def memory_mb(self, daemon):
        return int(process_status(daemon.version()["pid"])["VmRSS"].split()[0]) / 1024

    def check(self, work, rounds=15):
        with Daemon({"web": sleeper()}, global_=OPEN) as daemon:
            pid = daemon.wait_state("web", "running")["pid"]
            before = self.memory_mb(daemon)
            with Stranger(daemon, work):
                for _ in range(rounds):
                    daemon.ctl("restart", "web", timeout=10)
                    self.assertEqual(daemon.status("web")["state"], "running")
                # A sanitizer keeps what was freed for a while (ASan: 256 MB), and has shadows beside it.
                self.assertLess(self.memory_mb(daemon) - before, 200 if SCALE == 1 else 1_000)
            self.assertNotEqual(daemon.pid("web"), pid)
            self.assertEqual(self.ask_as_nobody(daemon).returncode, 0, "who asks like others is served again")
            return daemon.daemon_log.read_text()

    @staticmethod
    def ask_as_nobody(daemon):
        return wait_until(
            lambda: (result := run([SUPERVISORCTL, "--socket", daemon.socket, "status"], user=NOBODY)).returncode == 0
            and result,
            "an answer to nobody",
        )

    def test_streams_that_are_opened_and_reset(self):
        def work(connect):
            with connect() as connection:
                drain(connection)
                for first in range(1, 2_000_000, 200):
                    connection.sendall(b"".join(headers(n) + reset(n) for n in range(first, first + 200, 2)))

        self.assertIn("more frames than are read from a user who may only look", self.check(work))

    def test_calls_that_are_never_finished(self):
        def work(connect):
            with connect() as connection:
                drain(connection)
                for stream in range(1, 4_000, 2):
                    connection.sendall(headers(stream) + frame(0, 0, stream, b"\x00\x00\x0f\xff\xff" + b"x" * 16_000))
                connection.recv(1)

        self.check(work)

    def test_targets_and_patterns_that_cost_much(self):
        globs = ["*a" * 100 + str(i) for i in range(3_000)]
        with Daemon({f"{'a' * 60}{i}": sleeper(enabled=False) for i in range(50)}, global_=OPEN) as daemon:
            for arguments, words in (
                (["status", *globs], "too many targets with wildcards"),
                (["status", *[f"s{i}" for i in range(20_001)]], "too many targets"),
                (["status", "x" * 257], "(a target has at most 256 bytes)"),
                (["logs", "all", "--grep", "(x+x+)+" * 1000], "--grep: a pattern of 7000 bytes is too long"),
            ):
                result = daemon.ctl(*arguments, expect=None)
                self.assertNotEqual(result.returncode, 0)
                self.assertIn(words, result.stderr)
            began = time.monotonic()
            daemon.ctl("status", "*a" * 100 + "b", expect=4)
            self.assert_quicker(5, began)
            self.assertEqual(len(daemon.ctl_json("status", *["a*"] * 2_000, expect=None)["services"]), 50)

    def test_descriptors_that_are_sent_along(self):
        """A TCP socket with SO_LINGER, its peer's window full: its last close waits for 1000 s. As before Linux 6.16."""
        listener = socket.create_server(("127.0.0.1", 0))
        kept = []

        def lingering():
            client = socket.create_connection(listener.getsockname())
            kept.append(listener.accept()[0])
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 1000))
            client.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    client.send(b"x" * 65536)
            return client

        def send_along(connection, client):
            socket.send_fds(connection, [frame(6, 0, 0, b"8 bytes.")], [client.fileno()])
            os.close(client.detach())

        def work(connect):
            served = [connect() for _ in range(10)]
            for connection in served:
                connection.recv(9)  # the gate has read all that was sent so far
            os.write(to_us, b"x")
            os.read(from_us, 1)
            for connection in served + [connect() for _ in range(10)]:
                kept.append(connection)
                send_along(connection, lingering())
            os.write(to_us, b"x")
            signal.pause()

        with Daemon({"web": sleeper()}, global_=OPEN, started=False) as daemon:
            armory = daemon.dir / "fail"
            armory.mkdir()
            (armory / "socket.rights").write_text("error 92")
            daemon.env["SUPERVISOR_FAIL_POINTS"] = str(armory)
            daemon.start()
            if (armory / "socket.rights").exists():
                self.skipTest("this build has no fail points (the asan, tsan and debug presets have)")
            at_work, to_us = os.pipe()
            from_us, to_work = os.pipe()
            other_reader = [SUPERVISORCTL, "--socket", daemon.socket, "status"]
            pid = daemon.version()["pid"]
            with Stranger(daemon, work, processes=1):
                os.read(at_work, 1)
                os.kill(pid, signal.SIGSTOP)  # so that it is the last to close them
                try:
                    os.write(to_work, b"x")
                    os.read(at_work, 1)
                finally:
                    os.kill(pid, signal.SIGCONT)
                for _ in range(3):
                    self.assertEqual(run(other_reader, user=NOBODY - 1).returncode, 0)
                    daemon.ctl("restart", "web", timeout=30)
                daemon.wait_daemon_log("descriptors were sent along: the connection is closed")
            self.assertEqual(daemon.version()["pid"], pid)
            self.ask_as_nobody(daemon)
            for end in (at_work, to_us, from_us, to_work):
                os.close(end)
            listener.close()

    def test_one_user_has_so_many_connections(self):
        with Daemon({"web": sleeper()}, global_=OPEN) as daemon:
            read_end, write_end = os.pipe()

            def work(connect):
                held = []
                while len(held) < 200:
                    held.append(connect())
                os.write(write_end, b"x")
                signal.pause()

            with Stranger(daemon, work, processes=1):
                os.read(read_end, 1)
                wait_until(lambda: "who may only look, has too many" in daemon.daemon_log.read_text(), "it to be told")
                daemon.ctl("restart", "web", timeout=10)
            os.close(read_end)
            os.close(write_end)
            self.ask_as_nobody(daemon)


if __name__ == "__main__":
    main()
