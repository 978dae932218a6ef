"""What a stranger does to make a peer dial addresses of others, and who counts what comes there.

The victims are on loopback, where the relay, the peers and the stranger are met too: so the scope
is no obstacle, as it is none for a public address, and what holds is the budgets. They refuse
nobody, and speak no TLS.
"""

import asyncio
import contextlib
import os
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from peers import Identity, Peer, PeerConfig
from protocol.endpoint import Entry, Phase, Provenance, SignedEntry, sign_entry
from protocol.errors import RoamRelayError
from protocol.messages import Mode, ServiceRequestTo
from tests.relay.client import registered
from tests.support.faults import reset
from tests.support.rooms import rooms
from tests.support.servers import close_server

Tell = dict[Identity, tuple[SignedEntry, ...]]
"""What each of a stranger's keys tells."""
Attack = Callable[[str, Peer, "Victims", int], Coroutine[Any, Any, None]]

__all__ = [
    "Attack",
    "HOSTS",
    "LONG",
    "SESSIONS",
    "Tell",
    "Victims",
    "asked",
    "by_hello",
    "by_location",
    "by_name",
    "calling",
    "config",
    "dial_back",
    "many_keys",
    "over_the_relay",
    "served",
    "signed",
    "telling",
    "told",
    "until",
    "victims",
]

LONG = 60.0
"""Seconds that end a test which hangs; nothing that is green waits for them."""
SESSIONS = 40
HOSTS = tuple(f"127.0.9.{number}" for number in range(1, 9))


class Victims:
    """Some addresses at one port, that take connections and close them after the first bytes."""

    def __init__(self, port: int, hosts: tuple[str, ...] = HOSTS, own: str = "127.0.8.1") -> None:
        self.port = port
        self.hosts = hosts
        self.own = own
        """Where the stranger itself is met."""
        self.hits: Counter[str] = Counter()
        self.received: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.hits[writer.get_extra_info("sockname")[0]] += 1
        with contextlib.suppress(OSError):
            self.received.append(await reader.read(4096))
        writer.close()

    @property
    def count(self) -> int:
        return self.hits.total()


@asynccontextmanager
async def victims(*hosts: str, port: int = 0) -> AsyncIterator[Victims]:
    """Listen at these addresses (default: the eight), at one port: by default one that is free at
    all of them."""
    hosts = hosts or HOSTS
    async with contextlib.AsyncExitStack() as stack:
        listening = [socket.create_server((hosts[0], port))]
        port = listening[0].getsockname()[1]
        listening += [socket.create_server((host, port)) for host in hosts[1:]]
        counted = Victims(port, hosts)
        for one in listening:
            server = await asyncio.start_server(counted.serve, sock=one)
            stack.push_async_callback(close_server, server)
        yield counted


def config(**more: Any) -> PeerConfig:
    """Return the configuration of a peer that looks for direct paths at once."""
    known = {"stagger": 0.01, "listen_hosts": ("127.0.0.1",), "path_timeout": 5.0}
    return PeerConfig(**(known | more))


def stranger(there: Victims) -> PeerConfig:
    """Return the configuration of a stranger that tells others' addresses as its own."""
    return config(advertise=there.hosts, listen_hosts=(there.own,), listen_port=there.port)


def signed(
    identity: Identity, *places: tuple[str, int], service: str = "chat", seq: int = 2
) -> tuple[SignedEntry, ...]:
    """Return entries that are signed, as each stranger signs what it likes."""
    return tuple(
        sign_entry(
            identity, Entry(seq, service, host, port, Phase.PREFERRED, 600, Provenance.INTERFACE)
        )
        for host, port in places
    )


def told(identity: Identity, port: int, *hosts: str, seq: int = 2) -> tuple[SignedEntry, ...]:
    """Return the same at one port of some hosts."""
    return signed(identity, *((host, port) for host in hosts), seq=seq)


@asynccontextmanager
async def served(peer: Peer) -> AsyncIterator[None]:
    """Offer `chat`, and take what comes."""

    async def take() -> None:
        async for session in listener:
            kept.append(session)

    kept: list[Any] = []
    listener = peer.listen("chat")
    taking = asyncio.create_task(take())
    await peer.published()
    try:
        yield
    finally:
        taking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await taking


async def over_the_relay(relay: str, server: Peer, there: Victims, count: int) -> None:
    """Open sessions in `auto` that stay on the relay for the stranger's part."""
    attacker = Peer(Identity.generate(), relay=relay, config=stranger(there))
    async with attacker, asyncio.timeout(LONG):
        for _ in range(count):
            await attacker.connect(server.guid, "chat", mode="auto", policy="only relayed")
        await until(lambda: looked(server, count * len(there.hosts)))


async def many_keys(relay: str, server: Peer, there: Victims, keys: int) -> None:
    """Do so with a session of each of many keys, all against the first victim."""
    async with contextlib.AsyncExitStack() as stack, asyncio.timeout(LONG):
        for number in range(keys):
            victim = config(
                advertise=there.hosts[:1],
                listen_hosts=(f"127.0.8.{number + 1}",),
                listen_port=there.port,
            )
            attacker = Peer(Identity.generate(), relay=relay, config=victim)
            await stack.enter_async_context(attacker)
            await attacker.connect(server.guid, "chat", mode="auto", policy="only relayed")
        await until(lambda: looked(server, 2 * keys))


async def calling(relay: str, caller: Peer, there: Victims, count: int) -> None:
    """Be called, and tell others' addresses in the welcome."""
    attacker = Peer(Identity.generate(), relay=relay, config=stranger(there))
    async with attacker, served(attacker), asyncio.timeout(LONG):
        for _ in range(count):
            await caller.connect(attacker.guid, "chat", mode="auto")
        await until(lambda: looked(caller, count * len(there.hosts)))


async def by_hello(relay: str, server: Peer, there: Victims, count: int) -> None:
    """Come directly, tell others' addresses in the hello, and go without a word."""
    identity = Identity.generate()
    async with Peer(identity, relay=relay, config=stranger(there)) as attacker:
        for _ in range(count):
            await attacker.connect(server.guid, "chat", mode="p2p")
        for session in rooms(attacker).sessions.live:
            reset(session)
            session.abort("gone")
        async with asyncio.timeout(LONG):
            # They end when the relay has asked the stranger for the next path.
            await until(lambda: not rooms(server).sessions.live)


async def by_name(caller: Peer, guid: str, count: int) -> None:
    """Let a caller look a name up whose records are others' addresses."""
    for _ in range(count):
        with contextlib.suppress(RoamRelayError):
            await caller.connect(guid, "chat", mode="p2p", timeout=0.2)


async def by_location(relay: str, server: Peer, there: Victims, times: int) -> None:
    """Tell other addresses all the time, in one session."""
    identity = Identity.generate()
    attacker = Peer(identity, relay=relay, config=config(listen_hosts=(there.own,)))
    async with attacker, asyncio.timeout(LONG):
        session = await attacker.connect(server.guid, "chat", mode="auto", policy="only relayed")
        number = 0
        while number < times or not server.dialing.refused:
            host = there.hosts[number % len(there.hosts)]
            session.tell_location(told(identity, there.port, host, seq=number + 2))
            number += 1
            # The rate is what is tested.
            await asyncio.sleep(0.05)


async def telling(relay: str, server: Peer, there: Victims, entries: Tell, count: int) -> None:
    """Tell the same in each of many sessions that stay on the relay: of one key, or of as many as
    `entries` has identities for."""
    async with contextlib.AsyncExitStack() as stack, asyncio.timeout(LONG):
        attackers = []
        for identity in entries:
            attacker = Peer(identity, relay=relay, config=config(listen_hosts=(there.own,)))
            attackers.append(await stack.enter_async_context(attacker))
        for number in range(count):
            attacker = attackers[number % len(attackers)]
            session = await attacker.connect(
                server.guid, "chat", mode="auto", policy="only relayed"
            )
            session.tell_location(entries[attacker.identity])
        await until(lambda: looked(server, 2 * count))


async def dial_back(
    relay: str, server: Peer, ports: list[int], requests: int, own: str = "127.0.0.1"
) -> None:
    """Ask for sessions in `combined`, and come for none of them; `own` is where the relay sees the
    stranger, and others perhaps."""
    async with registered(relay) as attacker:
        identity = attacker.identity
        entries = tuple(told(identity, port, own)[0] for port in ports)
        for number in range(1, requests + 1):
            request = ServiceRequestTo(
                number, server.guid, "chat", Mode.COMBINED, os.urandom(16), entries, 10.0
            )
            attacker.send(request)
        async with asyncio.timeout(LONG):
            await until(lambda: looked(server, requests * len(ports)))


def asked(peer: Peer) -> int:
    """Return how many dials to other peers somebody wanted."""
    counts = peer.dialing
    there = [n for why, n in counts.dialed.items() if why not in ("control connection", "plane")]
    return sum(there) + sum(counts.refused.values())


def looked(peer: Peer, count: int) -> bool:
    """Whether so many have been wanted."""
    return asked(peer) >= count


async def until(there: Callable[[], bool]) -> None:
    """Look again and again; the caller has a timeout round it."""
    while not there():
        await asyncio.sleep(0.02)
