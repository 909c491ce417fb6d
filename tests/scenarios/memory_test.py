"""What the system remembers: the capsule of an abnormal end, metrics, explain, summary, top; and what it must not."""

import contextlib
import json
import signal
import sqlite3

from harness import (
    Daemon,
    HttpReceiver,
    Scenario,
    kill,
    main,
    merge,
    python,
    shell,
    sleeper,
    wait_until,
)

CANARY = "canary-93b1f0c7aa54"
OFTEN = {"monitoring": {"metrics_interval": 0.1}}


class Capsule(Scenario):
    def capsule(self, daemon, service, **wanted):
        """The details of the first exit that has its last lines."""
        return daemon.wait_event(
            service,
            "exited",
            lambda event: "last_lines" in event["details"]
            and all(event["details"].get(key) == value for key, value in wanted.items()),
        )["details"]

    def test_an_exit_code_with_the_last_fifty_lines(self):
        script = "i=0; while [ $i -lt 80 ]; do echo line $i; i=$((i+1)); done; printf 'no newline'; exit 7"
        with Daemon({"web": shell(script, restart_policy={"mode": "never"})}) as daemon:
            details = self.capsule(daemon, "web", exit_code=7)
            self.assertEqual(details["last_lines"], [f"line {i}" for i in range(31, 80)] + ["no newline"])
            self.assertFalse(details["out_of_memory"])
            self.assertGreaterEqual(details["uptime_seconds"], 0)

    def test_a_signal_with_the_last_metrics(self):
        with Daemon({"web": shell("echo up; exec sleep 1000")}, extra=OFTEN) as daemon:
            daemon.wait_for("web", lambda row: row["memory_mb"] > 0, "a sample")
            kill(daemon.pid("web"), signal.SIGSEGV)
            details = self.capsule(daemon, "web", signal="SIGSEGV")
            self.assertEqual(details["exit_signal"], 11)
            self.assertIn("core_dumped", details)
            self.assertEqual(details["last_lines"], ["up"])
            self.assertGreater(details["last_metrics"]["memory_mb"], 0)
            self.assertEqual(details["last_metrics"]["processes"], 1)
            self.assertGreater(details["uptime_seconds"], 0)

    def test_an_orderly_end_has_none(self):
        with Daemon({"once": shell("echo done", restart_policy={"mode": "on-failure"})}) as daemon:
            event = daemon.wait_event("once", "exited")
            self.assertNotIn("uptime_seconds", event["details"])


class Remembered(Scenario):
    def test_metrics_are_of_the_whole_tree(self):
        source = """
import subprocess, time
block = bytearray(40 << 20)
child = subprocess.Popen(["/bin/sh", "-c", "sleep 1000000 & exec sleep 1000000"])
files = [open("/dev/null") for _ in range(20)]
while True:
    time.sleep(0.01)
"""
        with Daemon({"web": python(source)}, extra=OFTEN) as daemon:

            def measured():
                summary = daemon.ctl_json("metrics", "web", "--since", "1h").get("summary", {})
                return (
                    summary["processes"]["max"] == 3
                    and summary["memory_mb"]["max"] > 40
                    and summary["descriptors"]["max"] > 25
                    and summary
                )

            summary = wait_until(measured, "three processes")
            for name in ("cpu_percent", "memory_mb", "processes", "read_bytes_per_second"):
                values = summary[name]
                self.assertLessEqual(values["min"], values["mean"])
                self.assertLessEqual(values["mean"], values["max"])
                self.assertLessEqual(values["p95"], values["max"])
            text = daemon.ctl("metrics", "web").stdout
            for word in ("METRIC", "P95", "CPU", "MEMORY", "PROCESSES", "DESCRIPTORS"):
                self.assertIn(word, text)
            self.assertRegex(text, "[▁▂▃▄▅▆▇█]")

    def test_long_spans_are_sampled_down(self):
        with Daemon({"web": sleeper()}, extra={"monitoring": {"metrics_interval": 3600}}) as daemon:
            daemon.wait_state("web", "running")
            wait_until(lambda: daemon.sql("SELECT 1 FROM supervisor_services WHERE id = 'web'"), "the row")
            with contextlib.closing(sqlite3.connect(daemon.database, timeout=30)) as other:
                other.execute(
                    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 20000) INSERT INTO "
                    "supervisor_metrics (service_id, timestamp, cpu_percent, memory_mb) "
                    "SELECT 'web', strftime('%Y-%m-%d %H:%M:%f', 'now', '-' || i || ' seconds'), i % 100, 10 FROM n"
                )
                other.commit()
            answer = daemon.ctl_json("metrics", "web", "--since", "1d", "-n", "48")
            self.assertLessEqual(len(answer["points"]), 48)
            self.assertGreater(answer["point_seconds"], 60)
            self.assertGreaterEqual(answer["summary"]["cpu_percent"]["samples"], 20000)
            self.assertEqual(answer["summary"]["cpu_percent"]["max"], 99)

    def test_explain_tells_the_chain_and_what_is_next(self):
        services = {
            "db": shell(
                "echo cannot open the disk >&2; exit 4",
                restart_policy={"max_attempts": 1, "delay": 0.05},
                readiness={"type": "uptime", "uptime": 60},
            ),
            "app": sleeper(depends_on=["db"]),
            "web": sleeper(depends_on=["app"]),
        }
        with Daemon(services) as daemon:
            daemon.wait_state("db", "failed")
            wait_until(lambda: daemon.ctl_json("alerts")["alerts"], "the alert")
            causes = "\n".join(daemon.ctl_json("explain", "web")["causes"])
            self.assertIn("web depends on app", causes)
            self.assertIn("app depends on db, which is failed", causes)
            self.assertIn("exited with code 4", causes)
            self.assertIn("open alert of db", causes)
            page = daemon.ctl("explain", "db").stdout
            for part in ("exited with code 4", "cannot open the disk", "given up after", "supervisorctl start db"):
                self.assertIn(part, page)

    def test_explain_shows_a_failing_check_and_the_policy(self):
        check = {
            "type": "script",
            "command": "/bin/sh",
            "args": ["-c", "echo queue is full; exit 1"],
            "interval": 0.1,
            "retries": 1,
            "on_failure": "alert",
        }
        with Daemon({"web": sleeper(health_check=check)}) as daemon:
            daemon.wait_event("web", "unhealthy")
            answer = daemon.ctl_json("explain", "web")
            self.assertIn("its health check fails", "\n".join(answer["causes"]))
            self.assertIn("queue is full", "\n".join(answer["causes"]))
            self.assertIn("it is restarted in about", answer["next"])

    def test_top_shows_one_picture_where_there_is_no_terminal(self):
        with Daemon({"web": sleeper(), "api": sleeper(enabled=False)}, extra=OFTEN) as daemon:
            daemon.wait_state("web", "running")
            text = daemon.ctl("top").stdout
            self.assertIn("1 running, 1 stopped", text)
            self.assertIn("web", text)
            self.assertEqual(daemon.ctl_json("top")["total"], 2)


class Secrets(Scenario):
    def test_a_canary_of_the_environment_is_found_nowhere(self):
        """Neither in answers, nor in the database, nor in our log, nor in a notification."""
        dies = shell('echo up; exit 3', restart_policy={"mode": "on-failure", "max_attempts": 1, "delay": 0.05})
        services = {
            "quiet": merge(sleeper(), {"environment": {"ANYTHING": CANARY}}),
            "failing": merge(dies, {"environment": {"ANYTHING": CANARY, "API_TOKEN": CANARY + "-token"}}),
            # It prints its secret as it dies: that is in its own log, and nowhere else.
            "talker": merge(
                shell('echo "token is $API_TOKEN"; exit 5', restart_policy={"mode": "never"}),
                {"environment": {"API_TOKEN": CANARY + "-spoken"}},
            ),
        }
        with HttpReceiver() as receiver:
            extra = {"notifications": {"min_interval": 0, "channels": [{"type": "webhook", "url": receiver.url()}]}}
            with Daemon(services, extra=merge(extra, OFTEN)) as daemon:
                receiver.wait_alert("raised", "failing", "failed")
                event = daemon.wait_event("talker", "exited", lambda event: "last_lines" in event["details"])
                self.assertEqual(event["details"]["last_lines"], ["token is ***"])
                daemon.ctl("restart", "quiet")
                answers = [
                    daemon.ctl("--json", *command, expect=None).stdout
                    for command in (
                        ["status"],
                        ["health"],
                        ["events", "-n", "1000"],
                        ["summary"],
                        ["alerts", "--all"],
                        ["metrics", "quiet"],
                        ["explain", "quiet"],
                        ["explain", "failing"],
                        ["version"],
                        ["reload", "--dry-run"],
                    )
                ]
                self.assertNotIn(CANARY, "\n".join(answers))
                self.assertNotIn(CANARY, json.dumps([body.decode() for _, _, body in receiver.posts]))
                daemon.stop()
                self.assertNotIn(CANARY, daemon.daemon_log.read_text(errors="replace"))
                for path in daemon.dir.glob("supervisor.db*"):
                    self.assertNotIn(CANARY.encode(), path.read_bytes(), path)
                self.assertIn(CANARY, daemon.log_file("talker").read_text())


class Following(Scenario):
    def test_nothing_is_left_out_between_history_and_live(self):
        """A follower with history that begins while events flood sees every id from its first one on."""
        with Daemon({"web": shell("exit 0", restart_policy={"mode": "always", "delay": 0.001})}) as daemon:
            daemon.wait_for("web", lambda row: row["restart_count"] > 20, "restarts")
            stream = daemon.stream("--json", "events", "-f", "-n", "20")
            ids = [json.loads(stream.next())["id"] for _ in range(300)]
            daemon.ctl("stop", "web")
            self.assertEqual(ids, list(range(ids[0], ids[0] + len(ids))))


if __name__ == "__main__":
    main()
