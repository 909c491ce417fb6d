"""Followers over reloads, what services that were removed have left, and services that follow logs themselves."""

import json

from harness import DONE, NO_SUCH_SERVICE, Daemon, Scenario, main, python, shell, sleeper, wait_until
from harness.daemon import SUPERVISORCTL

# A line for each SIGUSR1.
SPEAKER = "i=0; trap 'i=$((i+1)); echo line $i of $SERVICE_ID' USR1; echo set; while :; do sleep 0.01; done"


class Reloads(Scenario):
    def poke(self, daemon, *services):
        for service in services:
            daemon.wait_log(service, "set")
            daemon.ctl("signal", "USR1", service)

    def check_follower_of(self, target, more, renamed=()):
        """`logs TARGET -f` shows what a reload to the services `more` adds; `renamed` run on, and were `web` so far."""
        services = {"web": shell(SPEAKER, groups=["site"])}
        with Daemon(services) as daemon:
            daemon.wait_log("web", "set")
            plain = daemon.stream("logs", target, "-f")
            objects = daemon.stream("--json", "logs", target, "-f")
            events = daemon.stream("events", target, "-f")
            plain.wait_for("set")
            objects.wait_for("set")
            events.wait_for("EVENT")  # the heading: from here on nothing is to be missed
            daemon.write_config({**services, **more})
            daemon.ctl("reload")
            new = sorted(set(daemon.status()) - {"web"})
            self.assertTrue(new)
            self.poke(daemon, *new)
            left = set(new)
            while left:
                line = plain.wait_for("line 1 of ")
                name = line.split()[0]
                self.assertEqual(line.split()[-1], "web" if name in renamed else name)
                left.remove(name)
            left = set(new)
            while left:
                line = json.loads(objects.wait_for("line 1 of "))
                name = line["service_id"]
                self.assertEqual(line["line"], f"line 1 of {'web' if name in renamed else name}")
                left.remove(name)
            left = set(new) - set(renamed)
            while left:
                left.discard(events.wait_for("started, pid").split()[2])

    def test_of_all(self):
        self.check_follower_of("all", {"db": shell(SPEAKER)})

    def test_of_a_group(self):
        self.check_follower_of("@site", {"db": shell(SPEAKER, groups=["site"])})

    def test_of_a_wildcard(self):
        self.check_follower_of("w*", {"worker": shell(SPEAKER, instances=2)})

    def test_of_a_service_that_is_scaled(self):
        self.check_follower_of("web", {"web": shell(SPEAKER, groups=["site"], instances=3)}, renamed=["web:0"])

    def test_what_is_added_later_does_not_show_up_elsewhere(self):
        services = {"web": shell(SPEAKER), "db": shell(SPEAKER)}
        with Daemon(services) as daemon:
            daemon.wait_log("web", "set")
            follower = daemon.stream("logs", "web", "-f")
            follower.wait_for("set")
            daemon.write_config({**services, "other": shell(SPEAKER)})
            daemon.ctl("reload")
            self.poke(daemon, "other", "web")
            follower.wait_for("line 1 of web")
            self.assertFalse([line for line in follower.seen if "other" in line])

    def test_one_that_was_removed_and_comes_back_goes_on(self):
        services = {"web": shell(SPEAKER), "db": shell(SPEAKER)}
        with Daemon(services) as daemon:
            daemon.wait_log("db", "set")
            follower = daemon.stream("logs", "all", "-f")
            follower.wait_for(lambda line: line.startswith("db"))
            daemon.write_config({"web": services["web"]})
            daemon.ctl("reload")
            wait_until(lambda: list(daemon.status()) == ["web"], "db to be gone")
            daemon.write_config(services)
            daemon.ctl("reload")
            follower.wait_for(lambda line: line.startswith("db") and "set" in line)
            self.assertEqual(len([line for line in follower.seen if line.startswith("db") and "set" in line]), 2)


class Removed(Scenario):
    def test_logs_and_events_stay_readable_by_name(self):
        services = {"web": shell(SPEAKER), "old": shell(SPEAKER), "many": shell(SPEAKER, instances=2)}
        with Daemon(services) as daemon:
            for name in ("old", "many:0", "many:1"):
                daemon.wait_log(name, "set")
                daemon.wait_event(name, "started")
            daemon.write_config({"web": services["web"]})
            daemon.ctl("reload")
            wait_until(lambda: list(daemon.status()) == ["web"], "the others to be gone")

            shown = daemon.ctl("logs", "old", expect=DONE)
            self.assertEqual(shown.stdout, "set\n")
            self.assertIn("old: not in the configuration any more", shown.stderr)
            self.assertEqual([line["service_id"] for line in daemon.ctl_json("logs", "old")["lines"]], ["old"])
            self.assertEqual(
                {line["service_id"] for line in daemon.ctl_json("logs", "many", "web")["lines"]}, {"many:0", "many:1", "web"}
            )
            self.assertEqual({line["service_id"] for line in daemon.ctl_json("logs", "many:1")["lines"]}, {"many:1"})
            self.assertIn("old | set", daemon.ctl("logs", "old", "web").stdout)

            self.assertIn("started", {event["event_type"] for event in daemon.ctl_json("events", "old")["events"]})
            self.assertEqual(
                {event["service_id"] for event in daemon.ctl_json("events", "many", "-n", 100)["events"]},
                {"many:0", "many:1"},
            )
            self.assertIn("stopped", daemon.ctl("events", "old", expect=DONE).stdout)

    def test_rotated_and_compressed_files_are_enough(self):
        with Daemon({"web": sleeper()}, started=False) as daemon:
            daemon.log_dir.mkdir()
            (daemon.log_dir / "old.log.2").write_text("from long ago\n")
            (daemon.log_dir / "gone.err.log").write_text("an error\n")
            daemon.start()
            self.assertEqual(daemon.ctl("logs", "old").stdout, "from long ago\n")
            self.assertEqual(daemon.ctl("logs", "gone", "--stderr").stdout, "an error\n")
            daemon.ctl("logs", "gone", expect=NO_SUCH_SERVICE)

    def test_what_nobody_knows_is_named_with_near_misses(self):
        with Daemon({"web": sleeper()}) as daemon:
            for command in ("logs", "events"):
                with self.subTest(command):
                    refused = daemon.ctl(command, "wep", expect=NO_SUCH_SERVICE)
                    self.assertIn("did you mean web", refused.stderr)
                    daemon.ctl(command, "web", "wep", expect=NO_SUCH_SERVICE)
                    daemon.ctl(command, "w?p", expect=NO_SUCH_SERVICE)
                    daemon.ctl(command, "@wep", expect=NO_SUCH_SERVICE)
                    daemon.ctl(command, "../../etc/passwd", expect=NO_SUCH_SERVICE)
                    daemon.ctl(command, "wep", "-f", expect=NO_SUCH_SERVICE)


class Feeding(Scenario):
    """A service whose output is what `supervisorctl logs -f` shows must not be shown its own."""

    @staticmethod
    def follower(*targets, wrap=False):
        command = [SUPERVISORCTL, "logs", *targets, "-f"]
        if wrap:  # another session, another parent; what it shows takes a detour by a pipe
            return shell("setsid " + " ".join(command) + " 2>&1 | cat & wait")
        return {"command": command[0], "args": command[1:], "graceful_shutdown": {"timeout": 5}}

    def check(self, services, *shippers):
        with Daemon({"web": shell(SPEAKER)}, global_={}) as daemon:
            daemon.wait_log("web", "set")
            for service in services.values():
                service.setdefault("environment", {})["SUPERVISOR_SOCKET"] = str(daemon.socket)
            daemon.write_config({"web": shell(SPEAKER), **services})
            daemon.ctl("reload")
            for number in range(1, 6):
                daemon.ctl("signal", "USR1", "web")
                for shipper in shippers:
                    wait_until(
                        lambda s=shipper, n=number: f"line {n} of web".encode() in daemon.log(s), f"line {number}"
                    )
            for shipper in shippers:
                self.assertLess(daemon.log_file(shipper).stat().st_size, 20_000)
                self.assertLessEqual(daemon.log(shipper).count(b"line 3 of web"), len(shippers))
            return {shipper: daemon.log(shipper).decode() for shipper in shippers}

    def test_it_leaves_itself_out_and_says_so(self):
        log = self.check({"ship": self.follower("all")}, "ship")["ship"]
        self.assertIn("ship: left out", log)

    def test_also_behind_a_shell_and_a_pipe_in_a_session_of_its_own(self):
        log = self.check({"ship": self.follower("all", wrap=True)}, "ship")["ship"]
        self.assertIn("ship: left out", log)

    def test_also_when_it_comes_by_a_wildcard_or_as_one_of_two(self):
        self.check({"ship": self.follower("*")}, "ship")
        self.check({"ship": {**self.follower("all"), "instances": 2}}, "ship:0", "ship:1")

    def test_two_that_follow_each_other(self):
        self.check({"one": self.follower("all"), "two": self.follower("all")}, "one", "two")

    def test_what_is_no_service_sees_all(self):
        services = {"web": shell(SPEAKER)}
        with Daemon(services) as daemon:
            daemon.wait_log("web", "set")
            follower = daemon.stream("logs", "all", "-f")
            follower.wait_for("set")
            self.assertEqual(follower.errors(), [])

    def test_one_that_does_not_follow_may_read_its_own(self):
        reader = python(
            "import os, subprocess, sys, time\n"
            "print('mine', flush=True)\n"
            "time.sleep(0.2)\n"
            "out = subprocess.run([sys.argv[1], 'logs', 'self'], capture_output=True, text=True)\n"
            "print('read', repr(out.stdout), flush=True)\n",
            SUPERVISORCTL,
            restart_policy={"mode": "never"},
        )
        with Daemon({"self": reader}, started=False) as daemon:
            reader["environment"] = {"SUPERVISOR_SOCKET": str(daemon.socket)}
            daemon.write_config({"self": reader})
            daemon.start()
            daemon.wait_log("self", "read 'mine\\n'")


if __name__ == "__main__":
    main()
