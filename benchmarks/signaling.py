"""What a server spends on forwarding one small message.

Ours: service requests in mode combined, each with a signed endpoint, and their answers: two
forwarded messages a round trip. NATS: request and reply, two messages. aiohttp: a WebSocket echo,
one. All messages have about 170 to 300 bytes, and 64 round trips are under way at once.
"""

import asyncio
import os

import aiohttp
import nats

from benchmarks.measure import Row, Server, cpu_seconds, nats_in_step
from protocol.codec import MessageDecoder, encode, encode_location
from protocol.endpoint import Entry, Phase, Provenance, SignedEntry, sign_entry
from protocol.identity import CONTEXT_REGISTER, Identity, public_key_of
from protocol.messages import (
    FROM_RELAY,
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

__all__ = ["measure_nats", "measure_relay", "measure_websocket"]

UNDER_WAY = 64
PAYLOAD = os.urandom(200)


class _Peer(asyncio.Protocol):
    """A peer that only does signaling, with as little of its own work as possible."""

    def __init__(self) -> None:
        self.identity = Identity.generate()
        self._decoder = MessageDecoder(FROM_RELAY)
        self._upgraded = False
        self._head = b""
        self._instance = os.urandom(16)
        self.ready = asyncio.get_running_loop().create_future()
        self.done = asyncio.get_running_loop().create_future()
        self.left = 0
        self.callee = ""

    def entry(self) -> SignedEntry:
        place = Entry(1, "chat", "127.0.0.1", 9, Phase.PREFERRED, 120, Provenance.INTERFACE)
        return sign_entry(self.identity, place)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self.own = (self.entry(),)
        self.transport.write(
            b"GET /v1/control HTTP/1.1\r\nHost: relay\r\nConnection: Upgrade\r\n"
            b"Upgrade: roam-relay/1\r\n\r\n"
        )

    def data_received(self, data: bytes) -> None:
        if not self._upgraded:
            self._head += data
            if b"\r\n\r\n" not in self._head:
                return
            assert b" 101 " in self._head.split(b"\r\n")[0]
            self._upgraded = True
            self.send(Hello(self.identity.guid, self._instance, os.urandom(32)))
            return
        out = []
        for message in self._decoder.receive(data):
            match message:
                case ServiceResponse():
                    assert message.code is None, message
                    self.left -= 1
                    if self.left >= UNDER_WAY:
                        out.append(self.request(message.request))
                    elif self.left == 0:
                        self.done.set_result(None)
                case ServiceRequestFrom():
                    answer = ServiceAnswer(message.request, Verdict.ACCEPTED, "", self.own)
                    out.append(encode(answer))
                case Challenge():
                    self._register(message)
                case Registered():
                    self.ready.set_result(None)
                case _:
                    pass
        if out:
            self.transport.write(b"".join(out))

    def send(self, message: Message) -> None:
        self.transport.write(encode(message))

    def request(self, number: int) -> bytes:
        session = number.to_bytes(16)
        return encode(
            ServiceRequestTo(number, self.callee, "chat", Mode.COMBINED, session, self.own)
        )

    def _register(self, challenge: Challenge) -> None:
        location = encode_location(LocationRecord(1, (ServiceRecord("chat", self.own),)))
        signature = self.identity.sign(
            CONTEXT_REGISTER,
            public_key_of(challenge.guid),
            challenge.nonce,
            self.identity.public_key,
            self._instance,
            location,
        )
        self.send(Register(location, signature))


async def measure_relay(server: Server, round_trips: int) -> list[Row]:
    """Return our relay's CPU per forwarded message and the rate."""
    loop = asyncio.get_running_loop()
    peers = []
    for _ in range(2):
        _, peer = await loop.create_connection(_Peer, server.host, server.port)
        await asyncio.wait_for(peer.ready, 10)
        peers.append(peer)
    caller, callee = peers
    caller.callee = callee.identity.guid
    caller.left = round_trips
    before, began = cpu_seconds(server.pid), loop.time()
    caller.transport.write(b"".join(caller.request(n) for n in range(min(UNDER_WAY, round_trips))))
    await asyncio.wait_for(caller.done, 300)
    rows = _rows("roam-relay, raw carrier", server, before, loop.time() - began, 2 * round_trips)
    for peer in peers:
        peer.transport.close()
    return rows


async def measure_nats(server: Server, round_trips: int) -> list[Row]:
    """Return nats-server's CPU per forwarded message and the rate."""
    loop = asyncio.get_running_loop()
    url = f"nats://{server.host}:{server.port}"
    caller, callee = await nats.connect(url), await nats.connect(url)

    async def answer(message: nats.aio.msg.Msg) -> None:
        await message.respond(PAYLOAD)

    await callee.subscribe("chat", cb=answer)
    await nats_in_step(callee)
    left = round_trips

    async def ask() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await caller.request("chat", PAYLOAD, timeout=30)

    before, began = cpu_seconds(server.pid), loop.time()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(UNDER_WAY):
            tasks.create_task(ask())
    rows = _rows("nats-server (Go)", server, before, loop.time() - began, 2 * round_trips)
    await caller.close()
    await callee.close()
    return rows


async def measure_websocket(server: Server, round_trips: int) -> list[Row]:
    """Return the echo server's CPU per message and the rate."""
    loop = asyncio.get_running_loop()
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(f"http://{server.host}:{server.port}/", compress=0) as websocket,
    ):
        before, began = cpu_seconds(server.pid), loop.time()
        for _ in range(min(UNDER_WAY, round_trips)):
            await websocket.send_bytes(PAYLOAD)
        for number in range(round_trips):
            await websocket.receive_bytes(timeout=30)
            if number + UNDER_WAY < round_trips:
                await websocket.send_bytes(PAYLOAD)
        return _rows("aiohttp WebSocket echo", server, before, loop.time() - began, round_trips)


def _rows(name: str, server: Server, before: float, seconds: float, messages: int) -> list[Row]:
    cpu = cpu_seconds(server.pid) - before
    return [
        Row(name, "server CPU a forwarded message", cpu / messages * 1e6, "µs"),
        Row(name, "forwarded messages a second", messages / seconds, "1/s"),
    ]
