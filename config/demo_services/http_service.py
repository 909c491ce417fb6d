"""What the demo services share: a small JSON-over-HTTP server that behaves well under a supervisor.

It binds 127.0.0.1 only, is ready within a fraction of a second, answers /health, writes one unbuffered line a request
to stdout, and on SIGTERM or SIGINT finishes the requests under way and exits with code 0. A port that is taken is an
error with a clear message and exit code 1. Python's standard library, nothing else.

    service = HttpService("reading-app", "books and where you stopped reading")
    service.get("/books", list_books)
    sys.exit(service.main(argument_parser(service.purpose).parse_args().port))

A handler takes a Request and returns what is sent as JSON, or raises HttpError. Handlers run on one thread a
connection, one at a time (under the service's lock), so they need no locks of their own.

`http_service.py --check-port N` only tells whether the port is free (exit 0) or not (exit 1): a pre_start hook.
"""

import argparse
import http.server
import json
import os
import re
import signal
import socketserver
import sys
import threading
import time
import urllib.parse

LOOPBACK = "127.0.0.1"
MAX_BODY_BYTES = 64 * 1024
IDLE_CONNECTION_TIMEOUT_S = 3  # below graceful_shutdown.timeout: a silent client must not hold up the end


class HttpError(Exception):
    """An answer that is not 200: raised by a handler, sent as {"error": message}."""

    def __init__(self, status, message):
        super().__init__(message)
        self.status = status
        self.message = message


class Request:
    """What a handler sees: the parts of the path its pattern named, the query and the JSON body (None without one)."""

    def __init__(self, parts, query, body):
        self.parts = parts
        self.query = query
        self.body = body

    def field(self, name, kind, what):
        """A field of the JSON body, checked: HttpError 400 says what was expected."""
        value = self.body.get(name) if isinstance(self.body, dict) else None
        if not isinstance(value, kind) or isinstance(value, bool):
            raise HttpError(400, f'"{name}" is missing or of the wrong type (expected {what})')
        return value


class _Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    # TCPServer rather than HTTPServer: that one looks its own name up in the DNS, which may take seconds.
    allow_reuse_address = True  # a restart must not wait for connections in TIME_WAIT; a live listener still conflicts
    daemon_threads = False      # server_close() waits for the requests under way
    request_queue_size = 128


def argument_parser(description):
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--port", type=int, required=True, help="TCP port on 127.0.0.1; 0: one that is free")
    return parser


class HttpService:
    def __init__(self, name, purpose):
        self.name = name
        self.purpose = purpose
        self._routes = []
        self._lock = threading.Lock()
        self._requests = 0
        self._started = time.monotonic()
        self.log_requests = os.environ.get("LOG_LEVEL", "info") in ("debug", "info")
        self.get("/", lambda _: {"service": self.name, "purpose": self.purpose, "routes": self._route_names()})
        self.get("/health", lambda _: self._health())

    def get(self, pattern, handler):
        self._route("GET", pattern, handler)

    def post(self, pattern, handler):
        self._route("POST", pattern, handler)

    def log(self, message):
        """One line on stdout at once: the supervisor's log shows it while the program still runs."""
        sys.stdout.write(f"{time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime())} {self.name}: {message}\n")
        sys.stdout.flush()

    def main(self, port):
        """Serves until SIGTERM or SIGINT; returns the exit code."""
        # Blocked in every thread and taken by sigwait below: no handler interrupts a request half-way.
        signals = {signal.SIGTERM, signal.SIGINT}
        signal.pthread_sigmask(signal.SIG_BLOCK, signals)
        try:
            server = _Server((LOOPBACK, port), self._handler_class())
        except (OSError, OverflowError) as error:
            print(f"{self.name}: cannot listen on {LOOPBACK}:{port}: {error}; stop the program that has the "
                  "port, or choose another with --port", file=sys.stderr, flush=True)
            return 1
        self.log(f"listening on http://{LOOPBACK}:{server.server_address[1]} (pid {os.getpid()})")
        acceptor = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1})
        acceptor.start()
        name = signal.Signals(signal.sigwait(signals)).name
        self.log(f"{name}: finishing the requests under way")
        server.shutdown()
        acceptor.join()
        server.server_close()
        self.log(f"ended after {self._requests} requests")
        return 0

    def _route(self, method, pattern, handler):
        expression = re.compile(re.sub(r"<(\w+)>", r"(?P<\1>[^/]+)", pattern) + "/?")
        self._routes.append((method, pattern, expression, handler))

    def _route_names(self):
        return [f"{method} {pattern}" for method, pattern, _, _ in self._routes]

    def _health(self):
        return {"status": "ok", "service": self.name, "uptime_seconds": round(time.monotonic() - self._started, 3),
                "requests": self._requests}

    def answer(self, method, target, body):
        """(status, JSON-able answer) for one request. Called by the connections' threads, and by tests."""
        url = urllib.parse.urlsplit(target)
        known_path = False
        for route_method, _, expression, handler in self._routes:
            match = expression.fullmatch(url.path)
            if not match:
                continue
            known_path = True
            if route_method != method:
                continue
            request = Request(match.groupdict(), dict(urllib.parse.parse_qsl(url.query)), body)
            with self._lock:
                self._requests += 1
                try:
                    return 200, handler(request)
                except HttpError as error:
                    return error.status, {"error": error.message}
        if known_path:
            return 405, {"error": f"{method} is not for {url.path}"}
        return 404, {"error": f"no such path: {url.path}", "routes": self._route_names()}

    def _handler_class(service):  # pylint: disable=no-self-argument
        class Handler(http.server.BaseHTTPRequestHandler):
            timeout = IDLE_CONNECTION_TIMEOUT_S
            server_version = service.name
            sys_version = ""

            def do_GET(self):
                self._answer(None)

            def do_POST(self):
                length = self.headers.get("Content-Length", "0")
                if not length.isdigit() or int(length) > MAX_BODY_BYTES:
                    self._send(413, {"error": f"the body must say its length, at most {MAX_BODY_BYTES} bytes"})
                    return
                try:
                    body = json.loads(self.rfile.read(int(length)) or b"null")
                except ValueError as error:
                    self._send(400, {"error": f"the body is no JSON: {error}"})
                    return
                self._answer(body)

            def _answer(self, body):
                began = time.monotonic()
                status, answer = service.answer(self.command, self.path, body)
                self._send(status, answer, f" {(time.monotonic() - began) * 1000:.1f} ms")

            def _send(self, status, answer, remark=""):
                data = (json.dumps(answer) + "\n").encode()
                try:
                    self.send_response(status)
                    self.send_header("Content-Type", "application/json")
                    self.send_header("Content-Length", str(len(data)))
                    self.end_headers()
                    self.wfile.write(data)
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True  # the client has gone: not this service's trouble
                    remark += " (the client has gone)"
                if service.log_requests or status >= 400:
                    service.log(f"{self.command} {self.path} {status}{remark}")

            def log_message(self, format, *args):  # the base class writes to stderr; _answer has written the line
                del format, args

            def log_error(self, format, *args):
                service.log("bad request: " + format % args)

        return Handler


def check_port(port):
    try:
        _Server((LOOPBACK, port), http.server.BaseHTTPRequestHandler).server_close()
    except (OSError, OverflowError) as error:
        print(f"port {port} on {LOOPBACK} cannot be used: {error}", file=sys.stderr, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    _parser = argparse.ArgumentParser(description="tells whether a TCP port on 127.0.0.1 is free")
    _parser.add_argument("--check-port", type=int, required=True, metavar="N")
    sys.exit(check_port(_parser.parse_args().check_port))
