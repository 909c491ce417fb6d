"""Restarts and reloads of several services are one plan: down in order, dependents first, and up in order."""

from harness import DONE, FAILED, Daemon, Scenario, is_alive, kill, main, shell, wait_until

READY = {"readiness": {"type": "uptime", "uptime": 0.1}}


def recorder(out, id, gate=None, **changes):
    """Says when it starts, when it is asked to go, and when it is gone: soon, or once there is a file `gate`."""
    flush = f"while ! test -e {gate}; do sleep 0.02; done" if gate else "sleep 0.2"
    return shell(
        f"say() {{ echo $1 {id} >> {out}; }}; trap 'say asked; {flush}; say gone; exit 0' TERM; say started; "
        "while :; do sleep 0.02; done",
        **{**READY, **changes},
    )


class Recorded(Scenario):
    # Three levels, and beside them one that has nothing to do with it.
    TOWER = {
        "db": {},
        "cache": {"depends_on": ["db"]},
        "api": {"depends_on": ["cache"]},
        "page": {"depends_on": ["api"]},
        "beside": {},
    }
    DOWN = [["page"], ["api"], ["cache"], ["db"]]

    def start(self, daemon, services):
        self.out = daemon.dir / "order"
        daemon.write_config({id: recorder(self.out, id, **changes) for id, changes in services.items()})
        daemon.start()
        for id in services:
            daemon.wait_state(id, "running")
            wait_until(lambda id=id: f"started {id}" in self.lines(), f"{id} to have said so")
        self.seen = len(self.lines())

    def lines(self):
        return self.out.read_text().splitlines() if self.out.exists() else []

    def news(self):
        """What was said since the services were up first."""
        return self.lines()[self.seen :]

    def assert_down_in_order(self, levels):
        """Each level is gone before the next is asked."""
        news = self.news()
        for ids in levels:
            for id in ids:
                self.assertEqual([line for line in news if line in (f"asked {id}", f"gone {id}")],
                                 [f"asked {id}", f"gone {id}"], news)
        for later, earlier in zip(levels, levels[1:]):
            last_gone = max(news.index(f"gone {id}") for id in later)
            first_asked = min(news.index(f"asked {id}") for id in earlier)
            self.assertLess(last_gone, first_asked, news)

    def assert_up_in_order(self, levels):
        """Each level starts after the one before, and after everything of the plan has gone."""
        news = self.news()
        ids = [id for level in levels for id in level]
        for id in ids:
            self.assertEqual(news.count(f"started {id}"), 1, news)
        last_gone = max(news.index(f"gone {id}") for id in ids)
        starts = [[news.index(f"started {id}") for id in level] for level in levels]
        self.assertLess(last_gone, min(starts[0]), news)
        for earlier, later in zip(starts, starts[1:]):
            self.assertLess(max(earlier), min(later), news)

    def assert_restarted_in_order(self, down):
        self.assert_down_in_order(down)
        self.assert_up_in_order(down[::-1])


class Restart(Recorded):
    def test_restart_of_all_goes_down_and_comes_up_level_by_level(self):
        with Daemon(started=False) as daemon:
            self.start(daemon, self.TOWER)
            result = daemon.ctl("restart", "all")
            self.assertEqual(result.stdout.count(": restarted, pid "), 5, result)
            self.assert_restarted_in_order(self.DOWN)

    def test_restart_of_several_goes_by_their_dependencies_however_they_are_named(self):
        groups = {"db": {"groups": ["g"]}, "web": {"groups": ["g"], "depends_on": ["db"]}}
        for targets in (["web", "db"], ["db", "web"], ["@g"], ["*"]):
            with self.subTest(targets), Daemon(started=False) as daemon:
                self.start(daemon, groups)
                daemon.ctl("restart", *targets)
                self.assert_restarted_in_order([["web"], ["db"]])

    def test_a_dependency_two_steps_away_is_waited_for_though_what_lies_between_runs_on(self):
        with Daemon(started=False) as daemon:
            self.start(daemon, {"db": {}, "api": {"depends_on": ["db"]}, "web": {"depends_on": ["api"]}})
            api = daemon.pid("api")
            daemon.ctl("restart", "web", "db")
            self.assertEqual(daemon.pid("api"), api)
            self.assert_down_in_order([["web"], ["db"]])

    def test_priority_classes_count_too(self):
        with Daemon(started=False) as daemon:
            self.start(daemon, {"first": {"priority": 1}, "second": {"priority": 2}, "third": {"priority": 3}})
            daemon.ctl("restart", "all")
            self.assert_restarted_in_order([["third"], ["second"], ["first"]])

    def test_every_instance_of_a_dependent_is_waited_for(self):
        with Daemon(started=False) as daemon:
            self.out = daemon.dir / "order"
            web = recorder(self.out, "$SERVICE_ID", instances=2, depends_on=["db"])
            daemon.write_config({"db": recorder(self.out, "db"), "web": web})
            daemon.start()
            wait_until(lambda: len(self.lines()) == 3, "all three")
            for id in ("web:0", "web:1"):
                daemon.wait_state(id, "running")
            self.seen = 3
            daemon.ctl("restart", "all")
            self.assert_restarted_in_order([["web:0", "web:1"], ["db"]])

    def test_restart_with_dependents_takes_along_what_runs(self):
        with Daemon(started=False) as daemon:
            self.start(daemon, {**self.TOWER, "idle": {"depends_on": ["db"]}})
            daemon.ctl("stop", "idle")
            self.seen = len(self.lines())
            beside = daemon.pid("beside")
            result = daemon.ctl("restart", "db", "--with-dependents", "--reason", "new disk")
            self.assertRegex(result.stdout, r"(?m)^db: restarted, pid \d+$")
            for id in ("cache", "api", "page"):
                self.assertRegex(result.stdout, rf"(?m)^{id}: restarted, pid \d+ \(depends on what was restarted\)$")
            self.assert_restarted_in_order(self.DOWN)
            self.assertEqual(daemon.status("idle")["state"], "stopped")
            self.assertEqual(daemon.pid("beside"), beside)
            self.assertEqual(daemon.wait_event("page", "restarting")["details"]["reason"], "new disk")
            rows = {row["id"]: row for row in daemon.ctl_json("restart", "cache", "--with-dependents")["results"]}
            self.assertEqual({id: (row["implied"], row["is_dependent"]) for id, row in rows.items()},
                             {"cache": (False, False), "api": (True, True), "page": (True, True)})

    def test_restart_of_a_dependency_alone_leaves_its_dependents_and_the_help_says_what_that_means(self):
        with Daemon(started=False) as daemon:
            self.start(daemon, self.TOWER)
            pids = {id: daemon.pid(id) for id in ("cache", "api", "page")}
            daemon.ctl("restart", "db")
            self.assertEqual({id: daemon.pid(id) for id in pids}, pids)
            text = " ".join(daemon.ctl("restart", "--help").stdout.split())
            self.assertIn("--with-dependents", text)
            self.assertIn("loses its connections", text)

    def test_a_dependency_that_does_not_come_back_fails_the_restart_of_its_dependents(self):
        with Daemon(started=False) as daemon:
            self.start(daemon, {"db": {}, "web": {"depends_on": ["db"]}})
            (daemon.dir / "order").chmod(0o644)
            daemon.config["services"]["db"] = shell(
                "exit 3", readiness=READY["readiness"], restart_policy={"mode": "never"}
            )
            daemon.config["services"]["web"]["environment"] = {"A": "b"}
            daemon.write_config()
            daemon.ctl("reload")
            self.assert_becomes(lambda: daemon.status("db")["state"], "failed")
            row = daemon.wait_for("web", lambda row: "db has failed" in row["reason"], "its reason")
            self.assertFalse(row["pid"])
            result = daemon.ctl("restart", "db", "web", expect=FAILED)
            self.assertIn("web: failed: dependency db has failed", result.stderr)

    def test_what_runs_is_not_restarted_while_its_dependency_cannot_start(self):
        with Daemon(started=False) as daemon:
            self.start(daemon, {"db": {}, "web": {"depends_on": ["db"]}, "page": {"depends_on": ["web"]}})
            pids = {id: daemon.pid(id) for id in ("web", "page")}
            daemon.config["services"]["db"] = shell(
                "exit 3", readiness=READY["readiness"], restart_policy={"mode": "never"}
            )
            daemon.write_config()
            daemon.ctl("reload")
            self.assert_becomes(lambda: daemon.status("db")["state"], "failed")
            for arguments in (["web"], ["web", "--with-dependents"]):
                result = daemon.ctl("restart", *arguments, expect=FAILED)
                self.assertIn("web: failed: dependency db has failed", result.stderr)
                self.assertIn("it was not restarted, and runs on", result.stderr)
                self.assertEqual({id: daemon.pid(id) for id in pids}, pids)
            daemon.wait_event("web", "restarting", lambda event: "the restart was withdrawn" in event["message"])
            # Once it can be started it is, first; the restart waits for it.
            recorded = recorder(self.out, "db")
            daemon.config["services"]["db"] = recorded
            daemon.write_config()
            daemon.ctl("reload")
            daemon.ctl("restart", "web", "--with-dependents")
            self.assertNotEqual(daemon.pid("web"), pids["web"])
            self.assertNotEqual(daemon.pid("page"), pids["page"])

    def test_a_restart_without_waiting_goes_in_order_too(self):
        with Daemon(started=False) as daemon:
            self.start(daemon, self.TOWER)
            daemon.ctl("restart", "all", "--no-wait")
            wait_until(lambda: self.news().count("started page") == 1, "the last to start")
            self.assert_restarted_in_order(self.DOWN)

    def test_a_stop_during_a_restart_takes_over_in_order(self):
        with Daemon(started=False) as daemon:
            self.gated(daemon)
            restarting = daemon.stream("restart", "all")
            wait_until(lambda: "asked web" in self.news(), "web to be asked")
            stopping = daemon.stream("stop", "all")
            wait_until(lambda: "stopped" in daemon.status("db")["reason"], "the stop to have arrived")
            (daemon.dir / "go").touch()
            self.assertEqual(stopping.wait(), DONE)
            self.assertEqual(restarting.wait(), FAILED)
            self.assert_down_in_order([["web"], ["db"]])
            self.assertEqual({id: row["state"] for id, row in daemon.status().items()},
                             {"db": "stopped", "web": "stopped"})

    def gated(self, daemon):
        """db, and web which takes as long as it takes until there is a file."""
        self.out = daemon.dir / "order"
        daemon.write_config(
            {
                "db": recorder(self.out, "db"),
                "web": recorder(self.out, "web", daemon.dir / "go", depends_on=["db"]),
            }
        )
        daemon.start()
        wait_until(lambda: len(self.lines()) == 2, "both")
        for id in ("db", "web"):
            daemon.wait_state(id, "running")
        self.seen = 2

    def test_what_waits_for_its_turn_says_so(self):
        with Daemon(started=False) as daemon:
            self.gated(daemon)
            daemon.ctl("restart", "all", "--no-wait")
            wait_until(lambda: "asked web" in self.news(), "web to be asked")
            row = daemon.status("db")
            self.assertEqual((row["state"], row["reason"]), ("running", "restarts when what depends on it has stopped"))
            self.assertIn("it restarts when what depends on it has stopped", daemon.ctl("explain", "db").stdout)
            self.assertNotIn("asked db", self.news())
            (daemon.dir / "go").touch()
            wait_until(lambda: "started web" in self.news(), "both to be back")
            self.assert_restarted_in_order([["web"], ["db"]])

    def test_a_dependency_waits_for_a_dependent_that_somebody_else_is_stopping(self):
        for second in ("stop", "restart"):
            with self.subTest(second), Daemon(started=False) as daemon:
                self.gated(daemon)
                daemon.ctl("stop", "web", "--no-wait")
                wait_until(lambda: "asked web" in self.news(), "web to be asked")
                daemon.ctl(second, "db", "--no-wait")
                daemon.wait_for("db", lambda row: "depends on it has stopped" in row["reason"], "db to wait")
                (daemon.dir / "go").touch()
                wait_until(lambda: "gone db" in self.news(), "db to have gone")
                self.assert_down_in_order([["web"], ["db"]])

    def test_the_order_outlives_the_daemon(self):
        for command, back in (("restart", True), ("stop", False)):
            with self.subTest(command), Daemon(started=False) as daemon:
                self.gated(daemon)
                pids = {id: daemon.pid(id) for id in ("db", "web")}
                daemon.ctl(command, "all", "--no-wait")
                wait_until(lambda: "asked web" in self.news(), "web to be asked")
                kill(daemon.version()["pid"])
                daemon.wait_event("db", "adopted")
                daemon.wait_for("db", lambda row: "depends on it has stopped" in row["reason"], "db to wait")
                self.assertTrue(is_alive(pids["db"]))
                self.assertNotIn("asked db", self.news())
                (daemon.dir / "go").touch()
                for id, pid in pids.items():
                    daemon.wait_for(
                        id,
                        lambda row, pid=pid: row["pid"] != pid
                        and row["state"] == ("running" if back else "stopped"),
                        "it to be through",
                    )
                news = self.news()
                self.assertLess(news.index("gone web"), news.index("asked db"), news)
                if back:
                    self.assertLess(news.index("gone db"), news.index("started db"), news)
                    self.assertLess(news.index("started db"), news.index("started web"), news)


class Reload(Recorded):
    def change(self, daemon, services):
        daemon.write_config({id: recorder(self.out, id, **changes) for id, changes in services.items()})

    def test_a_reload_that_changes_several_replaces_them_in_order(self):
        with Daemon(started=False) as daemon:
            self.start(daemon, self.TOWER)
            changed = {id: {**what, "environment": {"NEW": "1"}} for id, what in self.TOWER.items()}
            self.change(daemon, changed)
            daemon.ctl("reload")
            wait_until(lambda: "started page" in self.news(), "the last to start")
            self.assert_restarted_in_order(self.DOWN)

    def test_a_signal_to_reload_goes_in_order_too(self):
        with Daemon(started=False) as daemon:
            self.start(daemon, {"db": {}, "web": {"depends_on": ["db"]}})
            self.change(daemon, {"db": {"umask": "027"}, "web": {"depends_on": ["db"], "umask": "027"}})
            kill(daemon.process.pid, 1)
            wait_until(lambda: "started web" in self.news(), "web to be back")
            self.assert_restarted_in_order([["web"], ["db"]])

    def test_what_runs_goes_down_by_the_order_that_it_was_started_in(self):
        """A reload that turns a dependency round, or takes it away along with the service."""
        with Daemon(started=False) as daemon:
            self.start(daemon, {"db": {}, "web": {"depends_on": ["db"]}})
            self.change(daemon, {"db": {"depends_on": ["web"], "umask": "027"}, "web": {"umask": "027"}})
            daemon.ctl("reload")
            wait_until(lambda: "started db" in self.news(), "db to be back")
            self.assert_down_in_order([["web"], ["db"]])
            news = self.news()
            self.assertLess(news.index("started web"), news.index("started db"), "and up by the new one")
        with Daemon(started=False) as daemon:
            self.start(daemon, {"db": {}, "web": {"depends_on": ["db"]}})
            self.change(daemon, {"web": {"umask": "027"}})
            daemon.ctl("reload")
            wait_until(lambda: "gone db" in self.news() and "started web" in self.news(), "the reload to be through")
            self.assert_down_in_order([["web"], ["db"]])


if __name__ == "__main__":
    main()
