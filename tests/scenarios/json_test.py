"""--json: exactly the keys and types that the contract promises to scripts."""

import json

from harness import NOT_RUNNING, TIMESTAMP, Daemon, Scenario, main, shell, sleeper, wait_until

NUMBER = (int, float)
STATES = {"stopped", "starting", "running", "stopping", "backoff", "failed", "exited"}
HEALTHS = {"unknown", "starting", "healthy", "unhealthy"}
EVENT_TYPES = {
    "started",
    "ready",
    "stopped",
    "exited",
    "failed",
    "restarting",
    "healthy",
    "unhealthy",
    "oom_killed",
    "limit_exceeded",
    "adopted",
    "reloaded",
    "alert_raised",
    "alert_resolved",
    "supervisor_started",
    "supervisor_stopped",
}
NONE = type(None)

SERVICE = {
    "id": str,
    "name": str,
    "state": str,
    "pid": (int, NONE),
    "port": (int, NONE),
    "uptime_seconds": NUMBER,
    "restart_count": int,
    "health": str,
    "cpu_percent": NUMBER,
    "memory_mb": NUMBER,
    "enabled": bool,
    "critical": bool,
    "priority": int,
    "exit_code": (int, NONE),
    "exit_signal": (int, NONE),
    "reason": str,
}
EVENT = {
    "id": int,
    "service_id": str,
    "event_type": str,
    "timestamp": str,
    "message": str,
    "details": (dict, str, NONE),
    "actor": str,
}
HEALTH = {
    "id": str,
    "health": str,
    "check_type": (str, NONE),
    "last_check": (str, NONE),
    "response_time_ms": (*NUMBER, NONE),
    "consecutive_failures": int,
    "success_rate": (*NUMBER, NONE),
    "message": str,
    "history": list,
}
HISTORY = {"timestamp": str, "health": str, "response_time_ms": (*NUMBER, NONE), "message": str}
SUMMARY = {
    "status": str,
    "total": int,
    "running": int,
    "stopped": int,
    "failed": int,
    "unhealthy": int,
    "restarts": int,
    "alerts": int,
    "uptime_seconds": NUMBER,
    "cpu_percent": NUMBER,
    "memory_mb": NUMBER,
    "version": str,
    "services": list,
}
RELOAD = {
    "applied": bool,
    "added": list,
    "removed": list,
    "restarted": list,
    "updated": list,
    "unchanged": list,
    "errors": list,
}


class Json(Scenario):
    def assert_shape(self, value, shape):
        self.assertEqual(sorted(value), sorted(shape))
        for key, types in shape.items():
            types = types if isinstance(types, tuple) else (types,)
            self.assertIsInstance(value[key], types, key)
            if bool not in types:
                self.assertNotIsInstance(value[key], bool, key)

    def services(self):
        check = {"type": "process", "interval": 0.05}
        return {
            "web": sleeper(name="The Web", port=8080, critical=True, priority=5, health_check=check),
            "off": sleeper(enabled=False),
            "ill": shell("exit 3", restart_policy={"mode": "never"}),
            "done": shell("exit 0", restart_policy={"mode": "never"}),
            "worker": sleeper(instances=2),
        }

    def test_status(self):
        with Daemon(self.services()) as daemon:
            for id, state in (("web", "running"), ("ill", "failed"), ("done", "exited"), ("worker:1", "running")):
                daemon.wait_state(id, state)
            answer = daemon.ctl_json("status", expect=NOT_RUNNING)
            self.assertEqual(list(answer), ["services"])
            for row in answer["services"]:
                self.assert_shape(row, SERVICE)
                self.assertIn(row["state"], STATES)
                self.assertIn(row["health"], HEALTHS)
            rows = {row["id"]: row for row in answer["services"]}
            self.assertEqual(set(rows), {"web", "off", "ill", "done", "worker:0", "worker:1"})
            web = rows["web"]
            self.assertEqual(
                (web["name"], web["port"], web["critical"], web["priority"], web["enabled"]),
                ("The Web", 8080, True, 5, True),
            )
            self.assertGreater(web["uptime_seconds"], 0)
            self.assertEqual(rows["off"]["uptime_seconds"], 0)
            self.assertEqual(rows["off"]["name"], "off")
            self.assertEqual((rows["ill"]["exit_code"], rows["ill"]["exit_signal"]), (3, None))
            self.assertEqual((rows["web"]["exit_code"], rows["web"]["exit_signal"]), (None, None))
            self.assertEqual(rows["off"]["priority"], 999)

    def test_status_exit_codes(self):
        with Daemon({"web": sleeper(), "off": sleeper(enabled=False)}) as daemon:
            daemon.wait_state("web", "running")
            daemon.ctl("status")  # all enabled ones run
            daemon.ctl("status", "web")
            daemon.ctl("status", "off", expect=NOT_RUNNING)  # named, and not running
            daemon.ctl("status", "web", "off", expect=NOT_RUNNING)
            daemon.ctl("--json", "status", "off", expect=NOT_RUNNING)
            daemon.ctl("stop", "web")
            daemon.ctl("status", expect=NOT_RUNNING)  # an enabled one does not

    def test_events(self):
        with Daemon(self.services()) as daemon:
            daemon.wait_state("web", "running")
            daemon.wait_event("ill", "failed")
            answer = daemon.ctl_json("events")
            self.assertEqual(list(answer), ["events"])
            for event in answer["events"]:
                self.assert_shape(event, EVENT)
                self.assertIn(event["event_type"], EVENT_TYPES)
                self.assertRegex(event["timestamp"], f"^{TIMESTAMP.pattern}$")
                if isinstance(event["details"], str) and event["details"]:
                    json.loads(event["details"])
            ids = [event["id"] for event in answer["events"]]
            self.assertEqual(ids, sorted(set(ids)))
            self.assertEqual({event["service_id"] for event in daemon.events("web")}, {"web"})
            self.assertEqual(len(daemon.ctl_json("events", "-n", 2)["events"]), 2)
            wait_until(  # an event may come between the two calls
                lambda: daemon.ctl_json("events", "-n", 2)["events"][-1]["id"] == daemon.events()[-1]["id"],
                "the newest to be the last",
            )

    def test_health(self):
        with Daemon(self.services()) as daemon:
            daemon.wait_for("web", lambda row: row["health"] == "healthy", "healthy")
            answer = daemon.ctl_json("health", "-n", 3)
            self.assertEqual(sorted(answer), ["services", "status"])
            self.assertIn(answer["status"], {"healthy", "degraded", "critical"})
            for row in answer["services"]:
                self.assert_shape(row, HEALTH)
                self.assertIn(row["health"], HEALTHS)
                self.assertLessEqual(len(row["history"]), 3)
                for entry in row["history"]:
                    self.assert_shape(entry, HISTORY)
                    self.assertRegex(entry["timestamp"], f"^{TIMESTAMP.pattern}$")
            web = next(row for row in answer["services"] if row["id"] == "web")
            self.assertEqual(
                (web["health"], web["check_type"], web["success_rate"], web["consecutive_failures"]),
                ("healthy", "process", 100, 0),
            )
            self.assertTrue(web["history"])

    def test_summary(self):
        with Daemon(self.services()) as daemon:
            for id, state in (
                ("web", "running"),
                ("ill", "failed"),
                ("done", "exited"),
                ("worker:0", "running"),
                ("worker:1", "running"),
            ):
                daemon.wait_state(id, state)
            answer = daemon.ctl_json("summary", expect=None)
            self.assert_shape(answer, SUMMARY)
            for row in answer["services"]:
                self.assert_shape(row, SERVICE)
            self.assertEqual(
                (answer["status"], answer["total"], answer["running"], answer["stopped"], answer["failed"]),
                ("degraded", 6, 3, 2, 1),
            )

    def test_reload(self):
        with Daemon(self.services()) as daemon:
            answer = daemon.ctl_json("reload")
            self.assert_shape(answer, RELOAD)
            self.assertTrue(answer["applied"])
            self.assertEqual(sorted(answer["unchanged"]), ["done", "ill", "off", "web", "worker"])

    def test_version_names_both_ends(self):
        with Daemon() as daemon:
            answer = daemon.ctl_json("version")
            self.assertRegex(answer["client"]["version"], r"^\d+\.\d+\.\d+")
            self.assertEqual(answer["daemon"]["version"], answer["client"]["version"])
            self.assertIsInstance(answer["daemon"]["pid"], int)
            text = daemon.ctl("version").stdout
            self.assertIn("supervisorctl", text)
            self.assertIn("supervisord", text)

    def test_actions_answer_with_one_object(self):
        with Daemon({"web": sleeper(), "worker": sleeper(instances=2)}) as daemon:
            for command in ("stop", "start", "restart"):
                self.assertIsInstance(daemon.ctl_json(command, "all"), dict)
            self.assertIsInstance(daemon.ctl_json("signal", "CONT", "web"), dict)
            self.assertIsInstance(daemon.ctl_json("shutdown"), dict)
            daemon.check_gone()

    def test_what_explains_and_measures_answers_with_one_object(self):
        with Daemon({"web": sleeper()}) as daemon:
            for command in (["explain", "web"], ["metrics", "web"], ["alerts"]):
                daemon.require(*command)
                answer = daemon.ctl_json(*command)
                self.assertIsInstance(answer, dict)
                self.check_keys(answer, command)

    def test_streams_are_one_object_a_line(self):
        with Daemon({"web": sleeper()}) as daemon:
            daemon.wait_state("web", "running")
            stream = daemon.stream("--json", "events", "-f", "-n", 100)
            stream.wait_for('"started"')
            daemon.ctl("stop", "web")
            event = json.loads(stream.wait_for('"stopped"'))
            self.assert_shape(event, EVENT)

    def test_snake_case_everywhere(self):
        with Daemon(self.services()) as daemon:
            daemon.wait_for("web", lambda row: row["health"] == "healthy", "healthy")
            for command in (["status"], ["health"], ["events"], ["summary"], ["version"], ["reload", "--dry-run"]):
                self.check_keys(daemon.ctl_json(*command, expect=None), command)

    def check_keys(self, value, where):
        if isinstance(value, dict):
            for key, inner in value.items():
                self.assertRegex(key, "^[a-z][a-z0-9_]*$", where)
                self.check_keys(inner, where)
        elif isinstance(value, list):
            for inner in value:
                self.check_keys(inner, where)


if __name__ == "__main__":
    main()
