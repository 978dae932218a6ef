"""Offers: whose parts stand in them, and when there is none."""

import asyncio
import dataclasses
from typing import Any, cast

import pytest

from peers import Mode, PathKind
from peers.control import Answered, KnownRelay
from peers.roaming.closed import Closed
from peers.roaming.locks import LOCKED_BY_TLS
from peers.roaming.meetings import Meetings
from peers.roaming.offers import NOTHING_ASKED, Offers
from peers.transport import RelayAddress
from protocol.endpoint import Endpoint
from protocol.features import OFFER
from protocol.lock import Agreed, Lock, lock_part, locks_part, read_lock, read_locks
from protocol.meeting import Mapping, Reflexive, meeting_part, read_meeting
from protocol.messages import PathWelcome, ServiceRequestFrom, ServiceResponse
from protocol.offer import answer_offer, body_with, make_offer, open_answer, open_offer
from tests.peers.roaming.fakes import CALLEE, CALLER, HERE, THERE, make_local, make_route
from tests.support.fake_path import FakePath
from tests.support.virtual_time import run

SESSION = b"s" * 16
BOTH = ("tls", "noise")
OTHER = Reflexive("198.51.100.9", 5000)


class Scene:
    """A peer with a connection to a relay that passes offers on."""

    def __init__(self) -> None:
        self.listening_port = self.local_port = 4000
        self.observed = Endpoint("198.51.100.7", 4000)
        self.local_host, self.round_trip = "10.0.0.1", 0.1
        self.relay = KnownRelay(RelayAddress("http://192.0.2.99:1"), THERE.guid, frozenset({OFFER}))
        self.current: Any = self
        self.mappings: Any = self
        local = dataclasses.replace(make_local(), door=cast(Any, self))
        registration = cast(Any, self)
        self.offers = Offers(local, registration, Meetings(local, registration))

    def of(self, connection: Any) -> Mapping:
        return Mapping.UNKNOWN

    def answered(self, mode: Mode, *parts: dict[str, object], spoilt: bool = False) -> Agreed:
        """Return what is agreed where the other side answers so."""
        self.route = make_route(dataclasses.replace(CALLER, mode=mode))
        asked = self.offers.ask(self.route)
        said = {key: value for part in parts for key, value in part.items()}
        offer = answer_offer(THERE, HERE.guid, SESSION, asked.offer, body_with(said))
        response = ServiceResponse(0, offer=offer[:-1] if spoilt else offer)
        return self.offers.answered(self.route, asked, Answered(cast(Any, self), response))


@pytest.mark.parametrize(
    ("mode", "asked_in", "locks", "meets"),
    [
        (Mode.CENTRAL, None, True, False),
        (Mode.AUTO, None, True, True),
        (Mode.COMBINED, None, False, True),
        (Mode.COMBINED, Mode.AUTO, True, True),
        (Mode.P2P, None, False, False),
    ],
)
def test_what_is_offered_in_each_mode(
    mode: Mode, asked_in: Mode | None, locks: bool, meets: bool
) -> None:
    async def scene() -> None:
        asked = Scene().offers.ask(make_route(dataclasses.replace(CALLER, mode=mode)), asked_in)
        if not (locks or meets):
            assert asked == NOTHING_ASKED
            return
        body = open_offer(asked.offer, HERE.guid, THERE.guid, SESSION)
        assert read_locks(body) == ((BOTH, THERE.public_key) if locks else None)
        assert (read_meeting(body) is not None) is meets

    run(scene())


@pytest.mark.parametrize("case", ["no relay", "old relay"])
def test_to_a_relay_that_passes_none_on_nothing_is_offered(case: str) -> None:
    async def scene() -> None:
        here = Scene()
        if case == "no relay":
            here.current = None
        else:
            here.relay = here.relay._replace(features=frozenset())
        route = make_route(dataclasses.replace(CALLER, mode=Mode.AUTO))
        assert here.offers.ask(route) == NOTHING_ASKED
        response = Answered(cast(Any, here), ServiceResponse(0, offer=b"unasked"))
        assert here.offers.answered(route, NOTHING_ASKED, response) == LOCKED_BY_TLS
        # A session that has had a path goes on under the lock that it has agreed on.
        route.agreed = before = Agreed(b"r" * 32, ("noise",), "noise")
        assert here.offers.answered(route, NOTHING_ASKED, response) == LOCKED_BY_TLS
        route.session.take_path(FakePath(PathKind.RELAYED).path, 1, PathWelcome(), dialed_here=True)
        assert here.offers.answered(route, NOTHING_ASKED, response) == before.by_ticket()
        route.session.abort("the test is over")

    run(scene())


@pytest.mark.parametrize(
    ("parts", "spoilt", "chosen", "is_kept"),
    [
        ((lock_part("noise"),), False, "noise", True),
        ((lock_part("noise"), meeting_part(OTHER)), False, "noise", True),
        ((lock_part("tls"),), False, "tls", True),
        ((lock_part("other"),), False, "other", False),
        ((), False, "tls", False),
        ((lock_part("noise"),), True, "tls", False),
    ],
)
def test_what_an_answer_agrees_to(
    parts: tuple[dict[str, object], ...], spoilt: bool, chosen: str, is_kept: bool
) -> None:
    async def scene() -> None:
        here = Scene()
        agreed = here.answered(Mode.CENTRAL, *parts, spoilt=spoilt)
        assert agreed == Agreed(THERE.public_key, BOTH, chosen)
        assert here.route.agreed == (agreed if is_kept else None)

    run(scene())


@pytest.mark.parametrize("mode", [Mode.CENTRAL, Mode.AUTO])
def test_an_answer_says_the_lock_and_where_to_meet(mode: Mode) -> None:
    async def scene() -> None:
        here, route = Scene(), make_route(dataclasses.replace(CALLEE, mode=mode))
        said = locks_part(BOTH, b"r" * 32) | meeting_part(OTHER)
        offer = make_offer(THERE, HERE.guid, SESSION, body_with(said))
        request = ServiceRequestFrom(
            1, THERE.guid, "chat", mode, SESSION, ticket="a" * 32, offer=offer,
            observed_host=OTHER.host, observed_port=OTHER.port,
        )  # fmt: skip
        body = here.offers.heard(request)
        agreed = Agreed(b"r" * 32, BOTH, Lock.TLS)
        answer, midway = here.offers.answer(cast(Any, here), route, request, body, agreed)
        told = open_answer(answer, HERE.guid, THERE.guid, SESSION, offer)
        assert read_lock(told) == "tls"
        meets = mode is Mode.AUTO
        assert (read_meeting(told) is not None, midway is not None) == (meets, meets)
        assert route.agreed == agreed
        await asyncio.sleep(0)

    run(scene())


def test_who_has_missed_the_last_word_of_a_session_is_told_the_lock() -> None:
    async def scene() -> None:
        here = Scene()
        terms = dataclasses.replace(CALLEE, mode=Mode.AUTO)
        closed = Closed(terms, False, cast(Any, None), 60.0, 1, dialed_by_caller=True)
        said = locks_part(("noise",), b"r" * 32) | meeting_part(OTHER)
        offer = make_offer(THERE, HERE.guid, SESSION, body_with(said))
        request = ServiceRequestFrom(
            1, THERE.guid, "chat", Mode.AUTO, SESSION, ticket="a" * 32, offer=offer, resume=True,
            observed_host=OTHER.host, observed_port=OTHER.port,
        )  # fmt: skip
        body = here.offers.heard(request)
        agreed = Agreed(b"r" * 32, ("noise",), Lock.NOISE)
        answer, midway = here.offers.answer(cast(Any, here), closed, request, body, agreed)
        told = open_answer(answer, HERE.guid, THERE.guid, SESSION, offer)
        assert (read_lock(told), read_meeting(told), midway) == ("noise", None, None)
        assert closed.agreed == agreed
        await asyncio.sleep(0)

    run(scene())


@pytest.mark.parametrize("offer", [b"", b"short", bytes(2048)])
def test_what_does_not_hold_is_as_none(offer: bytes) -> None:
    async def scene() -> None:
        here, route = Scene(), make_route(dataclasses.replace(CALLEE, mode=Mode.CENTRAL))
        request = ServiceRequestFrom(1, THERE.guid, "chat", Mode.CENTRAL, SESSION, offer=offer)
        assert here.offers.heard(request) == b""
        answer = here.offers.answer(cast(Any, here), route, request, b"", LOCKED_BY_TLS)
        assert answer == (b"", None)
        assert route.agreed is None

    run(scene())
