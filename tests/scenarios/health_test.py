"""Health checks: verdicts over retries and thresholds, and what follows from them."""

import contextlib
import http.server
import json
import socket
import sqlite3
import threading
import time

from harness import NOT_RUNNING, Daemon, Scenario, Workspace, main, refused_port, sleeper, wait_until


class Server:
    """A tiny HTTP server whose answer the scenario switches; counts the requests."""

    def __init__(self):
        owner = self
        self.status = 200
        self.body = b"all is well"
        self.requests = 0
        self.delay = threading.Event()
        self.delay.set()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                owner.requests += 1
                owner.seen_headers = dict(self.headers)
                owner.delay.wait()
                with contextlib.suppress(OSError):
                    self.send_response(owner.status)
                    self.send_header("Content-Length", str(len(owner.body)))
                    self.end_headers()
                    self.wfile.write(owner.body)

            def log_message(self, *_):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/health"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self.delay.set()
        self._server.shutdown()
        self._server.server_close()


class Health(Scenario):
    def http(self, server, **changes):
        return sleeper(
            health_check={
                "type": "http",
                "url": server.url,
                "interval": 0.05,
                "timeout": 2,
                "retries": 2,
                "on_failure": "alert",
                **changes,
            }
        )

    def health_row(self, daemon, service, expect=None):
        return next(
            row for row in daemon.ctl_json("health", service, expect=expect)["services"] if row["id"] == service
        )

    def wait_health(self, daemon, service, health, timeout=10.0):
        return daemon.wait_for(service, lambda row: row["health"] == health, health, timeout)

    def test_an_alerting_check_turns_unhealthy_and_healthy_again_and_restarts_nothing(self):
        with Server() as server, Daemon({"web": self.http(server)}) as daemon:
            self.wait_health(daemon, "web", "healthy")
            pid = daemon.pid("web")
            daemon.ctl("health")
            daemon.ctl("health", "web")
            server.status = 503
            self.wait_health(daemon, "web", "unhealthy")
            result = daemon.ctl("health", "web", expect=NOT_RUNNING)
            self.assertIn("503", result.stdout)
            daemon.ctl("health", expect=NOT_RUNNING)
            row = self.health_row(daemon, "web", expect=NOT_RUNNING)
            self.assertGreaterEqual(row["consecutive_failures"], 2)
            self.assertLess(row["success_rate"], 100)
            self.assertIn("503", row["message"])
            self.assertEqual((daemon.pid("web"), daemon.status("web")["state"]), (pid, "running"))
            daemon.ctl("status", "web")  # it runs: exit 0
            server.status = 200
            self.wait_health(daemon, "web", "healthy")
            self.assertEqual((daemon.pid("web"), daemon.status("web")["restart_count"]), (pid, 0))
            daemon.ctl("health", "web")
            self.assert_in_order(["started", "healthy", "unhealthy", "healthy"], daemon.event_types("web"))
            self.assertEqual(daemon.ctl_json("health")["status"], "healthy")

    def test_a_failing_check_restarts_the_service(self):
        with Server() as server, Daemon({"web": self.http(server, on_failure="restart")}) as daemon:
            self.wait_health(daemon, "web", "healthy")
            pid = daemon.pid("web")
            server.status = 503
            wait_until(lambda: "restarting" in daemon.event_types("web"), "the restart")
            server.status = 200
            row = daemon.wait_for(
                "web", lambda row: row["state"] == "running" and row["pid"] != pid, "the next instance"
            )
            self.assertGreaterEqual(row["restart_count"], 1)
            self.wait_health(daemon, "web", "healthy")
            unhealthy = daemon.wait_event("web", "unhealthy")
            self.assertIn("503", unhealthy["message"])
            self.assertEqual(unhealthy["actor"], "health check")

    def test_one_failure_is_none_where_more_retries_are_configured(self):
        with Server() as server, Daemon({"web": self.http(server, retries=1000)}) as daemon:
            self.wait_health(daemon, "web", "healthy")
            server.status = 500
            wait_until(lambda: self.health_row(daemon, "web")["consecutive_failures"] >= 3, "three failures")
            self.assertEqual(daemon.status("web")["health"], "healthy")

    def test_expected_status_content_and_regex(self):
        with Server() as server:
            with Daemon(
                {
                    "plain": self.http(server),
                    "teapot": self.http(server, expected_status=[418]),
                    "content": self.http(server, expected_content="is well"),
                    "missing": self.http(server, expected_content="is ill"),
                    "regex": self.http(server, expected_regex="^all .* w.ll$"),
                    "unmatched": self.http(server, expected_regex="^well"),
                }
            ) as daemon:
                for id, health in (
                    ("plain", "healthy"),
                    ("teapot", "unhealthy"),
                    ("content", "healthy"),
                    ("missing", "unhealthy"),
                    ("regex", "healthy"),
                    ("unmatched", "unhealthy"),
                ):
                    self.wait_health(daemon, id, health)
                server.status = 418
                self.wait_health(daemon, "teapot", "healthy")
                self.wait_health(daemon, "plain", "unhealthy")

    def test_headers_are_sent(self):
        with Server() as server, Daemon({"web": self.http(server, headers={"X-Probe": "yes"})}) as daemon:
            self.wait_health(daemon, "web", "healthy")
            self.assertEqual(server.seen_headers["X-Probe"], "yes")

    def test_a_server_that_does_not_answer_fails_by_its_timeout(self):
        with Server() as server, Daemon({"web": self.http(server, timeout=0.1)}) as daemon:
            self.wait_health(daemon, "web", "healthy")
            server.delay.clear()
            self.wait_health(daemon, "web", "unhealthy")

    def test_a_hanging_check_does_not_delay_a_stop(self):
        with Server() as server, Daemon({"web": self.http(server, timeout=60)}) as daemon:
            server.delay.clear()
            wait_until(lambda: server.requests, "a request")
            began = time.monotonic()
            daemon.ctl("stop", "web")
            self.assert_quicker(3, began)
            self.assertEqual(daemon.status("web")["health"], "unknown")

    def test_nobody_listening_is_told_as_refused(self):
        with refused_port() as port:
            check = {
                "type": "http",
                "url": f"http://127.0.0.1:{port}/",
                "interval": 0.05,
                "retries": 1,
                "on_failure": "alert",
            }
            with Daemon({"web": sleeper(health_check=check)}) as daemon:
                self.wait_health(daemon, "web", "unhealthy")
                self.assertIn("refused", self.health_row(daemon, "web")["message"].lower())

    def test_tcp(self):
        with socket.socket() as server:
            server.bind(("127.0.0.1", 0))
            server.listen()
            check = {
                "type": "tcp",
                "port": server.getsockname()[1],
                "interval": 0.05,
                "retries": 1,
                "timeout": 2,
                "on_failure": "alert",
            }
            with Daemon({"web": sleeper(health_check=check)}) as daemon:
                self.wait_health(daemon, "web", "healthy")
                server.close()
                self.wait_health(daemon, "web", "unhealthy")

    def test_script(self):
        with Daemon(started=False) as daemon:
            script = f"echo looked; test ! -e {daemon.dir}/ill"
            daemon.write_config(
                {
                    "web": sleeper(
                        health_check={
                            "type": "script",
                            "command": "/bin/sh",
                            "args": ["-c", script],
                            "interval": 0.05,
                            "retries": 1,
                            "on_failure": "alert",
                        }
                    )
                }
            )
            daemon.start()
            self.wait_health(daemon, "web", "healthy")
            (daemon.dir / "ill").touch()
            self.wait_health(daemon, "web", "unhealthy")
            self.assertEqual(daemon.log("web"), b"")  # what the script writes is not the service's

    def test_a_script_that_runs_too_long_leaves_no_process(self):
        check = {
            "type": "script",
            "command": "/bin/sh",
            "args": ["-c", "sleep 999 & sleep 999 & wait"],
            "interval": 0.05,
            "timeout": 0.1,
            "retries": 3,
            "on_failure": "alert",
        }
        with Daemon({"web": sleeper(health_check=check)}) as daemon:
            self.wait_health(daemon, "web", "unhealthy")
            pid = daemon.pid("web")
            daemon.ctl("stop", "web")
            wait_until(lambda: not daemon.service_processes(), "the script's children to be gone")
            self.assertNotIn(pid, daemon.processes())

    def test_process(self):
        checks = {"type": "process", "interval": 0.05, "retries": 1, "on_failure": "alert"}
        with Daemon(
            {"good": sleeper(health_check=checks), "fat": sleeper(health_check={**checks, "max_memory_mb": 0.01})}
        ) as daemon:
            self.wait_health(daemon, "good", "healthy")
            self.wait_health(daemon, "fat", "unhealthy")
            self.assertIn("memory", self.health_row(daemon, "fat")["message"].lower())

    def test_failures_within_the_start_period_do_not_count(self):
        with Server() as server:
            server.status = 503
            with Daemon({"web": self.http(server, start_period=1000, retries=1)}) as daemon:
                wait_until(lambda: server.requests >= 5, "some checks")
                self.assertEqual(daemon.status("web")["health"], "starting")
                server.status = 200
                self.wait_health(daemon, "web", "healthy")

    def test_a_service_without_a_check_is_unknown(self):
        with Daemon({"web": sleeper()}) as daemon:
            daemon.wait_state("web", "running")
            self.assertEqual(daemon.status("web")["health"], "unknown")
            self.assertEqual(self.health_row(daemon, "web")["check_type"] or "", "")
            daemon.ctl("health")

    def test_readiness_by_health_check_holds_the_start_until_it_is_healthy(self):
        with Server() as server:
            server.status = 503
            service = self.http(server, start_period=1000)
            service["readiness"] = {"type": "health_check", "timeout": 60}
            with Daemon({"web": service, "after": sleeper(depends_on=["web"])}) as daemon:
                wait_until(lambda: server.requests >= 3, "some checks")
                self.assertEqual(daemon.status("web")["state"], "starting")
                self.assertEqual(daemon.status("after")["state"], "starting")
                server.status = 200
                daemon.wait_state("web", "running")
                daemon.wait_state("after", "running")
                self.assert_in_order(["started", "ready"], daemon.event_types("web"))

    def test_readiness_by_health_check_gives_up_at_its_timeout(self):
        with Server() as server:
            server.status = 503
            service = self.http(server, start_period=1000)
            service.update(readiness={"type": "health_check", "timeout": 0.3}, enabled=False)
            service["restart_policy"] = {"mode": "never"}
            with Daemon({"web": service}) as daemon:
                result = daemon.ctl("start", "web", expect=1)
                self.assertRegex(result.stderr, r"0\.3|300 ?ms")
                self.assertEqual(daemon.service_processes(), [])

    def test_a_check_that_holds_the_start_can_be_corrected_by_a_reload(self):
        with Server() as server, contextlib.closing(socket.socket()) as deaf:
            deaf.bind(("127.0.0.1", 0))  # nobody listens there, and nobody else will
            wrong = f"http://127.0.0.1:{deaf.getsockname()[1]}/health"
            service = self.http(server, url=wrong, interval=30)
            service["readiness"] = {"type": "health_check", "timeout": 600}
            with Daemon({"web": service}) as daemon:
                wait_until(lambda: len(self.health_row(daemon, "web")["history"]) >= 2, "some checks")
                self.assertEqual(daemon.status("web")["state"], "starting")
                pid = daemon.pid("web")
                service["health_check"]["url"] = server.url
                daemon.write_config({"web": service})
                daemon.ctl("reload")
                daemon.wait_state("web", "running")
                self.assertEqual(daemon.pid("web"), pid)  # by the new check, not by a new process
                self.assertEqual(daemon.status("web")["restart_count"], 0)

    def test_a_check_can_be_done_now_by_hand(self):
        with Server() as server, Workspace() as workspace:
            workspace.ctl("check", "http", server.url)
            server.status = 503
            result = workspace.ctl("check", "http", server.url, expect=NOT_RUNNING)
            self.assertIn("503", result.text)

    def test_the_system_is_as_well_as_its_services(self):
        def expect(daemon, status):
            def told():
                return {daemon.ctl_json(command, expect=None)["status"] for command in ("health", "summary")}

            wait_until(lambda: told() == {status}, f"the system to be {status}")

        with Server() as vital, Server() as mild:
            services = {
                "vital": {**self.http(vital), "critical": True},
                "mild": self.http(mild),
                "unchecked": sleeper(critical=True),
                "gives-up": sleeper(
                    command="sh", args=["-c", "exit 3"], enabled=False, restart_policy={"mode": "never"}, critical=True
                ),
            }
            with Daemon(services) as daemon:
                self.wait_health(daemon, "vital", "healthy")
                self.wait_health(daemon, "mild", "healthy")
                expect(daemon, "healthy")
                mild.status = 503
                expect(daemon, "degraded")
                vital.status = 503
                expect(daemon, "critical")
                mild.status = 200  # the worst counts
                self.wait_health(daemon, "mild", "healthy")
                expect(daemon, "critical")
                vital.status = 200
                expect(daemon, "healthy")
                # What was stopped on purpose is no illness; what gave up is one, checked or not.
                daemon.ctl("stop", "unchecked", "mild")
                expect(daemon, "healthy")
                daemon.ctl("start", "gives-up", expect=None)
                expect(daemon, "critical")

    def test_results_are_kept_as_metrics(self):
        with Server() as server, Daemon({"web": self.http(server)}) as daemon:
            self.wait_health(daemon, "web", "healthy")
            rows = wait_until(
                lambda: daemon.sql(
                    "SELECT health_status, response_time_ms FROM supervisor_metrics "
                    "WHERE service_id = 'web' AND response_time_ms IS NOT NULL"
                ),
                "a row of metrics",
            )
            self.assertEqual(rows[0][0], "healthy")
            self.assertGreater(rows[0][1], 0)

    def test_response_times_over_the_last_hour_and_day(self):
        now = time.time()

        def rows(ages, first_ms, status="healthy"):
            return [
                (time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(now - age)) + ".000", status, first_ms + i)
                for i, age in enumerate(ages)
            ]

        with Server() as server, Daemon({"web": self.http(server, interval=3600)}) as daemon:
            self.wait_health(daemon, "web", "healthy")
            # As results of checks, by the interface that takes them from outside: a hundred in the last hour, a hundred
            # in the day before, and one older; failures have a response time too, which says nothing here.
            with contextlib.closing(sqlite3.connect(daemon.database, timeout=30)) as database, database:
                database.executemany(
                    "INSERT INTO supervisor_metrics (service_id, timestamp, health_status, response_time_ms) "
                    "VALUES ('web', ?, ?, ?)",
                    rows(range(600, 700), 801)
                    + rows(range(7200, 7300), 1101)
                    + rows([90000], 99999)
                    + rows(range(500, 520), 77777, "unhealthy"),
                )
            text = daemon.ctl("health", "web").stdout
            # And the one that was made: the quickest of all.
            self.assertIn("over the last hour: 83.5% of 121 checks succeeded, response time: median 850.0 ms, 95% below 895.0 ms", text)
            self.assertIn("over the last day: 91.0% of 221 checks succeeded, response time: median 900.0 ms, 95% below 1.19 s", text)

    def test_the_details_of_events_are_json(self):
        with Server() as server, Daemon({"web": self.http(server)}) as daemon:
            self.wait_health(daemon, "web", "healthy")
            query = "SELECT details FROM supervisor_events WHERE details != ''"
            for (details,) in wait_until(lambda: daemon.sql(query), "events with details"):
                self.assertIsInstance(json.loads(details), dict)


class Readiness(Scenario):
    def test_uptime(self):
        with Daemon({"web": sleeper(enabled=False, readiness={"type": "uptime", "uptime": 0.4})}) as daemon:
            began = time.monotonic()
            daemon.ctl("start", "web")
            self.assertGreaterEqual(time.monotonic() - began, 0.4)
            self.assert_in_order(["started", "ready"], daemon.event_types("web"))


if __name__ == "__main__":
    main()
