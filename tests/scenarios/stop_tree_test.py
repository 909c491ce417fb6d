"""A stop leaves nothing: not what ignores the signal, not what is frozen, not what was started aside."""

import collections
import contextlib
import os
import pathlib
import signal
import time
import unittest

from harness import (
    FAILED,
    Daemon,
    Scenario,
    is_alive,
    kill,
    main,
    needs_root,
    process_stat,
    python,
    read_proc,
    shell,
    sleeper,
    wait_until,
    without_cgroups,
)

# Starts a child that leaves the session and another that is orphaned at once (double fork), then waits.
FAMILY = """
import os, signal, time
def leave(): os.setsid(); signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.signal(signal.SIGHUP, signal.SIG_IGN)
def stay(name):
    os.write(1, (name + ' ' + str(os.getpid()) + '\\n').encode())
    while True: time.sleep(1000)
if os.fork() == 0: stay('child')
if os.fork() == 0: leave(); stay('session')
first = os.fork()
if first == 0:
    if os.fork(): os._exit(0)
    leave()
    stay('orphan')
os.waitpid(first, 0)
first = os.fork()
if first == 0:
    leave()
    second = os.fork()
    if second: os._exit(0)
    if os.fork(): os._exit(0)
    os.setsid()
    stay('deep')
os.waitpid(first, 0)
stay('main')
"""

# A grandchild that nothing but a cgroup ties to the service: double-forked, in a session of its own, its environment
# wiped by another exec, deaf to SIGTERM.
WIPED = """
import os, sys, time
first = os.fork()
if first == 0:
    os.setsid()
    if os.fork(): os._exit(0)
    os.execve('/bin/sh', ['sh', '-c', "trap '' TERM HUP; echo escaped $$; while :; do sleep 0.05; done"], {})
os.waitpid(first, 0)
while True: time.sleep(1000)
"""

SHED_LIMITS = """
    import resource
    for limit in (5, 10):  # RLIMIT_RSS, RLIMIT_LOCKS
        resource.setrlimit(limit, (1 << 40, 1 << 40))  # to raise them it would need CAP_SYS_RESOURCE
"""

# The same, but that it keeps its program and writes over its environment, or lets nobody read it.
OVERWRITTEN = """
import ctypes, os, signal, time
def vanish():
    begin, end = map(int, open('/proc/self/stat').read().rpartition(')')[2].split()[47:49])
    ctypes.memset(begin, 0, end - begin)
first = os.fork()
if first == 0:
    os.setsid()
    if os.fork(): os._exit(0)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    vanish()
    os.write(1, b'escaped %d\\n' % os.getpid())
    while True: time.sleep(1000)
os.waitpid(first, 0)
while True: time.sleep(1000)
"""
HIDDEN = OVERWRITTEN.replace("    vanish()", "    vanish(); ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)")

# The service and a grandchild that are both frozen.
FROZEN = """
import os, signal, time
first = os.fork()
if first == 0:
    os.setsid()
    if os.fork(): os._exit(0)
    os.write(1, b'frozen %d\\n' % os.getpid())
    os.kill(os.getpid(), signal.SIGSTOP)
os.waitpid(first, 0)
if os.fork() == 0:
    os.write(1, b'child %d\\n' % os.getpid())
    os.kill(os.getpid(), signal.SIGSTOP)
os.write(1, b'main %d\\n' % os.getpid())
while True: time.sleep(1000)
"""
BRIEF = {"graceful_shutdown": {"timeout": 0.5}}


class StopTree(Scenario):
    def family(self, daemon, service="web"):
        wait_until(lambda: daemon.log(service).count(b"\n") == 5, "the family of five")
        return {line.split()[0]: int(line.split()[1]) for line in daemon.log(service).decode().splitlines()}

    @staticmethod
    def families(daemon, service="web"):
        """Each member's pids, of all runs until now."""
        found = collections.defaultdict(list)
        for line in daemon.log(service).decode().splitlines():
            found[line.split()[0]].append(int(line.split()[1]))
        return found

    def test_what_ignores_sigterm_gets_sigkill_at_the_deadline(self):
        with Daemon(
            {"web": shell("trap '' TERM; echo set; while :; do sleep 0.05; done", graceful_shutdown={"timeout": 0.5})}
        ) as daemon:
            daemon.wait_log("web", "set")
            pid = daemon.pid("web")
            began = time.monotonic()
            daemon.ctl("stop", "web")
            self.assertGreaterEqual(time.monotonic() - began, 0.5)
            self.assert_quicker(5, began)
            self.assertFalse(is_alive(pid))
            row = daemon.status("web")
            self.assertEqual((row["state"], row["exit_signal"]), ("stopped", signal.SIGKILL))
            self.assertIn("SIGKILL", " ".join(event["message"] for event in daemon.events("web")))

    def test_what_is_frozen_is_gone_by_the_deadline_too(self):
        with Daemon({"web": sleeper(graceful_shutdown={"timeout": 0.5})}) as daemon:
            pid = daemon.wait_state("web", "running")["pid"]
            kill(pid, signal.SIGSTOP)
            wait_until(lambda: process_stat(pid)[0] == "T", "the service to be frozen")
            began = time.monotonic()
            daemon.ctl("stop", "web")
            self.assert_quicker(5, began)
            self.assertFalse(is_alive(pid))

    def test_children_that_left_the_session_are_gone_after_the_stop(self):
        with Daemon({"web": python(FAMILY, **BRIEF)}) as daemon:
            family = self.family(daemon)
            self.assertEqual(sorted(family), ["child", "deep", "main", "orphan", "session"])
            self.assertTrue(all(map(is_alive, family.values())))
            began = time.monotonic()
            daemon.ctl("stop", "web")
            self.assertEqual([name for name, pid in family.items() if is_alive(pid)], [])
            self.assertEqual(daemon.service_processes(), [])
            self.assert_quicker(5, began)

    @needs_root
    def test_children_that_left_the_session_are_gone_where_there_are_no_cgroups(self):
        with Daemon({"web": python(FAMILY, **BRIEF)}, prepare=without_cgroups) as daemon:
            family = self.family(daemon)
            daemon.ctl("stop", "web")
            self.assertEqual([name for name, pid in family.items() if is_alive(pid)], [])
            daemon.ctl("start", "web")
            wait_until(lambda: daemon.log("web").count(b"\n") == 10, "the next family")
            kill(daemon.pid("web"))
            wait_until(lambda: daemon.log("web").count(b"\n") == 15, "the family after that")
            self.assert_becomes(lambda: len(daemon.service_processes()), 5)

    def assert_escapes_no_stop(self, daemon):
        for round in range(1, 3):
            escaped = int(daemon.wait_log("web", "escaped", count=round).split()[-1])
            self.addCleanup(kill, escaped)
            self.assertNotIn(b"SUPERVISOR", read_proc(escaped, "environ"))
            self.assertTrue(is_alive(escaped))
            daemon.ctl("restart" if round == 1 else "stop", "web")
            self.assertFalse(is_alive(escaped))

    def test_a_grandchild_that_wiped_its_environment_is_gone_after_the_stop(self):
        with Daemon({"web": python(WIPED, **BRIEF)}) as daemon:
            self.assert_escapes_no_stop(daemon)

    @needs_root
    def test_without_cgroups_it_is_gone_too(self):
        for user in ("", "nobody"):
            for how, source in {"wiped": WIPED, "overwritten": OVERWRITTEN, "hidden": HIDDEN}.items():
                with self.subTest(user=user or "root", how=how):
                    service = python(source, user=user, **BRIEF)
                    with Daemon({"web": service}, prepare=without_cgroups) as daemon:
                        self.assert_escapes_no_stop(daemon)

    @needs_root
    def test_what_it_cannot_place_it_names(self):
        """Root's process can shed its limits too: then nothing tells whose it is, and it is said, not ended."""
        sheds = WIPED.replace("    os.setsid()\n", SHED_LIMITS + "    os.setsid()\n")
        with Daemon({"web": python(sheds, **BRIEF), "other": sleeper()}, prepare=without_cgroups) as daemon:
            escaped = int(daemon.wait_log("web", "escaped").split()[-1])
            self.addCleanup(kill, escaped)
            result = daemon.ctl("stop", "web")
            left = f"left running, and perhaps its own: {escaped} (sh)"
            self.assertIn(left, result.stdout)
            self.assertTrue(is_alive(escaped))
            self.assertIn(left, daemon.wait_event("web", "stopped")["message"])
            self.assertIn(left, daemon.ctl("explain", "web").stdout)
            kill(escaped)

            def names_nothing():
                daemon.ctl("start", "other")
                return "left running" not in daemon.ctl("stop", "other").stdout

            wait_until(names_nothing, "the child that it waited for to end too")

    @contextlib.contextmanager
    def other_cgroup(self):
        """A cgroup v2 that is none of the daemon's."""
        mounts = pathlib.Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
        mount = next((line.split()[4] for line in mounts if " - cgroup2 " in line), None)
        if mount is None or not os.access(mount, os.W_OK):
            raise unittest.SkipTest("there is no cgroup v2 that can be written to")
        directory = pathlib.Path(mount, f"stop-tree-test.{os.getpid()}")
        directory.mkdir()
        try:
            yield directory
        finally:
            for pid in (directory / "cgroup.procs").read_text(encoding="utf-8").split():
                kill(int(pid))
            wait_until(lambda: not (directory / "cgroup.procs").read_text(encoding="utf-8"), "the cgroup to be empty")
            directory.rmdir()

    @staticmethod
    def leaving(source, before, directory):
        """`source`, whose grandchild moves to that cgroup before the line `before`."""
        return source.replace(before, f"    open('{directory}/cgroup.procs', 'w').write('0')\n" + before, 1)

    @needs_root
    def test_what_has_moved_to_another_cgroup_is_named(self):
        with self.other_cgroup() as directory:
            web = python(self.leaving(FAMILY, "    stay('orphan')", directory), **BRIEF)
            for action in ("stop", "restart"):
                with self.subTest(action), Daemon({"web": web, "other": sleeper()}) as daemon:
                    moved = self.family(daemon)["orphan"]
                    self.addCleanup(kill, moved)
                    left = f"left running: {moved} (python3, in cgroup /{directory.name})"
                    self.assertNotIn("left running", daemon.ctl("stop", "other").stdout, "its own service goes on")
                    self.assertIn(left, daemon.ctl(action, "web").stdout)
                    self.assertTrue(is_alive(moved))
                    event = "stopped" if action == "stop" else "exited"
                    self.assertIn(left, daemon.wait_event("web", event)["message"])
                    if action == "stop":
                        self.assertIn(left, daemon.ctl("explain", "web").stdout)
                        self.assertIn(left, daemon.ctl("stop", "web").stdout, "named as long as it is there")
                    kill(moved)
                    for orphan in self.families(daemon)["orphan"]:
                        self.addCleanup(kill, orphan)
                    if action == "restart":
                        wait_until(lambda: len(self.families(daemon)["orphan"]) == 2, "the next one")
                        moved = self.families(daemon)["orphan"][1]
                        told = daemon.ctl("stop", "all").stdout
                        self.assertIn(f"left running: {moved} (python3, in cgroup /{directory.name})", told)
                        kill(moved)
                    wait_until(lambda: not is_alive(moved), "it to be gone")

    @needs_root
    def test_what_has_moved_and_shed_its_mark_may_be_anybodys(self):
        with self.other_cgroup() as directory:
            wiped = python(self.leaving(WIPED, "    os.setsid()", directory), **BRIEF)
            with Daemon({"web": wiped}) as daemon:
                escaped = int(daemon.wait_log("web", "escaped").split()[-1])
                self.addCleanup(kill, escaped)
                left = f"left running, and perhaps its own: {escaped} (sh)"
                self.assertIn(left, daemon.ctl("stop", "web").stdout)
                self.assertIn(left, daemon.wait_event("web", "stopped")["message"])
                self.assertIn(left, daemon.ctl("explain", "web").stdout)

    @needs_root
    def test_the_end_of_the_supervisor_names_what_has_moved(self):
        with self.other_cgroup() as directory:
            web = python(self.leaving(FAMILY, "    stay('orphan')", directory), **BRIEF)
            with Daemon({"web": web}) as daemon:
                moved = self.family(daemon)["orphan"]
                self.addCleanup(kill, moved)
                told = daemon.supervisord("--stop", expect=FAILED).stderr
                self.assertIn(f"web: left running: {moved} (python3, in cgroup /{directory.name})", told)
                self.assertTrue(is_alive(moved))
                self.assertEqual(daemon.process.wait(20), 1)
                daemon.process = None
                kill(moved)
                wait_until(lambda: not daemon.processes(), "nothing to be left")

    @needs_root
    def test_the_next_daemon_finds_it_too(self):
        with Daemon({"web": python(WIPED, **BRIEF)}, prepare=without_cgroups) as daemon:
            escaped = int(daemon.wait_log("web", "escaped").split()[-1])
            old = daemon.version()["pid"]
            kill(old)
            wait_until(lambda: daemon.version()["pid"] != old, "the next daemon")
            daemon.wait_state("web", "running")
            daemon.ctl("stop", "web")
            self.assertFalse(is_alive(escaped))

    @needs_root
    def test_a_daemon_killed_in_the_midst_of_a_stop_leaves_none_to_the_next(self):
        """The main process is gone, what it left behind is not, and the record tells of no process any more."""
        service = python(WIPED, graceful_shutdown={"timeout": 1000})
        with Daemon({"web": service}, prepare=without_cgroups) as daemon:
            escaped = int(daemon.wait_log("web", "escaped").split()[-1])
            daemon.ctl("stop", "--no-wait", "web")
            wait_until(
                lambda: any("ended_pid" in path.read_text() for path in daemon.dir.rglob("web.record")),
                "the end of its main process to be on record",
            )
            self.assertTrue(is_alive(escaped))
            old = daemon.version()["pid"]
            kill(old)
            wait_until(lambda: daemon.version()["pid"] != old, "the next daemon")
            wait_until(lambda: not is_alive(escaped), "what was left to be gone")
            daemon.wait_state("web", "stopped")

    def test_frozen_children_and_orphans_are_gone_by_the_deadline(self):
        for signal_it in (False, True):  # the main process too
            with self.subTest(main_frozen=signal_it), Daemon({"web": python(FROZEN, **BRIEF)}) as daemon:
                lines = wait_until(
                    lambda: (found := daemon.log("web").split(b"\n")[:-1]) and len(found) == 3 and found, "all three"
                )
                pids = {line.split()[0].decode(): int(line.split()[1]) for line in lines}
                if signal_it:
                    kill(pids["main"], signal.SIGSTOP)
                for name in ("child", "frozen") + (("main",) if signal_it else ()):
                    wait_until(lambda: process_stat(pids[name])[0] == "T", f"{name} to be frozen")
                began = time.monotonic()
                daemon.ctl("stop", "web")
                self.assert_quicker(4, began)
                self.assertEqual([name for name, pid in pids.items() if is_alive(pid)], [])

    def test_no_zombie_stays_behind(self):
        with Daemon({"web": python(FAMILY, **BRIEF)}) as daemon:
            family = self.family(daemon)
            daemon.ctl("stop", "web")
            wait_until(lambda: not any(process_stat(pid) for pid in family.values()), "all to be reaped")

    def test_children_are_gone_before_a_restarted_service_begins(self):
        with Daemon({"web": python(FAMILY, **BRIEF)}) as daemon:
            family = self.family(daemon)
            daemon.ctl("restart", "web")
            self.assertEqual([name for name, pid in family.items() if is_alive(pid)], [])
            wait_until(lambda: daemon.log("web").count(b"\n") == 10, "the next family")
            self.assert_becomes(lambda: len(daemon.service_processes()), 5)

    def test_children_are_gone_before_a_service_that_died_begins_again(self):
        with Daemon({"web": python(FAMILY, **BRIEF)}) as daemon:
            family = self.family(daemon)
            kill(family["main"])
            wait_until(lambda: daemon.log("web").count(b"\n") == 10, "the next family", timeout=30)
            self.assertEqual([name for name, pid in family.items() if is_alive(pid)], [])

    def test_the_stop_of_one_service_leaves_the_children_of_another(self):
        with Daemon(
            {
                "web": python(FAMILY, **BRIEF),
                "other": python(FAMILY, **BRIEF),
            }
        ) as daemon:
            self.family(daemon, "web")
            other = self.family(daemon, "other")
            daemon.ctl("stop", "web")
            self.assertTrue(all(map(is_alive, other.values())))

    def test_the_stop_of_the_daemon_leaves_no_child_either(self):
        with Daemon({"web": python(FAMILY, **BRIEF)}) as daemon:
            family = self.family(daemon)
            daemon.stop()
            self.assertEqual([name for name, pid in family.items() if is_alive(pid)], [])

    def test_kill_mode_process_leaves_children_to_themselves(self):
        with Daemon(
            {"web": shell("sleep 1000 & echo child $!; exec sleep 2000", graceful_shutdown={"kill_mode": "process"})}
        ) as daemon:
            child = int(daemon.wait_log("web", "\n").split()[1])
            pid = daemon.pid("web")
            daemon.ctl("stop", "web")
            self.assertFalse(is_alive(pid))
            self.assertTrue(is_alive(child))
            kill(child)
            wait_until(lambda: not is_alive(child), "the child to be gone")

    def test_the_configured_signal_is_sent(self):
        script = "trap 'echo int; exit 0' INT; trap 'echo term; exit 0' TERM; echo set; while :; do sleep 0.02; done"
        with Daemon({"web": shell(script, graceful_shutdown={"signal": "SIGINT"})}) as daemon:
            daemon.wait_log("web", "set")
            daemon.ctl("stop", "web")
            self.assert_becomes(lambda: daemon.log("web"), b"set\nint\n")

    def test_a_stop_command_is_run_instead_of_the_signal(self):
        with Daemon(
            {
                "web": shell(
                    "trap 'echo asked; exit 0' USR2; trap 'echo term; exit 0' TERM; echo set; "
                    "while :; do sleep 0.02; done",
                    graceful_shutdown={"command": "/bin/sh", "args": ["-c", "kill -USR2 $MAINPID"]},
                )
            }
        ) as daemon:
            daemon.wait_log("web", "set")
            daemon.ctl("stop", "web")
            self.assert_becomes(lambda: daemon.log("web"), b"set\nasked\n")

    @needs_root
    def test_a_stop_command_never_runs_as_the_daemon_in_the_services_place(self):
        """Whose service it is cannot be found out any more: its environment_file is gone. Then the signal has to do."""
        with Daemon(started=False) as daemon:
            who = daemon.dir / "who"
            who.touch()
            who.chmod(0o666)
            variables = daemon.dir / "variables"
            variables.write_text("A=b\n")
            command = {"command": "/bin/sh", "args": ["-c", f"id -u -n >> {who}; kill $MAINPID"]}
            service = sleeper(user="nobody", environment_file=str(variables), graceful_shutdown=command)
            daemon.write_config({"web": service})
            daemon.start()
            daemon.wait_state("web", "running")
            daemon.ctl("restart", "web")
            self.assertEqual(who.read_text(), "nobody\n")
            pid = daemon.pid("web")
            variables.unlink()
            kill(daemon.version()["pid"])
            daemon.wait_event("web", "adopted")
            daemon.ctl("stop", "web")
            self.assertFalse(is_alive(pid))
            self.assertEqual(who.read_text(), "nobody\n")
            said = "graceful_shutdown command: cannot be run"
            wait_until(lambda: said in daemon.daemon_log.read_text(), "it to be said")

    def test_a_service_that_starts_children_without_end_is_stopped(self):
        with Daemon(
            {
                "web": shell(
                    "trap '' TERM; while :; do sleep 1000 & sleep 0.002; done", graceful_shutdown={"timeout": 0.3}
                )
            }
        ) as daemon:
            wait_until(lambda: len(daemon.service_processes()) > 20, "some children", timeout=20)
            daemon.ctl("stop", "web")
            self.assertEqual(daemon.service_processes(), [])

    def test_a_child_that_the_service_itself_reaps_is_none_of_the_daemons(self):
        with Daemon({"web": shell("while :; do /bin/true; echo tick; sleep 0.01; done")}) as daemon:
            daemon.wait_log("web", "tick\n", count=20)
            self.assertEqual(daemon.status("web")["restart_count"], 0)
            self.assertEqual(os.getpgid(daemon.pid("web")), daemon.pid("web"))


if __name__ == "__main__":
    main()
