"""Checks of servers as they are in the world: that speak first, compress, answer with many statuses, are named otherwise."""

import gzip
import socket
import tempfile
import threading
import time

from harness import NOT_RUNNING, USAGE
from harness import Daemon, Scenario, Workspace, main, sleeper, wait_until
from harness.servers import Nginx, Rude, TestAuthority


def check_of(**check):
    return sleeper(health_check={"interval": 0.1, "retries": 1, "on_failure": "alert", **check})


class Speaker:
    """What a server sees of clients that speaks first: how each connection ended, "in order" or the error."""

    def __init__(self, *pieces, pause=0.0):
        self._pieces = pieces
        self._pause = pause
        self._lock = threading.Lock()
        self.ends = []

    def __call__(self, peer, server):
        end = "in order"
        try:
            for piece in self._pieces:
                server.stopping.wait(self._pause)
                peer.sendall(piece)
            while peer.recv(4096):
                pass
        except OSError as error:
            end = type(error).__name__
        with self._lock:
            self.ends.append(end)


class SpeakingFirst(Scenario):
    def check_ends(self, speaker, count=20, **check):
        with Rude(speaker) as server:
            with Daemon({"web": check_of(type="tcp", port=server.port, interval=0.02, **check)}):
                wait_until(lambda: len(speaker.ends) >= count, "the ends of connections", timeout=40)
        self.assertEqual(set(speaker.ends[:count]), {"in order"})

    def test_a_greeting_that_nobody_reads_resets_nothing(self):
        self.check_ends(Speaker(b"220 mail.example.org ESMTP\r\n"))

    def test_nor_one_that_comes_late_and_in_pieces(self):
        self.check_ends(Speaker(b"SSH-2.0", b"-server\r\n", b"more\r\n", pause=0.05))

    def test_nor_what_comes_behind_the_expected_banner(self):
        self.check_ends(Speaker(b"220-mail\r\n", b"220-ready " + b"x" * 20000 + b"\r\n", b"220 end\r\n", pause=0.01),
                        expected_content="220-mail")  # fmt: skip

    def test_nor_a_banner_that_is_wrong(self):
        self.check_ends(Speaker(b"x" * 8192, b"y" * 8192, pause=0.01), expected_content="220")

    def test_nor_an_answer_of_which_the_head_is_enough(self):
        head = b"HTTP/1.1 503 No\r\nContent-Length: 300000\r\n\r\n"
        self.check_http_ends(Speaker(head, *[b"x" * 1000] * 20, pause=0.002))

    def test_nor_one_whose_body_holds_what_is_expected_early(self):
        head = b"HTTP/1.1 200 Yes\r\nContent-Length: 21002\r\n\r\nok"
        self.check_http_ends(Speaker(head, *[b"x" * 1000] * 20, pause=0.002), expected_content="ok")

    def check_http_ends(self, speaker, count=10, **check):
        with Rude(speaker) as server:
            with Daemon({"web": check_of(url=server.url, **check)}):
                wait_until(lambda: len(speaker.ends) >= count, "the ends of connections", timeout=60)
        self.assertEqual(set(speaker.ends[:count]), {"in order"})

    def test_by_hand(self):
        speaker = Speaker(b"SSH-2.0-server\r\n", pause=0.02)
        with Workspace() as place, Rude(speaker) as server:
            for _ in range(10):
                place.ctl("check", "tcp", "127.0.0.1", server.port)
            wait_until(lambda: len(speaker.ends) == 10, "the ends of connections")
        self.assertEqual(set(speaker.ends), {"in order"})


class Answers(Scenario):
    def answers(self, status="200 OK", headers=b"", body=b""):
        """A server that answers so, whatever is asked."""

        def serve(peer, _):
            peer.recv(65536)
            peer.sendall(b"HTTP/1.1 %s\r\n%sContent-Length: %d\r\n\r\n" % (status.encode(), headers, len(body)) + body)

        return Rude(serve)

    def test_ranges_of_statuses(self):
        with Workspace() as place, self.answers("204 No Content") as server:
            for statuses in ("2xx", "2XX", "200-204", "401,2xx", "204"):
                place.ctl("check", "http", server.url, "--expected-status", statuses)
            for statuses in ("3xx", "200-203", "205-299,401"):
                told = place.ctl("check", "http", server.url, "--expected-status", statuses, expect=NOT_RUNNING).stdout
                self.assertIn(f"HTTP 204 (expected {statuses.replace(',', ', ')})", told)
            for statuses in ("6xx", "2x", "xx", "204-200", "2xx,ok"):
                place.ctl("check", "http", server.url, "--expected-status", statuses, expect=USAGE)
            services = {
                "well": check_of(url=server.url, expected_status=["2xx", 401]),
                "ill": check_of(url=server.url, expected_status=["3xx", 200]),
            }
            with Daemon(services) as daemon:
                daemon.wait_for("well", lambda row: row["health"] == "healthy", "healthy")
                daemon.wait_for("ill", lambda row: row["health"] == "unhealthy", "unhealthy")
                message = daemon.ctl_json("health", "ill", expect=NOT_RUNNING)["services"][0]["message"]
                self.assertEqual(message, "HTTP 204 (expected 3xx, 200)")

    def test_a_compressed_body_is_read(self):
        headers = b"Content-Encoding: gzip\r\n"
        with Workspace() as place, self.answers(headers=headers, body=gzip.compress(b"all is well")) as server:
            place.ctl("check", "http", server.url, "--expected-content", "is well")
            place.ctl("check", "http", server.url, "--expected-regex", "^all is well$")
            told = place.ctl("check", "http", server.url, "--expected-content", "ill", expect=NOT_RUNNING).stdout
            self.assertIn('body lacks "ill"', told)

    def test_a_bomb_is_cut(self):
        bomb = gzip.compress(bytes(300 << 20), 1)
        with Workspace() as place, self.answers(headers=b"Content-Encoding: gzip\r\n", body=bomb) as server:
            with Daemon({"web": check_of(url=server.url, expected_content="x")}) as daemon:
                daemon.wait_for("web", lambda row: row["health"] == "unhealthy", "unhealthy")
                message = daemon.ctl_json("health", "web", expect=NOT_RUNNING)["services"][0]["message"]
                self.assertIn("within its first 1048576 bytes", message)
            twice = gzip.compress(bomb)
            with self.answers(headers=b"Content-Encoding: gzip, gzip\r\n", body=twice) as other:
                told = place.ctl("check", "http", other.url, "--expected-content", "x", expect=NOT_RUNNING).stdout
                self.assertIn("is not understood", told)

    def test_a_server_of_another_name(self):
        with Workspace() as place, tempfile.TemporaryDirectory() as directory:
            authority = TestAuthority(directory, names="DNS:app.example.org")
            locations = 'location / { return 200 "$ssl_server_name $http_host"; }'
            with Nginx(place.dir / "nginx", locations, authority) as nginx:
                here = f"127.0.0.1:{nginx.tls_port}"
                options = ("--ca-file", authority.ca_file, f"https://{here}/")
                place.ctl("check", "http", *options, expect=NOT_RUNNING)
                named = ("check", "http", "--tls-server-name", "app.example.org", *options)
                place.ctl(*named)
                # The name is the handshake's alone; the request still names what the URL does.
                place.ctl(*named, "--expected-regex", f"^app.example.org {here}$")
                place.ctl(*named, "--header", "Host: own.example", "--expected-content", "app.example.org own.example")
                wrong = place.ctl("check", "http", "--tls-server-name", "other.example", *options, expect=NOT_RUNNING)
                self.assertIn("TLS", wrong.stdout)
                check = {"url": f"https://localhost:{nginx.tls_port}/", "ca_file": str(authority.ca_file)}
                services = {"named": check_of(**check, tls_server_name="app.example.org"), "not": check_of(**check)}
                with Daemon(services) as daemon:
                    daemon.wait_for("named", lambda row: row["health"] == "healthy", "healthy")
                    daemon.wait_for("not", lambda row: row["health"] == "unhealthy", "unhealthy")


class Scripts(Scenario):
    SCRIPT = 'test "$TOKEN" = t0ken && test "$FROM_FILE" = yes && test -n "$SERVICE_ID" && test -n "$SERVICE_PID"'

    def services(self, environment):
        service = check_of(
            type="script", command="/bin/sh", args=["-c", self.SCRIPT], **({"environment": environment} if environment else {})
        )
        return {"web": {**service, "environment": {"TOKEN": "t0ken"}, "environment_file": "web.env"}}

    def health(self, daemon, wanted):
        return daemon.wait_for("web", lambda row: row["health"] == wanted, wanted, 20)

    def test_the_services_environment_where_it_is_asked_for(self):
        with Daemon(started=False) as daemon:
            (daemon.dir / "web.env").write_text("FROM_FILE=yes\n")
            daemon.write_config(self.services(None))
            daemon.start()
            self.health(daemon, "unhealthy")
            daemon.write_config(self.services("service"))
            self.assertIn("health_check.environment", daemon.ctl("reload").stdout)
            self.health(daemon, "healthy")
            # A daemon that has not started the service itself knows it too.
            daemon.kill_daemon()
            daemon.start()
            since = daemon.ctl_json("health", "web")["services"][0]["last_check"]
            wait_until(lambda: daemon.ctl_json("health", "web")["services"][0]["last_check"] != since, "a check of this one")
            self.health(daemon, "healthy")
            daemon.write_config(self.services("minimal"))
            daemon.ctl("reload")
            self.health(daemon, "unhealthy")

    def test_by_hand_it_is_the_shells(self):
        with Workspace() as place:
            command = ("/bin/sh", "-c", 'test "$TOKEN" = t0ken')
            place.ctl("check", "script", *command, env={"TOKEN": "t0ken"}, expect=NOT_RUNNING)
            place.ctl("check", "script", "--environment", "service", *command, env={"TOKEN": "t0ken"})
            told = place.ctl("check", "script", "--environment", "all", *command, expect=USAGE).stderr
            self.assertIn("--environment", told)


class Pings(Scenario):
    """HTTP/2 PING frames, as a client's keepalive sends them on a connection on which nothing happens."""

    PING, GOAWAY = 6, 7

    def frames(self, connection, until):
        """(type, payload) of what comes until one is of that type; empty at the end of the connection."""
        seen, buffer = [], b""
        while more := connection.recv(65536):
            buffer += more
            while len(buffer) >= 9 and len(buffer) >= 9 + (size := int.from_bytes(buffer[:3], "big")):
                seen.append((buffer[3], buffer[9 : 9 + size], buffer[4]))
                buffer = buffer[9 + size :]
            if any(kind == until for kind, _, _ in seen):
                return seen
        return seen

    def connect(self, daemon, request):
        connection = socket.socket(socket.AF_UNIX)
        self.addCleanup(connection.close)
        connection.settimeout(30)
        connection.connect(str(daemon.socket))
        connection.sendall(request)
        return connection

    def ping(self, connection, count, interval):
        for number in range(count):
            time.sleep(interval)  # style-ok(sleep): the pace of the client that is played here
            connection.sendall(b"\0\0\x08\x06\0\0\0\0\0" + number.to_bytes(8, "big"))
            seen = self.frames(connection, self.PING)
            kinds = [kind for kind, _, _ in seen]
            self.assertNotIn(self.GOAWAY, kinds, f"after {number} pings: {seen}")
            self.assertIn(self.PING, kinds, f"after {number} pings: {seen}")

    def test_a_quiet_stream_lives(self):
        from harness.rpc_call import _request, message

        with Daemon({"web": sleeper(enabled=False)}) as daemon:
            follow = message(f3=1, f5=1)
            connection = self.connect(daemon, _request("Events", follow))
            self.ping(connection, 12, 0.3)
            daemon.ctl("start", "web")
            wait_until(lambda: any(b"started" in payload for _, payload, _ in self.frames(connection, 0)), "the event")

    def test_a_connection_without_a_call_lives(self):
        from harness.rpc_call import PREFACE, _frame, SETTINGS

        with Daemon() as daemon:
            self.ping(self.connect(daemon, PREFACE + _frame(SETTINGS, 0, 0, b"")), 12, 0.3)

    def test_a_flood_is_still_sent_away(self):
        from harness.rpc_call import PREFACE, _frame, SETTINGS

        with Daemon() as daemon:
            connection = self.connect(daemon, PREFACE + _frame(SETTINGS, 0, 0, b""))
            connection.sendall((b"\0\0\x08\x06\0\0\0\0\0" + bytes(8)) * 200)
            seen = self.frames(connection, self.GOAWAY)
            self.assertIn(b"too_many_pings", b"".join(payload for kind, payload, _ in seen if kind == self.GOAWAY))


if __name__ == "__main__":
    main()
