"""The plan of a reload: which key causes what, what restarts nothing, and files that are included."""

import json
import signal

from harness import NO_SUCH_SERVICE, USAGE, Daemon, Scenario, kill, main, merge, shell, sleeper, wait_until

# What a running process can go on with, and the keys by which the plan names it.
LIVE = {
    "name": "New name",
    "description": "new",
    "port": 8088,
    "priority": 7,
    "critical": True,
    "groups": ["new"],
    "depends_on": ["other"],
    "health_check": {"type": "script", "command": "/bin/true", "interval": 0.1},
    "restart_policy": {"delay": 0.2, "mode": "on-failure", "max_attempts": 9, "success_exit_codes": [0, 3]},
    "graceful_shutdown": {"signal": "SIGINT", "timeout": 3, "kill_mode": "process"},
    "hooks": {"pre_start": {"command": "/bin/true"}, "post_stop": {"command": "/bin/true", "timeout": 2}},
    "logs": {"max_size_mb": 1, "max_files": 2, "compress": True, "timestamps": True},
    "readiness": {"type": "uptime", "uptime": 0.1, "timeout": 9},
    "resource_limits": {"max_memory_mb": 500, "max_processes": 50, "max_cpu_percent": 90, "on_exceed": "alert"},
}
# What only a new process can have.
RESTART = {
    "args": ["2000000"],
    "command": "/usr/bin/sleep",
    "working_directory": "/tmp",
    "environment": {"NEW": "1"},
    "environment_file": "new.env",
    "umask": "027",
    "no_new_privileges": True,
    "resource_limits": {"nice": 1, "max_open_files": 99, "oom_score_adj": 10},
    "logs": {"stderr": "separate"},
}


def keys_of(key, value):
    """The dotted keys of a change, as the plan names them."""
    if isinstance(value, dict):
        return [name for member, inner in value.items() for name in keys_of(f"{key}.{member}", inner)]
    return [key]


class ReloadPlan(Scenario):
    def plan(self, daemon, *options):
        return daemon.ctl_json("reload", *options), daemon.ctl("reload", "--dry-run").stdout

    def test_the_plan_names_the_key_that_causes_each_change(self):
        services = {f"s-{key}": sleeper() for key in (*LIVE, *(f"{key}-new" for key in RESTART))}
        with Daemon({**services, "other": sleeper(), "gone": sleeper()}) as daemon:
            (daemon.dir / "new.env").write_text("A=b\n")
            pids = {id: daemon.wait_state(id, "running")["pid"] for id in daemon.config["services"]}
            wanted = {"other": sleeper(), "fresh": sleeper()}
            for key, value in LIVE.items():
                wanted[f"s-{key}"] = merge(sleeper(), {key: value})
            for key, value in RESTART.items():
                wanted[f"s-{key}-new"] = merge(sleeper(), {key: value})
            daemon.write_config(wanted)
            text = daemon.ctl("reload", "--dry-run").stdout
            for kind, changes in (("update without a restart", LIVE), ("restart", RESTART)):
                for key, value in changes.items():
                    id = f"s-{key}" + ("" if changes is LIVE else "-new")
                    line = next(line for line in text.splitlines() if line.startswith(f"would {kind} {id} "))
                    names = keys_of(key, value) if key != "health_check" else ["health_check"]
                    for name in names:
                        self.assertIn(name, line)
            for line in ("would add fresh", "would remove gone", "1 unchanged"):
                self.assertIn(line, text)
            answer = daemon.ctl_json("reload")
            self.assertEqual(len(answer["updated"]), len(LIVE), answer)
            self.assertEqual(len(answer["restarted"]), len(RESTART), answer)
            for key in RESTART:
                id = f"s-{key}-new"
                daemon.wait_for(
                    id, lambda row, id=id: row["state"] == "running" and row["pid"] != pids[id], f"{id} to run anew"
                )
            rows = daemon.status()
            self.assertEqual(
                {id: rows[id]["pid"] for id in pids if id in rows and not id.endswith("-new")},
                {id: pid for id, pid in pids.items() if id != "gone" and not id.endswith("-new")},
            )

    def test_what_changes_nothing_in_the_process_works_from_now_on(self):
        hook = {"command": "/bin/sh", "args": ["-c", "echo $SERVICE_ID >> $OUT"]}
        with Daemon(started=False) as daemon:
            out = daemon.dir / "hooks"
            base = {"environment": {"OUT": str(out)}}
            script = (
                "trap 'echo int; exit 0' INT; trap 'echo term; exit 0' TERM; echo set; while :; do sleep 0.02; done"
            )
            daemon.write_config({"web": shell(script, **base), "sick": sleeper(), "dies": sleeper()})
            daemon.start()
            daemon.wait_log("web", "set")
            for id in ("sick", "dies"):
                daemon.wait_state(id, "running")
            pid = daemon.pid("web")
            daemon.write_config(
                {
                    "web": shell(script, **base, graceful_shutdown={"signal": "SIGINT"}, hooks={"post_stop": hook}),
                    "sick": sleeper(
                        health_check={
                            "type": "script",
                            "command": "/bin/false",
                            "interval": 0.05,
                            "retries": 1,
                            "on_failure": "alert",
                        }
                    ),
                    "dies": sleeper(restart_policy={"mode": "never"}),
                }
            )
            self.assertEqual(len(daemon.ctl_json("reload")["updated"]), 3)
            self.assertEqual(daemon.pid("web"), pid)
            daemon.wait_for("sick", lambda row: row["health"] == "unhealthy", "the new check to find it ill")
            kill(daemon.pid("dies"))
            daemon.wait_state("dies", "failed")
            daemon.ctl("stop", "web")
            self.assert_becomes(lambda: daemon.log("web"), b"set\nint\n")
            self.assertEqual(out.read_text(), "web\n")

    def test_settings_of_the_daemon_that_need_its_restart_are_said_so(self):
        with Daemon({"web": sleeper()}) as daemon:
            daemon.wait_state("web", "running")
            old = dict(daemon.config["global"])
            daemon.config["global"]["pid_directory"] = str(daemon.dir / "elsewhere")
            daemon.write_config()
            result = daemon.ctl("reload", "--dry-run")
            self.assertIn("pid_directory", result.text)
            daemon.config["global"] = old
            daemon.write_config()


class Includes(Scenario):
    def fragment(self, daemon, name, services):
        path = daemon.dir / "conf.d" / name
        if services is None:
            path.unlink()
            return
        fresh = path.with_suffix(".new")
        fresh.write_text(services if isinstance(services, str) else json.dumps({"services": services}))
        fresh.chmod(0o644)
        fresh.rename(path)

    def start(self, daemon):
        (daemon.dir / "conf.d").mkdir()
        self.fragment(daemon, "a.json", {"a": sleeper()})
        daemon.start()
        return {id: daemon.wait_state(id, "running")["pid"] for id in ("main", "a")}

    def test_files_added_changed_and_removed_are_followed_by_reload_and_sighup(self):
        with Daemon({"main": sleeper()}, global_={"include": ["conf.d/*.json"]}, started=False) as daemon:
            pids = self.start(daemon)
            self.fragment(daemon, "b.json", {"b": sleeper()})
            self.assertEqual([item["id"] for item in self.ids(daemon)["added"]], ["b"])
            daemon.wait_state("b", "running")
            self.fragment(daemon, "b.json", {"b": sleeper(args=["2000000"]), "c": sleeper()})
            daemon.process.send_signal(signal.SIGHUP)
            daemon.wait_state("c", "running")
            self.fragment(daemon, "a.json", None)
            self.fragment(daemon, "b.json", {"c": sleeper()})
            plan = self.ids(daemon)
            self.assertEqual([item["id"] for item in plan["removed"]], ["a", "b"])
            wait_until(lambda: sorted(daemon.status()) == ["c", "main"], "the removed ones to be forgotten")
            self.assertEqual(daemon.pid("main"), pids["main"])
            for id in ("a", "b"):
                daemon.ctl("status", id, expect=NO_SUCH_SERVICE)

    def ids(self, daemon):
        answer = daemon.ctl_json("reload")
        return {
            key: [item if isinstance(item, dict) else {"id": item} for item in answer[key]]
            for key in ("added", "removed", "restarted", "updated")
        }

    def test_a_bad_or_conflicting_include_changes_nothing_and_is_named(self):
        with Daemon({"main": sleeper()}, global_={"include": ["conf.d/*.json"]}, started=False) as daemon:
            pids = self.start(daemon)
            for bad, words in (
                ("{", "bad.json"),
                ('{"services": {"x": {"comand": "/bin/true"}}}', "bad.json"),
                ('{"services": {"main": {"command": "/bin/true"}}}', "main"),
                ('{"services": {"a": {"command": "/bin/true"}}}', "a"),
                ('{"services": {"x": {"command": "/bin/true", "depends_on": ["nowhere"]}}}', "nowhere"),
            ):
                self.fragment(daemon, "bad.json", bad)
                result = daemon.ctl("reload", expect=USAGE)
                self.assertIn(words, result.stderr)
                self.assertIn("conf.d/bad.json", result.stderr)
                daemon.process.send_signal(signal.SIGHUP)
            self.assertEqual({id: row["pid"] for id, row in daemon.status().items()}, pids)
            self.fragment(daemon, "bad.json", None)
            daemon.ctl("reload")

    def test_an_included_service_may_depend_on_one_of_the_main_file_and_the_other_way_round(self):
        with Daemon(
            {"main": sleeper(depends_on=["a"])}, global_={"include": ["conf.d/*.json"]}, started=False
        ) as daemon:
            self.start(daemon)
            self.fragment(daemon, "z.json", {"z": sleeper(depends_on=["main"])})
            daemon.ctl("reload")
            daemon.wait_state("z", "running")
            self.fragment(daemon, "a.json", None)  # main would be left without what it needs
            self.assertIn("depends_on", daemon.ctl("reload", expect=USAGE).stderr)
            self.assertEqual(sorted(daemon.status()), ["a", "main", "z"])


if __name__ == "__main__":
    main()
