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
        # The relay has just started: it may be on its way.
        not_yet = PeerEvent(identity.guid, PeerState.SUSPECT)
        assert await event_of(alice, PeerState.SUSPECT) == not_yet
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
        await event_of(alice, PeerState.SUSPECT)
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
        self.features: frozenset[str] = frozenset()
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


def restarted(now: float = 0.0) -> tuple[Registry, Watches]:
    """A relay that has just started."""
    registry = Registry(grace=30.0, remember=1000.0, max_offline=10)
    registry.started(now)
    return registry, Watches(registry, grace=30.0)


def until(watches: Watches, end: int, begin: int = 0) -> None:
    for second in range(begin, end):
        watches.tell(float(second))


def test_after_a_restart_nobody_is_offline_before_there_was_time_to_come_back() -> None:
    registry, watches = restarted()
    known, never, alice = (FakeFlow(Identity.generate().guid) for _ in range(3))
    registry.recall(known.guid, "192.0.2.1", 0.5, 40.0, shown=True)
    watches.watch(alice, known.guid, 1.0)
    watches.watch(alice, never.guid, 1.0)
    assert alice.got == [
        PeerEvent(known.guid, PeerState.SUSPECT, 40.5),
        PeerEvent(never.guid, PeerState.SUSPECT),
    ]
    until(watches, 30)
    assert len(alice.got) == 2
    until(watches, 60, 30)
    assert alice.got[2:] == [PeerEvent(known.guid, PeerState.OFFLINE, alice.got[2].last_seen)]
    until(watches, 62, 60)
    assert alice.got[3:] == [PeerEvent(never.guid)]
    until(watches, 500, 62)
    assert len(alice.got) == 4


def test_who_comes_back_after_a_restart_was_never_offline() -> None:
    registry, watches = restarted()
    known, never, alice = (FakeFlow(Identity.generate().guid) for _ in range(3))
    registry.recall(known.guid, "192.0.2.1", 0.5, 40.0, shown=True)
    for one in (known, never):
        watches.watch(alice, one.guid, 1.0)
    for one in (known, never):
        registry.register(one, LocationRecord(9, (ServiceRecord("chat"),)), 2.0)
        watches.changed(one.guid, 2.0)
    until(watches, 500, 2)
    assert [event.state for event in alice.got[2:]] == [PeerState.ONLINE] * 2


def test_a_peer_that_shows_nothing_is_like_one_that_is_not_known() -> None:
    """At every time, before and after the relay counts on having met everybody."""
    registry, watches = restarted()
    hidden, silent, never, alice = (FakeFlow(Identity.generate().guid) for _ in range(4))
    registry.recall(hidden.guid, "192.0.2.1", 0.5, 40.0, shown=False)
    registry.register(silent, LocationRecord(1, ()), 0.5)
    guids = [one.guid for one in (hidden, silent, never)]
    for guid in guids:
        watches.watch(alice, guid, 1.0)
    until(watches, 200)
    of = {guid: [event for event in alice.got if event.guid == guid] for guid in guids}
    for guid, told in of.items():
        assert told == [PeerEvent(guid, PeerState.SUSPECT), PeerEvent(guid)]


def test_who_has_asked_for_a_session_is_told_that_a_peer_is_back_that_offers_nothing() -> None:
    registry = Registry(grace=30.0, remember=100.0, max_offline=10)
    watches = Watches(registry, grace=30.0)
    before = FakeFlow(Identity.generate().guid)
    alice, cathy = (FakeFlow(Identity.generate().guid) for _ in range(2))
    after = FakeFlow(before.guid)
    registry.register(before, LocationRecord(1, ()), 0.0)
    registry.remove(before, 1.0, closed=False)
    for one in (alice, cathy):
        watches.watch(one, before.guid, 2.0)
    watches.asks(alice, before.guid)
    registry.register(after, LocationRecord(2, ()), 3.0)
    watches.changed(after.guid, 3.0)
    until(watches, 5, 3)
    registry.update(after, LocationRecord(3, ()), 5.0)
    watches.changed(after.guid, 5.0)
    until(watches, 8, 5)
    assert alice.got == [PeerEvent(after.guid), PeerEvent(after.guid, PeerState.ONLINE, 3.0)]
    assert [event.state for event in cathy.got] == [PeerState.OFFLINE], "she has asked nothing"
    # One question is one return: of the next one it is not told without another.
    registry.remove(after, 8.0, closed=True)
    watches.changed(after.guid, 8.0)
    until(watches, 10, 8)
    registry.register(before, LocationRecord(4, ()), 10.0)
    watches.changed(before.guid, 10.0)
    until(watches, 20, 10)
    assert alice.got[2:] == [PeerEvent(after.guid)]


def test_the_end_of_a_connection_ends_what_was_asked() -> None:
    registry = Registry(grace=30.0, remember=100.0, max_offline=10)
    watches = Watches(registry, grace=30.0)
    bob, alice = (FakeFlow(Identity.generate().guid) for _ in range(2))
    registry.register(bob, LocationRecord(1, ()), 0.0)
    for end, told in (
        (lambda: watches.unwatch(alice, bob.guid), PeerState.ONLINE),
        (lambda: watches.connection_lost(alice), PeerState.OFFLINE),
    ):
        watches.watch(alice, bob.guid, 0.0)
        watches.asks(alice, bob.guid)
        end()
        alice.got.clear()
        watches.watch(alice, bob.guid, 2.0)
        assert [event.state for event in alice.got] == [told]


def test_of_too_many_that_were_asked_for_the_oldest_gives_way() -> None:
    registry = Registry(grace=30.0, remember=100.0, max_offline=10)
    watches = Watches(registry, grace=30.0)
    alice = FakeFlow(Identity.generate().guid)
    peers = [FakeFlow(f"{number:052d}") for number in range(70)]
    for one in peers:
        watches.asks(alice, one.guid)
        watches.watch(alice, one.guid, 0.0)
    alice.got.clear()
    for one in peers:
        registry.register(one, LocationRecord(1, ()), 1.0)
        watches.changed(one.guid, 1.0)
    watches.tell(2.0)
    assert {event.guid for event in alice.got} == {one.guid for one in peers[6:]}
