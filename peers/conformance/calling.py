"""A session that the peer under test opens, with the kit as relay and as callee."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgpack

from peers.conformance.adapter import Said
from peers.conformance.credentials import own
from peers.conformance.end import End
from peers.conformance.faults import Fault, within
from peers.conformance.opened import SERVICE, Opened, next_ticket, server_on
from peers.conformance.peer_stage import Listener, PeerStage
from peers.conformance.pipes import Pipe
from peers.conformance.played_relay import signed_by
from peers.conformance.talk import Map, Talk
from protocol.errors import RoamRelayError
from protocol.identity import Identity
from protocol.offer import answer_offer, open_offer

__all__ = ["Call", "calling"]


class Call:
    """A call of the peer under test, and the kit as callee."""

    def __init__(self, peer: Opened, listener: Listener, mode: str, metadata: bytes = b"") -> None:
        self.peer = peer
        self.listener = listener
        self.mode = mode
        self.callee = Identity.generate()
        self.name = os.urandom(6).hex()
        self.outcome: asyncio.Task[Map] = asyncio.create_task(
            peer.adapter.ask(
                "connect",
                20.0,
                peer=peer.name,
                session=self.name,
                guid=self.callee.guid,
                service=SERVICE,
                mode=mode,
                **({"metadata": metadata.hex()} if metadata else {}),
            )
        )
        self.request: Map = {}
        self.offered: tuple[str, ...] = ()
        """The locks that the request has offered."""
        self.ticket = ""
        """For the next plane."""

    @property
    def entry(self) -> Map:
        """Where the kit can be dialed."""
        return signed_by(self.callee, SERVICE, self.listener.port)

    async def asked(self) -> Map:
        """Read the request at the relay."""
        talk = self.peer.at_relay.talk
        self.request = await talk.find("service_request_to", guid=self.callee.guid)
        return self.request

    @property
    def is_direct(self) -> bool:
        """Whether the peer dials the kit, in this mode."""
        return self.mode in ("p2p", "combined")

    def respond(self, **fields: Any) -> None:
        """Answer it."""
        self.peer.at_relay.talk.say(
            "service_response", request=self.request["request"], state="online", **fields
        )

    async def answered(self, **fields: Any) -> tuple[Talk, Map]:
        """Answer it with where the kit is, or with a plane, as the mode demands; return the path
        that comes, with its hello."""
        return await self.hello_on(await self.comes(**fields))

    async def comes(self, **fields: Any) -> Pipe:
        """Answer it so; return the stream that comes."""
        if self.is_direct:
            self.respond(entries=[self.entry], **fields)
            return await self.listener.next()
        ticket = next_ticket()
        self.plane(ticket, **fields)
        return await self.leg(ticket)

    def plane(self, ticket: str, **fields: Any) -> None:
        """Answer it with a ticket for a plane."""
        if self.peer.ways.lock == "noise":
            fields["offer"] = self._offer()
        self.respond(ticket=ticket, **fields)

    async def leg(self, ticket: str) -> Pipe:
        """Return the other end of the leg that the peer opens by a ticket."""
        arrival = await self.peer.relay.leg(ticket, self.peer.guid)
        self.ticket = next_ticket()
        return arrival.accept_leg(self.ticket)

    async def hello_on(self, pipe: Pipe) -> tuple[Talk, Map]:
        """Prove both sides on a stream, as the callee, and read the hello."""
        if not self.is_direct and self.peer.ways.lock == "noise":
            session, offered = self.request["session"], self.offered
            # What follows on a ticket comes without an offer (R18.6).
            self.offered = ()
            path = await self.peer.answer(pipe, self.callee, session, offered)
            return path, await path.expect("path_hello")
        path, guid = await server_on(pipe, own(self.callee))
        if guid != self.peer.guid:
            raise Fault(f"the caller's certificate is that of {guid}")
        return path, await path.expect("path_hello")

    async def next_hello(self) -> tuple[Talk, Map]:
        """Return the next path that comes by itself, with its hello. Of several that are tried at
        once most are given up."""
        async with within("path with a hello"):
            while True:
                with contextlib.suppress(Fault):
                    pipe = await (self.listener.next() if self.is_direct else self.leg(self.ticket))
                    return await self.hello_on(pipe)

    def _offer(self) -> bytes:
        """Return what answers the offer of the request, which must take Noise."""
        session, asked = self.request["session"], self.request.get("offer", b"")
        try:
            body = msgpack.unpackb(open_offer(asked, self.peer.guid, self.callee.guid, session))
        except RoamRelayError as error:
            raise Fault(f"the offer of its request does not hold: {error} (R7.72)") from None
        if "noise" not in body.get("locks", ()):
            raise Fault(f"offers {body.get('locks')} in a request (R18.1)")
        if body.get("relay") != self.peer.relay.identity.public_key:
            raise Fault("names another relay's key in its offer (R18.1)")
        self.offered = tuple(body["locks"])
        answer = msgpack.packb({"lock": "noise"})
        return answer_offer(self.callee, self.peer.guid, session, asked, answer)

    def welcome(self, path: Talk, hello: Map, *, revised: bool = True) -> End:
        """Answer a hello; return the kit's end of the session."""
        revised = revised and "session-2" in hello.get("features", ())
        end = End(SERVICE, revised=revised)
        end.id = hello["session"]
        end.mode = self.mode
        path.say("path_welcome", **end.numbers())
        end.begin(path, hello)
        return end

    async def opens(self, *, revised: bool = True) -> End:
        """Answer the request, and take the path that comes."""
        await self.asked()
        path, hello = await self.answered()
        end = self.welcome(path, hello, revised=revised)
        await self.outcome
        return end

    async def fails(self, what: str) -> str:
        """The call must fail; return by which word."""
        try:
            await self.outcome
        except Said as said:
            return said.word
        raise Fault(f"the session is open, though {what}")

    async def do(self, what: str, **more: Any) -> Map:
        """Have the application do something with the session."""
        return await self.peer.adapter.ask(what, session=self.name, **more)


@asynccontextmanager
async def calling(
    stage: PeerStage, mode: str = "", *, by: Opened | None = None, metadata: bytes = b""
) -> AsyncIterator[Call]:
    """A peer, the one that stands unless it is said by which, is told to open a session with the
    kit, and perhaps what it says to the kit's application; it is ended behind the check. Without a
    mode, that is in `p2p` where it takes direct paths, else in `central`.

    Raises:
        NotApplicable: the mode needs direct paths, and it takes none.
    """
    peer = by or await stage.standing()
    if mode in ("p2p", "combined"):
        peer.need_direct()
    async with Listener() as listener:
        call = Call(peer, listener, mode or peer.mode, metadata)
        try:
            yield call
        finally:
            if call.outcome.done() and not call.outcome.exception():
                await call.do("abort")
            call.outcome.cancel()
            await asyncio.wait({call.outcome})
