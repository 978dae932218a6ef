"""A callee at several addresses with different delays, all real and on loopback.

Differences are coarse here: what the race sees of a few milliseconds is shown on a clock of its own
(peers/choice/test_race.py) and measured (benchmarks/choice.py).
"""

import contextlib
from collections.abc import AsyncIterator, Callable

from peers import Identity, Peer, PeerConfig, Session
from peers.location import Hosts
from relay.server import RelayServer
from tests.support.delay_proxy import DelayProxy
from tests.support.rooms import rooms

HOSTS = [f"127.0.41.{last}" for last in range(1, 9)]


class Far:
    """A callee that is reached over proxies, and what each of them does."""

    def __init__(self, peer: Peer, proxies: dict[str, DelayProxy]) -> None:
        self.peer = peer
        self.proxies = proxies


def fixed(seconds: float) -> Callable[[], float]:
    return lambda: seconds


@contextlib.asynccontextmanager
async def far(
    relay: RelayServer, *delays: float, dead: int = 0, silent: int = 0
) -> AsyncIterator[Far]:
    """A peer at several addresses; those that are dead or silent come first.

    The relay believes all of them: whether they are proven is another test's business.
    """
    hosts = [f"127.0.42.{last}" for last in range(1, dead + 1)]
    silent_hosts = [f"127.0.43.{last}" for last in range(1, silent + 1)]
    proxied = HOSTS[: len(delays)]
    config = PeerConfig(
        relay=relay.url,
        listen_hosts=("127.0.0.1",),
        advertise=(*hosts, *silent_hosts, *proxied),
    )
    async with contextlib.AsyncExitStack() as stack:
        peer = await stack.enter_async_context(Peer(Identity.generate(), config=config))
        target = ("127.0.0.1", peer.port)
        proxies = {
            host: await stack.enter_async_context(DelayProxy(fixed(delay)).run(host, target))
            for host, delay in zip(proxied, delays, strict=True)
        }
        for host in silent_hosts:
            await stack.enter_async_context(DelayProxy(fixed(3600.0)).run(host, target))
        # Only the proxies are told, and the relay believes all of them.
        rooms(peer).location.update(Hosts())
        rooms(peer).location.update = lambda hosts: False  # type: ignore[method-assign]
        relay.proofs.consider = lambda guid: None  # type: ignore[method-assign]
        # Nor is it met where the relay sees it.
        meetings = rooms(peer).ways.meetings
        meetings.answer = lambda *_: ({}, None)  # type: ignore[method-assign]
        peer.listen("chat")
        await peer.published()
        registration = relay.registry.get(peer.guid)
        assert registration is not None
        for entry in registration.services["chat"][1]:
            registration.proofs[entry.endpoint] = None
        yield Far(peer, proxies)


def host_of(session: Session) -> str:
    assert session.path is not None
    return session.path.remote.rpartition(":")[0]


@contextlib.asynccontextmanager
async def unhurried(relay: RelayServer) -> AsyncIterator[Peer]:
    """A caller whose second attempt begins when the first one has ended, and not before: however
    long a busy machine takes for it."""
    async with Peer(Identity.generate(), config=PeerConfig(relay=relay.url, stagger=20.0)) as peer:
        yield peer
