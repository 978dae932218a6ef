"""Opening a session from this side: its fallbacks and its deadline.

First above fakes, on a clock that jumps; then between real peers.
"""

import asyncio
import dataclasses
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, cast

import pytest

from peers import DdnsConfig, Mode, PathFailed, PathKind, Peer, PeerConfig
from peers.config import Policy
from peers.control import Presence
from peers.roaming.outgoing import Outgoing
from peers.session import Session, Terms
from protocol.errors import (
    Code,
    ConnectionClosed,
    LimitExceeded,
    NameServerUnavailable,
    PeerOffline,
    Refused,
    RelayUnavailable,
    RoamRelayError,
    Superseded,
    UnknownPeer,
    UnknownService,
    WrongIdentity,
)
from protocol.messages import PeerState
from relay.server import RelayServer
from tests.peers.roaming.fakes import CALLER
from tests.support.far import far
from tests.support.virtual_time import run

# -- above fakes ------------------------------------------------------------------------------

RELAY = PeerConfig(relay="http://192.0.2.99:1")
BOTH = PeerConfig(relay="http://192.0.2.99:1", ddns=DdnsConfig(zone="example.org"))
ZONE = PeerConfig(ddns=DdnsConfig(zone="example.org"))
STRICT = PeerConfig(relay="http://192.0.2.99:1", fallback=False)
STRICT_BOTH = PeerConfig(
    relay="http://192.0.2.99:1", ddns=DdnsConfig(zone="example.org"), fallback=False
)
P2P, COMBINED, CENTRAL, AUTO = Mode.P2P, Mode.COMBINED, Mode.CENTRAL, Mode.AUTO
NO_PATH, HIDDEN = PathFailed("deaf"), Refused("hidden", code=Code.NO_ENDPOINT)
NO_RELAY, NOT_ADMITTED = RelayUnavailable("no relay"), RelayUnavailable("?", code=Code.NOT_ADMITTED)
LONG = 1000.0


class Sessions:
    """Opens the modes that the test lets open; the others fail as it says, or take too long."""

    def __init__(self, **says: RoamRelayError | float) -> None:
        self.says = {Mode(name): said for name, said in says.items()}
        self.tried: list[Mode] = []
        self.terms: list[Terms] = []
        self.cancelled = 0

    async def open(self, terms: Terms, timeout: float) -> Session:
        assert timeout == 7.0
        self.tried.append(terms.mode)
        self.terms.append(terms)
        said = self.says.get(terms.mode, 0.0)
        if isinstance(said, RoamRelayError):
            raise said
        try:
            await asyncio.sleep(said)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return cast(Session, terms)


def nobody(guid: str) -> AsyncGenerator[Presence, None]:
    raise AssertionError("nobody watches")


async def nowhere(guid: str, service: str) -> object:
    raise UnknownPeer("not in the zone")


async def somewhere(guid: str, service: str) -> object:
    return None


def outgoing(
    sessions: Sessions,
    config: PeerConfig = RELAY,
    watch: Callable[..., Any] = nobody,
    find: Callable[[str, str], Awaitable[object]] = nowhere,
) -> Outgoing:
    return Outgoing(config, cast(Any, sessions), watch, find)


def wants(mode: Mode, policy: str = "") -> Terms:
    return dataclasses.replace(CALLER, mode=mode, policy=Policy.parse(policy))


@pytest.mark.parametrize(
    ("mode", "config", "policy", "says", "tried", "raised"),
    [
        (COMBINED, RELAY, "", {}, [COMBINED], None),
        (COMBINED, RELAY, "", {"combined": NO_PATH}, [COMBINED, AUTO], None),
        (COMBINED, RELAY, "", {"combined": HIDDEN}, [COMBINED, AUTO], None),
        (COMBINED, RELAY, "", {"combined": LONG}, [COMBINED, AUTO], None),
        (COMBINED, RELAY, "", {"combined": NO_PATH, "auto": NO_RELAY}, [COMBINED, AUTO], NO_RELAY),
        # What the other side or the relay has said for good.
        (COMBINED, RELAY, "", {"combined": Refused("no")}, [COMBINED], Refused),
        (COMBINED, RELAY, "", {"combined": UnknownPeer("?")}, [COMBINED], UnknownPeer),
        (
            COMBINED,
            RELAY,
            "",
            {"combined": WrongIdentity("a", "b", "c")},
            [COMBINED],
            WrongIdentity,
        ),
        (COMBINED, RELAY, "", {"combined": NO_RELAY}, [COMBINED], RelayUnavailable),
        # The policy or the configuration forbids it.
        (COMBINED, RELAY, "not relayed", {"combined": NO_PATH}, [COMBINED], PathFailed),
        (COMBINED, RELAY, "only direct", {"combined": HIDDEN}, [COMBINED], Refused),
        (COMBINED, STRICT, "", {"combined": NO_PATH}, [COMBINED], PathFailed),
        # Other modes become nothing else.
        (P2P, RELAY, "", {"p2p": NO_PATH}, [P2P], PathFailed),
        (AUTO, RELAY, "", {"auto": NO_PATH}, [AUTO], PathFailed),
        (CENTRAL, RELAY, "", {"central": NO_PATH}, [CENTRAL], PathFailed),
        # Without a relay the zone is asked, in those modes that hide nothing.
        (COMBINED, BOTH, "", {"combined": NO_RELAY}, [COMBINED, P2P], None),
        (AUTO, BOTH, "", {"auto": NO_RELAY}, [AUTO, P2P], None),
        (COMBINED, BOTH, "", {"combined": NO_PATH, "auto": NO_RELAY}, [COMBINED, AUTO, P2P], None),
        (COMBINED, BOTH, "", {"combined": NO_PATH}, [COMBINED, AUTO], None),
        (COMBINED, BOTH, "", {"combined": NOT_ADMITTED}, [COMBINED], RelayUnavailable),
        (AUTO, STRICT_BOTH, "", {"auto": NO_RELAY}, [AUTO], RelayUnavailable),
        (CENTRAL, BOTH, "", {"central": NO_RELAY}, [CENTRAL], RelayUnavailable),
        (COMBINED, ZONE, "", {}, [P2P], None),
        (AUTO, ZONE, "", {}, [P2P], None),
        (P2P, ZONE, "", {}, [P2P], None),
        (CENTRAL, ZONE, "", {"central": NO_RELAY}, [CENTRAL], RelayUnavailable),
    ],
)
def test_what_a_mode_becomes(
    mode: Mode,
    config: PeerConfig,
    policy: str,
    says: dict[str, Any],
    tried: list[Mode],
    raised: Any,
) -> None:
    sessions = Sessions(**says)
    work = outgoing(sessions, config).open(wants(mode, policy), 7.0)
    if raised is None:
        opened = cast(Terms, run(work))
        assert opened.mode is tried[-1]
    else:
        with pytest.raises(raised if isinstance(raised, type) else type(raised)):
            run(work)
    assert sessions.tried == tried
    assert all(one.discloses is wants(mode, policy).discloses for one in sessions.terms)
    assert sessions.cancelled == list(says.values()).count(LONG)


@pytest.mark.parametrize("mode", list(Mode))
def test_a_policy_s_deadline_is_for_all_of_it(mode: Mode) -> None:
    async def scene() -> float:
        loop = asyncio.get_running_loop()
        began = loop.time()
        with pytest.raises(PathFailed, match="'within 5'"):
            await outgoing(sessions).open(wants(mode, "within 5"), 7.0)
        return loop.time() - began

    sessions = Sessions(p2p=LONG, combined=LONG, central=LONG, auto=LONG)
    assert run(scene()) == 5.0
    assert sessions.cancelled == len(sessions.tried) == (2 if mode is COMBINED else 1)


class Watched:
    """A peer whose presence is told as the test says."""

    def __init__(self, *states: PeerState) -> None:
        self.states = states
        self.closed = False

    async def __call__(self, guid: str) -> AsyncGenerator[Presence, None]:
        try:
            for state in self.states:
                yield Presence(guid, state, None, False)
        finally:
            self.closed = True


@pytest.mark.parametrize(
    "error", [PeerOffline("gone"), UnknownPeer("?"), UnknownService("not yet")]
)
def test_whoever_waits_opens_when_the_peer_is_there_and_offers_the_service(
    error: RoamRelayError,
) -> None:
    async def scene() -> None:
        sessions = Sessions(p2p=error)
        states = (PeerState.OFFLINE, PeerState.ONLINE, PeerState.OFFLINE, PeerState.ONLINE)
        watched = Watched(*states)

        async def watch(guid: str) -> AsyncGenerator[Presence, None]:
            number = 0
            async for one in watched(guid):
                number += 1
                if number == 4:
                    sessions.says.clear()
                yield one

        opened = await outgoing(sessions, watch=watch).wait_and_open(wants(P2P), 7.0)
        assert cast(Terms, opened).mode is P2P
        assert sessions.tried == [P2P, P2P], "only while it is there"

    run(scene())


def test_waiting_ends_with_what_is_final_and_with_the_peer() -> None:
    async def scene() -> None:
        watched = Watched(PeerState.ONLINE)
        refused = outgoing(Sessions(p2p=Refused("no")), watch=watched)
        with pytest.raises(Refused):
            await refused.wait_and_open(wants(P2P), 7.0)
        assert watched.closed, "nobody watches any more"
        with pytest.raises(ConnectionClosed):
            await outgoing(Sessions(), watch=Watched()).wait_and_open(wants(P2P), 7.0)

    run(scene())


@pytest.mark.parametrize("error", [UnknownPeer("?"), PeerOffline("gone")])
@pytest.mark.parametrize("mode", [COMBINED, AUTO])
def test_a_peer_that_is_not_at_the_relay_may_be_in_the_zone(
    mode: Mode, error: RoamRelayError
) -> None:
    sessions = Sessions(**{mode.value: error})
    run(outgoing(sessions, BOTH, find=somewhere).open(wants(mode), 7.0))
    assert sessions.tried == [mode, P2P]
    for config, find, more in (
        (BOTH, nowhere, {}),
        (BOTH, somewhere, {"p2p": NO_PATH}),
        (STRICT_BOTH, somewhere, {}),
    ):
        sessions = Sessions(**{mode.value: error}, **more)
        with pytest.raises(type(error)) as failed:
            run(outgoing(sessions, config, find=find).open(wants(mode), 7.0))
        assert failed.value is error, "what the relay has said"


ZONES: list[Any] = [somewhere, nowhere]


@pytest.mark.parametrize("mode", [P2P, COMBINED, AUTO])
def test_with_a_relay_and_a_zone_either_says_that_a_peer_is_there(mode: Mode) -> None:
    async def scene(states: tuple[PeerState, ...], known_after: int) -> tuple[Mode, list[Mode]]:
        said: list[str] = []

        async def watch(guid: str) -> AsyncGenerator[Presence, None]:
            for state in states:
                yield Presence(guid, state, None, False)
            await asyncio.Event().wait()

        async def find(guid: str, service: str) -> object:
            said.append(guid)
            await asyncio.sleep(0)
            return await ZONES[len(said) < known_after](guid, service)

        sessions = Sessions()
        opened = await outgoing(sessions, BOTH, watch, find).wait_and_open(wants(mode), 7.0)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return cast(Terms, opened).mode, sessions.tried

    assert run(scene((), 3)) == (P2P, [P2P]), "by the DNS alone, and later"
    assert run(scene((PeerState.OFFLINE,), 1)) == (P2P, [P2P])
    assert run(scene((PeerState.ONLINE,), 1000)) == (mode, [mode]), "the relay alone"
    by_relay, tried = run(scene((PeerState.ONLINE,), 1))
    assert (by_relay, len(tried)) == (mode, 1), "never two sessions"


@pytest.mark.parametrize(
    "says",
    [LimitExceeded("too many watches"), None],
    ids=["no watch", "a relay that is lost over each request"],
)
def test_neither_the_relay_nor_the_zone_ends_a_wait_that_the_other_one_can_end(says: Any) -> None:
    async def scene() -> None:
        async def watch(guid: str) -> AsyncGenerator[Presence, None]:
            if says is not None:
                raise says
            yield Presence(guid, PeerState.ONLINE, None, False)

        looked: list[float] = []

        async def find(guid: str, service: str) -> object:
            looked.append(asyncio.get_running_loop().time())
            if len(looked) < 4:
                raise NameServerUnavailable("no server answers")
            return None

        sessions = Sessions(auto=NO_RELAY)
        opened = await outgoing(sessions, BOTH, watch, find).wait_and_open(wants(AUTO), 7.0)
        assert cast(Terms, opened).mode is P2P

    run(scene())


def test_a_relay_that_is_lost_over_the_request_is_asked_again() -> None:
    async def scene() -> None:
        sessions = Sessions(auto=NO_RELAY)
        watching = outgoing(sessions, watch=Watched(PeerState.ONLINE))
        waiting = asyncio.create_task(watching.wait_and_open(wants(AUTO), 7.0))
        await asyncio.sleep(3)
        sessions.says.clear()
        await waiting
        assert len(sessions.tried) == 3
        for final in (NOT_ADMITTED, Superseded("another program")):
            with pytest.raises(type(final)):
                await outgoing(Sessions(auto=final), watch=Watched(PeerState.ONLINE)).wait_and_open(
                    wants(AUTO), 7.0
                )

    run(scene())


@pytest.mark.parametrize(
    "error",
    [
        UnknownPeer("?"),
        UnknownService("?"),
        PathFailed("?"),
        NameServerUnavailable("?"),
        # Of a peer that has gone, the zone may still have the address, where another one is now.
        WrongIdentity("a", "b", "there"),
    ],
)
def test_without_a_relay_the_zone_is_looked_into_again(error: RoamRelayError) -> None:
    async def scene() -> None:
        sessions = Sessions(p2p=error)
        waiting = asyncio.create_task(outgoing(sessions, ZONE).wait_and_open(wants(P2P), 7.0))
        await asyncio.sleep(5)
        assert len(sessions.tried) == 3
        sessions.says.clear()
        await waiting
        assert len(sessions.tried) == 4

    run(scene())


# -- between real peers -----------------------------------------------------------------------


async def test_all_dead_falls_back_where_the_mode_allows(relay: RelayServer, bob: Peer) -> None:
    async with far(relay, dead=2) as there:
        with pytest.raises(PathFailed) as failed:
            await bob.connect(there.peer.guid, "chat", mode="p2p")
        assert all(host in str(failed.value) for host in ("127.0.42.1", "127.0.42.2"))
        session = await bob.connect(there.peer.guid, "chat", mode="combined")
        assert session.mode is Mode.AUTO
        assert session.path is not None
        assert session.path.kind is PathKind.RELAYED
        await session.close()
        for policy in ("only direct", "not relayed"):
            with pytest.raises(PathFailed):
                await bob.connect(there.peer.guid, "chat", mode="combined", policy=policy)


async def test_a_deadline_ends_the_search(relay: RelayServer, bob: Peer) -> None:
    async with far(relay, silent=1) as there:
        began = time.monotonic()
        with pytest.raises(PathFailed, match=r"within 0\.3"):
            await bob.connect(there.peer.guid, "chat", mode="p2p", policy="within 0.3")
        assert time.monotonic() - began < bob.config.path_timeout, "what would end it else"
