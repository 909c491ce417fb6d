"""Which files the daemon obeys: who could have written them, or could exchange them. An attacker acts as uid 65534."""

import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import sys

from harness import (
    DONE,
    FAILED,
    SCALE,
    SUPERVISORCTL,
    SUPERVISORD,
    UNREACHABLE,
    USAGE,
    Daemon,
    Scenario,
    Workspace,
    eventually,
    kill,
    main,
    needs_root,
    run,
    shell,
    sleeper,
    wait_until,
)
from harness.namespaces import private_read_only

NOBODY = 65534
PYTHON = "/usr/bin/python3"  # which every user may run
OTHER = 60001 + os.getpid() % 5000  # its runtime directory is a name of /tmp, which other runs have too


def become(uid):
    """A `preexec_fn`: from there on an ordinary user."""

    def prepare():
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)

    return prepare


def as_user(uid, *argv):
    """A command of the attacker's, which has to succeed."""
    run(argv, expect=0, preexec_fn=become(uid))


class Attacked(Scenario):
    """A daemon of root's with its configuration in a directory below the workspace; a mark that only root could make."""

    def setUp(self):
        self.workspace = Daemon({"web": sleeper()}, started=False)
        self.dir = self.workspace.dir
        self.proof = self.dir / "proof"  # root's directory: nobody else can make this file
        self.enter(self.workspace)

    def enter(self, context):
        context.__enter__()
        self.addCleanup(context.__exit__, None, None, None)

    def directory(self, name, uid=0, mode=0o755):
        path = self.dir / name
        path.mkdir()
        path.chmod(mode)
        os.chown(path, uid, uid)
        return path

    def file(self, path, text, uid=0, mode=0o644):
        path.write_text(text)
        path.chmod(mode)
        os.lchown(path, uid, uid)
        return path

    def move_config_to(self, directory):
        """The workspace's configuration lies there from now on."""
        self.workspace.config_file = directory / "supervisor_config.json"
        self.workspace.write_config()

    def attack(self):
        """A configuration that makes the proof, as a service's log could hold it."""
        services = {"web": {"command": "/usr/bin/touch", "args": [str(self.proof)]}}
        return json.dumps({**self.workspace.config, "services": services})

    def check(self, *said, expect=USAGE):
        result = self.workspace.supervisord("--check", expect=expect)
        for text in said:
            self.assertIn(text, result.stderr)
        return result


@needs_root
class Configuration(Attacked):
    def test_in_anothers_directory_it_is_refused_at_start_and_at_reload(self):
        home = self.directory("home")
        self.move_config_to(home)
        self.workspace.config_file.chmod(0o600)
        self.workspace.start()
        pid = self.workspace.pid("web")
        os.chown(home, NOBODY, NOBODY)
        log = self.file(self.workspace.log_dir / "web.log", self.attack())  # root owns it, the service writes it
        as_user(NOBODY, "mv", self.workspace.config_file, home / "old")
        as_user(NOBODY, "ln", "-s", log, self.workspace.config_file)
        said = f"lies below {home}, which belongs to uid {NOBODY}"
        self.assertIn(said, self.workspace.ctl("reload", expect=USAGE).stderr)
        self.assertEqual(self.workspace.pid("web"), pid)
        self.check(said, "--trust-files any")
        # The next daemon goes on with what is in force, and reads nothing there.
        kill(self.workspace.version()["pid"])
        wait_until(lambda: self.workspace.pid("web") == pid, "the next daemon")
        self.assertFalse(self.proof.exists())

    def test_each_way_to_it_that_somebody_else_controls(self):
        config = self.attack()
        group = self.directory("group", mode=0o775)
        os.chown(group, 0, NOBODY)
        sticky = self.directory("sticky", mode=0o1777)
        his = self.directory("his", uid=NOBODY)
        root = self.directory("root")
        good = self.file(root / "good.json", config)
        as_user(NOBODY, "ln", "-s", root, sticky / "link")
        as_user(NOBODY, "ln", "-s", good, sticky / "link.json")
        (his / "sub").mkdir()
        (root / "to_his").symlink_to(his)
        (root / "dots").symlink_to("../his/sub/../sub")
        (sticky / "hard.json").hardlink_to(good)
        cases = {
            self.file(group / "c.json", config): f"lies below {group}, which is writable by the group {NOBODY}",
            self.file(his / "sub" / "c.json", config): f"lies below {his}, which belongs to uid {NOBODY}",
            root / "to_his" / "sub" / "c.json": f"lies below {his}, which belongs to uid {NOBODY}",
            root / "dots" / "c.json": f"lies below {his}, which belongs to uid {NOBODY}",
            sticky / "link" / "good.json": f"lies behind the symbolic link {sticky}/link, which belongs to uid {NOBODY}",
            sticky / "link.json": f"is a symbolic link, which belongs to uid {NOBODY}",
            sticky / "hard.json": "has 2 names (hard links)",
            self.file(sticky / "his.json", config, uid=NOBODY): f"belongs to uid {NOBODY}",
            self.file(root / "open.json", config, mode=0o666): "is writable by everyone (mode 0666)",
            self.file(root / "his.json", config, uid=NOBODY, mode=0o600): f"belongs to uid {NOBODY}",
        }
        for path, said in cases.items():
            with self.subTest(path=path):
                self.workspace.config_file = path
                self.check(said)
        (sticky / "hard.json").unlink()
        for path in (good, self.file(sticky / "mine.json", config, mode=0o600)):
            self.workspace.config_file = path
            self.check(expect=0)

    def test_included_files_and_their_directory(self):
        conf_d = self.directory("conf.d")
        self.workspace.config["global"]["include"] = ["conf.d/*.json"]
        self.workspace.write_config()
        included = self.file(conf_d / "a.json", json.dumps({"services": {"a": sleeper()}}))
        self.check(expect=0)
        os.chown(conf_d, NOBODY, NOBODY)
        self.check(f"{included}: lies below {conf_d}, which belongs to uid {NOBODY}", "(included by ")
        os.chown(conf_d, 0, 0)
        included.unlink()
        included.symlink_to(self.file(self.dir / "elsewhere.json", json.dumps({"services": {}})))
        os.lchown(included, NOBODY, NOBODY)
        self.check("is a symbolic link, which belongs to uid")

    def test_a_log_is_no_configuration(self):
        logs = self.directory("log")
        self.file(logs / "web.log", json.dumps({"services": {"evil": {"command": "/usr/bin/touch"}}}))
        self.workspace.config["global"]["include"] = ["log/web.*"]
        self.workspace.write_config()
        self.check(f"{logs}/web.log: has a log's name, in the directory where services' output goes")

    def test_an_ordinary_users_daemon_obeys_root_and_himself_alone(self):
        self.move_config_to(self.directory("home", uid=OTHER))
        for uid, expect in ((0, 0), (OTHER, 0), (NOBODY, USAGE)):
            with self.subTest(uid=uid):
                os.chown(self.workspace.config_file, uid, uid)
                result = self.workspace.supervisord("--check", expect=expect, preexec_fn=become(OTHER))
                self.assertEqual(f"who could so run anything as uid {OTHER}" in result.stderr, expect == USAGE)


@needs_root
class WayOut(Attacked):
    def test_trust_files_any_holds_for_every_later_daemon_reload_and_upgrade(self):
        self.workspace.config_file.unlink()
        image = self.directory("image", uid=1000, mode=0o777)
        self.move_config_to(image)
        self.file(image / "env", "FROM_FILE=yes\n", uid=1000)
        self.file(image / "hook.sh", "#!/bin/sh\necho hooked > ../hooked\n", uid=1000, mode=0o755)
        web = shell("echo $FROM_FILE; exec sleep 1000000", environment_file="env")
        web["hooks"] = {"pre_start": {"command": "./hook.sh"}}
        self.workspace.write_config({"web": web})
        os.chown(self.workspace.config_file, 1000, 1000)
        self.check("--trust-files any")
        self.workspace.supervisord("--check", "--trust-files=any", expect=0)
        self.workspace.arguments = ["--trust-files", "any"]
        self.workspace.start()
        self.workspace.wait_log("web", "yes")
        self.assertEqual((self.dir / "hooked").read_text(), "hooked\n")
        first = self.workspace.version()["pid"]
        kill(first)
        wait_until(lambda: self.workspace.version()["pid"] != first, "the next daemon")
        second = self.workspace.version()["pid"]
        self.workspace.ctl("upgrade")
        wait_until(lambda: self.workspace.version()["pid"] != second, "the new program's daemon")
        web["description"] = "new"
        self.workspace.write_config({"web": web})
        os.chown(self.workspace.config_file, 1000, 1000)
        self.workspace.ctl("reload")
        self.workspace.ctl("restart", "web")

    def test_the_rule_is_one_of_two(self):
        for rule in ("everything", ""):
            result = self.workspace.supervisord("--check", f"--trust-files={rule}", expect=USAGE)
            self.assertIn(f"--trust-files {rule}: no such rule (expected strict or any)", result.stderr)
        self.workspace.supervisord("--check", "--trust-files", "strict", expect=0)

    def test_what_cannot_be_exchanged_is_trusted(self):
        """As Kubernetes mounts a ConfigMap: a directory of mode 0777 with links, read-only."""
        place = self.directory("configmap")

        def fill():
            data = place / "..2026"
            data.mkdir()
            (data / "supervisor_config.json").write_text(json.dumps(self.workspace.config))
            (data / "supervisor_config.json").chmod(0o666)
            (place / "..data").symlink_to("..2026")
            (place / "supervisor_config.json").symlink_to("..data/supervisor_config.json")
            place.chmod(0o777)
            for path in (place, data, data / "supervisor_config.json", place / "..data", place / "supervisor_config.json"):
                os.lchown(path, 1000, 1000)

        self.workspace.config_file = place / "supervisor_config.json"
        prepare = private_read_only(place, fill)
        self.assertEqual(
            run([SUPERVISORD, "-c", self.workspace.config_file, "--check"], expect=0, preexec_fn=prepare).stderr, ""
        )
        self.workspace.launch(preexec_fn=prepare)
        self.workspace.wait_ready()
        self.workspace.config_file = self.dir / "copy.json"  # outside the file is not there
        self.workspace.write_config()
        first = self.workspace.version()["pid"]
        kill(first)
        wait_until(lambda: self.workspace.version()["pid"] != first, "the next daemon")
        self.workspace.ctl("reload")


class StandardInput(Scenario):
    """The configuration comes by a pipe, which can be read once; the daemon goes on with it whatever happens."""

    def config(self, workspace):
        services = {"web": shell("pwd; exec sleep 1000000"), "other": sleeper()}
        return json.dumps({**workspace.config, "services": services})

    def start(self, daemon, file, *args, **options):
        daemon.config_file.unlink()
        return run([SUPERVISORD, "-c", file, "--daemon", *args], env=daemon.env, cwd=daemon.dir, **options)

    def check_life(self, daemon):
        daemon.wait_state("web", "running")
        daemon.wait_log("web", str(daemon.dir))  # where it was started, not /dev
        pid = daemon.pid("web")
        for end in ("killed", "upgraded"):
            with self.subTest(end=end):
                before = daemon.version()["pid"]
                if end == "killed":
                    kill(before)
                else:
                    daemon.ctl("upgrade")
                wait_until(lambda: daemon.version()["pid"] != before, "the next daemon")
                self.assert_becomes(lambda: daemon.status("web")["pid"], pid)
        reload = daemon.ctl_json("reload")
        self.assertEqual(sorted(reload["unchanged"]), ["other", "web"])
        self.assertEqual(daemon.pid("web"), pid)
        run([SUPERVISORCTL, "--socket", daemon.socket, "shutdown"], expect=DONE)
        wait_until(lambda: not daemon.processes(), "everything to be gone")
        self.assertEqual(list(daemon.dir.glob("s.state/*")), [])

    def test_a_pipe(self):
        with Daemon(started=False) as daemon:
            self.start(daemon, "/dev/stdin", input=self.config(daemon), expect=0)
            self.check_life(daemon)

    def test_a_dash_and_the_foreground(self):
        with Daemon(started=False) as daemon:
            with open(daemon.stderr_file, "ab") as log, subprocess.Popen(
                [SUPERVISORD, "-c", "-"], stdin=subprocess.PIPE, stdout=log, stderr=log, env=daemon.env, cwd=daemon.dir
            ) as process:
                process.stdin.write(self.config(daemon).encode())
                process.stdin.close()
                daemon.config_file.unlink()
                daemon.wait_ready()
                self.check_life(daemon)
                self.assertEqual(process.wait(30 * SCALE), 0)

    def test_without_a_guardian(self):
        with Daemon(started=False) as daemon:
            self.start(daemon, "/dev/stdin", "--no-guardian", input=self.config(daemon), expect=0)
            daemon.wait_log("web", str(daemon.dir))
            pid = daemon.pid("web")
            daemon.ctl("upgrade")
            self.assert_becomes(lambda: daemon.status("web")["pid"], pid)
            daemon.ctl("shutdown")
            wait_until(lambda: not daemon.processes(), "everything to be gone")

    def test_another_descriptor_and_a_file(self):
        with Daemon(started=False) as daemon:
            text = daemon.dir / "text.json"
            text.write_text(self.config(daemon))
            fd = os.open(text, os.O_RDONLY)
            os.set_inheritable(fd, True)
            try:
                self.start(daemon, f"/dev/fd/{fd}", pass_fds=[fd], expect=0)
            finally:
                os.close(fd)
            self.check_life(daemon)

    def test_what_it_includes_is_read_again(self):
        with Daemon(started=False) as daemon:
            (daemon.dir / "conf.d").mkdir()
            daemon.config["global"]["include"] = ["conf.d/*.json"]
            self.start(daemon, "/dev/stdin", input=self.config(daemon), expect=0)
            (daemon.dir / "conf.d" / "a.json").write_text(json.dumps({"services": {"added": sleeper()}}))
            self.assertEqual(daemon.ctl_json("reload")["added"], ["added"])
            daemon.wait_state("added", "running")
            daemon.ctl("shutdown")
            wait_until(lambda: not daemon.processes(), "everything to be gone")

    def test_check_status_and_what_is_wrong_with_it(self):
        with Workspace() as workspace:
            command = [SUPERVISORD, "-c", "/dev/stdin"]
            config = self.config(workspace)
            self.assertIn("/dev/stdin: ok, 2 services", run([*command, "--check"], 0, input=config).stdout)
            self.assertIn(str(workspace.socket), run([*command, "--status"], 3, input=config).stdout)
            self.assertIn("/dev/stdin:1:1", run([*command, "--check"], USAGE, input="[]").stderr)
            self.assertIn("/dev/stdin", run(command, USAGE, input="").stderr)
            self.assertIn("/dev/fd/77", run([SUPERVISORD, "-c", "/dev/fd/77", "--check"], USAGE).stderr)
            if os.geteuid() == 0:
                with open(workspace.config_file, "rb") as file:
                    os.chown(workspace.config_file, NOBODY, NOBODY)
                    said = run([*command, "--check"], USAGE, stdin=file).stderr
                self.assertIn(f"/dev/stdin: belongs to uid {NOBODY}", said)


@needs_root
class Programs(Attacked):
    """What root's daemon runs beside its services, and reads for them."""

    def test_hooks_checks_and_stop_commands_that_others_could_exchange_are_not_run(self):
        his = self.directory("his", uid=NOBODY)
        program = self.file(his / "program.sh", f"#!/bin/sh\ntouch {self.proof}\n", uid=NOBODY, mode=0o755)
        said = f"{program}: it lies below {his}, which belongs to uid {NOBODY}"
        once = {"mode": "never"}
        services = {
            "hook": sleeper(hooks={"pre_start": {"command": str(program)}}, restart_policy=once),
            "check": sleeper(
                health_check={"type": "script", "command": str(program), "interval": 0.2, "on_failure": "alert"}
            ),
            "stop": sleeper(graceful_shutdown={"command": str(program), "timeout": 60}),
            "users": sleeper(hooks={"pre_start": {"command": "/usr/bin/env"}}, user=str(NOBODY)),
            "path": sleeper(
                hooks={"pre_start": {"command": "program.sh"}}, environment={"PATH": str(his)}, restart_policy=once
            ),
        }
        self.workspace.write_config(services)
        self.workspace.start()
        for service in ("hook", "path"):
            self.assertIn(said, self.workspace.wait_state(service, "failed")["reason"])
        self.workspace.wait_state("users", "running")
        eventually(
            lambda: self.assertIn(
                said, self.workspace.ctl_json("health", "check", expect=None)["services"][0]["message"]
            )
        )
        self.workspace.wait_state("stop", "running")
        self.workspace.ctl("stop", "stop")  # by its signal, and long before the timeout
        self.assertIn(said, self.workspace.daemon_log.read_text())
        self.assertFalse(self.proof.exists())

    def test_a_hook_of_the_services_user_may_be_his(self):
        his = self.directory("his", uid=NOBODY)
        program = self.file(his / "program.sh", "#!/bin/sh\nid -u > hook-ran\n", uid=NOBODY, mode=0o755)
        web = sleeper(hooks={"pre_start": {"command": str(program)}}, user=str(NOBODY), working_directory=str(his))
        self.workspace.write_config({"web": web})
        self.workspace.start()
        self.workspace.wait_state("web", "running")
        self.assertEqual((his / "hook-ran").read_text(), f"{NOBODY}\n")

    def test_environment_files(self):
        his = self.directory("his", uid=NOBODY)
        secret = self.file(self.dir / "secret.env", "SECRET=of-root\n", mode=0o600)
        own = self.file(his / "own.env", "OWN=mine\n", uid=NOBODY, mode=0o600)
        as_user(NOBODY, "ln", "-s", secret, his / "link.env")
        once = {"mode": "never"}
        script = "echo got $OWN$SECRET; exec sleep 1000000"
        services = {
            "own": shell(script, user=str(NOBODY), environment_file=str(own)),
            "link": shell(script, user=str(NOBODY), environment_file=str(his / "link.env"), restart_policy=once),
            "root": shell(script, environment_file=str(own), restart_policy=once),
        }
        self.workspace.write_config(services)
        self.workspace.start()
        self.workspace.wait_log("own", "got mine")
        for service in ("link", "root"):
            reason = self.workspace.wait_state(service, "failed")["reason"]
            self.assertIn("environment_file", reason)
            self.assertIn(f"belongs to uid {NOBODY}", reason)
        self.assertNotIn(b"of-root", self.workspace.log("link"))

    def test_a_notification_command_that_others_could_exchange(self):
        his = self.directory("his", uid=NOBODY)
        program = self.file(his / "program.sh", f"#!/bin/sh\ntouch {self.proof}\n", uid=NOBODY, mode=0o755)
        channel = {"type": "command", "command": str(program)}
        self.workspace.config["notifications"] = {"channels": [channel], "min_interval": 0}
        failing = shell("exit 1", restart_policy={"mode": "never"}, critical=True)
        self.workspace.write_config({"web": failing})
        self.workspace.start()
        eventually(lambda: self.assertIn(f"{program}: it lies below {his}", self.workspace.daemon_log.read_text()))
        self.assertFalse(self.proof.exists())


@needs_root
class RuntimeDirectory(Scenario):
    """Of an ordinary user (OTHER) whose daemon has no XDG_RUNTIME_DIR, and of root; the attacker was there before."""

    def setUp(self):
        self.workspace = Workspace({"web": sleeper()})
        self.workspace.__enter__()
        self.addCleanup(self.workspace.__exit__, None, None, None)
        self.home = self.workspace.dir / "home"
        self.home.mkdir()
        self.runtime = pathlib.Path(f"/tmp/supervisord-{OTHER}")
        self.addCleanup(shutil.rmtree, self.runtime, ignore_errors=True)
        shutil.rmtree(self.runtime, ignore_errors=True)
        self.config = self.home / "c.json"
        places = {key: str(self.home / key) for key in ("log_directory", "pid_directory", "database", "log_file")}
        self.config.write_text(json.dumps({"version": "1.0", "global": places, "services": {"web": sleeper()}}))
        os.chown(self.home, OTHER, OTHER)
        self.env = {**self.workspace.env, "HOME": str(self.home)}

    def victim(self, *argv, expect):
        return run(argv, expect, env=self.env, preexec_fn=become(OTHER))

    def test_one_that_was_made_beforehand_is_refused(self):
        as_user(NOBODY, "mkdir", "-m", "0777", self.runtime)
        said = self.victim(SUPERVISORD, "-c", self.config, "--daemon", expect=FAILED).stderr
        self.assertIn(f"runtime directory {self.runtime}: belongs to uid {NOBODY}", said)
        self.assertIn("XDG_RUNTIME_DIR", said)
        self.assertEqual(list(self.runtime.iterdir()), [])
        as_user(NOBODY, "rmdir", self.runtime)
        self.runtime.symlink_to(self.home)
        os.lchown(self.runtime, NOBODY, NOBODY)
        said = self.victim(SUPERVISORD, "-c", self.config, "--daemon", expect=FAILED).stderr
        self.assertIn("is a symbolic link, which belongs to uid", said)
        self.runtime.unlink()
        self.victim(SUPERVISORD, "-c", self.config, "--daemon", expect=0)
        self.victim(SUPERVISORCTL, "status", expect=None)
        self.victim(SUPERVISORD, "-c", self.config, "--stop", expect=0)

    def test_a_planted_configuration_in_force_is_not_obeyed(self):
        self.victim(SUPERVISORD, "-c", self.config, "--daemon", expect=0)
        state = self.runtime / "supervisord.state"
        in_force = state / "applied.config"
        wait_until(in_force.exists, "the configuration in force")
        os.chown(in_force, NOBODY, NOBODY)
        before = json.loads(self.victim(SUPERVISORCTL, "--json", "version", expect=DONE).stdout)["daemon"]["pid"]
        kill(before)

        def next_daemon():
            result = self.victim(SUPERVISORCTL, "--json", "version", expect=None)
            return result.returncode == DONE and json.loads(result.stdout)["daemon"]["pid"] != before

        wait_until(next_daemon, "the next daemon", timeout=20)
        log = (self.home / "log_file").read_text()
        self.assertIn(f"belongs to uid {NOBODY}", log)
        self.assertIn("the configuration that was in force is unusable", log)
        self.victim(SUPERVISORD, "-c", self.config, "--stop", expect=0)

    def test_a_state_directory_that_others_may_write_is_refused(self):
        with Workspace({"web": sleeper()}) as workspace:
            state = workspace.dir / "s.state"
            state.mkdir()
            state.chmod(0o777)
            said = workspace.supervisord("--daemon", expect=FAILED).stderr
            self.assertIn(f"runtime directory {state}: others may write in it (mode 0777)", said)
            if state.exists():
                state.rmdir()
            lock = workspace.dir / "s.lock"
            lock.write_text("")
            os.chown(lock, NOBODY, NOBODY)
            said = workspace.supervisord("--daemon", expect=FAILED).stderr
            self.assertIn(f"lock file {lock} belongs to uid {NOBODY}", said)

    def test_the_client_talks_to_no_strangers_daemon(self):
        as_user(NOBODY, "mkdir", "-m", "0755", self.runtime)
        socket = self.runtime / "supervisord.sock"
        source = (
            "import socket, sys\n"
            "s = socket.socket(socket.AF_UNIX)\ns.bind(sys.argv[1])\ns.listen()\n"
            "import os; os.chmod(sys.argv[1], 0o777)\nprint('listens', flush=True)\n"
            "c, _ = s.accept()\nprint('got', c.recv(10), flush=True)\nsys.stdin.read()\n"
        )
        argv = [PYTHON, "-c", source, str(socket)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        for options in ([], ["--socket", socket]):
            with self.subTest(options=options), subprocess.Popen(argv, preexec_fn=become(NOBODY), **pipes) as stranger:
                try:
                    self.assertEqual(stranger.stdout.readline(), "listens\n")
                    said = self.victim(SUPERVISORCTL, *options, "status", expect=UNREACHABLE).stderr
                    self.assertIn(f"nothing was sent to {socket}: uid {NOBODY} listens there", said)
                    self.assertEqual(stranger.stdout.readline(), "got b''\n")
                finally:
                    stranger.kill()
                    stranger.wait()
                    with contextlib.suppress(FileNotFoundError):
                        socket.unlink()


@needs_root
class PidFiles(Scenario):
    def test_a_pid_directory_of_another_is_refused(self):
        with Workspace({"web": sleeper()}) as workspace:
            workspace.pid_dir.mkdir()
            os.chown(workspace.pid_dir, NOBODY, NOBODY)
            said = workspace.supervisord("--daemon", expect=FAILED).stderr
            self.assertIn(f"global.pid_directory {workspace.pid_dir}: belongs to uid {NOBODY}", said)
        with Daemon({"web": sleeper(user=str(NOBODY))}, started=False) as daemon:
            daemon.pid_dir.mkdir()
            os.chown(daemon.pid_dir, NOBODY, NOBODY)
            daemon.start()
            daemon.wait_state("web", "running")
            self.assertEqual(int(daemon.pid_file("web").read_text()), daemon.pid("web"))

    def test_stop_signals_nobody_whom_a_forged_pid_file_names(self):
        with Workspace() as workspace:
            his = workspace.dir / "his"
            his.mkdir()
            os.chown(his, NOBODY, NOBODY)
            workspace.config["global"]["socket"] = str(his / "s.sock")
            workspace.write_config()
            victim = subprocess.Popen(["/bin/sleep", "1000"])
            self.addCleanup(victim.wait)
            self.addCleanup(victim.kill)
            source = (
                "import fcntl, sys\nf = open(sys.argv[1], 'w')\nfcntl.flock(f, fcntl.LOCK_EX)\n"
                "open(sys.argv[2], 'w').write(sys.argv[3])\nprint('held', flush=True)\nsys.stdin.read()\n"
            )
            argv = [PYTHON, "-c", source, his / "s.lock", his / "s.pid", str(victim.pid)]
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
            with subprocess.Popen(argv, preexec_fn=become(NOBODY), **pipes) as attacker:
                try:
                    self.assertEqual(attacker.stdout.readline(), "held\n")
                    said = workspace.supervisord("--stop", expect=FAILED).stderr
                    self.assertIn(f"names pid {victim.pid}, which is no supervisord of the owner of", said)
                    self.assertIsNone(victim.poll())
                finally:
                    attacker.kill()


class EnvironmentFiles(Scenario):
    def test_values_arrive_as_a_shell_reads_them(self):
        with Daemon(started=False) as daemon:
            (daemon.dir / "web.env").write_text(
                'DATA="C:\\data\\new"\nLINES="line1\\nline2"\nPEM="-----BEGIN-----\nabc\n-----END-----"\n'
                "export\tJOINED=\"a\"'b'c # comment\n"
            )
            script = "import os; print([os.environ[n] for n in ('DATA', 'LINES', 'PEM', 'JOINED')], flush=True)"
            web = {"command": sys.executable, "args": ["-c", script], "environment_file": "web.env"}
            once = {"restart_policy": {"mode": "never"}}
            (daemon.dir / "dot.env").write_text("A=1\napp.name=x\n")
            daemon.write_config({"web": {**web, **once}, "dot": sleeper(environment_file="dot.env", **once)})
            daemon.start()
            expected = ["C:\\data\\new", "line1\\nline2", "-----BEGIN-----\nabc\n-----END-----", "abc"]
            daemon.wait_log("web", repr(expected))
            reason = daemon.wait_state("dot", "failed")["reason"]
            self.assertIn(f'environment_file {daemon.dir}/dot.env: line 2: "app.name" can\'t be the name', reason)


if __name__ == "__main__":
    main()
