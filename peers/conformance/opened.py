"""The peer under test, once it was told to open, and how the kit's peers reach it: directly, or
over planes of the relay that the kit plays, as far as it takes the one or the other.
"""

import os
from dataclasses import dataclass

import msgpack

from peers.conformance.adapter import Adapter
from peers.conformance.credentials import Credentials, guid_in, own
from peers.conformance.end import End
from peers.conformance.faults import Fault, NotApplicable
from peers.conformance.noise import LockFacts, NoisePipe
from peers.conformance.pipes import Dials, Pipe, SocketPipe, TlsPipe
from peers.conformance.played_relay import Control, PlayedRelay
from peers.conformance.talk import Map, Talk
from protocol.errors import RoamRelayError
from protocol.identity import Identity
from protocol.offer import make_offer, open_answer

__all__ = [
    "SERVICE",
    "Called",
    "Came",
    "Opened",
    "PathRefused",
    "PlaneRequest",
    "Ways",
    "next_ticket",
    "path_on",
    "server_on",
    "ways_of",
]

SERVICE = "chat"
"""What the peer under test offers: it sends each message back, and closes when the other does."""


class PathRefused(Fault):
    """The peer refuses a request for a path, by a code."""

    def __init__(self, code: str) -> None:
        super().__init__(f"refuses a request for a path ({code})")
        self.code = code


@dataclass(frozen=True, slots=True)
class Ways:
    """How a peer can be reached."""

    direct: bool = True
    """Whether it names an endpoint at this host."""
    lock: str = "tls"
    """What its planes are locked by."""


@dataclass
class Opened:
    """The peer under test, once it was told to open."""

    name: str
    """What the adapter calls it."""
    identity: Identity
    relay: PlayedRelay
    adapter: Adapter
    dials: Dials
    ways: Ways = Ways()
    control: Control | None = None
    shut: bool = False
    """Whether it was told to close already."""

    @property
    def guid(self) -> str:
        """Its GUID."""
        return self.identity.guid

    @property
    def at_relay(self) -> Control:
        """Its control connection."""
        if self.control is None:
            raise Fault("the peer is not registered")
        return self.control

    @property
    def mode(self) -> str:
        """The mode of sessions with it, where a check wants no certain one."""
        return "p2p" if self.ways.direct else "central"

    def need_direct(self) -> None:
        """Go on only where it takes direct paths.

        Raises:
            NotApplicable: it takes none.
        """
        if not self.ways.direct:
            raise NotApplicable("the peer takes no direct paths")

    def need_tls(self) -> None:
        """Go on only where its paths are locked by TLS.

        Raises:
            NotApplicable: they are not.
        """
        if not self.ways.direct and self.ways.lock != "tls":
            raise NotApplicable("the peer takes no TLS")

    def end(self, service: str = SERVICE, *, revised: bool | None = False) -> End:
        """Return the kit's end of a new session with it."""
        end = End(service, revised=revised)
        end.mode = self.mode
        return end

    async def path(
        self, caller: Identity, end: End, credentials: Credentials | None = None
    ) -> Talk:
        """Make a path to it for a session, and prove both sides.

        Raises:
            PathRefused: it wants none.
        """
        if self.ways.direct:
            pipe: Pipe = await self.dials.dial(*self.at_relay.endpoint(SERVICE))
            return Talk(await path_on(pipe, credentials or own(caller), self.guid))
        request = PlaneRequest(self, caller, end)
        if self.ways.lock == "noise":
            return Talk(await request.locked())
        request.chosen(await request.ask("tls"))
        return Talk(await path_on(await request.leg(), credentials or own(caller), self.guid))

    async def session(self, *, revised: bool | None = None, window: int = 8 << 20) -> "Called":
        """Open a session with it, as a peer that nobody has seen before."""
        called = self.called(revised=revised, window=window)
        await called.take(await self.path(called.caller, called))
        return called

    def called(self, *, revised: bool | None = None, window: int = 8 << 20) -> "Called":
        """Return the kit's end of a session that is to be opened."""
        called = Called(SERVICE, revised=revised, window=window)
        called.peer = self
        called.mode = self.mode
        return called

    async def comes(self, end: "Called", came: "Came") -> tuple[Talk, str]:
        """Return the path that the peer makes by itself for a session of the kit's, and who it is;
        `came` is where it would dial directly."""
        if self.ways.direct:
            return await server_on(await came.next(), own(end.caller))
        arrival = await self.relay.leg(end.ticket, self.guid)
        end.ticket = next_ticket()
        leg = arrival.accept_leg(end.ticket)
        if self.ways.lock == "tls":
            return await server_on(leg, own(end.caller))
        # Whom a ticket brings has offered nothing (R18.6).
        return await self.answer(leg, end.caller, end.id, ()), self.guid

    async def answer(
        self, leg: Pipe, callee: Identity, session: bytes, offered: tuple[str, ...]
    ) -> Talk:
        """Prove both sides on a leg by Noise, where this peer has made the path."""
        relay, key = self.relay.identity.public_key, self.identity.public_key
        pipe = NoisePipe(leg, LockFacts(callee, key, session, relay, offered, is_caller=False))
        await pipe.prove()
        return Talk(pipe)


class Came:
    """Where the kit is dialed."""

    async def next(self, seconds: float | None = None) -> SocketPipe:
        """Return the next connection."""
        raise NotImplementedError


class Called(End):
    """A session that the kit has opened with the peer under test."""

    def __init__(self, service: str, *, revised: bool | None, window: int = 8 << 20) -> None:
        super().__init__(service, revised=revised, window=window)
        self.caller = Identity.generate()
        self.peer: Opened | None = None

    async def move(self, *, cut: bool = True, **changed: object) -> Talk:
        """Go on over a new path; return the old one, which is cut before, unless `cut` is false."""
        old, peer = self.path, self.peer
        if peer is None:
            raise Fault("the session of the kit has no peer")
        if cut:
            old.pipe.abort()
        self.number += 1
        await self.take(await peer.path(self.caller, self), **changed)
        return old


class PlaneRequest:
    """A request for a plane of one whom the kit plays, as its relay passes it on, with an offer."""

    def __init__(
        self, peer: Opened, caller: Identity | None = None, end: End | None = None
    ) -> None:
        self.peer = peer
        self.caller = caller or Identity.generate()
        self.end = end or End(SERVICE, revised=None)
        if end is None:
            self.end.mode = "central"
        self.ticket = next_ticket()
        self.offered: tuple[str, ...] = ()
        self.offer = b""

    async def ask(self, *locks: str) -> Map:
        """Have the relay pass it on; return the peer's answer."""
        self.offered, end = locks, self.end
        body = msgpack.packb({"locks": locks, "relay": self.peer.relay.identity.public_key})
        if locks:
            self.offer = make_offer(self.caller, self.peer.guid, end.id, body)
        number, talk = int.from_bytes(os.urandom(3), "big"), self.peer.at_relay.talk
        talk.say(
            "service_request_from",
            request=number,
            guid=self.caller.guid,
            service=end.service,
            mode=end.mode,
            session=end.id,
            ticket=self.ticket,
            offer=self.offer,
            **({"resume": True} if end.talk is not None else {}),
        )
        return await talk.find("service_answer", request=number)

    def chosen(self, answer: Map) -> object:
        """Return the lock that an answer names; None where it names none.

        Raises:
            PathRefused: it refuses.
            Fault: its offer does not hold.
        """
        if answer.get("verdict") != "accepted":
            raise PathRefused(str(answer.get("code")))
        offer = answer.get("offer", b"")
        if not offer:
            return None
        guid, caller, session = self.peer.guid, self.caller.guid, self.end.id
        try:
            body = open_answer(offer, guid, caller, session, self.offer)
        except RoamRelayError as error:
            raise Fault(f"what answers an offer does not hold: {error} (R7.72)") from None
        said = msgpack.unpackb(body)
        return said.get("lock") if isinstance(said, dict) else None

    async def leg(self) -> Pipe:
        """Return the other end of the peer's leg."""
        arrival = await self.peer.relay.leg(self.ticket, self.peer.guid)
        self.end.ticket = next_ticket()
        return arrival.accept_leg(self.end.ticket)

    def facts(self) -> LockFacts:
        """Return what the caller's side of its lock knows."""
        relay, key = self.peer.relay.identity.public_key, self.peer.identity.public_key
        return LockFacts(self.caller, key, self.end.id, relay, self.offered, is_caller=True)

    async def locked(self) -> NoisePipe:
        """Ask for a plane under Noise, and prove both sides on it."""
        if (chosen := self.chosen(await self.ask("noise"))) != "noise":
            raise Fault(f"chooses {chosen!r} where Noise alone is offered (R18.2)")
        pipe = NoisePipe(await self.leg(), self.facts())
        await pipe.prove()
        return pipe


async def ways_of(peer: Opened) -> Ways:
    """Find out how a peer that is registered can be reached."""
    if peer.at_relay.entries(SERVICE):
        return Ways()
    request = PlaneRequest(peer)
    answer = await request.ask("tls", "noise")
    try:
        lock = request.chosen(answer)
    except PathRefused:
        return Ways(direct=False)
    (await request.leg()).abort()
    return Ways(direct=False, lock="noise" if lock == "noise" else "tls")


def next_ticket() -> str:
    """Return a ticket."""
    return os.urandom(16).hex()


async def path_on(pipe: Pipe, credentials: Credentials, guid: str) -> TlsPipe:
    """Prove both sides on a stream, as the caller, who wants this peer."""
    tls = TlsPipe(pipe, credentials, is_server=False)
    found = guid_in(await tls.prove())
    if found != guid:
        raise Fault(f"the certificate's key is {found}, not {guid} (R10.3)")
    return tls


async def server_on(pipe: Pipe, credentials: Credentials) -> tuple[Talk, str]:
    """Prove both sides on a stream, as the callee; return the path and who has called."""
    tls = TlsPipe(pipe, credentials, is_server=True)
    guid = guid_in(await tls.prove())
    return Talk(tls), guid
