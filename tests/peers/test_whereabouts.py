"""This host's addresses as they change, and who is told: the relay, the sessions, and others.

First above fakes, on a clock that jumps; then between real peers.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any, cast

import pytest

from peers import (
    Identity,
    Mode,
    Peer,
    PeerConfig,
    Phase,
    Provenance,
    whereabouts,
)
from peers.host import Interfaces
from peers.host.address import LocalAddress
from peers.location import OwnLocation
from peers.whereabouts import Whereabouts
from protocol.endpoint import Endpoint, read_entry
from protocol.errors import ProtocolViolation
from relay.server import RelayServer
from tests.support.addresses import Addresses, absent_addresses
from tests.support.far import host_of
from tests.support.faults import mute_flow
from tests.support.rooms import rooms
from tests.support.sessions import moving
from tests.support.virtual_time import run

# -- above fakes ------------------------------------------------------------------------------

RELAY = PeerConfig(relay="http://192.0.2.99:1")


def at(host: str, interface: str = "eth0", **flags: bool) -> LocalAddress:
    return LocalAddress(host, interface, 2, 6 if ":" in host else 4, 24, **flags)


ONE, TWO = at("10.0.0.1"), at("10.0.0.2", "wlan0")


class Flow:
    def __init__(self, host: str) -> None:
        self.local_host = host


class Host:
    """All whom changes of address concern, and what each was told, in order."""

    def __init__(self, config: PeerConfig = RELAY) -> None:
        self.told: list[Any] = []
        # As the registration:
        self.connections: list[Flow] = []
        self.observed: tuple[str, ...] = ()
        self.routed_host: str | None = None
        self.relay_host = "192.0.2.99"
        self.interfaces = Interfaces(config)
        self.location = OwnLocation(Identity.generate(), 4000, configured=(), lifetime=60)
        self.whereabouts = Whereabouts(
            self.interfaces,
            self.location,
            cast(Any, self),
            cast(Any, Sessions(self.told)),
            cast(Any, self),
        )

    def set_sources(self, sources: Sequence[str | None]) -> None:
        self.told.append(("sources", tuple(sources)))

    def network_changed(self, gone: frozenset[str]) -> None:
        self.told.append(("flows", gone))

    def changed(self) -> None:
        self.told.append("publish")

    def take(self) -> list[Any]:
        """Return, and forget, what was told."""
        told, self.told[:] = list(self.told), []
        return told


class Sessions:
    def __init__(self, told: list[Any]) -> None:
        self._told = told

    def network_changed(self, gone: frozenset[str]) -> None:
        self._told.append(("sessions", gone))

    def tell_locations(self) -> None:
        self._told.append("tell locations")


class Source:
    """A source of addresses that says what the test puts in, and fails where it is an error."""

    def __init__(self, *says: tuple[LocalAddress, ...] | Exception) -> None:
        self.says: asyncio.Queue[Any] = asyncio.Queue()
        for one in says:
            self.says.put_nowait(one)
        self.asked = 0
        self.first: Any = ()

    async def read(self) -> tuple[LocalAddress, ...]:
        if isinstance(self.first, Exception):
            raise self.first
        return cast(Any, self.first)

    async def changes(self) -> AsyncIterator[tuple[LocalAddress, ...]]:
        self.asked += 1
        while True:
            said = await self.says.get()
            if said is None:
                return
            if isinstance(said, Exception):
                raise said
            yield said


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def test_what_is_new_in_the_first_snapshot_has_not_just_come() -> None:
    async def scene() -> None:
        host = Host()
        source = Source((ONE,))
        await host.whereabouts.begin(source, look=False)
        assert host.take() == [("sources", (None,))]
        following = asyncio.create_task(host.whereabouts.follow(source))
        await settled()
        assert host.take() == [("sources", (None,)), "publish"]
        source.says.put_nowait((ONE, TWO))
        await settled()
        assert host.take() == [
            ("flows", frozenset()),
            ("sources", (None,)),
            ("sessions", frozenset()),
            "publish",
        ]
        source.says.put_nowait((TWO,))
        await settled()
        gone = frozenset({ONE.host})
        assert [one for one in host.take() if one[0] in ("flows", "sessions")] == [
            ("flows", gone),
            ("sessions", gone),
        ]
        source.says.put_nowait((TWO,))
        await settled()
        assert host.take() == [], "what is as it was concerns nobody"
        following.cancel()

    run(scene())


def test_who_has_looked_first_is_told_of_what_comes_after_it() -> None:
    async def scene() -> None:
        host = Host(PeerConfig(relay="http://192.0.2.99:1", sources=("10.0.0.1", "10.0.0.2")))
        source = Source((ONE, TWO))
        source.first = (ONE,)
        await host.whereabouts.begin(source, look=True)
        assert host.take() == [("sources", (ONE.host,))]
        assert list(host.location.addresses) == [ONE.host]
        following = asyncio.create_task(host.whereabouts.follow(source))
        await settled()
        assert host.take() == [
            ("flows", frozenset()),
            ("sources", (TWO.host, ONE.host)),
            ("sessions", frozenset()),
            "publish",
        ]
        following.cancel()

    run(scene())


@pytest.mark.expected_errors("addresses are not known")
@pytest.mark.parametrize("error", [OSError(24, "Too many open files"), ZeroDivisionError()])
def test_a_source_that_cannot_be_read_first_ends_nothing(error: Exception) -> None:
    async def scene() -> None:
        host = Host()
        source = Source()
        source.first = error
        await host.whereabouts.begin(source, look=True)
        assert host.take() == [("sources", (None,))]

    run(scene())


@pytest.mark.expected_errors("addresses are not followed")
def test_a_source_that_fails_is_asked_again_and_later_each_time() -> None:
    async def scene() -> None:
        host = Host()
        source = Source(*[ZeroDivisionError("no")] * 4)
        loop = asyncio.get_running_loop()
        began = loop.time()
        following = asyncio.create_task(host.whereabouts.follow(source))
        await asyncio.sleep(0.5)
        assert source.asked == 1
        await asyncio.sleep(14.6)
        assert source.asked == 5, "after 1, 2, 4 and 8 s"
        source.says.put_nowait((ONE,))
        await settled()
        assert "publish" in host.take()
        source.says.put_nowait(None)
        await asyncio.sleep(1.5)
        assert source.asked == 6, "also one that merely ends, and then soon again"
        assert loop.time() - began > 15
        following.cancel()

    run(scene())


def test_an_address_that_is_deprecated_now_is_told_and_disturbs_no_path() -> None:
    async def scene() -> None:
        host = Host()
        source = Source((at("10.0.0.1"),), (at("10.0.0.1", deprecated=True),))
        following = asyncio.create_task(host.whereabouts.follow(source))
        await settled()
        assert host.take()[-2:] == ["tell locations", "publish"]
        assert host.location.addresses["10.0.0.1"][1] is Phase.LEAVING
        following.cancel()

    run(scene())


def test_a_route_that_comes_after_its_address_is_a_change_of_network() -> None:
    async def scene() -> None:
        host = Host()
        source = Source((ONE,))
        following = asyncio.create_task(host.whereabouts.follow(source))
        await settled()
        source.says.put_nowait((ONE, TWO))
        await settled()
        host.take()
        source.says.put_nowait((ONE, replace(TWO, routed=True)))
        await settled()
        told = host.take()
        assert ("flows", frozenset()) in told
        assert ("sessions", frozenset()) in told
        source.says.put_nowait((ONE, replace(TWO, routed=True, temporary=True)))
        await settled()
        assert host.take() == [], "any other flag is none"
        following.cancel()

    run(scene())


def test_a_flow_that_comes_shows_an_address_that_works() -> None:
    host = Host()
    host.interfaces.update([ONE, TWO])
    host.connections, host.routed_host = [Flow(TWO.host)], TWO.host
    host.observed = ("198.51.100.1",)
    host.whereabouts.registered()
    # Where the routes lead is known now: the other interface has a flow of its own.
    assert host.take() == [("sources", (None, ONE.host)), "publish"]
    assert host.location.addresses == {
        TWO.host: (Provenance.INTERFACE, Phase.PREFERRED),
        ONE.host: (Provenance.INTERFACE, Phase.NEW),
        "198.51.100.1": (Provenance.OBSERVED, Phase.PREFERRED),
    }
    host.whereabouts.registered()
    assert host.take() == [("sources", (None, ONE.host))], "nothing is different"


def test_what_a_program_says_is_leaving_is_told_until_it_is_not() -> None:
    host = Host()
    host.interfaces.update([ONE])
    host.whereabouts.registered()
    host.take()
    host.whereabouts.leaving(ONE.host, True)
    assert host.take() == ["tell locations", "publish"]
    assert host.location.addresses[ONE.host][1] is Phase.LEAVING
    host.whereabouts.leaving(ONE.host, True)
    assert host.take() == []
    host.whereabouts.leaving("::ffff:10.0.0.1", False)
    assert host.location.addresses[ONE.host][1] is Phase.PREFERRED
    with pytest.raises(ProtocolViolation):
        host.whereabouts.leaving("no address", True)


@pytest.mark.parametrize(
    ("relay_host", "routed", "sources"),
    [
        ("192.0.2.99", None, (None,)),
        ("192.0.2.99", "10.0.0.1", (None, "10.0.0.2")),
        ("2001:db8::99", None, (None,)),
        ("2001:db8::99", "2001:db8::1", (None,)),
    ],
)
def test_flows_are_of_the_family_that_leads_to_the_relay(
    relay_host: str, routed: str | None, sources: tuple[str | None, ...]
) -> None:
    host = Host()
    host.relay_host, host.routed_host = relay_host, routed
    host.interfaces.update([ONE, TWO, at("2001:db8::1")])
    host.whereabouts.registered()
    assert host.take()[0] == ("sources", sources)


def test_a_mapped_port_is_told_where_the_relay_sees_this_host_and_nowhere_else() -> None:
    """What the router says is its word alone: of a victim's address nobody hears."""
    host = Host()
    seen, victim = Endpoint("198.51.100.7", 41000), Endpoint("203.0.113.99", 41000)

    def mapped() -> list[Endpoint]:
        entries = [read_entry(signed) for signed in host.location.entries("chat")]
        found = [one for one in entries if one.provenance is Provenance.CONFIGURED]
        return [one.endpoint for one in found]

    host.whereabouts.port_mapped(seen)
    assert mapped() == [], "the relay has not seen it yet"
    host.observed = (seen.host,)
    host.whereabouts.registered()
    assert mapped() == [seen]
    host.whereabouts.port_mapped(victim)
    assert mapped() == []
    host.whereabouts.port_mapped(seen)
    assert mapped() == [seen]
    host.observed = ("198.51.100.8",)
    host.whereabouts.registered()
    assert mapped() == [], "this host is elsewhere now"
    host.whereabouts.port_mapped(None)


# -- between real peers -----------------------------------------------------------------------


async def test_nobody_begins_anew_where_an_address_is_leaving(relay: RelayServer) -> None:
    """The draft's Figure 1: CN1 stays on IP1, CN3 uses IP2."""
    hosts = ("127.0.61.1", "127.0.61.2")
    with absent_addresses():
        addresses = Addresses(hosts)
        config = PeerConfig(relay=relay.url, sources=hosts)
        async with (
            Peer(Identity.generate(), config=config, addresses=addresses) as node,
            Peer(Identity.generate(), relay.url) as cn1,
            Peer(Identity.generate(), relay.url) as cn3,
        ):
            listener = node.listen("chat")
            await node.published()
            # With a standby path it would leave the address at once: docs/sessions.md.
            old = await cn1.connect(node.guid, "chat", mode="combined", policy="standby never")
            callee = await asyncio.wait_for(anext(listener), 60)
            assert host_of(old) == hosts[0]
            addresses.set(*hosts)
            node.leaving(hosts[0])
            await node.published()
            async with asyncio.timeout(60):
                while node.places != {
                    hosts[0]: (Provenance.INTERFACE, Phase.LEAVING),
                    hosts[1]: (Provenance.INTERFACE, Phase.PREFERRED),
                }:
                    await asyncio.sleep(0.01)
            await node.published()
            for mode in (Mode.P2P, Mode.COMBINED):
                new = await cn3.connect(node.guid, "chat", mode=mode)
                assert host_of(new) == hosts[1]
                new.abort()
            assert host_of(old) == hosts[0], "the old session is not disturbed"
            await old.send(b"still here")
            assert await callee.receive() == b"still here"
            with pytest.raises(ProtocolViolation):
                node.leaving("no address")
            node.leaving(hosts[0], False)
            assert node.places[hosts[0]][1] is Phase.PREFERRED
            await old.close()


async def test_flows_from_every_address_and_one_that_fails(relay: RelayServer) -> None:
    async with moving(relay, 21) as (alice, here, a), moving(relay, 22) as (bob, _, _):
        alice.listen("chat")
        here.set(*a)
        async with asyncio.timeout(60):
            while len(rooms(alice).registration.connections) < 3:
                await asyncio.sleep(0.01)
        sources = {connection.local_host for connection in rooms(alice).registration.connections}
        assert sources == set(a)
        primary = rooms(alice).registration.connections[0]
        # The primary flow goes silent: requests are still answered, over the next one.
        assert mute_flow(primary)
        session = await bob.connect(alice.guid, "chat", mode="combined", timeout=5)
        assert session.path is not None
        found = await alice.locate(alice.guid, "chat", timeout=5)
        assert found.entries
        await session.close()


def test_who_dials_waits_for_the_first_snapshot_and_once_at_most(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scene() -> None:
        host, source = Host(), Source()
        following = asyncio.create_task(host.whereabouts.follow(source))
        waiting = asyncio.create_task(host.whereabouts.known())
        await settled()
        assert not waiting.done()
        source.says.put_nowait((ONE,))
        await waiting
        following.cancel()

    async def silent() -> None:
        monkeypatch.setattr(whereabouts, "_FIRST_LOOK", 0.01)
        host = Host()
        await host.whereabouts.known()
        monkeypatch.setattr(whereabouts, "_FIRST_LOOK", 1e9)
        await host.whereabouts.known()

    run(scene())
    run(silent())


async def test_a_session_is_not_looked_for_before_this_host_is_known(relay: RelayServer) -> None:
    """Else what only its networks allow is refused: a private address, in the first moment."""
    source = Source()
    source.first = (ONE,)
    config = PeerConfig(relay=relay.url)
    async with (
        Peer(Identity.generate(), config=config) as bob,
        Peer(Identity.generate(), config=config, addresses=source) as alice,
    ):
        bob.listen("chat")
        await bob.published()
        opening = asyncio.create_task(alice.connect(bob.guid, "chat", mode="p2p"))
        # Asked for behind it, and answered.
        await alice.locate(bob.guid, "chat")
        assert sum(relay.metrics.requests.values()) == 1
        assert not opening.done()
        source.says.put_nowait((ONE,))
        await (await opening).close()
