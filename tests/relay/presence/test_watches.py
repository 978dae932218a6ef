"""Who is told of whom: on real connections, and where time matters, on a clock of the test."""

import asyncio
import socket
import struct

import pytest

from protocol.codec import encode_location
from protocol.errors import Code
from protocol.identity import Identity
from protocol.messages import (
    Disclosure,
    LocationRecord,
    Message,
    PeerEvent,
    PeerState,
    Ping,
    Pong,
    Registered,
    ServiceRecord,
    Update,
    Watch,
)
from relay.limits import cause_of
from relay.presence import Registry, Watches
from relay.presence import watches as module
from relay.server import RelayServer
from relay.tally import Figures
from tests.relay.client import Client, client, registered


async def event_of(one: Client, state: PeerState) -> PeerEvent:
    event = await one.expect(PeerEvent)
    assert (event.state, event.code) == (state, None)
    return event


async def test_a_watched_peer_comes_moves_and_goes(relay: RelayServer) -> None:
    identity = Identity.generate()
    async with registered(relay.url) as alice:
        alice.send(Watch(identity.guid))
        assert await event_of(alice, PeerState.OFFLINE) == PeerEvent(identity.guid)
        async with registered(relay.url, "chat", identity=identity) as bob:
            came = await event_of(alice, PeerState.ONLINE)
            assert came.seq > 0
            assert came.last_seen is not None
            bob.send(Update(encode_location(bob.record("chat", seq=came.seq + 1000))))
            await bob.expect(Registered)
            moved = await event_of(alice, PeerState.ONLINE)
            assert moved.seq == came.seq + 1000
        gone = await event_of(alice, PeerState.OFFLINE)
        assert gone.last_seen is not None


async def test_a_lost_peer_is_suspect_first(relay: RelayServer) -> None:
    async with registered(relay.url) as alice, registered(relay.url, "chat") as bob:
        alice.send(Watch(bob.identity.guid))
        await event_of(alice, PeerState.ONLINE)
        sock = bob.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        bob.writer.transport.abort()
        await event_of(alice, PeerState.SUSPECT)


async def test_who_is_told_nothing_may_not_watch(relay: RelayServer) -> None:
    async with (
        registered(relay.url) as alice,
        registered(relay.url) as cathy,
        client(relay.url) as bob,
    ):
        await bob.hello()
        record = LocationRecord(
            1,
            (
                ServiceRecord("chat", (), Disclosure.LISTED, (cathy.identity.guid,)),
                ServiceRecord("mail", (), Disclosure.NOBODY),
            ),
        )
        bob.send(bob.signed_register(encode_location(record)))
        await bob.expect(Registered)
        for one in (alice, cathy):
            one.send(Watch(bob.identity.guid))
        assert await alice.expect(PeerEvent) == PeerEvent(bob.identity.guid, code=Code.REFUSED)
        await event_of(cathy, PeerState.ONLINE)
        # The list changes: a watch that is under way ends with the same word.
        bob.send(
            Update(encode_location(LocationRecord(2, (ServiceRecord("chat", (), "nobody"),))))  # type: ignore[arg-type]
        )
        assert await cathy.expect(PeerEvent) == PeerEvent(bob.identity.guid, code=Code.REFUSED)
        assert len(relay.watches) == 0


async def test_a_peer_that_offers_nothing_yet_is_waited_for(relay: RelayServer) -> None:
    async with registered(relay.url) as alice, registered(relay.url) as bob:
        alice.send(Watch(bob.identity.guid))
        await event_of(alice, PeerState.OFFLINE)
        bob.send(Update(encode_location(bob.record("chat"))))
        await event_of(alice, PeerState.ONLINE)


async def test_watches_have_a_bound_and_end(
    relay: RelayServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_WATCHES", 2)
    monkeypatch.setattr(module, "MAX_WATCHERS", 1)
    names = [Identity.generate().guid for _ in range(3)]
    async with registered(relay.url) as bob:
        async with registered(relay.url) as alice:
            for name in names:
                alice.send(Watch(name))
            codes = [(await alice.expect(PeerEvent)).code for _ in names]
            assert codes == [None, None, Code.LIMIT_EXCEEDED]
            alice.send(Watch(names[0]))
            assert (await alice.expect(PeerEvent)).code is None, "a watch again is no new one"
            bob.send(Watch(names[0]))
            assert (await bob.expect(PeerEvent)).code is Code.LIMIT_EXCEEDED
            alice.send(Watch(names[0], watching=False))
            alice.send(Watch(names[0], watching=False))
            alice.send(Ping(1))
            await alice.expect(Pong)
            bob.send(Watch(names[0]))
            assert (await bob.expect(PeerEvent)).code is None
            assert len(relay.watches) == 2
        while len(relay.watches) > 1:
            await asyncio.sleep(0)
        bob.send(Watch(names[1]))
        assert (await bob.expect(PeerEvent)).code is None, "alice's watches went with her"


class FakeFlow:
    """A connection that keeps what it is sent."""

    def __init__(self, guid: str) -> None:
        self.guid = guid
        self.instance = b"i" * 16
        self.flow = 0
        self.observed_host = "127.0.0.1"
        self.cause = cause_of(self.observed_host, guid)
        self.heard = 0.0
        self.had = Figures()
        self.asks: dict[object, None] = {}
        self.asked: dict[object, None] = {}
        self.got: list[PeerEvent] = []

    def send(self, message: Message) -> None:
        assert isinstance(message, PeerEvent)
        self.got.append(message)


def test_changes_are_told_once_a_second_and_the_last_one_always() -> None:
    registry = Registry(grace=30.0, remember=100.0, max_offline=10)
    watches = Watches(registry, grace=30.0)
    bob, alice = FakeFlow(Identity.generate().guid), FakeFlow(Identity.generate().guid)
    services = (ServiceRecord("chat"),)
    registry.register(bob, LocationRecord(1, services), 0.0)
    watches.watch(alice, bob.guid, 0.0)
    for seq in range(2, 100):
        registry.update(bob, LocationRecord(seq, services), 0.0)
        watches.changed(bob.guid, 0.0)
        watches.tell(seq / 100)
    assert [event.seq for event in alice.got] == [1, 2]
    watches.tell(1.1)
    assert [event.seq for event in alice.got] == [1, 2, 99]
    registry.remove(bob, 10.0, closed=False)
    watches.changed(bob.guid, 10.0)
    watches.tell(10.1)
    watches.tell(39.9)
    assert alice.got[-1].state is PeerState.SUSPECT
    watches.tell(40.1)
    assert alice.got[-1].state is PeerState.OFFLINE
    assert len(alice.got) == 5


def test_a_peer_that_comes_back_in_time_is_never_told_to_be_offline() -> None:
    registry = Registry(grace=30.0, remember=100.0, max_offline=10)
    watches = Watches(registry, grace=30.0)
    bob, alice = FakeFlow(Identity.generate().guid), FakeFlow(Identity.generate().guid)
    services = (ServiceRecord("chat"),)
    registry.register(bob, LocationRecord(1, services), 0.0)
    watches.watch(alice, bob.guid, 0.0)
    registry.remove(bob, 10.0, closed=False)
    watches.changed(bob.guid, 10.0)
    registry.register(bob, LocationRecord(2, services), 10.05)
    watches.changed(bob.guid, 10.05)
    for tenth in range(101, 500):
        watches.tell(tenth / 10)
    assert [event.state for event in alice.got] == [PeerState.ONLINE] * 2
