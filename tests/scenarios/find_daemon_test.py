"""--stop and --status find the daemon whatever has become of the configuration file, or say that they cannot."""

import json
import os
import shutil
import tempfile

from harness import (
    FAILED,
    NOT_RUNNING,
    SUPERVISORD,
    USAGE,
    Daemon,
    Scenario,
    Workspace,
    main,
    needs_root,
    run,
    sleeper,
)

CANNOT_TELL = "whether one runs cannot be told"


def broken_variants(text, socket):
    """Names and texts of what a hand or a crash makes of a good configuration."""
    return {
        "cut off": text[: text.index('"services"')],
        "a comma too many": text.replace('"services"', ', "services"', 1),
        "a comma too few": text.replace('",', '"', 1),
        "a brace too few": text.rstrip()[:-1],
        "a comment": "// mine\n" + text,
        "a byte order mark": "\ufeff" + text,
        "a key twice": text.replace('"version": "1.0"', '"version": "1.0", "version": "1.0"', 1),
        "nonsense": "{ nonsense",
        "empty": "",
        "no socket": json.dumps({"version": "1.0", "services": {}}),
        "a socket mistyped": text.replace('"socket"', '"sockett"', 1),
        "a socket of another type": text.replace(f'"{socket}"', "7", 1),
        "an unset variable": text.replace(f'"{socket}"', '"${SCENARIO_UNSET}/s.sock"', 1),
        "an error elsewhere": text.replace('"command"', '"comand"', 1),
    }


class FindDaemon(Scenario):
    def assert_cannot_tell(self, result, *words):
        self.assertIn(CANNOT_TELL, result.stderr)
        for word in words:
            self.assertIn(word, result.stderr)
        self.assertNotIn("not running", result.text)

    def test_a_file_that_was_spoilt_since_the_start(self):
        for arguments in ([], ["--no-guardian"]):
            with Daemon({"web": sleeper()}, started=False) as daemon:
                daemon.arguments = arguments
                daemon.start()
                good = daemon.config_file.read_text()
                for name, text in broken_variants(good, daemon.socket).items():
                    with self.subTest(name=name, arguments=arguments):
                        daemon.write_text(text)
                        result = daemon.supervisord("--status", expect=0)
                        self.assertIn(f"pid {daemon.process.pid}", result.stdout)
                daemon.write_text("{ nonsense")
                daemon.stop()

    def test_a_file_that_was_removed_or_names_another_socket_by_now(self):
        for change in ("removed", "moved", "other socket", "default socket"):
            with self.subTest(change=change), Daemon({"web": sleeper()}) as daemon:
                daemon.wait_state("web", "running")
                if change == "removed":
                    daemon.config_file.unlink()
                elif change == "moved":
                    daemon.config_file.rename(daemon.dir / "moved.json")
                elif change == "other socket":
                    daemon.config["global"]["socket"] = str(daemon.dir / "other.sock")
                    daemon.write_config()
                else:
                    del daemon.config["global"]["socket"]
                    daemon.write_config()
                result = daemon.supervisord("--status", expect=0)
                self.assertIn(str(daemon.socket), result.stdout)
                daemon.stop()

    def test_another_broken_file_that_still_shows_the_socket(self):
        with Daemon({"web": sleeper()}) as daemon:
            daemon.wait_state("web", "running")
            other = daemon.dir / "copy.json"
            for name in ("cut off", "a comma too many", "a brace too few", "a comment"):
                other.write_text(broken_variants(daemon.config_file.read_text(), daemon.socket)[name])
                result = run([SUPERVISORD, "-c", other, "--status"], 0, env=daemon.env)
                self.assertIn("copy.json", result.stderr)
            run([SUPERVISORD, "-c", other, "--stop"], 0, env=daemon.env)
            daemon.check_gone()

    def test_a_name_that_was_mistyped_is_no_answer(self):
        with Daemon({"web": sleeper()}) as daemon:
            pid = daemon.wait_state("web", "running")["pid"]
            mistyped = f"{daemon.config_file}x"
            for command in ("--status", "--stop"):
                result = run([SUPERVISORD, "-c", mistyped, command], USAGE, env=daemon.env)
                self.assert_cannot_tell(result, mistyped, "No such file", f"pid {daemon.process.pid}", str(daemon.config_file))
                result = run([SUPERVISORD, "-c", daemon.dir, command], FAILED, env=daemon.env)
                self.assert_cannot_tell(result, "is a directory")
            self.assertEqual(daemon.status("web")["pid"], pid)

    def test_where_none_runs_a_broken_file_is_no_answer_either(self):
        with Workspace({"web": sleeper()}) as workspace:
            for command, code in (("--status", NOT_RUNNING), ("--stop", 0)):
                workspace.supervisord(command, expect=code)
            certain = {"an error elsewhere": NOT_RUNNING}
            for name, text in broken_variants(workspace.config_file.read_text(), workspace.socket).items():
                if name == "no socket":
                    continue  # it is a good configuration, of the default socket
                with self.subTest(name=name):
                    workspace.write_text(text)
                    result = workspace.supervisord("--status", expect=certain.get(name, USAGE))
                    if name not in certain:
                        self.assert_cannot_tell(result, str(workspace.config_file))
                        self.assert_cannot_tell(workspace.supervisord("--stop", expect=USAGE))

    def test_of_two_that_were_started_with_one_file_none_is_chosen(self):
        with Daemon({"web": sleeper()}) as daemon:
            first = daemon.process
            daemon.config["global"]["socket"] = str(daemon.dir / "t.sock")
            for name in ("log_directory", "pid_directory", "database", "log_file"):
                daemon.config["global"][name] += "2"
            daemon.write_config()
            daemon.supervisord("--daemon", expect=0)
            daemon.write_text("{ nonsense")
            result = daemon.supervisord("--stop", expect=FAILED)
            self.assert_cannot_tell(result, str(daemon.dir / "s.sock"), str(daemon.dir / "t.sock"))
            daemon.write_config()
            daemon.supervisord("--stop", expect=0)  # the one that the file names
            self.assertIsNone(first.poll())
            daemon.stop()  # and then the one that was started with it

    @needs_root
    def test_a_file_that_may_not_be_read_has_no_errors(self):
        directory = tempfile.mkdtemp(dir="/tmp")
        try:
            os.chmod(directory, 0o755)
            file = os.path.join(directory, "x.json")
            with open(file, "w", encoding="utf-8") as config:
                config.write('{"version": "1.0", "global": {"socket": "/tmp/none.sock"}, "services": {}}')
            os.chmod(file, 0o600)

            def nobody():
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)

            programs = os.path.join(directory, "supervisord")
            shutil.copy(SUPERVISORD, programs)
            for command in ("--status", "--stop"):
                result = run([programs, "-c", file, command], FAILED, preexec_fn=nobody, cwd="/")
                self.assert_cannot_tell(result, "Permission denied")
                self.assertNotIn("has errors", result.stderr)
            os.chmod(directory, 0o700)
            os.chmod(file, 0o644)
            result = run([SUPERVISORD, "-c", file, "--status"], NOT_RUNNING, cwd="/")
        finally:
            shutil.rmtree(directory)

    def test_without_any_file_the_default_socket_is_asked(self):
        with Workspace() as workspace:
            for variable in ("XDG_CONFIG_HOME", "XDG_RUNTIME_DIR", "HOME"):
                workspace.env[variable] = str(workspace.dir)
            if os.geteuid() == 0:
                self.skipTest("root's default paths are this machine's")
            result = run([SUPERVISORD, "--status"], NOT_RUNNING, env=workspace.env)
            self.assertIn("not running", result.stdout)


if __name__ == "__main__":
    main()
