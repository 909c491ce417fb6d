"""A container that was killed and is started again: the boot id of its host, another pid namespace. That is a boot."""

from harness import Container, Scenario, is_alive, kill, main, needs_root, shell, sleeper, wait_until

ONE_OFF = {"restart_policy": {"mode": "on-failure", "max_attempts": 2, "delay": 0.05}}


@needs_root
class ContainerRestart(Scenario):
    def services(self, daemon):
        ran = daemon.dir / "ran"
        return {
            "web": sleeper(restart_policy={"max_attempts": 2}),
            "stopped": sleeper(),
            "failed": shell(f"[ -e {daemon.dir}/mended ] && exec sleep 1000000; exit 3", **ONE_OFF),
            "migrate": shell(f"echo ran >> {ran}", restart_policy={"mode": "on-failure"}),
            "manual": sleeper(enabled=False),
        }

    def life(self, daemon):
        """One life of the container, in which something happens to each of its services."""
        daemon.start()
        first = daemon.wait_state("web", "running")["pid"]
        self.assertEqual(daemon.ctl("stop", "stopped").returncode, 0)
        daemon.ctl("start", "manual")
        daemon.wait_state("failed", "failed")
        daemon.wait_state("migrate", "exited")
        return first

    def test_enabled_decides_again_and_attempts_are_fresh(self):
        for shell_first in (False, True):
            with self.subTest(shell_first=shell_first), Container(shell=shell_first) as daemon:
                daemon.write_config(self.services(daemon))
                self.life(daemon)
                stale = daemon.pid_file("manual")
                self.assertTrue(stale.exists())
                daemon.kill()
                (daemon.dir / "mended").touch()
                daemon.start()
                for id in ("web", "stopped", "failed"):
                    row = daemon.wait_state(id, "running")
                    self.assertEqual(row["restart_count"], 0, row)
                wait_until(lambda: (daemon.dir / "ran").read_text() == "ran\nran\n", "the one-off's second run")
                daemon.wait_state("migrate", "exited")
                row = daemon.status("manual")
                self.assertEqual(row["state"], "stopped", row)
                wait_until(lambda: not stale.exists(), "the pid file of the earlier life to be removed")
                types = daemon.event_types("web")
                self.assertEqual(types.count("started"), 2, types)
                for type in ("exited", "failed", "restarting", "adopted"):
                    self.assertNotIn(type, types)

    def test_attempts_are_not_used_up_by_restarts_of_the_container(self):
        with Container({"web": sleeper(restart_policy={"max_attempts": 2})}) as daemon:
            for _ in range(4):
                daemon.start()
                self.assertEqual(daemon.wait_state("web", "running")["restart_count"], 0)
                daemon.kill()
            daemon.start()
            self.assertEqual(daemon.wait_state("web", "running")["restart_count"], 0)

    def test_a_crash_within_the_container_is_none(self):
        with Container(shell=True) as daemon:
            daemon.write_config(self.services(daemon))
            daemon.start()
            daemon.wait_state("web", "running")
            inside = daemon.pid("web")
            web = [pid for pid in daemon.service_processes() if self.namespace_pid(pid) == inside]
            self.assertEqual(len(web), 1)
            daemon.ctl("stop", "stopped")
            daemon.wait_state("migrate", "exited")
            before = daemon.version()["pid"]
            for pid in daemon.supervisors():
                if self.namespace_pid(pid) == before:
                    kill(pid)
            wait_until(lambda: daemon.version()["pid"] != before, "another daemon")
            daemon.wait_state("web", "running")
            self.assertTrue(is_alive(web[0]))
            self.assertEqual(daemon.status("stopped")["state"], "stopped")
            self.assertEqual((daemon.dir / "ran").read_text(), "ran\n")
            self.assertIn("adopted", daemon.event_types("web"))

    @staticmethod
    def namespace_pid(pid):
        with open(f"/proc/{pid}/status", encoding="utf-8") as file:
            return next(int(line.split()[-1]) for line in file if line.startswith("NSpid:"))


if __name__ == "__main__":
    main()
