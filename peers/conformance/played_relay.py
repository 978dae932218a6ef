"""A relay that the kit plays to a peer: right, or wrong in whatever a check wants.

It accepts connections and leaves it to the check what becomes of each: a control connection, a leg
of a plane, a refusal.
"""

import asyncio
import base64
import hashlib
import json
import os
from typing import Any

import msgpack

from peers.conformance.faults import Fault, within
from peers.conformance.frames import Kind
from peers.conformance.pipes import EarlyPipe, Pipe, SocketPipe, WebSocketPipe
from peers.conformance.talk import Map, Talk
from protocol.errors import RoamRelayError
from protocol.identity import (
    CONTEXT_CHALLENGE,
    CONTEXT_ENDPOINT,
    CONTEXT_PLANE,
    CONTEXT_REGISTER,
    Identity,
    public_key_of,
    verify,
)

__all__ = ["Arrival", "Control", "PlayedRelay", "signed_by"]

PAGE, PLAIN = "roam-relay.1-page", "roam-relay.1"
"""Subprotocols of a WebSocket: that of pages, and that of everybody."""
_ACCEPT = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_TURNS = 5
HEARTBEAT = 300.0
"""Seconds: no check waits so long, so that no heartbeat comes between."""


class Arrival:
    """One HTTP request, and its connection."""

    def __init__(self, head: str, pipe: SocketPipe) -> None:
        self.line, *lines = head.split("\r\n")
        self.headers = {
            name.strip().lower(): content.strip()
            for name, _, content in (line.partition(":") for line in lines)
        }
        self.pipe = pipe

    @property
    def target(self) -> str:
        """What is asked for."""
        parts = self.line.split(" ")
        if len(parts) != 3 or parts[0] != "GET" or parts[2] != "HTTP/1.1":
            raise Fault(f"no GET of HTTP/1.1: {self.line!r}")
        return parts[1]

    @property
    def protocols(self) -> list[str]:
        """The subprotocols that a WebSocket names."""
        return [name.strip() for name in self.headers.get("sec-websocket-protocol", "").split(",")]

    @property
    def is_page(self) -> bool:
        """Whether it is asked for as a page asks (R18.23)."""
        return self.is_websocket and PAGE in self.protocols

    @property
    def is_websocket(self) -> bool:
        """Whether a WebSocket is asked for."""
        return self.headers.get("upgrade", "").lower() == "websocket"

    def accept(self, *more: str, before: str = "", as_page: bool = True) -> Pipe:
        """Switch to the byte stream; `more` are headers, `before` is said before the answer. With
        `as_page` false the relay knows nothing of pages."""
        lines = ["HTTP/1.1 101 Switching Protocols", "Connection: Upgrade", *more]
        if self.is_websocket:
            key = self.headers.get("sec-websocket-key", "").encode()
            digest = hashlib.sha1(key + _ACCEPT, usedforsecurity=False).digest()
            lines += [
                "Upgrade: websocket",
                f"Sec-WebSocket-Accept: {base64.b64encode(digest).decode()}",
                f"Sec-WebSocket-Protocol: {PAGE if self.is_page and as_page else PLAIN}",
            ]
        else:
            lines.append("Upgrade: roam-relay/1")
        self.pipe.send((before + "\r\n".join(lines) + "\r\n\r\n").encode())
        return WebSocketPipe(self.pipe, is_client=False) if self.is_websocket else self.pipe

    def accept_leg(self, resume: str, *, as_page: bool = True) -> Pipe:
        """Switch to the byte stream of a leg, with the bytes that have come with the request;
        `resume` is the ticket for the next plane."""
        early = self.early() if as_page or not self.is_page else b""
        pipe = self.accept(f"Roam-Relay-Resume: {resume}", as_page=as_page)
        if self.is_page and as_page and isinstance(pipe, WebSocketPipe):
            told = json.dumps({"resume": resume, "later": 1}).encode()
            pipe.send_frames(pipe.frames.encode(Kind.TEXT, told))
        return EarlyPipe(pipe, early)

    def early(self) -> bytes:
        """Return the bytes that come with the request for a leg.

        Raises:
            Fault: they cannot be read, or are too many.
        """
        rule, told = "R9.12", self.headers.get("roam-relay-early", "")
        asked = self.target.partition("?")[2].split("&")
        for part in asked:
            if self.is_page and part.startswith("early="):
                rule, told = "R18.27", part.removeprefix("early=")
                if "=" in told:
                    raise Fault("the early bytes in a query have no padding (R18.27)")
                told = told.replace("-", "+").replace("_", "/") + "=" * (-len(told) % 4)
        try:
            early = base64.b64decode(told, validate=True)
        except ValueError:
            raise Fault(f"the early bytes are no base64 ({rule})") from None
        if len(early) > 4096:
            raise Fault(f"{len(early)} early bytes ({rule})")
        return early

    def refuse_page(self, status: int, code: str, seconds: str = "") -> None:
        """Say no, and close, as a page is told (R18.24)."""
        pipe = self.accept()
        if not isinstance(pipe, WebSocketPipe):
            raise Fault("no WebSocket was asked for")
        pipe.close(4000 + status, f"{code} {seconds}" if seconds else code)

    def refuse(self, status: str, code: str, *more: str) -> None:
        """Say no, and close."""
        body = json.dumps({"code": code, "reason": "the kit says so"})
        lines = [
            f"HTTP/1.1 {status}",
            f"Roam-Relay-Code: {code}",
            f"Content-Length: {len(body)}",
            "Content-Type: application/json",
            "Connection: close",
            *more,
        ]
        self.pipe.send(("\r\n".join(lines) + "\r\n\r\n" + body).encode())
        self.pipe.close()


class PlayedRelay:
    """It listens on loopback. Use it in an `async with`."""

    def __init__(self) -> None:
        self.identity = Identity.generate()
        self._server: asyncio.Server | None = None
        self._controls: asyncio.Queue[Arrival] = asyncio.Queue()
        self._planes: asyncio.Queue[Arrival] = asyncio.Queue()
        self._legs: dict[str, Arrival] = {}
        """What has asked for a leg that nobody awaits yet, by where it asks."""
        self._pipes: list[SocketPipe] = []

    async def __aenter__(self) -> "PlayedRelay":
        self._server = await asyncio.start_server(self._came, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
        # What was accepted just before is here some turns of the loop later.
        for _turn in range(_TURNS):
            for pipe in self._pipes:
                pipe.abort()
            self._pipes.clear()
            await asyncio.sleep(0)

    @property
    def url(self) -> str:
        """Its URL."""
        if self._server is None:
            raise Fault("the relay of the kit is not open")
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def arrival(self, seconds: float | None = None) -> Arrival:
        """Return the next request for a control connection.

        Raises:
            Fault: none comes in time.
        """
        async with within("request for a control connection", seconds):
            return await self._controls.get()

    async def nobody(self, seconds: float) -> None:
        """Nobody may ask for a control connection for a while.

        Raises:
            Fault: somebody does.
        """
        try:
            async with asyncio.timeout(seconds):
                await self._controls.get()
        except TimeoutError:
            return
        raise Fault("the peer has come back to the relay")

    async def leg(self, ticket: str, guid: str) -> Arrival:
        """Return the next request for a leg, which must be for this ticket and rightly signed.

        Raises:
            Fault: it is not.
        """
        place = f"/v1/plane/{ticket}"
        try:
            async with within("request for a leg"):
                while place not in self._legs:
                    other = await self._planes.get()
                    self._legs[other.target.partition("?")[0]] = other
        except Fault:
            if not self._legs:
                raise
            raise Fault(f"a leg of another ticket: {', '.join(self._legs)}") from None
        arrival = self._legs.pop(place)
        query = arrival.target.partition("?")[2]
        asked = dict(part.split("=", 1) for part in query.split("&") if "=" in part)
        if asked.get("guid") != guid:
            raise Fault("the request for a leg does not name the peer's GUID")
        given = asked.get("signature", "")
        if len(given) != 86 or set(given) & set("+/="):
            raise Fault("a plane's signature is 86 characters of base64url, without padding")
        try:
            signature = base64.urlsafe_b64decode(given + "==")
            verify(guid, signature, CONTEXT_PLANE, self.identity.public_key, ticket.encode())
        except (ValueError, RoamRelayError) as error:
            raise Fault(f"the plane signature does not hold: {error}") from None
        return arrival

    async def control(self, seconds: float | None = None) -> "Control":
        """Accept the next control connection, and read its hello."""
        arrival = await self.arrival(seconds)
        control = Control(self.identity, Talk(arrival.accept()))
        await control.greeted()
        return control

    async def registered(self, service: str = "", seconds: float | None = None) -> "Control":
        """Accept the next control connection, and do the whole handshake; with `service`, until
        that is registered too."""
        control = await self.control(seconds)
        control.challenge()
        await control.proven()
        control.confirm()
        while service and not control.offers(service):
            await control.updated()
        return control

    async def _came(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pipe = SocketPipe(reader, writer)
        self._pipes.append(pipe)
        try:
            arrival = Arrival(await pipe.head(), pipe)
        except Fault:
            pipe.abort()
            return
        plane = " /v1/plane/" in arrival.line
        (self._planes if plane else self._controls).put_nowait(arrival)


class Control:
    """The relay's side of a control connection."""

    def __init__(self, identity: Identity, talk: Talk) -> None:
        self.identity = identity
        self.talk = talk
        self.hello: Map = {}
        self.nonce = os.urandom(32)
        self.register: Map = {}
        self.record: Map = {}

    @property
    def guid(self) -> str:
        """Who the peer says it is."""
        return str(self.hello["guid"])

    async def greeted(self) -> None:
        """Read the hello."""
        self.hello = await self.talk.expect("hello")

    def challenge(self, **changed: Any) -> None:
        """Answer it; `changed` are fields that are to be other than right."""
        key = public_key_of(self.guid)
        signature = self.identity.sign(CONTEXT_CHALLENGE, key, self.hello["nonce"], self.nonce)
        fields: Map = {"guid": self.identity.guid, "nonce": self.nonce, "signature": signature}
        if "offer" in self.hello.get("features", ()):
            fields["features"] = ["offer"]
        self.talk.say("challenge", **{**fields, **changed})

    async def proven(self) -> None:
        """Read and check what the peer registers.

        Raises:
            Fault: its signature does not hold, or its record cannot be read.
        """
        self.register = await self.talk.expect("register")
        location, signature = self.register.get("location"), self.register.get("signature")
        if not isinstance(location, bytes) or not isinstance(signature, bytes):
            raise Fault("`register` has two bins: location and signature")
        parts = self.identity.public_key, self.nonce, public_key_of(self.guid)
        try:
            verify(self.guid, signature, CONTEXT_REGISTER, *parts, self.hello["instance"], location)
        except RoamRelayError as error:
            raise Fault(f"the register signature does not hold: {error} (R5.4)") from None
        self.learn(location)

    async def updated(self) -> None:
        """Read an update, and say that it is in force.

        Raises:
            Fault: none comes, or its number is not a higher one.
        """
        before = self.record["seq"]
        self.learn((await self.talk.find("update"))["location"])
        if self.record["seq"] <= before:
            raise Fault(f"record {self.record['seq']} follows record {before} (R6.11)")
        self.confirm()

    def learn(self, location: bytes) -> None:
        """Note a record."""
        record = msgpack.unpackb(location)
        if not isinstance(record, dict) or not isinstance(record.get("seq"), int):
            raise Fault("a location record is a map with a `seq`")
        self.record = record

    def confirm(self, **changed: Any) -> None:
        """Say that the record is in force."""
        fields: Map = {
            "seq": self.record["seq"],
            "observed_host": "127.0.0.1",
            "observed_port": 50_000,
            "heartbeat": HEARTBEAT,
            "lease": 2 * HEARTBEAT,
        }
        self.talk.say("registered", **{**fields, **changed})

    def entries(self, service: str) -> list[Map]:
        """Return the signed entries of a service; none where it is not offered."""
        for one in self.record.get("services", ()):
            if one.get("service") == service:
                return list(one.get("entries", ()))
        return []

    def offers(self, service: str) -> bool:
        """Whether the record has a service."""
        return service in [one.get("service") for one in self.record.get("services", ())]

    def endpoint(self, service: str) -> tuple[str, int]:
        """Return where a service is dialed on this host.

        Raises:
            Fault: nowhere.
        """
        for signed in self.entries(service):
            fields = opened(self.guid, signed)
            if fields[2] == "127.0.0.1":
                return str(fields[2]), int(fields[3])
        raise Fault(
            f"the record has no entry of {service!r} at 127.0.0.1: the kit dials the peer there"
        )


def opened(guid: str, signed: Map) -> list[Any]:
    """Return what a signed entry says.

    Raises:
        Fault: it is no array of seven, or not signed by this peer.
    """
    try:
        verify(guid, signed["signature"], CONTEXT_ENDPOINT, public_key_of(guid), signed["body"])
        fields = msgpack.unpackb(signed["body"])
    except (RoamRelayError, ValueError, KeyError, TypeError) as error:
        raise Fault(f"an entry cannot be used: {error!r}") from None
    if not isinstance(fields, list) or len(fields) < 7:
        raise Fault(f"an entry is an array of seven, not {fields!r}")
    return fields


def signed_by(identity: Identity, service: str, port: int = 4000, **changed: Any) -> Map:
    """Return an entry at this host; `changed` are fields that are to be other than usual."""
    fields: Map = {
        "seq": 1,
        "service": service,
        "host": "127.0.0.1",
        "port": port,
        "phase": "preferred",
        "lifetime": 120,
        "provenance": "interface",
        **changed,
    }
    body = msgpack.packb(list(fields.values()))
    return {
        "body": body,
        "signature": identity.sign(CONTEXT_ENDPOINT, identity.public_key, body),
    }
