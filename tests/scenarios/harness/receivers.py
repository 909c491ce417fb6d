"""What notifications arrive at: real HTTP and SMTP servers of the standard library, which misbehave as told."""

import base64
import contextlib
import email
import email.policy
import http.server
import json
import socket
import socketserver
import ssl
import threading
import time

from .waiting import wait_until


def server_context(authority):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.certificate, authority.key)
    return context


class _Receiver:
    """What both have in common: a server on a thread of its own, which `_released` lets go of what it holds up."""

    def close(self):
        self._released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()


class HttpReceiver(_Receiver):
    """An HTTP server on loopback that keeps what is posted to it.

    status   what it answers; may be changed at any time
    hang     it takes requests and answers none
    answer   called with (path, headers, body), returns status and headers; instead of `status`
    tls      a TestAuthority: it speaks HTTPS, with that one's certificate
    """

    def __init__(self, status=200, hang=False, port=0, answer=None, tls=None):
        self.status = status
        self.hang = hang
        self.answer = answer
        self.scheme = "https" if tls else "http"
        self.posts = []  # (path, headers, body)
        self.raw_headers = []  # of each post a list of (name, value)
        self.times = []  # when each came, time.monotonic()
        self._released = threading.Event()
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                receiver.raw_headers.append(self.headers.items())
                receiver.times.append(time.monotonic())
                receiver.posts.append((self.path, dict(self.headers), body))
                if receiver.hang:
                    receiver._released.wait()
                    return
                status, headers = receiver.status, {}
                if receiver.answer is not None:
                    status, headers = receiver.answer(self.path, self.headers, body)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"ok")

            def log_message(self, *arguments):
                pass

        class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
            daemon_threads = True
            block_on_close = False
            allow_reuse_address = True

            def handle_error(self, request, client_address):
                pass  # a client that went away

        self._server = Server(("127.0.0.1", port), Handler)
        if tls is not None:
            # The handshake is the handler's, at its first read: one that fails must not end the server.
            self._server.socket = server_context(tls).wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def url(self, path="/hook"):
        return f"{self.scheme}://127.0.0.1:{self.port}{path}"

    def bodies(self):
        """Of the posts that were answered well, or would have been."""
        return [json.loads(body) for _, _, body in list(self.posts)]

    def alerts(self):
        """(status, service, rule) of all that was posted, in order."""
        return [
            (alert["status"], alert["service_id"], alert["rule"]) for body in self.bodies() for alert in body["alerts"]
        ]

    def wait_alert(self, *wanted, timeout=20.0):
        wait_until(lambda: wanted in self.alerts(), f"{wanted} at the receiver", timeout)


class MailReceiver(_Receiver):
    """An SMTP server (RFC 5321) on loopback that keeps the mails it takes.

    refuse   an answer to MAIL FROM instead of taking it: "550 no"
    unknown  recipients that it refuses with 550
    hang     it greets and then says nothing more
    starttls a TestAuthority: it offers STARTTLS, with that one's certificate
    """

    def __init__(self, refuse=None, unknown=(), hang=False, starttls=None):
        self.starttls = starttls
        self.names = []  # of EHLO
        self.encrypted = []  # of each mail, whether it came by TLS
        self.refuse = refuse
        self.unknown = set(unknown)
        self.hang = hang
        self.mails = []  # (sender, [recipients], email.message.EmailMessage)
        self.logins = []
        self._released = threading.Event()
        receiver = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self):
                with contextlib.suppress(OSError), contextlib.ExitStack() as opened:
                    receiver._converse(opened, self.connection, self.rfile, self.wfile)

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            block_on_close = False
            allow_reuse_address = True

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def credentials(self):
        """(user, password) of each login by AUTH PLAIN (RFC 4616)."""
        return [tuple(base64.b64decode(line.split()[-1]).decode().split("\0")[1:]) for line in self.logins]

    def _converse(self, opened, connection, reader, writer):
        def say(line):
            writer.write(line.encode() + b"\r\n")
            writer.flush()

        say("220 receiver.example.org ESMTP")
        if self.hang:
            self._released.wait()
            return
        sender, recipients = None, []
        while line := reader.readline().decode().strip():
            verb = line[:4].upper()
            if verb == "EHLO":
                self.names.append(line[5:])
                say("250-receiver.example.org")
                if self.starttls is not None and not isinstance(connection, ssl.SSLSocket):
                    say("250-STARTTLS")
                say("250 AUTH PLAIN")
            elif verb == "STAR":
                say("220 go on")
                connection = opened.enter_context(server_context(self.starttls).wrap_socket(connection, server_side=True))
                reader = opened.enter_context(connection.makefile("rb"))
                writer = opened.enter_context(connection.makefile("wb"))
            elif verb == "HELO":
                say("250 receiver.example.org")
            elif verb == "AUTH":
                if len(line.split()) < 3:  # without an initial response (RFC 4954)
                    say("334 ")
                    line = reader.readline().decode().strip()
                self.logins.append(line)
                say("235 welcome")
            elif verb == "MAIL":
                if self.refuse:
                    say(self.refuse)
                    continue
                sender, recipients = line.partition("<")[2].partition(">")[0], []
                say("250 ok")
            elif verb == "RCPT":
                recipient = line.partition("<")[2].partition(">")[0]
                if recipient in self.unknown:
                    say("550-5.1.1 nobody here is called that")
                    say("550 5.1.1 ask the postmaster")
                    continue
                recipients.append(recipient)
                say("250 ok")
            elif verb == "DATA":
                say("354 go on")
                lines = []
                while (data := reader.readline()) not in (b".\r\n", b""):
                    lines.append(data[1:] if data.startswith(b".") else data)
                mail = email.message_from_bytes(b"".join(lines), policy=email.policy.default)
                self.encrypted.append(isinstance(connection, ssl.SSLSocket))
                self.mails.append((sender, recipients, mail))
                say("250 taken")
            elif verb == "QUIT":
                say("221 bye")
                return
            else:
                say("250 ok")


@contextlib.contextmanager
def refused_port():
    """A port of 127.0.0.1 that is bound and nobody listens on."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]
