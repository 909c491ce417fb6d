"""Logs when things go wrong: a full disk, files that go, lines that never end, links that strangers plant."""

import os
import signal

from harness import Daemon, Scenario, eventually, main, needs_root, python, remove_tree, shell, wait_until
from harness.namespaces import small_disk
from harness.waiting import SCALE

ONCE = {"restart_policy": {"mode": "never"}}
# A line whenever it is poked, and a beat that shows that it is not held up.
SPEAKER = "i=0; trap 'i=$((i+1)); echo line $i' USR1; echo set; while :; do sleep 0.01; done"


def pss_kib(pids):
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as lines:
            total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total


class Gone(Scenario):
    def check_comes_back(self, daemon, number):
        path = daemon.log_file("web")
        wait_until(path.is_file, "the log file to come back")
        daemon.ctl("signal", "USR1", "web")
        daemon.wait_log("web", f"line {number}\n")

    def events(self, daemon):
        return [
            (event["event_type"], event["actor"])
            for event in daemon.events("web")
            if event["event_type"].startswith("alert_")
        ]

    def test_a_deleted_or_replaced_file_or_directory_comes_back_with_an_event(self):
        with Daemon({"web": shell(SPEAKER)}) as daemon:
            daemon.wait_log("web", "set")
            path = daemon.log_file("web")

            path.unlink()
            self.check_comes_back(daemon, 1)
            raised = daemon.wait_event("web", "alert_raised")
            self.assertIn(str(path), raised["message"])
            self.assertEqual(raised["actor"], "log capture")
            daemon.wait_event("web", "alert_resolved")

            remove_tree(daemon.log_dir)
            self.check_comes_back(daemon, 2)
            wait_until(lambda: len(self.events(daemon)) == 4, "the events of the directory")

            daemon.log_dir.rename(daemon.dir / "moved")
            self.check_comes_back(daemon, 3)

            def replace():  # quicker than the daemon, which makes the file again
                path.unlink(missing_ok=True)
                path.mkdir()
                return path.is_dir()

            wait_until(replace, "the directory in its place")
            event = daemon.wait_event("web", "alert_raised", lambda event: "directory" in event["message"])
            self.assertIn("remove or rename it", event["message"])
            self.assertIn("directory", daemon.ctl("summary", expect=None).text)
            path.rmdir()
            self.check_comes_back(daemon, 4)
            self.assertEqual(daemon.status("web")["state"], "running")
            self.assertEqual(daemon.status("web")["restart_count"], 0)

    @needs_root
    def test_a_link_planted_while_it_runs_is_not_followed(self):
        with Daemon({"web": shell(SPEAKER, logs={"max_size_mb": 40 / 2**20, "max_files": 2})}) as daemon:
            daemon.wait_log("web", "set")
            victim = daemon.dir / "victim"
            victim.write_text("keep\n")
            os.chown(daemon.log_dir, 65534, 65534)
            for name in ("web.log.1", "web.log.2", "web.log", ".web.log.index", ".web.log.index.tmp"):
                link = daemon.dir / "link"
                link.symlink_to(victim)
                os.lchown(link, 65534, 65534)
                link.rename(daemon.log_dir / name)
            for _ in range(20):
                daemon.ctl("signal", "USR1", "web")
            daemon.wait_event("web", "alert_raised")
            self.assertEqual(victim.read_text(), "keep\n")
            daemon.log_file("web").unlink(missing_ok=True)
            path = daemon.log_file("web")
            wait_until(lambda: path.is_file() and not path.is_symlink(), "the log")
            self.assertEqual(victim.read_text(), "keep\n")


class Full(Scenario):
    @needs_root
    def test_a_full_disk_stops_nobody_and_what_was_dropped_is_on_record(self):
        # Each poke writes 256 KiB in one go; the marker shows that the service itself never waits for good.
        source = (
            "import os, signal, sys\n"
            "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])\n"
            "print('set', flush=True)\n"
            "n = 0\n"
            "while True:\n"
            "  signal.sigwait([signal.SIGUSR1]); n += 1\n"
            "  data = b'%07d\\n' % n * 32768\n"
            "  while data: data = data[os.write(1, data):]\n"
            "  open(sys.argv[1], 'w').write(str(n))\n"
        )
        with Daemon(started=False) as daemon:
            marker = daemon.dir / "marker"
            daemon.log_dir.mkdir()
            with small_disk(daemon.log_dir, 1 << 20):
                daemon.write_config({"web": python(source, str(marker), logs={"max_size_mb": 0})})
                daemon.start()
                daemon.wait_log("web", "set")
                pid = daemon.pid("web")

                def poke(number):
                    os.kill(pid, signal.SIGUSR1)
                    wait_until(lambda: marker.exists() and marker.read_text() == str(number), f"write {number}", 15)

                for number in range(1, 11):
                    poke(number)
                raised = daemon.wait_event("web", "alert_raised", timeout=15)
                self.assertIn("No space left", raised["message"])
                wait_until(
                    lambda: daemon.ctl_json("explain", "web", expect=None)["service"]["log_dropped_bytes"] > 0,
                    "the count of what was dropped",
                )
                self.assertIn("could not be written", daemon.ctl("explain", "web", expect=None).stdout)
                # Somebody makes room: the way logrotate's copytruncate does.
                os.truncate(daemon.log_file("web"), 0)
                poke(11)
                resolved = daemon.wait_event("web", "alert_resolved", timeout=15)
                self.assertRegex(resolved["message"], r"\d+ bytes were dropped")
                poke(12)
                daemon.wait_log("web", b"0000012\n" * 32768)
                lines = daemon.log("web").split(b"\n")
                self.assertTrue(all(len(line) in (0, 7) for line in lines), "a line is a mixture of two")
                self.assertEqual(daemon.pid("web"), pid)
                self.assertEqual(daemon.status("web")["restart_count"], 0)
                daemon.stop()


class Endless(Scenario):
    def test_a_line_without_end_eats_no_memory_and_its_bytes_are_exact(self):
        # SCENARIO_LOG_MEGABYTES=2048 for the size at which others broke.
        megabytes = int(os.environ.get("SCENARIO_LOG_MEGABYTES") or 192)
        source = (
            "import os, sys\ndata = bytes(range(33, 127)) * 1000\nleft = int(sys.argv[1]) << 20\n"
            "at = 0\n"
            "while left > 0:\n  n = os.write(1, data[at:at + left]); left -= n; at = (at + n) % len(data)\n"
        )
        logs = {"max_size_mb": 20, "max_files": 200}
        with Daemon({"web": python(source, str(megabytes), logs=logs, **ONCE)}) as daemon:
            follower = daemon.stream("--json", "logs", "-f", "web")
            daemon.wait_state("web", "exited", timeout=120)
            # Debug builds under sanitizers need more for themselves.
            self.assertLess(pss_kib(daemon.supervisors()), (60 if SCALE == 1 else 1000) << 10)
            follower.close()
            wait_until(
                lambda: sum(path.stat().st_size for path in daemon.log_dir.glob("web.log*")) == megabytes << 20,
                "all of it to be in the log",
                timeout=60,
            )
            numbered = sorted(daemon.log_dir.glob("web.log.*"), key=lambda path: -int(path.suffix[1:]))
            pattern = bytes(range(33, 127)) * 1000
            at = 0
            for path in [*numbered, daemon.log_file("web")]:
                with open(path, "rb") as file:
                    while data := file.read(1 << 20):
                        start = at % len(pattern)
                        wanted = (pattern * (len(data) // len(pattern) + 2))[start : start + len(data)]
                        self.assertTrue(data == wanted, f"{path} differs near {at}")
                        at += len(data)
            self.assertEqual(at, megabytes << 20)


class OwnLog(Scenario):
    def test_under_systemd_lines_carry_the_journals_levels_and_no_time(self):
        with Daemon({"web": shell("exit 0", **ONCE)}, started=False) as daemon:
            daemon.stderr_file.touch()
            status = daemon.stderr_file.stat()
            daemon.env["JOURNAL_STREAM"] = f"{status.st_dev}:{status.st_ino}"
            daemon.start()
            daemon.wait_state("web", "exited")
            wait_until(lambda: "msg=\"started" in daemon.stderr() or "event=started" in daemon.stderr(), "the event")
            lines = daemon.stderr().splitlines()
            self.assertTrue(lines)
            for line in lines:
                self.assertRegex(line, r"^<[3467]>level=\w+ msg=")
            # In the file they have it as ever.
            in_file = r"(?m)^\d{4}-\d\d-\d\d [\d:.]+ level=info msg="
            eventually(lambda: self.assertRegex(daemon.daemon_log.read_text(), in_file))

    def test_a_stderr_that_is_no_journal_is_written_to_as_ever(self):
        with Daemon(started=False) as daemon:
            daemon.env["JOURNAL_STREAM"] = "1:2"
            daemon.start()
            wait_until(lambda: "level=info" in daemon.stderr(), "a line")
            self.assertNotIn("<6>", daemon.stderr())

    def test_a_deleted_log_of_its_own_comes_back(self):
        with Daemon({"web": shell(SPEAKER)}) as daemon:
            wait_until(daemon.daemon_log.exists, "the log")
            daemon.daemon_log.unlink()

            def back():
                daemon.ctl("signal", "USR1", "web")
                return daemon.daemon_log.exists()

            wait_until(back, "the log to come back")


if __name__ == "__main__":
    main()
