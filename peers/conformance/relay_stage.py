"""What the checks of a relay are made with: peers that the kit plays to it, each with a new key."""

import base64
import json
import os
import ssl
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from yarl import URL

from peers.conformance.checks import Checks
from peers.conformance.faults import Fault, within
from peers.conformance.pipes import Dials, Pipe, SocketPipe, WebSocketPipe
from peers.conformance.played_relay import signed_by
from peers.conformance.talk import Map, Talk, packed
from protocol.errors import RoamRelayError
from protocol.identity import (
    CONTEXT_CHALLENGE,
    CONTEXT_PLANE,
    CONTEXT_REGISTER,
    Identity,
    public_key_of,
    verify,
)

__all__ = ["RELAY", "Answer", "Member", "RelayStage", "located"]

_KEY = base64.b64encode(bytes(range(16))).decode()
RAW = ("Connection: Upgrade", "Upgrade: roam-relay/1")
WEBSOCKET = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    f"Sec-WebSocket-Key: {_KEY}",
)
NAMED = (*WEBSOCKET, "Sec-WebSocket-Protocol: roam-relay.1")


@dataclass
class Answer:
    """What came of one HTTP request."""

    status: int
    headers: dict[str, str]
    pipe: SocketPipe
    body: bytes = b""

    @property
    def code(self) -> str:
        """The code of a refusal: in its header and in its body alike.

        Raises:
            Fault: it is not in both.
        """
        try:
            told = json.loads(self.body)["code"]
        except (ValueError, LookupError, TypeError):
            raise Fault(f"status {self.status} with a body that names no code (R3.18)") from None
        if self.headers.get("roam-relay-code") != told:
            header = self.headers.get("roam-relay-code")
            raise Fault(f"the header says {header!r}, the body {told!r} (R3.18)")
        return str(told)

    @property
    def stream(self) -> Pipe:
        """The byte stream behind a 101.

        Raises:
            Fault: there is none.
        """
        if self.status != 101:
            raise Fault(f"status {self.status} in place of an upgrade: {self.body[:200]!r}")
        if self.headers.get("upgrade", "").lower() == "websocket":
            return WebSocketPipe(self.pipe, is_client=True)
        return self.pipe


@dataclass
class Member:
    """A peer that the kit plays."""

    stage: "RelayStage"
    identity: Identity = field(default_factory=Identity.generate)
    instance: bytes = field(default_factory=lambda: os.urandom(16))
    nonce: bytes = field(default_factory=lambda: os.urandom(32))
    seq: int = field(default_factory=lambda: time.time_ns() // 1_000_000)
    challenge: Map = field(default_factory=dict)
    registered: Map = field(default_factory=dict)
    talk: Talk | None = None

    @property
    def guid(self) -> str:
        """Its GUID."""
        return self.identity.guid

    @property
    def here(self) -> Talk:
        """Its control connection."""
        if self.talk is None:
            raise Fault("the kit has no control connection")
        return self.talk

    async def connect(self, *headers: str) -> Talk:
        """Open a control connection."""
        answer = await self.stage.ask("/v1/control", *(headers or RAW))
        self.talk = Talk(answer.stream)
        return self.talk

    def hello(self, **changed: Any) -> Map:
        """Return its hello."""
        fields: Map = {"guid": self.guid, "instance": self.instance, "nonce": self.nonce}
        return {"type": "hello", **fields, **changed}

    async def challenged(self, **changed: Any) -> None:
        """Say hello, and check the challenge."""
        self.here.put(self.hello(**changed))
        self.challenge = await self.here.expect("challenge")
        guid, nonce = self.challenge.get("guid"), self.challenge.get("nonce")
        signature = self.challenge.get("signature")
        if not (isinstance(guid, str) and isinstance(nonce, bytes) and len(nonce) == 32):
            raise Fault(f"a challenge with {sorted(self.challenge)}")
        try:
            parts = public_key_of(self.guid), self.nonce, nonce
            verify(guid, signature or b"", CONTEXT_CHALLENGE, *parts)
        except RoamRelayError as error:
            raise Fault(f"the challenge signature does not hold: {error} (R5.2)") from None

    def record(self, *services: Map, seq: int | None = None) -> bytes:
        """Return a record with a new number, unless it is told another."""
        self.seq += 1
        return packed({"seq": self.seq if seq is None else seq, "services": list(services)})

    def register(self, location: bytes, **changed: Any) -> None:
        """Register."""
        relay = public_key_of(self.challenge["guid"])
        parts = relay, self.challenge["nonce"], self.identity.public_key, self.instance, location
        signature = self.identity.sign(CONTEXT_REGISTER, *parts)
        self.here.say("register", **{"location": location, "signature": signature, **changed})

    async def join(
        self, *services: Map, headers: tuple[str, ...] = RAW, features: Sequence[str] = ()
    ) -> "Member":
        """Do the whole handshake; services that are a name are offered where the relay sees it."""
        await self.connect(*headers)
        await self.challenged(**({"features": list(features)} if features else {}))
        self.register(self.record(*services))
        self.registered = await self.here.expect("registered")
        return self

    async def offer(self, *services: Map) -> None:
        """Replace the record, with entries where the relay sees this peer."""
        self.here.say("update", location=self.record(*services))
        self.registered = await self.here.find("registered")

    @property
    def host(self) -> str:
        """Where the relay sees it.

        Raises:
            Fault: it does not say.
        """
        if host := self.registered.get("observed_host"):
            return str(host)
        raise Fault("the relay does not say from where it sees its peers: the kit needs that")

    def entry(self, service: str = "chat", **changed: Any) -> Map:
        """Return an entry where the relay sees it."""
        fields = {"port": 4000, "host": self.host, "seq": self.seq, **changed}
        return signed_by(self.identity, service, **fields)

    async def offering(
        self, service: str = "chat", features: Sequence[str] = (), **more: Any
    ) -> "Member":
        """Join, and offer a service with one entry."""
        await self.join(features=features)
        await self.offer({"service": service, "entries": [self.entry(service)], **more})
        return self

    async def request(self, guid: str, mode: str, **more: Any) -> Map:
        """Ask for a session; return the response."""
        number = self.ask(guid, mode, **more)
        return await self.here.find("service_response", request=number)

    def ask(self, guid: str, mode: str, **more: Any) -> int:
        """Ask for a session; return the number of the request."""
        number = int.from_bytes(os.urandom(4), "big")
        fields: Map = {"service": "chat", "session": os.urandom(16), **more}
        self.here.say("service_request_to", request=number, guid=guid, mode=mode, **fields)
        return number

    async def answer(self, verdict: str = "accepted", **more: Any) -> Map:
        """Answer the next request that comes; return it."""
        asked = await self.here.find("service_request_from")
        self.here.say("service_answer", request=asked["request"], verdict=verdict, **more)
        return asked

    def leg_target(self, ticket: str, *, signature: str | None = None) -> str:
        """Return what a request for a leg asks for."""
        relay = public_key_of(self.challenge["guid"])
        signed = self.identity.sign(CONTEXT_PLANE, relay, ticket.encode())
        told = base64.urlsafe_b64encode(signed).decode().rstrip("=")
        return f"/v1/plane/{ticket}?guid={self.guid}&signature={signature or told}"

    async def leg(self, ticket: str, *headers: str, websocket: bool = False) -> Answer:
        """Ask for a leg."""
        upgrade = NAMED if websocket else RAW
        return await self.stage.ask(self.leg_target(ticket), *upgrade, *headers)


class RelayStage:
    """One relay, at a URL."""

    def __init__(self, url: str) -> None:
        self._url = URL(url)
        if self._url.scheme not in ("http", "https") or not self._url.host:
            raise Fault(f"{url} is no http:// or https:// URL")
        self._dials = Dials()

    @property
    def url(self) -> str:
        """Where it is."""
        return str(self._url)

    async def enter(self) -> "RelayStage":
        """Begin the next check: what the last one has left is cut."""
        await self._dials.cut()
        return self

    async def ask(self, target: str, *headers: str) -> Answer:
        """Make one HTTP request."""
        host, port = str(self._url.host), int(self._url.port or 80)
        context = None
        if self._url.scheme == "https":
            context = ssl.create_default_context()
        pipe = await self._dials.dial(host, port, tls=context)
        lines = [f"GET {target} HTTP/1.1", f"Host: {host}:{port}", *headers]
        pipe.send(("\r\n".join(lines) + "\r\n\r\n").encode())
        line, *rest = (await pipe.head()).split("\r\n")
        try:
            status = int(line.split(" ")[1])
        except (LookupError, ValueError):
            raise Fault(f"no HTTP: {line!r}") from None
        told = (one.partition(":") for one in rest)
        answer = Answer(
            status, {name.strip().lower(): value.strip() for name, _, value in told}, pipe
        )
        if status != 101:
            answer.body = await _body(answer)
        return answer

    async def member(self, *services: Map) -> Member:
        """Return a peer that is registered."""
        return await Member(self).join(*services)

    @asynccontextmanager
    async def greeted(self, headers: tuple[str, ...] = RAW) -> AsyncIterator[Member]:
        """A peer that was challenged, and has not registered."""
        member = Member(self)
        await member.connect(*headers)
        await member.challenged()
        yield member


async def _body(answer: Answer) -> bytes:
    size = int(answer.headers.get("content-length", "0"))
    body = b""
    async with within("whole body"):
        while len(body) < size and (data := await answer.pipe.receive()):
            body += data
    return body


def located(response: Map) -> list[bytes]:
    """Return the bodies of the entries of a response."""
    return [entry["body"] for entry in response.get("entries", ())]


async def ended_with(talk: Talk, code: str, seconds: float | None = None) -> None:
    """The relay must say this code and end the connection.

    Raises:
        Fault: it does not.
    """
    said = await talk.closed(f"behind `{code}`", seconds)
    codes = [one.get("code") for one in said if isinstance(one, dict) and one["type"] == "error"]
    if codes[-1:] != [code]:
        raise Fault(f"says {codes or 'nothing'} at the end, not {code}")


RELAY: Checks[RelayStage] = Checks("relay")
"""All checks of a relay."""
