"""Where a daemon may have to live: as PID 1 of a container, behind a terminal that closes, as an ordinary user."""

import contextlib
import json
import os
import pathlib
import pty
import signal
import subprocess
import unittest

from harness import (
    DONE,
    SCALE,
    SUPERVISORCTL,
    SUPERVISORD,
    Container,
    Daemon,
    Scenario,
    Workspace,
    is_alive,
    kill,
    main,
    needs_root,
    run,
    shell,
    sleeper,
    wait_until,
)


@needs_root
class PidOne(Scenario):
    @staticmethod
    def container(services, *arguments, **options):
        container = Container(services, **options)
        container.arguments = list(arguments)
        return container

    def test_it_reaps_what_strangers_leave_behind(self):
        for arguments in ([], ["--no-guardian"]):
            with self.subTest(arguments=arguments), self.container({"web": sleeper()}, *arguments) as daemon:
                daemon.start()
                self.assertEqual(daemon.version()["guardian_pid"] or daemon.version()["pid"], 1)
                pid = daemon.wait_state("web", "running")["pid"]
                marks = daemon.dir / "orphans"
                daemon.run_beside(
                    f"for i in 1 2 3 4 5 6 7 8 9; do (setsid sh -c 'sleep 0.1; echo $$ >>{marks}; exit 3' &); done"
                )
                wait_until(lambda: marks.read_text().count("\n") == 9, "the orphans' ends")
                wait_until(lambda: not daemon.zombies(), "them to be reaped")
                self.assertEqual(daemon.status("web")["pid"], pid)
                daemon.ctl("stop", "web")
                daemon.ctl("start", "web")

    def test_sigterm_stops_all_in_order_and_the_exit_code_is_passed_on(self):
        slow = shell("trap 'sleep 0.2; echo last words; exit 0' TERM; echo set; while :; do sleep 0.05; done")
        for arguments in ([], ["--no-guardian"]):
            with self.subTest(arguments=arguments), self.container({"slow": slow}, *arguments) as daemon:
                daemon.start()
                daemon.wait_log("slow", "set")
                daemon.stop()  # checks that the exit code is 0 and that nothing is left
                self.assertIn(b"last words", daemon.log("slow"))

    def test_a_failed_critical_service_ends_the_container_with_its_exit_code(self):
        never = {"critical": True, "restart_policy": {"mode": "never"}}
        failures = {
            5: shell("exit 5", **never),
            70: shell("exit 70", **never),
            71: shell("exit 71", **never),
            255: shell("exit 255", **never),
        }
        ones = [
            shell("kill -9 $$", **never),
            sleeper(command="/nonexistent", **never),
            shell("exit 0", critical=True, restart_policy={"mode": "never", "success_exit_codes": [7]}),
            shell("exit 4", hooks={"pre_start": {"command": "/bin/false"}}, **never),
        ]
        for arguments in ([], ["--no-guardian"]):
            for code, vital in [*failures.items(), *((1, service) for service in ones)]:
                with self.subTest(arguments=arguments, code=code, vital=vital), self.container(
                    {"vital": vital, "web": sleeper()}, *arguments, global_={"exit_on_critical_failure": True}
                ) as daemon:
                    with open(daemon.stderr_file, "ab") as log:
                        ended = subprocess.run(
                            daemon.command(),
                            stdin=subprocess.DEVNULL,
                            stdout=log,
                            stderr=log,
                            env=daemon.env,
                            timeout=60 * SCALE,
                            check=False,
                        )
                    self.assertEqual(ended.returncode, code)
                    self.assertEqual(daemon.processes(), [])

    def test_the_daemon_may_die_in_there_too(self):
        with self.container({"web": sleeper()}) as daemon:
            daemon.start()
            pid, before = daemon.wait_state("web", "running")["pid"], daemon.version()
            daemon.run_beside(f"kill -9 {before['pid']}")
            wait_until(lambda: daemon.version()["pid"] != before["pid"], "the next daemon", timeout=20)
            self.assertEqual(daemon.wait_state("web", "running")["pid"], pid)
            daemon.run_beside(f"kill -TERM {pid}")
            self.assertIn("SIGTERM", daemon.wait_event("web", "exited")["message"])


class Terminal(Scenario):
    def on_a_terminal(self, daemon, *arguments):
        """Starts supervisord as the leader of a session with a terminal of its own; its pid, and the other end of that."""
        pid, ours = pty.fork()
        if pid == 0:
            try:
                os.execve(SUPERVISORD, [SUPERVISORD, "-c", str(daemon.config_file), *arguments], daemon.env)
            finally:
                os._exit(127)
        return pid, ours

    def test_one_in_the_background_does_not_notice(self):
        with Daemon({"web": sleeper()}, started=False) as daemon:
            starter, terminal = self.on_a_terminal(daemon, "--daemon")
            self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(starter, 0)[1]), 0)
            pid, version = daemon.wait_state("web", "running")["pid"], daemon.version()
            os.close(terminal)
            daemon.ctl("restart", "web")
            self.assertFalse(is_alive(pid))
            self.assertEqual(daemon.version()["pid"], version["pid"])
            self.assertNotIn("reloaded", daemon.event_types("supervisor"))

    def test_one_in_the_foreground_reloads_and_goes_on(self):
        """The contract has SIGHUP mean that; and what is written to the closed terminal fails without harm."""
        with Daemon({"web": sleeper()}, started=False) as daemon:
            leader, terminal = self.on_a_terminal(daemon)
            daemon.wait_ready()
            pid, version = daemon.wait_state("web", "running")["pid"], daemon.version()
            os.close(terminal)
            daemon.wait_event("supervisor", "reloaded")
            self.assertEqual(daemon.wait_state("web", "running")["pid"], pid)
            self.assertEqual(daemon.version()["pid"], version["pid"])
            daemon.ctl("restart", "web")
            self.assertFalse(is_alive(pid))
            kill(daemon.version()["pid"])
            wait_until(lambda: daemon.version()["pid"] != version["pid"], "the next daemon, without a terminal", timeout=20)
            kill(leader, signal.SIGTERM)
            self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(leader, 0)[1]), 0)


class DeafReader(Scenario):
    """Who reads what the daemon in the foreground says has stopped doing so."""

    def start(self, daemon):
        """With a stderr that takes nothing: its reading end."""
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(writer, b"x" * 4096)
        os.set_blocking(writer, True)
        daemon.process = subprocess.Popen(
            [SUPERVISORD, "-c", daemon.config_file, *daemon.arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=writer,
            env=daemon.env,
        )
        os.close(writer)
        self.addCleanup(os.close, reader)
        daemon.wait_ready()
        return reader

    def test_it_holds_up_neither_an_upgrade_nor_the_end(self):
        for arguments in ([], ["--no-guardian"]):
            with self.subTest(arguments=arguments), Daemon({"web": sleeper()}, started=False) as daemon:
                daemon.arguments = arguments
                self.start(daemon)
                pid = daemon.wait_state("web", "running")["pid"]
                wait_until(lambda: "lines were dropped" in daemon.ctl("summary").stdout, "what nobody hears to be told")
                daemon.ctl("upgrade", timeout=20)
                self.assert_becomes(lambda: daemon.event_types("supervisor").count("supervisor_started"), 2)
                self.assertEqual(daemon.wait_state("web", "running")["pid"], pid)
                daemon.supervisord("--stop", expect=0, timeout=20)
                daemon.check_gone()

    def test_who_reads_again_hears_what_comes_then(self):
        with Daemon({"web": sleeper()}, started=False) as daemon:
            reader = self.start(daemon)
            wait_until(lambda: "lines were dropped" in daemon.ctl("summary").stdout, "what nobody hears to be told")
            os.set_blocking(reader, False)
            heard = b""

            def hears():
                nonlocal heard
                with contextlib.suppress(BlockingIOError):
                    while chunk := os.read(reader, 65536):
                        heard += chunk
                daemon.ctl("restart", "web")
                return b"event=started" in heard

            wait_until(hears, "it to be heard")

    def test_a_log_file_that_is_a_fifo_without_a_reader(self):
        with Daemon({"web": sleeper()}) as daemon:
            fifo = daemon.dir / "fifo"
            os.mkfifo(fifo)
            daemon.config["global"]["log_file"] = str(fifo)
            daemon.write_config()
            daemon.ctl("reload", timeout=20)
            daemon.process.send_signal(signal.SIGUSR1)
            said = f'"log_file {fifo}: nobody reads it: '
            wait_until(lambda: daemon.daemon_log.read_text().count(said) >= 2, "it to be told, where it was")
            daemon.ctl("restart", "web")
            daemon.stop()


@needs_root
class OrdinaryUser(Scenario):
    """With the default paths, which are the user's own."""

    USER = 65534

    def become(self):
        os.setgroups([])
        os.setgid(self.USER)
        os.setuid(self.USER)

    def run(self, result=None):
        with Workspace() as workspace:
            self.home = workspace.dir / "home"
            self.home.mkdir()
            os.chown(self.home, self.USER, self.USER)
            self.env = {**workspace.env, "HOME": str(self.home), "USER": "nobody"}
            self.workspace = workspace
            return super().run(result)

    def write_config(self, directory):
        directory.mkdir(parents=True)
        services = {"web": sleeper(), "talker": shell("echo I am $(id -u); exec sleep 1000000")}
        pids = {"log_directory": str(self.home / "log"), "pid_directory": str(self.home / "pid")}
        (directory / "supervisor_config.json").write_text(
            json.dumps({"version": "1.0", "global": pids, "services": services})
        )

    def command(self, *argv, expect=DONE):
        return run(argv, expect=expect, env=self.env, preexec_fn=self.become)

    def status(self):
        result = self.command(SUPERVISORCTL, "--json", "status", expect=None)
        return {row["id"]: row for row in result.json["services"]}

    def version(self):
        return self.command(SUPERVISORCTL, "--json", "version").json["daemon"]

    def check(self, runtime, state):
        self.command(SUPERVISORD, "--status", expect=3)
        self.command(SUPERVISORD, "--daemon")
        try:
            wait_until(lambda: {row["state"] for row in self.status().values()} == {"running"}, "all to run")
            self.assertTrue((runtime / "supervisord.sock").is_socket())
            self.assertEqual(runtime.stat().st_uid, self.USER)
            self.assertTrue((state / "supervisor.db").exists())
            log = self.home / "log" / "talker.log"
            wait_until(lambda: log.read_text() == f"I am {self.USER}\n", "what it writes")
            pids = {name: row["pid"] for name, row in self.status().items()}
            version = self.version()
            kill(version["pid"])
            wait_until(lambda: self.version()["pid"] != version["pid"], "the next daemon", timeout=20)
            self.assert_becomes(lambda: {name: row["pid"] for name, row in self.status().items()}, pids)
            self.command(SUPERVISORCTL, "upgrade")
            self.assert_becomes(lambda: {name: row["pid"] for name, row in self.status().items()}, pids)
            self.command(SUPERVISORCTL, "restart", "web")
        finally:
            self.command(SUPERVISORD, "--stop")
        self.assertEqual(self.workspace.processes(), [])
        self.assertFalse((runtime / "supervisord.sock").exists())

    def test_where_the_xdg_variables_say(self):
        for name in ("CONFIG_HOME", "STATE_HOME", "RUNTIME_DIR"):
            self.env[f"XDG_{name}"] = str(self.home / name)
        (self.home / "RUNTIME_DIR").mkdir(mode=0o700)
        os.chown(self.home / "RUNTIME_DIR", self.USER, self.USER)
        self.write_config(self.home / "CONFIG_HOME" / "supervisord")
        self.check(self.home / "RUNTIME_DIR" / "supervisord", self.home / "STATE_HOME" / "supervisord")

    def test_roots_daemon_is_seen_and_not_stopped(self):
        for background in (True, False):
            with self.subTest(background=background), Daemon({"web": sleeper()}, background=background) as daemon:
                daemon.wait_state("web", "running")
                pid = daemon.socket.with_suffix(".pid").read_text().strip()
                asked = daemon.supervisord("--status", expect=DONE, preexec_fn=self.become)
                self.assertIn(f"is running: pid {pid}, socket {daemon.socket}", asked.stdout)
                asked = daemon.supervisord("--stop", expect=1, preexec_fn=self.become)
                self.assertIn(f"not permitted to stop supervisord (pid {pid})", asked.stderr)
                daemon.wait_state("web", "running")
                daemon.dir.chmod(0o700)
                try:
                    for command in ("--status", "--stop"):
                        config = ["-c", self.copy_of(daemon.config_file), command]
                        self.assertIn("cannot be told", self.command(SUPERVISORD, *config, expect=1).stderr)
                finally:
                    daemon.dir.chmod(0o755)
                daemon.stop()
                daemon.supervisord("--status", expect=3, preexec_fn=self.become)

    def copy_of(self, config):
        copy = self.home / "copy.json"
        copy.write_text(config.read_text())
        copy.chmod(0o644)
        return copy

    def test_where_they_say_nothing(self):
        runtime = pathlib.Path(f"/tmp/supervisord-{self.USER}")
        if runtime.exists():
            raise unittest.SkipTest(f"{runtime} is in use")
        self.write_config(self.home / ".config" / "supervisord")
        try:
            self.check(runtime, self.home / ".local/state/supervisord")
        finally:
            if runtime.exists() and not any(runtime.iterdir()):
                runtime.rmdir()


if __name__ == "__main__":
    main()
