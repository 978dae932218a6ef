"""The draft's figures as scenes, for tests and for the tour alike. Which addresses packets use is
the kernel's word.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.lab.draft import IP1, IP2
from tests.lab.names import figure_2
from tests.lab.programs import DEADLINE
from tests.lab.stage import Stage

__all__ = ["SCENES", "Scene", "figure_1", "figure_3", "figure_4", "figure_5"]


_ONE_PATH = "standby never"
"""The draft's old sessions have one address. With a path that stands ready they would go over to it
as soon as theirs is only led on."""


def figure_1(stage: Stage) -> None:
    """Old sessions stay on the old address, and new ones use the new one."""
    lab, net = stage.lab, stage.net
    stage.say("CN1 calls MN1, which is at MR1 and has the address IP1.")
    with stage.talk("cn1", "combined", policy=_ONE_PATH) as cn1:
        assert IP1 in net["cn1"].remote_hosts()
        stage.say("MN1 moves to MR2 and gets IP2. IP1 is still led to it, over MR1 and MR2.")
        cn1.moving()
        lab.anchor()
        cn1.more(200)
        undisturbed = IP1 in cn1.note_addresses()
        assert undisturbed, f"the move alone disturbs no session: {cn1.program.said()}"
        end = time.monotonic() + DEADLINE
        while IP2 in net["cn1"].remote_hosts():
            assert time.monotonic() < end, "more than a probe, which comes and goes"
        stage.say("The session of CN1 goes on over IP1. Now CN3 calls, and gets IP2.")
        with stage.talk("cn3", "combined") as cn3:
            assert IP2 in net["cn3"].remote_hosts()
            assert IP1 not in net["cn3"].remote_hosts()
            stage.say("IP1 is led to MN1 no more. The session of CN1 goes over to IP2.")
            cn1.moving()
            lab.end_anchor()
            cn1.moves_to(IP2)
            stage.say("Both sessions are on IP2 now, and neither has lost anything.")
            stage.finish(cn3, "figure 1, new session")
        stage.finish(cn1, "figure 1, old session")
    registrations = stage.relay.registrations(stage.guid)
    assert len(registrations) <= 6, "flows come and go with addresses, and not by turns"


def figure_3(stage: Stage) -> None:
    """Mode p2p: the server tells a caller the latest address, and the caller dials it."""
    lab, net = stage.lab, stage.net
    stage.say("CN1 asks the server where MN1 is, and dials IP1 by itself.")
    with stage.talk("cn1", "p2p", policy=_ONE_PATH) as cn1:
        assert [one["host"] for one in stage.locate("cn3")] == [IP1]
        stage.say("MN1 moves to MR2 and updates its registration; IP1 is still led to it.")
        cn1.moving()
        lab.anchor()
        end = time.monotonic() + DEADLINE
        while [one["host"] for one in stage.locate("cn3")] != [IP2]:
            assert time.monotonic() < end
        stage.say("The server answers IP2 now. CN3 asks, and dials that.")
        with stage.talk("cn3", "p2p") as cn3:
            assert IP2 in net["cn3"].remote_hosts()
            stage.finish(cn3, "figure 3, new session")
        undisturbed = IP1 in cn1.note_addresses()
        assert undisturbed, f"the update disturbs no session: {cn1.program.said()}"
        stage.say("The update has not disturbed the session of CN1, which is still on IP1.")
        stage.finish(cn1, "figure 3, old session")


def figure_4(stage: Stage) -> None:
    """Mode central: both planes go through the server, which hides all addresses."""
    lab, net, server = stage.lab, stage.net, stage.server
    stage.say("CN3 calls MN1 through the server; neither learns where the other is.")
    with stage.talk("cn3", "central") as cn3:
        assert net["cn3"].remote_hosts() == {server}
        assert net["mn1"].remote_hosts() == {server}
        stage.say("MN1 leaves MR1 for MR2, without any anchor: IP1 is gone.")
        cn3.moving()
        lab.move("mr1", "mr2")
        cn3.more(200)
        assert cn3.note_addresses() == {server}
        stage.say("CN3 sees the server's address, as before, and has lost nothing.")
        stage.finish(cn3, "figure 4")


def figure_5(stage: Stage, mode: str = "combined") -> None:
    """Mode combined: signaling through the server, data direct; a hard move loses nothing."""
    lab = stage.lab
    stage.say("CN3's request goes to MN1 through the server; the answer is IP1, and data go there.")
    with stage.talk("cn3", mode) as cn3:
        cn3.moves_to(IP1)
        stage.say("MN1 leaves MR1 for MR2, without any anchor: IP1 is gone.")
        cn3.moving()
        lab.move("mr1", "mr2")
        cn3.moves_to(IP2)
        stage.say("The session goes on over IP2, and nothing is lost.")
        stage.finish(cn3, "figure 5")


@dataclass(frozen=True)
class Scene:
    """A scene of the tour."""

    name: str
    title: str
    play: Callable[[Stage], None]


SCENES = (
    Scene("figure-1", "Old sessions keep IP1, new ones use IP2", figure_1),
    Scene("figure-2", "Dynamic DNS: the latest address by name", figure_2),
    Scene("figure-3", "P2P: the latest address from the server", figure_3),
    Scene("figure-4", "Central: everything through the server", figure_4),
    Scene("figure-5", "Combined: signaling through the server, data direct", figure_5),
)
"""What the tour plays, in this order; each on a network of its own."""
