"""A reload finds services in every state there is, and whatever it does to them it does to all."""

from harness import (
    NO_SUCH_SERVICE,
    SCALE,
    Daemon,
    Scenario,
    environment,
    eventually,
    main,
    merge,
    processes_with,
    shell,
    sleeper,
    wait_until,
)

STUBBORN = "trap '' TERM; while :; do sleep 0.05; done"
SPAN = 2 * SCALE  # of the states that pass: time enough to see all of them
SLOW_HOOK = {"command": "/bin/sleep", "args": [str(SPAN)], "timeout": 10 * SPAN}
SHORT = {"graceful_shutdown": {"timeout": SPAN}}


def zoo(**changes):
    """A service for each state; `changes` are laid over each."""
    services = {
        "stopped": sleeper(enabled=False),
        "starting": sleeper(readiness={"type": "uptime", "uptime": 600}),
        "notifying": sleeper(readiness={"type": "notify", "timeout": 600}),
        "running": sleeper(),
        "stopping": shell(STUBBORN),
        "backoff": shell("exit 1", restart_policy={"delay": 600}),
        "unstartable": {"command": "/no/such/program", "restart_policy": {"delay": 600}},
        "failed": {"command": "/no/such/program", "restart_policy": {"mode": "never"}},
        "exited": shell("exit 0", restart_policy={"mode": "on-failure"}),
        "blocked": sleeper(depends_on=["failed"]),
        "waiting": sleeper(depends_on=["starting"]),
        "pre_start": sleeper(hooks={"pre_start": SLOW_HOOK}),
        "post_start": sleeper(hooks={"post_start": SLOW_HOOK}),
        "pre_stop": sleeper(hooks={"pre_stop": SLOW_HOOK}),
        "post_stop": sleeper(hooks={"post_stop": SLOW_HOOK}),
        "unhealthy": sleeper(
            health_check={
                "type": "script",
                "command": "/bin/false",
                "interval": 0.1,
                "retries": 1,
                "on_failure": "alert",
            }
        ),
    }
    # Those on which others depend go by the latter's names when all are renamed.
    return {
        id: merge(merge(service, {**SHORT, "environment": {"ZOO": id}}), changes) for id, service in services.items()
    }


STOPPED = ("stopped", "stopping", "pre_stop", "post_stop")  # those that somebody wants down


class ReloadStates(Scenario):
    # What each comes to when a reload leaves it configured, where that is not running. It may be that already.
    COME_TO = {
        **{id: ("stopped",) for id in STOPPED},
        "exited": ("exited",),
        "failed": ("failed",),
        "blocked": ("stopped",),
        "backoff": ("backoff",),
        "unstartable": ("backoff",),
        "starting": ("starting",),
        "notifying": ("starting",),
        "waiting": ("starting",),
    }

    def into_every_state(self, daemon):
        daemon.wait_state("failed", "failed")
        daemon.wait_state("exited", "exited")
        for id in ("backoff", "unstartable"):
            daemon.wait_state(id, "backoff")
        for id in ("stopping", "pre_stop", "post_stop", "running", "post_start"):
            daemon.wait_state(id, "running")
        daemon.wait_event("unhealthy", "unhealthy")
        for id in ("starting", "notifying", "waiting"):
            daemon.wait_state(id, "starting")
        self.assertIn("dependency failed has failed", daemon.wait_state("blocked", "stopped")["reason"])
        daemon.ctl("restart", "--no-wait", "pre_start", "post_start")  # their hooks had begun with the daemon
        daemon.wait_state("post_start", "running")
        daemon.wait_state("pre_start", "starting")
        daemon.ctl("stop", "--no-wait", "stopping", "pre_stop", "post_stop")
        for id in ("stopping", "pre_stop", "post_stop"):
            daemon.wait_state(id, "stopping")

    def assert_states(self, daemon, suffix=""):
        for id in zoo():
            row = daemon.wait_state(id + suffix, *self.COME_TO.get(id, ("running",)))
            eventually(lambda row=row, id=id: self.assert_processes(daemon, row, id + suffix))

    def assert_processes(self, daemon, row, id):
        alive = [pid for pid in processes_with(f"ZOO={id}".encode()) if pid in daemon.processes()]
        if row["state"] == "running":
            self.assertIn(row["pid"], alive, id)
        elif row["state"] in ("stopped", "exited"):
            self.assertEqual(alive, [], id)

    def test_all_are_removed(self):
        with Daemon(zoo()) as daemon:
            self.into_every_state(daemon)
            daemon.write_config({"keep": sleeper()})
            answer = daemon.ctl_json("reload")
            self.assertEqual(len(answer["removed"]), len(zoo()))
            wait_until(lambda: sorted(daemon.status()) == ["keep"], "the removed ones to be forgotten")
            for id in zoo():
                daemon.ctl("status", id, expect=NO_SUCH_SERVICE)
            wait_until(lambda: len(daemon.service_processes()) == 1, "their processes and hooks to be gone")
            self.assert_becomes(lambda: [path.name for path in daemon.pid_dir.glob("*.pid")], ["keep.pid"])

    def test_all_are_changed(self):
        with Daemon(zoo()) as daemon:
            self.into_every_state(daemon)
            before = {id: row["pid"] for id, row in daemon.status().items()}
            daemon.write_config(zoo(environment={"CHANGED": "yes"}))
            answer = daemon.ctl_json("reload")
            self.assertEqual(len(answer["restarted"]), len(zoo()), answer)
            for id in ("running", "unhealthy", "post_start", "pre_start"):
                row = daemon.wait_for(
                    id, lambda row, id=id: row["state"] == "running" and row["pid"] != before[id], "running anew"
                )
                self.assertEqual(environment(row["pid"]).get("CHANGED"), "yes")
            self.assert_states(daemon)
            for id in ("stopping", "pre_stop", "stopped"):
                daemon.ctl("start", id)
                self.assertEqual(environment(daemon.pid(id)).get("CHANGED"), "yes")

    def test_all_are_updated_without_a_restart(self):
        with Daemon(zoo()) as daemon:
            self.into_every_state(daemon)
            before = {id: daemon.status(id)["pid"] for id in ("running", "post_start", "unhealthy", "starting")}
            daemon.write_config(zoo(restart_policy={"reset_after": 33}, description="new"))
            answer = daemon.ctl_json("reload")
            self.assertEqual(len(answer["updated"]), len(zoo()), answer)
            self.assert_states(daemon)
            self.assertEqual({id: daemon.status(id)["pid"] for id in before}, before)

    def test_all_are_renamed(self):
        def renamed():
            services = {}
            for id, service in zoo().items():
                service = merge(service, {"environment": {"ZOO": id + "-2"}})
                if "depends_on" in service:
                    service["depends_on"] = [other + "-2" for other in service["depends_on"]]
                if id in STOPPED:
                    service["enabled"] = False
                services[id + "-2"] = service
            return services

        with Daemon(zoo()) as daemon:
            self.into_every_state(daemon)
            daemon.write_config(renamed())
            answer = daemon.ctl_json("reload")
            self.assertEqual((len(answer["added"]), len(answer["removed"])), (len(zoo()), len(zoo())))
            wait_until(lambda: sorted(daemon.status()) == sorted(renamed()), "the old names to be forgotten")
            self.assert_states(daemon, "-2")
            wait_until(lambda: not any(processes_with(f"ZOO={id}".encode()) for id in zoo()), "the old ones to be gone")

    def test_what_was_removed_while_it_stops_comes_back_when_it_is_configured_again(self):
        with Daemon({"web": shell(STUBBORN, **SHORT), "keep": sleeper()}) as daemon:
            pid = daemon.wait_state("web", "running")["pid"]
            good = dict(daemon.config["services"])
            daemon.write_config({"keep": sleeper()})
            daemon.ctl("reload")
            daemon.ctl("start", "web", expect=NO_SUCH_SERVICE)  # its process is there yet, its name is not
            daemon.write_config(good)
            daemon.ctl("reload")
            row = daemon.wait_for("web", lambda row: row["state"] == "running" and row["pid"] != pid, "running anew")
            wait_until(lambda: len([p for p in daemon.service_processes() if p == pid]) == 0, "the old one to be gone")
            self.assertTrue(row["pid"])

    def test_every_reload_is_answered_while_services_come_and_go(self):
        with Daemon(zoo()) as daemon:
            self.into_every_state(daemon)
            for round in range(5):
                daemon.write_config({"keep": sleeper()} if round % 2 == 0 else zoo())
                self.assertTrue(daemon.ctl_json("reload")["applied"])
            wait_until(lambda: sorted(daemon.status()) == ["keep"], "the removed ones to be forgotten")
            wait_until(lambda: len(daemon.service_processes()) == 1, "their processes to be gone")


if __name__ == "__main__":
    main()
