"""Health checks of services that real servers stand for: Debian's nginx, also with TLS, and a gRPC server."""

import socket

from harness import Daemon, Scenario, Workspace, main, sleeper, wait_until
from harness.servers import GrpcServer, Nginx, TestAuthority


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
        return True
    except OSError:
        return False


class Peers(Scenario):
    def service(self, **check):
        return sleeper(
            health_check={"interval": 0.05, "timeout": 10, "retries": 1, "on_failure": "alert", **check}
        )

    def expect(self, daemon, wanted):
        """Each service's verdict, and a word of its message."""
        for id, (health, words) in wanted.items():
            daemon.wait_for(id, lambda row, health=health: row["health"] == health, f"{id} to be {health}", 20)
            message = daemon.ctl_json("health", id, expect=None)["services"][0]["message"]
            self.assertIn(words, message, id)

    def test_nginx(self):
        locations = (
            'location = /ok { return 200 "all is well"; }\n'
            "location = /maintenance { return 503; }\n"
            "location = /moved { return 301 /ok; }\n"
            "location = /far { return 302 http://127.0.0.1:1/; }\n"
            "location = /loop { return 302 /loop; }\n"
            'location = /teapot { return 418 "short and stout"; }\n'
            'location = /guarded { if ($http_authorization != "Bearer x") { return 401; } return 204; }\n'
            "location = /post { limit_except POST { deny all; } return 201; }"
        )
        with Workspace() as place, Nginx(place.dir / "nginx", locations, ipv6=has_ipv6()) as nginx:
            services = {
                "ok": self.service(url=nginx.url("/ok"), expected_content="is well"),
                "named": self.service(url=f"http://localhost:{nginx.port}/ok"),
                "maintenance": self.service(url=nginx.url("/maintenance")),
                "moved": self.service(url=nginx.url("/moved"), expected_regex="^all is"),
                "stays": self.service(url=nginx.url("/moved"), follow_redirects=False),
                "stays-as-it-should": self.service(
                    url=nginx.url("/moved"), follow_redirects=False, expected_status=[301]
                ),
                "far": self.service(url=nginx.url("/far")),
                "loop": self.service(url=nginx.url("/loop")),
                "teapot": self.service(url=nginx.url("/teapot"), expected_status=[200, 418]),
                "guarded": self.service(
                    url=nginx.url("/guarded"), headers={"Authorization": "Bearer x"}, expected_status=[204]
                ),
                "unguarded": self.service(url=nginx.url("/guarded"), expected_status=[204]),
                "head": self.service(url=nginx.url("/ok"), method="HEAD"),
                "unix": self.service(url="http://localhost/ok", unix_socket=str(nginx.unix_socket)),
                "tcp": self.service(type="tcp", port=nginx.port),
                "no-banner": self.service(type="tcp", port=nginx.port, expected_content="220", timeout=0.3),
            }
            wanted = {
                "ok": ("healthy", "HTTP 200"),
                "named": ("healthy", "HTTP 200"),
                "maintenance": ("unhealthy", "HTTP 503 (expected 200)"),
                "moved": ("healthy", "HTTP 200"),
                "stays": ("unhealthy", "HTTP 301"),
                "stays-as-it-should": ("healthy", "HTTP 301"),
                "far": ("unhealthy", "connection refused (127.0.0.1:1)"),
                "loop": ("unhealthy", "redirects"),
                "teapot": ("healthy", "HTTP 418"),
                "guarded": ("healthy", "HTTP 204"),
                "unguarded": ("unhealthy", "HTTP 401"),
                "head": ("healthy", "HTTP 200"),
                "unix": ("healthy", "HTTP 200"),
                "tcp": ("healthy", "connected"),
                "no-banner": ("unhealthy", "timed out"),
            }
            if has_ipv6():
                services["ipv6"] = self.service(url=f"http://[::1]:{nginx.port}/ok")
                wanted["ipv6"] = ("healthy", "HTTP 200")
            with Daemon(services) as daemon:
                self.expect(daemon, wanted)

    def test_nginx_with_tls(self):
        with Workspace() as place:
            authority = TestAuthority(place.dir)
            (place.dir / "other").mkdir()
            other = TestAuthority(place.dir / "other")
            with Nginx(place.dir / "nginx", "location / { return 200 ok; }", authority) as nginx:
                url = f"https://127.0.0.1:{nginx.tls_port}/"
                with Daemon(
                    {
                        "trusted": self.service(url=url, ca_file=str(authority.ca_file)),
                        "by-name": self.service(
                            url=f"https://localhost:{nginx.tls_port}/", ca_file=str(authority.ca_file)
                        ),
                        "not-verified": self.service(url=url, verify_tls=False),
                        "unknown-authority": self.service(url=url),
                        "other-authority": self.service(url=url, ca_file=str(other.ca_file)),
                        "other-host": self.service(
                            url=f"https://127.0.0.2.localhost:{nginx.tls_port}/", ca_file=str(authority.ca_file)
                        ),
                        "no-such-file": self.service(url=url, ca_file=str(place.dir / "nothing.pem")),
                        "plain": self.service(url=f"https://127.0.0.1:{nginx.port}/", verify_tls=False),
                    }
                ) as daemon:
                    self.expect(
                        daemon,
                        {
                            "trusted": ("healthy", "HTTP 200"),
                            "by-name": ("healthy", "HTTP 200"),
                            "not-verified": ("healthy", "HTTP 200"),
                            "unknown-authority": ("unhealthy", "TLS"),
                            "other-authority": ("unhealthy", "TLS"),
                            "other-host": ("unhealthy", "TLS"),
                            "no-such-file": ("unhealthy", "ca_file"),
                            "plain": ("unhealthy", ""),
                        },
                    )

    def test_grpc(self):
        with Workspace() as place, GrpcServer(place.dir / "g.sock") as server:
            with Daemon(
                {
                    "server": self.service(type="grpc", port=server.port),
                    "named": self.service(type="grpc", host="localhost", port=server.port, service="orders"),
                    "unix": self.service(type="grpc", unix_socket=str(place.dir / "g.sock")),
                }
            ) as daemon:
                self.expect(
                    daemon,
                    {
                        "server": ("healthy", "SERVING in"),
                        "named": ("unhealthy", '"orders"'),
                        "unix": ("healthy", "SERVING in"),
                    },
                )
                server.tell("serving orders")
                self.expect(daemon, {"named": ("healthy", "SERVING in")})
                server.tell("not_serving orders")
                self.expect(daemon, {"named": ("unhealthy", "NOT_SERVING"), "server": ("healthy", "SERVING")})
                server.tell("serving orders")
                self.expect(daemon, {"named": ("healthy", "SERVING")})
                server.tell("shutdown")
                self.expect(
                    daemon,
                    {
                        "server": ("unhealthy", "NOT_SERVING"),
                        "named": ("unhealthy", "NOT_SERVING"),
                        "unix": ("unhealthy", "NOT_SERVING"),
                    },
                )
                server.__exit__()
                wait_until(
                    lambda: "connection refused"
                    in daemon.ctl_json("health", "server", expect=None)["services"][0]["message"],
                    "the refusal",
                )

    def test_supervisord_itself_by_its_own_health_service(self):
        with Daemon() as daemon:
            daemon.config["services"] = {"self": self.service(type="grpc", unix_socket=str(daemon.socket))}
            daemon.write_config()
            daemon.ctl("reload")
            self.expect(daemon, {"self": ("healthy", "SERVING in")})


if __name__ == "__main__":
    main()
