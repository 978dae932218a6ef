"""The zone of a cluster: asked over real sockets, it answers alike at every node, whatever its
peers and its nodes do.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import dns.exception
import dns.message
import dns.rcode

from peers import Identity, Peer
from relay.config import DnsConfig
from relay.server import RelayServer
from tests.cluster.cut import way_to
from tests.cluster.nats import TIMEOUT, NatsServer, joined, node
from tests.relay.dns.asking import ALICE, MALLORY, NAME, ZONE, ask, texts

CHAT = f"_chat._tcp.{NAME}"


def configured(**more: Any) -> DnsConfig:
    settings = {"made_per_second": 1e6, "updates_burst": 10_000} | more
    return DnsConfig(zone=ZONE, port=0, addresses="127.0.0.1", **settings)


@contextlib.asynccontextmanager
async def zones(
    nats: NatsServer, *names: str, **more: Any
) -> AsyncIterator[tuple[RelayServer, ...]]:
    """Run relays of one identity, each with the zone."""
    identity, prefix = Identity.generate(), os.urandom(4).hex()
    async with contextlib.AsyncExitStack() as stack:
        relays = [
            await stack.enter_async_context(
                RelayServer(node(name, nats, prefix, dns=configured(), **more), identity)
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
        assert int(soa[0].split()[2]) > before


async def test_a_node_that_is_new_says_of_nobody_that_he_is_not_there(nats: NatsServer) -> None:
    """It is behind a way that is cut: then it learns all."""
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


async def _is_out(relay: RelayServer) -> bool:
    return relay.cluster is not None and not relay.cluster.is_in
