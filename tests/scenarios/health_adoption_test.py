"""Health checks and their verdicts go on over the daemon's death and over an upgrade."""

import http.server
import pwd
import re
import threading

from harness import NOT_RUNNING, Daemon, Scenario, main, needs_root, sleeper, wait_until


class Server:
    """Answers with a status that the scenario switches; counts the requests; can be held."""

    def __init__(self):
        owner = self
        self.status = 200
        self.requests = 0
        self.go = threading.Event()
        self.go.set()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                owner.requests += 1
                owner.go.wait()
                self.send_response(owner.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self.go.set()
        self._server.shutdown()
        self._server.server_close()


class HealthOverAdoption(Scenario):
    def service(self, server, **changes):
        check = {
            "type": "http",
            "url": server.url,
            "interval": 0.05,
            "timeout": 20,
            "retries": 3,
            "on_failure": "alert",
        }
        return sleeper(health_check={**check, **changes})

    def row(self, daemon, service="web"):
        answer = daemon.ctl_json("health", service, expect=None)
        return answer["services"][0]

    def wait_health(self, daemon, health, service="web"):
        return daemon.wait_for(service, lambda row: row["health"] == health, health)

    def kill_and_start(self, daemon):
        daemon.kill_daemon()
        daemon.start()

    def upgrade(self, daemon):
        daemon.ctl("upgrade")

    def wait_recorded(self, daemon, key, wanted):
        """Until the record, which is all that the next daemon has of the verdict, has that of it."""
        record = daemon.dir / "s.state" / "web.record"
        wait_until(
            lambda: any(wanted(value) for value in re.findall(rf"(?m)^{key} (.*)$", record.read_text())),
            f"{key} in the record",
        )

    def each_way(self, work):
        for way in (self.kill_and_start, self.upgrade):
            with self.subTest(way.__name__):
                work(way)

    def test_a_healthy_service_is_healthy_before_its_next_check(self):
        def work(change):
            with Server() as server, Daemon({"web": self.service(server)}) as daemon:
                self.wait_health(daemon, "healthy")
                wait_until(lambda: self.row(daemon)["success_rate"] == 100, "some results")
                pid = daemon.pid("web")
                self.wait_recorded(daemon, "health", "healthy".__eq__)
                server.go.clear()  # no check ends from here on, so the verdict can only be the earlier daemon's
                change(daemon)
                wait_until(lambda: daemon.status("web")["pid"] == pid, "the adoption")
                self.wait_health(daemon, "healthy")
                row = self.row(daemon)
                self.assertEqual((row["health"], row["consecutive_failures"]), ("healthy", 0))
                self.assertEqual(row["success_rate"], 100)
                server.go.set()
                before = server.requests
                wait_until(lambda: server.requests > before, "checks to go on")
                # Nothing has changed, so nothing is told.
                self.assert_becomes(lambda: daemon.event_types("web").count("healthy"), 1)
                self.assertEqual(daemon.event_types("web").count("ready"), 0)

        self.each_way(work)

    def test_the_history_goes_back_beyond_this_daemon(self):
        def work(change):
            with Server() as server, Daemon({"web": self.service(server)}) as daemon:
                self.wait_health(daemon, "healthy")
                wait_until(lambda: server.requests >= 5, "some checks")
                server.go.clear()
                stored = "SELECT timestamp FROM supervisor_metrics WHERE response_time_ms IS NOT NULL ORDER BY id"
                before = wait_until(lambda: [row[0] for row in daemon.sql(stored)], "the first results on disk")
                change(daemon)
                wait_until(lambda: self.row(daemon)["health"] == "healthy", "an answer")
                row = wait_until(lambda: (row := self.history(daemon, 1000))["history"] and row, "the history")
                told = [result["timestamp"] for result in row["history"]]
                self.assertEqual(told[: len(before)], before)
                self.assertEqual(row["last_check"], told[-1])
                self.assertEqual(len(self.history(daemon, 3)["history"]), 3)
                server.go.set()
                wait_until(lambda: len(self.history(daemon, 1000)["history"]) > len(told) + 3, "more of it")
                row = self.history(daemon, 1000)
                times = [result["timestamp"] for result in row["history"]]
                self.assertEqual(times, sorted(times))
                self.assertEqual(len(times), len(set(times)))
                self.assertEqual(times[: len(told)], told)
                self.assertIn("HTTP 200", row["history"][-1]["message"])

        self.each_way(work)

    def history(self, daemon, count):
        return daemon.ctl_json("health", "web", "-n", str(count), expect=None)["services"][0]

    def test_failures_in_a_row_are_counted_on(self):
        def work(change):
            with Server() as server, Daemon({"web": self.service(server, retries=100000)}) as daemon:
                self.wait_health(daemon, "healthy")
                server.status = 503
                wait_until(lambda: self.row(daemon)["consecutive_failures"] >= 5, "failures")
                server.go.clear()
                wait_until(lambda: server.requests, "a request")
                before = self.row(daemon)["consecutive_failures"]
                self.wait_recorded(daemon, "consecutive_failures", lambda count: int(count) >= before)
                change(daemon)
                row = wait_until(lambda: (row := self.row(daemon))["health"] != "unknown" and row, "its adoption")
                self.assertEqual(row["health"], "healthy")  # not yet declared unhealthy
                self.assertGreaterEqual(row["consecutive_failures"], before)
                server.go.set()
                wait_until(lambda: self.row(daemon)["consecutive_failures"] > before, "one more")

        self.each_way(work)

    def test_an_unhealthy_service_stays_so_and_is_restarted_where_that_is_wanted(self):
        def work(change):
            with Server() as server, Daemon({"web": self.service(server)}) as daemon:
                self.wait_health(daemon, "healthy")
                server.status = 503
                self.wait_health(daemon, "unhealthy")
                self.wait_recorded(daemon, "health", "unhealthy".__eq__)
                server.go.clear()
                change(daemon)
                self.wait_health(daemon, "unhealthy")
                daemon.ctl("health", "web", expect=NOT_RUNNING)
                pid = daemon.pid("web")
                # From now on it is to be restarted: the next failure says so, though the verdict is an old one.
                daemon.config["services"]["web"]["health_check"]["on_failure"] = "restart"
                daemon.write_config()
                daemon.ctl("reload")
                server.go.set()
                daemon.wait_for("web", lambda row: row["pid"] and row["pid"] != pid, "the restart")
                daemon.wait_event("web", "restarting")
                before = daemon.event_types("web")
                before = before[: before.index("restarting")]  # the next instance may be ill again by now
                self.assertEqual(before.count("unhealthy"), 1)

        self.each_way(work)

    @needs_root
    def test_a_script_runs_as_its_service_does(self):
        def work(change):
            with Daemon(started=False) as daemon:
                said = daemon.dir / "said"
                said.touch()
                said.chmod(0o666)
                script = f'echo "$(id -u -n) $(id -G) $(umask)" >> {said}; id -u -n'
                service = sleeper(
                    user="nobody",
                    umask="027",
                    health_check={"type": "script", "command": "/bin/sh", "args": ["-c", script], "interval": 0.05},
                )
                daemon.write_config({"web": service})
                daemon.start()
                self.wait_health(daemon, "healthy")
                self.assertEqual(self.row(daemon)["message"], "exit code 0: nobody")
                pid = daemon.pid("web")
                self.wait_recorded(daemon, "health", "healthy".__eq__)
                before = len(said.read_text().splitlines())
                change(daemon)
                wait_until(lambda: len(said.read_text().splitlines()) >= before + 3, "checks to go on")
                self.assertEqual(daemon.pid("web"), pid)
                group = pwd.getpwnam("nobody").pw_gid
                self.assertEqual(set(said.read_text().splitlines()), {f"nobody {group} 0027"})

        self.each_way(work)

    def test_readiness_goes_on(self):
        def work(change):
            with Server() as server:
                server.status = 503
                service = self.service(server)
                service["readiness"] = {"type": "health_check", "timeout": 600}
                with Daemon({"web": service}) as daemon:
                    wait_until(lambda: server.requests >= 3, "checks")
                    self.assertEqual(daemon.status("web")["state"], "starting")
                    pid = daemon.pid("web")
                    self.wait_recorded(daemon, "pid", str(pid).__eq__)
                    change(daemon)
                    before = server.requests
                    wait_until(lambda: server.requests >= before + 3, "checks of the next daemon")
                    self.wait_health(daemon, "starting")
                    self.assertEqual(daemon.status("web")["state"], "starting")
                    server.status = 200
                    row = daemon.wait_state("web", "running")
                    self.assertEqual((row["pid"], row["health"]), (pid, "healthy"))

        self.each_way(work)

    def test_the_start_period_is_not_begun_anew(self):
        with Server() as server, Daemon({"web": self.service(server, start_period=3, retries=1)}) as daemon:
            server.status = 503
            pid = daemon.wait_state("web", "running")["pid"]
            self.wait_recorded(daemon, "pid", str(pid).__eq__)

            def unhealthy_at_last():
                # Each daemon lives shorter than the start period, so none of them alone would see its end.
                before = server.requests
                self.kill_and_start(daemon)
                wait_until(lambda: server.requests >= before + 3, "some checks")
                return daemon.status("web")["health"] == "unhealthy"

            wait_until(unhealthy_at_last, "the end of the start period", timeout=30)
            self.assertEqual(daemon.pid("web"), pid)


if __name__ == "__main__":
    main()
