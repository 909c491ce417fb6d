"""Instances and what of the configuration is theirs; who a service runs as; reasons that are kept."""

import grp
import json
import os
import pwd

from harness import FAILED, TIMED_OUT, Daemon, Scenario, environment, main, needs_root, process_status, shell, sleeper
from harness import wait_until


class Instances(Scenario):
    def test_the_number_is_replaced_everywhere_in_the_service(self):
        with Daemon(started=False) as daemon:
            for i in range(3):
                (daemon.dir / f"work-{i}").mkdir()
                (daemon.dir / f"env-{i}").write_text(f"FROM_FILE=file {i}\n")
            hook = {
                "command": "/bin/sh",
                "args": ["-c", f"echo hook ${{INSTANCE}} >> {daemon.dir}/work-${{INSTANCE}}/hook"],
            }
            check = {
                "type": "script",
                "command": "/bin/sh",
                "interval": 0.05,
                "retries": 1,
                "args": ["-c", f": > {daemon.dir}/work-${{INSTANCE}}/checked"],
                "on_failure": "alert",
            }
            daemon.write_config(
                {
                    "worker": shell(
                        "",
                        args=["-c", 'echo "$1|$NAME|$FROM_FILE|$(pwd)"; exec sleep 1000', "sh", "arg-${INSTANCE}"],
                        environment={"NAME": "name-${INSTANCE}"},
                        environment_file=str(daemon.dir / "env-${INSTANCE}"),
                        working_directory=str(daemon.dir / "work-${INSTANCE}"),
                        hooks={"pre_start": hook},
                        health_check=check,
                        instances=3,
                        name="Worker ${INSTANCE}",
                    )
                }
            )
            daemon.start()
            for i in range(3):
                row = daemon.wait_state(f"worker:{i}", "running")
                self.assertEqual(row["name"], f"Worker {i}")
                text = daemon.wait_log(f"worker:{i}", b"\n").decode().strip()
                self.assertEqual(text.split("|"), [f"arg-{i}", f"name-{i}", f"file {i}", f"{daemon.dir}/work-{i}"])
                self.assertEqual((daemon.dir / f"work-{i}" / "hook").read_text(), f"hook {i}\n")
                wait_until((daemon.dir / f"work-{i}" / "checked").exists, "its own check")
                self.assertEqual(int(daemon.pid_file(f"worker:{i}").read_text()), row["pid"])

    def test_one_instance_dies_and_fails_and_is_stopped_by_itself(self):
        with Daemon(
            {
                "worker": shell(
                    'test "$N" = 1 && exit 3; exec sleep 1000',
                    instances=3,
                    environment={"N": "${INSTANCE}"},
                    restart_policy={"delay": 0.02, "max_attempts": 2},
                )
            }
        ) as daemon:
            daemon.wait_state("worker:1", "failed")
            pids = {i: daemon.wait_state(f"worker:{i}", "running")["pid"] for i in (0, 2)}
            daemon.ctl("restart", "worker:2")
            self.assertEqual(daemon.pid("worker:0"), pids[0])
            self.assertNotEqual(daemon.pid("worker:2"), pids[2])
            result = daemon.ctl("restart", "worker", expect=(0, FAILED))
            self.assertIn("worker:0", result.text)


class RunningAs(Scenario):
    @needs_root
    def test_supplementary_groups_are_the_users_own_and_none_of_the_daemons(self):
        # A user that is in further groups: looked for, since none may be made here.
        wanted = next(
            (
                (entry.pw_name, set(os.getgrouplist(entry.pw_name, entry.pw_gid)))
                for entry in pwd.getpwall()
                if entry.pw_uid and len(os.getgrouplist(entry.pw_name, entry.pw_gid)) > 1
            ),
            ("games", {pwd.getpwnam("games").pw_gid}),
        )
        user, groups = wanted

        def prepare():
            os.setgroups([0, grp.getgrnam("adm").gr_gid, grp.getgrnam("shadow").gr_gid])

        with Daemon(
            {"web": sleeper(user=user), "root": sleeper(), "grouped": sleeper(user=user, group="daemon")},
            prepare=prepare,
        ) as daemon:
            status = process_status(daemon.wait_state("web", "running")["pid"])
            self.assertEqual(set(map(int, status["Groups"].split())), groups)
            status = process_status(daemon.wait_state("grouped", "running")["pid"])
            self.assertEqual(int(status["Gid"].split()[0]), grp.getgrnam("daemon").gr_gid)
            self.assertNotIn(grp.getgrnam("shadow").gr_gid, set(map(int, status["Groups"].split())) - groups)
            found = environment(daemon.pid("web"))
            entry = pwd.getpwnam(user)
            self.assertEqual((found["HOME"], found["USER"], found["LOGNAME"]), (entry.pw_dir, user, user))

    @needs_root
    def test_home_user_and_logname_can_be_configured_otherwise(self):
        with Daemon({"web": sleeper(user="games", environment={"HOME": "/tmp", "EXTRA": "1"})}) as daemon:
            found = environment(daemon.wait_state("web", "running")["pid"])
            self.assertEqual((found["HOME"], found["USER"], found["LOGNAME"]), ("/tmp", "games", "games"))

    def test_an_environment_file_that_vanishes_fails_the_next_start_and_is_found_when_it_is_back(self):
        with Daemon(started=False) as daemon:
            path = daemon.dir / "web.env"
            path.write_text("# a comment\nA=1\n\nB='two words'\n")
            daemon.write_config(
                {"web": sleeper(environment_file=str(path), restart_policy={"delay": 0.1, "max_attempts": 0})}
            )
            daemon.start()
            found = environment(daemon.wait_state("web", "running")["pid"])
            self.assertEqual((found["A"], found["B"]), ("1", "two words"))
            path.unlink()
            result = daemon.ctl("restart", "web", expect=FAILED)
            for words in ("environment_file", str(path), "No such file or directory"):
                self.assertIn(words, result.stderr)
            self.assertEqual(daemon.service_processes(), [])
            whole = path.with_suffix(".new")  # the daemon looks all the time
            whole.write_text("A=2\n")
            whole.rename(path)
            self.assertEqual(environment(daemon.wait_state("web", "running")["pid"])["A"], "2")


class Reasons(Scenario):
    REASON = 'ticket #7: "new disk"'

    def assert_kept(self, daemon, service, event_type):
        event = daemon.wait_event(service, event_type, lambda event: event["details"].get("reason") == self.REASON)
        self.assertIn(f"uid {os.getuid()}", event["actor"])
        query = "SELECT details FROM supervisor_events WHERE id = ?"
        self.assert_becomes(
            lambda: [json.loads(details)["reason"] for (details,) in daemon.sql(query, event["id"])], [self.REASON]
        )

    def test_of_start_stop_restart_and_reload(self):
        with Daemon({"web": sleeper(enabled=False)}) as daemon:
            for command, event_type in (("start", "started"), ("restart", "restarting"), ("stop", "stopped")):
                daemon.ctl(command, "web", "--reason", self.REASON)
                self.assert_kept(daemon, "web", event_type)
            daemon.write_config({"web": sleeper(description="x")})
            daemon.ctl("reload", "--reason", self.REASON)
            self.assert_kept(daemon, "supervisor", "reloaded")

    def test_of_a_signal_that_ends_the_service(self):
        with Daemon({"web": sleeper()}) as daemon:
            for name in ("KILL", "TERM"):
                count = daemon.event_types("web").count("exited")
                daemon.wait_state("web", "running")
                daemon.ctl("signal", name, "web", "--reason", self.REASON)
                wait_until(lambda: daemon.event_types("web").count("exited") == count + 1, "its exit")
                event = [event for event in daemon.events("web") if event["event_type"] == "exited"][-1]
                self.assertEqual(event["details"].get("reason"), self.REASON, event)
                self.assertIn(f"uid {os.getuid()}", event["actor"])
            os.kill(daemon.wait_state("web", "running")["pid"], 9)  # nobody's doing
            wait_until(lambda: daemon.event_types("web").count("exited") == 3, "its exit")
            event = [event for event in daemon.events("web") if event["event_type"] == "exited"][-1]
            self.assertEqual(event["actor"], "service")

    def test_of_a_stop_that_was_not_waited_for_or_timed_out(self):
        slow = shell("trap 'sleep 2; exit 0' TERM; echo set; while :; do sleep 0.02; done")
        with Daemon({"web": slow, "late": slow}) as daemon:
            for id in ("web", "late"):
                daemon.wait_log(id, "set")
            daemon.ctl("stop", "web", "--no-wait", "--reason", self.REASON)
            daemon.ctl("stop", "late", "--timeout", "0.1", "--reason", self.REASON, expect=TIMED_OUT)
            for id in ("web", "late"):
                self.assert_kept(daemon, id, "stopped")


if __name__ == "__main__":
    main()
