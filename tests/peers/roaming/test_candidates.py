"""Which candidates a session has, in what order, and what its policy forbids.

First with what is known handed in; then between real peers.
"""

import asyncio
import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest

from peers import CallbackFailed, PathFailed, PathKind, Peer, PeerConfig
from peers.choice import Candidate, RoundTrips
from peers.config import Policy
from peers.host import Interfaces
from peers.host.address import LocalAddress
from peers.roaming import Candidates
from peers.roaming.route import Route
from protocol.endpoint import Endpoint, Phase
from protocol.messages import PathWelcome
from relay.server import RelayServer
from tests.peers.roaming.fakes import CALLER, HERE, THERE, make_route, signed
from tests.support.fake_path import FakePath
from tests.support.far import HOSTS, far, host_of
from tests.support.rooms import rooms

# -- with what is known handed in -------------------------------------------------------------

WIFI, CELLULAR = "10.0.0.2", "100.64.0.2"
SIX = "2001:db8::2"
ADDRESSES = [
    LocalAddress(WIFI, "wlan0", 2, 4, 24),
    LocalAddress(CELLULAR, "wwan0", 3, 4, 24),
    LocalAddress(SIX, "wlan0", 2, 6, 64),
]


class Known:
    """What is known of this host, and of the other one."""

    def __init__(self, **fields: Any) -> None:
        self.now = 0.0
        self.config = PeerConfig(relay="http://192.0.2.99:1", **fields)
        self.interfaces = Interfaces(self.config)
        self.interfaces.update(ADDRESSES)
        self.candidates = Candidates(self.config, self.interfaces, RoundTrips(lambda: self.now))

    def of(self, *entries: Any, policy: str = "", select: Any = "fastest") -> list[str]:
        """Return the candidates of a new session, in order."""
        return [
            str(one)
            for one in self.candidates.of(self.route(*entries, policy=policy, select=select))
        ]

    def route(self, *entries: Any, policy: str = "", select: Any = "fastest") -> Route:
        terms = dataclasses.replace(CALLER, policy=Policy.parse(policy), select=select)
        route = make_route(terms)
        route.learn(entries)
        return route


ONE, TWO, V6 = signed("192.0.2.1", "192.0.2.2", "2001:db8::1")


async def test_they_are_the_other_side_s_endpoints_in_its_order() -> None:
    assert Known().of(ONE, TWO, V6) == ["192.0.2.1:9", "192.0.2.2:9", "[2001:db8::1]:9"]


async def test_where_addresses_are_configured_each_endpoint_is_dialed_from_each_of_its_family() -> (
    None
):
    known = Known(sources=(WIFI, CELLULAR, SIX))
    assert known.of(ONE, V6) == [
        f"192.0.2.1:9 from {WIFI}",
        f"192.0.2.1:9 from {CELLULAR}",
        f"[2001:db8::1]:9 from {SIX}",
    ]


@pytest.mark.parametrize(
    ("entries", "why"),
    [
        ((), "no endpoint is known"),
        (signed("192.0.2.1", by=HERE), "sign"),
        (signed("192.0.2.1", service="mail"), "is for mail, not chat"),
        (signed("192.0.2.1", phase=Phase.LEAVING), "leaving"),
    ],
)
async def test_where_there_is_none_it_says_why(entries: Any, why: str) -> None:
    known = Known()
    route = known.route(*entries)
    with pytest.raises(PathFailed, match=why):
        known.candidates.of(route)
    if entries:
        assert [one.what for one in route.trace.events] == ["dropped"]


async def test_an_address_that_is_leaving_is_for_a_session_that_has_begun() -> None:
    known = Known()
    route = known.route(*signed("192.0.2.1", phase=Phase.LEAVING), TWO)
    assert [one.endpoint.host for one in known.candidates.of(route)] == ["192.0.2.2"]
    route.take(FakePath().path, 1, PathWelcome(), dialed_here=True)
    assert [one.endpoint.host for one in known.candidates.of(route)] == ["192.0.2.2", "192.0.2.1"]
    route.session.abort()


async def test_what_was_measured_puts_the_nearest_first_until_it_is_too_old() -> None:
    known = Known()
    near = Candidate(Endpoint("192.0.2.2", 9))
    known.candidates.measured(THERE.guid, near, 0.01)
    assert known.of(ONE, TWO) == ["192.0.2.2:9", "192.0.2.1:9"]
    assert known.of(ONE, TWO, select="latest") == ["192.0.2.1:9", "192.0.2.2:9"]
    known.now = 601.0
    assert known.of(ONE, TWO) == ["192.0.2.1:9", "192.0.2.2:9"]


async def test_what_was_measured_from_an_address_that_has_gone_is_forgotten() -> None:
    known = Known(sources=(WIFI, CELLULAR))
    known.candidates.measured(THERE.guid, Candidate(Endpoint("192.0.2.2", 9), CELLULAR), 0.01)
    assert known.of(ONE, TWO)[0] == f"192.0.2.2:9 from {CELLULAR}"
    known.candidates.forget([WIFI])
    assert known.of(ONE, TWO)[0] == f"192.0.2.2:9 from {CELLULAR}"
    known.candidates.forget([CELLULAR])
    assert known.of(ONE, TWO)[0] == f"192.0.2.1:9 from {WIFI}"


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("only ipv6", ["[2001:db8::1]:9"]),
        ("not ipv6", ["192.0.2.1:9"]),
        ("prefer ipv6", ["[2001:db8::1]:9", "192.0.2.1:9"]),
        # Where it speaks of interfaces, they are dialed from one by one.
        ("not interface wwan*", [f"192.0.2.1:9 from {WIFI}", f"[2001:db8::1]:9 from {SIX}"]),
        ("not metered", [f"192.0.2.1:9 from {WIFI}", f"[2001:db8::1]:9 from {SIX}"]),
        ("only metered", [f"192.0.2.1:9 from {CELLULAR}"]),
        (
            "prefer interface wwan0, not ipv6",
            [f"192.0.2.1:9 from {CELLULAR}", f"192.0.2.1:9 from {WIFI}"],
        ),
    ],
)
async def test_a_policy_is_about_the_address_and_the_interface(
    policy: str, expected: list[str]
) -> None:
    assert Known(metered=("wwan*",)).of(ONE, V6, policy=policy) == expected


async def test_what_a_policy_forbids_is_named_by_its_rule() -> None:
    known = Known()
    route = known.route(ONE, policy="only ipv6")
    with pytest.raises(PathFailed, match="the policy says 'only ipv6'"):
        known.candidates.of(route)
    assert route.trace.events[0].reason == "policy 'only ipv6'"


async def test_a_relay_right_here_has_no_interface_that_leads_there() -> None:
    known = Known()
    (home,) = signed("127.0.0.1")
    assert known.of(home, policy="not interface wwan*") == ["127.0.0.1:9"]


async def test_the_program_s_own_choice_is_among_the_candidates() -> None:
    known = Known()

    def backwards(every: Sequence[Candidate]) -> Sequence[Candidate]:
        return list(reversed(every))

    def invents(every: Sequence[Candidate]) -> Sequence[Candidate]:
        return [Candidate(Endpoint("203.0.113.1", 9)), every[0]]

    assert known.of(ONE, TWO, select=backwards) == ["192.0.2.2:9", "192.0.2.1:9"]
    assert known.of(ONE, TWO, select=invents) == ["192.0.2.1:9"]
    with pytest.raises(PathFailed, match="select has left none"):
        known.of(ONE, select=lambda every: ())
    with pytest.raises(CallbackFailed, match="select raised"):
        known.of(ONE, select=lambda every: 1 / 0)


@pytest.mark.parametrize(
    ("policy", "path", "rule"),
    [
        ("only direct", FakePath(PathKind.RELAYED), "only direct"),
        ("only ipv6", FakePath(PathKind.RELAYED), None),
        ("only relayed", FakePath(), "only relayed"),
        ("only ipv6", FakePath(), "only ipv6"),
        ("not interface wwan0", FakePath(local_host=CELLULAR), "not interface wwan0"),
        ("not interface wwan0", FakePath(local_host=WIFI), None),
        ("not metered", FakePath(local_host=CELLULAR), "not metered"),
        ("not metered", FakePath(local_host="203.0.113.77"), None),
    ],
)
def test_a_path_that_is_there_is_judged_by_the_same_policy(
    policy: str, path: FakePath, rule: str | None
) -> None:
    known = Known(metered=("wwan*",))
    terms = dataclasses.replace(CALLER, policy=Policy.parse(policy))
    refusal = known.candidates.refusal(terms, path.path)
    assert (refusal and str(refusal)) == rule


def test_a_path_from_an_address_that_this_host_has_no_more_is_gone() -> None:
    known = Known()
    assert not known.candidates.is_gone(FakePath(local_host=WIFI).path)
    known.interfaces.update(ADDRESSES[1:])
    assert known.candidates.is_gone(FakePath(local_host=WIFI).path)
    assert not known.candidates.is_gone(FakePath(local_host="203.0.113.77").path)
    known.interfaces.update(ADDRESSES)
    assert not known.candidates.is_gone(FakePath(local_host=WIFI).path)


def test_the_relay_is_reached_as_the_routes_lead_or_from_what_is_configured() -> None:
    assert Known().candidates.source_towards("198.51.100.1") is None
    known = Known(sources=(CELLULAR,))
    assert known.candidates.source_towards("198.51.100.1") == CELLULAR
    with pytest.raises(PathFailed, match="no local address leads to 2001:db8::9"):
        known.candidates.source_towards("2001:db8::9")
    assert known.candidates.source_towards("relay.example") == CELLULAR
    six = Known(sources=(SIX,))
    assert six.candidates.source_towards("relay.example") == SIX, "a name may have that family"


# -- between real peers -----------------------------------------------------------------------


async def test_known_round_trips_are_used_the_next_time(relay: RelayServer, bob: Peer) -> None:
    async with far(relay, 0.2, 0.0) as there:
        session = await bob.connect(there.peer.guid, "chat", mode="p2p")
        assert host_of(session) == HOSTS[1]
        session.abort()
        session = await bob.connect(there.peer.guid, "chat", mode="p2p")
        assert host_of(session) == HOSTS[1]
        # That it is tried alone where it is good enough, is shown without a clock (test_race.py).
        tried = [event.where for event in session.explain().events if event.what == "candidate"]
        assert tried[0].startswith(HOSTS[1]), "the best is tried first"
        session.abort()


async def test_a_program_may_choose_for_itself(relay: RelayServer, bob: Peer) -> None:
    async with far(relay, 0.0, 0.04, 0.0) as there:
        session = await bob.connect(
            there.peer.guid,
            "chat",
            mode="p2p",
            select=lambda candidates: [c for c in candidates if c.endpoint.host == HOSTS[1]],
        )
        assert host_of(session) == HOSTS[1]
        session.abort()
        with pytest.raises(PathFailed, match="no endpoint to dial"):
            await bob.connect(there.peer.guid, "chat", mode="p2p", select=lambda candidates: [])
        with pytest.raises(ValueError, match="select"):
            await bob.connect(there.peer.guid, "chat", select="slowest")


async def test_a_policy_is_kept_and_named(relay: RelayServer, bob: Peer) -> None:
    async with far(relay, 0.0) as there:
        guid = there.peer.guid
        with pytest.raises(PathFailed, match="only ipv6"):
            await bob.connect(guid, "chat", mode="p2p", policy="only ipv6")
        with pytest.raises(PathFailed, match="not relayed"):
            await bob.connect(guid, "chat", mode="central", policy="not relayed")
        with pytest.raises(PathFailed, match="not interface lo"):
            await bob.connect(guid, "chat", mode="p2p", policy="not interface lo")
        session = await bob.connect(guid, "chat", mode="auto", policy="only relayed")
        listener = rooms(there.peer).services.listeners["chat"]
        await asyncio.wait_for(anext(listener), 60)
        await asyncio.sleep(0)
        assert session.path is not None
        assert session.path.kind is PathKind.RELAYED
        await session.close()
        session = await bob.connect(guid, "chat", mode="auto", policy="not relayed")
        assert session.path is not None
        assert session.path.kind is PathKind.DIRECT
        await session.close()
