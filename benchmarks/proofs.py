"""What our relay spends on a peer that registers with endpoints to prove, and on one proof; beside
it what the handshake alone costs, and the cryptography in it.

Each peer comes from an address of its own, and names others, at which the load generator answers
with the peer's key.
"""

import asyncio
import ssl
from collections.abc import Callable
from contextlib import ExitStack, suppress
from time import thread_time_ns
from typing import cast

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from benchmarks.measure import Row, Server, cpu_seconds
from benchmarks.wire import RelayClient, register
from peers.path.tls import TlsContext
from protocol.endpoint import Endpoint
from protocol.errors import PathFailed
from protocol.identity import Identity

__all__ = ["measure_bare", "measure_proofs"]

_TIMEOUT = 120.0
_WARM = 4
"""Peers that are proven before anything is measured."""


class _Doors:
    """Where one peer answers, and how often it was met there."""

    def __init__(self, identity: Identity, many: int) -> None:
        self.tls = TlsContext(identity)
        self.left = many
        self.met: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if not many:
            self.met.set_result(None)

    def count(self) -> None:
        self.left -= 1
        if self.left <= 0 and not self.met.done():
            self.met.set_result(None)


class _Door(asyncio.Protocol):
    """One connection to such a place: shows the key."""

    def __init__(self, doors: _Doors) -> None:
        self._doors = doors
        self._channel = doors.tls.channel(server=True)
        self._answered = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._channel.start()

    def data_received(self, data: bytes) -> None:
        try:
            self._channel.receive(data)
        except PathFailed:  # The relay shows no certificate.
            self._transport.abort()
            return
        if out := self._channel.to_send():
            self._answered = True
            self._transport.write(out)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answered:
            self._doors.count()


async def measure_proofs(name: str, server: Server, many: int, named: int) -> list[Row]:
    """Return what `many` registrations cost, each of a peer that names so many addresses: its own,
    and those that are to be proven."""
    rows = []
    await _register(server, 0, _WARM, named)
    own = await _register(server, _WARM, many, named, prove=False)
    proven = await _register(server, _WARM + many, many, named)
    rows.append(Row(name, f"registration, {named} endpoints at its own address", own, "µs"))
    rows.append(Row(name, f"registration, {named} endpoints to prove", proven, "µs"))
    rows.append(Row(name, "one proof", max(0.0, proven - own) / named, "µs"))
    return rows


async def _register(
    server: Server, first: int, many: int, named: int, *, prove: bool = True
) -> float:
    """Return the relay's microseconds for each of so many peers."""
    loop = asyncio.get_running_loop()
    before = cpu_seconds(server.pid)
    clients = [RelayClient(number) for number in range(first, first + many)]
    with ExitStack() as stack:
        met = []
        for client in clients:
            doors = _Doors(client.identity, named if prove else 0)
            listener = await loop.create_server(lambda doors=doors: _Door(doors), "0.0.0.0", 0)  # type: ignore[misc]
            stack.callback(listener.close)
            port = listener.sockets[0].getsockname()[1]
            # Another network for each, as the relay has a share for each network.
            hosts = [
                f"127.{100 + client.number // 250}.{client.number % 250}.{1 + place}"
                for place in range(named)
            ]
            ends = [Endpoint(host, port) for host in hosts]
            if not prove:
                ends = [Endpoint(client.host, port + place) for place in range(named)]
            client.advertise(*ends)
            met.append(doors.met)
        await register(clients, server)
        async with asyncio.timeout(_TIMEOUT):
            await asyncio.gather(*met)
        spent = cpu_seconds(server.pid) - before
        for client in clients:
            client.transport.abort()
    return spent / many * 1e6


def measure_bare(name: str, many: int) -> list[Row]:
    """Return what nothing that a relay does can be cheaper than: the client's half of a TLS 1.3
    handshake in memory, with a key of Ed25519; and its two key exchanges and one signature."""
    identity = Identity.generate()
    server = TlsContext(identity)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_ecdh_curve("X25519")
    spent = 0
    for _ in range(many):
        channel = server.channel(server=True)
        channel.start()
        began = thread_time_ns()
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = context.wrap_bio(incoming, outgoing)
        with suppress(ssl.SSLWantReadError):
            client.do_handshake()
        hello = outgoing.read()
        spent += thread_time_ns() - began
        channel.receive(hello)
        answer = channel.to_send()
        began = thread_time_ns()
        incoming.write(answer)
        client.do_handshake()
        client.getpeercert(True)
        spent += thread_time_ns() - began
    other = X25519PrivateKey.generate().public_key()
    signer = Ed25519PrivateKey.generate()
    signature, verifier = signer.sign(b"signed"), signer.public_key()

    def cryptography() -> None:
        key = X25519PrivateKey.generate()
        key.public_key()
        key.exchange(other)
        verifier.verify(signature, b"signed")

    return [
        Row(name, "TLS 1.3 handshake in memory, the client's half", spent / many / 1e3, "µs"),
        Row(name, "the cryptography in it", _each(cryptography, many), "µs"),
    ]


def _each(work: Callable[[], None], many: int) -> float:
    began = thread_time_ns()
    for _ in range(many):
        work()
    return (thread_time_ns() - began) / many / 1e3
