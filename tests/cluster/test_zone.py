"""The zone of a cluster: asked over real sockets, it answers alike at every node, whatever its
peers and its nodes do.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import dns.asyncquery
import dns.message
import dns.rcode
import dns.update
import nats as nats_client
import pytest
from nats.js import JetStreamContext

from peers import Identity, Peer
from relay.config import DnsConfig
from relay.operator import Ban
from relay.server import RelayServer
from relay.store import StoreFailed
from tests.cluster.cut import way_to
from tests.cluster.nats import TIMEOUT, NatsServer, joined, nats_server, node
from tests.cluster.test_letters import JETSTREAM
from tests.cluster.test_partition import routed
from tests.relay.client import registered
from tests.relay.dns.asking import (
    ALICE,
    MALLORY,
    NAME,
    ZONE,
    ask,
    raw,
    sent,
    texts,
    update,
)
from tests.support import processes
from tests.support.ports import free_port

CHAT = f"_chat._tcp.{NAME}"


def configured(**more: Any) -> DnsConfig:
    settings = {"made_per_second": 1e6, "updates_burst": 10_000} | more
    return DnsConfig(zone=ZONE, port=0, addresses="127.0.0.1", **settings)


@contextlib.asynccontextmanager
async def zones(
    nats: NatsServer, *names: str, **more: Any
) -> AsyncIterator[tuple[RelayServer, ...]]:
    """Run relays of one identity, each with the zone."""
    identity, prefix = more.pop("identity", None), more.pop("prefix", None)
    identity, prefix = identity or Identity.generate(), prefix or os.urandom(4).hex()
    zone = more.pop("dns", configured())
    async with contextlib.AsyncExitStack() as stack:
        relays = [
            await stack.enter_async_context(
                RelayServer(node(name, nats, prefix, dns=zone, **more), identity)
            )
            for name in names
        ]
        await joined(*relays, nodes=len(names))
        yield tuple(relays)


async def so(look: Callable[[], Awaitable[bool]]) -> None:
    """Look again and again until something is so."""
    async with asyncio.timeout(TIMEOUT):
        while not await look():
            await asyncio.sleep(0.02)


async def said(
    relay: RelayServer, name: str = NAME, kind: str = "A"
) -> list[str] | dns.rcode.Rcode:
    """Return what a node says; only the code, where that is not NOERROR."""
    response = await ask(relay, name, kind)
    code = response.rcode()
    return sorted(texts(response)) if code == dns.rcode.NOERROR else code


async def alike(
    *relays: RelayServer, is_so: Callable[[Any], bool], name: str = NAME, kind: str = "A"
) -> Any:
    """Wait until all nodes say the same, and it is so; return it."""
    found: list[Any] = []

    async def look() -> bool:
        found[:] = [await said(relay, name, kind) for relay in relays]
        return is_so(found[0]) and all(one == found[0] for one in found)

    try:
        await so(look)
    except TimeoutError:
        raise AssertionError(f"not alike: {found}") from None
    return found[0]


def there(answer: Any) -> bool:
    return isinstance(answer, list) and bool(answer)


def is_gone(answer: Any) -> bool:
    return bool(answer == dns.rcode.NXDOMAIN)


async def serial_of(relay: RelayServer) -> int:
    return int(texts(await ask(relay, ZONE, "SOA"))[0].split()[2])


async def test_a_peer_is_in_the_zone_of_every_node_moves_and_leaves(nats: NatsServer) -> None:
    async with zones(nats, "a", "b", "c") as relays:
        a, b, _ = relays
        before = await serial_of(a)
        async with Peer(ALICE, b.url) as alice:
            alice.listen("chat")
            alice.listen("secret", disclose=[MALLORY.guid])
            await alice.published()
            for name, kind in (
                *((NAME, "A"), (NAME, "TXT"), (CHAT, "SRV"), (CHAT, "TXT")),
                (f"e0.{NAME}", "A"),
            ):
                await alike(*relays, is_so=there, name=name, kind=kind)
            secret = await said(a, f"_secret._tcp.{NAME}", "SRV")
            assert secret == dns.rcode.NXDOMAIN, "only its list may know"
            # What is unproven is in nobody's zone: its own entries are those of 127.0.0.1 alone.
            assert len(await said(a, CHAT, "TXT")) == len(await said(a, CHAT, "SRV"))
            first = await said(a, NAME, "TXT")
            alice.listen("mail")
            await alice.published()
            await alike(*relays, is_so=lambda one: there(one) and one != first, kind="TXT")
            second = await said(a, NAME, "TXT")
        await alike(*relays, is_so=is_gone)
        async with Peer(ALICE, a.url) as alice:
            alice.listen("chat")
            await alice.published()
            await alike(*relays, is_so=lambda one: there(one) and one != second, kind="TXT")
        await alike(*relays, is_so=is_gone)
        soa = await alike(*relays, is_so=there, name=ZONE, kind="SOA")
        assert int(soa[0].split()[2]) >= before, "alike, and never lower"


@pytest.mark.nightly
async def test_a_node_that_is_new_and_one_that_is_cut_off(
    nats: NatsServer,
) -> None:
    """It begins behind a way that is cut, and learns all; later it is cut off again."""
    async with zones(nats, "a") as (a,), way_to(nats.port) as way:
        assert a.config.cluster is not None
        cut = {"servers": f"nats://127.0.0.1:{way.port}"}
        config = node("b", nats, a.config.cluster.prefix, dns=configured(), cluster=cut)
        async with Peer(ALICE, a.url) as alice:
            alice.listen("chat")
            await alice.published()
            way.cut()
            async with RelayServer(config, a.identity) as b:
                assert await said(b) == dns.rcode.SERVFAIL
                nobody = f"{Identity.generate().guid}.{ZONE}."
                assert await said(b, nobody) == dns.rcode.SERVFAIL
                assert await said(b, ZONE, "NS") == [f"ns.{ZONE}."]
                way.mend()
                await alike(a, b, is_so=there, name=CHAT, kind="TXT")
                await alike(a, b, is_so=is_gone, name=nobody)
                await alike(a, b, is_so=there, name=ZONE, kind="SOA")
                # It is cut off: what it knows it goes on answering, and what has changed
                # meanwhile it says as soon as it knows.
                way.cut()
                alice.listen("mail")
                await alice.published()
                await so(lambda: _is_out(b))
                assert there(await said(b, CHAT, "TXT"))
                assert not there(await said(b, f"_mail._tcp.{NAME}", "TXT"))
                way.mend()
                await alike(a, b, is_so=there, name=f"_mail._tcp.{NAME}", kind="TXT")


async def ready(*relays: RelayServer) -> None:
    """Wait until each takes updates."""
    for relay in relays:
        await so(lambda relay=relay: _takes_updates(relay))  # type: ignore[misc]


async def _takes_updates(relay: RelayServer) -> bool:
    message = update(relay, MALLORY)
    message.delete(f"nothing.{MALLORY.guid}.{ZONE}.")
    return await sent(relay, message) == dns.rcode.NOERROR


def address(relay: RelayServer, host: str, *, number: int = 1) -> dns.update.UpdateMessage:
    """Return an update of Alice's, with one address."""
    message = update(relay)
    message.replace(NAME, 30, "A", host)
    message.replace(NAME, 30, "TXT", f'"roam-relay/1" "seq={number}"')
    return message


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A NATS that keeps what it is told, for all tests that do not stop it."""
    folder = tmp_path_factory.mktemp("stored")
    with nats_server(folder, JETSTREAM.format(folder)) as server:
        yield server


async def test_an_update_at_any_node_is_seen_at_all(stored: NatsServer) -> None:
    async with zones(stored, "a", "b") as relays:
        a, b = relays
        await ready(*relays)
        before = await serial_of(b)
        assert await sent(a, address(a, "192.0.2.1")) == dns.rcode.NOERROR
        assert await said(a) == ["192.0.2.1"], "who has answered shows it at once"
        await alike(*relays, is_so=lambda one: one == ["192.0.2.1"])
        # The next one follows it at the other node, under a prerequisite that holds there.
        message = update(b)
        message.present(NAME, "TXT", '"roam-relay/1" "seq=1"')
        message.replace(NAME, 30, "A", "192.0.2.2")
        assert await sent(b, message) == dns.rcode.NOERROR
        await alike(*relays, is_so=lambda one: one == ["192.0.2.2"])
        late = update(a)
        late.present(NAME, "A", "192.0.2.1")
        late.replace(NAME, 30, "A", "192.0.2.9")
        assert await sent(a, late) == dns.rcode.NXRRSET
        # A registration with a higher number comes first, and goes.
        async with Peer(ALICE, a.url) as alice:
            alice.listen("chat")
            await alice.published()
            await alike(*relays, is_so=lambda one: one == ["127.0.0.1"])
        await alike(*relays, is_so=lambda one: one == ["192.0.2.2"])
        # What the operator says at one node is forgotten at all.
        assert a.dns is not None
        assert await a.dns.messages.forget(ALICE.guid)
        await alike(*relays, is_so=is_gone)
        soa = await alike(*relays, is_so=there, name=ZONE, kind="SOA")
        assert int(soa[0].split()[2]) >= before, "alike, and never lower"


async def test_an_update_is_made_once_whoever_sends_it_again_and_where(stored: NatsServer) -> None:
    async with zones(stored, "a", "b") as relays:
        a, b = relays
        await ready(*relays)
        first = address(a, "192.0.2.1").to_wire()
        assert (await raw(a, first))[3] & 15 == dns.rcode.NOERROR
        await alike(*relays, is_so=lambda one: one == ["192.0.2.1"])
        assert await sent(b, address(b, "192.0.2.2")) == dns.rcode.NOERROR
        await alike(*relays, is_so=lambda one: one == ["192.0.2.2"])
        # Whoever has read the first one sends it where it was not made.
        assert (await raw(b, first))[3] & 15 == dns.rcode.NOERROR
        await alike(*relays, is_so=lambda one: one == ["192.0.2.2"])
        # One at both nodes at the same instant; and many of one key, of which each adds a name.
        both = address(a, "192.0.2.3").to_wire()
        answers = await asyncio.gather(raw(a, both), raw(b, both))
        assert {answer[3] & 15 for answer in answers} == {dns.rcode.NOERROR}
        messages = []
        for number, relay in enumerate(relays * 4):
            message = update(relay)
            message.add(f"n{number}.{NAME}", 30, "A", f"192.0.2.{number + 10}")
            messages.append(sent(relay, message))
        assert set(await asyncio.gather(*messages)) == {dns.rcode.NOERROR}
        for number in range(8):
            name = f"n{number}.{NAME}"
            await alike(
                *relays, is_so=lambda one, n=number: one == [f"192.0.2.{n + 10}"], name=name
            )


async def test_what_a_stranger_puts_into_the_bucket_is_nothing(stored: NatsServer) -> None:
    async with zones(stored, "a", "b") as relays:
        a, b = relays
        await ready(*relays)
        assert await sent(a, address(a, "192.0.2.1")) == dns.rcode.NOERROR
        await alike(*relays, is_so=lambda one: one == ["192.0.2.1"])
        assert a.cluster is not None
        subject = f"$KV.{_prefix(a)}_zone.{a.cluster.seal.word('zone')}.{ALICE.guid}"
        stranger = await nats_client.connect(stored.url)
        await stranger.jetstream().publish(subject, b"192.0.2.66")
        await stranger.close()
        await alike(*relays, is_so=is_gone)
        assert await sent(b, address(b, "192.0.2.2")) == dns.rcode.NOERROR
        await alike(*relays, is_so=lambda one: one == ["192.0.2.2"])


async def test_bounds_hold_for_all_nodes_together(stored: NatsServer) -> None:
    few = configured(max_peers=1, updates_burst=6, updates_per_second=0.001)
    async with zones(stored, "a", "b", dns=few) as (a, b):
        await so(lambda: _is_whole(a, b))
        for number, relay in enumerate((a, b, a, b)):
            assert await sent(relay, address(relay, f"192.0.2.{number}")) == dns.rcode.NOERROR
            await alike(a, b, is_so=lambda one, n=number: one == [f"192.0.2.{n}"])
        other = update(b, MALLORY)
        other.add(f"{MALLORY.guid}.{ZONE}.", 30, "A", "192.0.2.1")
        assert await sent(b, other) == dns.rcode.REFUSED, "one peer is registered, at the other"
        codes = [await sent(one, address(one, "192.0.2.77")) for one in (a, b) * 4]
        assert dns.rcode.REFUSED in codes
        assert codes.count(dns.rcode.NOERROR) <= 3, "six in all, one of which is in the air"
        # A ban at either node takes the peer out, and is found to be done at the other.
        for relay in (a, b):
            assert relay.dns is not None
            await relay.operator.do(Ban(ALICE.guid))
        await alike(a, b, is_so=is_gone)
        assert await sent(b, address(b, "192.0.2.7")) == dns.rcode.REFUSED


@pytest.mark.nightly
async def test_what_nobody_renews_is_gone_and_can_be_registered_anew(stored: NatsServer) -> None:
    """NATS drops it without a word; nodes look for what is old, each by itself."""
    async with (
        contextlib.AsyncExitStack() as stack,
        zones(stored, "a", "b", dns=configured(remember=1.0)) as (a, b),
    ):
        await so(lambda: _is_whole(a, b))
        assert await sent(a, address(a, "192.0.2.1")) == dns.rcode.NOERROR
        await alike(a, b, is_so=lambda one: one == ["192.0.2.1"])
        asked = await stack.enter_async_context(await nats_client.connect(stored.url))
        there = asked.jetstream()
        await so(lambda: _has_none(there, _prefix(a)))
        # At this node it is there still: it looks twice a minute.
        assert await sent(b, address(b, "192.0.2.2")) == dns.rcode.NOERROR
        await alike(a, b, is_so=lambda one: one == ["192.0.2.2"])
        await so(lambda: _has_none(there, _prefix(a)))
        for relay in (a, b):
            assert relay.dns is not None
            await relay.dns.messages.drop_old()
        await alike(a, b, is_so=is_gone)


async def _has_none(stream: JetStreamContext, prefix: str) -> bool:
    return (await stream.stream_info(f"KV_{prefix}_zone")).state.messages == 0


async def _is_whole(*relays: RelayServer) -> bool:
    return all(relay.dns is not None and relay.dns.zone.is_whole for relay in relays)


async def test_nats_is_lost_and_all_begin_anew(tmp_path: Path) -> None:
    """What is known is answered; updates are not taken, and no node forgets one."""
    with nats_server(tmp_path, JETSTREAM.format(tmp_path)) as nats:
        async with zones(nats, "a", "b") as relays:
            a, b = relays
            await ready(*relays)
            assert await sent(a, address(a, "192.0.2.1")) == dns.rcode.NOERROR
            await alike(*relays, is_so=lambda one: one == ["192.0.2.1"])
            highest = await serial_of(a)
            prefix, identity = _prefix(a), a.identity
            nats.kill()
            await so(lambda: _takes_none(a))
            await so(lambda: _takes_none(b))
            for relay in relays:
                assert await said(relay) == ["192.0.2.1"]
                assert await said(relay, f"nobody.{ZONE}.") == dns.rcode.NXDOMAIN
            # Who has to go meanwhile is out of the zone when it can be; the operator is told.
            assert a.dns is not None
            assert b.dns is not None
            with pytest.raises(StoreFailed):
                await a.dns.messages.forget(ALICE.guid)
            await a.dns.messages.drop(ALICE.guid)
            nats.start()
            await ready(*relays)
            await a.dns.messages.drop_old()
            assert await said(a) == ["192.0.2.1"], "it may come again, and is not sent away late"
            assert await sent(b, address(b, "192.0.2.2", number=2)) == dns.rcode.NOERROR
            await alike(*relays, is_so=lambda one: one == ["192.0.2.2"])
            highest = max(highest, await serial_of(a))
        # All begin anew, one of them before NATS does: it knows of nobody, and says so.
        nats.kill()
        one = node("a", nats, prefix, dns=configured())
        async with RelayServer(one, identity) as a:
            assert await said(a) == dns.rcode.SERVFAIL
            assert await said(a, ZONE, "NS") == [f"ns.{ZONE}."]
            nats.start()
            async with RelayServer(node("b", nats, prefix, dns=configured()), identity) as b:
                await alike(a, b, is_so=lambda one: one == ["192.0.2.2"])
                await alike(a, b, is_so=is_gone, name=f"nobody.{ZONE}.")
                assert await serial_of(a) >= highest


async def _takes_none(relay: RelayServer) -> bool:
    return await sent(relay, address(relay, "192.0.2.99", number=99)) == dns.rcode.SERVFAIL


def _prefix(relay: RelayServer) -> str:
    assert relay.config.cluster is not None
    return relay.config.cluster.prefix


async def test_without_jetstream_peers_are_in_the_zone_and_updates_are_not(
    nats: NatsServer,
) -> None:
    async with zones(nats, "a", "b") as relays:
        await so(lambda: _is_whole(*relays))
        async with Peer(ALICE, relays[0].url) as alice:
            alice.listen("chat")
            await alice.published()
            await alike(*relays, is_so=there)
            assert await sent(relays[1], address(relays[1], "192.0.2.1")) == dns.rcode.SERVFAIL
        await alike(*relays, is_so=is_gone)


async def _is_out(relay: RelayServer) -> bool:
    return relay.cluster is not None and not relay.cluster.is_in


def served(folder: Path, name: str, nats: NatsServer, prefix: str) -> tuple[Path, int]:
    """Write the configuration of a node that is a process; return it and its zone's port."""
    port, file = free_port(), folder / f"{name}.toml"
    file.write_text(
        f'identity = "{folder / "relay.key"}"\nstate = "{folder / name}"\ndrain_timeout = 0.0\n'
        f'[dns]\nzone = "{ZONE}"\nport = {port}\n'
        f'[cluster]\nnode = "{name}"\nservers = "{nats.url}"\nprefix = "{prefix}"\n'
    )
    return file, port


@pytest.mark.nightly
async def test_a_node_is_killed_and_its_peers_are_where_they_come_to(
    stored: NatsServer, tmp_path: Path
) -> None:
    """Who does not come back is in the zone no longer than its node was heard of."""
    Identity.load_or_create(tmp_path / "relay.key")
    prefix = os.urandom(4).hex()
    (first, _), (second, port) = (served(tmp_path, name, stored, prefix) for name in "ab")

    async def at_second(name: str) -> dns.message.Message:
        return await dns.asyncquery.udp(dns.message.make_query(name, "A"), "127.0.0.1", 60, port)

    async def finds(guid: str) -> bool:
        return bool((await at_second(f"{guid}.{ZONE}.")).answer)

    async def finds_nobody(guid: str) -> bool:
        return (await at_second(f"{guid}.{ZONE}.")).rcode() == dns.rcode.NXDOMAIN

    with (
        processes.relay(tmp_path, "--config", str(first)) as (a, killed),
        processes.relay(tmp_path, "--config", str(second)) as _,
    ):
        async with (
            Peer(ALICE, a) as alice,
            registered(a, "chat") as there,
            asyncio.timeout(TIMEOUT),
        ):
            gone = there.identity.guid
            alice.listen("chat")
            await alice.published()
            await so(lambda: finds(ALICE.guid))
            await so(lambda: finds(gone))
            killed.kill()
            await so(lambda: finds_nobody(gone))
            await so(lambda: finds(ALICE.guid))


@pytest.mark.nightly
async def test_each_side_of_a_cut_answers_for_its_own_and_both_alike_when_it_heals(
    tmp_path: Path,
) -> None:
    first, second = free_port(), free_port()
    async with contextlib.AsyncExitStack() as stack:
        way = await stack.enter_async_context(way_to(second))
        here = stack.enter_context(nats_server(tmp_path, routed(first, way.port)))
        there_too = stack.enter_context(nats_server(tmp_path, routed(second)))
        identity = Identity.generate()
        enter = stack.enter_async_context
        a = await enter(RelayServer(node("a", here, "p", dns=configured()), identity))
        b = await enter(RelayServer(node("b", there_too, "p", dns=configured()), identity))
        await joined(a, b, nodes=2)
        alice, mallory = await enter(Peer(ALICE, a.url)), await enter(Peer(MALLORY, b.url))
        for one in (alice, mallory):
            one.listen("chat")
            await one.published()
        other = f"{MALLORY.guid}.{ZONE}."
        for name in (NAME, other):
            await alike(a, b, is_so=there, name=name)
        way.cut()
        await alike(b, is_so=is_gone, name=NAME)
        await alike(a, is_so=is_gone, name=other)
        assert there(await said(a, NAME))
        assert there(await said(b, other))
        way.mend()
        for name in (NAME, other, ZONE):
            await alike(a, b, is_so=there, name=name, kind="SOA" if name == ZONE else "A")
