"""Clients that cost nothing: plain `asyncio.Protocol`s with prebuilt frames, the same for every
contender.

A library at the client's end decides how many writes a server sees, and so what it costs: with
nats-py, which writes each message by itself, a NATS server looks three times as dear as it is. Here
one write carries all that one read has asked for, whoever the server is, and what comes back is
counted and not parsed, as far as that can be: only the number that our relay gives a request is
copied into the answer, and the heads of WebSocket frames are taken off.
"""

import asyncio
import base64
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

from benchmarks.measure import Server
from protocol.codec import MessageDecoder, encode, encode_location
from protocol.endpoint import Endpoint, Entry, Phase, Provenance, sign_entry
from protocol.identity import CONTEXT_REGISTER, Identity, public_key_of
from protocol.messages import (
    Challenge,
    Hello,
    LocationRecord,
    Mode,
    PeerState,
    Ping,
    Pong,
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
    "CONTENDERS",
    "REQUEST_BYTES",
    "Client",
    "Contender",
    "Pair",
    "RelayClient",
    "mosquitto_client",
    "nats_client",
    "open_clients",
    "peerjs_client",
    "register",
    "relay_client",
    "relay_websocket_client",
]

_TIMEOUT = 120.0
_AT_ONCE = 32
"""Clients that are being opened at any time."""
_PING = encode(Ping())
"""What our relay says to who was silent for long; what is said meanwhile is answer enough."""
_NUMBER = 1 << 20
"""A caller's number for its requests: five bytes, as most are."""


class Client(asyncio.Protocol):
    """One registered client of a server. `receive` gets what comes once it is."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.receive: Callable[[bytes], None] = self.idle
        self.transport: asyncio.Transport

    @property
    def host(self) -> str:
        """The address that it comes from: each has its own."""
        return f"127.{1 + self.number // 62_500}.{self.number // 250 % 250}.{1 + self.number % 250}"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.opened()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ready.done():
            self.ready.set_exception(ConnectionError("the server has closed the connection"))

    def data_received(self, data: bytes) -> None:
        if self.ready.done():
            self.receive(data)
        else:
            self.greeted(data)

    def opened(self) -> None:
        """There is a connection."""

    def greeted(self, data: bytes) -> None:
        """What comes before it is registered."""

    def idle(self, data: bytes) -> None:
        """What comes while nothing is measured: what keeps it alive is answered."""

    def write(self, frame: bytes, many: int) -> None:
        """Send a prebuilt frame so often, in one write."""
        self.transport.write(frame * many)


# -- our relay ----------------------------------------------------------------------------------


class RelayClient(Client):
    """A peer of our relay, on the raw carrier, with one service."""

    _REQUEST = (
        b"GET /v1/control HTTP/1.1\r\nHost: relay\r\nConnection: Upgrade\r\n"
        b"Upgrade: roam-relay/1\r\n\r\n"
    )

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.identity = Identity.generate()
        self.guid = self.identity.guid
        self._decoder = MessageDecoder(FROM_RELAY)
        self._head: bytes | None = b""
        self._instance = os.urandom(16)
        self.advertise(Endpoint(self.host, 9))

    def advertise(self, *endpoints: Endpoint) -> None:
        """Say that this peer is there: before it registers."""
        self.entries = tuple(
            sign_entry(
                self.identity,
                Entry(1, "chat", at.host, at.port, Phase.PREFERRED, 120, Provenance.INTERFACE),
            )
            for at in endpoints
        )
        self._location = encode_location(LocationRecord(1, (ServiceRecord("chat", self.entries),)))

    def framed(self, message: bytes) -> bytes:
        return message

    def bare(self, data: bytes) -> bytes:
        return data

    def opened(self) -> None:
        self.transport.write(self._REQUEST)

    def greeted(self, data: bytes) -> None:
        if self._head is not None:
            self._head += data
            head, end, data = self._head.partition(b"\r\n\r\n")
            if not end:
                return
            if b" 101 " not in head.split(b"\r\n")[0]:
                self.ready.set_exception(ConnectionError(f"refused: {head!r}"))
                return
            self._head = None
            hello = Hello(self.guid, self._instance, os.urandom(32))
            self.transport.write(self.framed(encode(hello)))
        for message in self._decoder.receive(self.bare(data)):
            match message:
                case Challenge():
                    signature = self.identity.sign(
                        CONTEXT_REGISTER,
                        public_key_of(message.guid),
                        message.nonce,
                        self.identity.public_key,
                        self._instance,
                        self._location,
                    )
                    register = Register(self._location, signature)
                    self.transport.write(self.framed(encode(register)))
                case Registered():
                    self.ready.set_result(None)
                case _:
                    self.ready.set_exception(ConnectionError(f"unexpected: {message}"))

    def idle(self, data: bytes) -> None:
        if self.bare(data):
            self.transport.write(self.framed(encode(Pong(0))))


class _Frames:
    """Takes the heads of WebSocket frames off, which come in pieces too."""

    def __init__(self) -> None:
        self._rest = b""

    def bare(self, data: bytes) -> bytes:
        data = self._rest + data
        at, out = 0, []
        while len(data) - at >= 2:
            size, head = data[at + 1], 2
            if size == 126:
                size, head = int.from_bytes(data[at + 2 : at + 4]), 4
            elif size == 127:
                size, head = int.from_bytes(data[at + 2 : at + 10]), 10
            if len(data) - at < head + size:
                break
            out.append(data[at + head : at + head + size])
            at += head + size
        self._rest = data[at:]
        return b"".join(out)


def _frame(payload: bytes, opcode: int) -> bytes:
    """Return a masked frame; the mask is zero, which a server must undo all the same."""
    size = len(payload)
    head = bytes([0x80 | opcode, 0x80 | size]) if size < 126 else bytes([0x80 | opcode, 0xFE])
    return head + (size.to_bytes(2) if size >= 126 else b"") + bytes(4) + payload


def _websocket_request(target: str, protocol: str = "") -> bytes:
    offered = f"Sec-WebSocket-Protocol: {protocol}\r\n" if protocol else ""
    return (
        f"GET {target} HTTP/1.1\r\nHost: relay\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        f"Sec-WebSocket-Version: 13\r\n{offered}"
        f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}\r\n\r\n"
    ).encode()


class _RelayWebSocketClient(RelayClient):
    _REQUEST = _websocket_request("/v1/control", "roam-relay.1")

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self._frames = _Frames()

    def framed(self, message: bytes) -> bytes:
        return _frame(message, 2)

    def bare(self, data: bytes) -> bytes:
        return self._frames.bare(data)


# -- the others ---------------------------------------------------------------------------------


class _NatsClient(Client):
    def opened(self) -> None:
        self.transport.write(
            b'CONNECT {"verbose":false,"pedantic":false,"echo":false}\r\n'
            b"SUB p%d 1\r\nPING\r\n" % self.number
        )

    def greeted(self, data: bytes) -> None:
        if data.endswith(b"PONG\r\n"):
            self.ready.set_result(None)

    def idle(self, data: bytes) -> None:
        if data == b"PING\r\n":
            self.transport.write(b"PONG\r\n")


class _MosquittoClient(Client):
    def opened(self) -> None:
        name = b"p%d" % self.number
        who = len(name).to_bytes(2) + name
        connect = b"\x00\x04MQTT\x04\x02\x00\x00" + who
        subscribe = b"\x00\x01" + who + b"\x00"
        self._greeting = b""
        self.transport.write(
            b"\x10"
            + bytes([len(connect)])
            + connect
            + b"\x82"
            + bytes([len(subscribe)])
            + subscribe
        )

    def greeted(self, data: bytes) -> None:
        self._greeting += data
        if len(self._greeting) >= 9:  # CONNACK and SUBACK
            self.ready.set_result(None)


class _PeerJSClient(Client):
    def opened(self) -> None:
        self._frames = _Frames()
        self._head: bytes | None = b""
        name = f"p{self.number}"
        self.transport.write(
            _websocket_request(f"/peerjs?key=peerjs&id={name}&token={name}&version=1.5.4")
        )

    def greeted(self, data: bytes) -> None:
        if self._head is not None:
            self._head += data
            _, end, data = self._head.partition(b"\r\n\r\n")
            if not end:
                return
            self._head = None
        if b'"OPEN"' in self._frames.bare(data):
            self.ready.set_result(None)

    def bare(self, data: bytes) -> bytes:
        return self._frames.bare(data)


# -- many of them, and what two say to one another -----------------------------------------------


class Pair(Protocol):
    """Two clients that send one another messages."""

    def exchange(self, round_trips: int, under_way: int) -> asyncio.Future[None]:
        """Begin so many round trips, of two forwarded messages each."""


class _Caller:
    """Counts what comes back, by its bytes, and sends as many anew."""

    def __init__(self, client: Client, bare: Callable[[bytes], bytes] | None) -> None:
        self._client = client
        self._bare = bare

    def exchange(
        self, frame: bytes, size: int, round_trips: int, under_way: int
    ) -> asyncio.Future[None]:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        client, bare = self._client, self._bare
        left, to_send, pending = round_trips, round_trips, 0

        def receive(data: bytes) -> None:
            nonlocal left, to_send, pending
            if bare is not None:
                data = bare(data)
            data = data.replace(_PING, b"")
            whole, pending = divmod(pending + len(data), size)
            left -= whole
            again = min(whole, to_send)
            if again:
                to_send -= again
                client.write(frame, again)
            if left <= 0 and not done.done():
                client.receive = client.idle
                done.set_result(None)

        client.receive = receive
        first = min(under_way, to_send)
        to_send -= first
        client.write(frame, first)
        return done


class _Plain:
    """A pair at a server that passes frames on as they are, but for their heads."""

    def __init__(
        self,
        caller: Client,
        callee: Client,
        frames: tuple[bytes, bytes],
        sizes: tuple[int, int],
    ) -> None:
        """`frames` are the caller's and the callee's; `sizes` what each of them receives."""
        self._to_callee, self._to_caller = frames
        self._at_callee, self._at_caller = sizes
        bares = (getattr(caller, "bare", None), getattr(callee, "bare", None))
        self._caller = _Caller(caller, bares[0])
        self._callee, self._bare = callee, bares[1]
        callee.receive = self._answer
        self._pending = 0

    def _answer(self, data: bytes) -> None:
        if self._bare is not None:
            data = self._bare(data)
        whole, self._pending = divmod(self._pending + len(data), self._at_callee)
        if whole:
            self._callee.write(self._to_caller, whole)

    def exchange(self, round_trips: int, under_way: int) -> asyncio.Future[None]:
        return self._caller.exchange(self._to_callee, self._at_caller, round_trips, under_way)


class _Requests:
    """A pair at our relay: a request and its answer, in mode combined."""

    def __init__(self, caller: RelayClient, callee: RelayClient) -> None:
        session = os.urandom(16)
        request = ServiceRequestTo(
            _NUMBER, callee.guid, "chat", Mode.COMBINED, session, caller.entries
        )
        self._request = caller.framed(encode(request))
        forward = encode(
            ServiceRequestFrom(0, caller.guid, "chat", Mode.COMBINED, session, caller.entries)
        )
        # Behind the type and the key `request`; a number has one to five bytes.
        self._at = forward.index(b"\xa7request\x00") + 8
        self._forward = len(forward) - 1
        answer = encode(ServiceAnswer(0, Verdict.ACCEPTED, "", callee.entries))
        at = answer.index(b"\xa7request\x00") + 8
        self._answer = answer[:at], answer[at + 1 :]
        response = ServiceResponse(
            _NUMBER, state=PeerState.ONLINE, last_seen=0.0, entries=callee.entries
        )
        self._size = len(encode(response))
        self._caller = _Caller(caller, caller.bare)
        self._callee = callee
        self._rest = b""
        callee.receive = self._receive

    def _receive(self, data: bytes) -> None:
        callee = self._callee
        data = self._rest + callee.bare(data).replace(_PING, b"")
        at, end, out = 0, len(data), []
        before, behind = self._answer
        while end - at > self._at:
            first = data[at + self._at]
            number = 1 if first < 0x80 else {0xCC: 2, 0xCD: 3, 0xCE: 5}[first]
            if end - at < self._forward + number:
                break
            taken = data[at + self._at : at + self._at + number]
            out.append(callee.framed(before + taken + behind))
            at += self._forward + number
        self._rest = data[at:]
        if out:
            callee.transport.write(b"".join(out))

    def exchange(self, round_trips: int, under_way: int) -> asyncio.Future[None]:
        return self._caller.exchange(self._request, self._size, round_trips, under_way)


def relay_client(number: int) -> Client:
    """A peer of our relay, on the raw carrier."""
    return RelayClient(number)


def relay_websocket_client(number: int) -> Client:
    """A peer of our relay, over a WebSocket; each message is a frame."""
    return _RelayWebSocketClient(number)


def nats_client(number: int) -> Client:
    """A client of nats-server, with one subscription."""
    return _NatsClient(number)


def mosquitto_client(number: int) -> Client:
    """A client of mosquitto (MQTT 3.1.1), with one subscription."""
    return _MosquittoClient(number)


def peerjs_client(number: int) -> Client:
    """A client of a PeerJS server."""
    return _PeerJSClient(number)


def _relay_pair(caller: Client, callee: Client) -> Pair:
    assert isinstance(caller, RelayClient)
    assert isinstance(callee, RelayClient)
    return _Requests(caller, callee)


def _nats_pair(caller: Client, callee: Client) -> Pair:
    def sent(to: Client) -> bytes:
        return b"PUB p%d %d\r\n%s\r\n" % (to.number, REQUEST_BYTES, _PAYLOAD)

    def received(by: Client) -> int:
        return len(b"MSG p%d 1 %d\r\n%s\r\n" % (by.number, REQUEST_BYTES, _PAYLOAD))

    return _Plain(
        caller, callee, (sent(callee), sent(caller)), (received(callee), received(caller))
    )


def _mosquitto_pair(caller: Client, callee: Client) -> Pair:
    def published(to: Client) -> bytes:
        topic = b"p%d" % to.number
        body = len(topic).to_bytes(2) + topic + _PAYLOAD
        return b"\x30" + bytes([len(body) & 0x7F | 0x80, len(body) >> 7]) + body

    frames = published(callee), published(caller)
    return _Plain(caller, callee, frames, (len(frames[0]), len(frames[1])))


def _peerjs_pair(caller: Client, callee: Client) -> Pair:
    def text(sender: Client, to: Client, *, passed_on: bool) -> bytes:
        # As the server passes it on: it writes `src` behind `type`.
        payload = _PAYLOAD[:64].hex()[:64]
        source = {"src": f"p{sender.number}"} if passed_on else {}
        message = {"type": "OFFER", **source, "dst": f"p{to.number}", "payload": payload}
        return json.dumps(message, separators=(",", ":")).encode()

    return _Plain(
        caller,
        callee,
        (
            _frame(text(caller, callee, passed_on=False), 1),
            _frame(text(callee, caller, passed_on=False), 1),
        ),
        (
            len(text(caller, callee, passed_on=True)),
            len(text(callee, caller, passed_on=True)),
        ),
    )


@dataclass(frozen=True)
class Contender:
    """How clients of one kind of server are made, and how two of them talk."""

    client: Callable[[int], Client]
    pair: Callable[[Client, Client], Pair]


REQUEST_BYTES = 300
"""Of a message, as ours has them with one entry; PeerJS carries 64, in JSON."""
_PAYLOAD = os.urandom(REQUEST_BYTES).replace(b"\r", b"\n")

CONTENDERS = {
    "raw": Contender(relay_client, _relay_pair),
    "websocket": Contender(relay_websocket_client, _relay_pair),
    "nats": Contender(nats_client, _nats_pair),
    "mosquitto": Contender(mosquitto_client, _mosquitto_pair),
    "peerjs": Contender(peerjs_client, _peerjs_pair),
}


async def open_clients(contender: Contender, server: Server, numbers: range) -> list[Client]:
    """Register clients with these numbers, a few at a time; each comes from an address of its
    own."""
    opened = [contender.client(number) for number in numbers]
    await register(opened, server)
    return opened


async def register(clients: Sequence[Client], server: Server) -> None:
    """Register clients, a few at a time."""
    loop = asyncio.get_running_loop()
    waiting = iter(clients)

    async def work() -> None:
        for client in waiting:
            await loop.create_connection(
                lambda client=client: client,  # type: ignore[misc]
                server.host,
                server.port,
                local_addr=(client.host, 0),
            )
            async with asyncio.timeout(_TIMEOUT):
                await client.ready

    async with asyncio.TaskGroup() as tasks:
        for _ in range(_AT_ONCE):
            tasks.create_task(work())
