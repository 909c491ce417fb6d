"""Alerts: raised once, resolved once, kept; what depends on a failed one is listed under it; over a daemon's death too."""

import contextlib
import json
import signal
import sqlite3

from harness import SCALE, TIMESTAMP, Daemon, Scenario, is_alive, kill, main, python, shell, sleeper
from harness import wait_until

GIVES_UP = {"restart_policy": {"mode": "on-failure", "delay": 0.05, "max_attempts": 1, "jitter": 0}}


def failing(**changes):
    """Gives up at once."""
    return shell("echo no such table; exit 3", **{**GIVES_UP, **changes})


def by_file(path):
    """Healthy while the file is there."""
    return {
        "health_check": {
            "type": "script",
            "command": "/bin/sh",
            "args": ["-c", f"test -e {path}"],
            "interval": 0.1,
            "retries": 1,
            "timeout": 5,
            "on_failure": "alert",
        }
    }


class Alerts(Scenario):
    def alerts(self, daemon, *arguments):
        return daemon.ctl_json("alerts", *arguments)["alerts"]

    def open(self, daemon):
        return [(alert["service_id"], alert["rule"]) for alert in self.alerts(daemon)]

    def wait_open(self, daemon, *wanted):
        return wait_until(lambda: self.open(daemon) == list(wanted) and self.alerts(daemon) or not wanted, f"{wanted}")

    def wait_none(self, daemon):
        wait_until(lambda: not self.open(daemon), "no open alert")

    def told(self, daemon, service):
        """What the events say of alerts, oldest first: (type, rule)."""
        return [
            (event["event_type"], event["details"]["rule"])
            for event in daemon.ctl_json("events", service, "-n", "1000")["events"]
            if event["event_type"].startswith("alert_")
        ]

    def wait_looks(self, daemon, service, count):
        """Until so many daemons have found it over its limit: each says so once."""
        sql = f"SELECT count(*) FROM supervisor_events WHERE service_id = '{service}' AND event_type = 'limit_exceeded'"
        wait_until(lambda: daemon.sql(sql) == [(count,)], f"{count} looks")

    def test_a_failure_is_raised_once_resolved_once_and_kept(self):
        # Never up, or the alert would be resolved by that.
        with Daemon({"web": failing(critical=True, readiness={"type": "uptime", "uptime": 600})}) as daemon:
            (alert,) = self.wait_open(daemon, ("web", "failed"))
            self.assertEqual(alert["severity"], "critical")
            self.assertIn("exited with code 3", alert["message"])
            self.assertRegex(alert["raised_at"], TIMESTAMP)
            self.assertIsNone(alert["resolved_at"])
            self.assertGreater(alert["id"], 0)
            self.assertEqual(daemon.ctl_json("summary")["alerts"], 1)
            text = daemon.ctl("alerts").stdout
            self.assertIn("critical", text)
            self.assertIn("failed", text)
            # It fails again: the same alert.
            daemon.ctl("start", "web", expect=None)
            daemon.wait_state("web", "failed")
            daemon.ctl("stop", "web")
            self.wait_none(daemon)
            self.assert_becomes(
                lambda: self.told(daemon, "web"), [("alert_raised", "failed"), ("alert_resolved", "failed")]
            )
            (kept,) = self.alerts(daemon, "--all")
            self.assertEqual(kept["id"], alert["id"])
            self.assertRegex(kept["resolved_at"], TIMESTAMP)
            self.assertEqual(daemon.ctl_json("summary")["alerts"], 0)
            rows = "SELECT service_id, rule, severity, message, resolved_at IS NOT NULL FROM supervisor_alerts"
            self.assert_becomes(lambda: daemon.sql(rows), [("web", "failed", "critical", alert["message"], 1)])
            self.assertIn("No alerts", daemon.ctl("alerts").stdout)

    def test_dependents_of_a_failed_one_are_listed_under_it(self):
        services = {
            "db": failing(),
            # Up while it sleeps, should db be up before it fails; it fails later than that.
            "app": shell(f"sleep {SCALE}; exit 3", **GIVES_UP, depends_on=["db"]),
            "web": sleeper(depends_on=["app"]),
            "other": sleeper(),
        }
        with Daemon(services) as daemon:
            (alert,) = self.wait_open(daemon, ("db", "failed"))
            self.assertEqual(alert["dependents"], ["app", "web"])
            daemon.wait_state("app", "stopped", "failed")
            self.assert_becomes(lambda: self.told(daemon, "db"), [("alert_raised", "failed")])
            raised = [
                event for event in daemon.ctl_json("events", "-n", "1000")["events"]
                if event["event_type"] == "alert_raised"
            ]
            self.assertEqual([event["service_id"] for event in raised], ["db"])
            self.assertEqual(raised[0]["details"]["dependents"], ["app", "web"])
            self.assertEqual(raised[0]["actor"], "policy")

    def test_an_unhealthy_service_raises_until_it_is_healthy(self):
        with Daemon(started=False) as daemon:
            flag = daemon.dir / "flag"
            flag.write_text("")
            daemon.write_config({"web": sleeper(**by_file(flag))})
            daemon.start()
            daemon.wait_event("web", "healthy")
            flag.unlink()
            (alert,) = self.wait_open(daemon, ("web", "unhealthy"))
            self.assertEqual(alert["severity"], "warning")
            flag.write_text("")
            self.wait_none(daemon)
            event = daemon.wait_event("web", "alert_resolved")
            self.assertGreaterEqual(event["details"]["lasted_seconds"], 0)
            self.assertEqual(event["actor"], "health check")

    def test_flapping_is_noticed_and_over_with_its_window(self):
        rules = {"monitoring": {"alerts": {"restarts": 3, "restarts_window": 5}}}
        with Daemon(extra=rules, started=False) as daemon:
            quiet = daemon.dir / "quiet"
            daemon.write_config({"web": shell(f"test -e {quiet} && exec sleep 1000000; exit 1")})
            daemon.start()
            event = daemon.wait_event("web", "alert_raised", timeout=60)
            self.assertIn("restarts within", event["message"])
            quiet.write_text("")
            daemon.wait_event("web", "alert_resolved", timeout=60)
            self.assertEqual(
                self.told(daemon, "web")[:2], [("alert_raised", "flapping"), ("alert_resolved", "flapping")]
            )

    def test_all_that_are_open_are_told_unless_fewer_are_asked_for(self):
        count = 60
        with Daemon({f"s{i:02}": shell("exit 3", restart_policy={"mode": "never"}) for i in range(count)}) as daemon:
            wait_until(lambda: daemon.ctl_json("summary")["alerts"] == count, "all the alerts", timeout=60)
            wait_until(lambda: daemon.sql("SELECT count(*) FROM supervisor_alerts") == [(count,)], "them on disk")
            for arguments, told in (((), count), (("--all",), count), (("-n", "7"), 7), (("--all", "-n", "7"), 7)):
                alerts = self.alerts(daemon, *arguments)
                self.assertEqual(len(alerts), told, arguments)
                self.assertEqual({alert["resolved_at"] for alert in alerts}, {None})
                self.assertNotIn(0, {alert["id"] for alert in alerts})

    def test_restarts_that_were_asked_for_are_no_flapping(self):
        rules = {"monitoring": {"alerts": {"restarts": 2, "restarts_window": 1000}}}
        with Daemon(extra=rules, started=False) as daemon:
            quiet = daemon.dir / "quiet"
            always = {"mode": "always", "delay": 0.05, "jitter": 0}
            once = shell(f"test -e {quiet} && exec sleep 1000000; touch {quiet}; exit 1", restart_policy=always)
            daemon.write_config({"web": sleeper(restart_policy=always), "once": once})
            daemon.start()

            def restarted():
                sql = "SELECT count(*) FROM supervisor_events WHERE service_id = 'web' AND event_type = 'restarting'"
                return daemon.sql(sql)[0][0]

            daemon.ctl("restart", "web")
            daemon.ctl("restart", "web")
            daemon.write_config({"web": sleeper(restart_policy=always, environment={"A": "1"}), "once": once})
            daemon.ctl("reload")
            wait_until(lambda: restarted() == 3, "the restarts on disk")
            daemon.wait_state("once", "running")
            # The next daemon decides the same way by what is in the database.
            daemon.kill_daemon()
            daemon.start()
            daemon.ctl("restart", "web")
            kill(daemon.pid("once"))
            self.wait_open(daemon, ("once", "flapping"))  # by a restart of each daemon

    def test_processor_and_memory_above_their_bounds(self):
        rules = {
            "monitoring": {"metrics_interval": 0.1, "alerts": {"cpu_percent": 2, "memory_mb": 30, "for": 0.3}}
        }
        busy = python("import time\nblock = b'x' * (64 << 20)\nprint('big')\nwhile True: pass")
        with Daemon({"busy": busy, "idle": sleeper()}, extra=rules) as daemon:
            wait_until(
                lambda: {("busy", "cpu"), ("busy", "memory")} == set(self.open(daemon)),
                "both alerts, and no other",
                timeout=60,
            )
            for alert in self.alerts(daemon):
                self.assertIn(f"monitoring.alerts.{'cpu_percent' if alert['rule'] == 'cpu' else 'memory_mb'}",
                              alert["message"])
            daemon.ctl("stop", "busy")
            self.wait_none(daemon)

    def test_what_a_run_used_that_is_over_raises_nothing(self):
        bound = 0.2  # the share of one that is nice beside others is not much more
        rules = {"monitoring": {"metrics_interval": 0.1, "alerts": {"cpu_percent": bound, "for": 5}}}
        spin = "import os, sys\nwhile not os.path.exists(sys.argv[1]): pass\nsys.exit(3)"
        with Daemon(extra=rules, started=False) as daemon:
            over = daemon.dir / "over"
            policy = {"mode": "always", "delay": 10000, "max_delay": 10000}
            daemon.write_config(
                {
                    "short": python(spin, str(over), restart_policy=policy),
                    "long": python(spin, "/no/such/file", enabled=False),
                }
            )
            daemon.start()
            above = f"SELECT 1 FROM supervisor_metrics WHERE service_id = 'short' AND cpu_percent > {bound}"
            wait_until(lambda: daemon.sql(above), "a measurement above the bound", timeout=30)
            over.touch()
            daemon.wait_state("short", "backoff")
            daemon.ctl("start", "long")
            wait_until(lambda: self.open(daemon) == [("long", "cpu")], "as late as the other's would come", timeout=60)
            self.assertEqual(self.told(daemon, "short"), [])

    def test_a_limit_that_is_only_watched(self):
        limits = {"resource_limits": {"max_memory_mb": 20, "on_exceed": "alert"}}
        extra = {"monitoring": {"metrics_interval": 0.1, "alerts": {"for": 0.2}}}
        big = python("import time\nblock = b'x' * (64 << 20)\ntime.sleep(1e6)", **limits)
        with Daemon({"big": big}, extra=extra) as daemon:
            (alert,) = self.wait_open(daemon, ("big", "limit_exceeded"))
            self.assertIn("max_memory_mb", alert["message"])
            daemon.wait_state("big", "running")
            daemon.ctl("stop", "big")
            self.wait_none(daemon)

    def test_over_the_death_of_the_daemon(self):
        with Daemon(extra={"monitoring": {"metrics_interval": 0.3, "alerts": {"for": 0.1}}}, started=False) as daemon:
            flags = {name: daemon.dir / name for name in ("stays", "mends")}
            for flag in flags.values():
                flag.write_text("")
            limits = {"resource_limits": {"max_processes": 1, "on_exceed": "alert"}}
            many = shell("sleep 1000000 & sleep 1000000 & wait", **limits)
            daemon.write_config(
                {"broken": failing(), "many": many, **{name: sleeper(**by_file(flag)) for name, flag in flags.items()}}
            )
            daemon.start()
            for name, flag in flags.items():
                daemon.wait_event(name, "healthy")
                flag.unlink()
            wanted = {
                ("broken", "failed"), ("many", "limit_exceeded"), ("stays", "unhealthy"), ("mends", "unhealthy")
            }
            before = wait_until(lambda: set(self.open(daemon)) == wanted and self.alerts(daemon), "four alerts")
            wait_until(lambda: all(alert["id"] for alert in self.alerts(daemon)), "the alerts on disk")
            first = daemon.version()["pid"]
            daemon.kill_daemon()
            flags["mends"].write_text("")  # its cause goes away while nobody looks
            daemon.start()
            self.assertNotEqual(daemon.version()["pid"], first)
            wait_until(
                lambda: set(self.open(daemon)) == wanted - {("mends", "unhealthy")}, "the one whose cause went to go"
            )
            daemon.wait_event("stays", "unhealthy", lambda event: True)
            self.wait_looks(daemon, "many", 2)
            raised = {alert["service_id"]: (alert["id"], alert["raised_at"]) for alert in before}
            for alert in self.alerts(daemon):
                self.assertEqual((alert["id"], alert["raised_at"]), raised[alert["service_id"]])
            for name in ("broken", "many", "stays"):
                self.assertEqual(len(self.told(daemon, name)), 1)
            self.assert_becomes(
                lambda: self.told(daemon, "mends"), [("alert_raised", "unhealthy"), ("alert_resolved", "unhealthy")]
            )
            daemon.ctl("upgrade")
            self.wait_looks(daemon, "many", 3)
            self.assertEqual(set(self.open(daemon)), wanted - {("mends", "unhealthy")})
            for name in ("broken", "many", "stays"):
                self.assertEqual(len(self.told(daemon, name)), 1)

    def test_restarts_before_the_death_of_the_daemon_count(self):
        rules = {"monitoring": {"alerts": {"restarts": 3, "restarts_window": 600}}}
        with Daemon({"web": sleeper()}, extra=rules) as daemon:
            def restart():
                before = daemon.wait_state("web", "running")["pid"]
                kill(before)
                daemon.wait_for("web", lambda row: row["state"] == "running" and row["pid"] != before, "the next")

            restart()
            restart()
            wait_until(
                lambda: daemon.sql("SELECT count(*) FROM supervisor_events WHERE event_type = 'restarting'") == [(2,)],
                "the restarts on disk",
            )
            daemon.kill_daemon()
            daemon.start()
            self.assert_becomes(lambda: self.open(daemon), [])
            restart()
            self.wait_open(daemon, ("web", "flapping"))

    def test_a_removed_service_has_no_alert(self):
        with Daemon({"web": failing(), "api": sleeper()}) as daemon:
            self.wait_open(daemon, ("web", "failed"))
            daemon.write_config({"api": sleeper()})
            daemon.ctl("reload")
            self.wait_none(daemon)

    def test_trouble_with_the_database_that_was_over_when_the_daemon_died_is_over(self):
        with Daemon({"web": sleeper()}) as daemon:
            daemon.wait_state("web", "running")
            daemon.stop()
            with contextlib.closing(sqlite3.connect(daemon.database, timeout=30, isolation_level=None)) as other:
                other.execute(
                    "INSERT INTO supervisor_alerts (service_id, rule, severity, message, raised_at) "
                    "VALUES ('supervisor', 'database', 'warning', 'disk full', '2024-01-02T03:04:05.678Z')"
                )
            daemon.start()
            wait_until(
                lambda: daemon.sql("SELECT 1 FROM supervisor_alerts WHERE resolved_at IS NOT NULL"), "its end on disk"
            )
            self.assertEqual(self.open(daemon), [])

    def test_trouble_with_the_database_is_an_alert_though_it_cannot_be_written(self):
        with Daemon({"web": sleeper()}) as daemon:
            daemon.wait_state("web", "running")
            wait_until(lambda: daemon.sql("SELECT 1 FROM supervisor_events WHERE event_type = 'started'"), "events")
            with contextlib.closing(sqlite3.connect(daemon.database, timeout=30, isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                pid = daemon.pid("web")
                kill(pid, signal.SIGKILL)
                wait_until(lambda: not is_alive(pid), "its end")
                wait_until(lambda: ("supervisor", "database") in self.open(daemon), "the alert", timeout=30)
                other.execute("ROLLBACK")
            wait_until(lambda: ("supervisor", "database") not in self.open(daemon), "its end", timeout=30)
            kept = [json.dumps(alert) for alert in self.alerts(daemon, "--all") if alert["rule"] == "database"]
            self.assertEqual(len(kept), 1)
            self.assertIn("locked", kept[0])


if __name__ == "__main__":
    main()
