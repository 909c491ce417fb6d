"""What containers do every day: logs on standard output, uids that nobody knows, a root that can't be written to."""

import ctypes
import os
import pathlib
import pwd
import signal
import socket
import stat
import subprocess

from harness import (
    FAILED,
    Daemon,
    Scenario,
    kill,
    main,
    needs_root,
    process_status,
    python,
    run,
    sleeper,
    wait_until,
)

CLONE_NEWNS, MS_RDONLY, MS_REMOUNT, MS_REC, MS_PRIVATE, MS_BIND = 0x20000, 1, 0x20, 0x4000, 1 << 18, 0x1000
UNKNOWN_UID = 54321


class OwnLog(Scenario):
    def running(self, daemon, stdout, stderr):
        """The daemon with that standard output; in the harness both outputs are one file."""
        daemon.process = subprocess.Popen(
            [daemon.program, "-c", daemon.config_file, *daemon.arguments],
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            env=daemon.env,
        )
        daemon.wait_ready()

    def test_standard_output_as_log_file(self):
        for name in ("/dev/stdout", "/proc/self/fd/1", "/dev/fd/1"):
            for arguments in ([], ["--no-guardian"]):
                with self.subTest(name=name, arguments=arguments), Daemon(
                    {"web": sleeper()}, global_={"log_file": name}, started=False
                ) as daemon:
                    daemon.arguments = arguments
                    output = daemon.dir / "stdout"
                    with open(output, "ab") as out, open(daemon.stderr_file, "ab") as err:
                        self.running(daemon, out, err)
                    daemon.wait_state("web", "running")
                    wait_until(lambda: "event=started" in output.read_text(), "the event in the log")
                    kill(daemon.process.pid, signal.SIGUSR1)
                    wait_until(lambda: "log files reopened" in output.read_text(), "it to be reopened")
                    daemon.ctl("reload")
                    if not arguments:
                        kill(daemon.version()["pid"])
                        wait_until(lambda: "event=adopted" in output.read_text(), "the next daemon's lines")
                    daemon.stop()
                    self.assertIn("stopping all services", output.read_text())
                    self.assertNotIn("level=", daemon.stderr(), "each line once")
                    self.assertEqual([path.name for path in daemon.dir.glob("stdout*")], ["stdout"])

    def test_standard_error_as_log_file_has_each_line_once(self):
        with Daemon({"web": sleeper()}, global_={"log_file": "/dev/stderr"}, started=False) as daemon:
            output = daemon.dir / "stdout"
            with open(output, "ab") as out, open(daemon.stderr_file, "ab") as err:
                self.running(daemon, out, err)
            daemon.wait_state("web", "running")
            daemon.stop()
            lines = [line for line in daemon.stderr().splitlines() if "event=started" in line]
            self.assertEqual(len(lines), 1, daemon.stderr())
            self.assertEqual(output.read_text(), "")

    def test_a_link_to_standard_output_as_images_have_it(self):
        with Daemon({"web": sleeper()}, started=False) as daemon:
            daemon.daemon_log.symlink_to("/dev/stdout")
            output = daemon.dir / "stdout"
            with open(output, "ab") as out, open(daemon.stderr_file, "ab") as err:
                self.running(daemon, out, err)
            daemon.wait_state("web", "running")
            wait_until(lambda: "event=started" in output.read_text(), "the event in the log")
            daemon.stop()
            self.assertTrue(daemon.daemon_log.is_symlink())
            daemon.daemon_log.unlink()

    def test_a_socket_and_a_pipe_serve_too(self):
        """Which have no name that could be opened, or none that this process may open."""
        for kind in ("socket", "pipe"):
            with self.subTest(kind=kind), Daemon(
                {"web": sleeper()}, global_={"log_file": "/dev/stdout"}, started=False
            ) as daemon:
                if kind == "socket":
                    ours, theirs = socket.socketpair()
                    read = ours.makefile("rb")
                else:
                    end, theirs = (os.fdopen(fd, mode) for fd, mode in zip(os.pipe(), ("rb", "wb")))
                    read = end
                with open(daemon.stderr_file, "ab") as err, theirs:
                    self.running(daemon, theirs, err)
                daemon.wait_state("web", "running")
                daemon.stop()
                text = read.read().decode()
                self.assertIn("event=started", text)
                self.assertIn("stopping all services", text)
                read.close()

    def test_in_the_background_nobody_would_read_it(self):
        for name in ("/dev/stdout", "/dev/stderr"):
            with self.subTest(name=name), Daemon(
                {"web": sleeper()}, global_={"log_file": name}, started=False
            ) as daemon:
                told = daemon.supervisord("--daemon", expect=FAILED).stderr
                for words in (f"log_file {name}", "--daemon", "name a file"):
                    self.assertIn(words, told)

    def test_other_descriptors_are_none(self):
        with Daemon({"web": sleeper()}, global_={"log_file": "/proc/self/fd/5"}, started=False) as daemon:
            self.assertIn("log_file /proc/self/fd/5", daemon.supervisord(expect=FAILED).stderr)


@needs_root
class OtherUids(Scenario):
    def test_a_uid_without_a_passwd_entry(self):
        def become():
            os.setgroups([])
            os.setgid(UNKNOWN_UID)
            os.setuid(UNKNOWN_UID)

        for home in ("/", None):
            with self.subTest(home=home), Daemon(started=False, prepare=become) as daemon:
                os.chown(daemon.dir, UNKNOWN_UID, UNKNOWN_UID)
                daemon.env["XDG_RUNTIME_DIR"] = daemon.client_env["XDG_RUNTIME_DIR"] = str(daemon.dir / "run")
                daemon.env.pop("HOME", None)
                if home:
                    daemon.env["HOME"] = home
                for key in ("database", "log_file", "socket"):  # the defaults
                    daemon.config["global"].pop(key)
                daemon.socket = daemon.dir / "run/supervisord/supervisord.sock"
                state = daemon.dir / "run/supervisord/state"
                daemon.database, daemon.daemon_log = state / "supervisor.db", state / "supervisord.log"
                daemon.write_config({"web": sleeper(), "numbered": sleeper(user=str(UNKNOWN_UID))})
                daemon.start()
                for id in ("web", "numbered"):
                    daemon.wait_state(id, "running")
                    self.assertEqual(process_status(daemon.pid(id))["Uid"].split()[0], str(UNKNOWN_UID))
                wait_until(lambda: daemon.sql("SELECT id FROM supervisor_services"), "its rows")
                asked = daemon.ctl("stop", "web", preexec_fn=become)
                self.assertEqual(asked.returncode, 0)
                actor = daemon.wait_event("web", "stopped")["actor"]
                self.assertIn(f"uid {UNKNOWN_UID}", actor)
                daemon.ctl("start", "web")
                daemon.ctl("shutdown")  # root's --stop would look at root's own default socket
                daemon.check_gone()

    # A worker that has dropped its rights opens what it was started with again, as nginx and many others do.
    WORKER = """
import os, sys
os.setgroups([])
os.setgid(int(sys.argv[1]))
os.setuid(int(sys.argv[1]))
for name in ("/dev/stdout", "/dev/stderr", "/proc/self/fd/1"):
    fd = os.open(name, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(fd, f"written to {name}\\n".encode())
while True: __import__("time").sleep(1000)
"""

    def test_a_worker_of_another_uid_opens_its_standard_output_and_error(self):
        games = pwd.getpwnam("games").pw_uid
        for separate in (False, True):
            changes = {"logs": {"stderr": "separate"}} if separate else {}
            with self.subTest(separate=separate), Daemon(
                {"web": python(self.WORKER, str(games), **changes)}
            ) as daemon:
                daemon.wait_log("web", "written to /proc/self/fd/1")
                errors = daemon.log_dir / "web.err.log" if separate else daemon.log_file("web")
                wait_until(lambda: b"written to /dev/stderr" in errors.read_bytes(), "its standard error")
                self.assertIn(b"written to /dev/stdout", daemon.log("web"))
                self.assertEqual(daemon.status("web")["restart_count"], 0)
                pid = daemon.pid("web")
                daemon.kill_daemon()
                daemon.start()  # finds the FIFO again
                self.assertEqual(daemon.pid("web"), pid)
                daemon.ctl("restart", "web")
                daemon.wait_log("web", "written to /proc/self/fd/1", count=2)

    def test_nobody_else_writes_to_it(self):
        games = pwd.getpwnam("games")
        with Daemon({"web": sleeper()}) as daemon:
            daemon.wait_state("web", "running")
            fifos = [path for path in daemon.socket.with_suffix(".state").rglob("web.out")]
            self.assertEqual(len(fifos), 1)
            self.assertTrue(stat.S_ISFIFO(fifos[0].stat().st_mode))

            def become():
                os.setgroups([])
                os.setgid(games.pw_gid)
                os.setuid(games.pw_uid)

            told = run(["/bin/sh", "-c", f"echo forged > {fifos[0]}"], (1, 2), preexec_fn=become)
            self.assertIn("denied", told.stderr)


@needs_root
class ReadOnlyRoot(Scenario):
    @staticmethod
    def read_only_root(place):
        """A Daemon's `prepare`: all that it sees is read-only but `place`."""

        def prepare():
            libc = ctypes.CDLL(None, use_errno=True)

            def mount(source, target, flags):
                if libc.mount(source, target, None, flags, None) != 0:
                    raise OSError(ctypes.get_errno(), f"mount {target}")

            if libc.unshare(CLONE_NEWNS) != 0:
                raise OSError(ctypes.get_errno(), "unshare")
            mount(b"none", b"/", MS_REC | MS_PRIVATE)
            path = str(place).encode()
            mount(path, path, MS_BIND)
            for line in pathlib.Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
                target = line.split()[4]
                if target in ("/", "/tmp", "/var", "/run"):
                    mount(b"none", target.encode(), MS_REMOUNT | MS_BIND | MS_RDONLY)

        return prepare

    def test_all_works_where_its_own_places_can_be_written_to(self):
        with Daemon({"web": sleeper()}, started=False) as daemon:
            daemon._then_prepare = self.read_only_root(daemon.dir)
            daemon.start()
            daemon.wait_state("web", "running")
            wait_until(daemon.pid_file("web").exists, "its pid file")
            daemon.ctl("restart", "web")
            wait_until(lambda: daemon.sql("SELECT id FROM supervisor_services"), "its rows")
            daemon.ctl("shutdown")
            daemon.check_gone()

    def test_what_cannot_be_written_to_is_named_with_its_key(self):
        for key in ("log_directory", "pid_directory"):
            with self.subTest(key=key), Daemon({"web": sleeper()}, started=False) as daemon:
                place = f"/usr/local/supervisor-scenario-{os.getpid()}"
                daemon.config["global"][key] = place
                daemon.write_config()
                told = daemon.supervisord(expect=FAILED, preexec_fn=self.read_only_root(daemon.dir)).stderr
                for words in (f"global.{key}", place, "Read-only file system", "can be written to"):
                    self.assertIn(words, told)
                self.assertFalse(os.path.exists(place))


if __name__ == "__main__":
    main()
