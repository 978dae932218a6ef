"""What two real peers agree on about quiet paths, and that the network's own share of it is learned
for all sessions there. How the interval grows is in tests/protocol/test_session_keepalive.py."""

import asyncio

from peers import Identity, Mode, PathKind, Peer, PeerConfig, Session, SessionSettings
from relay.server import RelayServer
from tests.support.sessions import exchange, joined, pair

PATIENT = SessionSettings(ping_interval=0.05, silence_limit=20.0, idle_interval=0.15)


async def shown(session: Session, words: str) -> None:
    async with asyncio.timeout(60):
        while words not in session.explain().keepalive:
            await asyncio.sleep(0.01)


async def test_two_peers_agree_on_what_one_of_them_wishes(relay: RelayServer) -> None:
    patient = PeerConfig(relay=relay.url, session=PATIENT)
    usual = PeerConfig(relay=relay.url, session=SessionSettings(ping_interval=0.05))
    async with (
        Peer(Identity.generate(), config=usual) as alice,
        Peer(Identity.generate(), config=patient) as bob,
    ):
        here, there = await pair(alice, bob, Mode.P2P)
        await exchange(here, there)
        await shown(here, "every 0.15 s: as both sides agreed")
        await shown(there, "every 0.15 s: as both sides agreed")
        assert "pinged    every 0.15 s" in str(here.explain())
        second = await bob.connect(alice.guid, "chat", mode=Mode.P2P)
        assert "every 0.15 s" in second.explain().keepalive, "known of the network"


async def test_a_path_through_the_relay_is_pinged_as_ever(relay: RelayServer) -> None:
    config = PeerConfig(relay=relay.url, session=PATIENT)
    async with (
        Peer(Identity.generate(), config=config) as alice,
        Peer(Identity.generate(), config=config) as bob,
    ):
        here, _ = await pair(alice, bob, Mode.CENTRAL)
        await joined(here, PathKind.RELAYED)
        assert "nothing longer was agreed" in here.explain().keepalive
