#!/usr/bin/env python3
"""The demo services as a supervisor sees them: ready soon, a health answer, a line a request, an orderly end."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import unittest
import urllib.error
import urllib.request

FOLDER = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "config", "demo_services"))
TIMEOUT_S = 20


class Service:
    """One demo service on a port that the kernel picks."""

    def __init__(self, program, *arguments):
        self.process = subprocess.Popen([sys.executable, os.path.join(FOLDER, program), "--port", "0", *arguments],
                                        stdout=subprocess.PIPE, text=True, env={**os.environ, "LOG_LEVEL": "info"})
        self.first_line = self.process.stdout.readline()
        self.port = int(re.search(r"127\.0\.0\.1:(\d+)", self.first_line).group(1))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def call(self, path, body=None):
        data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data=data)
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    def end(self, with_signal=signal.SIGTERM):
        """(exit code, what it wrote) after the signal."""
        self.process.send_signal(with_signal)
        output, _ = self.process.communicate(timeout=TIMEOUT_S)
        return self.process.returncode, output


class EveryService(unittest.TestCase):
    PROGRAMS = [("architect.py", "--environment", "qa"), ("reading_app.py",), ("pharma.py",)]

    def test_health_log_and_orderly_end(self):
        for program in self.PROGRAMS:
            for with_signal in (signal.SIGTERM, signal.SIGINT):
                with self.subTest(program=program, signal=with_signal), Service(*program) as service:
                    status, health = service.call("/health")
                    self.assertEqual((200, "ok"), (status, health["status"]))
                    self.assertEqual(404, service.call("/no/such/path")[0])
                    self.assertEqual(405, service.call("/health", {})[0])
                    code, output = service.end(with_signal)
                    self.assertEqual(0, code)
                    self.assertIn("GET /health 200", output)
                    self.assertIn("GET /no/such/path 404", output)

    def test_request_line_is_there_at_once(self):
        with Service("reading_app.py") as service:
            service.call("/books")
            self.assertIn("GET /books 200", service.process.stdout.readline())  # while it still runs

    def test_request_under_way_is_finished(self):
        with Service("architect.py") as service, socket.create_connection(("127.0.0.1", service.port)) as client:
            body = b'{"title": "Slow"}'
            client.sendall(b"POST /tasks HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body))
            service.call("/health")  # the acceptor has the first connection by now
            self.assertIn("GET /health", service.process.stdout.readline())  # written after the answer was sent
            service.process.send_signal(signal.SIGTERM)
            self.assertIn("SIGTERM", service.process.stdout.readline())
            client.sendall(body)
            client.settimeout(TIMEOUT_S)
            answer = b"".join(iter(lambda: client.recv(4096), b""))
            self.assertIn(b"200 OK", answer)
            self.assertEqual(0, service.process.wait(TIMEOUT_S))

    def test_silent_client_does_not_hold_up_the_end(self):
        with Service("architect.py") as service, socket.create_connection(("127.0.0.1", service.port)):
            service.call("/health")
            self.assertEqual(0, service.end()[0])

    def test_port_taken_is_a_clear_error(self):
        with Service("reading_app.py") as service:
            for program in self.PROGRAMS:
                result = subprocess.run([sys.executable, os.path.join(FOLDER, program[0]), "--port", str(service.port)],
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=TIMEOUT_S,
                                        check=False)
                self.assertEqual(1, result.returncode)
                self.assertRegex(result.stderr, f"cannot listen on 127.0.0.1:{service.port}: .*in use; stop the program")

    def test_check_port(self):
        command = [sys.executable, os.path.join(FOLDER, "http_service.py"), "--check-port"]
        with Service("reading_app.py") as service:
            self.assertEqual(1, subprocess.run(command + [str(service.port)], stderr=subprocess.DEVNULL,
                                               timeout=TIMEOUT_S, check=False).returncode)
            service.end()
        self.assertEqual(0, subprocess.run(command + [str(service.port)], timeout=TIMEOUT_S, check=False).returncode)

    def test_bad_bodies(self):
        with Service("architect.py") as service:
            self.assertEqual(400, service.call("/tasks", b"no json")[0])
            self.assertEqual(400, service.call("/tasks", [1, 2])[0])
            self.assertEqual(413, service.call("/tasks", b'"' + b"x" * 70000 + b'"')[0])
            self.assertEqual(200, service.call("/health")[0])


class Architect(unittest.TestCase):
    def test_plan_follows_the_dependencies(self):
        with Service("architect.py", "--environment", "prod") as service:
            self.assertEqual(["survey"], service.call("/plan")[1]["next"])
            self.assertEqual(409, service.call("/tasks/roof/done", {})[0])
            self.assertEqual(200, service.call("/tasks/survey/done", {})[0])
            self.assertEqual(["foundation"], service.call("/plan")[1]["next"])
            self.assertEqual(404, service.call("/tasks", {"title": "x", "after": ["nothing"]})[0])
            self.assertEqual(400, service.call("/tasks", {"title": " "})[0])
            self.assertEqual("paint-it", service.call("/tasks", {"title": "Paint it!", "after": ["roof"]})[1]["id"])
            self.assertEqual("paint-it-2", service.call("/tasks", {"title": "Paint it"})[1]["id"])
            self.assertEqual(["foundation", "walls", "roof", "paint-it", "paint-it-2"], service.call("/plan")[1]["order"])


class ReadingApp(unittest.TestCase):
    def test_shelf(self):
        with Service("reading_app.py") as service:
            self.assertEqual(5, len(service.call("/books")[1]["books"]))
            self.assertEqual(2, len(service.call("/books?author=eliot")[1]["books"]))
            self.assertEqual(200, service.call("/books/emma/progress", {"page": 474})[0])
            self.assertEqual(400, service.call("/books/emma/progress", {"page": 475})[0])
            self.assertEqual(400, service.call("/books/emma/progress", {"page": "7"})[0])
            self.assertEqual(404, service.call("/books/ulysses")[0])
            self.assertEqual(474, service.call("/books/emma")[1]["page"])


class Pharma(unittest.TestCase):
    def test_stock_and_reorder(self):
        with Service("architect.py") as architect, \
                Service("pharma.py", "--tasks-url", f"http://127.0.0.1:{architect.port}/tasks") as pharma:
            self.assertEqual(409, pharma.call("/inventory/plasters/take", {"quantity": 46})[0])
            self.assertEqual(400, pharma.call("/inventory/plasters/take", {"quantity": 0})[0])
            self.assertEqual(404, pharma.call("/inventory/gold/take", {"quantity": 1})[0])
            self.assertEqual(10, pharma.call("/inventory/plasters/take", {"quantity": 35})[1]["quantity"])
            self.assertEqual(["plasters", "saline"], [item["sku"] for item in pharma.call("/inventory/low")[1]["items"]])
            self.assertEqual(200, architect.call("/tasks/reorder-plasters")[0])
            self.assertEqual(110, pharma.call("/inventory/plasters/add", {"quantity": 100})[1]["quantity"])

    def test_goes_on_when_nobody_takes_the_task(self):
        with Service("architect.py") as gone:
            gone.end()
        with Service("pharma.py", "--tasks-url", f"http://127.0.0.1:{gone.port}/tasks") as pharma:
            self.assertEqual(200, pharma.call("/inventory/plasters/take", {"quantity": 45})[0])
            self.assertIn("no task could be made of it", pharma.end()[1])


if __name__ == "__main__":
    unittest.main()
