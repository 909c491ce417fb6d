"""The socket speaks gRPC to any client: reflection, the standard health service, status codes and deadlines."""

import os
import socket
import struct
import unittest

from harness import Daemon, Scenario, main, sleeper, wait_until, SCALE

try:
    import grpc
except ImportError:
    grpc = None

# Messages are written by hand: their few fields do not call for generated code.


def field(number, value):
    """A protobuf field: a string, bytes, or a number as varint."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def varint(value):
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def parse(data):
    """The fields of a message as (number, value) pairs; nested messages as bytes."""
    fields, at = [], 0

    def number():
        nonlocal at
        result = shift = 0
        while True:
            byte = data[at]
            at += 1
            result |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return result

    while at < len(data):
        tag = number()
        kind = tag & 7
        if kind == 0:
            value = number()
        elif kind == 1:
            value, at = struct.unpack_from("<d", data, at)[0], at + 8
        elif kind == 2:
            length = number()
            value, at = data[at : at + length], at + length
        else:
            value, at = struct.unpack_from("<f", data, at)[0], at + 4
        fields.append((tag >> 3, value))
    return fields


def values(data, number):
    return [value for key, value in parse(data) if key == number]


@unittest.skipIf(grpc is None, "needs python3-grpcio")
class Grpc(Scenario):
    SERVICE = "/supervisor.v1.Supervisor/"

    def open(self, daemon):
        channel = grpc.insecure_channel(f"unix:{daemon.socket}", options=[("grpc.enable_http_proxy", 0)])
        self.addCleanup(channel.close)
        return channel

    def call(self, channel, method, request=b"", timeout=10.0):
        return channel.unary_unary(method)(request, timeout=timeout * SCALE)

    def code_of(self, channel, method, request=b"", timeout=10.0):
        with self.assertRaises(grpc.RpcError) as raised:
            self.call(channel, method, request, timeout)
        return raised.exception

    def test_reflection_lists_the_services_and_describes_them(self):
        with Daemon() as daemon:
            channel = self.open(daemon)
            answers = None
            for version in ("v1", "v1alpha"):
                reflect = channel.stream_stream(f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo")
                try:
                    answers = list(
                        reflect(iter([field(7, "*"), field(4, "supervisor.v1.Supervisor")]), timeout=10 * SCALE)
                    )
                    break
                except grpc.RpcError as error:
                    self.assertEqual(error.code(), grpc.StatusCode.UNIMPLEMENTED)
            self.assertIsNotNone(answers, "no reflection service")
            names = [values(service, 1)[0].decode() for service in values(values(answers[0], 6)[0], 1)]
            self.assertIn("supervisor.v1.Supervisor", names)
            self.assertIn("grpc.health.v1.Health", names)
            self.assertTrue(any(name.startswith("grpc.reflection.") for name in names))
            self.assertIn(b"supervisor/v1/supervisor.proto", answers[1])

    def test_the_standard_health_service_says_serving(self):
        with Daemon() as daemon:
            channel = self.open(daemon)
            for name in ("", "supervisor.v1.Supervisor"):
                answer = self.call(channel, "/grpc.health.v1.Health/Check", field(1, name) if name else b"")
                self.assertEqual(parse(answer), [(1, 1)])  # SERVING
            error = self.code_of(channel, "/grpc.health.v1.Health/Check", field(1, "no.such.Service"))
            self.assertEqual(error.code(), grpc.StatusCode.NOT_FOUND)

    def test_status_codes(self):
        with Daemon({"web": sleeper(enabled=False)}) as daemon:
            channel = self.open(daemon)
            code = grpc.StatusCode
            for method, request, expected in (
                ("Status", field(1, "nobody"), code.NOT_FOUND),
                ("Start", field(1, "nobody"), code.NOT_FOUND),
                ("Start", b"", code.INVALID_ARGUMENT),  # which target?
                ("Stop", b"", code.INVALID_ARGUMENT),
                ("Restart", field(1, ""), code.INVALID_ARGUMENT),
                ("Start", field(1, "../etc"), code.NOT_FOUND),
                ("Signal", field(1, "web") + field(2, "NOPE"), code.INVALID_ARGUMENT),
                ("Nonsense", b"", code.UNIMPLEMENTED),
            ):
                with self.subTest(method=method, request=request):
                    error = self.code_of(channel, self.SERVICE + method, request)
                    if request == field(1, "../etc") or request == field(1, ""):
                        self.assertIn(error.code(), (code.NOT_FOUND, code.INVALID_ARGUMENT))
                    else:
                        self.assertEqual(error.code(), expected, error.details())
            answer = self.call(channel, self.SERVICE + "Status")
            self.assertEqual(len(values(answer, 1)), 1)

    def test_a_callers_deadline_ends_the_call_and_not_the_work(self):
        with Daemon({"web": sleeper(enabled=False, readiness={"type": "uptime", "uptime": 1.5 * SCALE})}) as daemon:
            error = self.code_of(self.open(daemon), self.SERVICE + "Start", field(1, "web"), timeout=0.3)
            self.assertEqual(error.code(), grpc.StatusCode.DEADLINE_EXCEEDED)
            daemon.wait_state("web", "running")

    def test_one_channel_serves_many_calls_at_once(self):
        with Daemon({f"s{i}": sleeper() for i in range(5)}) as daemon:
            channel = self.open(daemon)
            status = channel.unary_unary(self.SERVICE + "Status")
            calls = [status.future(b"", timeout=30 * SCALE) for _ in range(200)]
            self.assertEqual({len(values(call.result(), 1)) for call in calls}, {5})

    def test_garbage_is_refused_and_others_are_served(self):
        with Daemon({"web": sleeper()}) as daemon:
            for data in (
                b"GET / HTTP/1.1\r\n\r\n",
                b"\0" * 1000,
                b"\xff" * 100_000,
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 1000,
                b"",
            ):
                with socket.socket(socket.AF_UNIX) as client:
                    client.settimeout(10 * SCALE)
                    client.connect(str(daemon.socket))
                    try:
                        client.sendall(data)
                        client.shutdown(socket.SHUT_WR)
                        while client.recv(65536):
                            pass
                    except OSError:
                        pass
            error = self.code_of(self.open(daemon), self.SERVICE + "Status", b"\xff\xff\xff\xff")
            self.assertNotEqual(error.code(), grpc.StatusCode.UNAVAILABLE)
            daemon.ctl("status", expect=None)
            daemon.wait_state("web", "running")

    def test_connections_that_come_and_go_leave_nothing_open(self):
        with Daemon() as daemon:
            pid = daemon.version()["pid"]

            def open_descriptors():
                return len(os.listdir(f"/proc/{pid}/fd"))

            # What is opened once, for the first who asks, is open before they are counted.
            daemon.wait_event("supervisor", "supervisor_started")
            daemon.ctl("version")
            wait_until(lambda: open_descriptors() == open_descriptors(), "rest")
            before = open_descriptors()
            for _ in range(500):
                with socket.socket(socket.AF_UNIX) as client:
                    client.connect(str(daemon.socket))
            wait_until(
                lambda: open_descriptors() <= before + 2,
                f"descriptors to be closed again, down to {before}",
                timeout=30,
            )

    def test_idle_connections_do_not_keep_others_out_nor_the_daemon_from_stopping(self):
        with Daemon({"web": sleeper()}) as daemon:
            idle = []
            for _ in range(100):
                client = socket.socket(socket.AF_UNIX)
                self.addCleanup(client.close)
                client.connect(str(daemon.socket))
                idle.append(client)
            daemon.wait_state("web", "running")
            daemon.stop()


if __name__ == "__main__":
    main()
