"""Servers for health checks to ask: Debian's nginx, a real gRPC server, and some that misbehave."""

import contextlib
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import threading
import unittest

from .daemon import BIN_DIR
from .processes import free_port
from .waiting import wait_until

GRPC_SERVER = BIN_DIR.parent / "tests" / "grpc_server"


def find_nginx():
    """Where nginx is; without it (package nginx-light) the scenario is skipped."""
    path = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if path is None:
        raise unittest.SkipTest("nginx is not installed (package nginx-light)")
    return path


class TestAuthority:
    """A certificate authority of the scenario's own, and a certificate of it for localhost and 127.0.0.1, or `names`."""

    def __init__(self, directory, names="DNS:localhost,IP:127.0.0.1"):
        self.directory = pathlib.Path(directory)
        self.ca_file = self.directory / "ca.pem"
        self.certificate = self.directory / "server.pem"
        self.key = self.directory / "server.key"
        new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        self._openssl(
            "req", "-x509", *new_key, "-days", "2", "-subj", "/CN=test authority", "-keyout", self.directory / "ca.key",
            "-out", self.ca_file,
        )  # fmt: skip
        self._openssl(
            "req", *new_key, "-subj", "/CN=test server", "-keyout", self.key, "-out", self.directory / "server.csr"
        )
        extensions = self.directory / "names"
        extensions.write_text(f"subjectAltName={names}\n")
        self._openssl(
            "x509", "-req", "-in", self.directory / "server.csr", "-CA", self.ca_file, "-CAkey",
            self.directory / "ca.key", "-CAcreateserial", "-days", "2", "-extfile", extensions, "-out", self.certificate,
        )  # fmt: skip

    @staticmethod
    def _openssl(*args):
        subprocess.run(["openssl", *map(str, args)], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


class Nginx:
    """nginx with the given text within its `server` block, in a directory of its own; ports of 127.0.0.1."""

    def __init__(self, directory, locations, authority=None, ipv6=False):
        self._program = find_nginx()
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(exist_ok=True)
        self.port = free_port()
        self.unix_socket = self.directory / "n.sock"
        listen = [f"listen 127.0.0.1:{self.port};", f"listen unix:{self.unix_socket};"]
        if ipv6:
            listen.append(f"listen [::1]:{self.port};")
        if authority is not None:
            self.tls_port = free_port()
            listen += [
                f"listen 127.0.0.1:{self.tls_port} ssl;",
                f"ssl_certificate {authority.certificate};",
                f"ssl_certificate_key {authority.key};",
            ]
        lines = "\n  ".join(listen)
        self._config = self.directory / "nginx.conf"
        self._config.write_text(
            f"daemon off; master_process off; pid {self.directory}/nginx.pid;\n"
            f"error_log {self.directory}/error.log;\n"
            "events {}\n"
            "http {\n"
            f" access_log off; client_body_temp_path {self.directory}/body; proxy_temp_path {self.directory}/proxy;\n"
            f" fastcgi_temp_path {self.directory}/fastcgi; uwsgi_temp_path {self.directory}/uwsgi;\n"
            f" scgi_temp_path {self.directory}/scgi; gzip_proxied any;\n"
            f" server {{\n  {lines}\n  {locations}\n }}\n}}\n"
        )

    def url(self, path="/"):
        return f"http://127.0.0.1:{self.port}{path}"

    def __enter__(self):
        self._process = subprocess.Popen(
            [self._program, "-p", str(self.directory), "-c", str(self._config)], stderr=subprocess.DEVNULL
        )

        def answers():
            with socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return True

        wait_until(answers, "nginx to answer")
        return self

    def __exit__(self, *_):
        self._process.send_signal(signal.SIGTERM)
        self._process.wait()


class GrpcServer:
    """A real gRPC server with the library's own health service, told what to say of itself."""

    def __init__(self, unix_socket=None):
        argv = [str(GRPC_SERVER)] + ([str(unix_socket)] if unix_socket else [])
        self._process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.port = int(self._process.stdout.readline())

    def tell(self, line):
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        if self._process.stdout.readline() != "ok\n":
            raise RuntimeError("the gRPC server does not answer")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()


class Rude:
    """A server of 127.0.0.1 that deals with each connection as `serve(peer)` says, on a thread of its own."""

    def __init__(self, serve):
        self._serve = serve
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/"
        self.connections = 0
        self.stopping = threading.Event()
        self._peers = []

    def __enter__(self):
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # close alone leaves accept(2) waiting
        self._listener.close()
        for peer in self._peers:
            with contextlib.suppress(OSError):
                peer.shutdown(socket.SHUT_RDWR)

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                peer, _ = self._listener.accept()
                self.connections += 1
                self._peers.append(peer)
                threading.Thread(target=self._handle, args=(peer,), daemon=True).start()

    def _handle(self, peer):
        with contextlib.suppress(OSError), peer:
            self._serve(peer, self)


def silent(peer, server):
    """Takes the request and says nothing."""
    while peer.recv(65536):
        pass


def drip(peer, server):
    """An answer whose bytes come one by one, for ever."""
    peer.recv(65536)
    peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
    while not server.stopping.wait(0.02):
        peer.sendall(b"x")


def drip_headers(peer, server):
    peer.recv(65536)
    peer.sendall(b"HTTP/1.1 200 OK\r\n")
    while not server.stopping.wait(0.02):
        peer.sendall(b"X-More: yes\r\n")


def endless_body(peer, server):
    peer.recv(65536)
    peer.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while not server.stopping.is_set():
        peer.sendall(b"x" * 65536)


def redirect_loop(peer, server):
    peer.recv(65536)
    peer.sendall(b"HTTP/1.1 302 Found\r\nLocation: /again\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
