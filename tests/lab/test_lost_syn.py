"""Moves in which the first SYN of everybody is lost: that costs round trips, and not a second."""

import dataclasses

import pytest

from tests.lab.conftest import SetStage
from tests.lab.draft import IP1, IP2, access
from tests.lab.stage import Stage
from tests.lab.traffic import Result
from tests.support.scale import NIGHTLY, of

MOVES = of(2, 4)


KERNEL = 1.0
"""Seconds after which the kernel sends a SYN again (RFC 6298 §2)."""


def moved(stage: Stage, mode: str, scene: str, round_trip: float) -> Result:
    """Move MN1 to and fro; every second time it comes to a link that loses the first SYN to each
    port."""
    with stage.talk("cn3", mode) as cn3:
        if mode == "p2p":
            cn3.moves_to(IP1)
        here, there = "mr1", "mr2"
        for turn in range(2 * MOVES):
            link = access(round_trip / 2 * 1e3)["mr1", "mn1"]
            # To the relay MN1 dials twice: for its flow, and for the leg of the plane.
            lose = (2 if mode == "central" else 1) * (turn % 2)
            stage.net.change(there, "mn1", dataclasses.replace(link, lose_syns=lose))
            cn3.more(60)
            cn3.moving()
            stage.lab.move(here, there)
            here, there = there, here
            if mode == "p2p":
                cn3.moves_to(IP1 if here == "mr1" else IP2)
            else:
                cn3.more(75)
        lost = sum(stage.net.counts(router, "mn1")["syns"] for router in ("mr1", "mr2"))
        assert lost >= MOVES, "each move has lost a SYN"
        return stage.finish(cn3, scene, round_trip)


@pytest.mark.parametrize("mode", [pytest.param("p2p", marks=pytest.mark.nightly), "central"])
@pytest.mark.parametrize("round_trip_ms", [10, 50] if NIGHTLY else [50])
def test_the_first_syn_is_lost(set_stage: SetStage, mode: str, round_trip_ms: int) -> None:
    round_trip = round_trip_ms / 1e3
    stage = set_stage(links=access(round_trip_ms / 2))
    scene = f"hard move, every second with a lost SYN, RTT {round_trip_ms} ms"
    result = moved(stage, mode, scene, round_trip)
    first_wait = max(2 * round_trip, 0.03)
    # The best moves of either kind say how long one has to take, the others how busy the machine
    # is. What the lost SYN adds is nearer to our own wait than to the kernel's.
    whole, lossy = min(result.gaps[::2]), min(result.gaps[1::2])
    assert lossy - whole < (first_wait + KERNEL) / 2
