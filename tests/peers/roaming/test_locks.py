"""The locks of planes: what is agreed on; then real peers, of which one takes Noise alone."""

import asyncio
import dataclasses
from typing import Any

import pytest

from peers import Identity, Mode, PathKind, Peer, PeerConfig, RoamRelayError, Session
from peers.config import CarrierKind, Policy
from peers.path import Path
from peers.roaming.locks import LOCKED_BY_TLS, agreed_by, check_lock, side_of
from protocol.errors import Code
from protocol.lock import Agreed, Lock, locks_part
from protocol.messages import ServiceRequestFrom
from protocol.offer import body_with
from relay.server import RelayServer
from tests.peers.roaming.fakes import CALLER, HERE, THERE
from tests.support.faults import abort_flow, reset
from tests.support.rooms import rooms
from tests.support.sessions import exchange, joined, pair

TLS, NOISE = Lock.TLS, Lock.NOISE
RELAY = b"r" * 32
BEFORE = Agreed(RELAY, ("noise",), "noise")


def request(**fields: Any) -> ServiceRequestFrom:
    known = {"session": b"s" * 16, "mode": Mode.CENTRAL, "ticket": "a" * 32}
    return ServiceRequestFrom(1, THERE.guid, "chat", **(known | fields))


def body(*locks: str) -> bytes:
    return body_with(locks_part(locks, RELAY))


@pytest.mark.parametrize(
    ("asking", "said", "taken", "before", "agreed"),
    [
        (request(offer=b"x"), body("tls", "noise"), (TLS, NOISE), None, (RELAY, 2, "tls")),
        (request(offer=b"x"), body("noise"), (TLS, NOISE), None, (RELAY, 1, "noise")),
        (request(offer=b"x"), body("noise"), (TLS,), None, None),
        (request(), b"", (TLS, NOISE), None, (bytes(32), 0, "tls")),
        (request(), b"", (NOISE,), None, None),
        # What does not hold is as none.
        (request(offer=b"x", resume=True), b"", (NOISE,), BEFORE, None),
        # A ticket asks, and nobody offers anything.
        (request(resume=True), b"", (TLS, NOISE), BEFORE, (RELAY, 0, "noise")),
        (request(resume=True), b"", (TLS, NOISE), None, (bytes(32), 0, "tls")),
        # The first request of a session is no ticket's.
        (request(), b"", (TLS, NOISE), BEFORE, (bytes(32), 0, "tls")),
    ],
)
def test_what_a_plane_is_locked_by(
    asking: ServiceRequestFrom,
    said: bytes,
    taken: tuple[Lock, ...],
    before: Agreed | None,
    agreed: tuple[bytes, int, str] | None,
) -> None:
    found = agreed_by(asking, said, taken, before)
    assert (found and (found.relay, len(found.offered), found.chosen)) == agreed


@pytest.mark.parametrize(
    ("locks", "agreed", "takes"),
    [
        ((TLS, NOISE), LOCKED_BY_TLS, True),
        ((TLS, NOISE), BEFORE, True),
        ((NOISE,), LOCKED_BY_TLS, False),
        ((NOISE,), Agreed(RELAY, ("noise",), "tls"), False),
        ((TLS,), Agreed(RELAY, ("tls",), "noise"), False),
        ((TLS,), Agreed(RELAY, ("tls",), "other"), False),
    ],
)
def test_what_was_not_offered_is_not_taken(
    locks: tuple[Lock, ...], agreed: Agreed, takes: bool
) -> None:
    terms = dataclasses.replace(CALLER, locks=locks)
    if takes:
        check_lock(terms, agreed)
        return
    with pytest.raises(RoamRelayError) as told:
        check_lock(terms, agreed)
    assert told.value.code is Code.LOCK_UNSUPPORTED


def test_a_policy_goes_before_the_configuration() -> None:
    assert CALLER.locks_taken == (TLS, NOISE)
    terms = dataclasses.replace(CALLER, policy=Policy.parse("locks noise"))
    assert terms.locks_taken == (NOISE,)


def test_only_noise_has_a_side() -> None:
    assert side_of(HERE, THERE.guid, b"s" * 16, LOCKED_BY_TLS, is_caller=True) is None
    side = side_of(HERE, THERE.guid, b"s" * 16, BEFORE, is_caller=False)
    assert side is not None
    assert (side.remote, side.is_caller) == (THERE.public_key, False)


# -- between real peers ---------------------------------------------------------------------------


async def another(session: Session, old: Path | None) -> Path:
    """Wait until the session has another path."""
    async with asyncio.timeout(60):
        async for event in session.events():
            if event.path is not None and event.path is not old:
                return event.path
    raise AssertionError("the session is over")


def config(relay: RelayServer, carrier: CarrierKind | None = None, *locks: Lock) -> PeerConfig:
    return PeerConfig(relay=relay.url, carrier=carrier, locks=locks or (TLS, NOISE))


@pytest.mark.parametrize("carrier", list(CarrierKind))
@pytest.mark.parametrize("asks", ["caller", "callee"])
async def test_a_peer_that_takes_noise_alone_talks_to_one_that_takes_both(
    relay: RelayServer, carrier: CarrierKind, asks: str
) -> None:
    only, both = config(relay, carrier, NOISE), config(relay)
    alice, bob = (both, only) if asks == "caller" else (only, both)
    async with (
        Peer(Identity.generate(), config=alice) as callee,
        Peer(Identity.generate(), config=bob) as caller,
    ):
        here, there = await pair(callee, caller, Mode.CENTRAL)
        await exchange(here, there)
        for end in (here, there):
            assert end.path is not None
            assert (end.path.kind, end.path.lock) == (PathKind.RELAYED, NOISE)
            assert end.explain().lock == "noise"
            assert "lock      noise" in str(end.explain())
        assert "locked by noise" in str(here.explain())
        for end, other in ((here, there), (there, here)):
            # By the plane's ticket or by a request, from either side.
            old = end.path
            assert reset(end)
            path = await another(end, old)
            await exchange(here, there)
            assert path.lock is (await joined(other)).lock is NOISE
        await here.close()
        await asyncio.wait_for(there.close(), 60)


async def test_who_asks_while_there_is_no_flow_offers_its_locks_once_there_is(
    relay: RelayServer,
) -> None:
    async with (
        Peer(Identity.generate(), config=config(relay, None, NOISE)) as callee,
        Peer(Identity.generate(), config=config(relay)) as caller,
    ):
        listener = callee.listen("chat")
        await callee.published()
        flow = rooms(caller).registration.current
        assert flow is not None
        abort_flow(flow)
        assert rooms(caller).registration.current is None
        here = await caller.connect(callee.guid, "chat", mode=Mode.CENTRAL)
        await exchange(here, await anext(listener))
        assert here.explain().lock == "noise"
        await here.close()


@pytest.mark.parametrize("dials", ["caller", "callee"])
async def test_the_plane_of_a_ticket_has_the_lock_of_the_last_one(
    relay: RelayServer, dials: str
) -> None:
    async with (
        Peer(Identity.generate(), config=config(relay)) as alice,
        Peer(Identity.generate(), config=config(relay, None, NOISE)) as bob,
    ):
        here, there = await pair(alice, bob, Mode.CENTRAL)
        await exchange(here, there, 20)
        peer, session = (bob, here) if dials == "caller" else (alice, there)
        route = rooms(peer).sessions.find(session.id)
        assert route is not None
        assert route.agreed is not None
        assert route.agreed.chosen == "noise"
        attempt = route.attempt()
        welcomed = await rooms(peer).ways.next_plane(attempt)
        assert welcomed.path.lock is NOISE
        assert route.take(
            welcomed.path, attempt.number, welcomed.welcome, dialed_here=True,
            ticket=welcomed.resume_ticket,
        )  # fmt: skip
        await exchange(here, there, 20)
        other = there if dials == "caller" else here
        assert (await joined(other)).lock is NOISE


async def test_where_both_have_both_it_is_tls(relay: RelayServer) -> None:
    async with (
        Peer(Identity.generate(), config=config(relay)) as alice,
        Peer(Identity.generate(), config=config(relay)) as bob,
    ):
        here, there = await pair(alice, bob, Mode.CENTRAL)
        await exchange(here, there, 20)
        assert here.path is not None
        assert (here.path.lock, here.explain().lock) == (TLS, "tls")


async def test_auto_goes_from_noise_to_a_direct_path_under_tls_and_back(
    relay: RelayServer,
) -> None:
    async with (
        Peer(Identity.generate(), config=config(relay)) as alice,
        Peer(Identity.generate(), config=config(relay, None, NOISE)) as bob,
    ):
        here, there = await pair(alice, bob, Mode.AUTO)
        await joined(here, PathKind.DIRECT)
        await exchange(here, there)
        assert here.path is not None
        assert here.path.lock is TLS
        assert "locked by noise" in str(here.explain())


@pytest.mark.parametrize("mode", [Mode.CENTRAL, Mode.AUTO])
@pytest.mark.parametrize(("alice", "bob"), [(TLS, NOISE), (NOISE, TLS)])
async def test_without_a_lock_in_common_it_is_said(
    relay: RelayServer, alice: Lock, bob: Lock, mode: Mode
) -> None:
    async with (
        Peer(Identity.generate(), config=config(relay, None, alice)) as callee,
        Peer(Identity.generate(), config=config(relay, None, bob)) as caller,
    ):
        listener = callee.listen("chat")
        await callee.published()
        with pytest.raises(RoamRelayError) as told:
            await caller.connect(callee.guid, "chat", mode=mode)
        assert told.value.code is Code.LOCK_UNSUPPORTED
        listener.close()


async def test_a_policy_says_it_for_one_session(relay: RelayServer) -> None:
    async with (
        Peer(Identity.generate(), config=config(relay)) as alice,
        Peer(Identity.generate(), config=config(relay)) as bob,
    ):
        listener = alice.listen("chat")
        await alice.published()
        here = await bob.connect(alice.guid, "chat", mode="central", policy="locks noise")
        there = await asyncio.wait_for(anext(listener), 60)
        await exchange(here, there, 20)
        assert here.path is not None
        assert here.path.lock is NOISE
