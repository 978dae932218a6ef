"""One round of a search: who is asked, what is dialed, and what a refusal means.

First above fakes, on a clock that jumps; then between real peers.
"""

import asyncio
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, cast

import pytest

from peers import (
    Mode,
    PathKind,
    Peer,
    SessionLost,
)
from peers.choice import newest
from peers.config import Policy
from peers.location import Found
from peers.roaming.candidates import NothingToDial
from peers.roaming.lookup import Directory
from peers.roaming.rounds import Rounds
from peers.roaming.route import Attempt, Route, Welcomed
from peers.session import Session, Terms
from protocol.endpoint import Endpoint, SignedEntry
from protocol.errors import (
    Code,
    NameServerUnavailable,
    PathFailed,
    PeerOffline,
    Refused,
    RelayUnavailable,
    RoamRelayError,
    UnknownPeer,
    WrongIdentity,
)
from protocol.lock import Agreed
from protocol.messages import PathWelcome, ServiceResponse
from tests.peers.roaming.fakes import CALLEE, CALLER, NoOffers, make_route, signed, welcomed
from tests.support.fake_path import FakePath
from tests.support.faults import mute, reset, stream_of
from tests.support.rooms import rooms
from tests.support.sessions import exchange, joined, pair
from tests.support.virtual_time import run

# -- above fakes ------------------------------------------------------------------------------

OLD, NEW, NEWER = (signed(f"192.0.2.{seq}", seq=seq) for seq in (1, 2, 3))
CENTRAL, AUTO, COMBINED = (
    dataclasses.replace(CALLER, mode=mode) for mode in (Mode.CENTRAL, Mode.AUTO, Mode.COMBINED)
)


def found(entries: tuple[SignedEntry, ...], *hints: Endpoint, stale: bool = False) -> Found:
    return Found(entries, hints, 30.0, stale)


class Below:
    """The lookup and the ways of one peer: each call says what the test has put there, or fails."""

    def __init__(self, *directories: Directory) -> None:
        self.asked = directories or (Directory.RELAY,)
        self.done: list[str] = []
        self.relay: RoamRelayError | ServiceResponse = ServiceResponse(0)
        self.zone: list[RoamRelayError | Found] = []
        """What the zone says, one after the other; the last for ever."""
        self.dialing: Callable[[Attempt], RoamRelayError | FakePath] = lambda _: PathFailed("deaf")
        self.plane: RoamRelayError | FakePath = RelayUnavailable("no relay")
        self.leg: RoamRelayError | FakePath = RelayUnavailable("no relay")
        self.all_answered = True
        self.dial_takes = 0.0
        self.offers = NoOffers()

    # -- as the lookup ------------------------------------------------------------------------

    def directories(self, mode: Mode) -> Sequence[Directory]:
        return self.asked

    async def connected(self, timeout: float) -> None:
        """The relay can be asked."""

    async def ask_relay(
        self,
        session: Session,
        entries: Any,
        timeout: float,
        mode: Mode | None = None,
        offer: bytes = b"",
    ) -> Any:
        self.done.append(f"relay {timeout:g}" + (f", {mode}" if mode is not None else ""))
        if isinstance(self.relay, RoamRelayError):
            raise self.relay
        return Answer(self.relay)

    async def ask_names(self, guid: str, service: str, *, fresh: bool = False) -> Found:
        self.done.append("zone, fresh" if fresh else "zone")
        said = self.zone.pop(0) if len(self.zone) > 1 else self.zone[0]
        if isinstance(said, RoamRelayError):
            raise said
        return said

    def distrust(self, guid: str, service: str) -> None:
        self.done.append("distrust")

    # -- as the ways --------------------------------------------------------------------------

    def entries_for(self, route: Route, first: str | None = None) -> tuple[SignedEntry, ...]:
        return ()

    async def direct(self, attempt: Attempt, *, quick: bool = False) -> Welcomed:
        await asyncio.sleep(self.dial_takes)
        seq = newest(attempt.route.remote_entries)
        self.done.append(f"direct {seq}, quick" if quick else f"direct {seq}")
        return self._made(self.dialing(attempt))

    async def relayed(self, attempt: Attempt, answer: Any, agreed: Agreed) -> Welcomed:
        self.done.append("relayed")
        return self._made(self.leg)

    async def next_plane(self, attempt: Attempt) -> Welcomed:
        self.done.append("next plane")
        return self._made(self.plane)

    def _made(self, said: RoamRelayError | FakePath) -> Welcomed:
        if isinstance(said, RoamRelayError):
            raise said
        return dataclasses.replace(welcomed(said), all_answered=self.all_answered)


class Answer:
    """What a relay has answered."""

    def __init__(self, response: ServiceResponse) -> None:
        self.response = response


def rounds(below: Below, signs: "Returns | None" = None) -> Rounds:
    return Rounds(cast(Any, below), cast(Any, below), 3.0, cast(Any, signs))


class Returns:
    """Signs: the other side returns after so many seconds, unless all else is over before."""

    def __init__(self, after: float) -> None:
        self._after = after

    async def back(self, guid: str, over: asyncio.Event) -> bool:
        try:
            async with asyncio.timeout(self._after):
                await over.wait()
        except TimeoutError:
            return True
        return False


async def first(below: Below, terms: Terms = CALLER) -> FakePath:
    """Make a session's first path; return it."""
    route = make_route(terms)
    welcomed = await rounds(below).first(route.attempt(), 9.0)
    return cast(FakePath, welcomed.path)


def met(terms: Terms = CALLER, *, entries: tuple[SignedEntry, ...] = (), ticket: str = "") -> Route:
    """Return a session that has had a path, and has lost it."""
    route = make_route(terms)
    path = FakePath()
    there = PathWelcome(entries=entries)
    route.take(path.path, 1, there, dialed_here=terms.is_caller, ticket=ticket)
    path.lose("gone")
    return route


@pytest.mark.parametrize(
    ("terms", "done"),
    [
        (CALLER, ["relay 9", "direct 1"]),
        (COMBINED, ["relay 9", "direct 1"]),
        (CENTRAL, ["relay 9", "relayed"]),
        (AUTO, ["relay 9", "relayed"]),
        # Where the policy lets nothing through the relay, `auto` begins with a direct path.
        (dataclasses.replace(AUTO, policy=Policy.parse("only direct")), ["relay 9", "direct 1"]),
    ],
)
def test_the_first_path_is_the_mode_s(terms: Terms, done: list[str]) -> None:
    async def scene() -> None:
        below = Below()
        below.relay = ServiceResponse(0, entries=OLD)
        path = FakePath()
        below.dialing = lambda _: path
        below.leg = path
        assert await first(below, terms) is path
        assert below.done == done

    run(scene())


def test_central_never_becomes_direct_whatever_the_policy_says() -> None:
    async def scene() -> None:
        below = Below()
        terms = dataclasses.replace(CENTRAL, policy=Policy.parse("not relayed"))
        with pytest.raises(PathFailed, match="not relayed"):
            await first(below, terms)
        assert below.done == ["relay 9"]

    run(scene())


def test_the_next_directory_is_asked_where_the_first_does_not_know() -> None:
    async def scene() -> None:
        below = Below(Directory.RELAY, Directory.DNS)
        below.relay = UnknownPeer("never heard of it")
        below.zone = [found(OLD)]
        path = FakePath()
        below.dialing = lambda _: path
        assert await first(below) is path
        assert below.done == ["relay 9", "zone", "direct 1"]

    run(scene())


@pytest.mark.parametrize("error", [PathFailed("deaf"), WrongIdentity("a", "b", "there")])
def test_what_the_zone_has_said_and_leads_nowhere_is_asked_anew(error: RoamRelayError) -> None:
    async def scene() -> None:
        below = Below(Directory.DNS)
        below.zone = [found(OLD), found(NEW)]
        path = FakePath()
        below.dialing = lambda attempt: path if attempt.route.remote_entries == NEW else error
        assert await first(below) is path
        assert below.done == ["zone", "direct 1", "distrust", "zone, fresh", "direct 2"]

    run(scene())


@pytest.mark.parametrize("again", [found(OLD), NameServerUnavailable("silent")])
def test_a_zone_that_knows_nothing_new_is_asked_until_the_time_out(again: Any) -> None:
    """What it says is dialed once."""

    async def scene() -> None:
        below = Below(Directory.DNS)
        below.zone = [found(OLD), again]
        loop = asyncio.get_running_loop()
        began = loop.time()
        with pytest.raises(PathFailed, match="deaf"):
            await first(below)
        assert below.done[:3] == ["zone", "direct 1", "distrust"]
        assert 4 < len(below.done[3:]) < 12
        assert set(below.done[3:]) == {"zone, fresh"}
        assert 6.0 < loop.time() - began <= 9.0

    run(scene())


def test_who_has_just_moved_is_found_as_soon_as_the_zone_knows() -> None:
    """Cache and zone both hold the old address, and then a newer one of which it is gone too."""

    async def scene() -> None:
        below = Below(Directory.DNS)
        below.zone = [found(OLD)] * 3 + [found(NEW)] * 2 + [found(NEWER)]
        path = FakePath()
        below.dialing = lambda attempt: (
            path if attempt.route.remote_entries == NEWER else PathFailed("deaf")
        )
        assert await first(below) is path
        asked = ["zone", "direct 1", "distrust", "zone, fresh", "zone, fresh"]
        more = ["zone, fresh", "direct 2", "zone, fresh", "zone, fresh", "direct 3"]
        assert below.done == asked + more

    run(scene())


def test_the_zone_is_not_waited_for_where_nothing_may_be_dialed() -> None:
    async def scene() -> None:
        below = Below(Directory.DNS)
        below.zone = [found(OLD)]
        below.dialing = lambda _: NothingToDial("no endpoint to dial")
        with pytest.raises(PathFailed, match="no endpoint"):
            await first(below)
        assert below.done == ["zone", "direct 1", "distrust", "zone, fresh"]

    run(scene())


def test_the_zone_is_not_waited_for_where_the_relay_can_be_asked() -> None:
    async def scene() -> None:
        below = Below(Directory.DNS, Directory.RELAY)
        below.zone = [found(OLD)]
        below.relay = PeerOffline("gone")
        with pytest.raises(PathFailed, match="deaf"):
            await first(below)
        assert below.done == ["zone", "direct 1", "distrust", "zone, fresh", "relay 9"]

    run(scene())


def test_a_zone_of_which_some_endpoints_were_silent_is_asked_anew_the_next_time() -> None:
    async def scene() -> None:
        below = Below(Directory.DNS)
        below.zone = [found(OLD)]
        below.dialing = lambda _: FakePath()
        below.all_answered = False
        await first(below)
        assert below.done == ["zone", "direct 1", "distrust"]

    run(scene())


def test_the_next_path_is_looked_for_on_every_way_at_once() -> None:
    async def scene() -> None:
        below = Below(Directory.RELAY, Directory.DNS)
        below.zone = [found(OLD)]
        below.relay = ServiceResponse(0, entries=NEW)
        route = met(entries=OLD, ticket="t")
        with pytest.raises(PathFailed):
            await rounds(below).next(route.attempt())
        assert below.done[:4] == ["direct 1, quick", "next plane", "relay 3", "direct 2, quick"]
        assert "zone, fresh" in below.done
        assert route.remote_entries == NEW

    run(scene())


@pytest.mark.parametrize(
    ("terms", "entries", "ticket", "done"),
    [
        (CALLER, OLD, "t", ["direct 1, quick", "next plane", "relay 3"]),
        (CALLER, (), "t", ["next plane", "relay 3"]),
        (CALLER, OLD, "", ["direct 1, quick", "relay 3"]),
        (dataclasses.replace(CALLEE, discloses=False), OLD, "t", ["next plane", "relay 3"]),
        (
            dataclasses.replace(AUTO, policy=Policy.parse("only direct")),
            OLD,
            "t",
            ["direct 1, quick", "relay 3"],
        ),
    ],
)
def test_which_ways_there_are(
    terms: Terms, entries: tuple[SignedEntry, ...], ticket: str, done: list[str]
) -> None:
    async def scene() -> None:
        below = Below()
        below.relay = PeerOffline("gone")
        with pytest.raises((PathFailed, PeerOffline)):
            await rounds(below).next(met(terms, entries=entries, ticket=ticket).attempt())
        assert below.done == done

    run(scene())


@pytest.mark.parametrize(
    ("dial_takes", "returns", "took", "asked"),
    [
        (9.0, 2.0, 2.0, 2),
        # There is nothing to wait beside: the next round is the search's to begin.
        (1.0, 2.0, 1.0, 1),
        (0.0, 2.0, 0.0, 1),
    ],
)
def test_who_returns_while_others_are_tried_is_asked_at_once(
    dial_takes: float, returns: float, took: float, asked: int
) -> None:
    async def scene() -> None:
        below = Below()
        below.dial_takes = dial_takes
        below.relay = PeerOffline("gone")
        route = met(entries=OLD)
        attempt = route.attempt()
        loop = asyncio.get_running_loop()

        def is_back() -> None:
            below.relay = RoamRelayError("gave it up", code=Code.SESSION_UNKNOWN)

        loop.call_later(returns - 0.1, is_back)
        going_on = asyncio.ensure_future(rounds(below, Returns(returns)).next(attempt))
        await asyncio.sleep(took + 0.1)
        assert attempt.was_away
        assert below.done.count("relay 3") == asked
        assert route.session.is_over == (asked == 2)
        await asyncio.wait({going_on})
        assert isinstance(going_on.exception(), RoamRelayError)

    run(scene())


@pytest.mark.parametrize(
    ("lost_at", "dial_takes", "asked", "took"),
    [
        # All else fails at once: too soon, and the search comes again.
        (0.0, 0.0, False, 0.0),
        (0.0, 3.0, False, 3.0),
        # Something is still under way when it is time.
        (0.0, 9.0, True, 4.0),
        (-3.0, 9.0, True, 1.0),
        (-4.0, 9.0, True, 0.0),
        (-60.0, 0.0, True, 0.0),
    ],
)
def test_a_session_in_combined_goes_on_over_the_relay_when_nothing_else_was_found_for_a_while(
    lost_at: float, dial_takes: float, asked: bool, took: float
) -> None:
    async def scene() -> None:
        below = Below()
        below.dial_takes = dial_takes
        below.leg = FakePath(PathKind.RELAYED)
        route = met(dataclasses.replace(COMBINED, fallback=True), entries=OLD)
        route.lost_at = lost_at
        route.falls_back = True
        loop = asyncio.get_running_loop()
        if asked:
            assert (await rounds(below).next(route.attempt())).path is below.leg.path
        else:
            with pytest.raises(PathFailed, match="too soon"):
                await rounds(below).next(route.attempt())
        assert loop.time() == pytest.approx(took)
        assert ("relay 3, auto" in below.done) == asked

    run(scene())


def test_a_session_of_which_both_have_not_named_it_does_not_ask_for_the_relay() -> None:
    async def scene() -> None:
        below = Below()
        route = met(dataclasses.replace(COMBINED, fallback=True), entries=OLD)
        route.lost_at = -60.0
        with pytest.raises(PathFailed):
            await rounds(below).next(route.attempt())
        assert sorted(below.done) == ["direct 1, quick", "direct 1, quick", "relay 3"]

    run(scene())


@pytest.mark.parametrize(
    ("error", "spent"),
    [
        # The relay could not be reached, or the ticket is good for another time.
        (RelayUnavailable("no relay"), False),
        (RelayUnavailable("not there", code=Code.PEER_OFFLINE), False),
        (RelayUnavailable("too many", code=Code.LIMIT_EXCEEDED), False),
        (RelayUnavailable("?", code=Code.TICKET_UNKNOWN), True),
        (RelayUnavailable("used", code=Code.TICKET_USED), True),
        (RelayUnavailable("old", code=Code.TICKET_EXPIRED), True),
        (RelayUnavailable("not yours", code=Code.TICKET_FOREIGN), True),
        # Not the relay's word.
        (PathFailed("the other side did not come"), False),
        (RoamRelayError("older", code=Code.PATH_SUPERSEDED), False),
    ],
)
def test_a_ticket_is_spent_when_the_relay_does_not_know_it(
    error: RoamRelayError, spent: bool
) -> None:
    async def scene() -> None:
        below = Below()
        below.relay = RelayUnavailable("no relay")
        below.plane = error
        route = met(CENTRAL, ticket="t")
        with pytest.raises(RoamRelayError):
            await rounds(below).next(route.attempt())
        assert route.ticket == ("" if spent else "t")

    run(scene())


@pytest.mark.parametrize("where", ["relay", "plane", "dialing"])
def test_a_session_that_the_other_side_does_not_know_any_more_is_lost(where: str) -> None:
    gone = RoamRelayError("no such session", code=Code.SESSION_UNKNOWN)

    async def scene() -> None:
        below = Below()
        below.relay = RelayUnavailable("no relay")
        setattr(below, where, (lambda _: gone) if where == "dialing" else gone)
        route = met(entries=OLD, ticket="t")
        with pytest.raises(RoamRelayError):
            await rounds(below).next(route.attempt())
        with pytest.raises(SessionLost, match="given the session up"):
            await route.session.receive()

    run(scene())


def test_a_session_of_which_that_is_said_before_it_began_is_not_opened_and_not_more() -> None:
    async def scene() -> None:
        below = Below()
        below.relay = RoamRelayError("no such session", code=Code.SESSION_UNKNOWN)
        route = make_route()
        with pytest.raises(RoamRelayError) as told:
            await rounds(below).first(route.attempt(), 9.0)
        assert told.value.code is Code.SESSION_UNKNOWN
        assert not route.session.is_over

    run(scene())


def test_within_a_round_the_zone_is_asked_until_whoever_has_moved_has_registered() -> None:
    async def scene() -> None:
        below = Below(Directory.DNS)
        below.zone = [found(OLD), found(OLD), NameServerUnavailable("silent"), found(NEW)]
        path = FakePath()
        below.dialing = lambda attempt: (
            path if attempt.route.remote_entries == NEW else PathFailed("deaf")
        )
        loop = asyncio.get_running_loop()
        began = loop.time()
        made = await rounds(below).next(met(entries=OLD).attempt())
        assert made.path is path
        assert below.done.count("direct 1, quick") == 2, "as known, and as the zone says: once each"
        assert below.done.count("zone, fresh") == 4
        assert 0.85 <= loop.time() - began <= 1.75
        await asyncio.sleep(10)
        assert below.done.count("zone, fresh") == 4, "then nobody asks any more"

    run(scene())


def test_what_the_other_side_has_told_itself_is_newer_than_the_zone() -> None:
    async def scene() -> None:
        below = Below(Directory.DNS)
        below.zone = [found(OLD)]
        route = met(entries=NEWER)
        with pytest.raises(PathFailed, match="nothing new"):
            await rounds(below).next(route.attempt())
        assert below.done[0] == "direct 3, quick"
        asks = below.done[1:]
        assert set(asks) == {"zone, fresh"}
        assert 8 <= len(asks) <= 14
        assert route.remote_entries == NEWER

    run(scene())


def test_the_trace_tells_that_the_zone_was_asked_and_that_it_is_too_old() -> None:
    async def scene() -> None:
        below = Below(Directory.DNS)
        below.zone = [found((), Endpoint("192.0.2.1", 9), stale=True)]
        below.dialing = lambda _: FakePath()
        route = make_route()
        await rounds(below).first(route.attempt(), 9.0)
        (asked,) = [one for one in route.trace.events if one.what == "asked"]
        assert "too old" in asked.reason
        assert route.remote_entries == (Endpoint("192.0.2.1", 9),)

    run(scene())


@pytest.mark.parametrize("error", [Refused("no"), Refused("hidden", code=Code.NO_ENDPOINT)])
def test_the_other_side_s_own_no_is_the_last_word(error: Refused) -> None:
    async def scene() -> None:
        below = Below(Directory.RELAY, Directory.DNS)
        below.relay = error
        below.zone = [found(OLD)]
        below.dialing = lambda _: FakePath()
        if error.code is Code.NO_ENDPOINT:
            await first(below)
        else:
            with pytest.raises(Refused, match="no"):
                await first(below)
            assert below.done == ["relay 9"]

    run(scene())


# -- between real peers -----------------------------------------------------------------------


async def test_who_does_not_disclose_stays_relayed_in_auto(alice: Peer, bob: Peer) -> None:
    listener = alice.listen("chat", disclose="nobody")
    await alice.published()
    caller = await bob.connect(alice.guid, "chat", mode="auto")
    callee = await anext(listener)
    for _ in range(3):
        await exchange(caller, callee)
        route = rooms(bob).sessions.find(caller.id)
        assert route is not None
        assert route.remote_entries == ()
        # What was exchanged may have been sooner than the path, in a sealed flight.
        assert (await joined(caller)).kind is PathKind.RELAYED
        reset(callee)
        await joined(caller)


async def test_a_session_that_the_other_side_gave_up_is_lost_at_once(
    alice: Peer, bob: Peer
) -> None:
    caller, callee = await pair(alice, bob, Mode.P2P)
    assert caller.path is not None
    muted = callee.path
    assert muted is not None
    mute(callee)
    callee.abort("enough")
    await caller.send(b"nobody reads this")
    reset(caller)
    with pytest.raises(SessionLost, match="given the session up") as lost:
        async with asyncio.timeout(60):
            await caller.receive()
    assert lost.value.unacknowledged == 1
    stream_of(muted).abort()
