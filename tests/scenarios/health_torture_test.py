"""Peers that hang, drip, never end or explode, and scripts that leave children behind: checks end in time, memory stays
bounded, and nothing else waits for them."""

import contextlib
import ctypes
import gzip
import os
import pathlib
import socket
import time
import unittest

from harness import (
    NOT_RUNNING,
    SCALE,
    TIMED_OUT,
    Daemon,
    Scenario,
    Workspace,
    hung_file_system,
    main,
    needs_root,
    process_status,
    sleeper,
    wait_until,
)
from harness.namespaces import CLONE_NEWNS, MS_PRIVATE, MS_REC
from harness.servers import Rude, drip, drip_headers, endless_body, redirect_loop, silent

MS_BIND = 4096


def alive_with(text):
    """Live processes, no zombies, whose command line holds the text."""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if text.encode() in path.read_bytes() and int(path.parent.name) != os.getpid():
                found.append(int(path.parent.name))
    return found


def resident_mb(daemon):
    return sum(int(process_status(pid)["VmRSS"].split()[0]) for pid in daemon.supervisors()) / 1024


class HealthTorture(Scenario):
    def check(self, **check):
        return sleeper(health_check={"interval": 0.05, "timeout": 5, "retries": 2, "on_failure": "alert", **check})

    def message(self, daemon, service):
        return daemon.ctl_json("health", service, expect=None)["services"][0]["message"]

    def wait_message(self, daemon, service, *words):
        wait_until(
            lambda: any(word in self.message(daemon, service) for word in words),
            f"{service}: {words}",
            timeout=20,
        )

    def assert_the_daemon_is_at_ease(self, daemon, *hanging):
        """Others are checked on, and what hangs is stopped at once, with its check under way."""
        count = "SELECT count(*) FROM supervisor_metrics WHERE service_id = 'well' AND health_status = 'healthy'"
        before = daemon.sql(count)[0][0]
        wait_until(lambda: daemon.sql(count)[0][0] > before + 5, "other checks to go on")
        for service in hanging:
            began = time.monotonic()
            daemon.ctl("stop", service)
            self.assert_quicker(4, began)  # and not the 60 s that its check may take
            self.assertEqual(daemon.status(service)["health"], "unknown")

    def test_what_hangs_or_drips_ends_at_the_timeout_and_holds_up_nobody(self):
        with Rude(silent) as mute, Rude(drip) as dripping, Rude(drip_headers) as headers:
            short = {"timeout": 0.3}
            long = {"timeout": 60}
            services = {"well": self.check(type="process")}
            for name, server in (("mute", mute), ("dripping", dripping), ("headers", headers)):
                services[name] = self.check(url=server.url, expected_content="never", **short)
                services[name + "-long"] = self.check(url=server.url, expected_content="never", **long)
            services["banner"] = self.check(type="tcp", port=mute.port, expected_content="220", **short)
            services["banner-long"] = self.check(type="tcp", port=mute.port, expected_content="220", **long)
            services["grpc"] = self.check(type="grpc", port=mute.port, **short)
            services["grpc-long"] = self.check(type="grpc", port=mute.port, **long)
            services["script-long"] = self.check(type="script", command="/bin/sleep", args=["999"], **long)
            with Daemon(services) as daemon:
                for name in ("mute", "dripping", "headers", "banner", "grpc"):
                    daemon.wait_for(name, lambda row: row["health"] == "unhealthy", "unhealthy")
                    self.assertIn("timed out after 300 ms", self.message(daemon, name))
                wait_until(lambda: dripping.connections > 2, "the drip to be asked again")
                self.assert_the_daemon_is_at_ease(daemon, *(name for name in services if name.endswith("-long")))

    def test_endless_answers_are_cut(self):
        with Rude(endless_body) as endless:
            with Daemon(
                {
                    "well": self.check(type="process"),
                    "body": self.check(url=endless.url, expected_regex="never$", timeout=30),
                    "banner": self.check(type="tcp", port=endless.port, expected_regex="never$", timeout=1),
                    "output": self.check(
                        type="script", command="/bin/cat", args=["/dev/zero"], expected_content="never", timeout=0.5
                    ),
                }
            ) as daemon:
                self.wait_message(daemon, "body", "within its first")
                self.wait_message(daemon, "banner", "within its first", "timed out")
                self.wait_message(daemon, "output", "timed out")
                self.assert_the_daemon_is_at_ease(daemon)
                self.assertLess(resident_mb(daemon), 400 if SCALE == 1 else 800)  # what came would be gigabytes

    def test_redirects_have_an_end(self):
        with Rude(redirect_loop) as loop, Daemon({"web": self.check(url=loop.url)}) as daemon:
            self.wait_message(daemon, "web", "redirects")

    def test_a_compressed_bomb_is_not_unpacked(self):
        bomb = gzip.compress(bytes(1 << 28), compresslevel=9)  # 256 MB of nothing
        head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(bomb)}\r\n\r\n".encode()

        def serve(peer, _):
            peer.recv(65536)
            peer.sendall(head + bomb)

        with Rude(serve) as server:
            with Daemon(
                {
                    "plain": self.check(url=server.url),
                    "searched": self.check(url=server.url, expected_content="never in there"),
                }
            ) as daemon:
                self.wait_message(daemon, "plain", "HTTP 200")
                self.wait_message(daemon, "searched", "lacks")
                before = server.connections
                wait_until(lambda: server.connections > before + 20, "more of them")
                self.assertLess(resident_mb(daemon), 250 if SCALE == 1 else 600)  # sanitizers keep what was freed

    def test_scripts_leave_no_child_behind_in_a_thousand_rounds(self):
        unique = f"97{os.getpid()}.25"
        leave = f"sleep {unique} & setsid sleep {unique} & (setsid sleep {unique} &) ; "
        count = 10
        services = {
            f"t{i}": self.check(
                type="script", command="/bin/sh", args=["-c", leave + "wait"], interval=0.001, timeout=0.05
            )
            for i in range(count)
        }
        services["clean"] = self.check(type="script", command="/bin/sh", args=["-c", leave + "true"], interval=0.001)
        with Daemon(services) as daemon:
            rounds = "SELECT count(*) FROM supervisor_metrics WHERE response_time_ms IS NOT NULL"
            wait_until(lambda: daemon.sql(rounds)[0][0] >= 1000, "a thousand rounds", timeout=240)
            daemon.ctl("stop", "all")
            wait_until(lambda: not alive_with(unique), "the children to be gone")
            told = {self.message(daemon, f"t{i}").partition(" after")[0] for i in range(count)}
            self.assertEqual(told, {"timed out"})
            zombies = [
                pid
                for pid in daemon.supervisors()
                for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
                if process_status(int(child)).get("State", "").startswith("Z")
            ]
            self.assertEqual(zombies, [])

    def test_a_check_that_ends_after_its_service_stopped_changes_nothing(self):
        answers = []

        def serve(peer, server):
            peer.recv(65536)
            answers.append(peer)
            server.stopping.wait()

        with Rude(serve) as server, Daemon({"web": self.check(url=server.url, timeout=60, retries=1)}) as daemon:
            wait_until(lambda: answers, "the check")
            daemon.ctl("stop", "web")
            with contextlib.suppress(OSError):
                answers[0].sendall(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n")
            daemon.ctl("start", "web")
            wait_until(lambda: len(answers) > 1, "the next check")
            answers[1].sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            daemon.wait_for("web", lambda row: row["health"] == "healthy", "healthy")
            self.assertNotIn("unhealthy", daemon.event_types("web"))
            stored = daemon.sql("SELECT health_status FROM supervisor_metrics WHERE response_time_ms IS NOT NULL")
            self.assertEqual({row[0] for row in stored}, {"healthy"})

    def test_one_check_by_hand_ends_in_time_too(self):
        with Rude(drip) as dripping, Rude(redirect_loop) as loop, Daemon() as daemon:
            daemon.ctl("check", "http", "--timeout", "0.3", "--expected-content", "x" * 500, dripping.url,
                       expect=TIMED_OUT)  # fmt: skip
            daemon.ctl("check", "http", loop.url, expect=NOT_RUNNING)


class Resolver(Scenario):
    """A name server that takes every question and answers none."""

    def black_hole(self, directory, address):
        """A Daemon's `prepare`: names go to that server, but for one that /etc/hosts has."""
        (directory / "resolv.conf").write_text(f"nameserver {address}\noptions timeout:30 attempts:5\n")
        (directory / "hosts").write_text("127.0.0.1 localhost known.test\n")
        (directory / "nsswitch.conf").write_text("hosts: files dns\n")

        def prepare():
            libc = ctypes.CDLL(None, use_errno=True)
            private = libc.unshare(CLONE_NEWNS) or libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None)
            for name in ("resolv.conf", "hosts", "nsswitch.conf"):
                source, target = str(directory / name).encode(), f"/etc/{name}".encode()
                private = private or libc.mount(source, target, None, MS_BIND, None)
            if private != 0:
                raise OSError(ctypes.get_errno(), "cannot put other files into /etc")

        return prepare

    @needs_root
    def test_hanging_look_ups_hold_up_nothing(self):
        hanging = 60  # names; each of them hangs for minutes
        # An address of the loopback network that is this scenario's own.
        address = f"127.{os.getpid() // 250 % 250 + 1}.{os.getpid() % 250 + 1}.53"
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server, Rude(silent) as peer:
            server.bind((address, 53))
            check = {"interval": 0.1, "retries": 1, "on_failure": "alert"}
            services = {
                f"hung{i}": sleeper(
                    health_check={**check, "type": "tcp", "host": f"nowhere{i}.test", "port": 80, "timeout": 0.5}
                )
                for i in range(hanging)
            }
            services["http"] = sleeper(health_check={**check, "url": "http://nothing.test/", "timeout": 0.5})
            services["grpc"] = sleeper(
                health_check={**check, "type": "grpc", "host": "nobody.test", "port": 80, "timeout": 0.5}
            )
            services["long"] = sleeper(health_check={**check, "url": "http://never.test/", "timeout": 600})
            with Daemon(services, started=False) as daemon:
                daemon._then_prepare = self.black_hole(daemon.dir, address)
                services["known"] = sleeper(
                    health_check={**check, "type": "tcp", "host": "known.test", "port": peer.port, "timeout": 5}
                )
                daemon.write_config(services)
                daemon.start()
                for name in ("hung0", f"hung{hanging - 1}", "http", "grpc"):
                    daemon.wait_for(name, lambda row: row["health"] == "unhealthy", "unhealthy", 20)
                    row = daemon.ctl_json("health", name, expect=None)["services"][0]
                    self.assertIn("timed out after 500 ms (resolving", row["message"])
                # A name that is known is looked up beside all that hang.
                daemon.wait_for("known", lambda row: row["health"] == "healthy", "healthy", 20)
                began = time.monotonic()
                daemon.ctl("stop", "long", "hung1")
                self.assert_quicker(4, began)
                daemon.ctl("restart", "hung2")
                self.assert_quicker(8, began)
                daemon.wait_for("known", lambda row: row["health"] == "healthy", "healthy", 20)
            # Leaving the block has stopped the daemon, whose look-ups still hang.


class FileSystem(Scenario):
    """Scripts on a file system that does not answer."""

    @needs_root
    @unittest.skipUnless(os.path.exists("/dev/fuse"), "this kernel has no FUSE")
    def test_scripts_that_cannot_even_start_hold_up_nothing(self):
        hanging = 20  # more than there were threads for all of them
        check = {"type": "script", "interval": 0.05, "retries": 1, "on_failure": "alert"}
        with Workspace() as place:
            services = {"well": sleeper(health_check={**check, "command": "/bin/true"})}
            for i in range(hanging):
                services[f"hung{i}"] = sleeper(health_check={**check, "command": f"{place.dir}/check{i}", "timeout": 0.2})
            with hung_file_system(place.dir) as prepare, Daemon(services, started=False, prepare=prepare) as daemon:
                # LeakSanitizer stops all threads at the end, and waits for those that hang in the kernel.
                daemon.env["ASAN_OPTIONS"] += ":detect_leaks=0"
                daemon.start()
                for i in range(hanging):
                    self.wait_rounds(daemon, f"hung{i}", 4)
                    row = daemon.ctl_json("health", f"hung{i}", expect=None)["services"][0]
                    self.assertIn("timed out after 200 ms", row["message"])
                    self.assertIn("a slow file system?", row["message"])
                self.wait_rounds(daemon, "well", 4)
                results = daemon.sql(
                    "SELECT DISTINCT health_status FROM supervisor_metrics "
                    "WHERE service_id = 'well' AND response_time_ms IS NOT NULL"
                )
                self.assertEqual(results, [("healthy",)])
                began = time.monotonic()
                daemon.ctl("stop", "hung0")
                self.assert_quicker(4, began)

    def wait_rounds(self, daemon, service, more):
        count = "SELECT count(*) FROM supervisor_metrics WHERE service_id = ? AND response_time_ms IS NOT NULL"
        (before,) = wait_until(lambda: daemon.sql(count, service)[0], "the tables")
        wait_until(lambda: daemon.sql(count, service)[0][0] >= before + more, f"checks of {service}", timeout=30)


if __name__ == "__main__":
    main()
