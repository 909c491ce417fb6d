"""Children that a service makes with CLONE_PARENT, which are its parent's by then: the daemon's."""

from harness import (
    Daemon,
    Scenario,
    children_of,
    is_alive,
    main,
    needs_root,
    process_stat,
    python,
    wait_until,
    without_cgroups,
)

# Makes so many siblings that end at once, and then one that stays, in a session of its own; `where` says where to.
SIBLINGS = """
import ctypes, os, platform, signal, sys, time
NUMBER = {'x86_64': 56, 'aarch64': 220}[platform.machine()]
CLONE_PARENT = 0x8000
libc = ctypes.CDLL(None, use_errno=True)
def sibling():
    # No stack of its own: as fork(2), but for the parent.
    return libc.syscall(NUMBER, CLONE_PARENT | signal.SIGCHLD, 0, 0, 0, 0)
for _ in range(int(sys.argv[1])):
    if sibling() == 0:
        os._exit(0)
if sibling() == 0:
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.write(1, b'sibling %d\\n' % os.getpid())
    while True: time.sleep(1000)
while True: time.sleep(1000)
"""
BRIEF = {"graceful_shutdown": {"timeout": 1}}
MANY = 300


class CloneParent(Scenario):
    def zombies(self, daemon):
        return [pid for pid in children_of([daemon.version()["pid"]]) if process_stat(pid)[:1] == ["Z"]]

    def check(self, **options):
        with Daemon({"web": python(SIBLINGS, str(MANY), **BRIEF)}, **options) as daemon:
            sibling = int(daemon.wait_log("web", "sibling").split()[-1])
            self.assertEqual(int(process_stat(sibling)[1]), daemon.version()["pid"], "its parent")
            wait_until(lambda: not self.zombies(daemon), "the zombies to be reaped", timeout=30)
            daemon.ctl("restart", "web")
            self.assertFalse(is_alive(sibling))
            sibling = int(daemon.wait_log("web", "sibling", count=2).split()[-1])
            daemon.ctl("stop", "web")
            self.assertFalse(is_alive(sibling))
            wait_until(lambda: not children_of([daemon.version()["pid"]]), "the daemon to have no child", timeout=30)

    def test_they_are_reaped_and_belong_to_the_service(self):
        self.check()

    @needs_root
    def test_without_cgroups_too(self):
        self.check(prepare=without_cgroups)

    def test_they_count_among_its_processes(self):
        check = {"type": "process", "interval": 0.1, "max_memory_mb": 1000, "on_failure": "alert"}
        with Daemon({"web": python(SIBLINGS, "3", health_check=check, **BRIEF)}) as daemon:
            daemon.wait_log("web", "sibling")
            wait_until(
                lambda: "2 processes" in daemon.ctl_json("health", "web", expect=None)["services"][0]["message"],
                "both to be counted",
            )

    def test_what_the_daemon_itself_waits_for_is_left_to_it(self):
        """Ends of services are told with their codes, though a reaper of strangers looks on."""
        flapping = python("raise SystemExit(7)", restart_policy={"delay": 0.4, "max_attempts": 0})
        with Daemon({"web": python(SIBLINGS, "50", **BRIEF), "flapping": flapping}) as daemon:
            wait_until(lambda: daemon.event_types("flapping").count("exited") >= 5, "some ends", timeout=30)
            ends = [event["message"] for event in daemon.events("flapping") if event["event_type"] == "exited"]
            self.assertEqual(set(ends), {"exited with code 7"})


if __name__ == "__main__":
    main()
