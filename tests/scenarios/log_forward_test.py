"""logs.forward: the output of services on the daemon's own standard output, and in the system's log."""

import os
import re
import signal
import socket
import threading

from harness import Daemon, Scenario, kill, main, needs_root, python, shell, wait_until

SPEAKER = "i=0; trap 'i=$((i+1)); echo line $i' USR1; echo set; while :; do sleep 0.01; done"
STDOUT = {"forward": "stdout"}


class Reader:
    """Reads what comes from a descriptor, in a thread; can be told to wait."""

    def __init__(self, fd):
        self.fd = fd
        self.data = b""
        self._go = threading.Event()
        self._go.set()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        while True:
            self._go.wait()
            try:
                piece = os.read(self.fd, 65536)
            except OSError:  # the scenario has closed it
                return
            if not piece:
                return
            self.data += piece

    def pause(self):
        self._go.clear()

    def go_on(self):
        self._go.set()

    def lines(self):
        return self.data.decode(errors="replace").split("\n")[:-1]

    def wait_for(self, line, timeout=20.0):
        wait_until(lambda: line in self.lines(), f"{line!r} to be forwarded", timeout)


class OnPipe(Daemon):
    """A daemon whose standard output is a pipe that we read."""

    def __init__(self, services=None, **options):
        self.read_end, self.write_end = os.pipe()
        super().__init__(services, prepare=lambda: os.dup2(self.write_end, 1), **options)
        self.out = Reader(self.read_end)

    def remove(self):
        os.close(self.write_end)
        super().remove()


class Stdout(Scenario):
    def test_each_line_comes_behind_its_services_name(self):
        services = {
            "web": shell(SPEAKER, logs=STDOUT),
            "pair": shell(
                "echo one; echo two >&2; exec sleep 1000", instances=2, logs={**STDOUT, "stderr": "separate"}
            ),
            "quiet": shell("echo unseen; exec sleep 1000"),
        }
        with OnPipe(services) as daemon:
            daemon.out.wait_for("web | set")
            for name in ("pair:0", "pair:1"):
                daemon.out.wait_for(f"{name} | one")
                daemon.out.wait_for(f"{name} | two")
            daemon.ctl("signal", "USR1", "web")
            daemon.out.wait_for("web | line 1")
            daemon.ctl("restart", "web")
            wait_until(lambda: daemon.out.lines().count("web | set") == 2, "the second run's line")
            self.assertFalse([line for line in daemon.out.lines() if "unseen" in line])

    def test_a_reload_turns_it_on_and_off(self):
        with OnPipe({"web": shell(SPEAKER)}) as daemon:
            daemon.wait_log("web", "set")
            pid = daemon.pid("web")
            daemon.write_config({"web": shell(SPEAKER, logs=STDOUT)})
            self.assertEqual(daemon.ctl_json("reload")["updated"], ["web"])
            daemon.ctl("signal", "USR1", "web")
            daemon.out.wait_for("web | line 1")
            daemon.write_config({"web": shell(SPEAKER)})
            daemon.ctl("reload")
            daemon.ctl("signal", "USR1", "web")
            daemon.wait_log("web", "line 2\n")
            daemon.write_config({"web": shell(SPEAKER, logs=STDOUT)})
            daemon.ctl("reload")
            daemon.ctl("signal", "USR1", "web")
            daemon.out.wait_for("web | line 3")
            shown = [line for line in daemon.out.lines() if line.startswith("web")]
            self.assertEqual(shown, ["web | line 1", "web | line 3"])
            self.assertEqual(daemon.pid("web"), pid)

    def test_lines_are_whole_and_in_order_over_rotations(self):
        source = (
            "import os\n"
            "for i in range(30000): os.write(1, b'%09d ' % i + b'x' * 60)if i % 7 else os.write(1, b'%09d' % i); "
            "os.write(1, b'\\n')\n"
        )
        services = {
            name: python(source, logs={**STDOUT, "max_size_mb": 0.2, "max_files": 50}, restart_policy={"mode": "never"})
            for name in ("one", "two")
        }
        with OnPipe(services) as daemon:
            for name in services:
                daemon.wait_state(name, "exited", timeout=60)
            for name in services:
                daemon.out.wait_for(f"{name} | 000029999 " + "x" * 60, timeout=60)
                mine = [line for line in daemon.out.lines() if line.startswith(name)]
                self.assertEqual([int(line.split()[2]) for line in mine], list(range(30000)))

    def test_a_reader_that_stops_holds_up_nothing_and_nothing_is_lost(self):
        source = (
            "import os, signal\n"
            "for i in range(200000): os.write(1, b'%09d of a service that has much to say\\n' % i)\n"
            "print('end', flush=True)\nsignal.pause()\n"
        )
        services = {
            "flood": python(source, logs={**STDOUT, "max_size_mb": 1, "max_files": 50}),
            "web": shell(SPEAKER, logs=STDOUT),
        }
        with OnPipe(services, started=False) as daemon:
            daemon.out.pause()
            daemon.start()
            daemon.wait_log("flood", "end", timeout=60)
            daemon.ctl("restart", "web", timeout=20)
            daemon.ctl("reload", timeout=20)
            daemon.out.go_on()
            daemon.out.wait_for("flood | end", timeout=60)
            numbers = [int(line.split()[2]) for line in daemon.out.lines() if line.startswith("flood | 0")]
            self.assertEqual(numbers, list(range(200000)))

    def test_an_instance_with_another_name_goes_on_where_it_was(self):
        source = (
            "import os, signal\n"
            "for i in range(100000): os.write(1, b'%09d of a service that has much to say\\n' % i)\n"
            "print('end', flush=True)\nsignal.pause()\n"
        )
        logs = {**STDOUT, "max_size_mb": 1, "max_files": 50}
        with OnPipe({"w": python(source, logs=logs)}, started=False) as daemon:
            daemon.out.pause()
            daemon.start()
            daemon.wait_log("w", "of a service")
            for instances in (2, 1, 2):
                daemon.write_config({"w": python(source, instances=instances, logs=logs)})
                daemon.ctl("reload", timeout=20)
            daemon.wait_log("w:0", "end", timeout=60)
            daemon.out.go_on()
            daemon.out.wait_for("w:0 | end", timeout=60)
            lines = [line.split(" | ") for line in daemon.out.lines() if line.startswith(("w | 0", "w:0 | 0"))]
            self.assertEqual([int(line.split()[0]) for _, line in lines], list(range(100000)))

    def test_what_rotation_took_meanwhile_is_counted_and_told(self):
        source = (
            "import os, signal\n"
            "for i in range(100000): os.write(1, b'%09d of a service that has much to say\\n' % i)\n"
            "print('end', flush=True)\nsignal.pause()\n"
        )
        services = {"flood": python(source, logs={**STDOUT, "max_size_mb": 0.1, "max_files": 2})}
        with OnPipe(services, started=False) as daemon:
            daemon.out.pause()
            daemon.start()
            daemon.wait_log("flood", "end", timeout=60)
            daemon.out.go_on()
            daemon.out.wait_for("flood | end", timeout=60)
            told = [line for line in daemon.out.lines() if line.startswith("flood | supervisord: ")]
            self.assertTrue(told, "of 42 bytes in 100000 lines two files and a bit are left")
            for line in told:
                self.assertRegex(line, r": (bytes of this log may be|at least \d+ bytes of this log are) left out here: ")
            missing = sum(int(line.split()[5]) for line in told if "at least" in line)
            # A line whose end is missing stands for itself.
            shown = [line for line in daemon.out.lines() if line.startswith("flood | 0") and line.endswith(" to say")]
            self.assertLessEqual(missing + sum(len(line) - len("flood | ") + 1 for line in shown), 100000 * 42)
            numbers = [int(line.split()[2]) for line in shown]
            self.assertEqual(numbers, sorted(set(numbers)), "in order, each once")
            self.assertIn("not forwarded", daemon.ctl("summary").stdout)

    def test_a_stop_does_not_wait_for_a_reader_that_sleeps(self):
        flood = "import os\nwhile True: os.write(1, b'x' * 999 + b'\\n')"
        logs = {**STDOUT, "max_size_mb": 1, "max_files": 2}
        with OnPipe({"flood": python(flood, logs=logs)}, started=False) as daemon:
            daemon.out.pause()
            daemon.start()
            wait_until(lambda: (daemon.log_dir / "flood.log.1").exists(), "the flood")
            daemon.stop()

    def test_a_closed_or_full_output_harms_nobody(self):
        for prepare in (lambda: os.close(1), lambda: os.dup2(os.open("/dev/full", os.O_WRONLY), 1)):
            with Daemon({"web": shell(SPEAKER, logs=STDOUT)}, prepare=prepare) as daemon:
                daemon.wait_log("web", "set")
                daemon.ctl("signal", "USR1", "web")
                daemon.wait_log("web", "line 1\n")
                daemon.ctl("restart", "web")

    def test_a_reader_that_has_gone_harms_nobody(self):
        with OnPipe({"web": shell(SPEAKER, logs=STDOUT)}, started=False) as daemon:
            os.close(daemon.read_end)
            daemon.read_end = -1
            daemon.start()
            daemon.wait_log("web", "set")
            daemon.ctl("restart", "web")

    def test_a_file_is_written_to_and_not_over(self):
        with Daemon({"web": shell(SPEAKER, logs=STDOUT)}) as daemon:  # its standard output is a file
            wait_until(lambda: "web | set\n" in daemon.stderr(), "the line in the file")

    def test_dev_null_is_told(self):
        with Daemon({"web": shell(SPEAKER, logs=STDOUT)}, background=True) as daemon:
            daemon.wait_log("web", "set")
            wait_until(lambda: "standard output is /dev/null" in daemon.daemon_log.read_text(), "the warning")

    def test_it_goes_on_over_the_death_of_the_daemon_and_an_upgrade(self):
        with OnPipe({"web": shell(SPEAKER, logs=STDOUT)}) as daemon:
            daemon.out.wait_for("web | set")
            number = 0

            def poke():
                nonlocal number
                number += 1
                daemon.ctl("signal", "USR1", "web")
                daemon.out.wait_for(f"web | line {number}")

            poke()
            for _ in range(3):
                kill(daemon.ctl_json("version")["daemon"]["pid"])
                daemon.wait_ready()
                poke()
            daemon.ctl("upgrade")
            poke()
            forwarded = [line for line in daemon.out.lines() if line.startswith("web | ")]
            self.assertEqual(forwarded, ["web | set", *(f"web | line {i}" for i in range(1, number + 1))])

    def test_pieces_of_a_line_come_as_one(self):
        script = "printf 'one '; sleep 0.3; printf 'two '; sleep 0.3; echo three; printf 'last words'"
        with OnPipe({"web": shell(script, logs=STDOUT, restart_policy={"mode": "never"})}) as daemon:
            daemon.out.wait_for("web | one two three")
            daemon.out.wait_for("web | last words")
            shown = [line for line in daemon.out.lines() if line.startswith("web")]
            self.assertEqual(shown, ["web | one two three", "web | last words"])

    def test_a_line_without_end_comes_in_pieces(self):
        source = "import os\nfor _ in range(64): os.write(1, b'x' * 65536)\nimport signal; signal.pause()"
        with OnPipe({"web": python(source, logs=STDOUT)}) as daemon:
            wait_until(lambda: daemon.out.data.count(b"x") >= 64 * 65536 - 65536, "the bytes", timeout=30)
            self.assertTrue(all(len(line) <= 65536 + 20 for line in daemon.out.lines()))


class LogSocket:
    """A /dev/log of our own: a datagram socket that keeps what comes."""

    def __init__(self, path):
        self.path = path
        self.open()

    def open(self):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(self.path))
        self.socket.settimeout(20)

    def close(self):
        self.socket.close()
        self.path.unlink()

    def next(self):
        return self.socket.recv(65536).decode()


@needs_root
class Syslog(Scenario):
    """In a mount namespace of its own, where /dev/log is the scenario's."""

    def daemon(self, services):
        def prepare():
            import ctypes  # pylint: disable=import-outside-toplevel

            libc = ctypes.CDLL(None, use_errno=True)
            if libc.unshare(0x00020000) != 0 or libc.mount(b"none", b"/", None, 0x44000, None) != 0:
                raise OSError(ctypes.get_errno(), "unshare")
            device = daemon.dir / "dev"
            # The directory, so that the socket can come and go.
            if libc.mount(str(device).encode(), b"/dev", None, 4096, None) != 0:
                raise OSError(ctypes.get_errno(), "mount")

        daemon = Daemon(services, started=False, prepare=prepare)
        device = daemon.dir / "dev"
        device.mkdir()
        for name, number in (("null", 3), ("zero", 5), ("full", 7), ("random", 8), ("urandom", 9)):
            os.mknod(device / name, 0o666 | 0o020000, os.makedev(1, number))
        return daemon

    def test_lines_arrive_as_syslog_3_sends_them(self):
        logs = {"forward": "syslog"}
        services = {
            "web": shell(SPEAKER, logs=logs),
            "w": shell("echo hi; exec sleep 1000", instances=2, logs=logs),
        }
        with self.daemon(services) as daemon:
            log = LogSocket(daemon.dir / "dev" / "log")
            daemon.start()
            got = {log.next() for _ in range(3)}
            stamp = r"[A-Z][a-z]{2} [ 123]\d \d\d:\d\d:\d\d"
            for wanted in ("web: set", "w/0: hi", "w/1: hi"):
                self.assertTrue([text for text in got if re.fullmatch(rf"<30>{stamp} {wanted}", text)], got)
            # The system's log is restarted.
            log.close()
            daemon.ctl("signal", "USR1", "web")
            daemon.wait_log("web", "line 1\n")
            wait_until(lambda: "logs can't be forwarded" in daemon.daemon_log.read_text(), "the warning")
            log.open()
            self.assertTrue(log.next().endswith(" web: line 1"))
            os.kill(daemon.ctl_json("version")["daemon"]["pid"], signal.SIGKILL)
            daemon.wait_ready()
            daemon.ctl("signal", "USR1", "web")
            self.assertTrue(log.next().endswith(" web: line 2"))
            log.close()


if __name__ == "__main__":
    main()
