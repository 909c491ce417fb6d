"""One gRPC call over a connection of its own, by hand: a Python client library would cost more than what is measured."""

import contextlib
import os
import select
import socket
import struct
import time

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, SETTINGS, WINDOW_UPDATE = 0, 1, 4, 8
END_STREAM, END_HEADERS = 1, 4
WHOLE_WINDOW = 2**31 - 1


def _frame(kind, flags, stream, payload):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _header(name, value):
    """A literal without indexing, RFC 7541, 6.2.2; nothing longer than 126 bytes."""
    return b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


def message(**fields):
    """A protobuf message, its fields as f1=..., f2=...: bytes and str have a length, a float is a double, an int a varint."""
    out = b""
    for name, value in fields.items():
        number = int(name[1:])
        if isinstance(value, float):
            out += _varint(number << 3 | 1) + struct.pack("<d", value)
        elif isinstance(value, int):
            out += _varint(number << 3) + _varint(value)
        else:
            data = value.encode() if isinstance(value, str) else value
            out += _varint(number << 3 | 2) + _varint(len(data)) + data
    return out


def _varint(value):
    value &= 2**64 - 1
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def _request(method, request=b""):
    headers = {
        ":method": "POST",
        ":scheme": "http",
        ":path": f"/supervisor.v1.Supervisor/{method}",
        ":authority": "localhost",
        "te": "trailers",
        "content-type": "application/grpc",
    }
    window = struct.pack(">HI", 4, WHOLE_WINDOW)
    return (
        PREFACE
        + _frame(SETTINGS, 0, 0, window)
        + _frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", WHOLE_WINDOW - 65535))
        + _frame(HEADERS, END_HEADERS, 1, b"".join(_header(*item) for item in headers.items()))
        + _frame(DATA, END_STREAM, 1, b"\0" + struct.pack(">I", len(request)) + request)
    )


def call(path, method, timeout=10, request=b""):
    """The message that answers the request, as bytes; nothing where no daemon answered, or only with an error."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(timeout)
        connection.connect(str(path))
        connection.sendall(_request(method, request))
        buffer, answer = b"", b""
        while more := connection.recv(1 << 20):
            buffer += more
            while len(buffer) >= 9 and len(buffer) >= 9 + (size := int.from_bytes(buffer[:3], "big")):
                kind, flags, stream = struct.unpack(">BBI", buffer[3:9])
                payload, buffer = buffer[9 : 9 + size], buffer[9 + size :]
                if stream == 1 and kind == DATA:
                    answer += payload
                if stream == 1 and flags & END_STREAM:
                    return answer[5:] if len(answer) >= 5 else None
    return None


def wait_for_answer(path, method, timeout=60):
    """The answer, and when it was complete (time.monotonic_ns)."""
    deadline = time.monotonic() + timeout
    while (answer := call(path, method)) is None:
        if time.monotonic() > deadline:
            raise RuntimeError(f"nobody answers at {path}")
        time.sleep(0.0005)
    return answer, time.monotonic_ns()


def wait_for_end(pid_fd, timeout=60):
    if not select.select([pid_fd], [], [], timeout)[0]:
        raise RuntimeError("the process does not end")
    os.close(pid_fd)
