"""A reload reaches what is under way: environment files that were edited, restarts that wait, starts and stops."""

import os

from harness import Daemon, Scenario, environment, main, shell, sleeper, wait_until


def replace(path, text):
    """Writes it as an editor does: whoever reads meanwhile has the one or the other."""
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    os.rename(fresh, path)


class EnvironmentFiles(Scenario):
    def start(self, daemon, services, **files):
        for name, text in files.items():
            (daemon.dir / f"{name}.env").write_text(text)
        daemon.write_config(services)
        daemon.start()
        rows = {id: daemon.wait_state(id, "running") for id in services if "instances" not in services[id]}
        return {id: row["pid"] for id, row in rows.items()}

    def test_edited_contents_restart_the_services_that_have_it(self):
        services = {"web": sleeper(environment_file="a.env"), "api": sleeper(environment_file="a.env"),
                    "db": sleeper(environment_file="b.env"), "plain": sleeper()}
        with Daemon(started=False) as daemon:
            pids = self.start(daemon, services, a="A=1\n", b="B=1\n")
            self.assertEqual(daemon.ctl_json("reload")["restarted"], [])
            replace(daemon.dir / "a.env", "A=2\n")
            text = daemon.ctl("reload", "--dry-run").stdout
            self.assertIn("would restart web (environment_file)", text)
            self.assertEqual(daemon.pid("web"), pids["web"])
            answer = daemon.ctl_json("reload")
            self.assertEqual((answer["restarted"], answer["unchanged"]), (["api", "web"], ["db", "plain"]))
            for id in ("web", "api"):
                pid = daemon.wait_for(
                    id, lambda row, id=id: row["state"] == "running" and row["pid"] != pids[id], f"{id} to run anew"
                )["pid"]
                self.assertEqual(environment(pid)["A"], "2")
            self.assertEqual((daemon.pid("db"), daemon.pid("plain")), (pids["db"], pids["plain"]))
            self.assertEqual(daemon.ctl_json("reload")["restarted"], [], "a second time there is nothing to do")

    def test_what_changes_no_variable_restarts_nothing(self):
        with Daemon(started=False) as daemon:
            pids = self.start(daemon, {"web": sleeper(environment_file="a.env")}, a="A=1\n")
            replace(daemon.dir / "a.env", "# a comment\nA='1'\n")
            self.assertEqual(daemon.ctl_json("reload")["unchanged"], ["web"])
            os.utime(daemon.dir / "a.env")
            self.assertEqual(daemon.ctl_json("reload")["unchanged"], ["web"])
            self.assertEqual(daemon.pid("web"), pids["web"])

    def test_one_that_was_restarted_since_has_the_new_contents_already(self):
        with Daemon(started=False) as daemon:
            self.start(daemon, {"web": sleeper(environment_file="a.env")}, a="A=1\n")
            replace(daemon.dir / "a.env", "A=2\n")
            daemon.ctl("restart", "web")
            self.assertEqual(daemon.ctl_json("reload")["unchanged"], ["web"])

    def test_the_next_daemon_notices_too(self):
        with Daemon(started=False) as daemon:
            pids = self.start(daemon, {"web": sleeper(environment_file="a.env")}, a="A=1\n")
            daemon.kill_daemon()
            replace(daemon.dir / "a.env", "A=2\n")
            daemon.start()
            self.assertEqual(daemon.wait_state("web", "running")["pid"], pids["web"])
            self.assertEqual(daemon.ctl_json("reload")["restarted"], ["web"])
            pid = daemon.wait_for("web", lambda row: row["state"] == "running" and row["pid"] != pids["web"], "it")["pid"]
            self.assertEqual(environment(pid)["A"], "2")

    def test_of_instances_those_whose_file_it_is(self):
        with Daemon(started=False) as daemon:
            services = {"w": sleeper(instances=2, environment_file="w${INSTANCE}.env")}
            self.start(daemon, services, w0="A=1\n", w1="A=1\n")
            pids = [daemon.wait_state(f"w:{i}", "running")["pid"] for i in range(2)]
            replace(daemon.dir / "w1.env", "A=2\n")
            answer = daemon.ctl_json("reload")
            self.assertEqual((answer["restarted"], answer["unchanged"]), (["w:1"], ["w:0"]))
            daemon.wait_for("w:1", lambda row: row["state"] == "running" and row["pid"] != pids[1], "its restart")
            self.assertEqual(daemon.pid("w:0"), pids[0])

    def test_one_that_is_stopped_stays_so_and_a_file_that_is_gone_stops_nothing(self):
        services = {"web": sleeper(environment_file="a.env"), "off": sleeper(environment_file="a.env")}
        with Daemon(started=False) as daemon:
            pids = self.start(daemon, services, a="A=1\n")
            daemon.ctl("stop", "off")
            (daemon.dir / "a.env").unlink()
            self.assertEqual(daemon.ctl_json("reload")["unchanged"], ["off", "web"])
            replace(daemon.dir / "a.env", "A=2\n")
            self.assertEqual(daemon.ctl_json("reload")["restarted"], ["web"])
            daemon.wait_for("web", lambda row: row["state"] == "running" and row["pid"] != pids["web"], "its restart")
            self.assertEqual(daemon.status("off")["state"], "stopped")


class UnderWay(Scenario):
    def test_a_shorter_delay_shortens_a_backoff_under_way(self):
        with Daemon(started=False) as daemon:
            good = daemon.dir / "good"
            script = f"test -e {good} && exec sleep 1000; exit 1"
            daemon.write_config({"web": shell(script, restart_policy={"delay": 3600, "max_delay": 3600})})
            daemon.start()
            daemon.wait_state("web", "backoff")
            good.touch()
            daemon.write_config({"web": shell(script, restart_policy={"delay": 0.1})})
            self.assertEqual(daemon.ctl_json("reload")["updated"], ["web"])
            row = daemon.wait_state("web", "running")
            self.assertEqual(row["restart_count"], 1)

    def test_also_in_the_daemon_that_took_the_backoff_over(self):
        with Daemon({"web": shell("exit 1", restart_policy={"delay": 3600, "max_delay": 3600})}) as daemon:
            daemon.wait_state("web", "backoff")
            daemon.kill_daemon()
            daemon.start()
            daemon.wait_state("web", "backoff")
            daemon.write_config({"web": shell("exec sleep 1000", restart_policy={"delay": 0.1})})
            daemon.ctl("reload")
            daemon.wait_state("web", "running")

    def test_a_policy_that_restarts_no_more_gives_up_what_waits(self):
        with Daemon({"web": shell("exit 1", restart_policy={"delay": 3600, "max_delay": 3600})}) as daemon:
            daemon.wait_state("web", "backoff")
            daemon.write_config({"web": shell("exit 1", restart_policy={"mode": "never"})})
            daemon.ctl("reload")
            self.assertIn("restart_policy.mode is never", daemon.wait_state("web", "failed")["reason"])

    def test_timeouts_of_a_start_and_a_stop_that_are_under_way(self):
        stubborn = "trap '' TERM; echo set; while :; do sleep 0.05; done"
        with Daemon(
            {
                "starts": sleeper(readiness={"type": "uptime", "uptime": 3600}),
                "stops": shell(stubborn, graceful_shutdown={"timeout": 3600}),
            }
        ) as daemon:
            daemon.wait_state("starts", "starting")
            daemon.wait_log("stops", "set")
            daemon.ctl("stop", "--no-wait", "stops")
            daemon.wait_state("stops", "stopping")
            daemon.write_config(
                {
                    "starts": sleeper(readiness={"type": "uptime", "uptime": 0.1}),
                    "stops": shell(stubborn, graceful_shutdown={"timeout": 0.1}),
                }
            )
            daemon.ctl("reload")
            daemon.wait_state("starts", "running")
            daemon.wait_state("stops", "stopped")
            wait_until(lambda: len(daemon.service_processes()) == 1, "the stubborn one to be gone")


if __name__ == "__main__":
    main()
