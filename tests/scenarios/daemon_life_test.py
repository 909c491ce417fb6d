"""The daemon's own life: foreground and background, status and stop, a second one, what a killed one left."""

import contextlib
import fcntl
import os
import re
import signal
import socket
import subprocess
import time

from harness import (
    DONE,
    NOT_RUNNING,
    SUPERVISORD,
    UNREACHABLE,
    Daemon,
    Scenario,
    Workspace,
    is_alive,
    kill,
    main,
    process_stat,
    process_status,
    processes_with,
    python,
    remove_tree,
    shell,
    sleeper,
    wait_until,
    SCALE,
)


def waits_for_an_answer(pid):
    """Whether a client sleeps, and has its connection."""
    links = []
    for entry in os.scandir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):
            links.append(os.readlink(entry.path))
    return process_stat(pid)[:1] == ["S"] and any(link.startswith("socket:") for link in links)


class DaemonLife(Scenario):
    def test_status_tells_whether_a_daemon_runs(self):
        with Daemon() as daemon:
            daemon.supervisord("--status", expect=0)
            daemon.stop()
            daemon.supervisord("--status", expect=3)

    def test_background_returns_when_the_socket_answers(self):
        with Daemon({"web": sleeper()}, background=True) as daemon:
            with socket.socket(socket.AF_UNIX) as probe:
                probe.connect(str(daemon.socket))
            daemon.ctl("version")
            daemon.wait_state("web", "running")

    def test_background_leaves_the_terminal_and_keeps_no_descriptor_of_the_caller(self):
        reader, writer = os.pipe()
        with Daemon(started=False) as daemon:
            done = subprocess.run(
                [SUPERVISORD, "-c", daemon.config_file, "--daemon"],
                stdin=subprocess.DEVNULL,
                stdout=writer,
                stderr=writer,
                env=daemon.env,
                timeout=60 * SCALE,
                check=False,
            )
            self.assertEqual(done.returncode, 0)
            os.close(writer)
            fcntl.fcntl(reader, fcntl.F_SETFL, os.O_NONBLOCK)
            wait_until(lambda: self.at_end(reader), "the end of the pipe: nobody holds its other end")
            os.close(reader)
            for pid in daemon.supervisors():
                self.assertNotEqual(int(process_stat(pid)[3]), os.getsid(0))
                self.assertEqual(process_stat(pid)[4], "0", "it has a controlling terminal")
            daemon.stop()

    def test_background_keeps_no_lock_of_the_caller(self):
        """( flock 9; supervisord --daemon ) 9>deploy.lock"""
        for arguments in ([], ["--no-guardian"]):
            with self.subTest(arguments=arguments), Daemon({"web": sleeper()}, started=False) as daemon:
                path = daemon.dir / "deploy.lock"
                with open(path, "w") as held:
                    fcntl.flock(held, fcntl.LOCK_EX)
                    daemon.supervisord("--daemon", *arguments, expect=0, pass_fds=[held.fileno()])
                daemon.wait_state("web", "running")
                with open(path, "w") as again:
                    fcntl.flock(again, fcntl.LOCK_EX | fcntl.LOCK_NB)  # BlockingIOError: somebody has it

    @staticmethod
    def at_end(descriptor):
        try:
            while True:
                if not os.read(descriptor, 4096):
                    return True
        except BlockingIOError:
            return False

    def test_a_failed_background_start_is_told_to_the_caller(self):
        with Workspace(global_={"socket": "/proc/nowhere/s.sock"}) as workspace:
            result = workspace.supervisord("--daemon", expect=1)
            self.assertIn("/proc/nowhere", result.stderr)
            self.assertEqual(workspace.processes(), [])

    def test_stop_returns_when_all_is_gone(self):
        slow = shell("trap 'sleep 0.3; exit 0' TERM; echo set; while :; do sleep 0.05; done")
        with Daemon({"web": sleeper(), "slow": slow}, background=True) as daemon:
            daemon.wait_log("slow", "set")
            daemon.wait_state("web", "running")
            daemon.stop()  # checks that no process, socket or pid file is left
            daemon.ctl("status", expect=UNREACHABLE)

    def test_a_daemon_can_be_started_again_after_its_stop(self):
        with Daemon({"web": sleeper()}, background=True) as daemon:
            for _ in range(3):
                daemon.wait_state("web", "running")
                daemon.stop()
                daemon.start()
            daemon.wait_state("web", "running")

    def test_the_daemons_pid_file_names_a_process_that_sigterm_stops(self):
        with Daemon({"web": sleeper()}, background=True) as daemon:
            daemon.wait_state("web", "running")
            pid = int(daemon.socket.with_suffix(".pid").read_text())
            kill(pid, signal.SIGTERM)
            wait_until(lambda: not daemon.processes(), "all to be gone", timeout=30)
            daemon.check_gone()

    def test_sigint_is_an_orderly_stop_too(self):
        with Daemon({"web": sleeper()}) as daemon:
            daemon.wait_state("web", "running")
            daemon.process.send_signal(signal.SIGINT)
            daemon.check_gone()
            self.assertIn(
                "stopped",
                [row[0] for row in daemon.sql("SELECT event_type FROM supervisor_events WHERE service_id = 'web'")],
            )

    def test_a_second_daemon_refuses_names_the_holder_and_harms_nothing(self):
        with Daemon({"web": sleeper()}) as daemon:
            before = daemon.wait_state("web", "running")
            holders = daemon.supervisors()
            daemon.wait_event("web", "started")
            events = len(daemon.events("web"))
            for arguments in ([], ["--daemon"]):
                result = daemon.supervisord(*arguments, expect=1)
                named = set(map(int, re.findall(r"\b\d+\b", result.stderr)))
                self.assertTrue(named & set(holders), f"{holders} is not named: {result}")
            self.assertEqual(daemon.status("web")["pid"], before["pid"])
            self.assertEqual(daemon.supervisors(), holders)
            self.assertEqual(len(daemon.events("web")), events)
            self.assertTrue(daemon.socket.with_suffix(".pid").exists())
            self.assertTrue(daemon.pid_file("web").exists())

    def test_of_many_started_at_once_one_serves_and_the_others_name_it(self):
        with Daemon({"web": sleeper()}, started=False) as daemon:
            starts = [
                subprocess.Popen(
                    [SUPERVISORD, "-c", str(daemon.config_file), "--daemon"],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    env=daemon.env,
                )
                for _ in range(8)
            ]
            messages = [start.communicate(timeout=60 * SCALE)[1].decode() for start in starts]
            self.assertEqual(sorted(start.returncode for start in starts), [0] + [1] * 7, messages)
            daemon.wait_state("web", "running")
            self.assert_becomes(lambda: len(daemon.service_processes()), 1)

    def test_starts_and_stops_that_race_never_make_two_daemons(self):
        with Daemon({"web": sleeper()}, started=False) as daemon:

            def racer(*command):
                script = "i=0; while [ $i -lt 60 ]; do i=$((i + 1)); \"$@\" >/dev/null 2>&1; done"
                argv = ["/bin/sh", "-c", script, "sh", SUPERVISORD, "-c", str(daemon.config_file), *command]
                return subprocess.Popen(argv, env=daemon.env)

            racers = [racer("--daemon"), racer("--daemon"), racer("--daemon"), racer("--stop"), racer("--stop")]
            most = 0
            while any(process.poll() is None for process in racers):
                sleeping = [pid for pid in daemon.service_processes() if process_status(pid).get("Name") == "sleep"]
                most = max(most, len(sleeping))
            self.assertLessEqual(most, 1, "two instances of one service: two daemons served at once")
            daemon.supervisord("--daemon", expect=(0, 1))
            daemon.wait_state("web", "running")
            self.assert_becomes(lambda: len(daemon.service_processes()), 1)

    def test_two_daemons_on_two_sockets_do_not_meet(self):
        with Daemon({"web": sleeper()}) as one, Daemon({"web": sleeper()}) as other:
            pid = one.wait_state("web", "running")["pid"]
            self.assertNotEqual(other.wait_state("web", "running")["pid"], pid)
            other.stop()
            self.assertEqual(one.status("web")["pid"], pid)

    def test_a_killed_daemons_socket_file_is_no_obstacle(self):
        with Daemon() as daemon:
            daemon.kill_daemon()
            self.assertTrue(daemon.socket.exists(), "the scenario needs the stale socket")
            daemon.ctl("status", expect=UNREACHABLE)
            daemon.supervisord("--status", expect=3)
            daemon.start()
            daemon.ctl("version")

    def test_a_socket_file_of_somebody_else_alive_is_not_taken(self):
        with Daemon(started=False) as daemon, socket.socket(socket.AF_UNIX) as other:
            other.bind(str(daemon.socket))
            other.listen()
            result = daemon.supervisord(expect=1)
            self.assertIn(str(daemon.socket), result.stderr)
            with socket.socket(socket.AF_UNIX) as probe:
                probe.connect(str(daemon.socket))  # still the other's
                other.accept()[0].close()
            daemon.socket.unlink()

    def test_no_instance_is_doubled_or_lost_when_guardian_and_daemon_were_killed(self):
        with Daemon({"web": sleeper(environment={"PART": "web"})}) as daemon:
            pid = daemon.wait_state("web", "running")["pid"]
            daemon.kill_daemon()
            self.assertTrue(is_alive(pid), "a service must not notice that its supervisor died")
            daemon.start()
            row = daemon.wait_state("web", "running")
            self.assert_becomes(
                lambda: [pid for pid in processes_with(b"PART=web") if pid in daemon.service_processes()], [row["pid"]]
            )
            self.assertEqual(row["pid"], pid)
            daemon.ctl("stop", "web")
            self.assertEqual(daemon.service_processes(), [])

    def test_a_daemon_that_died_is_back_and_its_services_noticed_nothing(self):
        with Daemon({"web": sleeper(), "talker": shell("while :; do echo tick; sleep 0.02; done")}) as daemon:
            version = daemon.version()
            if not version.get("guardian_pid"):
                self.skipTest("runs without a guardian")
            pids = {id: daemon.wait_state(id, "running")["pid"] for id in ("web", "talker")}
            kill(version["pid"])
            wait_until(
                lambda: daemon.ctl("version", expect=None).returncode == DONE
                and daemon.version()["pid"] != version["pid"],
                "the next daemon",
                timeout=30,
            )
            for id, pid in pids.items():
                self.assertEqual(daemon.wait_state(id, "running")["pid"], pid)
                self.assertEqual(daemon.status(id)["restart_count"], 0)
            ticks = daemon.log("talker").count(b"tick\n")
            daemon.wait_log("talker", "tick\n", count=ticks + 5)

    def test_the_pid_of_the_daemon_is_what_version_says(self):
        with Daemon() as daemon:
            version = daemon.version()
            self.assertIn(version["pid"], daemon.supervisors())

    def test_the_daemon_leaves_the_directory_from_which_it_was_started(self):
        with Daemon(background=True) as daemon:
            for pid in daemon.supervisors():
                self.assertNotEqual(os.readlink(f"/proc/{pid}/cwd"), os.getcwd())

    def test_after_a_full_stop_enabled_decides_again_whatever_was_going_on_at_the_end(self):
        often = {"monitoring": {"metrics_interval": 0.01}}
        with Daemon({name: sleeper() for name in "abc"}, extra=often) as daemon:
            for _ in range(3):
                for name in "abc":
                    daemon.wait_for(name, lambda row: row["state"] == "running" and row["memory_mb"] > 0, "a sample")
                daemon.ctl("shutdown")
                daemon.check_gone()
                self.assertEqual([path.name for path in daemon.dir.glob("**/*.record")], [])
                daemon.start()

    def test_clients_that_are_gone_before_their_turn(self):
        with Daemon({"web": shell("while :; do echo line; sleep 0.01; done")}) as daemon:
            daemon.wait_state("web", "running")
            pid = daemon.version()["pid"]
            for _ in range(5):
                os.kill(pid, signal.SIGSTOP)
                commands = [("logs", "web", "-f"), ("events", "-f"), ("logs", "web"), ("status",)] * 3
                clients = [daemon.stream(*command) for command in commands]
                for client in clients:
                    wait_until(lambda pid=client.pid: waits_for_an_answer(pid), "its question")
                for client in clients:
                    kill(client.pid)
                    client.wait()
                os.kill(pid, signal.SIGCONT)
                self.assertEqual(daemon.version()["pid"], pid)
            self.assertEqual(daemon.version()["pid"], pid)

    def test_no_client_holds_up_the_end(self):
        services = {
            "flood": shell("while :; do echo a line that nobody reads any more; done"),
            "waits": sleeper(enabled=False, readiness={"type": "notify", "timeout": 1000}),
        }
        with Daemon(services) as daemon:
            asleep = [daemon.stream(*command) for command in (("logs", "flood", "-f"), ("events", "-f"))]
            for client in asleep:
                client.next()
            asleep.append(daemon.stream("start", "waits"))
            daemon.wait_state("waits", "starting")
            for client in asleep:
                os.kill(client.pid, signal.SIGSTOP)
            daemon.supervisord("--stop", expect=0, timeout=10)
            daemon.check_gone()

    def test_sigterm_twice_is_still_orderly(self):
        slow = shell("trap 'sleep 0.5; echo last words; exit 0' TERM; echo set; while :; do sleep 0.05; done")
        with Daemon({"slow": slow}) as daemon:
            daemon.wait_log("slow", "set")
            daemon.process.send_signal(signal.SIGTERM)
            wait_until(
                lambda: daemon.ctl("status", expect=None).returncode != DONE
                or daemon.event_types("slow")[-1] != "started",
                "the stop to begin",
            )
            if daemon.process.poll() is None:
                daemon.process.send_signal(signal.SIGTERM)
                daemon.process.send_signal(signal.SIGHUP)
            daemon.check_gone()
            daemon.wait_log("slow", "last words")


class RemovedDirectory(Scenario):
    """rm -rf /run/supervisord, under a daemon that runs."""

    def daemon(self, services, *arguments):
        daemon = Daemon(services, started=False)
        daemon.arguments = list(arguments)
        self.place = daemon.dir / "run"
        daemon.socket, daemon.pid_dir = self.place / "s.sock", self.place
        daemon.config["global"].update(socket=str(daemon.socket), pid_directory=str(self.place))
        daemon.write_config()
        return daemon

    def remove(self, daemon):
        remove_tree(self.place)
        self.wait_answer(daemon)

    def wait_answer(self, daemon):
        wait_until(lambda: daemon.ctl("version", expect=None).returncode == DONE, "it to answer", timeout=20)

    def check_that_a_second_one_refuses(self, daemon):
        pid = daemon.socket.with_suffix(".pid").read_text().strip()
        self.assertIn(f"pid {pid} serves", daemon.supervisord("--daemon", expect=1).stderr)
        self.assertIn(f"pid {pid},", daemon.supervisord("--status", expect=0).stdout)

    def check_adoption(self, daemon, pid):
        self.assertEqual(daemon.wait_state("web", "running")["pid"], pid)
        self.assertEqual(daemon.status("web")["restart_count"], 0)
        self.assertEqual(daemon.status("halted")["state"], "stopped", "which somebody has stopped")
        self.assertEqual(daemon.pid_file("web").read_text(), f"{pid}\n")
        before = len(daemon.log("web"))
        wait_until(lambda: len(daemon.log("web")) > before + 20, "its output")

    def services(self):
        return {"web": shell("while :; do echo it writes on; sleep 0.02; done"), "halted": sleeper()}

    def begin(self, daemon):
        daemon.start()
        daemon.wait_state("halted", "running")
        daemon.ctl("stop", "halted")
        return daemon.wait_state("web", "running")["pid"]

    def test_all_that_lies_there_comes_back(self):
        with self.daemon(self.services()) as daemon:
            pid = self.begin(daemon)
            for _ in range(2):
                self.remove(daemon)
                wait_until(lambda: daemon.pid_file("web").exists(), "the pid file")
                self.check_that_a_second_one_refuses(daemon)
            guardian, version = daemon.process.pid, daemon.version()
            if version["guardian_pid"]:
                kill(guardian, signal.SIGSTOP)
                kill(version["pid"])
                self.check_that_a_second_one_refuses(daemon)  # for the guardian has what the daemon had locked
                kill(guardian, signal.SIGCONT)
                wait_until(lambda: daemon.version()["pid"] != version["pid"], "the next daemon", timeout=20)
                self.check_adoption(daemon, pid)
                self.check_that_a_second_one_refuses(daemon)
            daemon.wait_daemon_log("made again")
            daemon.kill_daemon()
            daemon.start()
            self.check_adoption(daemon, pid)
            self.check_that_a_second_one_refuses(daemon)

    def test_for_a_daemon_without_a_guardian_too(self):
        with self.daemon(self.services(), "--no-guardian") as daemon:
            pid = self.begin(daemon)
            self.remove(daemon)
            self.check_that_a_second_one_refuses(daemon)
            daemon.ctl("upgrade")
            self.check_adoption(daemon, pid)
            self.check_that_a_second_one_refuses(daemon)
            daemon.kill_daemon()
            daemon.start()
            self.check_adoption(daemon, pid)

    def test_what_keeps_the_output_is_found_by_the_next_supervisor(self):
        with self.daemon(self.services()) as daemon:
            self.begin(daemon)
            self.remove(daemon)
            daemon.ctl("restart", "web")
            pid, keepers = daemon.pid("web"), daemon.keepers()
            daemon.kill_daemon()
            daemon.start()
            self.check_adoption(daemon, pid)
            wait_until(lambda: not any(is_alive(keeper) for keeper in keepers), "the former one to be relieved")

    def test_what_was_applied_is_still_in_force(self):
        with self.daemon(self.services()) as daemon:
            self.begin(daemon)
            version = daemon.version()
            if not version["guardian_pid"]:
                self.skipTest("runs without a guardian")
            self.remove(daemon)
            wait_until((self.place / "s.state" / "applied.config").exists, "the configuration in force")
            daemon.write_config({"other": sleeper()})
            kill(version["pid"])
            wait_until(lambda: daemon.version()["pid"] != version["pid"], "the next daemon", timeout=20)
            self.assertEqual(sorted(daemon.status()), ["halted", "web"])

    def test_where_it_cannot_be_made_the_log_says_so_and_it_is_tried_again(self):
        with self.daemon(self.services()) as daemon:
            self.begin(daemon)
            aside = daemon.dir / "aside"
            self.place.rename(aside)
            self.place.touch()
            wait_until(lambda: daemon.daemon_log.read_text().count("can't be made again") >= 3, "it to be tried")
            self.assertNotIn("made again\" socket", daemon.daemon_log.read_text())
            retries = re.findall(r"can't be made again.* retry_in=(\S+)", daemon.daemon_log.read_text())
            self.assertEqual(retries[:3], ["200ms", "400ms", "800ms"])
            self.place.unlink()
            self.wait_answer(daemon)
            daemon.wait_daemon_log("made again\" socket")
            self.check_that_a_second_one_refuses(daemon)

    @staticmethod
    def said(daemon):
        return daemon.ctl_json("explain", "web")["service"]["status_text"]

    def test_a_notify_socket_comes_back_too(self):
        script = (
            "import os, socket, time\n"
            "while True:\n"
            "    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as own:\n"
            "        try:\n"
            "            own.sendto(b'READY=1\\nWATCHDOG=1\\nSTATUS=%d' % time.monotonic_ns(), os.environ['NOTIFY_SOCKET'])\n"
            "        except OSError:\n"
            "            pass\n"
            "    time.sleep(0.05)\n"
        )
        service = python(script, readiness={"type": "notify"}, environment={"WATCHDOG_USEC": str(int(20e6 * SCALE))})
        with self.daemon({"web": service}) as daemon:
            daemon.start()
            pid = daemon.wait_state("web", "running")["pid"]
            self.remove(daemon)
            wait_until(lambda: (self.place / "s.state" / "web.notify").exists(), "its socket")
            said = self.said(daemon)
            wait_until(lambda: self.said(daemon) != said, "it to be heard")
            self.assertEqual(daemon.status("web")["pid"], pid)


class Order(Scenario):
    """Which service comes first, and which goes last."""

    def recorder(self, daemon_dir, id, **changes):
        """Says when it starts, when it is asked to go, and when it is gone; takes 0.1 s for the latter."""
        return shell(
            f"""
            say() {{ echo "$1 {id}" >> {daemon_dir}/order; }}
            trap 'say asked; sleep 0.1; say gone; exit 0' TERM
            say started
            while :; do sleep 0.02; done""",
            **changes,
        )

    def lines(self, daemon):
        path = daemon.dir / "order"
        return path.read_text().splitlines() if path.exists() else []

    def start(self, daemon, services):
        daemon.write_config({id: self.recorder(daemon.dir, id, **changes) for id, changes in services.items()})
        daemon.start()
        enabled = [id for id, changes in services.items() if changes.get("enabled", True)]
        wait_until(lambda: len(self.lines(daemon)) == len(enabled), "all to have started")
        for id in enabled:
            daemon.wait_state(id, "running")

    def test_lower_priority_starts_earlier(self):
        wait = {"readiness": {"type": "uptime", "uptime": 0.3}}
        with Daemon(started=False) as daemon:
            self.start(
                daemon,
                {
                    "a-last": {"priority": 30, **wait},
                    "b-middle": {"priority": 20, **wait},
                    "c-first": {"priority": 10, **wait},
                    "d-default": wait,
                },
            )
            starts = ["c-first", "b-middle", "a-last", "d-default"]
            self.assert_becomes(
                lambda: [event["service_id"] for event in daemon.events() if event["event_type"] == "started"], starts
            )
            ticks = [int(process_stat(daemon.pid(id))[19]) for id in starts]
            self.assertEqual(ticks, sorted(ticks))

    def test_a_dependency_starts_first_and_is_ready_before_its_dependents_start(self):
        with Daemon(started=False) as daemon:
            self.start(
                daemon,
                {
                    "web": {"priority": 1, "depends_on": ["db"]},
                    "db": {"priority": 50, "readiness": {"type": "uptime", "uptime": 0.3}},
                },
            )
            self.assertEqual(self.lines(daemon), ["started db", "started web"])
            daemon.wait_event("web", "started")
            self.assert_in_order(
                ["db", "web"], [event["service_id"] for event in daemon.events() if event["event_type"] == "started"]
            )

    def test_disabled_services_are_known_and_shown_as_stopped(self):
        with Daemon(started=False) as daemon:
            self.start(daemon, {"on": {}, "off": {"enabled": False}})
            row = daemon.status("off")
            self.assertEqual((row["state"], row["enabled"], row["pid"] or 0), ("stopped", False, 0))
            self.assertNotIn("started off", self.lines(daemon))
            daemon.ctl("status")  # exit 0: the one that is not enabled does not count
            daemon.ctl("status", "off", expect=NOT_RUNNING)
            daemon.ctl("start", "off")
            self.assertEqual(daemon.status("off")["state"], "running")

    def assert_reverse(self, lines, classes):
        """Each class of priority is gone before the next is asked."""
        stops = [line.split() for line in lines if not line.startswith("started")]
        at = {tuple(words): index for index, words in enumerate(stops)}
        for later, earlier in zip(classes, classes[1:]):
            self.assertLess(max(at["gone", id] for id in later), min(at["asked", id] for id in earlier), stops)

    def test_sigterm_stops_in_reverse_each_class_gone_before_the_next(self):
        with Daemon(started=False) as daemon:
            self.start(
                daemon,
                {"one": {"priority": 1}, "two-a": {"priority": 2}, "two-b": {"priority": 2}, "three": {"priority": 3}},
            )
            daemon.process.send_signal(signal.SIGTERM)
            daemon.check_gone()
            self.assert_reverse(self.lines(daemon), [["three"], ["two-a", "two-b"], ["one"]])

    def test_shutdown_stops_in_reverse_too_dependents_before_what_they_need(self):
        with Daemon(started=False) as daemon:
            self.start(daemon, {"db": {}, "cache": {"depends_on": ["db"]}, "web": {"depends_on": ["cache", "db"]}})
            daemon.ctl("shutdown")
            daemon.check_gone()
            self.assert_reverse(self.lines(daemon), [["web"], ["cache"], ["db"]])

    def test_services_of_one_priority_stop_together(self):
        with Daemon(started=False) as daemon:
            slow = "trap 'sleep 2; exit 0' TERM; echo set; while :; do sleep 0.05; done"
            daemon.write_config({f"s{i}": shell(slow, priority=1) for i in range(10)})
            daemon.start()
            for i in range(10):
                daemon.wait_log(f"s{i}", "set")
            began = time.monotonic()
            daemon.stop()
            self.assert_quicker(12, began)  # one after the other they took 20 s


if __name__ == "__main__":
    main()
