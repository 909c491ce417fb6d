"""resource_limits: enforced by the kernel where the daemon has cgroup v2 controllers to give, else watched.

Every scenario runs either way, and which one is the daemon's to say. Where it has to be the one or the other,
SCENARIO_LIMITS says so ("cgroup" or "watch"), and then nothing else passes: tests/vm/run.sh does that.
"""

import os
import pathlib
import re
import signal
import subprocess
import sys
import unittest

from harness import Daemon, Scenario, cgroup_of, cpu_seconds, is_alive, kill, main, python, shell, sleeper, wait_until

EXPECTED = os.environ.get("SCENARIO_LIMITS", "")
OFTEN = {"monitoring": {"metrics_interval": 0.1}}
LIMIT_MB = 64

# Takes 4 MB more and more, up to 400, each page written; "self" or "child" says who does; waits for a file first.
HOG = """
import os, sys, time
who, go = sys.argv[1:]
if who == 'child' and os.fork(): os.wait(); print('child is gone', flush=True); time.sleep(1000)
while go and not os.path.exists(go): time.sleep(0.01)
held = []
for _ in range(100):
    held.append(b'x' * (4 << 20))
    time.sleep(0.005)
print('has all', flush=True)
time.sleep(1000)
"""
# Starts children until one is refused, and tries again whenever it is asked to; goes on in any case.
FORKER = """
import os, signal, sys, time
def fork_all(*_):
    for number in range(20):
        try: pid = os.fork()
        except OSError as error:
            os.write(1, b'refused %d %d\\n' % (number, error.errno))
            return
        if pid == 0:
            signal.pause()
    os.write(1, b'all\\n')
signal.signal(signal.SIGUSR1, fork_all)
fork_all()
while True: time.sleep(1000)
"""
SPIN = "while True: pass"


def setting(pid, name):
    return (cgroup_of(pid) / name).read_text(encoding="utf-8").strip()


# When it has died its child leaves next to nothing of the cgroup's memory to who comes after.
FILLS = """
import os, signal
life, main = os.pipe()  # an end of the pipe is the main process's alone: it is closed when that has died
if os.fork():
    print('main', flush=True)
    signal.pause()
os.setsid()
os.close(main)
os.read(life, 1)
[directory] = [line.split(':', 2)[2].strip() for line in open('/proc/self/cgroup') if line.startswith('0::')]
[mount] = [line.split()[4] for line in open('/proc/self/mountinfo') if ' - cgroup2 ' in line]
def number(name): return int(open(mount + directory + '/' + name).read())
held = []
while number('memory.current') < number('memory.max') - (512 << 10): held.append(b'x' * (64 << 10))
os.write(1, b'full %d\\n' % os.getpid())
signal.pause()
"""


class Limits(Scenario):
    def limited(self, service, **limits):
        """The service with these limits and a restart that comes at once."""
        return {**service, "resource_limits": limits}

    def way(self, daemon, service):
        """ "cgroup" or "watch": how all limits of the service are in force, as the daemon says and as it has to be."""
        answer = daemon.ctl_json("explain", service)["service"]
        way = answer["limits_enforcement"]
        self.assertIn(way, ("cgroup", "watch"))
        self.assertEqual({limit["enforcement"] for limit in answer["limits"]}, {way})
        if EXPECTED:
            self.assertEqual(way, EXPECTED)
        print(f"[{way}] ", end="", file=sys.stderr, flush=True)
        return way

    def once(self, daemon, service, event_type):
        return len([event for event in daemon.events(service) if event["event_type"] == event_type])

    def test_the_daemons_log_says_which_way_and_why(self):
        with Daemon({"web": self.limited(sleeper(), max_memory_mb=LIMIT_MB)}) as daemon:
            daemon.wait_state("web", "running")
            way = self.way(daemon, "web")
            line = next(line for line in daemon.daemon_log.read_text().splitlines() if "resource limits are" in line)
            self.assertIn("enforced by cgroup controllers" if way == "cgroup" else "resource limits are watched: ", line)

    def test_explain_and_status_say_which_way_in_words(self):
        limits = {"max_memory_mb": LIMIT_MB, "max_cpu_percent": 50, "max_processes": 7}
        with Daemon({"web": self.limited(sleeper(), **limits), "free": sleeper()}, extra=OFTEN) as daemon:
            daemon.wait_state("web", "running")
            how = {"cgroup": "cgroup", "watch": "watched every 100 ms"}[self.way(daemon, "web")]
            self.assertIn(
                f"memory 64 MB ({how}), cpu 50% ({how}), processes 7 ({how})", daemon.ctl("explain", "web").stdout
            )
            self.assertIn(f"memory 64 MB ({how.split()[0]})", daemon.ctl("status").stdout)
            free = daemon.ctl_json("explain", "free")["service"]
            self.assertEqual((free["limits_enforcement"], free["limits"]), ("", []))

    def test_a_start_that_finds_no_memory_left_costs_the_service_alone(self):
        """Until execve(2) the new process is on the daemon's memory: what kills it there kills the daemon too."""
        long = ["x" * 100_000] * 15  # execve(2) copies it before the process leaves the daemon's memory
        how = {"graceful_shutdown": {"kill_mode": "process"}, "restart_policy": {"mode": "never"}, "enabled": False}
        web = self.limited(python(FILLS, *long, **how), max_memory_mb=LIMIT_MB)
        with Daemon({"web": web, "other": self.limited(sleeper(), max_memory_mb=LIMIT_MB)}) as daemon:
            if self.way(daemon, "other") != "cgroup":
                return  # nothing is killed
            before = daemon.version()["pid"]
            daemon.ctl("start", "web")
            daemon.wait_log("web", "main")
            kill(daemon.pid("web"))
            full = int(daemon.wait_log("web", "full").split()[-1])
            self.addCleanup(kill, full)
            daemon.ctl("start", "--no-wait", "web")
            daemon.wait_event("web", "oom_killed")
            daemon.wait_state("web", "failed")
            self.assertEqual(daemon.version()["pid"], before, "it is the same daemon")
            wait_until(lambda: not is_alive(full), "the whole of the service to be gone")

    def test_what_takes_too_much_memory_is_restarted(self):
        self.memory("self")

    def test_so_is_a_service_whose_child_takes_too_much(self):
        self.memory("child")

    def memory(self, who):
        service = python(HOG, who, "", restart_policy={"max_attempts": 1, "delay": 0.05})
        with Daemon({"web": self.limited(service, max_memory_mb=LIMIT_MB)}, extra=OFTEN) as daemon:
            way = self.way(daemon, "web")
            row = daemon.wait_state("web", "failed", timeout=60)
            daemon.wait_event("web", "failed")
            types = daemon.event_types("web")
            if way == "cgroup":
                why = "killed by SIGKILL: out of memory (limit 64 MB)"
                self.assertEqual(row["exit_signal"], signal.SIGKILL)
                self.assertIn(why, row["reason"])
                self.assertIn(why, daemon.ctl("explain", "web").stdout)
                oom = daemon.wait_event("web", "oom_killed")
                self.assertIn("out of memory (limit 64 MB): the kernel killed", oom["message"])
                self.assertEqual(oom["actor"], "limit")
                self.assert_becomes(lambda: self.once(daemon, "web", "oom_killed"), 2)
                self.assertEqual(daemon.wait_event("web", "exited")["message"], why)
                self.assertNotIn("limit_exceeded", types)
                self.assertNotIn(b"has all", daemon.log("web"))
                self.assertNotIn(b"child is gone", daemon.log("web"))
            else:
                event = daemon.wait_event("web", "limit_exceeded")
                self.assertRegex(event["message"], r"memory \d+\.\d MB of 64.0 MB")
                self.assertEqual(event["actor"], "limit")
                self.assertIn("limit exceeded: memory", row["reason"])
                self.assert_in_order(["limit_exceeded", "restarting", "exited"], types)

    def test_what_takes_too_much_of_the_processor_is_held_back_or_restarted(self):
        with Daemon({"web": self.limited(python(SPIN), max_cpu_percent=20)}, extra=OFTEN) as daemon:
            pid = daemon.wait_state("web", "running")["pid"]
            if self.way(daemon, "web") == "watch":
                event = daemon.wait_event("web", "limit_exceeded", timeout=30)
                self.assertRegex(event["message"], r"CPU \d+% of 20%")
                daemon.wait_for("web", lambda row: row["restart_count"] > 0, "its restart", timeout=30)
                return
            self.assertEqual(setting(pid, "cpu.max"), "20000 100000")
            wait_until(lambda: re.search(r"nr_throttled [1-9]", setting(pid, "cpu.stat")), "it to be held back")
            before, at = cpu_seconds([pid]), self.periods(pid)
            wait_until(lambda: self.periods(pid) >= at + 20, "20 periods of 100 ms", timeout=60)
            spent, periods = cpu_seconds([pid]) - before, self.periods(pid) - at
            self.assertLess(spent, periods * 0.1 * 0.30)
            row = daemon.status("web")
            self.assertEqual((row["pid"], row["restart_count"]), (pid, 0))
            self.assertNotIn("limit_exceeded", daemon.event_types("web"))

    def periods(self, pid):
        return int(re.search(r"nr_periods (\d+)", setting(pid, "cpu.stat"))[1])

    def test_too_many_processes_are_refused_or_end_in_a_restart(self):
        with Daemon({"web": self.limited(python(FORKER), max_processes=5)}, extra=OFTEN) as daemon:
            pid = daemon.wait_state("web", "running")["pid"]
            if self.way(daemon, "web") == "watch":
                event = daemon.wait_event("web", "limit_exceeded")
                self.assertRegex(event["message"], r"^\d+ processes of 5")
                daemon.wait_for("web", lambda row: row["restart_count"] > 0, "its restart", timeout=30)
                return
            daemon.wait_log("web", "refused 4 11\n")  # EAGAIN
            event = daemon.wait_event("web", "limit_exceeded")
            self.assertIn("5 processes and threads (resource_limits.max_processes)", event["message"])
            self.assertEqual(event["actor"], "limit")
            for count in range(2, 5):  # as fast as they come: one episode still, or a few
                daemon.ctl("signal", "USR1", "web")
                daemon.wait_log("web", "refused", count=count)
            row = daemon.status("web")
            self.assertEqual((row["state"], row["pid"], row["restart_count"]), ("running", pid, 0))
            self.assertLessEqual(self.once(daemon, "web", "limit_exceeded"), 4)

    def test_a_refused_fork_is_told_once_an_episode(self):
        storm = FORKER.replace("time.sleep(1000)", "time.sleep(0.01); fork_all()")
        with Daemon({"web": self.limited(python(storm), max_processes=5)}, extra=OFTEN) as daemon:
            if self.way(daemon, "web") == "watch":
                daemon.wait_event("web", "limit_exceeded")
                return
            daemon.wait_event("web", "limit_exceeded")
            daemon.wait_log("web", "refused", count=200, timeout=60)
            self.assertEqual(self.once(daemon, "web", "limit_exceeded"), 1)

    def test_on_exceed_alert_only_tells(self):
        limits = {"max_memory_mb": LIMIT_MB, "max_processes": 5, "max_cpu_percent": 20, "on_exceed": "alert"}
        with Daemon(
            {
                "fat": self.limited(python(HOG, "self", ""), **limits),
                "many": self.limited(python(FORKER), **limits),
                "busy": self.limited(python(SPIN), **limits),
            },
            extra=OFTEN,
        ) as daemon:
            pids = {name: daemon.wait_state(name, "running")["pid"] for name in ("fat", "many", "busy")}
            for name, message in (("fat", "memory "), ("many", " processes of 5 "), ("busy", "CPU ")):
                answer = daemon.ctl_json("explain", name)["service"]
                self.assertEqual(answer["limits_enforcement"], "watch")
                daemon.wait_event(name, "limit_exceeded", lambda event, text=message: text in event["message"], timeout=60)
            daemon.wait_log("fat", "has all", timeout=60)
            daemon.wait_log("many", "all\n")
            for name, pid in pids.items():
                row = daemon.status(name)
                self.assertEqual((row["state"], row["pid"], row["restart_count"]), ("running", pid, 0))
                self.assertNotIn("oom_killed", daemon.event_types(name))

    def test_a_reload_changes_limits_without_a_restart(self):
        with Daemon({"web": sleeper()}, extra=OFTEN) as daemon:
            pid = daemon.wait_state("web", "running")["pid"]
            limits = {"max_memory_mb": 80.5, "max_cpu_percent": 0.5, "max_processes": 9}
            daemon.write_config({"web": self.limited(sleeper(), **limits)})
            self.assertEqual(daemon.ctl_json("reload")["updated"], ["web"])
            way = self.way(daemon, "web")
            files = ("memory.max", "memory.swap.max", "memory.oom.group", "cpu.max", "pids.max")
            has_swap = way == "cgroup" and (cgroup_of(pid) / "memory.swap.max").exists()
            if way == "cgroup":
                values = [setting(pid, name) for name in files if name != "memory.swap.max" or has_swap]
                self.assertEqual(values, [str(161 << 19), *(["0"] if has_swap else []), "1", "5000 1000000", "9"])
            daemon.write_config({"web": self.limited(sleeper(), **limits, on_exceed="alert")})
            self.assertEqual(daemon.ctl_json("reload")["updated"], ["web"])
            self.assertEqual(daemon.ctl_json("explain", "web")["service"]["limits_enforcement"], "watch")
            if way == "cgroup":
                values = [setting(pid, name) for name in files if name != "memory.swap.max" or has_swap]
                self.assertEqual(values, ["max", *(["max"] if has_swap else []), "0", "max 1000000", "max"])
            self.assertEqual(daemon.pid("web"), pid)

    def test_a_limit_that_is_lowered_below_what_is_used_takes_effect(self):
        service = python(HOG, "self", "")
        with Daemon({"web": service}, extra=OFTEN) as daemon:
            pid = daemon.wait_state("web", "running")["pid"]
            daemon.wait_log("web", "has all", timeout=60)
            daemon.write_config({"web": self.limited(service, max_memory_mb=LIMIT_MB)})
            daemon.ctl("reload")
            event = "oom_killed" if self.way(daemon, "web") == "cgroup" else "limit_exceeded"
            daemon.wait_event("web", event)
            daemon.wait_for("web", lambda row: row["pid"] not in (0, pid), "a new process", timeout=60)

    def test_the_next_daemon_finds_the_same_cgroups(self):
        service = self.limited(sleeper(), max_memory_mb=LIMIT_MB)
        with Daemon({"web": service}, extra=OFTEN) as daemon:
            pid = daemon.wait_state("web", "running")["pid"]
            way = self.way(daemon, "web")
            if " - cgroup2 " not in pathlib.Path("/proc/self/mountinfo").read_text(encoding="utf-8"):
                return  # there are no cgroups to be found again
            cgroup, own = cgroup_of(pid), cgroup_of(daemon.version()["pid"])
            for _ in range(3):
                before = daemon.version()["pid"]
                os.kill(before, signal.SIGKILL)
                wait_until(lambda old=before: daemon.version()["pid"] != old, "the next daemon")
                self.assertEqual((daemon.pid("web"), cgroup_of(pid)), (pid, cgroup))
                self.assertEqual(cgroup_of(daemon.version()["pid"]), own)
                self.assertEqual(self.way(daemon, "web"), way)
            if way == "cgroup":
                self.assertEqual(setting(pid, "memory.max"), str(LIMIT_MB << 20))
                daemon.ctl("restart", "web")
                self.assertEqual(cgroup_of(daemon.pid("web")), cgroup)

    def test_memory_that_ran_out_while_no_daemon_was_there_is_recognised(self):
        with Daemon({}, extra=OFTEN) as daemon:
            go = daemon.dir / "go"
            daemon.write_config({"web": self.limited(python(HOG, "self", str(go)), max_memory_mb=LIMIT_MB)})
            daemon.ctl("reload")
            pid = daemon.wait_state("web", "running")["pid"]
            if self.way(daemon, "web") == "watch":
                return  # nobody watches while nobody is there: what is used then is found by the next daemon, as ever
            daemon.kill_daemon()
            go.touch()
            wait_until(lambda: not is_alive(pid), "the end of the service", timeout=60)
            go.unlink()
            daemon.start()
            event = daemon.wait_event("web", "oom_killed")
            self.assertIn("out of memory (limit 64 MB)", event["message"])
            exited = daemon.wait_event("web", "exited")
            self.assertIn("out of memory (limit 64 MB)", exited["message"])
            daemon.wait_state("web", "running")
            self.assertEqual(self.once(daemon, "web", "oom_killed"), 1)

    def test_a_sigkill_by_somebody_else_is_not_taken_for_want_of_memory(self):
        with Daemon({"web": self.limited(sleeper(), max_memory_mb=LIMIT_MB)}, extra=OFTEN) as daemon:
            pid = daemon.wait_state("web", "running")["pid"]
            self.way(daemon, "web")
            os.kill(pid, signal.SIGKILL)
            self.assertEqual(daemon.wait_event("web", "exited")["message"], "killed by SIGKILL")
            self.assertNotIn("oom_killed", daemon.event_types("web"))

    def test_a_service_may_divide_its_own_cgroup_and_is_started_again(self):
        """What a container runtime does; the kernel then lets nobody into the cgroup until that is undone."""
        divide = """
cgroup=$(grep ^0:: /proc/self/cgroup | cut -c4-); mount=$(grep ' - cgroup2 ' /proc/self/mountinfo | cut -d' ' -f5 | head -n1)
mkdir -p "$mount$cgroup/inner" && echo $$ >"$mount$cgroup/inner/cgroup.procs" || echo cannot
for name in memory pids; do echo +$name >"$mount$cgroup/cgroup.subtree_control"; done 2>/dev/null
echo divided; exit 3
"""
        with Daemon({"web": shell(divide), "way": self.limited(sleeper(), max_processes=9)}) as daemon:
            self.way(daemon, "way")
            daemon.wait_log("web", "divided", count=3)
            self.assertNotIn("failed", daemon.event_types("web"))

    def test_memory_that_a_cgroup_above_ran_out_of_is_told_as_such(self):
        with Daemon({"way": self.limited(sleeper(), max_memory_mb=LIMIT_MB)}, extra=OFTEN) as daemon:
            way = self.way(daemon, "way")
            if way == "watch" or daemon.cgroup is None:
                raise unittest.SkipTest(
                    "needs a cgroup above with a limit: runs in tests/vm (SCENARIO_CGROUP with a memory controller)"
                )
            (daemon.cgroup / "memory.max").write_text(str(200 << 20))
            service = python(HOG, "self", "", restart_policy={"mode": "never"})
            daemon.write_config({**daemon.config["services"], "web": service})
            daemon.ctl("reload")
            row = daemon.wait_state("web", "failed", timeout=60)
            self.assertIn("out of memory (the machine's, or that of a cgroup above", row["reason"])
            self.assertEqual(daemon.wait_event("web", "oom_killed")["actor"], "kernel")
            self.assertEqual(daemon.status("way")["state"], "running")


@unittest.skipUnless(os.environ.get("SCENARIO_CGROUP"), "needs a cgroup v2 with controllers to give: runs in tests/vm")
class Delegation(Scenario):
    """Where the daemon may move processes in order to enforce limits, and where it may not."""

    def beside_a_stranger(self, daemon, act):
        """Starts the daemon in a cgroup that holds somebody else's process too."""
        with subprocess.Popen(["/bin/sleep", "1000000"]) as stranger:
            try:
                (daemon.cgroup / "cgroup.procs").write_text(str(stranger.pid))
                daemon.start()
                daemon.wait_state("web", "running")
                act(stranger.pid)
            finally:
                stranger.kill()

    def service(self):
        return {"web": {**sleeper(), "resource_limits": {"max_memory_mb": LIMIT_MB}}}

    def test_what_is_not_ours_is_left_alone_and_the_log_says_why(self):
        with Daemon(self.service(), started=False) as daemon:

            def act(stranger):
                self.assertEqual(daemon.ctl_json("explain", "web")["service"]["limits_enforcement"], "watch")
                daemon.wait_daemon_log(f"holds other processes too (pid {stranger})")
                self.assertEqual(cgroup_of(stranger), daemon.cgroup)
                self.assertEqual((daemon.cgroup / "cgroup.subtree_control").read_text(encoding="utf-8").strip(), "")

            self.beside_a_stranger(daemon, act)

    def test_what_is_marked_as_delegated_is_ours_with_all_that_is_in_it(self):
        with Daemon(self.service(), started=False) as daemon:
            os.setxattr(daemon.cgroup, "user.delegate", b"1")

            def act(stranger):
                self.assertEqual(daemon.ctl_json("explain", "web")["service"]["limits_enforcement"], "cgroup")
                leaf = cgroup_of(daemon.version()["pid"])
                self.assertRegex(leaf.name, r"^supervisord\..*\.daemon$")
                self.assertEqual((leaf.parent, cgroup_of(stranger)), (daemon.cgroup, leaf))
                self.assertEqual(cgroup_of(daemon.version()["guardian_pid"]), leaf)

            self.beside_a_stranger(daemon, act)

    def test_controllers_are_taken_one_by_one(self):
        with Daemon(started=False) as daemon:
            (daemon.cgroup / "cgroup.subtree_control").write_text("+pids")
            leaf = daemon.cgroup / "inner"
            leaf.mkdir()
            daemon.cgroup = leaf  # has pids alone
            limits = {"max_memory_mb": LIMIT_MB, "max_processes": 5}
            daemon.write_config({"web": {**sleeper(), "resource_limits": limits}})
            daemon.start()
            answer = daemon.ctl_json("explain", "web")["service"]
            self.assertEqual(answer["limits_enforcement"], "memory=watch,processes=cgroup")
            self.assertIn("memory 64 MB (watched every 10 s), processes 5 (cgroup)", daemon.ctl("explain", "web").stdout)
            daemon.wait_daemon_log("cgroup controllers: pids; the others are watched")
            daemon.stop()
            leaf.rmdir()
            daemon.cgroup = leaf.parent
            daemon.cgroup.rmdir()


if __name__ == "__main__":
    main()
