"""What a service writes is kept byte for byte, and can be read back and followed."""

import contextlib
import json
import os
import random
import signal

from harness import DONE, NO_SUCH_SERVICE, SUPERVISORCTL, USAGE, Daemon, Scenario, eventually, kill, main, python, shell
from harness import sleeper, wait_until
from top_test import Screen

WRITE_FILE = "import sys, os; data = open(sys.argv[1], 'rb').read()\nwhile data: data = data[os.write(1, data):]"
ONCE = {"restart_policy": {"mode": "never"}}


class Capture(Scenario):
    def test_stdout_and_stderr_are_captured_in_the_order_written(self):
        with Daemon({"web": shell("for i in 1 2 3; do echo out $i; echo err $i >&2; done", **ONCE)}) as daemon:
            daemon.wait_state("web", "exited")
            self.assert_becomes(lambda: daemon.log("web"), b"out 1\nerr 1\nout 2\nerr 2\nout 3\nerr 3\n")

    def test_random_bytes_are_kept_exactly_nul_and_invalid_utf8_and_no_last_newline(self):
        data = random.Random(1).randbytes(3_000_000) + b"\0\xff\xfe no newline"
        with Daemon(started=False) as daemon:
            (daemon.dir / "data").write_bytes(data)
            daemon.write_config({"web": python(WRITE_FILE, str(daemon.dir / "data"), **ONCE)})
            daemon.start()
            daemon.wait_state("web", "exited", timeout=30)
            eventually(lambda: self.assertTrue(daemon.log("web") == data, "the log differs from what was written"))
            self.assertEqual(daemon.ctl("logs", "web", "-n", 1, timeout=30).stdout_bytes[-13:], data[-13:])

    def test_json_of_a_binary_log_is_valid(self):
        with Daemon({"web": shell(r"printf 'a\0b\377\376\033[31mc\n\302\n\"quoted\\\n'", **ONCE)}) as daemon:
            daemon.wait_state("web", "exited")
            for line in daemon.ctl("--json", "logs", "web", "-n", 10).stdout.splitlines():
                self.assertIsInstance(json.loads(line), dict)

    COMMANDS = rb"plain\t\033[31mred\033[0m \007 K\303\244se \302\23331m \377"
    SHOWN = rb"plain|\x1b[31mred\x1b[0m \x07 K#se \x9b31m \xff".replace(b"|", b"\t").replace(b"#", "ä".encode())

    def on_a_terminal(self, daemon, *arguments):
        """What supervisorctl logs shows there, once it has ended."""
        with self.terminal(daemon, *arguments) as screen:
            self.assertEqual(screen.end(), DONE)
            return screen.look()

    def terminal(self, daemon, *arguments):
        return Screen(daemon, argv=[SUPERVISORCTL, "--socket", str(daemon.socket), "--no-color", "logs", *arguments])

    def test_a_terminal_is_shown_control_characters_as_text(self):
        written = self.COMMANDS.decode().encode().decode("unicode_escape").encode("latin-1") + b"\n"
        service = shell(f"printf '{self.COMMANDS.decode()}\\n'", **ONCE)
        with Daemon({"web": service, "other": service}) as daemon:
            for name in ("web", "other"):
                daemon.wait_state(name, "exited")
                self.assert_becomes(lambda: daemon.log(name), written)
            self.assertEqual(self.on_a_terminal(daemon, "web"), self.SHOWN + b"\r\n")
            lines = self.on_a_terminal(daemon, "web", "other").split(b"\r\n")
            self.assertEqual(sorted(lines), [b"", b"other | " + self.SHOWN, b"web   | " + self.SHOWN])
            # On demand, and where no terminal obeys them, the bytes are exact.
            self.assertEqual(self.on_a_terminal(daemon, "web", "--raw"), written.replace(b"\n", b"\r\n"))
            self.assertEqual(daemon.ctl("logs", "web").stdout_bytes, written)

    def test_a_control_character_does_not_slip_through_in_two_halves(self):
        """U+009B begins a command as ESC [ does: its two bytes come in two writes."""
        with Daemon(started=False) as daemon:
            go = daemon.dir / "go"
            wait = f"while ! test -e {go}; do sleep 0.05; done"
            halves = f"printf 'a\\302'; {wait}; printf '\\2332J b\\303'; exec sleep 1000"
            daemon.write_config({"web": shell(halves)})
            daemon.start()
            daemon.wait_log("web", "a")
            with self.terminal(daemon, "web", "-f") as screen:
                wait_until(lambda: screen.look() == b"a", "the first half to be held back")
                go.touch()
                wait_until(lambda: screen.look() == rb"a\x9b2J b", "the whole")
                daemon.stop()
                screen.end()
                self.assertIn(rb"a\x9b2J b\xc3", screen.look())

    LAST_WORDS = (
        "import os, signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])\nos.write(1, b'set\\n')\n"
        "signal.sigwait([signal.SIGTERM])\nos.write(1, b'last words')"
    )

    def test_the_last_words_after_the_stop_signal_are_kept(self):
        with Daemon({"web": python(self.LAST_WORDS)}) as daemon:
            daemon.wait_log("web", "set")
            daemon.ctl("stop", "web")
            self.assert_becomes(lambda: daemon.log("web"), b"set\nlast words")

    def test_the_output_of_several_runs_is_in_one_log(self):
        with Daemon({"web": shell("echo run; exec sleep 1000")}) as daemon:
            daemon.wait_log("web", "run")
            daemon.ctl("restart", "web")
            daemon.wait_log("web", "run", count=2)
            daemon.ctl("stop", "web")
            daemon.ctl("start", "web")
            daemon.wait_log("web", "run", count=3)
            self.assertEqual(daemon.log("web"), b"run\n" * 3)

    def test_the_log_goes_on_over_a_new_start_of_the_daemon(self):
        with Daemon({"web": shell("echo run; exec sleep 1000")}, background=True) as daemon:
            daemon.wait_log("web", "run")
            daemon.stop()
            daemon.start()
            daemon.wait_log("web", "run", count=2)

    def test_stderr_can_have_a_file_of_its_own(self):
        with Daemon({"web": shell("echo out; echo err >&2; exec sleep 1000", logs={"stderr": "separate"})}) as daemon:
            daemon.wait_log("web", "out")
            wait_until(lambda: (daemon.log_dir / "web.err.log").read_bytes() == b"err\n", "the error log")
            self.assertEqual(daemon.log("web"), b"out\n")
            self.assertEqual(daemon.ctl("logs", "web", "--stderr").stdout, "err\n")
            self.assertEqual(daemon.ctl("logs", "web").stdout, "out\n")

    def test_a_service_can_reopen_its_standard_output(self):
        with Daemon({"web": shell("echo one > /dev/stdout; echo two > /proc/self/fd/2", **ONCE)}) as daemon:
            daemon.wait_state("web", "exited")
            self.assert_becomes(lambda: daemon.log("web"), b"one\ntwo\n")

    def test_rotated_files_joined_are_byte_identical(self):
        source = (
            "import sys\nfor i in range(60000):\n"
            "  sys.stdout.write(f'{i:09d} some text of a line, as services write it\\n')\n"
            "sys.stdout.flush()"
        )
        with Daemon({"web": python(source, logs={"max_size_mb": 0.25, "max_files": 50}, **ONCE)}) as daemon:
            daemon.wait_state("web", "exited", timeout=30)
            wanted = b"".join(b"%09d some text of a line, as services write it\n" % i for i in range(60000))

            def check_joined():  # its last words may be rotated into their place yet
                numbered = sorted(daemon.log_dir.glob("web.log.*"), key=lambda path: -int(path.suffix[1:]))
                self.assertGreater(len(numbered), 5)
                for path in numbered:
                    self.assertLessEqual(path.stat().st_size, 0.25 * 2**20 + 2**20)
                joined = b"".join(path.read_bytes() for path in [*numbered, daemon.log_file("web")])
                self.assertTrue(joined == wanted, f"{len(joined)} bytes, {len(wanted)} wanted")

            eventually(check_joined)

    def test_no_more_rotated_files_are_kept_than_configured(self):
        source = "import sys\nfor i in range(60000): sys.stdout.write(f'{i:09d} some text of a line\\n')"
        with Daemon({"web": python(source, logs={"max_size_mb": 0.1, "max_files": 2}, **ONCE)}) as daemon:
            daemon.wait_state("web", "exited", timeout=30)
            wait_until(lambda: daemon.log("web").endswith(b"000059999 some text of a line\n"), "the last line")
            wait_until(
                lambda: {path.name for path in daemon.log_dir.glob("web*")} == {"web.log", "web.log.1", "web.log.2"},
                "old files to be removed",
            )

    def test_sigusr1_reopens_the_logs_for_logrotate(self):
        with Daemon({"web": shell("trap 'echo poked' USR1; echo set; while :; do sleep 0.02; done")}) as daemon:
            daemon.wait_log("web", "set")
            daemon.log_file("web").rename(daemon.log_dir / "moved")
            daemon.process.send_signal(signal.SIGUSR1)
            wait_until(daemon.log_file("web").exists, "the log to be made again")
            daemon.ctl("signal", "USR1", "web")
            daemon.wait_log("web", "poked")
            self.assertEqual((daemon.log_dir / "moved").read_bytes(), b"set\n")


class ReadBack(Scenario):
    def test_the_last_n_lines_are_shown(self):
        with Daemon({"web": shell("seq 1 1000", **ONCE)}) as daemon:
            daemon.wait_state("web", "exited")
            self.assertEqual(daemon.ctl("logs", "web", "-n", 3).stdout, "998\n999\n1000\n")
            self.assertEqual(daemon.ctl("logs", "-n", "1", "web").stdout, "1000\n")
            self.assertEqual(len(daemon.ctl("logs", "web", "-n", 5000).stdout.splitlines()), 1000)
            self.assertEqual(daemon.ctl("logs", "web", "-n", 0).stdout, "")

    def test_lines_are_selected_by_an_expression(self):
        with Daemon({"web": shell("seq 1 100", **ONCE)}) as daemon:
            daemon.wait_state("web", "exited")
            self.assertEqual(
                daemon.ctl("logs", "web", "-n", 1000, "--grep", "^9.$").stdout.split(), list(map(str, range(90, 100)))
            )
            daemon.ctl("logs", "web", "--grep", "(", expect=USAGE)

    def test_the_log_of_a_service_that_never_wrote_is_empty(self):
        with Daemon({"web": sleeper(enabled=False)}) as daemon:
            self.assertEqual(daemon.ctl("logs", "web").stdout, "")
            daemon.ctl("logs", "wep", expect=NO_SUCH_SERVICE)

    def test_a_negative_number_of_lines_is_a_usage_error(self):
        with Daemon({"web": sleeper()}) as daemon:
            daemon.ctl("logs", "web", "-n", "-1", expect=USAGE)
            daemon.ctl("logs", "web", "-n", "many", expect=USAGE)
            daemon.ctl("logs", expect=USAGE)


class Follow(Scenario):
    SPEAKER = "trap 'echo poked' USR1; echo set $$; while :; do sleep 0.02; done"

    def test_a_line_is_shown_as_it_happens(self):
        with Daemon({"web": shell(self.SPEAKER)}) as daemon:
            daemon.wait_log("web", "set")
            follower = daemon.stream("logs", "-f", "web")
            follower.wait_for("set")
            daemon.ctl("signal", "USR1", "web")
            follower.wait_for("poked")
            self.assertIn(follower.interrupt(), (DONE, 130, -signal.SIGINT))

    def test_following_goes_on_over_a_restart(self):
        with Daemon({"web": shell(self.SPEAKER)}) as daemon:
            daemon.wait_log("web", "set")
            follower = daemon.stream("logs", "-f", "web")
            first = follower.wait_for("set")
            daemon.ctl("restart", "web")
            second = follower.wait_for("set")
            self.assertNotEqual(first, second)
            kill(daemon.pid("web"))
            self.assertNotIn(follower.wait_for("set"), (first, second))

    def test_following_a_service_that_is_stopped_waits_for_its_start(self):
        with Daemon({"web": shell(self.SPEAKER, enabled=False)}) as daemon:
            follower = daemon.stream("logs", "-f", "web")
            daemon.ctl("start", "web")
            follower.wait_for("set")

    def test_a_follower_sees_every_line_once_over_many_rotations(self):
        # "go" comes when the follower is there; the lines then fill the log some twenty times over.
        source = (
            "import signal, sys\nsignal.sigwait([signal.SIGUSR1])\n"
            "for i in range(20000): sys.stdout.write(f'line {i:09d} of a service that has much to say\\n')\n"
            "sys.stdout.flush()\nprint('end', flush=True)\nsignal.pause()"
        )
        source = (
            "import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])\nprint('set', flush=True)\n"
            + source
        )
        with Daemon({"web": python(source, logs={"max_size_mb": 0.05, "max_files": 100})}) as daemon:
            daemon.wait_log("web", "set\n")
            follower = daemon.stream("logs", "-f", "web")
            follower.wait_for("set")
            daemon.ctl("signal", "USR1", "web")
            follower.wait_for(lambda line: line == "end", timeout=30)
            lines = [line for line in follower.seen if line.startswith("line ")]
            self.assertEqual([int(line.split()[1]) for line in lines], list(range(20000)))

    def test_json_follows_as_one_object_a_line(self):
        with Daemon({"web": shell(self.SPEAKER)}) as daemon:
            daemon.wait_log("web", "set")
            follower = daemon.stream("--json", "logs", "-f", "web")
            daemon.ctl("signal", "USR1", "web")
            self.assertIsInstance(json.loads(follower.wait_for("poked")), dict)

    def test_a_follower_that_sleeps_holds_up_nobody(self):
        flood = "import os\ndata = b'x' * 999 + b'\\n'\nwhile True: os.write(1, data)"
        with Daemon(
            {"flood": python(flood, logs={"max_size_mb": 1, "max_files": 2}), "web": shell(self.SPEAKER)}
        ) as daemon:
            daemon.wait_log("web", "set")
            sleeping = daemon.stream("logs", "-f", "flood")
            sleeping.next()
            os.kill(sleeping.pid, signal.SIGSTOP)
            try:
                for _ in range(5):
                    daemon.ctl("restart", "web", timeout=10)

                def captured():  # between two files of one rotation there is none
                    with contextlib.suppress(FileNotFoundError):
                        stat = daemon.log_file("flood").stat()
                        return stat.st_size, stat.st_ino
                    return None

                before = captured()
                wait_until(lambda: captured() not in (None, before), "the flood to go on")
                follower = daemon.stream("logs", "-f", "web")
                daemon.ctl("signal", "USR1", "web")
                follower.wait_for("poked")
            finally:
                os.kill(sleeping.pid, signal.SIGCONT)
            daemon.ctl("stop", "flood")


class PidFiles(Scenario):
    def test_a_pid_file_holds_the_pid_alone_and_vanishes_at_the_stop(self):
        with Daemon({"web": sleeper(), "worker": sleeper(instances=2)}) as daemon:
            for id in ("web", "worker:0", "worker:1"):
                pid = daemon.wait_state(id, "running")["pid"]
                self.assert_becomes(daemon.pid_file(id).read_text, f"{pid}\n")
            daemon.ctl("stop", "web")
            self.assert_becomes(daemon.pid_file("web").exists, False)
            self.assertTrue(daemon.pid_file("worker:0").exists())

    def test_a_pid_file_names_the_new_process_after_a_restart(self):
        with Daemon({"web": sleeper()}) as daemon:
            daemon.wait_state("web", "running")
            daemon.ctl("restart", "web")
            self.assert_becomes(daemon.pid_file("web").read_text, f"{daemon.pid('web')}\n")

    def test_a_service_that_ended_by_itself_has_no_pid_file(self):
        with Daemon({"web": shell("exit 0", **ONCE)}) as daemon:
            daemon.wait_state("web", "exited")
            self.assert_becomes(daemon.pid_file("web").exists, False)


if __name__ == "__main__":
    main()
