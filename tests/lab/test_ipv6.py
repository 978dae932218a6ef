"""The same network over IPv6 alone, and with both."""

import pytest

from tests.lab.conftest import SetStage
from tests.lab.draft import IP1, IP2, access, six


@pytest.mark.parametrize("mode", ["p2p", pytest.param("central", marks=pytest.mark.nightly)])
def test_a_hard_move_over_ipv6_alone(set_stage: SetStage, mode: str) -> None:
    stage = set_stage(links=access(25), versions=[6])
    net = stage.net
    assert "inet " not in net["mn1"].ask_ip("address", "show", "dev", "mr1")
    with stage.talk("cn3", mode) as cn3:
        if mode == "p2p":
            cn3.moves_to(six(IP1))
        cn3.more(60)
        cn3.moving()
        stage.lab.move("mr1", "mr2")
        if mode == "p2p":
            cn3.moves_to(six(IP2))
        cn3.more()
        assert all(":" in host for host in cn3.note_addresses())
        if mode == "central":
            assert net["cn3"].remote_hosts() == net["mn1"].remote_hosts() == {stage.server}
        stage.finish(cn3, "IPv6 alone, RTT 50 ms", 0.05)


@pytest.mark.parametrize("mode", [pytest.param("p2p", marks=pytest.mark.nightly), "auto"])
def test_from_a_network_with_both_to_one_with_either(set_stage: SetStage, mode: str) -> None:
    """Whichever version a session uses, it goes on where only the other one is left."""
    stage = set_stage(versions=[4, 6])
    with stage.talk("cn3", mode) as cn3:
        cn3.more(100)
        cn3.moving()
        stage.lab.move("mr1", "mr2", versions=[4])
        cn3.moves_to(IP2)
        cn3.moving()
        # The relay of this network is at an IPv4 address: MN1 can ask nobody, and dials.
        stage.lab.move("mr2", "mr1", versions=[6])
        cn3.moves_to(six(IP1))
        stage.finish(cn3, "both, IPv4, IPv6")
