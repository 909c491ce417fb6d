"""Logs are found again by time, by an expression and by name, and followed to the byte over everything that happens."""

import contextlib
import json
import os
import signal
import time

from harness import DONE, USAGE, Daemon, Scenario, eventually, kill, main, python, shell, wait_until

ONCE = {"restart_policy": {"mode": "never"}}
# Says its name and a number at each SIGUSR1.
COUNTER = "i=0; trap 'i=$((i+1)); echo {name} $i' USR1; echo {name} set; while :; do sleep 0.01; done"


def counter(name, **changes):
    return shell(COUNTER.format(name=name), **changes)


def poke(daemon, name, number):
    """The next line of a counter; returns the time when it was in the log."""
    daemon.ctl("signal", "USR1", name)
    daemon.wait_log(name, f"{name} {number}\n")
    return time.time()


def pass_by(moment):
    """Until what is written has a time that is told apart from that one."""
    wait_until(lambda: time.time() > moment + 0.3, "a later time")


class ByTime(Scenario):
    def test_since_and_until_select_what_was_written_then(self):
        with Daemon({"web": counter("web")}) as daemon:
            daemon.wait_log("web", "set")
            times = []
            for i in range(1, 4):
                pass_by(times[-1] if times else time.time())
                times.append(poke(daemon, "web", i))
            first = times[0] + 0.15
            second = times[1] + 0.15
            self.assertEqual(daemon.ctl("logs", "web", "--since", f"@{first}").stdout, "web 2\nweb 3\n")
            self.assertEqual(daemon.ctl("logs", "web", "--until", f"@{first}").stdout, "web set\nweb 1\n")
            self.assertEqual(
                daemon.ctl("logs", "web", "--since", f"@{first}", "--until", f"@{second}").stdout, "web 2\n"
            )
            self.assertEqual(daemon.ctl("logs", "web", "--since", f"@{first}", "-n", 1).stdout, "web 3\n")
            self.assertEqual(daemon.ctl("logs", "web", "--since", f"@{first}", "--grep", "2").stdout, "web 2\n")
            self.assertEqual(len(daemon.ctl("logs", "web", "--since", "10m").stdout.splitlines()), 4)
            self.assertEqual(daemon.ctl("logs", "web", "--until", "10m").stdout, "")
            stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(times[0] - 3600))
            self.assertEqual(len(daemon.ctl("logs", "web", "--since", stamp).stdout.splitlines()), 4)
            daemon.ctl("logs", "web", "--since", "yesterday-ish", expect=USAGE)

    def test_over_rotated_and_compressed_files_and_another_daemon(self):
        logs = {"max_size_mb": 10 / 2**20, "max_files": 20, "compress": True}
        with Daemon({"web": counter("web", logs=logs)}) as daemon:
            daemon.wait_log("web", "set")
            moments = []
            for i in range(1, 7):
                pass_by(moments[-1] if moments else time.time())
                daemon.ctl("signal", "USR1", "web")
                wait_until(lambda i=i: daemon.ctl("logs", "web", "-n", 1).stdout == f"web {i}\n", f"line {i}")
                moments.append(time.time())
                if i == 3:
                    daemon.kill_daemon()
                    daemon.start()
                    daemon.wait_state("web", "running")
            wait_until(lambda: len(list(daemon.log_dir.glob("web.log.*.gz"))) >= 3, "compressed files")
            middle = f"@{moments[1] + 0.15}"
            self.assertEqual(daemon.ctl("logs", "web", "--since", middle).stdout, "web 3\nweb 4\nweb 5\nweb 6\n")
            self.assertEqual(daemon.ctl("logs", "web", "--until", middle).stdout, "web set\nweb 1\nweb 2\n")
            self.assertEqual(daemon.ctl("logs", "web", "-n", "all").stdout.count("\n"), 7)

    def test_the_index_is_hidden_and_nobody_misses_it_when_it_goes(self):
        with Daemon({"web": counter("web")}) as daemon:
            daemon.wait_log("web", "set")
            index = daemon.log_dir / ".web.log.index"
            self.assertEqual([path.name for path in daemon.log_dir.glob("web*")], ["web.log"])
            wait_until(index.exists, "the index")
            self.assertEqual(index.stat().st_mode & 0o777, 0o640)
            index.write_bytes(os.urandom(1000))
            self.assertEqual(daemon.ctl("logs", "web", "--since", "1m").stdout, "web set\n")
            index.unlink()
            self.assertEqual(daemon.ctl("logs", "web", "--since", "1m").stdout, "web set\n")
            self.assertEqual(daemon.log("web"), b"web set\n")

    def test_json_tells_the_time_of_each_line(self):
        with Daemon({"web": counter("web")}) as daemon:
            daemon.wait_log("web", "set")
            pass_by(time.time())
            poke(daemon, "web", 1)
            lines = daemon.ctl_json("logs", "web")["lines"]
            self.assertEqual([line["line"] for line in lines], ["web set", "web 1"])
            self.assertRegex(lines[0]["timestamp"], r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}$")
            self.assertLess(lines[0]["timestamp"], lines[1]["timestamp"])


class Several(Scenario):
    def test_several_logs_come_behind_their_names_in_the_order_of_time(self):
        with Daemon({"web": counter("web"), "db": counter("db", groups=["g"])}) as daemon:
            for name in ("web", "db"):
                daemon.wait_log(name, "set")
            pass_by(time.time())
            for number, name in ((1, "db"), (1, "web"), (2, "db")):
                pass_by(poke(daemon, name, number))
            lines = daemon.ctl("logs", "all").stdout.splitlines()
            self.assertEqual(lines[-3:], ["db  | db 1", "web | web 1", "db  | db 2"])
            self.assertEqual(sorted(lines[:2]), ["db  | db set", "web | web set"])
            follower = daemon.stream("logs", "-f", "-n", "1", "web", "@g")
            self.assertEqual({follower.next(), follower.next()}, {"web | web 1", "db  | db 2"})
            poke(daemon, "web", 2)
            self.assertEqual(follower.next(), "web | web 2")
            poke(daemon, "db", 3)
            self.assertEqual(follower.next(), "db  | db 3")

    def test_grep_with_n_shows_the_last_that_match_over_rotated_files(self):
        logs = {"max_size_mb": 0.01, "max_files": 100}
        source = "seq 1 20000; echo no newline at the end | tr -d '\\n'"
        with Daemon({"web": shell(source, logs=logs, **ONCE)}) as daemon:
            daemon.wait_state("web", "exited")
            self.assertEqual(daemon.ctl("logs", "web", "-n", 3, "--grep", "77$").stdout, "19777\n19877\n19977\n")
            self.assertEqual(len(daemon.ctl("logs", "web", "--grep", "^1.*77$").stdout.splitlines()), 111)
            self.assertEqual(daemon.ctl("logs", "web", "--grep", "^17$").stdout, "17\n")
            self.assertEqual(daemon.ctl("logs", "web", "--grep", "end$").stdout, "no newline at the end")
            self.assertEqual(daemon.ctl("logs", "web", "--grep", "nowhere").stdout, "")

    def test_a_log_that_grows_all_the_time_has_an_end_when_it_is_not_followed(self):
        flood = "import os\ndata = b'x' * 99 + b'\\n'\nwhile True: os.write(1, data * 100)"
        with Daemon({"web": python(flood, logs={"max_size_mb": 1, "max_files": 2})}) as daemon:
            wait_until((daemon.log_dir / "web.log.2").exists, "the flood")
            daemon.ctl("logs", "web", "-n", "all", timeout=30)
            daemon.ctl("stop", "web")


class FollowOn(Scenario):
    def test_a_follower_with_grep_goes_on_over_the_death_of_the_daemon(self):
        with Daemon({"web": counter("web")}) as daemon:
            daemon.wait_log("web", "set")
            follower = daemon.stream("logs", "-f", "web", "--grep", "web [0-9]*[02468]$")
            poke(daemon, "web", 1)
            poke(daemon, "web", 2)
            self.assertEqual(follower.next(), "web 2")
            pid = daemon.pid("web")
            guardian, old = daemon.process.pid, daemon.version()["pid"]
            os.kill(guardian, signal.SIGSTOP)  # so that nobody is there for as long as it takes
            kill(old)
            os.kill(pid, signal.SIGUSR1)
            os.kill(guardian, signal.SIGCONT)
            wait_until(lambda: daemon.version()["pid"] != old, "the next daemon", timeout=20)
            daemon.wait_log("web", "web 3")
            poke(daemon, "web", 4)
            poke(daemon, "web", 5)
            poke(daemon, "web", 6)
            self.assertEqual([follower.next(), follower.next()], ["web 4", "web 6"])
            self.assertIn(follower.interrupt(), (DONE, 130, -signal.SIGINT))

    def test_not_a_byte_is_lost_or_doubled_over_kills_of_the_daemon_under_full_output(self):
        source = (
            "import signal, sys\nsignal.sigwait([signal.SIGUSR1])\n"
            "for i in range(300000): sys.stdout.write(f'line {i:09d} of a service that has much to say\\n')\n"
            "sys.stdout.flush()\nprint('end', flush=True)\nsignal.pause()"
        )
        source = (
            "import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])\nprint('set', flush=True)\n"
            + source
        )
        with Daemon({"web": python(source, logs={"max_size_mb": 1, "max_files": 100})}) as daemon:
            daemon.wait_log("web", "set\n")
            follower = daemon.stream("logs", "-f", "web")
            follower.wait_for("set")
            pid = daemon.pid("web")
            os.kill(pid, signal.SIGUSR1)

            def written():
                return sum(path.stat().st_size for path in daemon.log_dir.glob("web.log*"))

            for _ in range(5):
                # Once more of it has come, the daemon dies; its guardian lives and starts the next.
                seen = wait_until(written, "a look between two rotations")
                with contextlib.suppress(AssertionError):
                    wait_until(lambda seen=seen: written() > seen + 10000, "more output", timeout=3)
                before = daemon.version()["pid"]
                kill(before)
                wait_until(lambda before=before: daemon.version()["pid"] != before, "the next daemon")
            self.assertEqual(daemon.pid("web"), pid, "the service never noticed")
            follower.wait_for(lambda line: line == "end", timeout=60)
            wanted = b"".join(b"line %09d of a service that has much to say\n" % i for i in range(300000))

            def check_whole():
                numbered = sorted(daemon.log_dir.glob("web.log.*"), key=lambda path: -int(path.suffix[1:]))
                joined = b"".join(path.read_bytes() for path in [*numbered, daemon.log_file("web")])
                self.assertTrue(joined == b"set\n" + wanted + b"end\n", "the log is not what was written")

            eventually(check_whole)
            numbers = [int(line.split()[1]) for line in follower.seen if line.startswith("line ")]
            self.assertEqual(numbers, list(range(numbers[0], 300000)))
            self.assertEqual(numbers[0], 0)


class Slow(Scenario):
    FLOOD = "import os\ndata = b'x' * 999 + b'\\n'\nwhile True: os.write(1, data * 10)"

    def test_a_follower_that_slept_is_told_how_much_it_missed_and_holds_no_deleted_file(self):
        with Daemon({"flood": python(self.FLOOD, logs={"max_size_mb": 1, "max_files": 2})}) as daemon:
            follower = daemon.stream("logs", "-f", "flood")
            follower.next()
            os.kill(follower.pid, signal.SIGSTOP)
            # By the file itself: names move on while they are listed, and inodes are used again.
            with wait_until(lambda: daemon.log_file("flood").open("rb"), "the file that it reads") as file:
                wait_until(lambda: os.fstat(file.fileno()).st_nlink == 0, "it to be rotated away")
            wait_until(lambda: not self.deleted_logs(daemon), "deleted files to be closed")
            os.kill(follower.pid, signal.SIGCONT)
            told = wait_until(lambda: [text for text in follower.errors() if "left out" in text], "the remark")
            self.assertRegex(told[0], r": ([1-9]\d* bytes of the log are|bytes of the log may be) left out here")
            daemon.ctl("stop", "flood")

    @staticmethod
    def deleted_logs(daemon):
        found = []
        for pid in daemon.supervisors():
            for name in os.listdir(f"/proc/{pid}/fd"):
                with contextlib.suppress(OSError):
                    target = os.readlink(f"/proc/{pid}/fd/{name}")
                    if "flood.log" in target and target.endswith("(deleted)"):
                        found.append(target)
        return found

    def test_following_as_json_is_one_object_a_line_with_its_time(self):
        with Daemon({"web": counter("web")}) as daemon:
            daemon.wait_log("web", "set")
            follower = daemon.stream("--json", "logs", "-f", "-n", "0", "web")
            # The stream is there once the daemon has told where it begins; poked until then.
            number = 0
            while not follower.rest():
                number += 1
                poke(daemon, "web", number)
                if number > 200:
                    self.fail("nothing is followed")
            line = json.loads(follower.seen[0])
            self.assertEqual((line["service_id"], line["stream"]), ("web", "stdout"))
            self.assertRegex(line["timestamp"], r"^\d{4}-")


if __name__ == "__main__":
    main()
