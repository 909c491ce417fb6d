"""A strict reader of configuration: what is wrong is told all at once, with its place, and nothing is started."""

import json
import os
import re

from harness import Daemon, Scenario, Workspace, main, needs_root, run, sleeper, SUPERVISORD

LOCATED = re.compile(
    r"^(?P<file>[^:\n]+):(?P<line>\d+):(?P<column>\d+): (?P<path>[^:\n]+): (?P<what>.+)$", re.MULTILINE
)


class ConfigCheck(Scenario):
    def check(self, workspace, text=None, expect=2):
        """Runs --check, on the given text or what is written already; answers with its result and the places named."""
        if text is not None:
            workspace.write_text(text)
        result = workspace.supervisord("--check", expect=expect)
        return result, [match.groupdict() for match in LOCATED.finditer(result.text)]

    def errors_of(self, services=None, **sections):
        with Workspace(services) as workspace:
            workspace.config.update(sections)
            workspace.write_config()
            return self.check(workspace)[1]

    def assert_error(self, errors, path, *words):
        found = [error for error in errors if error["path"] == path]
        self.assertTrue(found, f"no error at {path} among {errors}")
        for word in words:
            self.assertTrue(any(word in error["what"] for error in found), f"{word!r} is not in {found}")

    def test_a_good_file_passes(self):
        with Workspace({"web": sleeper()}) as workspace:
            _, errors = self.check(workspace, expect=0)
            self.assertEqual(errors, [])

    def test_what_is_missing_on_this_machine_is_a_warning_with_its_place(self):
        services = {
            "good": sleeper(),
            "bad": {
                "command": "/no/such/program",
                "working_directory": "/no/such/directory",
                "user": "no-such-user",
                "group": "no-such-group",
                "environment_file": "no-such.env",
                "hooks": {"pre_start": {"command": "no-such-hook"}},
            },
            "split": {"command": "/bin/sleep 1000"},
        }
        with Workspace(services) as workspace:
            result, warnings = self.check(workspace, expect=0)
            self.assertRegex(result.stdout, r": ok, 3 services, 7 warnings\n\Z")
            self.assertEqual(len(result.stderr.splitlines()), 7, result.stderr)
            for key, words in (
                ("command", "warning: /no/such/program: No such file"),
                ("working_directory", "warning: /no/such/directory: No such file"),
                ("user", "warning: user no-such-user: no such user"),
                ("group", "warning: group no-such-group: no such group"),
                ("environment_file", "no-such.env: No such file"),
                ("hooks.pre_start.command", "warning: no-such-hook is in none of "),
            ):
                self.assert_error(warnings, f"services.bad.{key}", words)
            self.assert_error(warnings, "services.split.command", '"command": "/bin/sleep", "args": ["1000"]')
            lines = workspace.config_file.read_text().splitlines()
            for warning in warnings:
                key = warning["path"].rsplit(".", 1)[1]
                self.assertIn(f'"{key}"', lines[int(warning["line"]) - 1], warning)

    def test_check_starts_nothing_and_makes_nothing(self):
        with Workspace({"web": sleeper()}) as workspace:
            before = sorted(os.listdir(workspace.dir))
            self.check(workspace, expect=0)
            self.assertEqual(sorted(os.listdir(workspace.dir)), before)
            self.assertEqual(workspace.processes(), [])

    def test_a_file_that_is_missing_is_named(self):
        with Workspace() as workspace:
            workspace.config_file.unlink()
            result = workspace.supervisord("--check", expect=2)
            self.assertIn(str(workspace.config_file), result.stderr)
            self.assertIn("No such file", result.stderr)
            workspace.supervisord(expect=2)

    def test_text_that_is_not_json_is_located(self):
        with Workspace() as workspace:
            result, _ = self.check(workspace, '{\n  "version": "1.0",\n  "services": {,}\n}\n')
            self.assertRegex(result.text, re.escape(str(workspace.config_file)) + r":3:\d+: ")

    def test_trailing_commas_comments_and_empty_files_are_refused(self):
        with Workspace() as workspace:
            for text in ('{"version": "1.0",}', '{"version": "1.0"} // no', "", "null", "[]", '{"version": "1.0"} {}'):
                with self.subTest(text=text):
                    self.check(workspace, text)

    def test_an_unknown_key_is_an_error_with_a_near_miss(self):
        errors = self.errors_of({"web": sleeper(comand="x")})
        self.assert_error(errors, "services.web.comand", "command")
        errors = self.errors_of({"web": sleeper(restart_policy={"max_attemps": 1})})
        self.assert_error(errors, "services.web.restart_policy.max_attemps", "max_attempts")
        self.assert_error(self.errors_of(globl={}), "globl", "global")

    def test_wrong_types_are_errors(self):
        for path, service in (
            ("services.web.enabled", sleeper(enabled="yes")),
            ("services.web.args", sleeper(args="one")),
            ("services.web.args[1]", sleeper(args=["a", 1])),
            ("services.web.priority", sleeper(priority="1")),
            ("services.web.priority", sleeper(priority=1.5)),
            ("services.web.command", sleeper(command=["sleep"])),
            ("services.web.environment.A", sleeper(environment={"A": 1})),
            ("services.web.restart_policy", sleeper(restart_policy=None)),
            ("services.web.restart_policy.delay", sleeper(restart_policy={"delay": "5"})),
        ):
            with self.subTest(path=path):
                self.assert_error(self.errors_of({"web": service}), path)

    def test_values_out_of_range_are_errors(self):
        for path, service in (
            ("services.web.port", sleeper(port=65536)),
            ("services.web.port", sleeper(port=-1)),
            ("services.web.instances", sleeper(instances=0)),
            ("services.web.restart_policy.mode", sleeper(restart_policy={"mode": "sometimes"})),
            ("services.web.restart_policy.delay", sleeper(restart_policy={"delay": -1})),
            ("services.web.restart_policy.max_attempts", sleeper(restart_policy={"max_attempts": -1})),
            ("services.web.graceful_shutdown.signal", sleeper(graceful_shutdown={"signal": "SIGNOPE"})),
            ("services.web.umask", sleeper(umask="999")),
            ("services.web.resource_limits.nice", sleeper(resource_limits={"nice": 20})),
            ("services.web.resource_limits.oom_score_adj", sleeper(resource_limits={"oom_score_adj": 1001})),
            ("services.web.health_check.type", sleeper(health_check={"type": "ping"})),
        ):
            with self.subTest(path=path):
                self.assert_error(self.errors_of({"web": service}), path)

    def test_a_doubled_key_is_an_error(self):
        with Workspace() as workspace:
            _, errors = self.check(
                workspace,
                '{"version": "1.0", "services": {\n'
                '"a": {"command": "true", "command": "false"},\n"a": {"command": "true"}}}',
            )
            self.assert_error(errors, "services.a.command")
            self.assert_error(errors, "services.a")

    def test_dangling_and_circular_dependencies_are_errors(self):
        errors = self.errors_of({"database": sleeper(), "web": sleeper(depends_on=["databse"])})
        self.assertTrue(
            any(
                error["path"].startswith("services.web.depends_on") and "database" in error["what"] for error in errors
            ),
            errors,
        )
        errors = self.errors_of(
            {"a": sleeper(depends_on=["b"]), "b": sleeper(depends_on=["c"]), "c": sleeper(depends_on=["a"])}
        )
        self.assertTrue(any("depends_on" in error["path"] for error in errors), errors)
        errors = self.errors_of({"a": sleeper(depends_on=["a"])})
        self.assertTrue(any("depends_on" in error["path"] for error in errors), errors)

    def test_a_service_id_must_be_well_formed(self):
        for bad in ("../etc", "a/b", "", "-a", ".hidden", "a b", "a:0", "x" * 65):
            with self.subTest(id=bad):
                with Workspace({bad: sleeper()}) as workspace:
                    self.check(workspace)
        with Workspace({"x" * 64: sleeper(), "A0_.-z": sleeper()}) as workspace:
            self.check(workspace, expect=0)

    def test_a_service_without_a_command_is_an_error(self):
        self.assertTrue(
            any(
                error["path"].startswith("services.web") and "command" in error["path"] + error["what"]
                for error in self.errors_of({"web": {"args": ["1"]}})
            )
        )

    def test_every_error_is_told_at_once_with_its_place(self):
        text = """{
  "version": "1.0",
  "global": {"log_levle": "info", "check_interval": "soon"},
  "services": {
    "web": {
      "command": "true",
      "priority": "first",
      "enabled": 1,
      "depends_on": ["nobody"]
    },
    "db": {"command": "true", "command": "true", "instances": 0}
  },
  "surprise": {}
}
"""
        with Workspace() as workspace:
            _, errors = self.check(workspace, text)
            places = {error["path"]: int(error["line"]) for error in errors}
            for path, line in (
                ("global.log_levle", 3),
                ("global.check_interval", 3),
                ("services.web.priority", 7),
                ("services.web.enabled", 8),
                ("services.db.command", 11),
                ("services.db.instances", 11),
                ("surprise", 13),
            ):
                self.assertEqual(places.get(path), line, f"{path}: {errors}")
            self.assertEqual([line for path, line in places.items() if path.startswith("services.web.depends_on")], [9])
            self.assertEqual({error["file"] for error in errors}, {str(workspace.config_file)})

    def test_the_column_points_at_the_place(self):
        text = '{"version": "1.0", "services": {"web": {"command": "true", "port": 70000}}}'
        with Workspace() as workspace:
            _, errors = self.check(workspace, text)
            self.assertEqual([error["path"] for error in errors], ["services.web.port"])
            self.assertIn(int(errors[0]["column"]), (text.index('"port"') + 1, text.index("70000") + 1))

    def test_a_variable_that_is_not_set_is_an_error(self):
        self.assert_error(
            self.errors_of({"web": sleeper(environment={"A": "${SURELY_NOT_SET}"})}),
            "services.web.environment.A",
            "SURELY_NOT_SET",
        )

    def test_a_bad_file_is_refused_at_the_start_with_exit_2(self):
        with Workspace({"web": sleeper(prioritty=1)}) as workspace:
            for arguments in ([], ["--daemon"]):
                result = workspace.supervisord(*arguments, expect=2)
                self.assertRegex(
                    result.stderr, re.escape(str(workspace.config_file)) + r":\d+:\d+: services\.web\.prioritty: "
                )
                self.assertEqual(workspace.processes(), [])
                self.assertFalse(workspace.socket.exists())

    def test_included_files_are_checked_with_their_own_place(self):
        with Workspace({"web": sleeper()}, global_={"include": ["conf.d/*.json"]}) as workspace:
            directory = workspace.dir / "conf.d"
            directory.mkdir()
            (directory / "one.json").write_text('{"services": {\n  "extra": {"command": "true"}}}')
            self.check(workspace, expect=0)
            (directory / "two.json").write_text('{"services": {\n  "other": {"command": "true",\n  "prt": 1}}}')
            _, errors = self.check(workspace)
            self.assertEqual(
                [(error["file"], error["line"], error["path"]) for error in errors],
                [(str(directory / "two.json"), "3", "services.other.prt")],
            )
            (directory / "two.json").write_text('{"services": {"web": {"command": "true"}}}')  # there already
            _, errors = self.check(workspace)
            self.assert_error(errors, "services.web")

    def test_included_services_run(self):
        with Daemon({"web": sleeper()}, global_={"include": ["conf.d/*.json"]}, started=False) as daemon:
            (daemon.dir / "conf.d").mkdir()
            (daemon.dir / "conf.d" / "one.json").write_text(json.dumps({"services": {"extra": sleeper()}}))
            daemon.start()
            daemon.wait_state("extra", "running")

    @needs_root
    def test_root_refuses_a_file_that_others_can_write(self):
        with Workspace({"web": sleeper()}) as workspace:
            workspace.config_file.chmod(0o666)
            result = workspace.supervisord(expect=2)
            self.assertIn(str(workspace.config_file), result.stderr)
            self.assertEqual(workspace.processes(), [])


class CommandLine(Scenario):
    def test_version_names_the_program(self):
        self.assertRegex(run([SUPERVISORD, "--version"], expect=0).stdout, r"^supervisord \d+\.\d+\.\d+")

    def test_help_names_every_option_on_stdout(self):
        result = run([SUPERVISORD, "--help"], expect=0)
        for option in ("-c", "--daemon", "--stop", "--status", "--check", "--version", "--help"):
            self.assertIn(option, result.stdout)

    def test_a_usage_error_is_exit_2_and_says_what_was_wrong(self):
        for arguments in (["--unknown"], ["-c"], ["surplus"], ["--daemon", "--stop"]):
            with self.subTest(arguments=arguments):
                result = run([SUPERVISORD, *arguments], expect=2)
                self.assertTrue(result.stderr.strip())
        self.assertIn("--unknown", run([SUPERVISORD, "--unknown"]).stderr)


if __name__ == "__main__":
    main()
