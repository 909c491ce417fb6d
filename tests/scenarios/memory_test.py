"""What the system remembers: the capsule of an abnormal end, metrics, explain, summary, top; and what it must not."""

import contextlib
import json
import signal
import sqlite3
import time

from harness import (
    SCALE,
    Daemon,
    HttpReceiver,
    MailReceiver,
    Scenario,
    kill,
    main,
    merge,
    python,
    rpc_call,
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
        # Its last words are read when it is gone: before the next one says the same.
        service = shell("echo up; exec sleep 1000", restart_policy={"mode": "never"})
        with Daemon({"web": service}, extra=OFTEN) as daemon:
            daemon.wait_for("web", lambda row: row["memory_mb"] > 0, "a sample")
            kill(daemon.pid("web"), signal.SIGSEGV)
            details = self.capsule(daemon, "web", signal="SIGSEGV")
            self.assertEqual(details["exit_signal"], 11)
            self.assertIn("core_dumped", details)
            self.assertEqual(details["last_lines"], ["up"])
            self.assertGreater(details["last_metrics"]["memory_mb"], 0)
            self.assertEqual(details["last_metrics"]["processes"], 1)
            self.assertGreater(details["uptime_seconds"], 0)

    def test_a_standard_error_of_its_own_is_among_the_lines(self):
        script = "for i in 1 2 3; do echo out $i; done; echo Traceback >&2; echo KeyError >&2; exit 7"
        service = shell(script, restart_policy={"mode": "never"}, logs={"stderr": "separate"})
        with Daemon({"web": service}) as daemon:
            lines = ["out 1", "out 2", "out 3", "Traceback", "KeyError"]
            self.assertEqual(self.capsule(daemon, "web", exit_code=7)["last_lines"], lines)
            self.assertEqual(daemon.ctl_json("explain", "web")["last_lines"], lines)

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
                    and "cpu_percent" in summary  # which takes two samples
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

    def test_load_is_known_soon_after_a_start_and_after_a_crash_of_the_daemon(self):
        """However long the interval is, and though another service starts all the while."""
        quick = shell("exit 1", restart_policy={"mode": "always", "delay": 0.2, "max_delay": 0.2, "max_attempts": 0})
        busy = python("block = b'x' * (8 << 20)\nwhile True: pass")
        with Daemon({"web": busy, "quick": quick}, extra={"monitoring": {"metrics_interval": 3600}}) as daemon:
            def load():
                return daemon.wait_for("web", lambda row: row["memory_mb"] > 0 and row["cpu_percent"] > 0, "load", 60)

            pid, old = load()["pid"], daemon.version()["pid"]
            kill(old)
            wait_until(lambda: daemon.version()["pid"] != old, "the next daemon", timeout=20)
            self.assertEqual(load()["pid"], pid)

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

    def record(self, daemon, service, **point):
        """RecordMetrics as another program calls it; whether it was taken."""
        fields = {"timestamp": "f1", "cpu_percent": "f2", "memory_mb": "f3", "health_status": "f4",
                  "response_time_ms": "f5", "processes": "f6"}
        sample = rpc_call.message(**{fields[name]: value for name, value in point.items()})
        request = rpc_call.message(f1=service, f2=sample)
        return rpc_call.call(daemon.socket, "RecordMetrics", request=request) is not None

    def test_metrics_from_outside_are_taken_in(self):
        with Daemon(
            {"web": sleeper(), "many": sleeper(instances=2)}, extra={"monitoring": {"metrics_interval": 3600}}
        ) as daemon:
            daemon.wait_state("web", "running")
            for value in (10.0, 20.0, 60.0):
                self.assertTrue(self.record(daemon, "web", response_time_ms=value, health_status="healthy"))
            an_hour_ago = int((time.time() - 3600) * 1000)
            self.assertTrue(self.record(daemon, "web", cpu_percent=250.5, memory_mb=12.5, timestamp=an_hour_ago))
            summary = daemon.ctl_json("metrics", "web", "--since", "2h")["summary"]
            self.assertEqual([summary["response_time_ms"][name] for name in ("samples", "min", "max")], [3, 10, 60])
            self.assertEqual(summary["cpu_percent"]["max"], 250.5)
            newest = daemon.ctl_json("metrics", "web", "--since", "10m")
            self.assertEqual(newest["summary"]["response_time_ms"]["mean"], 30)
            self.assertEqual(
                daemon.sql(
                    "SELECT response_time_ms, health_status FROM supervisor_metrics "
                    "WHERE service_id = 'web' AND response_time_ms IS NOT NULL ORDER BY id"
                ),
                [(10, "healthy"), (20, "healthy"), (60, "healthy")],
            )
            self.assertTrue(self.record(daemon, "many:1", cpu_percent=1.0))
            for service, point in (
                ("web", {}),  # nothing in it
                ("web", {"cpu_percent": -1.0}),
                ("web", {"memory_mb": float("nan")}),
                ("web", {"response_time_ms": float("inf")}),
                ("web", {"health_status": "splendid"}),
                ("web", {"cpu_percent": 1.0, "timestamp": 2**62}),
                ("web", {"cpu_percent": 1.0, "timestamp": -1}),
                ("web", {"cpu_percent": 1.0, "processes": 5.0}),  # measured here, and by nobody else
                ("nobody", {"cpu_percent": 1.0}),
                ("many", {"cpu_percent": 1.0}),  # of which of the two?
                ("all", {"cpu_percent": 1.0}),
                ("web", {"cpu_percent": 1.0, "health_status": "x" * 10000}),
            ):
                self.assertFalse(self.record(daemon, service, **point), (service, point))
            daemon.stop()
            self.assertEqual(
                daemon.sql("SELECT id FROM supervisor_services ORDER BY id"),
                [("many:0",), ("many:1",), ("supervisor",), ("web",)],
            )

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
    """An environment value marked as a canary is in the services' own logs, and wherever the user wrote it; else nowhere."""

    # Says it in every way that reaches others: its last lines, a hook, a check, STATUS=.
    SPEAKS = """
import os, socket, sys
said = os.environ["API_TOKEN"] + " " + os.environ["FROM_FILE"]
address = os.environ["NOTIFY_SOCKET"]
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
    notify.sendto(f"READY=1\\nSTATUS=with {said}".encode(), "\\0" + address[1:] if address[0] == "@" else address)
print("token is " + said, flush=True)
sys.stdin.read() if len(sys.argv) > 1 else None
"""

    def services(self, daemon):
        file = daemon.dir / "secrets.env"
        file.write_text(f"FROM_FILE={CANARY}-file\nDATABASE_URL=postgres://app:{CANARY}-url@db/x\n")
        says = {"command": "/bin/sh", "args": ["-c", 'echo "$API_TOKEN $FROM_FILE $DATABASE_URL" >&2; exit 7']}
        secret = {"environment": {"API_TOKEN": CANARY + "-token", "ANYTHING": CANARY}, "environment_file": str(file)}
        # The last words of the first are read before the second says the same.
        once = {"restart_policy": {"mode": "on-failure", "max_attempts": 1, "delay": 3 * SCALE}}
        talks = self.SPEAKS.replace("\\\\", "\\")
        check = {
            "type": "script",
            "command": "/bin/sh",
            "args": ["-c", f"cat {file}; exit 1"],
            "interval": 0.1,
            "retries": 1,
            "on_failure": "alert",
        }
        return {
            "quiet": merge(sleeper(), secret),
            "talker": merge(python(talks + "sys.exit(5)\n"), merge(secret, {"readiness": {"type": "notify"}, **once})),
            "hooked": merge(sleeper(), merge(secret, {"hooks": {"pre_start": says}, **once})),
            "sick": merge(
                python(talks + "import time\ntime.sleep(1e6)\n"),
                merge(secret, {"readiness": {"type": "notify"}, "health_check": check}),
            ),
            "stopped": merge(sleeper(), merge(secret, {"graceful_shutdown": {**says, "timeout": 0.5}})),
        }

    def answers(self, daemon):
        commands = [["status"], ["health"], ["summary"], ["alerts", "--all"], ["version"], ["events", "-n", "1000"]]
        commands += [["explain", name] for name in daemon.config["services"]]
        commands += [["metrics", "quiet"], ["top"], ["reload", "--dry-run"], ["restart", "hooked"], ["reload"]]
        for command in commands:
            for json_wanted in ([], ["--json"]):
                yield command, daemon.ctl(*json_wanted, *command, expect=None).text

    def test_a_canary_of_the_environment_is_found_nowhere(self):
        with HttpReceiver() as web, HttpReceiver() as slack, MailReceiver() as mail, Daemon(started=False) as daemon:
            told = daemon.dir / "told"
            daemon.config["notifications"] = {
                "min_interval": 0,
                "channels": [
                    {"type": "webhook", "url": web.url()},
                    {"type": "slack", "url": slack.url()},
                    {
                        "type": "email",
                        "smtp_url": f"smtp://127.0.0.1:{mail.port}",
                        "from": "a@example.org",
                        "to": ["b@example.org"],
                    },
                    {"type": "command", "command": "/bin/sh", "args": ["-c", f"cat >> {told}"]},
                ],
            }
            daemon.config.update(OFTEN)
            daemon.write_config(self.services(daemon))
            daemon.start()
            event = daemon.wait_event("talker", "exited", lambda event: "last_lines" in event["details"])
            self.assertEqual(event["details"]["last_lines"], ["token is *** ***"])
            event = daemon.wait_event("sick", "unhealthy")
            self.assertIn("***", event["message"])
            wait_until(lambda: "***" in json.dumps(daemon.ctl_json("explain", "hooked")), "the hook's last words")
            wait_until(lambda: "token is *** ***" in daemon.ctl_json("explain", "sick")["last_lines"], "its lines")
            for name in ("talker", "hooked"):
                web.wait_alert("raised", name, "failed")
            web.wait_alert("raised", "sick", "unhealthy")
            for what, received in (
                ("Slack", lambda: "sick" in str(slack.posts)),
                ("mail", lambda: any("sick" in message.get_content() for _, _, message in mail.mails)),
                ("the command", lambda: told.exists() and "sick" in told.read_text()),
            ):
                wait_until(received, f"{what} to hear of it")
            daemon.config["services"]["quiet"]["environment"]["ANYTHING"] = CANARY + "-changed"
            daemon.write_config()
            for command, answer in self.answers(daemon):
                self.assertNotIn(CANARY, answer, command)
            daemon.kill_daemon()  # what an adopted service says is hidden too
            daemon.start()
            for name in ("sick", "talker"):  # one that runs, and one that this daemon has never started
                self.assertIn("token is *** ***", daemon.ctl_json("explain", name)["last_lines"])
            for command, answer in self.answers(daemon):
                self.assertNotIn(CANARY, answer, command)
            self.check_files(daemon)  # also the records of what runs, and the log of the database
            daemon.stop()
            for received in (web.posts, slack.posts, [message.as_string() + message.get_content() for _, _, message in mail.mails]):
                self.assertNotIn(CANARY, str(received))
            self.check_files(daemon)
            for name in ("talker", "sick"):
                self.assertIn(CANARY, daemon.log_file(name).read_text())

    def check_files(self, daemon):
        for path in daemon.dir.rglob("*"):
            if not path.is_file() or path.is_relative_to(daemon.log_dir):
                continue
            if path in (daemon.config_file, daemon.dir / "secrets.env"):
                continue
            with contextlib.suppress(FileNotFoundError):  # the daemon writes files anew, under other names first
                if CANARY.encode() in path.read_bytes():
                    # A copy of the configuration that is in force, for the next daemon and nobody else.
                    self.assertEqual((path.stat().st_mode & 0o777, path.name), (0o600, "applied.config"), path)


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
