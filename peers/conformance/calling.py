"""A session that the peer under test opens, with the kit as relay and as callee."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from peers.conformance.adapter import Said
from peers.conformance.credentials import own
from peers.conformance.end import End
from peers.conformance.faults import Fault, within
from peers.conformance.peer_stage import SERVICE, Listener, Opened, PeerStage, server_on
from peers.conformance.pipes import Pipe
from peers.conformance.played_relay import signed_by
from peers.conformance.talk import Map, Talk
from protocol.identity import Identity

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

    @property
    def entry(self) -> Map:
        """Where the kit can be dialed."""
        return signed_by(self.callee, SERVICE, self.listener.port)

    async def asked(self) -> Map:
        """Read the request at the relay."""
        talk = self.peer.at_relay.talk
        self.request = await talk.find("service_request_to", guid=self.callee.guid)
        return self.request

    def respond(self, **fields: Any) -> None:
        """Answer it."""
        self.peer.at_relay.talk.say(
            "service_response", request=self.request["request"], state="online", **fields
        )

    async def hello_on(self, pipe: Pipe) -> tuple[Talk, Map]:
        """Prove both sides on a stream, as the callee, and read the hello."""
        path, guid = await server_on(pipe, own(self.callee))
        if guid != self.peer.guid:
            raise Fault(f"the caller's certificate is that of {guid}")
        return path, await path.expect("path_hello")

    async def next_hello(self) -> tuple[Talk, Map]:
        """Return the next path that comes directly, with its hello. Of several that are tried at
        once most are given up."""
        async with within("path with a hello"):
            while True:
                with contextlib.suppress(Fault):
                    return await self.hello_on(await self.listener.next())

    def welcome(self, path: Talk, hello: Map, *, revised: bool = True) -> End:
        """Answer a hello; return the kit's end of the session."""
        revised = revised and "session-2" in hello.get("features", ())
        end = End(SERVICE, revised=revised)
        end.id = hello["session"]
        end.mode = self.mode
        path.say("path_welcome", **end.numbers())
        end.begin(path, hello)
        return end

    async def direct(self, *, revised: bool = True) -> End:
        """Answer the request with where the kit is, and take the path that comes."""
        await self.asked()
        self.respond(entries=[self.entry])
        path, hello = await self.hello_on(await self.listener.next())
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
    stage: PeerStage, mode: str = "p2p", *, by: Opened | None = None, metadata: bytes = b""
) -> AsyncIterator[Call]:
    """A peer, the one that stands unless it is said by which, is told to open a session with the
    kit, and perhaps what it says to the kit's application; it is ended behind the check."""
    async with Listener() as listener:
        call = Call(by or await stage.standing(), listener, mode, metadata)
        try:
            yield call
        finally:
            if call.outcome.done() and not call.outcome.exception():
                await call.do("abort")
            call.outcome.cancel()
            await asyncio.wait({call.outcome})
