"""A reload applies what changed and only that; a bad file changes nothing."""

import signal

from harness import (
    DONE,
    NO_SUCH_SERVICE,
    NOT_RUNNING,
    USAGE,
    Daemon,
    Scenario,
    is_alive,
    main,
    merge,
    read_proc,
    shell,
    sleeper,
    wait_until,
)


class Reload(Scenario):
    SERVICES = {"keep": sleeper(), "change": sleeper(), "remove": sleeper(), "relabel": sleeper()}
    NEXT = {
        "keep": sleeper(),
        "change": sleeper(args=["2000000"]),
        "relabel": sleeper(description="new", priority=5),
        "add": sleeper(),
    }

    def start(self, daemon):
        return {id: daemon.wait_state(id, "running")["pid"] for id in daemon.config["services"]}

    def assert_plan(self, answer, **lists):
        def ids(key):
            return sorted(item if isinstance(item, str) else item["id"] for item in answer[key])

        for key in ("added", "removed", "restarted", "updated", "unchanged"):
            self.assertEqual(ids(key), sorted(lists.get(key, [])), f"{key}: {answer}")
        self.assertEqual(answer["errors"], [])

    def assert_applied(self, daemon, pids):
        daemon.wait_state("add", "running")
        row = daemon.wait_for(
            "change",
            lambda row: row["state"] == "running" and row["pid"] != pids["change"],
            "the changed one's restart",
        )
        wait_until(lambda: b"2000000" in read_proc(row["pid"], "cmdline"), "its new arguments")
        self.assertEqual(daemon.pid("keep"), pids["keep"])
        self.assertEqual(daemon.pid("relabel"), pids["relabel"])
        self.assertEqual(daemon.status("relabel")["priority"], 5)
        wait_until(lambda: not is_alive(pids["remove"]), "the removed one to be gone")
        wait_until(
            lambda: daemon.ctl("status", "remove", expect=None).returncode == NO_SUCH_SERVICE,
            "the removed one to be unknown",
        )

    def test_services_are_added_removed_changed_and_left_alone(self):
        with Daemon(self.SERVICES) as daemon:
            pids = self.start(daemon)
            daemon.write_config(self.NEXT)
            answer = daemon.ctl_json("reload")
            self.assertTrue(answer["applied"])
            self.assert_plan(
                answer, added=["add"], removed=["remove"], restarted=["change"], updated=["relabel"], unchanged=["keep"]
            )
            self.assert_applied(daemon, pids)
            self.assertIn("reloaded", daemon.event_types("supervisor"))
            self.assert_plan(daemon.ctl_json("reload"), unchanged=list(self.NEXT))

    def test_sighup_does_the_same(self):
        with Daemon(self.SERVICES) as daemon:
            pids = self.start(daemon)
            daemon.write_config(self.NEXT)
            daemon.process.send_signal(signal.SIGHUP)
            self.assert_applied(daemon, pids)

    def test_a_dry_run_prints_the_plan_and_applies_nothing(self):
        with Daemon(self.SERVICES) as daemon:
            pids = self.start(daemon)
            daemon.write_config(self.NEXT)
            answer = daemon.ctl_json("reload", "--dry-run")
            self.assertFalse(answer["applied"])
            self.assert_plan(
                answer, added=["add"], removed=["remove"], restarted=["change"], updated=["relabel"], unchanged=["keep"]
            )
            text = daemon.ctl("reload", "--dry-run").stdout
            for id in ("add", "remove", "change", "relabel"):
                self.assertIn(id, text)
            self.assertEqual({id: row["pid"] for id, row in daemon.status().items()}, pids)
            self.assertNotIn("reloaded", daemon.event_types("supervisor"))

    def test_a_bad_file_changes_nothing_and_exits_2_with_every_error(self):
        with Daemon(self.SERVICES) as daemon:
            pids = self.start(daemon)
            good = daemon.config_file.read_text()
            for bad, paths in (
                ("", []),
                (good[:-20], []),
                (good.replace('"args"', '"arguments"'), [f"services.{id}.arguments" for id in self.SERVICES]),
            ):
                daemon.write_text(bad)
                for dry_run in ([], ["--dry-run"]):
                    result = daemon.ctl("reload", *dry_run, expect=USAGE)
                    self.assertIn(str(daemon.config_file), result.stderr)
                    for path in paths:
                        self.assertIn(path, result.stderr)
                answer = daemon.ctl_json("reload", expect=USAGE)
                self.assertFalse(answer["applied"])
                self.assertTrue(answer["errors"])
                daemon.process.send_signal(signal.SIGHUP)
            self.assertEqual({id: row["pid"] for id, row in daemon.status().items()}, pids)
            daemon.write_text(good)
            self.assert_plan(daemon.ctl_json("reload"), unchanged=list(self.SERVICES))

    def test_a_file_cut_at_any_byte_changes_nothing(self):
        with Daemon({"web": sleeper()}) as daemon:
            pids = self.start(daemon)
            good = daemon.config_file.read_text()
            whole = len(good.rstrip())
            for length in list(range(0, whole - 1, max(1, whole // 40))) + [whole - 1]:
                daemon.write_text(good[:length])
                daemon.ctl("reload", expect=USAGE)
            self.assertEqual({id: row["pid"] for id, row in daemon.status().items()}, pids)
            daemon.write_text(good)
            daemon.ctl("reload", expect=DONE)

    def test_a_file_that_is_gone_changes_nothing(self):
        with Daemon({"web": sleeper()}) as daemon:
            pids = self.start(daemon)
            good = daemon.config_file.read_text()
            daemon.config_file.unlink()
            self.assertIn("No such file", daemon.ctl("reload", expect=USAGE).stderr)
            self.assertEqual(daemon.pid("web"), pids["web"])
            daemon.write_text(good)

    def test_a_stopped_service_stays_stopped(self):
        with Daemon({"web": sleeper(), "other": sleeper()}) as daemon:
            self.start(daemon)
            daemon.ctl("stop", "web")
            daemon.write_config({"web": sleeper(args=["3000000"]), "other": sleeper(args=["3000000"])})
            daemon.ctl("reload")
            daemon.wait_state("other", "running")
            self.assertEqual(daemon.status("web")["state"], "stopped")
            daemon.process.send_signal(signal.SIGHUP)
            daemon.ctl("reload")
            self.assertEqual(daemon.status("web")["state"], "stopped")
            daemon.ctl("start", "web")
            pid = daemon.pid("web")
            wait_until(lambda: b"3000000" in read_proc(pid, "cmdline"), "its new arguments")

    def test_enabling_starts_and_disabling_stops(self):
        with Daemon({"on": sleeper(), "off": sleeper(enabled=False)}) as daemon:
            daemon.wait_state("on", "running")
            daemon.write_config({"on": sleeper(enabled=False), "off": sleeper()})
            daemon.ctl("reload")
            daemon.wait_state("off", "running")
            daemon.wait_for("on", lambda row: row["enabled"] is False, "disabled")

    def test_a_service_in_back_off_can_be_changed_and_removed(self):
        ill = shell("exit 1", restart_policy={"delay": 60})
        with Daemon({"mend": ill, "remove": ill}) as daemon:
            for id in ("mend", "remove"):
                daemon.wait_state(id, "backoff")
            daemon.write_config({"mend": sleeper()})
            daemon.ctl("reload")
            daemon.wait_state("mend", "running")
            daemon.ctl("status", "remove", expect=NO_SUCH_SERVICE)

    def test_a_service_that_is_stopping_can_be_removed(self):
        stubborn = shell("trap '' TERM; echo set; while :; do sleep 0.05; done", graceful_shutdown={"timeout": 1})
        with Daemon({"web": stubborn, "keep": sleeper()}) as daemon:
            daemon.wait_log("web", "set")
            daemon.ctl("stop", "--no-wait", "web")
            daemon.write_config({"keep": sleeper()})
            daemon.ctl("reload")
            wait_until(lambda: len(daemon.service_processes()) == 1, "the removed one to be gone")
            wait_until(
                lambda: daemon.ctl("status", "web", expect=None).returncode == NO_SUCH_SERVICE,
                "the removed one to be unknown",
            )

    def test_a_removed_services_log_stays_and_its_pid_file_goes(self):
        with Daemon({"web": shell("echo set; exec sleep 1000"), "keep": sleeper()}) as daemon:
            daemon.wait_log("web", "set")
            daemon.write_config({"keep": sleeper()})
            daemon.ctl("reload")
            wait_until(lambda: not daemon.pid_file("web").exists(), "the pid file to go")
            self.assertEqual(daemon.log("web"), b"set\n")

    def test_more_and_fewer_instances(self):
        with Daemon({"worker": sleeper(instances=2)}) as daemon:
            pids = [daemon.wait_state(f"worker:{i}", "running")["pid"] for i in range(2)]
            daemon.write_config({"worker": sleeper(instances=4)})
            daemon.ctl("reload")
            for i in range(4):
                daemon.wait_state(f"worker:{i}", "running")
            self.assertEqual([daemon.pid(f"worker:{i}") for i in range(2)], pids)
            daemon.write_config({"worker": sleeper(instances=2)})
            daemon.ctl("reload")
            wait_until(lambda: sorted(daemon.status()) == ["worker:0", "worker:1"], "two to be left")
            self.assertEqual([daemon.pid(f"worker:{i}") for i in range(2)], pids)
            wait_until(lambda: len(daemon.service_processes()) == 2, "two processes to be left")

    def test_a_dependency_that_changes_takes_its_dependents_through_the_restart(self):
        with Daemon({"db": sleeper(), "web": sleeper(depends_on=["db"])}) as daemon:
            pids = self.start(daemon)
            daemon.write_config({"db": sleeper(args=["2000000"]), "web": sleeper(depends_on=["db"])})
            daemon.ctl("reload")
            daemon.wait_for("db", lambda row: row["state"] == "running" and row["pid"] != pids["db"], "its restart")
            daemon.wait_state("web", "running")

    def test_the_reason_of_a_reload_is_kept(self):
        with Daemon({"web": sleeper()}) as daemon:
            daemon.write_config({"web": sleeper(description="x")})
            daemon.ctl("reload", "--reason", "a ticket")
            event = daemon.wait_event("supervisor", "reloaded")
            self.assertIn("a ticket", event["message"] + str(event["details"]))
            self.assertIn("uid", event["actor"])

    def test_status_of_what_does_not_run_stays_3_over_a_reload(self):
        with Daemon({"web": sleeper()}) as daemon:
            daemon.wait_state("web", "running")
            daemon.ctl("stop", "web")
            daemon.ctl("reload")
            daemon.ctl("status", expect=NOT_RUNNING)

    def test_many_reloads_at_once_agree(self):
        with Daemon(self.SERVICES) as daemon:
            pids = self.start(daemon)
            for _ in range(3):
                daemon.write_config(self.NEXT)
                reloads = [daemon.stream("reload") for _ in range(4)]
                daemon.write_config(merge(self.SERVICES, {}))
                reloads += [daemon.stream("reload") for _ in range(4)]
                self.assertEqual({stream.wait() for stream in reloads}, {DONE})
            daemon.ctl("reload")
            for id in self.SERVICES:
                daemon.wait_state(id, "running")
            self.assertEqual(daemon.pid("keep"), pids["keep"])
            wait_until(lambda: len(daemon.service_processes()) == len(self.SERVICES), "one process of each")


if __name__ == "__main__":
    main()
