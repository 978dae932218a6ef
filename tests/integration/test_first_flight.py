"""What somebody on the way gets who has recorded the first flight of a resumed path: nothing."""

import asyncio
import base64
import contextlib
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from peers import Identity, Mode, Peer, Session
from protocol.first_bytes import FLIGHT_HEAD, MAGIC, TLS_HANDSHAKE
from protocol.messages import MAX_EARLY
from relay.config import RelayConfig
from relay.server import RelayServer
from tests.support.delay_proxy import DelayProxy
from tests.support.far import HOSTS, far, unhurried
from tests.support.faults import reset
from tests.support.rooms import rooms
from tests.support.sessions import exchange, joined, pair, pathless

_RELAY = "127.0.44.1"
_EARLY = re.compile(rb"(?i)roam-relay-early: ([\w+/=]+)")


@dataclass
class Scene:
    """A session between two peers, and who stands on the way."""

    here: Session
    there: Session
    bob: Peer
    alice: Peer
    proxy: DelayProxy

    async def moved(self) -> bytes:
        """Resume the session; return what its new path has brought first."""
        before = len(self.proxy.first)
        assert reset(self.here)
        await pathless(self.here)
        await self.here.send(b"the oldest")
        await joined(self.here)
        assert await asyncio.wait_for(self.there.receive(), 60) == b"the oldest"
        return self.proxy.first[before]


@contextlib.asynccontextmanager
async def scene() -> AsyncIterator[Scene]:
    async with (
        RelayServer(RelayConfig(port=0)) as relay,
        far(relay, 0.0) as there,
        unhurried(relay) as bob,
    ):
        listener = rooms(there.peer).services.listeners["chat"]
        session = await bob.connect(there.peer.guid, "chat", mode="p2p")
        callee = await asyncio.wait_for(anext(listener), 60)
        # Only the caller dials, so that all goes over the one who records.
        rooms(bob).direct.close()
        yield Scene(session, callee, bob, there.peer, there.proxies[HOSTS[0]])
        session.abort()


async def said_to(port: int, data: bytes) -> bytes:
    """Say this to a peer that listens, as anybody can, and return what it says first."""
    async with asyncio.timeout(60):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(data)
            return await reader.read(1)
        finally:
            writer.close()


async def test_a_first_path_has_none_and_a_resumed_one_begins_with_it() -> None:
    async with scene() as at:
        assert {first[0] for first in at.proxy.first} == {TLS_HANDSHAKE}
        first = await at.moved()
        assert first.startswith(MAGIC + b"\x01\x01")
        size = int.from_bytes(first[FLIGHT_HEAD - 2 : FLIGHT_HEAD], "big")
        assert first[FLIGHT_HEAD + size] == TLS_HANDSHAKE, "and TLS stands right behind it"
        assert b"the oldest" not in first
        assert at.here.id not in first
        both = [rooms(one).sessions for one in (at.bob, at.alice)]
        assert [one.find_by_flight(first[4:20]) is not None for one in both] == [True, True]
        await at.here.close()
        await asyncio.wait_for(at.there.close(), 60)
        assert [one.find_by_flight(first[4:20]) for one in both] == [None, None]


async def test_a_callee_that_dials_for_the_first_time_says_nothing_before_tls_and_is_answered() -> (
    None
):
    """It has not met its caller yet where that listens: R10.56."""
    async with (
        RelayServer(RelayConfig(port=0)) as relay,
        far(relay, 0.0) as there,
        unhurried(relay) as alice,
    ):
        listener = alice.listen("chat")
        caller = await there.peer.connect(alice.guid, "chat", mode="p2p", wait=True)
        callee = await asyncio.wait_for(anext(listener), 60)
        rooms(alice).direct.close()
        first = there.proxies[HOSTS[0]].first
        before = len(first)
        assert reset(callee)
        await pathless(callee)
        await callee.send(bytes(2000))
        await caller.send(b"in the answer, or behind TLS")
        await joined(callee)
        assert await asyncio.wait_for(callee.receive(), 60) == b"in the answer, or behind TLS"
        assert await asyncio.wait_for(caller.receive(), 60) == bytes(2000)
        assert first[before].startswith(MAGIC + b"\x01\x01")
        size = int.from_bytes(first[before][FLIGHT_HEAD - 2 : FLIGHT_HEAD], "big")
        assert size < 400
        assert first[before][FLIGHT_HEAD + size] == TLS_HANDSHAKE
        caller.abort()


async def test_a_recorded_flight_brings_nothing_and_moves_nobody() -> None:
    """Sent again, from elsewhere, while the path lives: as it was, cut, to its own sender."""
    async with scene() as at:
        first = await at.moved()
        path, received = at.there.path, at.there.figures().received
        tls_is_all = bytes((TLS_HANDSHAKE,))
        assert await said_to(at.alice.port, first) == tls_is_all, "not answered: it is known"
        size = int.from_bytes(first[FLIGHT_HEAD - 2 : FLIGHT_HEAD], "big")
        flipped = bytearray(first)
        flipped[FLIGHT_HEAD + size // 2] ^= 1
        assert await said_to(at.alice.port, bytes(flipped)) == tls_is_all
        for cut in (1, 20, FLIGHT_HEAD, FLIGHT_HEAD + size - 1):
            _, writer = await asyncio.open_connection("127.0.0.1", at.alice.port)
            writer.write(first[:cut])
            writer.close()
        await exchange(at.here, at.there, 20)
        assert at.there.path is path
        assert at.there.figures().received == received + 20


async def test_its_sender_does_not_take_it_for_the_other_side_s() -> None:
    async with scene() as at:
        first = await at.moved()
        route = rooms(at.bob).sessions.find_by_flight(first[4:20])
        assert route is not None, "it knows the key: what differs is who has sealed"
        assert route.session is at.here
        assert route.session.take_flight(first) == b""
        assert at.here.figures().received == 0


async def test_through_the_relay_it_stands_in_the_request_for_the_leg() -> None:
    """What comes behind the request is swallowed, and what answers it too."""
    async with RelayServer(RelayConfig(port=0)) as relay, contextlib.AsyncExitStack() as stack:
        port = urlsplit(relay.url).port
        assert port is not None
        proxy = DelayProxy(lambda: 0.0)
        await stack.enter_async_context(proxy.run(_RELAY, ("127.0.0.1", port)))
        alice = await stack.enter_async_context(Peer(Identity.generate(), relay.url))
        bob = await stack.enter_async_context(Peer(Identity.generate(), f"http://{_RELAY}:{port}"))
        here, there = await pair(alice, bob, Mode.CENTRAL)
        before = len(proxy.first)
        proxy.most_flights = 1
        assert reset(here)
        await pathless(here)
        await here.send(b"the oldest")
        await here.send(bytes(100_000))
        assert await asyncio.wait_for(there.receive(), 60) == b"the oldest"
        asked = next(first for first in proxy.first[before:] if b" /v1/plane/" in first)
        early = base64.b64decode(_EARLY.search(asked)[1])  # type: ignore[index]
        assert early.startswith(MAGIC)
        size = int.from_bytes(early[FLIGHT_HEAD - 2 : FLIGHT_HEAD], "big")
        assert early[FLIGHT_HEAD + size] == TLS_HANDSHAKE
        assert 2000 < len(early) <= MAX_EARLY
        for session in (here, there):
            session.abort()
