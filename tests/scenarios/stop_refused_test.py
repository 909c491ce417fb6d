"""What may not be signalled: it is told whose process it is, and no stop or shutdown waits for it for ever."""

import ctypes
import os
import re
import shutil
import stat
import sys
import time
import unittest

from harness import DONE, FAILED, Daemon, Scenario, is_alive, kill, main, merge, needs_root, python, read_proc, shell
from harness import sleeper, wait_until, without_cgroups

NOBODY = 65534
PR_CAPBSET_DROP, CAP_KILL = 24, 5
BRIEF = {"graceful_shutdown": {"timeout": 0.5}}
GIVE_UP = 30  # seconds within which every answer has come; ten are what the daemon itself allows


def as_nobody():
    """A Daemon's `prepare`: an ordinary user's daemon, without cgroups."""
    without_cgroups()
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)


def without_cap_kill():
    """A Daemon's `prepare`: root's, in a container that lets it signal its own processes alone."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_CAPBSET_DROP, CAP_KILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


@needs_root
class Refused(Scenario):
    def daemon(self, prepare=as_nobody):
        daemon = Daemon(started=False, prepare=prepare)
        self.helper = daemon.dir / "become-root"
        shutil.copyfile(os.path.realpath(sys.executable), self.helper)
        os.chmod(self.helper, stat.S_ISUID | 0o755)
        if prepare is as_nobody:
            os.chown(daemon.dir, NOBODY, NOBODY)
        return daemon

    def begin(self, daemon, services):
        os.chmod(daemon.config_file, 0o644)
        daemon.write_config(services)
        daemon.start()

    def root(self, then="import time; time.sleep(1000000)"):
        """Arguments of the setuid helper: it becomes root altogether, says so, and goes on."""
        source = f"import os; os.setresuid(0, 0, 0); os.write(1, b'root %d\\n' % os.getpid()); {then}"
        return ["-I", "-S", "-c", source]

    def parent(self):
        """A service of the user that starts such a program and waits."""
        script = '"$0" "$@" & exec sleep 1000000'
        return merge(shell(script, **BRIEF), {"args": ["-c", script, str(self.helper), *self.root()]})

    def wait_root(self, daemon, count=1):
        """The pid of the `count`th of these programs of web that has become root."""
        log = daemon.wait_log("web", "\n", count=count)
        return int(re.findall(rb"root (\d+)\n", log)[count - 1])

    def assert_tells(self, text, pid):
        for words in (f"pid {pid} (become-root) of uid 0 (root)", "Operation not permitted (EPERM)", "for uid 65534"):
            self.assertIn(words, text)
        self.assertNotIn("uninterruptibly", text)

    def test_a_stop_tells_whose_process_is_left_and_ends(self):
        with self.daemon() as daemon:
            self.begin(daemon, {"web": self.parent()})
            pid = self.wait_root(daemon)
            began = time.monotonic()
            answer = daemon.ctl("stop", "web", expect=FAILED)
            self.assert_quicker(GIVE_UP, began)
            self.assert_tells(answer.stderr, pid)
            self.assertTrue(is_alive(pid))
            row = daemon.status("web")
            self.assertEqual(row["state"], "stopping", "that is what it is")
            self.assert_tells(row["reason"], pid)
            said = daemon.ctl("explain", "web").stdout
            self.assert_tells(said, pid)
            self.assertIn("end those processes", said)
            self.assert_tells(daemon.wait_event("web", "failed")["message"], pid)
            self.assert_tells(daemon.daemon_log.read_text(), pid)
            for command in ("stop", "restart", "start"):  # and again, at once
                began = time.monotonic()
                self.assert_tells(daemon.ctl(command, "web", expect=FAILED).stderr, pid)
                self.assert_quicker(GIVE_UP, began)
            daemon.ctl("stop", "web", expect=FAILED)
            kill(pid)
            daemon.wait_state("web", "stopped")
            daemon.ctl("start", "web")
            pid = self.wait_root(daemon, 2)
            daemon.ctl("stop", "web", "--no-wait")
            kill(pid)
            daemon.wait_state("web", "stopped")

    def test_a_main_process_that_may_not_be_asked_is_told_at_once(self):
        with self.daemon() as daemon:
            self.begin(daemon, {"web": {**sleeper(**BRIEF), "command": str(self.helper), "args": self.root()}})
            pid = self.wait_root(daemon)
            answer = daemon.ctl("stop", "web", expect=FAILED)
            self.assert_tells(answer.stderr, pid)
            events = [event["message"] for event in daemon.events("web") if event["event_type"] == "failed"]
            self.assertIn("it cannot be asked to stop: SIGTERM to", events[0])
            self.assertIn("it cannot be stopped: SIGKILL to", events[1])
            answer = daemon.ctl("signal", "HUP", "web", expect=FAILED)
            self.assert_tells(answer.stderr, pid)
            kill(pid)
            daemon.wait_state("web", "stopped")

    def test_one_without_a_limit_that_may_not_be_asked_holds_up_nothing(self):
        with self.daemon() as daemon:
            web = {**sleeper(graceful_shutdown={"timeout": 0}), "command": str(self.helper), "args": self.root()}
            self.begin(daemon, {"web": web})
            pid = self.wait_root(daemon)
            began = time.monotonic()
            self.assert_tells(daemon.ctl("stop", "web", expect=FAILED).stderr, pid)
            self.assert_quicker(GIVE_UP, began)
            kill(pid)
            daemon.wait_state("web", "stopped")

    def assert_gone(self, daemon, code):
        self.assertEqual(daemon.process.wait(20), code)
        daemon.process = None
        self.assertEqual(daemon.supervisors(), [])
        self.assertFalse(daemon.socket.exists())

    def test_the_daemons_end_says_what_it_leaves_and_stops_the_others_in_order(self):
        for command in ("--stop", "shutdown"):
            with self.subTest(command), self.daemon() as daemon:
                self.begin(daemon, {"db": sleeper(), "web": {**self.parent(), "depends_on": ["db"]}})
                pid = self.wait_root(daemon)
                db = daemon.pid("db")
                began = time.monotonic()
                if command == "--stop":
                    text = daemon.supervisord("--stop", expect=FAILED).stderr
                    self.assertIn("has left running what it could not stop", text)
                else:
                    result = daemon.ctl("shutdown", expect=FAILED)
                    text = result.stderr
                    self.assertIn("db: stopped", result.stdout)
                self.assert_quicker(GIVE_UP, began)
                self.assert_tells(text, pid)
                self.assertIn("web", text)
                self.assert_gone(daemon, 1)
                self.assertFalse(is_alive(db))
                self.assertTrue(is_alive(pid))
                told = daemon.sql("SELECT message FROM supervisor_events WHERE event_type = 'supervisor_stopped'")
                self.assert_tells(told[-1][0], pid)
                kill(pid)
                wait_until(lambda: not daemon.processes(), "nothing to be left")
                daemon.start()  # and the next end has nothing to tell
                pid = self.wait_root(daemon, 2)
                kill(pid)
                daemon.wait_state("web", "running")
                self.assertIn("all its services are stopped", daemon.supervisord("--stop", expect=DONE).stdout)
                self.assert_gone(daemon, 0)

    def test_a_restart_of_several_goes_on_without_it(self):
        with self.daemon() as daemon:
            self.begin(daemon, {"db": sleeper(), "web": {**self.parent(), "depends_on": ["db"]}})
            pid = self.wait_root(daemon)
            db = daemon.pid("db")
            answer = daemon.ctl("restart", "all", expect=FAILED)
            self.assert_tells(answer.stderr, pid)
            daemon.wait_for("db", lambda row: row["pid"] not in (0, db), "db to be restarted")
            kill(pid)
            daemon.wait_for("web", lambda row: row["state"] == "running", "web to come after all")
            kill(self.wait_root(daemon, 2))

    def test_a_hook_that_may_not_be_killed_holds_up_the_stop_for_seconds_alone(self):
        with self.daemon() as daemon:
            hook = {"command": str(self.helper), "args": self.root(), "timeout": 0.5}
            out = f"os.open('{daemon.dir}/hook', os.O_WRONLY | os.O_CREAT)"
            hook["args"][-1] = hook["args"][-1].replace("os.write(1,", f"os.write({out},")
            self.begin(daemon, {"web": sleeper(hooks={"pre_stop": hook})})
            daemon.wait_state("web", "running")
            began = time.monotonic()
            daemon.ctl("stop", "web")
            self.assert_quicker(GIVE_UP, began)
            pid = int((daemon.dir / "hook").read_text().split()[1])
            daemon.wait_daemon_log(f"runs on: SIGKILL to pid {pid} (become-root) of uid 0")
            kill(pid)
            wait_until(lambda: not is_alive(pid), "the hook's end")

    def test_where_there_is_a_cgroup_the_kill_reaches_what_refuses_the_signal(self):
        with self.daemon(without_cap_kill) as daemon:
            self.begin(daemon, {"web": sleeper(user="nobody", **BRIEF)})
            pid = daemon.wait_state("web", "running")["pid"]
            if b"/supervisord." not in read_proc(pid, "cgroup"):
                self.skipTest("no cgroup v2 here")
            answer = daemon.ctl("stop", "web")
            for words in (f"SIGTERM to pid {pid} (sleep) of uid 65534 (nobody)", "SIGKILL was sent"):
                self.assertIn(words, answer.stdout)
            self.assertFalse(is_alive(pid))

    def test_roots_daemon_without_the_right_to_signal_others_says_so(self):
        with self.daemon(lambda: (without_cgroups(), without_cap_kill())) as daemon:
            self.begin(daemon, {"web": sleeper(user="nobody", **BRIEF)})
            pid = daemon.wait_state("web", "running")["pid"]
            answer = daemon.ctl("stop", "web", expect=FAILED)
            for words in (f"pid {pid} (sleep) of uid 65534 (nobody)", "(EPERM) for uid 0 (root)"):
                self.assertIn(words, answer.stderr)
            kill(pid)
            daemon.wait_state("web", "stopped")

    def test_one_that_goes_by_itself_meanwhile_is_stopped(self):
        """As sudo(8) does when its program has gone: it may not be signalled, and need not be."""
        with self.daemon() as daemon:
            source = self.root(
                "f = os.fork(); f or (os.setresuid(65534, 65534, 65534), os.execv('/bin/sleep', ['sleep', '1000'])); "
                "os.waitpid(f, 0)"
            )
            self.begin(daemon, {"web": {**sleeper(**BRIEF), "command": str(self.helper), "args": source}})
            pid = self.wait_root(daemon)
            wait_until(lambda: len(daemon.service_processes()) >= 1, "its program")
            wait_until(lambda: open(f"/proc/{pid}/task/{pid}/children", encoding="utf-8").read(), "its child")
            answer = daemon.ctl("stop", "web")
            self.assertIn("it cannot be asked to stop: SIGTERM to", answer.stdout)
            self.assertFalse(is_alive(pid))


class Permitted(unittest.TestCase):
    def test_an_ordinary_stop_has_no_remarks(self):
        with Daemon({"web": python("import time; time.sleep(1000)")}) as daemon:
            daemon.wait_state("web", "running")
            self.assertEqual(daemon.ctl("stop", "web").stdout, "web: stopped\n")


if __name__ == "__main__":
    main()
