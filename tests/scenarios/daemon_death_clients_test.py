"""What supervisorctl does when the daemon dies or is replaced under it: reads again, says so, goes on."""

import json
import os
import re
import signal
import subprocess

from harness import (
    DONE,
    FAILED,
    SCALE,
    SUPERVISORCTL,
    UNREACHABLE,
    Daemon,
    Scenario,
    kill,
    main,
    shell,
    sleeper,
    wait_until,
)
from harness.processes import process_stat


class UnderWay(Scenario):
    """Calls that wait for an answer when the daemon dies."""

    def call(self, daemon, *command):
        """A call to a daemon that is stopped, once it waits for the answer."""
        client = subprocess.Popen(
            [SUPERVISORCTL, "--socket", str(daemon.socket), *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=daemon.client_env,
        )

        def waits():
            sockets = [os.readlink(f"/proc/{client.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{client.pid}/fd")]
            return any(link.startswith("socket:") for link in sockets) and process_stat(client.pid)[0] == "S"

        wait_until(waits, "the call to wait for its answer")
        return client

    def end(self, client):
        out, err = client.communicate(timeout=60 * SCALE)
        return client.returncode, out.decode(), err.decode()

    def test_calls_that_read_are_asked_again_by_themselves(self):
        with Daemon({"web": sleeper()}) as daemon:
            pid = daemon.wait_state("web", "running")["pid"]
            daemon.wait_event("web", "started")  # it is in the database: what is not yet dies with the daemon
            for command in (["status"], ["--json", "events"], ["summary"], ["explain", "web"], ["logs", "web"]):
                with self.subTest(command=command):
                    old = daemon.version()["pid"]
                    kill(old, signal.SIGSTOP)
                    client = self.call(daemon, *command)
                    kill(old)
                    code, out, err = self.end(client)
                    self.assertEqual((code, err), (DONE, ""))
                    if command == ["status"]:
                        self.assertIn(str(pid), out)
                    if "--json" in command:
                        self.assertIn("started", [event["event_type"] for event in json.loads(out)["events"]])

    def test_calls_that_act_say_that_the_daemon_restarted_and_where_to_look(self):
        with Daemon({"web": sleeper()}) as daemon:
            daemon.wait_state("web", "running")
            for command in (["restart", "web"], ["stop", "web"], ["signal", "HUP", "web"], ["reload"]):
                with self.subTest(command=command):
                    old = daemon.version()["pid"]
                    kill(old, signal.SIGSTOP)
                    client = self.call(daemon, *command)
                    kill(old)
                    code, out, err = self.end(client)
                    self.assertEqual((code, out), (FAILED, ""))
                    self.assertIn("daemon restarted", err)
                    self.assertIn("supervisorctl status", err)
                    self.assertEqual(daemon.status("web")["state"], "running", "it never read the request")

    def test_with_nobody_to_start_the_next_it_cannot_be_reached(self):
        with Daemon({"web": sleeper()}) as daemon:
            daemon.wait_state("web", "running")
            kill(daemon.version()["pid"], signal.SIGSTOP)
            clients = {name: self.call(daemon, *command) for name, command in
                       {"act": ["restart", "web"], "read": ["status"]}.items()}
            daemon.kill_daemon()
            for name, client in clients.items():
                code, out, err = self.end(client)
                self.assertEqual((name, code, out), (name, UNREACHABLE, ""))
                self.assertIn("supervisor", err)
            daemon.start()


class Followers(Scenario):
    def die(self, daemon, how):
        old = daemon.version()
        if how == "upgrade":
            daemon.ctl("upgrade")
        else:
            kill(old["pid"])
        wait_until(lambda: daemon.version()["started_at"] != old["started_at"], "the next daemon", timeout=20)

    def test_events_go_on_without_gap_or_double(self):
        with Daemon({"web": sleeper(), "crasher": shell("sleep 0.05; exit 3", restart_policy={"delay": 0.05})}) as daemon:
            stream = daemon.stream("--json", "events", "-f")
            first = json.loads(stream.next())
            for round, how in enumerate(["kill", "upgrade", "kill", "kill", "upgrade"]):
                daemon.ctl("stop", "web", "--reason", f"round {round}")
                self.die(daemon, how)
                daemon.ctl("start", "web")
            daemon.ctl("stop", "crasher")
            daemon.ctl("stop", "web", "--reason", "the last")
            stream.wait_for(lambda line: "the last" in line and json.loads(line)["event_type"] == "stopped")
            seen = [json.loads(line)["id"] for line in stream.seen]
            kept = [event["id"] for event in daemon.events(count=100000) if first["id"] <= event["id"] <= seen[-1]]
            self.assertEqual(seen, kept, "\n".join(stream.seen))
            self.assertGreater(len(seen), 30)

    def test_a_stream_that_was_quiet_goes_on_too(self):
        with Daemon({"web": sleeper()}) as daemon:
            daemon.wait_event("web", "started")
            stream = daemon.stream("events", "-f")
            stream.wait_for("EVENT")  # the heading: from here on nothing is to be missed
            old = daemon.version()["pid"]
            kill(old)
            stream.wait_for("adopted")
            self.assertEqual(sum("supervisor_started" in line for line in stream.seen), 1, stream.seen)

    def test_logs_go_on_without_gap_or_double_over_kill_9(self):
        with Daemon({"lines": shell("i=0; while :; do i=$((i+1)); echo line $i; sleep 0.002; done")}) as daemon:
            daemon.wait_log("lines", "line 10\n")
            streams = {
                "all": daemon.stream("logs", "lines", "-f", "-n", "1000000"),
                "from now": daemon.stream("logs", "lines", "-f", "-n", "0"),
                "sevens": daemon.stream("logs", "lines", "-f", "-n", "0", "--grep", "7$"),
            }
            for stream in streams.values():
                stream.next()
            for how in ("kill", "kill", "upgrade", "kill"):
                self.die(daemon, how)
                reached = len(re.findall(rb"\n", daemon.log("lines")))
                daemon.wait_log("lines", f"line {reached + 50}\n")
            daemon.ctl("stop", "lines")
            last = int(re.findall(rb"line (\d+)\n", daemon.log("lines"))[-1])
            for name, stream in streams.items():
                end = last - (last - 7) % 10 if name == "sevens" else last
                stream.wait_for(lambda line, end=end: line == f"line {end}")
                numbers = [int(line.split()[1]) for line in stream.seen]
                step = 10 if name == "sevens" else 1
                self.assertEqual(numbers, list(range(numbers[0], end + 1, step)), name)
            self.assertEqual(streams["all"].seen[0], "line 1")


if __name__ == "__main__":
    main()
