"""More and fewer instances, and a service under another id: what stays stays, and the plan is what happens."""

import socket

from harness import Daemon, Scenario, environment, free_port, is_alive, kill, main, merge, python, sleeper, wait_until

# Listens on a port of its own for each instance; one more on the same port is an error that its log shows.
LISTENER = """
import os, signal, socket, sys, time
number = int(os.environ["NUMBER"])
server = socket.create_server(("127.0.0.1", int(os.environ["PORTS"].split(",")[number])))
signal.signal(signal.SIGTERM, lambda *args: (time.sleep(0.3), os._exit(0)))
os.write(1, b"listening\\n")  # print writes the line and its end apart
while True:
    time.sleep(1)
"""


def listener(ports, **changes):
    base = python(LISTENER, environment={"NUMBER": "${INSTANCE}", "PORTS": ",".join(map(str, ports))})
    return merge(base, {"restart_policy": {"mode": "never"}, **changes})


class Scaling(Scenario):
    def reload(self, daemon, services):
        """Applies them; the plan of the dry run has to be what is then told."""
        daemon.write_config(services)
        planned = daemon.ctl_json("reload", "--dry-run")
        done = daemon.ctl_json("reload")
        self.assertEqual({**planned, "applied": True}, done)
        return {kind: ids for kind, ids in done.items() if ids and kind != "applied"}

    def test_one_becomes_two_and_the_process_stays_under_its_new_name(self):
        ports = [free_port(), free_port()]
        with Daemon({"w": listener(ports)}) as daemon:
            daemon.wait_log("w", "listening")
            pid = daemon.pid("w")
            plan = self.reload(daemon, {"w": listener(ports, instances=2)})
            self.assertEqual(plan, {"added": ["w:1"], "updated": ["w:0"]})
            other = daemon.wait_state("w:1", "running")["pid"]
            rows = daemon.status()
            self.assertEqual(sorted(rows), ["w:0", "w:1"])
            self.assertEqual((rows["w:0"]["pid"], rows["w:0"]["state"]), (pid, "running"))
            daemon.wait_log("w:1", "listening")
            self.assertEqual(daemon.log("w:0"), b"listening\n")
            self.assert_becomes(lambda: daemon.pid_file("w:0").read_text(), f"{pid}\n")
            self.assertFalse(daemon.pid_file("w").exists())
            self.assertIn(f"was w so far, and runs on: pid {pid}", [event["message"] for event in daemon.events("w:0")])
            self.assertEqual(rows["w:0"]["restart_count"], 0)
            # Back again: the highest goes.
            plan = self.reload(daemon, {"w": listener(ports)})
            self.assertEqual(plan, {"removed": ["w:1"], "updated": ["w"]})
            wait_until(lambda: sorted(daemon.status()) == ["w"], "one to be left")
            self.assertEqual(daemon.pid("w"), pid)
            self.assertFalse(is_alive(other))
            self.assertEqual(daemon.log("w"), b"listening\n")

    def test_the_plan_names_each_instance_in_words(self):
        with Daemon({"w": sleeper()}) as daemon:
            daemon.wait_state("w", "running")
            daemon.write_config({"w": sleeper(instances=2)})
            text = daemon.ctl("reload", "--dry-run").stdout
            self.assertIn("would add w:1\n", text)
            self.assertIn("would update without a restart w:0 (instances: it was w so far)\n", text)
            self.assertNotIn("would restart", text)

    def test_two_become_four_and_four_two(self):
        with Daemon({"w": sleeper(instances=2)}) as daemon:
            pids = [daemon.wait_state(f"w:{i}", "running")["pid"] for i in range(2)]
            plan = self.reload(daemon, {"w": sleeper(instances=4)})
            self.assertEqual(plan, {"added": ["w:2", "w:3"], "unchanged": ["w:0", "w:1"]})
            for i in (2, 3):
                daemon.wait_state(f"w:{i}", "running")
            plan = self.reload(daemon, {"w": sleeper(instances=2)})
            self.assertEqual(plan, {"removed": ["w:2", "w:3"], "unchanged": ["w:0", "w:1"]})
            wait_until(lambda: sorted(daemon.status()) == ["w:0", "w:1"], "two to be left")
            self.assertEqual([daemon.pid(f"w:{i}") for i in range(2)], pids)

    def test_a_renamed_one_that_also_changes_is_stopped_before_it_is_started(self):
        ports = [free_port(), free_port()]
        with Daemon({"w": listener(ports)}) as daemon:
            daemon.wait_log("w", "listening")
            pid = daemon.pid("w")
            plan = self.reload(daemon, {"w": listener(ports, instances=2, args=["-c", LISTENER, "changed"])})
            self.assertEqual(plan, {"added": ["w:1"], "restarted": ["w:0"]})
            daemon.wait_for("w:0", lambda row: row["state"] == "running" and row["pid"] != pid, "its restart")
            daemon.wait_log("w:1", "listening")
            wait_until(lambda: daemon.log("w:0") == b"listening\n" * 2, "it to listen again")
            self.assertEqual(environment(daemon.pid("w:0"))["NUMBER"], "0")

    def test_a_renamed_one_is_controlled_restarted_and_adopted_like_any_other(self):
        with Daemon({"w": sleeper()}) as daemon:
            pid = daemon.wait_state("w", "running")["pid"]
            self.reload(daemon, {"w": sleeper(instances=2)})
            daemon.wait_state("w:1", "running")
            for _ in range(2):  # the record that bears the new name, and that of the daemon which read it
                daemon.kill_daemon()
                daemon.start()
                self.assertEqual(daemon.wait_state("w:0", "running")["pid"], pid)
                self.assertEqual(sorted(daemon.status()), ["w:0", "w:1"])
            self.assertEqual(len(daemon.service_processes()), 2)
            kill(pid)
            fresh = daemon.wait_for("w:0", lambda row: row["state"] == "running" and row["pid"] != pid, "its restart")
            self.assertIn("SIGKILL", daemon.wait_event("w:0", "exited")["message"])
            daemon.kill_daemon()
            daemon.start()
            self.assertEqual(daemon.wait_state("w:0", "running")["pid"], fresh["pid"])
            daemon.ctl("stop", "w")
            self.assertEqual(daemon.service_processes(), [])

    def test_what_it_writes_and_leaves_behind_is_its_own_after_the_renaming(self):
        script = "trap 'setsid sleep 1000 & echo term; exit 0' TERM; echo set; while :; do sleep 0.02; done"
        with Daemon({"w": {"command": "/bin/sh", "args": ["-c", script]}}) as daemon:
            daemon.wait_log("w", "set")
            self.reload(daemon, {"w": {"command": "/bin/sh", "args": ["-c", script], "instances": 2}})
            daemon.wait_log("w:1", "set")
            daemon.ctl("restart", "w:0")
            wait_until(lambda: daemon.log("w:0") == b"set\nterm\nset\n", "both runs in one log")
            daemon.ctl("stop", "w")
            self.assertEqual(daemon.service_processes(), [])

    def test_one_that_is_stopped_or_disabled_stays_so_under_its_new_name(self):
        with Daemon({"w": sleeper(), "off": sleeper(enabled=False)}) as daemon:
            daemon.wait_state("w", "running")
            daemon.ctl("stop", "w")
            self.reload(daemon, {"w": sleeper(instances=2), "off": sleeper(enabled=False, instances=2)})
            daemon.wait_state("w:1", "running")
            rows = daemon.status()
            for id in ("w:0", "off:0", "off:1"):
                self.assertEqual(rows[id]["state"], "stopped", id)

    def test_the_other_form_of_the_name_names_nothing(self):
        with Daemon({"w": sleeper()}) as daemon:
            daemon.wait_state("w", "running")
            self.reload(daemon, {"w": sleeper(instances=2)})
            daemon.wait_state("w:1", "running")
            self.reload(daemon, {"w": sleeper()})
            wait_until(lambda: sorted(daemon.status()) == ["w"], "one to be left")
            daemon.ctl("status", "w:0", expect=4)

    def test_a_daemon_that_dies_in_mid_renaming_forgets_nothing(self):
        service = python("import os, signal; os.write(1, b'set\\n'); signal.pause()")
        with Daemon({"w": service}, started=False) as daemon:
            if not daemon.supervisord("--internal-fail-points").stdout:
                self.skipTest("this build has no fail points")
            armory = daemon.dir / "armory"
            armory.mkdir()
            daemon.env["SUPERVISOR_FAIL_POINTS"] = str(armory)
            daemon.start()
            daemon.wait_log("w", "set")
            pid = daemon.pid("w")
            for point in ("reload.renamed", "reload.applied", "file.written"):
                for instances in (2, 1):
                    with self.subTest(point=point, instances=instances):
                        daemon.write_config({"w": {**service, "instances": instances}})
                        (armory / point).write_text("kill")
                        daemon.ctl("reload", expect=None)
                        wait_until(lambda: daemon.ctl("reload", expect=None).returncode == 0, "the next daemon")
                        self.assertFalse((armory / point).exists())
                        rows = daemon.status()
                        first = "w" if instances == 1 else "w:0"
                        self.assertEqual(rows[first]["pid"], pid, rows)
                        daemon.wait_state(first, "running")
                        wait_until(lambda: len(daemon.service_processes()) == instances, "what is configured")
                        self.assertEqual(daemon.log(first), b"set\n")


class Renaming(Scenario):
    def test_the_same_program_under_another_id_starts_when_the_old_one_is_gone(self):
        port = free_port()
        with Daemon({"old": listener([port]), "beside": sleeper()}) as daemon:
            daemon.wait_log("old", "listening")
            beside = daemon.wait_state("beside", "running")["pid"]
            daemon.write_config({"new": listener([port]), "beside": sleeper(), "fresh": sleeper()})
            daemon.ctl("reload")
            daemon.wait_state("fresh", "running")
            daemon.wait_log("new", "listening")
            self.assertEqual(daemon.log("new"), b"listening\n")
            self.assertEqual(daemon.status("new")["restart_count"], 0)
            self.assertEqual(daemon.pid("beside"), beside)
            self.assertEqual(sorted(daemon.status()), ["beside", "fresh", "new"])
            with socket.create_connection(("127.0.0.1", port)):
                pass

    def test_another_program_on_the_same_port_waits_too_and_says_for_whom(self):
        slow = {"command": "/bin/sh", "args": ["-c", "trap '' TERM; echo set; while :; do sleep 0.05; done"], "port": 7}
        with Daemon({"old": merge(slow, {"graceful_shutdown": {"timeout": 60}})}) as daemon:
            daemon.wait_log("old", "set")
            pid = daemon.pid("old")
            daemon.write_config({"new": sleeper(port=7), "other": sleeper(port=8)})
            daemon.ctl("reload")
            daemon.wait_state("other", "running")
            self.assertEqual(daemon.status("new")["state"], "starting")
            text = daemon.ctl("explain", "new").stdout
            self.assertIn("waits until old, which was removed and is stopping, is gone", text)
            kill(pid)
            daemon.wait_state("new", "running")


if __name__ == "__main__":
    main()
