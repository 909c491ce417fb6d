"""The daemon's own signals, in every order of two, in quick succession, and while it stops."""

import itertools
import signal
import threading

from harness import (
    NOT_RUNNING,
    SCALE,
    Daemon,
    Scenario,
    is_alive,
    kill,
    main,
    merge,
    process_stat,
    process_status,
    shell,
    sleeper,
    wait_until,
)

STOPS = (signal.SIGTERM, signal.SIGINT)
SIGNALS = (*STOPS, signal.SIGHUP, signal.SIGUSR1)
SLOW = shell("trap 'sleep 0.2; echo last words; exit 0' TERM; echo set; while :; do sleep 0.02; done")


def pending(pid):
    """The signals that wait for the process as a whole."""
    bits = int(process_status(pid)["ShdPnd"], 16)
    return {number for number in range(1, 32) if bits >> (number - 1) & 1}


class Signals(Scenario):
    def pair(self, first, second, problems):
        """Both signals, one upon the other, while the file on disk has a service more than what runs."""
        name = f"{first.name} {second.name}"
        try:
            with Daemon({"web": sleeper(), "slow": SLOW}) as daemon:
                pids = {id: daemon.wait_state(id, "running")["pid"] for id in ("web", "slow")}
                daemon.wait_log("slow", "set")
                daemon.write_config({**daemon.config["services"], "more": sleeper(environment={"PART": "more"})})
                for number in (first, second):
                    daemon.process.send_signal(number)
                if first in STOPS or second in STOPS:
                    daemon.check_gone()
                    self.assertEqual(daemon.log("slow"), b"set\nlast words\n", name)
                    for id in ("web", "slow"):
                        rows = daemon.sql("SELECT event_type FROM supervisor_events WHERE service_id = ?", id)
                        self.assertEqual([kind for (kind,) in rows], ["started", "stopped"], name)
                    if first in STOPS:
                        self.assertEqual(
                            daemon.sql("SELECT count(*) FROM supervisor_events WHERE service_id = 'more'"), [(0,)], name
                        )
                else:
                    if signal.SIGHUP in (first, second):
                        daemon.wait_state("more", "running")
                    daemon.ctl("version")
                    self.assertEqual({id: daemon.pid(id) for id in pids}, pids, name)
        except AssertionError as error:
            problems.append(f"{name}: {error}")

    def test_all_pairs_in_quick_succession(self):
        problems = []
        pairs = [
            threading.Thread(target=self.pair, args=(first, second, problems))
            for first, second in itertools.product(SIGNALS, SIGNALS)
        ]
        for batch in range(0, len(pairs), 8):
            for thread in pairs[batch : batch + 8]:
                thread.start()
            for thread in pairs[batch : batch + 8]:
                thread.join()
        self.assertEqual(problems, [])

    def test_of_signals_that_wait_together_the_stop_comes_first(self):
        pairs = ((signal.SIGTERM, signal.SIGHUP), (signal.SIGINT, signal.SIGUSR2))
        for (first, second), at_guardian in itertools.product(pairs, (False, True)):
            with self.subTest(first=first, at_guardian=at_guardian), Daemon({"web": sleeper()}) as daemon:
                daemon.wait_state("web", "running")
                daemon.write_config({**daemon.config["services"], "more": sleeper()})
                (child,) = set(daemon.supervisors()) - {daemon.process.pid}
                pid = daemon.process.pid if at_guardian else child
                kill(pid, signal.SIGSTOP)
                wait_until(lambda pid=pid: process_stat(pid)[0] == "T", f"{pid} to be stopped")
                for number in (first, second):  # of the two the kernel hands out the second first: its number is lower
                    kill(pid, number)
                wait_until(lambda pid=pid, both={first, second}: pending(pid) >= both, "both to wait")
                kill(pid, signal.SIGCONT)
                daemon.check_gone()
                events = daemon.sql("SELECT event_type FROM supervisor_events WHERE service_id = 'more'")
                self.assertEqual(events, [])
                stopped = daemon.sql("SELECT count(*) FROM supervisor_events WHERE event_type = 'supervisor_stopped'")
                self.assertEqual(stopped, [(1,)])

    def test_a_reload_or_any_signal_during_the_shutdown_starts_nothing_and_stops_nothing_twice(self):
        stubborn = shell(
            "trap 'echo asked' TERM; echo set; while :; do sleep 0.02; done", graceful_shutdown={"timeout": 1}
        )
        with Daemon({"stubborn": stubborn, "early": sleeper(priority=1)}) as daemon:
            daemon.wait_log("stubborn", "set")
            daemon.wait_state("early", "running")
            daemon.process.terminate()
            daemon.wait_log("stubborn", "asked")
            daemon.write_config({**daemon.config["services"], "more": sleeper(), "early": sleeper(args=["2000000"])})
            for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
                for pid in daemon.supervisors():
                    kill(pid, number)
            daemon.ctl("start", "all", expect=(1, 5))
            daemon.ctl("reload", expect=(1, 2, 5))
            daemon.check_gone()
            self.assertEqual(daemon.log("stubborn").count(b"asked"), 1)
            starts = daemon.sql("SELECT service_id FROM supervisor_events WHERE event_type = 'started' ORDER BY id")
            self.assertEqual(sorted(starts), [("early",), ("stubborn",)])

    def test_a_hundred_hangups_are_one_configuration(self):
        with Daemon({"web": sleeper()}) as daemon:
            pid = daemon.wait_state("web", "running")["pid"]
            for round in range(100):
                daemon.config["services"][f"s{round % 7}"] = sleeper()
                if round % 3 == 0:
                    daemon.write_config({"web": sleeper(), f"s{round % 7}": sleeper()})
                daemon.process.send_signal(signal.SIGHUP)
            daemon.write_config({"web": sleeper(), "last": sleeper()})
            daemon.process.send_signal(signal.SIGHUP)
            wait_until(lambda: sorted(daemon.status()) == ["last", "web"], "the last configuration")
            self.assertEqual(daemon.pid("web"), pid)
            wait_until(lambda: len(daemon.service_processes()) == 2, "the others to be gone")


class DesiredState(Scenario):
    """What somebody stopped stays stopped, until everything was stopped."""

    def assert_states(self, daemon, **states):
        for id, state in states.items():
            daemon.wait_state(id, state)

    def start(self, daemon):
        self.assert_states(daemon, web="running", db="running", dependent="running", worker="running")

    SERVICES = {
        "web": sleeper(),
        "db": sleeper(),
        "dependent": sleeper(depends_on=["db"]),
        "worker": sleeper(),
        "off": sleeper(enabled=False),
    }

    def test_over_the_death_of_daemon_and_guardian(self):
        with Daemon(self.SERVICES) as daemon:
            self.start(daemon)
            daemon.ctl("stop", "web", "db")
            daemon.ctl("start", "off")
            pids = {id: daemon.pid(id) for id in ("worker", "off")}
            for _ in range(2):
                daemon.kill_daemon()
                daemon.start()
                self.assert_states(daemon, web="stopped", db="stopped", dependent="stopped", worker="running")
                self.assertEqual({id: daemon.wait_state(id, "running")["pid"] for id in pids}, pids)
                daemon.ctl("status", expect=NOT_RUNNING)
            daemon.ctl("start", "dependent")
            daemon.kill_daemon()
            daemon.start()
            self.assert_states(daemon, web="stopped", db="running", dependent="running")

    def test_over_the_death_of_the_daemon_alone(self):
        with Daemon(self.SERVICES) as daemon:
            self.start(daemon)
            daemon.ctl("stop", "web")
            version = daemon.version()
            kill(version["pid"])
            wait_until(
                lambda: daemon.ctl("version", expect=None).returncode == 0
                and daemon.version()["pid"] != version["pid"],
                "the next daemon",
                timeout=30,
            )
            self.assert_states(daemon, web="stopped", db="running", worker="running", off="stopped")

    def test_over_a_reload_and_not_over_a_full_stop(self):
        with Daemon(self.SERVICES, background=True) as daemon:
            self.start(daemon)
            daemon.ctl("stop", "web")
            daemon.ctl("start", "off")
            daemon.write_config({id: merge(service, {"args": ["7000000"]}) for id, service in self.SERVICES.items()})
            daemon.ctl("reload")
            self.assert_states(daemon, web="stopped", db="running", off="running", worker="running")
            daemon.stop()
            daemon.start()
            self.assert_states(daemon, web="running", db="running", off="stopped", worker="running")

    def test_a_stop_that_the_daemon_did_not_live_to_finish_is_finished_by_the_next(self):
        patience = {"timeout": 3 * SCALE}  # time enough to be killed in
        stubborn = shell("trap '' TERM; echo set; while :; do sleep 0.02; done", graceful_shutdown=patience)
        with Daemon({"web": stubborn}) as daemon:
            daemon.wait_log("web", "set")
            pid = daemon.pid("web")
            daemon.ctl("stop", "--no-wait", "web")
            daemon.wait_state("web", "stopping")
            wait_until(lambda: any((daemon.dir / "s.state").glob("*.record")), "its record")
            daemon.kill_daemon()
            daemon.start()
            daemon.wait_state("web", "stopped")
            self.assertFalse(is_alive(pid))


class CriticalFailure(Scenario):
    def test_with_exit_on_critical_failure_all_is_stopped_in_order_and_the_exit_code_is_its_own_or_1(self):
        core = shell("trap 'exit 42' USR1; echo set; while :; do sleep 0.02; done")
        for number, code in ((signal.SIGKILL, 1), (signal.SIGUSR1, 42)):
            with self.subTest(number=number):
                self.critical_failure({**core, "critical": True, "restart_policy": {"mode": "never"}}, number, code)

    def critical_failure(self, core, number, code):
        services = {
            "beside": shell("trap 'echo asked; exit 0' TERM; echo set; while :; do sleep 0.02; done"),
            "core": core,
        }
        with Daemon(services, global_={"exit_on_critical_failure": True}) as daemon:
            daemon.wait_log("beside", "set")
            daemon.wait_log("core", "set")
            kill(daemon.wait_state("core", "running")["pid"], number)
            self.assertEqual(daemon.process.wait(20 * SCALE), code)
            daemon.process = None
            self.assertEqual(daemon.processes(), [])
            self.assertEqual(daemon.log("beside"), b"set\nasked\n")
            ((message, details),) = daemon.sql(
                "SELECT message, details FROM supervisor_events WHERE event_type = 'supervisor_stopped'"
            )
            self.assertIn("core", f"{message} {details}")

    def test_what_is_not_critical_or_still_being_tried_or_not_configured_so_ends_nothing(self):
        services = {
            "trying": sleeper(critical=True),
            "minor": shell("exit 3", restart_policy={"mode": "never"}),
            "done": shell("exit 0", critical=True, restart_policy={"mode": "on-failure"}),
        }
        with Daemon(services, global_={"exit_on_critical_failure": True}) as daemon:
            daemon.wait_state("minor", "failed")
            daemon.wait_state("done", "exited")
            pid = daemon.wait_state("trying", "running")["pid"]
            kill(pid)
            daemon.wait_for("trying", lambda row: row["state"] == "running" and row["pid"] != pid, "its restart")
            daemon.ctl("stop", "trying")
            daemon.ctl("version")


if __name__ == "__main__":
    main()
