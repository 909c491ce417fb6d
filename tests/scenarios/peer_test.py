"""Who calls is known from the kernel: it is named in the events, and decides what is allowed."""

import contextlib
import grp
import os
import pwd
import re
import shutil
import stat

from child_hygiene_test import descriptors
from harness import (
    DONE,
    NOT_PERMITTED,
    SUPERVISORCTL,
    SUPERVISORD,
    UNREACHABLE,
    Daemon,
    Scenario,
    main,
    needs_root,
    read_proc,
    run,
    sleeper,
    wait_until,
)


def sanitizer_options(daemon):
    """What the sanitizers of this build want to know, with their files where any user can read them."""
    options = {}
    for name in ("ASAN_OPTIONS", "LSAN_OPTIONS", "TSAN_OPTIONS", "UBSAN_OPTIONS"):
        if name in os.environ:

            def reachable(match):
                copy = daemon.dir / os.path.basename(match.group(1))
                shutil.copy(match.group(1), copy)
                copy.chmod(0o644)
                return f"suppressions={copy}"

            options[name] = re.sub(r"\bsuppressions=([^:\s]+)", reachable, os.environ[name])
    return options


@contextlib.contextmanager
def caller(daemon, user="nobody", gid=None, groups=()):
    """supervisorctl as another user, from a place that this user can reach."""
    program = daemon.dir / "supervisorctl"
    if not program.exists():
        shutil.copy(SUPERVISORCTL, program)
        program.chmod(0o755)
    entry = pwd.getpwnam(user)

    def call(*arguments, expect=DONE):
        return run(
            [program, "--socket", daemon.socket, *arguments],
            expect,
            env={"PATH": os.environ["PATH"], **sanitizer_options(daemon)},
            cwd="/",
            user=entry.pw_uid,
            group=entry.pw_gid if gid is None else gid,
            extra_groups=list(groups),
        )

    yield call


class Peer(Scenario):
    def test_the_actor_of_an_event_names_uid_and_pid_of_the_caller(self):
        with Daemon({"web": sleeper()}) as daemon:
            daemon.wait_state("web", "running")
            stream = daemon.stream("stop", "web")
            pid = stream.pid
            self.assertEqual(stream.wait(), DONE)
            actor = daemon.wait_event("web", "stopped")["actor"]
            self.assertRegex(actor, rf"\buid {os.getuid()}\b")
            self.assertRegex(actor, rf"\bpid {pid}\b")
            self.assertIn(actor, daemon.ctl("events", "web").stdout)

    def test_the_socket_has_its_configured_mode(self):
        for mode in (None, "0600", "0666"):
            with self.subTest(mode=mode), Daemon(global_={"socket_mode": mode} if mode else {}) as daemon:
                self.assertEqual(stat.S_IMODE(os.stat(daemon.socket).st_mode), int(mode or "0660", 8))

    @needs_root
    def test_another_user_may_read_but_not_act(self):
        with Daemon({"web": sleeper(), "off": sleeper(enabled=False)}, global_={"socket_mode": "0666"}) as daemon:
            pid = daemon.wait_state("web", "running")["pid"]
            with caller(daemon) as call:
                for command in (
                    ["status", "web"],
                    ["health", "web"],
                    ["events"],
                    ["summary"],
                    ["version"],
                    ["logs", "web"],
                ):
                    with self.subTest(command=command):
                        call(*command)
                for command in (
                    ["stop", "web"],
                    ["start", "off"],
                    ["restart", "web"],
                    ["signal", "KILL", "web"],
                    ["reload"],
                    ["shutdown"],
                    ["stop", "--no-wait", "all"],
                ):
                    with self.subTest(command=command):
                        result = call(*command, expect=NOT_PERMITTED)
                        self.assertIn(
                            "nobody", result.stderr + "nobody" * (str(pwd.getpwnam("nobody").pw_uid) in result.stderr)
                        )
                        self.assertEqual(result.stdout, "")
            self.assertEqual(daemon.pid("web"), pid)
            self.assertEqual(daemon.status("off")["state"], "stopped")

    def test_no_port_of_the_network_is_open(self):
        with Daemon({"web": sleeper()}) as daemon:
            daemon.wait_state("web", "running")
            held = {link for pid in daemon.supervisors() for link in descriptors(pid).values() if "socket:" in link}
            self.assertTrue(held)  # the control socket's, at least
            for table in ("tcp", "tcp6", "udp", "udp6", "raw", "raw6", "packet"):
                for line in read_proc("self", f"net/{table}").decode().splitlines()[1:]:
                    self.assertFalse({f"socket:[{number}]" for number in line.split()} & held, f"{table}: {line}")

    @needs_root
    def test_members_of_the_sockets_group_may_act(self):
        group = grp.getgrnam("games")
        with Daemon({"web": sleeper()}, global_={"socket_group": "games"}) as daemon:
            daemon.wait_state("web", "running")
            self.assertEqual(os.stat(daemon.socket).st_gid, group.gr_gid)
            with caller(daemon, gid=group.gr_gid) as call:
                call("stop", "web")
            with caller(daemon, groups=[group.gr_gid]) as call:
                call("start", "web")
            entry = pwd.getpwnam("nobody")
            self.assertTrue(any(f"uid {entry.pw_uid}" in event["actor"] for event in daemon.events("web")))
            with caller(daemon) as call:  # neither
                result = call("status", expect=(NOT_PERMITTED, UNREACHABLE))
                self.assertIn(str(daemon.socket), result.stderr)

    @needs_root
    def test_the_daemons_own_user_may_act_and_root_too(self):
        entry = pwd.getpwnam("nobody")
        with Daemon(
            {"web": sleeper()},
            started=False,
            prepare=lambda: (os.setgroups([]), os.setgid(entry.pw_gid), os.setuid(entry.pw_uid)),
        ) as daemon:
            os.chown(daemon.dir, entry.pw_uid, entry.pw_gid)
            os.chown(daemon.config_file, entry.pw_uid, entry.pw_gid)
            daemon.program = daemon.dir / "supervisord"  # where that user can reach it
            shutil.copy(SUPERVISORD, daemon.program)
            daemon.program.chmod(0o755)
            daemon.start()
            row = daemon.wait_state("web", "running")
            self.assertEqual(os.stat(f"/proc/{row['pid']}").st_uid, entry.pw_uid)
            with caller(daemon) as call:
                call("restart", "web")
            daemon.ctl("stop", "web")
            daemon.ctl("shutdown")
            wait_until(lambda: not daemon.processes(), "all to be gone")
            daemon.check_gone()


if __name__ == "__main__":
    main()
