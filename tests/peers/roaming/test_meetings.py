"""Meetings: who is dialed, by whose word, when; and that whichever SYN wins is the session's path.

First with a door that dials nobody, on a clock that jumps; then real peers. Routers that let in
only what answers are in tests/lab/test_nats.py.
"""

import asyncio
import dataclasses
from typing import Any, cast

import msgspec
import pytest

from peers import Identity, Mode, PathKind, Peer, PeerConfig
from peers.config import Policy
from peers.control import Answered, KnownRelay
from peers.dialing import Ask
from peers.roaming.candidates import Candidates, NothingToDial
from peers.roaming.meetings import Meetings
from peers.roaming.route import Route
from peers.transport import RelayAddress
from protocol.endpoint import Endpoint
from protocol.errors import PathFailed
from protocol.features import OFFER
from protocol.meeting import Mapping, Reflexive, meeting_part, read_meeting
from protocol.messages import ServiceRequestFrom, ServiceResponse
from protocol.offer import answer_offer, body_with, make_offer
from relay.server import RelayServer
from tests.peers.roaming.fakes import CALLEE, CALLER, HERE, THERE, make_local, make_route
from tests.support.sessions import exchange, joined, pair
from tests.support.virtual_time import run

SEEN = Endpoint("198.51.100.7", 4000)
"""Where the relay sees this peer."""
OTHER = Reflexive("198.51.100.9", 5000, 0.2)
AUTO = dataclasses.replace(CALLER, mode=Mode.AUTO)


class Stream:
    def __init__(self, remote: str) -> None:
        self.remote = remote
        self.round_trip = 0.01
        self.aborted = False

    def abort(self) -> None:
        self.aborted = True


class Connection:
    """A control connection from the listening port."""

    def __init__(self) -> None:
        self.observed: Endpoint | None = SEEN
        self.local_port, self.local_host = 4000, "10.0.0.1"
        self.round_trip = 0.1
        self.relay = KnownRelay(RelayAddress("http://192.0.2.99:1"), THERE.guid, frozenset({OFFER}))


class Scene:
    """A peer whose door notes when it is asked to dial for a meeting, and for whom."""

    def __init__(self) -> None:
        self.listening_port = 4000
        self.dialed: list[tuple[float, Ask, str]] = []
        self.finds: Stream | None = None
        self.connection = Connection()
        self.current: Any = self.connection
        self.mappings: Any = self
        self.mapping = Mapping.UNKNOWN
        self.local = dataclasses.replace(make_local(), door=cast(Any, self))
        self.meetings = Meetings(self.local, cast(Any, self))

    def of(self, connection: Any) -> Mapping:
        return self.mapping

    async def meet(self, ask: Ask, source: str) -> Any:
        self.dialed.append((asyncio.get_running_loop().time(), ask, source))
        if self.finds is None:
            raise PathFailed("nobody came")
        return self.finds

    def asks(self, route: Route, there: Reflexive, host: str, port: int) -> None:
        """A request is accepted: with this offer, and this word of the relay."""
        asked = self.asked(route)
        said = body_with(meeting_part(there))
        offer = answer_offer(THERE, HERE.guid, route.session.id, asked, said)
        response = ServiceResponse(0, offer=offer, observed_host=host, observed_port=port)
        self.meetings.answered(route, asked, Answered(cast(Any, self.connection), response))

    def asked(self, route: Route) -> bytes:
        """Return the offer of a request of a session."""
        return make_offer(HERE, THERE.guid, route.session.id, body_with(self.offer(route)))

    def offer(self, route: Route) -> dict[str, object]:
        """Return what this side offers for a session."""
        return self.meetings.offer(route, cast(Any, self.connection))

    async def settled(self) -> None:
        """Wait until whatever was begun is over."""
        while len(self.local.tasks):
            await asyncio.sleep(1.0)


def request(there: Reflexive, host: str, port: int) -> ServiceRequestFrom:
    offer = make_offer(THERE, HERE.guid, b"s" * 16, body_with(meeting_part(there)))
    return ServiceRequestFrom(
        1, THERE.guid, "chat", Mode.AUTO, b"s" * 16, offer=offer, observed_host=host,
        observed_port=port,
    )  # fmt: skip


DEPENDENT = Mapping.ADDRESS_AND_PORT_DEPENDENT


def said(route: Route) -> list[str]:
    return [one.reason for one in route.trace.events if one.what == "dropped"]


def test_who_is_seen_elsewhere_by_others_offers_no_meeting() -> None:
    async def scene() -> None:
        here = Scene()
        for mapping in Mapping:
            here.mapping, route = mapping, make_route(AUTO)
            offered = here.offer(route)
            assert bool(offered) is mapping.can_meet
            assert bool(said(route)) is not mapping.can_meet
            if mapping.can_meet:
                body = body_with(offered)
                assert read_meeting(body) == Reflexive(SEEN.host, SEEN.port, 0.1, mapping.value)

    run(scene())


@pytest.mark.parametrize("word", ["", *Mapping])
def test_who_asks_and_hears_that_it_cannot_be_does_not_wait_for_it(word: str) -> None:
    async def scene() -> None:
        here, route = Scene(), make_route(AUTO)
        there = msgspec.structs.replace(OTHER, mapping=word)
        here.asks(route, there, OTHER.host, OTHER.port)
        assert (route.meeting is not None) is there.kind.can_meet
        assert bool(said(route)) is not there.kind.can_meet
        await here.settled()
        assert len(here.dialed) == there.kind.can_meet

    run(scene())


@pytest.mark.parametrize(
    ("own", "word", "answers", "goes"),
    [
        (Mapping.NONE, "none", True, True),
        (Mapping.UNKNOWN, "", True, True),
        (DEPENDENT, "", False, False),
        (DEPENDENT, "none", True, False),
        (Mapping.NONE, DEPENDENT.value, True, False),
    ],
)
def test_who_is_asked_goes_where_it_may_be_and_says_why_not(
    own: Mapping, word: str, answers: bool, goes: bool
) -> None:
    """One of before, which says nothing of its NAT, would wait for a meeting that was answered."""

    async def scene() -> None:
        here = Scene()
        here.mapping = own
        callee = make_route(dataclasses.replace(CALLEE, mode=Mode.AUTO))
        other = msgspec.structs.replace(OTHER, mapping=word)
        asked, body = request(other, OTHER.host, OTHER.port), body_with(meeting_part(other))
        offer, midway = here.meetings.answer(cast(Any, here.connection), callee, asked, body)
        assert (bool(offer), midway is not None) == (answers, goes)
        assert bool(said(callee)) is not goes
        if offer:
            told = read_meeting(body_with(offer))
            assert told is not None
            assert told.kind is own

    run(scene())


@pytest.mark.parametrize(
    ("host", "port", "is_dialed"),
    [
        (OTHER.host, OTHER.port, True),
        (OTHER.host, OTHER.port + 1, False),
        ("198.51.100.10", OTHER.port, False),
        ("", 0, False),
    ],
)
def test_only_where_offer_and_relay_agree_anybody_is_dialed(
    host: str, port: int, is_dialed: bool
) -> None:
    async def scene() -> None:
        here = Scene()
        route = make_route(AUTO)
        here.asks(route, OTHER, host, port)
        assert (route.meeting is not None) is is_dialed
        await here.settled()
        assert [ask.endpoint for _, ask, _ in here.dialed] == [OTHER.endpoint] * is_dialed
        callee = make_route(dataclasses.replace(CALLEE, mode=Mode.AUTO))
        offer, midway = here.meetings.answer(
            cast(Any, here.connection),
            callee,
            request(OTHER, host, port),
            body_with(meeting_part(OTHER)),
        )
        assert (bool(offer), midway is not None) == (is_dialed, is_dialed)

    run(scene())


def test_of_what_is_not_the_other_side_s_answer_nobody_is_dialed() -> None:
    """Whoever has made it: it is looked at when it is needed."""

    async def scene() -> None:
        here, route = Scene(), make_route(AUTO)
        asked = here.asked(route)
        body = body_with(meeting_part(OTHER))
        for_another = answer_offer(THERE, HERE.guid, b"t" * 16, asked, body)
        for offer in (for_another, b"x" * 64 + body, body, b"x"):
            response = ServiceResponse(
                0, offer=offer, observed_host=OTHER.host, observed_port=OTHER.port
            )
            here.meetings.answered(route, asked, Answered(cast(Any, here.connection), response))
            assert not here.meetings.take(cast(Any, Stream("198.51.100.9:5000"))), "nor let in"
            await here.settled()
        assert not here.dialed
        assert "what the other side offers" in str(route.trace.events)

    run(scene())


def test_each_offers_where_the_relay_sees_it_and_dials_in_the_middle() -> None:
    async def scene() -> None:
        here, loop = Scene(), asyncio.get_running_loop()
        route = make_route(dataclasses.replace(CALLEE, mode=Mode.AUTO))
        asked = request(OTHER, OTHER.host, OTHER.port)
        body = body_with(meeting_part(OTHER))
        offer, midway = here.meetings.answer(cast(Any, here.connection), route, asked, body)
        assert read_meeting(body_with(offer)) == Reflexive(SEEN.host, SEEN.port, 0.1, "unknown")
        assert midway is not None
        began = loop.time()
        with pytest.raises(PathFailed, match="nobody came"):
            await here.meetings.come(midway)
        ((when, ask, source),) = here.dialed
        assert when - began == pytest.approx(0.9 + (0.1 + 0.2) / 2)
        assert (ask.remote, ask.endpoint, source) == (THERE.guid, OTHER.endpoint, "10.0.0.1")

        caller = make_route(AUTO)
        here_is = Reflexive(SEEN.host, SEEN.port, 0.1, "unknown")
        assert read_meeting(body_with(here.offer(caller))) == here_is
        began = loop.time()
        here.asks(caller, OTHER, OTHER.host, OTHER.port)
        await here.settled()
        assert here.dialed[1][0] - began == pytest.approx(0.9)

    run(scene())


@pytest.mark.parametrize(
    "case",
    [
        "central",
        "p2p",
        "discloses nothing",
        "not seen",
        "another port",
        "policy",
    ],
)
def test_who_may_not_or_cannot_offers_nothing(case: str) -> None:
    async def scene() -> None:
        here, terms = Scene(), AUTO
        match case:
            case "central" | "p2p":
                terms = dataclasses.replace(AUTO, mode=Mode(case))
            case "discloses nothing":
                terms = dataclasses.replace(AUTO, discloses=False)
            case "policy":
                terms = dataclasses.replace(AUTO, policy=Policy.parse("only relayed"))
            case "not seen":
                here.connection.observed = None
            case "another port":
                here.connection.local_port = 5
        assert not here.offer(make_route(terms))
        assert bool(here.offer(make_route(AUTO))) is (
            case in ("central", "p2p", "discloses nothing", "policy")
        )

    run(scene())


def test_what_comes_from_there_to_the_listening_port_is_the_meeting_s() -> None:
    async def scene() -> None:
        here, route = Scene(), make_route(AUTO)
        here.asks(route, OTHER, OTHER.host, OTHER.port)
        stranger, other = Stream("198.51.100.9:5001"), Stream("198.51.100.9:5000")
        assert not here.meetings.take(cast(Any, stranger))
        assert here.meetings.take(cast(Any, other))
        assert not here.meetings.take(cast(Any, Stream(other.remote))), "once"
        assert route.meeting is not None
        assert await route.meeting.take() is cast(Any, other)
        await here.settled()
        assert not here.dialed, "it was there before its moment"
        assert not other.aborted
        assert not here.meetings.take(cast(Any, Stream(other.remote))), "it is over"

    run(scene())


def test_one_network_has_its_share_of_the_meetings_that_others_ask_for() -> None:
    async def scene() -> None:
        here = Scene()

        def asked(number: int, host: str) -> bool:
            route = make_route(dataclasses.replace(CALLEE, mode=Mode.AUTO))
            route.session.id = session = number.to_bytes(16, "big")
            there = Reflexive(host, 5000)
            body = body_with(meeting_part(there))
            asking = msgspec.structs.replace(request(there, host, 5000), session=session)
            connection = cast(Any, here.connection)
            answered, midway = here.meetings.answer(connection, route, asking, body)
            assert bool(answered) is (midway is not None)
            return midway is not None

        assert [asked(number, f"198.51.100.{number}") for number in range(1, 18)] == (
            [True] * 16 + [False]
        )
        assert asked(18, "203.0.113.1")

    run(scene())


def test_what_nobody_takes_is_closed() -> None:
    async def scene() -> None:
        here, route = Scene(), make_route(AUTO)
        here.finds = Stream("198.51.100.9:5000")
        here.asks(route, OTHER, OTHER.host, OTHER.port)
        await here.settled()
        assert here.finds.aborted
        assert route.meeting is not None
        with pytest.raises(PathFailed, match="over"):
            await route.meeting.take()

    run(scene())


async def test_peers_that_can_dial_nobody_meet_and_lose_nothing(
    relay: RelayServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(candidates: Candidates, route: Route) -> None:
        raise NothingToDial("the test leaves nothing")

    monkeypatch.setattr(Candidates, "of", nothing)
    config = PeerConfig(relay=relay.url)
    async with (
        Peer(Identity.generate(), config=config) as alice,
        Peer(Identity.generate(), config=config) as bob,
    ):
        here, there = await pair(alice, bob, Mode.AUTO)
        await exchange(here, there)
        await joined(here, PathKind.DIRECT)
        await exchange(here, there)
        text = str(here.explain())
        assert "by a meeting" in text
        assert here.path is not None
        assert there.path is not None
        assert here.path.kind is there.path.kind is PathKind.DIRECT
