"""What a restart is about: what is up; and what is down only where it is named plainly."""

from harness import Daemon, Scenario, main, sleeper


class RestartTargets(Scenario):
    SERVICES = {
        "web": sleeper(groups=["front"]),
        "web-disabled": sleeper(groups=["front"], enabled=False),
        "web-stopped": sleeper(groups=["front"]),
    }

    def start(self, daemon):
        for id in ("web", "web-stopped"):
            daemon.wait_state(id, "running")
        daemon.ctl("stop", "web-stopped")

    def test_all_a_glob_and_a_group_leave_what_is_stopped(self):
        with Daemon(self.SERVICES) as daemon:
            self.start(daemon)
            for target in ("all", "web*", "@front"):
                pid = daemon.pid("web")
                result = daemon.ctl("restart", target)
                self.assertNotEqual(daemon.pid("web"), pid, target)
                rows = daemon.status()
                for id in ("web-disabled", "web-stopped"):
                    self.assertEqual((rows[id]["state"], rows[id]["pid"]), ("stopped", 0), target)
                    self.assertRegex(result.stdout, rf"(?m)^{id}: left stopped: .*supervisorctl start {id}")

    def test_a_name_given_plainly_starts_it_and_so_does_its_service(self):
        services = {**self.SERVICES, "worker": sleeper(instances=2, enabled=False)}
        with Daemon(services) as daemon:
            self.start(daemon)
            daemon.ctl("restart", "web-disabled", "web*")
            self.assertEqual(daemon.status("web-disabled")["state"], "running")
            self.assertEqual(daemon.status("web-stopped")["state"], "stopped")
            daemon.ctl("restart", "web-stopped")
            self.assertEqual(daemon.status("web-stopped")["state"], "running")
            daemon.ctl("restart", "worker:1")
            self.assertEqual(daemon.status("worker:0")["state"], "stopped")
            daemon.ctl("restart", "worker")
            self.assertEqual(daemon.status("worker:0")["state"], "running")

    def test_what_was_started_though_it_is_disabled_is_up(self):
        with Daemon(self.SERVICES) as daemon:
            self.start(daemon)
            daemon.ctl("start", "web-disabled")
            pid = daemon.pid("web-disabled")
            daemon.ctl("restart", "all")
            self.assertNotEqual(daemon.pid("web-disabled"), pid)

    def test_a_failed_one_is_wanted_up_and_tried_again(self):
        with Daemon({"web": {"command": "/no/such/program", "restart_policy": {"mode": "never"}}}) as daemon:
            daemon.wait_state("web", "failed")
            daemon.write_config({"web": sleeper(restart_policy={"mode": "never"}), "off": sleeper(enabled=False)})
            daemon.ctl("reload")
            daemon.ctl("restart", "all")
            self.assertEqual(daemon.status("web")["state"], "running")
            self.assertEqual(daemon.status("off")["state"], "stopped")

    def test_dependencies_of_what_is_left_are_left_too(self):
        services = {
            "web": sleeper(),
            "page": sleeper(depends_on=["cache"], enabled=False),
            "cache": sleeper(enabled=False),
        }
        with Daemon(services) as daemon:
            daemon.wait_state("web", "running")
            daemon.ctl("restart", "all")
            rows = daemon.status()
            self.assertEqual([rows[id]["state"] for id in ("page", "cache")], ["stopped", "stopped"])


if __name__ == "__main__":
    main()
