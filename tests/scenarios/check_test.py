"""`supervisorctl check`: one health check now, without a daemon and without a configuration."""

import os
import pathlib
import shutil
import signal
import socket
import subprocess

from harness import DONE, FAILED, NOT_RUNNING, SUPERVISORCTL, TIMED_OUT, TIMESTAMP, USAGE
from harness import Scenario, Workspace, main, process_stat, refused_port, wait_until
from harness.servers import GrpcServer, Nginx, Rude, silent


def commands_with(text):
    """Live processes whose command line holds the text."""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if text.encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            pass
    return [pid for pid in found if pid != os.getpid()]


class Check(Scenario):
    def setUp(self):
        self.workspace = Workspace()
        self.addCleanup(self.workspace.remove)

    def check(self, *args, expect=DONE, **options):
        """No daemon runs, and the socket that is given does not exist."""
        return self.workspace.ctl("check", *args, expect=expect, cwd=self.workspace.dir, **options)

    def test_http(self):
        locations = (
            'location = /ok { return 200 "all is well"; }\n'
            'location = /ill { return 503 "ill"; }\n'
            "location = /moved { return 302 /ok; }\n"
            'location = /method { return 200 "$request_method $http_x_probe"; }'
        )
        with Nginx(self.workspace.dir / "nginx", locations) as nginx:
            result = self.check("http", nginx.url("/ok"))
            self.assertRegex(result.stdout, r"^healthy: HTTP 200 in \d+ ms\n$")
            self.assertEqual(result.stderr, "")
            result = self.check("http", nginx.url("/ill"), expect=NOT_RUNNING)
            self.assertEqual(result.stdout, "unhealthy: HTTP 503 (expected 200)\n")
            self.check("http", nginx.url("/ill"), "--expected-status", "200,503")
            self.check("http", nginx.url("/moved"))
            self.check("http", "--no-follow-redirects", nginx.url("/moved"), expect=NOT_RUNNING)
            self.check("http", nginx.url("/ok"), "--expected-content=is well")
            self.check("http", nginx.url("/ok"), "--expected-regex", "^all .* well$")
            self.check("http", nginx.url("/ok"), "--expected-regex", "^well", expect=NOT_RUNNING)
            self.check("http", nginx.url("/method"), "--method", "POST", "--header", "X-Probe: yes",
                       "--expected-content", "POST yes")  # fmt: skip
            self.check("http", "--unix-socket", nginx.unix_socket, "http://localhost/ok")
            # A shell has replaced variables, so nothing is replaced again.
            told = self.check("http", nginx.url("/ok"), "--expected-content", "${HOME} $${", expect=NOT_RUNNING)
            self.assertIn('lacks "${HOME} $${"', told.stdout)

    def test_json(self):
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = str(server.getsockname()[1])
            good = self.check("--json", "tcp", "127.0.0.1", port).json
            self.assertEqual((good["health"], good["check_type"], good["timed_out"]), ("healthy", "tcp", False))
            self.assertRegex(good["timestamp"], TIMESTAMP)
            self.assertGreaterEqual(good["response_time_ms"], 0)
        self.assertEqual(good["target"], f"127.0.0.1:{port}")
        bad = self.workspace.ctl("--json", "check", "tcp", "127.0.0.1", port, expect=NOT_RUNNING).json
        self.assertEqual(bad["health"], "unhealthy")
        self.assertIn("refused", bad["message"])

    def test_tcp(self):
        with Rude(lambda peer, _: peer.sendall(b"220 ready\r\n")) as server:
            self.check("tcp", "127.0.0.1", server.port)
            self.check("tcp", "127.0.0.1", server.port, "--expected-content", "220 ")
        with refused_port() as port:
            self.check("tcp", "127.0.0.1", port, expect=NOT_RUNNING)

    def test_what_does_not_answer_is_told_apart_from_what_is_ill(self):
        with Rude(silent) as server:
            result = self.check("http", "--timeout", "0.3", server.url, expect=TIMED_OUT)
            self.assertIn("unhealthy: timed out after 300 ms", result.stdout)
            self.check("grpc", "--timeout", "0.3", "127.0.0.1", server.port, expect=TIMED_OUT)
            self.assertTrue(
                self.check("--json", "http", "--timeout", "0.1", server.url, expect=TIMED_OUT).json["timed_out"]
            )

    def test_process(self):
        child = subprocess.Popen(["sleep", "1000000"])
        try:
            self.check("process", child.pid)
            self.check("process", "--max-memory-mb", "0.001", child.pid, expect=NOT_RUNNING)
            child.send_signal(signal.SIGSTOP)
            wait_until(lambda: process_stat(child.pid)[0] == "T", "it to be stopped")
            self.assertIn("is stopped", self.check("process", child.pid, expect=NOT_RUNNING).stdout)
        finally:
            child.kill()
        wait_until(
            lambda: "zombie" in self.check("process", child.pid, expect=NOT_RUNNING).stdout, "the zombie to be seen"
        )
        child.wait()
        self.assertIn("is gone", self.check("process", child.pid, expect=NOT_RUNNING).stdout)

    def test_script(self):
        script = self.workspace.dir / "check.sh"
        script.write_text('#!/bin/sh\necho "said $1"\nexit $2\n')
        script.chmod(0o755)
        self.assertEqual(self.check("script", "./check.sh", "--json", "0").stdout, "healthy: exit code 0: said --json\n")
        self.assertIn("exit code 5: said x", self.check("script", "./check.sh", "x", "5", expect=NOT_RUNNING).stdout)
        self.check("script", "--expected-content", "said -x", "--", "./check.sh", "-x", "0")
        self.check("script", "./nothing", expect=NOT_RUNNING)

    def test_a_script_leaves_nothing_behind(self):
        unique = f"99{os.getpid()}.5"
        leaves = f"sleep {unique} & setsid sleep {unique} & "
        self.check("script", "--timeout", "0.3", "/bin/sh", "-c", leaves + "wait", expect=TIMED_OUT)
        self.assertEqual(commands_with(unique), [])
        self.check("script", "/bin/sh", "-c", leaves + "true")
        self.assertEqual(commands_with(unique), [])

    def test_a_signal_ends_it_and_its_script(self):
        unique = f"98{os.getpid()}.5"
        for number in (signal.SIGINT, signal.SIGTERM):
            argv = [SUPERVISORCTL, "check", "script", "--timeout", "600", "/bin/sh", "-c", f"sleep {unique} & wait"]
            process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, env=self.workspace.client_env)
            wait_until(lambda: any("sleep" == self.name(pid) for pid in commands_with(unique)), "the script to run")
            process.send_signal(number)
            self.assertEqual(process.wait(), -number)
            self.assertEqual(commands_with(unique), [])

    @staticmethod
    def name(pid):
        return pathlib.Path(f"/proc/{pid}/comm").read_text().strip()

    def test_grpc(self):
        with GrpcServer(self.workspace.dir / "g.sock") as server:
            self.assertIn("SERVING", self.check("grpc", "127.0.0.1", server.port).stdout)
            self.check("grpc", "localhost", server.port)
            self.check("grpc", "--unix-socket", self.workspace.dir / "g.sock")
            unknown = self.check("grpc", "127.0.0.1", server.port, "--service", "orders", expect=NOT_RUNNING)
            self.assertIn('"orders"', unknown.stdout)
            server.tell("not_serving orders")
            ill = self.check("grpc", "127.0.0.1", server.port, "--service", "orders", expect=NOT_RUNNING)
            self.assertEqual(ill.stdout, "unhealthy: NOT_SERVING\n")
            server.tell("serving orders")
            self.check("grpc", "127.0.0.1", server.port, "--service", "orders")
        result = self.check("grpc", "127.0.0.1", server.port, expect=NOT_RUNNING)
        self.assertIn("connection refused", result.stdout)
        with Rude(lambda peer, _: peer.sendall(b"HTTP/1.1 200 OK\r\n\r\nno gRPC")) as other:
            self.assertIn("not gRPC", self.check("grpc", "127.0.0.1", other.port, expect=NOT_RUNNING).stdout)

    def test_mistakes_are_told_by_the_names_of_the_command_line(self):
        for args, words in (
            ((), "TYPE"),
            (("htp", "x"), "did you mean http?"),
            (("http",), "URL"),
            (("http", "http://a/", "http://b/"), "URL"),
            (("http", "ftp://a/"), "URL has the scheme"),
            (("http", "http://a/", "--metod", "GET"), "did you mean --method?"),
            (("http", "http://a/", "--method", "GTE"), "--method"),
            (("http", "http://a/", "--expected-regex", "("), "--expected-regex"),
            (("http", "http://a/", "--expected-status", "9"), "--expected-status"),
            (("http", "http://a/", "--expected-status", "ok"), "not a number"),
            (("http", "http://a/", "--header", "nothing"), "--header"),
            (("http", "http://a/", "--timeout", "soon"), "--timeout"),
            (("http", "http://a/", "--timeout", "-1"), "--timeout"),
            (("http", "http://a/", "--timeout"), "needs a value"),
            (("tcp", "127.0.0.1"), "HOST and PORT"),
            (("tcp", "127.0.0.1", "99999"), "PORT"),
            (("tcp", "127.0.0.1", "1", "--method", "GET"), "--method does not go with tcp"),
            (("process", "init"), "no process id"),
            (("script",), "command"),
            (("grpc", "--unix-socket", "/x", "127.0.0.1", "1"), "--unix-socket"),
        ):
            result = self.check(*args, expect=USAGE)
            self.assertIn(words, result.stderr, args)
            self.assertEqual(result.stdout, "")
        for args in (("--help",), ("http", "--help"), ("-h",)):
            self.assertIn("Usage: supervisorctl check", self.check(*args).stdout)
        self.assertIn("check", self.workspace.ctl("--help").stdout)

    def test_without_supervisord_it_says_what_is_missing(self):
        alone = self.workspace.dir / "supervisorctl"
        shutil.copy(SUPERVISORCTL, alone)
        done = subprocess.run(
            [alone, "check", "process", "1"], env={"PATH": "/nonexistent"}, capture_output=True, text=True, check=False
        )
        self.assertEqual(done.returncode, FAILED, done)
        self.assertIn(f"{self.workspace.dir}/supervisord", done.stderr)


if __name__ == "__main__":
    main()
