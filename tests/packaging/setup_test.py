#!/usr/bin/env python3
"""setup.sh and verify.sh as a person uses them, in a copy of the checkout with programs that only record how they are
called: options, menu, order of steps, second run, and what is said when something is wrong."""

import json
import os
import shutil
import socket
import subprocess
import tempfile
import unittest

ROOT = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
TIMEOUT_S = 100
# Keeps "running or not" in a file beside itself and notes each call.
FAKE_DAEMON = r"""#!/usr/bin/env bash
here=$(dirname -- "$0")
echo "supervisord $1" >>"$here/calls"
case "$1" in
    --version) echo "supervisord 0.0-fake" ;;
    --status) [ -e "$here/running" ] || exit 3 ;;
    --check) [ ! -e "$here/bad_config" ] || { echo "FILE:1:2: services.web: unknown key"; exit 2; } ;;
    --init-db) echo "database ready" ;;
    --daemon) [ ! -e "$here/bad_start" ] || { echo "cannot bind the socket"; exit 1; }
              touch "$here/running" ;;
    --stop) rm -f "$here/running" ;;
esac
"""
FAKE_CTL = r"""#!/usr/bin/env bash
here=$(dirname -- "$0")
echo "supervisorctl $*" >>"$here/calls"
case "$*" in
    *version*) echo '{"daemon": {"config_file": "'"$(cat "$here/config_file" 2>/dev/null)"'", "pid": 1}}' ;;
    *status*) echo "SERVICE  STATE" ;;
    *logs*) echo "a line of the log" ;;
esac
"""


class SetupTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="setup test ")  # a blank in the path, on purpose
        self.addCleanup(folder.cleanup)
        self.root = os.path.join(folder.name, "check out")
        for name in ("packaging", "config"):
            shutil.copytree(os.path.join(ROOT, name), os.path.join(self.root, name))
        self.bin = os.path.join(self.root, "build", "release", "bin")
        self.config = os.path.join(self.root, "config", "supervisor_config.json")
        # The shipped ports may be in use on this machine: others, that the kernel has just given out.
        with open(self.config, encoding="utf-8") as file:
            config = json.load(file)
        for service in config["services"].values():
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                service["port"] = probe.getsockname()[1]
        config["global"]["log_directory"] = config["global"]["pid_directory"] = os.path.join(folder.name, "run")
        self.port = config["services"]["architect-prod"]["port"]
        with open(self.config, "w", encoding="utf-8") as file:
            json.dump(config, file)

    def install_fakes(self):
        os.makedirs(self.bin)
        for name, text in (("supervisord", FAKE_DAEMON), ("supervisorctl", FAKE_CTL)):
            path = os.path.join(self.bin, name)
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
            os.chmod(path, 0o755)

    def put(self, name, text=""):
        with open(os.path.join(self.bin, name), "w", encoding="utf-8") as file:
            file.write(text)

    def calls(self, program="supervisord"):
        with open(os.path.join(self.bin, "calls"), encoding="utf-8") as file:
            return [line.split()[1] for line in file if line.startswith(program + " ")]

    def setup(self, *arguments, typed="", script="setup.sh"):
        environment = {key: value for key, value in os.environ.items() if key != "SUPERVISOR_SOCKET"}
        return subprocess.run([os.path.join(self.root, "packaging", script), *arguments], input=typed, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd="/", env=environment,
                              timeout=TIMEOUT_S, check=False)

    def test_help(self):
        result = self.setup("--help")
        self.assertEqual(0, result.returncode)
        for option in ("--auto", "--install-deps", "--build", "--init-db", "--start", "--stop", "--restart", "--status",
                       "--logs", "--config"):
            self.assertIn(option, result.stdout)

    def test_usage_errors(self):
        result = self.setup("--aut")
        self.assertEqual(2, result.returncode)
        self.assertIn("unknown option: --aut", result.stdout)
        self.assertEqual(1, self.setup("--start", "--stop").returncode)
        self.assertEqual(1, self.setup("--config").returncode)

    def test_says_that_nothing_is_built(self):
        for step in ("--start", "--stop", "--status", "--logs", "--init-db"):
            result = self.setup(step)
            self.assertEqual(1, result.returncode, step)
            self.assertIn("setup.sh --build", result.stdout)

    def test_start_stop_status_logs(self):
        self.install_fakes()
        self.assertEqual(3, self.setup("--status").returncode)
        result = self.setup("--start")
        self.assertEqual(0, result.returncode, result.stdout)
        self.assertIn("every enabled service", result.stdout)
        self.assertEqual(0, self.setup("--status").returncode)
        self.assertIn("a line of the log", self.setup("--logs", "reading-app").stdout)
        self.assertEqual(0, self.setup("--stop").returncode)
        self.assertIn("nothing to do", self.setup("--stop").stdout)
        self.assertEqual(3, self.setup("--status").returncode)

    def test_second_start_changes_nothing(self):
        self.install_fakes()
        self.put("config_file", self.config)
        self.setup("--start")
        result = self.setup("--start")
        self.assertEqual(0, result.returncode)
        self.assertIn("runs already", result.stdout)
        self.assertNotIn("note:", result.stdout)
        self.assertEqual(1, self.calls().count("--daemon"))
        self.assertIn("in use by the running daemon", self.setup("--init-db").stdout)
        self.assertNotIn("--init-db", self.calls())

    def test_other_configuration_is_named(self):
        self.install_fakes()
        self.put("running")
        self.put("config_file", "/etc/other.json")
        self.assertIn("another configuration, /etc/other.json", self.setup("--start").stdout)

    def test_bad_configuration_starts_nothing(self):
        self.install_fakes()
        self.put("bad_config")
        result = self.setup("--init-db")
        self.assertEqual(1, result.returncode)
        self.assertIn("FILE:1:2: services.web: unknown key", result.stdout)
        self.put("running")
        self.assertEqual(1, self.setup("--restart").returncode)
        self.assertNotIn("--daemon", self.calls())
        self.assertNotIn("--stop", self.calls(), "a restart with a bad configuration must not take down what runs")

    def test_failed_start_is_told(self):
        self.install_fakes()
        self.put("bad_start")
        result = self.setup("--start")
        self.assertEqual(1, result.returncode)
        self.assertIn("cannot bind the socket", result.stdout)

    def test_port_taken_by_a_stranger_is_told_before_the_start(self):
        self.install_fakes()
        with socket.socket() as stranger:
            stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            stranger.bind(("127.0.0.1", self.port))
            stranger.listen(1)
            result = self.setup("--start")
            self.assertEqual(1, result.returncode)
            self.assertIn(f"port {self.port} of architect-prod cannot be used", result.stdout)
            self.assertNotIn("--daemon", self.calls())
            # Held by a service that an earlier daemon left behind: the new one takes it over.
            run = os.path.join(os.path.dirname(self.root), "run")
            os.makedirs(run)
            with open(os.path.join(run, "architect-prod.pid"), "w", encoding="utf-8") as file:
                file.write(f"{os.getpid()}\n")
            self.assertEqual(0, self.setup("--start").returncode)

    def test_socket_of_the_configuration_is_used(self):
        self.install_fakes()
        with open(self.config, encoding="utf-8") as file:
            config = json.load(file)
        config["global"]["socket"] = "run/own.sock"
        other = os.path.join(self.root, "other.json")
        with open(other, "w", encoding="utf-8") as file:
            json.dump(config, file)
        self.setup("--config", other, "--start")
        with open(os.path.join(self.bin, "calls"), encoding="utf-8") as file:
            self.assertIn(f"supervisorctl --socket {self.root}/run/own.sock --no-color status", file.read())

    def test_menu(self):
        self.install_fakes()
        result = self.setup(typed="nonsense\n\n4\n7\n8\nreading-app\n6\n5\n5\n0\n")
        self.assertEqual(0, result.returncode, result.stdout)
        self.assertIn("no such choice: nonsense", result.stdout)
        self.assertIn("a line of the log", result.stdout)
        self.assertEqual(["--daemon", "--stop", "--daemon", "--stop"],
                         [call for call in self.calls() if call in ("--daemon", "--stop")])

    def test_menu_survives_a_failed_step_and_ends_at_the_end_of_input(self):
        result = self.setup(typed="4\n7\n")
        self.assertEqual(0, result.returncode)
        self.assertEqual(3, result.stdout.count("choice: "))
        self.assertEqual(2, result.stdout.count("not built yet"))
        self.assertNotIn("failed unexpectedly", result.stdout)

    def test_verify_fails_where_nothing_runs(self):
        self.assertEqual(1, self.setup(script="verify.sh").returncode)
        self.install_fakes()
        result = self.setup(script="verify.sh")
        self.assertEqual(1, result.returncode)
        self.assertRegex(result.stdout, r"FAILED.* the daemon runs")
        self.assertRegex(result.stdout.splitlines()[-1], r"^\d+ passed, [1-9]\d* failed$")
        self.assertEqual(2, self.setup("--nonsense", script="verify.sh").returncode)


if __name__ == "__main__":
    unittest.main()
