"""Moves where packets take their time, and links that lose some.

How long a gap lasts is told in the table, with whether it meets the goal; what a test insists on is
that nothing is lost, doubled or reordered, and that the gap ends.
"""

import time

import pytest

from tests.lab.conftest import SetStage
from tests.lab.draft import IP1, IP2, access
from tests.lab.links import Link
from tests.lab.programs import DEADLINE
from tests.lab.stage import Stage
from tests.support.scale import of

MOVES = of(2, 20)
LONGEST = 3.0
"""What no move may take, in times of what it took to start the caller's program and to connect, on
the same links and the same machine: half of a second and some round trips where nothing else runs,
while a move takes some round trips."""


def moves(stage: Stage, mode: str, scene: str, round_trip: float) -> None:
    """Move MN1 to and fro under the traffic of CN3."""
    with stage.talk("cn3", mode) as cn3:
        if mode != "central":
            cn3.moves_to(IP1)
        here, there = "mr1", "mr2"
        for _ in range(MOVES):
            cn3.more(60)
            cn3.moving()
            stage.lab.move(here, there)
            here, there = there, here
            if mode == "central":
                cn3.more(75)
            else:
                cn3.moves_to(IP1 if here == "mr1" else IP2)
        assert mode != "central" or cn3.note_addresses() == {stage.server}
        result = stage.finish(cn3, scene, round_trip)
        assert result.longest < LONGEST * cn3.connecting


@pytest.mark.parametrize(
    "round_trip_ms",
    [
        pytest.param(10, marks=pytest.mark.nightly),
        50,
        pytest.param(150, marks=pytest.mark.nightly),
    ],
)
def test_a_hard_move_over_a_distance(set_stage: SetStage, round_trip_ms: int) -> None:
    stage = set_stage(links=access(round_trip_ms / 2))
    for mode in ("p2p", "combined", "auto", "central"):
        if "mr1" not in stage.lab.at:
            stage.lab.move("mr2", "mr1")
        moves(stage, mode, f"hard move, RTT {round_trip_ms} ms", round_trip_ms / 1e3)


@pytest.mark.parametrize("route_after", [pytest.param(0.0, marks=pytest.mark.nightly), 0.05])
def test_a_second_between_two_networks(set_stage: SetStage, route_after: float) -> None:
    """The relay is still being asked, in vain, when there is a network again: that must not be
    waited for. Nor must the control connection, which takes longer than a direct path."""
    round_trip = 0.15
    stage = set_stage(links=access(round_trip * 1e3 / 2))
    with stage.talk("cn3", "p2p") as cn3:
        cn3.moves_to(IP1)
        stage.relay.registrations(stage.guid)
        cn3.moving(away=1.0)
        stage.lab.detach("mr1")
        time.sleep(1.0)  # What is tested is that time passes.
        attached = time.monotonic()
        stage.lab.attach("mr2", route_after=route_after)
        cn3.moves_to(IP2)
        anew: list[float] = []
        while not anew:
            assert time.monotonic() < attached + DEADLINE, "not registered again"
            time.sleep(0.02)
            anew = stage.relay.registrations(stage.guid)
        result = stage.finish(cn3, "1 s between two networks", round_trip)
        # What waits for the control connection comes three round trips after it at the soonest.
        goes_on = next(when for when, _ in result.deliveries if when > attached)
        assert goes_on < anew[0] + 2.5 * round_trip


def test_figure_1_a_new_session_uses_ip2_because_it_is_faster(set_stage: SetStage) -> None:
    """IP1 is as good as IP2 but for its way, which is longer by the way between the routers."""
    stage = set_stage(links=access(10) | {("mr1", "mr2"): Link(delay_ms=100)})
    net = stage.net
    with stage.talk("cn1", "p2p") as cn1:
        cn1.moving()
        stage.lab.anchor(preferred=True)
        cn1.more(200)
        assert IP1 in cn1.note_addresses(), "the move alone disturbs no session"
        found = {one["host"]: one for one in stage.locate("cn3")}
        assert found.keys() == {IP1, IP2}
        assert found[IP2]["chosen"]
        assert "least delay" in found[IP2]["reason"]
        assert found[IP1]["round_trip"] > found[IP2]["round_trip"] + 0.03
        told = stage.explain("cn3", "p2p")
        assert "because   the least delay" in told, told
        assert f"direct, {IP2}:" in told, told
        with stage.talk("cn3", "p2p") as cn3:
            assert IP2 in net["cn3"].remote_hosts()
            assert IP1 not in net["cn3"].remote_hosts()
            stage.finish(cn3, "figure 1 with a slow anchor, new session")
        stage.finish(cn1, "figure 1 with a slow anchor, old session")


@pytest.mark.parametrize("mode", ["p2p", pytest.param("central", marks=pytest.mark.nightly)])
def test_a_link_that_loses_five_in_a_hundred(set_stage: SetStage, mode: str) -> None:
    link = Link(delay_ms=10, jitter_ms=5, loss=0.05)
    stage = set_stage(links={("mr1", "mn1"): link, ("mr2", "mn1"): link})
    with stage.talk("cn3", mode) as cn3:
        cn3.more(400)
        cn3.moving()
        stage.lab.move("mr1", "mr2")
        cn3.more(400)
        cn3.note_addresses()
        stage.finish(cn3, "5 % lost")
    counts = [stage.net.counts(router, "mn1") for router in ("mr1", "mr2")]
    lost, passed = (sum(count[name] for count in counts) for name in ("lost", "passed"))
    assert 0.03 < lost / (lost + passed) < 0.08
