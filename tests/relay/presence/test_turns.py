"""Whose endpoint is proven next: no loop, no socket, no clock, no sleep."""

import tracemalloc
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.endpoint import Endpoint
from relay.presence.turns import (
    AT_ONCE,
    CLOSE_TOGETHER,
    FIRST_PAUSE,
    LONGEST_PAUSE,
    NETWORK_AT_ONCE,
    PATIENCE,
    PEER_BURST,
    PEER_RATE,
    SPACING,
    Begin,
    CallOff,
    Turns,
)

HONEST = Endpoint("203.0.114.1", 1)
LIFETIME, TIMEOUT = 600.0, 5.0
HERE, THERE = "192.0.2", "198.51.100"


def endpoints(count: int, first: int = 1) -> list[Endpoint]:
    return [Endpoint("203.0.113.1", port) for port in range(first, first + count)]


@dataclass
class World:
    """A relay that does what is decided; time passes in it from event to event. What is probed of
    the peers in `slow` lasts for the whole timeout, and of others 10 ms, or as long as is said."""

    slow: set[str] = field(default_factory=set)
    lasts: float = 0.01
    turns: Turns = field(default_factory=lambda: Turns(LIFETIME))
    now: float = 1000.0
    running: dict[str, tuple[float, float]] = field(default_factory=dict)
    """When the probe of each has begun, and ends."""
    networks: dict[str, str] = field(default_factory=dict)
    begun: list[tuple[float, str, Endpoint]] = field(default_factory=list)
    called_off: list[tuple[float, str]] = field(default_factory=list)

    def comes(self, guid: str, network: str, wanted: list[Endpoint]) -> None:
        self.networks[guid] = network
        self.turns.wants(guid, network, wanted, self.now)

    def step(self) -> None:
        actions = self.turns.time(self.now)
        assert sum(isinstance(action, Begin) for action in actions) <= 1, "others have their turns"
        for action in actions:
            match action:
                case Begin(guid, endpoint):
                    assert guid not in self.running, "one at a time for each peer"
                    lasts = TIMEOUT if guid in self.slow else self.lasts
                    self.running[guid] = self.now, self.now + lasts
                    self.begun.append((self.now, guid, endpoint))
                case CallOff(guid):
                    began, _ = self.running[guid]
                    assert self.now >= began + PATIENCE
                    self.running[guid] = began, self.now
                    self.called_off.append((self.now, guid))
        assert len(self.running) <= AT_ONCE
        for network in set(self.networks.values()):
            probed = [guid for guid in self.running if self.networks[guid] == network]
            assert len(probed) <= NETWORK_AT_ONCE

    def until(self, end: float) -> None:
        """Let time pass."""
        while True:
            self.step()
            due = [ends for _, ends in self.running.values()]
            when = self.turns.next_timeout()
            if when is not None:
                due.append(when)
            if not due or min(due) > end:
                self.now = end
                return
            self.now = max(self.now, min(due))
            for guid in [one for one, (_, ends) in self.running.items() if ends <= self.now]:
                del self.running[guid]
                self.turns.finished(guid, guid not in self.slow, self.now)

    def first(self, guid: str) -> float:
        """Return when the first probe of a peer began."""
        return next(when for when, who, _ in self.begun if who == guid)


def test_the_endpoints_of_a_peer_are_proven_one_after_the_other_and_again_when_that_is_old() -> (
    None
):
    world = World()
    world.comes("a", HERE, endpoints(3))
    world.until(1001.0)
    assert [endpoint for _, _, endpoint in world.begun] == endpoints(3)
    assert world.turns.next_timeout() == pytest.approx(1000.01 + LIFETIME)
    world.until(1000.0 + LIFETIME + 1)
    assert [endpoint for _, _, endpoint in world.begun] == endpoints(3) * 2


def test_an_endpoint_that_fails_is_probed_after_pauses_that_double() -> None:
    world = World(slow={"a"})
    world.comes("a", HERE, endpoints(1))
    world.until(1000.0 + 4000.0)
    begun = [when for when, _, _ in world.begun]
    pauses = [after - before - TIMEOUT for before, after in pairwise(begun)]
    assert pauses == [min(FIRST_PAUSE * 2**turn, LONGEST_PAUSE) for turn in range(len(pauses))]
    assert pauses[-1] == LONGEST_PAUSE
    assert world.called_off == [], "nobody waited"


def test_one_peer_has_a_rate_and_new_endpoints_do_not_help() -> None:
    world = World()
    for turn in range(400):
        world.comes("a", HERE, endpoints(1, first=turn + 1))
        world.until(world.now + 0.1)
    assert len(world.begun) == pytest.approx(PEER_BURST + 40.0 * PEER_RATE, abs=1)


@pytest.mark.parametrize("quiet", [0.0, 100.0])
def test_those_of_one_peer_follow_one_another_at_once_and_no_second_has_more_than_a_hundred(
    quiet: float,
) -> None:
    world = World(lasts=0.003)
    world.comes("before", THERE, endpoints(1))
    world.until(1000.0 + quiet)
    world.comes("a", HERE, endpoints(CLOSE_TOGETHER))
    world.until(world.now + 0.5)
    begun = [when for when, guid, _ in world.begun if guid == "a"]
    assert len(begun) == CLOSE_TOGETHER
    pauses = [after - before for before, after in pairwise(begun)]
    at_once = [pause == pytest.approx(0.003) for pause in pauses]
    assert at_once.count(False) <= (quiet == 0.0), "once where another came just before"
    assert max(pauses) <= CLOSE_TOGETHER * SPACING


def test_starts_are_spaced_and_every_peer_has_a_turn() -> None:
    world = World()
    for number in range(300):
        world.comes(f"{number}", f"10.0.{number}", endpoints(1))
    world.until(1000.0 + 300 * SPACING + 1.0)
    begun = [when for when, _, _ in world.begun]
    assert {guid for _, guid, _ in world.begun} == {f"{number}" for number in range(300)}
    assert all(later - begun[at] >= 1.0 for at, later in enumerate(begun[100:]))
    groups = begun[::CLOSE_TOGETHER]
    assert all(
        after - before >= CLOSE_TOGETHER * SPACING - 1e-9 for before, after in pairwise(groups)
    )
    assert [guid for _, guid, _ in world.begun] == [f"{number}" for number in range(300)]


@pytest.mark.parametrize("network", [HERE, THERE])
@pytest.mark.parametrize("later", [0.1, 0.5, 3.0, 60.0, 600.0])
def test_tar_pits_do_not_keep_an_honest_endpoint_from_being_proven(
    network: str, later: float
) -> None:
    """20 keys of one network have 16 each: once, an honest one waited for 25 s behind them."""
    tar_pits = [f"tar{number}" for number in range(20)]
    world = World(slow=set(tar_pits))
    for guid in tar_pits:
        world.comes(guid, HERE, endpoints(16))
    world.until(1000.0 + later)
    world.comes("honest", network, [HONEST])
    came = world.now
    world.until(came + 10.0)
    waited = world.first("honest") - came
    assert waited <= (PATIENCE + SPACING if network == HERE else SPACING)


def test_nobody_can_make_somebody_s_endpoint_wait_by_naming_what_is_beside_it() -> None:
    """All from one network; the strangers name silent ports of the honest one's host."""
    strangers = [f"stranger{number}" for number in range(20)]
    world = World(slow=set(strangers))
    for guid in strangers:
        world.comes(guid, HERE, [Endpoint(HONEST.host, port) for port in range(2, 18)])
    world.until(1000.0 + 60.0)
    world.comes("honest", HERE, [HONEST])
    world.comes("later", HERE, endpoints(1))
    came = world.now
    world.until(came + 10.0)
    assert came <= world.first("honest") <= came + PATIENCE + SPACING
    order = [guid for _, guid, _ in world.begun]
    assert order.index("honest") < order.index("later"), "as who has come first"


def test_tar_pits_of_many_networks_have_all_places_for_a_second_at_most() -> None:
    tar_pits = [f"tar{number}" for number in range(64)]
    world = World(slow=set(tar_pits))
    for number, guid in enumerate(tar_pits):
        world.comes(guid, f"10.0.{number}", endpoints(16))
    world.until(1000.0 + 20.0)
    for number in range(10):
        world.comes(f"honest{number}", f"10.1.{number}", [HONEST])
        came = world.now
        world.until(came + 3.0)
        assert world.first(f"honest{number}") - came <= PATIENCE + SPACING


def test_who_was_called_off_has_failed_and_pauses() -> None:
    world = World(slow={"a", "b", "c", "d", "e"})
    for guid in "abcde":
        world.comes(guid, HERE, endpoints(1))
    world.until(1000.0 + PATIENCE + 2 * SPACING)
    (gone,) = (guid for _, guid in world.called_off)
    assert world.first("e") == world.called_off[0][0]
    assert [guid for _, guid, _ in world.begun] == list("abcde"), "it does not come back at once"
    world.until(world.called_off[0][0] + FIRST_PAUSE + TIMEOUT)
    assert [guid for _, guid, _ in world.begun].count(gone) == 2


def test_nobody_makes_room_for_somebody_louder() -> None:
    world = World(slow={"a", "b", "c", "d", "loud"})
    world.comes("loud", HERE, endpoints(1))
    world.until(1000.0 + TIMEOUT)
    for guid in "abcd":
        world.comes(guid, HERE, [HONEST])
    world.until(world.now + TIMEOUT - 0.1)
    assert world.called_off == []


def test_who_has_gone_is_not_probed_any_more() -> None:
    world = World()
    world.comes("a", HERE, endpoints(3))
    world.step()
    assert len(world.turns) == 1
    world.comes("a", HERE, [])
    assert len(world.turns) == 0
    world.until(2000.0)
    assert len(world.begun) == 1
    assert world.turns.next_timeout() is None
    # And one that comes from elsewhere meanwhile is counted there.
    world.comes("a", HERE, endpoints(1))
    world.step()
    world.turns.wants("a", THERE, endpoints(2), world.now)
    world.until(world.now + 0.02)
    world.networks["a"] = THERE
    world.until(world.now + 10.0)
    assert len(world.begun) == 3


def test_a_peer_that_changes_without_end_takes_no_more_room() -> None:
    turns = Turns(LIFETIME)
    turns.wants("b", HERE, endpoints(1), 0.0)
    turns.wants("a", HERE, endpoints(1), 0.0)
    assert len(turns.time(0.0)) == 1
    tracemalloc.start()
    try:
        for turn in range(2000):
            turns.wants("a", HERE, endpoints(2, first=turn + 1), 0.0)
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken < 100_000


steps = st.lists(
    st.tuples(
        st.sampled_from("abcdefghij"),
        st.sampled_from(["comes", "changes", "leaves", "slow", "fast"]),
        st.integers(1, 4),
        st.floats(0, 20),
    ),
    max_size=40,
)


@given(steps)
def test_in_whatever_order_they_come_and_go_everybody_has_a_turn(
    story: list[tuple[str, str, int, float]],
) -> None:
    world = World()
    wanted: dict[str, list[Endpoint]] = {}
    for guid, what, number, passes in story:
        if what in ("comes", "changes"):
            wanted[guid] = endpoints(number, first=1 if what == "comes" else 10)
            world.comes(guid, HERE if guid < "h" else THERE, wanted[guid])
        elif what == "leaves":
            wanted.pop(guid, None)
            world.comes(guid, world.networks.get(guid, HERE), [])
        elif guid not in world.running:
            (world.slow.add if what == "slow" else world.slow.discard)(guid)
        world.until(world.now + passes)
    assert len(world.turns) == len(wanted)
    before = len(world.begun)
    world.until(world.now + 2 * LIFETIME)
    seen = {(guid, endpoint) for _, guid, endpoint in world.begun[before:]}
    assert seen == {(guid, one) for guid, entries in wanted.items() for one in entries}
