"""What is known of one session's paths: which of two is the newer one, and what a path changes."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peers.config import PathKind, Policy
from peers.session import Terms
from protocol.errors import PathFailed
from protocol.features import RELAY_FALLBACK, SESSION_FEATURES
from protocol.messages import Mode, PathWelcome
from tests.peers.roaming.fakes import CALLEE, CALLER, make_local, make_route, signed
from tests.support.fake_path import FakePath
from tests.support.virtual_time import run

OLD, NEW = signed("192.0.2.1"), signed("192.0.2.2", seq=2)


@pytest.mark.parametrize(
    ("terms", "first", "second", "taken"),
    [
        (CALLER, (1, True), (2, True), True),
        (CALLER, (2, True), (1, True), False),
        (CALLER, (1, True), (1, True), False),
        # Of two with the same number, the one that the session's caller has dialed.
        (CALLER, (1, False), (1, True), True),
        (CALLER, (1, True), (1, False), False),
        (CALLEE, (1, True), (1, False), True),
        (CALLEE, (1, False), (1, True), False),
        (CALLER, (1, True), (2, False), True),
    ],
)
async def test_the_newer_path_is_taken_and_the_older_one_dropped(
    terms: Terms, first: tuple[int, bool], second: tuple[int, bool], taken: bool
) -> None:
    route = make_route(terms)
    one, two = FakePath(), FakePath(remote="192.0.2.2:9")
    assert route.take(one.path, first[0], PathWelcome(), dialed_here=first[1])
    result = route.take(two.path, second[0], PathWelcome(), dialed_here=second[1])
    assert result is taken
    assert route.session.path is (two if taken else one)
    assert two.end == ("" if taken else "aborted")
    route.session.abort()


async def test_a_path_brings_what_the_other_side_tells_and_its_ticket() -> None:
    route = make_route()
    path = FakePath(PathKind.RELAYED)
    assert route.take(path.path, 3, PathWelcome(entries=OLD), dialed_here=True, ticket="next")
    assert (route.remote_entries, route.ticket, route.number) == (OLD, "next", 3)
    direct = FakePath()
    assert route.take(direct.path, 4, PathWelcome(), dialed_here=True)
    assert route.remote_entries == OLD, "nothing new says nothing"
    assert route.ticket == "", "a direct path has no next plane"
    assert route.attempt().number == 5
    route.session.abort()


@pytest.mark.parametrize(
    ("mode", "fallback", "policy", "there", "falls_back"),
    [
        (Mode.COMBINED, True, "", (RELAY_FALLBACK, "another"), True),
        (Mode.COMBINED, True, "", (), False),
        (Mode.COMBINED, True, "", ("another",), False),
        (Mode.COMBINED, False, "", (RELAY_FALLBACK,), False),
        (Mode.COMBINED, True, "only direct", (RELAY_FALLBACK,), False),
        (Mode.P2P, True, "", (RELAY_FALLBACK,), False),
        (Mode.AUTO, True, "", (RELAY_FALLBACK,), False),
    ],
)
async def test_the_relay_is_fallen_back_to_where_both_sides_have_named_that(
    mode: Mode, fallback: bool, policy: str, there: tuple[str, ...], falls_back: bool
) -> None:
    terms = dataclasses.replace(CALLER, mode=mode, fallback=fallback, policy=Policy.parse(policy))
    route = make_route(terms)
    assert not route.falls_back, "nobody has named anything yet"
    route.lost_at = 7.0
    route.take(FakePath().path, 1, PathWelcome(features=there), dialed_here=True)
    assert route.falls_back is falls_back
    assert route.lost_at is None
    named = ((RELAY_FALLBACK,) if terms.features else ()) + SESSION_FEATURES
    assert route.session.hello(2, ()).features == route.session.welcome(()).features == named
    route.session.abort()


async def test_numbers_that_cannot_be_true_leave_everything_as_it_was() -> None:
    route = make_route()
    route.learn(OLD)
    first, second = FakePath(), FakePath()
    assert route.take(first.path, 1, PathWelcome(), dialed_here=True, ticket="t")
    with pytest.raises(PathFailed, match="broke the protocol"):
        route.take(second.path, 5, PathWelcome(received=9, entries=NEW), dialed_here=True)
    assert second.end == "aborted"
    assert route.session.path is first
    assert first.end == ""
    assert (route.remote_entries, route.number, route.ticket) == (OLD, 1, "t")
    assert route.take(second.path, 2, PathWelcome(), dialed_here=True), "a lower number than that"
    route.session.abort()


async def test_a_session_that_is_over_dials_no_more() -> None:
    route = make_route()
    attempt = route.attempt()
    route.session.abort()
    path = FakePath()
    assert not route.take(path.path, 1, PathWelcome(), dialed_here=True)
    assert path.end == "aborted"
    with pytest.raises(PathFailed, match="over"):
        attempt.hello(())
    assert not attempt.said_hello


async def test_a_hello_is_for_a_session_that_still_needs_it() -> None:
    route = make_route()
    first = route.attempt()
    hello = first.hello(OLD)
    assert (hello.path, hello.resume, hello.entries) == (1, False, OLD)
    assert first.said_hello
    second = route.attempt()
    assert route.take(FakePath().path, 1, PathWelcome(), dialed_here=True)
    with pytest.raises(PathFailed, match="another path meanwhile"):
        second.hello(())
    # One that began on this path looks for a better one, or the path is lost meanwhile.
    third = route.attempt()
    assert third.hello(()).resume
    route.session.drop_path("test")
    assert third.hello(()).path == 3
    route.session.abort()


async def test_who_does_not_disclose_tells_no_entries() -> None:
    location = make_local().location
    assert make_route().entries_for(location)
    silent = Terms(CALLER.remote, "chat", CALLER.mode, is_caller=True, discloses=False)
    assert make_route(silent).entries_for(location) == ()


PATHS = st.lists(
    st.tuples(st.integers(1, 5), st.booleans()), min_size=1, max_size=8, unique=True
).flatmap(lambda made: st.tuples(st.permutations(made), st.permutations(made)))


@given(orders=PATHS)
def test_both_sides_settle_on_the_same_path_in_whatever_order_they_come(
    orders: tuple[list[tuple[int, bool]], list[tuple[int, bool]]],
) -> None:
    """Each path is a number, and whether the caller has dialed it."""

    async def scene() -> None:
        ends = []
        for terms, order in ((CALLER, orders[0]), (CALLEE, orders[1])):
            route = make_route(terms)
            made = {key: FakePath(remote=str(key)) for key in order}
            for (number, by_caller), path in made.items():
                route.take(
                    path.path, number, PathWelcome(), dialed_here=by_caller is terms.is_caller
                )
            assert route.session.path is not None
            ends.append(route.session.path.remote)
            assert sum(not path.end for path in made.values()) >= 1
            route.session.abort()
        assert ends[0] == ends[1]

    run(scene())
