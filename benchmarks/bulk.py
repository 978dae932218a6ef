"""What bulk data costs: straight over loopback, through a plane, and through NATS.

One process writes, this one reads, both with plain blocking sockets, so that nothing but the server
is compared. Ours and direct write 256 KiB at a time; NATS carries messages of 512 KiB.
"""

import base64
import http.client
import multiprocessing
import os
import socket
import time
from collections.abc import Callable
from typing import TypeVar

from benchmarks.measure import Row, Server, cpu_seconds
from protocol.codec import MessageDecoder, encode, encode_location
from protocol.identity import CONTEXT_PLANE, CONTEXT_REGISTER, Identity, public_key_of
from protocol.messages import (
    Challenge,
    Hello,
    LocationRecord,
    Message,
    Mode,
    Register,
    Registered,
    ServiceAnswer,
    ServiceRecord,
    ServiceRequestFrom,
    ServiceRequestTo,
    ServiceResponse,
    Verdict,
)
from protocol.tables import FROM_RELAY

__all__ = [
    "Control",
    "measure_direct",
    "measure_nats",
    "measure_relay",
    "read",
    "upgraded",
    "write_plain",
]

_M = TypeVar("_M")
_WRITE = 256 * 1024
_NATS_MESSAGE = 512 * 1024


def write_plain(connect: Callable[[], socket.socket], total: int) -> None:
    """Write `total` bytes to what `connect` returns."""
    data = bytes(_WRITE)
    with connect() as target:
        for _ in range(total // _WRITE):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
        target.recv(1)


def read(source: socket.socket, total: int) -> float:
    """Read `total` bytes; return the seconds from the first to the last."""
    view = memoryview(bytearray(1 << 20))
    left = total - source.recv_into(view)
    began = time.perf_counter()
    while left > 0:
        count = source.recv_into(view)
        if not count:
            raise RuntimeError("the stream ended early")
        left -= count
    return time.perf_counter() - began


def _rows(name: str, total: int, seconds: float, cpu: float | None) -> list[Row]:
    rows = [Row(name, "bulk rate", total / seconds / 1e9, "GB/s")]
    if cpu is not None:
        rows.append(Row(name, "server CPU for bulk", cpu / (total / 1e9), "s/GB"))
    return rows


def measure_direct(total: int) -> list[Row]:
    """Return the rate of loopback with no server between."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = listening.getsockname()
        writer = multiprocessing.get_context("fork").Process(
            target=write_plain, args=(lambda: socket.create_connection(address), total)
        )
        writer.start()
        source, _ = listening.accept()
        with source:
            seconds = read(source, total)
        writer.join(10)
    return _rows("loopback, no server", total, seconds, None)


class Control:
    """A blocking control connection, enough to get a ticket."""

    def __init__(self, server: Server, service: str | None) -> None:
        self.identity = Identity.generate()
        self._server = server
        self._decoder = MessageDecoder(FROM_RELAY)
        self._messages: list[object] = []
        self._socket = upgraded(server, "/v1/control")
        instance = os.urandom(16)
        self.send(Hello(self.identity.guid, instance, os.urandom(32)))
        challenge = self.expect(Challenge)
        self.relay_key = public_key_of(challenge.guid)
        services = (ServiceRecord(service),) if service else ()
        location = encode_location(LocationRecord(1, services))
        signature = self.identity.sign(
            CONTEXT_REGISTER,
            self.relay_key,
            challenge.nonce,
            self.identity.public_key,
            instance,
            location,
        )
        self.send(Register(location, signature))
        self.expect(Registered)

    def send(self, message: Message) -> None:
        self._socket.sendall(encode(message))

    def expect(self, cls: type[_M]) -> _M:
        while True:
            while not self._messages:
                self._messages += self._decoder.receive(self._socket.recv(65_536))
            message = self._messages.pop(0)
            if isinstance(message, cls):
                return message

    def leg(self, ticket: str | None, at: Server | None = None) -> socket.socket:
        """Open a leg, at the own relay or at another node of it."""
        assert ticket is not None
        proof = self.identity.sign(CONTEXT_PLANE, self.relay_key, ticket.encode())
        signature = base64.urlsafe_b64encode(proof).decode().rstrip("=")
        target = f"/v1/plane/{ticket}?guid={self.identity.guid}&signature={signature}"
        return upgraded(at or self._server, target)

    def __enter__(self) -> "Control":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()


def upgraded(server: Server, target: str) -> socket.socket:
    """Return a socket upgraded to the raw carrier."""
    connection = http.client.HTTPConnection(server.host, server.port, timeout=30)
    headers = {"Connection": "Upgrade", "Upgrade": "roam-relay/1"}
    connection.request("GET", target, headers=headers)
    taken = connection.sock
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        piece = taken.recv(1)
        if not piece:
            raise RuntimeError("the relay hung up")
        head += piece
    if b" 101 " not in head.split(b"\r\n")[0]:
        raise RuntimeError(f"no upgrade: {head!r}")
    return taken


def measure_relay(server: Server, total: int) -> list[Row]:
    """Return the rate through a plane, and the relay's CPU for it."""
    callee, caller = Control(server, "bulk"), Control(server, None)
    caller.send(ServiceRequestTo(1, callee.identity.guid, "bulk", Mode.CENTRAL, os.urandom(16)))
    asked = callee.expect(ServiceRequestFrom)
    callee.send(ServiceAnswer(asked.request, Verdict.ACCEPTED))
    answer = caller.expect(ServiceResponse)
    source, target = callee.leg(asked.ticket), caller.leg(answer.ticket)
    before = cpu_seconds(server.pid)
    writer = multiprocessing.get_context("fork").Process(
        target=write_plain, args=(lambda: target, total)
    )
    writer.start()
    target.close()
    with source:
        seconds = read(source, total)
    cpu = cpu_seconds(server.pid) - before
    writer.join(10)
    callee.close()
    caller.close()
    return _rows("roam-relay, plane", total, seconds, cpu)


def _nats(server: Server) -> socket.socket:
    taken = socket.create_connection((server.host, server.port), 30)
    while not taken.recv(4096).endswith(b"\r\n"):
        pass
    taken.sendall(b'CONNECT {"verbose":false,"pedantic":false}\r\nPING\r\n')
    while not taken.recv(4096).endswith(b"PONG\r\n"):
        pass
    return taken


def _write_nats(server: Server, total: int) -> None:
    message = b"PUB bulk %d\r\n%s\r\n" % (_NATS_MESSAGE, bytes(_NATS_MESSAGE))
    with _nats(server) as target:
        for _ in range(total // _NATS_MESSAGE):
            target.sendall(message)
        target.sendall(b"PING\r\n")
        target.recv(64)


def measure_nats(server: Server, total: int) -> list[Row]:
    """Return the rate through nats-server, and its CPU for it."""
    source = _nats(server)
    source.sendall(b"SUB bulk 1\r\nPING\r\n")
    while not source.recv(4096).endswith(b"PONG\r\n"):
        pass
    before = cpu_seconds(server.pid)
    writer = multiprocessing.get_context("fork").Process(target=_write_nats, args=(server, total))
    writer.start()
    with source:
        seconds = read(source, total)
    cpu = cpu_seconds(server.pid) - before
    writer.join(10)
    return _rows("nats-server (Go), 512 KiB messages", total, seconds, cpu)
