"""A relay that lies about the locks of planes, and a caller that says garbage where Noise is: real
peers, whose relay changes what it passes on. It can have them talk under the other lock that both
take, or not at all.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import msgspec
import pytest

from peers import Identity, Mode, Peer, PeerConfig, RoamRelayError
from peers.control import Answered, ControlConnection
from protocol.errors import Code
from protocol.features import OFFER
from protocol.identity import public_key_of
from protocol.lock import LOCK_HEAD, Lock, locks_part
from protocol.messages import ServiceRequestFrom, ServiceRequestTo, ServiceResponse
from protocol.offer import body_with, make_offer
from relay.config import RelayConfig
from relay.server import RelayServer
from tests.relay.client import client
from tests.relay.planes import leg
from tests.support.rooms import rooms
from tests.support.sessions import exchange, pair

TLS, NOISE = Lock.TLS, Lock.NOISE
Change = Callable[[bytes], bytes]


@pytest.fixture
async def relay() -> AsyncIterator[RelayServer]:
    async with RelayServer(RelayConfig(port=0)) as server:
        yield server


@contextlib.asynccontextmanager
async def peers_of(
    relay: RelayServer, callee: tuple[Lock, ...], caller: tuple[Lock, ...]
) -> AsyncIterator[tuple[Peer, Peer]]:
    configs = [
        PeerConfig(relay=relay.url, locks=locks, path_timeout=8.0, request_timeout=20.0)
        for locks in (callee, caller)
    ]
    async with (
        Peer(Identity.generate(), config=configs[0]) as alice,
        Peer(Identity.generate(), config=configs[1]) as bob,
    ):
        yield alice, bob


def lie(alice: Peer, bob: Peer, request: Change, answer: Change = lambda offer: offer) -> None:
    """Let the relay between the two change what bob offers, and what alice answers."""
    incoming, registration = rooms(alice).incoming, rooms(bob).registration
    heard, asks = incoming.request, registration.ask

    def changed(connection: ControlConnection, asked: ServiceRequestFrom) -> None:
        heard(connection, msgspec.structs.replace(asked, offer=request(asked.offer)))

    async def answered(asked: ServiceRequestTo, patience: float) -> Answered:
        connection, response = await asks(asked, patience)
        return Answered(connection, msgspec.structs.replace(response, offer=answer(response.offer)))

    incoming.request = changed  # type: ignore[method-assign]
    registration.ask = answered  # type: ignore[method-assign]


def nothing(offer: bytes) -> bytes:
    return b""


def flipped(offer: bytes) -> bytes:
    return offer[:-1] + bytes((offer[-1] ^ 1,)) if offer else b""


@pytest.mark.parametrize(
    ("request_offer", "answer_offer"),
    [(nothing, nothing), (flipped, nothing), (flipped, flipped)],
    ids=["left out", "changed", "both changed"],
)
async def test_without_offers_both_sides_talk_under_tls(
    relay: RelayServer, request_offer: Change, answer_offer: Change
) -> None:
    async with peers_of(relay, (TLS, NOISE), (TLS, NOISE)) as (alice, bob):
        lie(alice, bob, request_offer, answer_offer)
        here, there = await pair(alice, bob, Mode.CENTRAL)
        await exchange(here, there, 20)
        assert here.path is not None
        assert here.path.lock is TLS


@pytest.mark.parametrize("who", ["callee", "caller"])
@pytest.mark.parametrize("change", [nothing, flipped])
async def test_who_takes_noise_alone_is_not_led_to_anything_else(
    relay: RelayServer, who: str, change: Change
) -> None:
    callee, caller = ((NOISE,), (TLS, NOISE)) if who == "callee" else ((TLS, NOISE), (NOISE,))
    async with peers_of(relay, callee, caller) as (alice, bob):
        lie(alice, bob, change, change)
        alice.listen("chat")
        await alice.published()
        with pytest.raises(RoamRelayError) as told:
            await bob.connect(alice.guid, "chat", mode="central")
        assert told.value.code is Code.LOCK_UNSUPPORTED


async def test_an_answer_that_is_left_out_ends_in_no_session(relay: RelayServer) -> None:
    """The callee has chosen Noise, and the caller does not hear of it."""
    async with peers_of(relay, (NOISE,), (TLS, NOISE)) as (alice, bob):
        lie(alice, bob, lambda offer: offer, nothing)
        listener = alice.listen("chat")
        await alice.published()
        with pytest.raises(RoamRelayError):
            await bob.connect(alice.guid, "chat", mode="central")
        assert not rooms(alice).sessions.live
        listener.close()


async def test_what_was_offered_for_another_session_is_none(relay: RelayServer) -> None:
    seen: list[bytes] = []

    def earlier(offer: bytes) -> bytes:
        seen.append(offer)
        return seen[0]

    async with peers_of(relay, (TLS, NOISE), (NOISE,)) as (alice, bob):
        lie(alice, bob, earlier)
        here, there = await pair(alice, bob, Mode.CENTRAL)
        await exchange(here, there, 20)
        with pytest.raises(RoamRelayError) as told:
            await bob.connect(alice.guid, "chat", mode="central")
        assert told.value.code is Code.LOCK_UNSUPPORTED
        assert len(seen) == 2
        await exchange(here, there, 20)


@pytest.mark.parametrize(
    "garbage",
    [b"\x16\x03\x01\x00\x05hello", LOCK_HEAD + bytes(32), LOCK_HEAD + b"k" * 32 + bytes(500), b"G"],
    ids=["TLS", "a key of small order", "no record", "HTTP"],
)
async def test_who_says_garbage_is_ended_and_the_callee_goes_on(
    relay: RelayServer, garbage: bytes
) -> None:
    async with (
        peers_of(relay, (TLS, NOISE), (NOISE,)) as (alice, bob),
        client(relay.url) as evil,
    ):
        await evil.hello(features=(OFFER,))
        await evil.register()
        here, there = await pair(alice, bob, Mode.CENTRAL)
        said = body_with(locks_part(("noise",), public_key_of(relay.guid)))
        offer = make_offer(evil.identity, alice.guid, b"e" * 16, said)
        evil.send(ServiceRequestTo(1, alice.guid, "chat", Mode.CENTRAL, b"e" * 16, offer=offer))
        response = await evil.expect(ServiceResponse)
        assert response.code is None
        assert response.ticket is not None
        (reader, writer), _ = await leg(relay, evil, response.ticket)
        writer.write(garbage)
        async with asyncio.timeout(60):
            answered = await reader.read()
        assert answered == b"" or answered.startswith(LOCK_HEAD)
        writer.close()
        await exchange(here, there, 20)
