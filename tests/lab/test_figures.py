"""The draft's figures, and what else can happen to the network: with links that take no time."""

import sys
import time

import pytest

from tests.lab.draft import IP1, IP2
from tests.lab.network import Host
from tests.lab.scenes import SCENES, Scene, figure_5
from tests.lab.stage import Stage
from tests.support.scale import of


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
def test_figure(on_stage: Stage, scene: Scene) -> None:
    scene.play(on_stage)


@pytest.mark.parametrize("mode", ["p2p", pytest.param("auto", marks=pytest.mark.nightly)])
def test_a_hard_move_loses_nothing_in_the_other_modes(on_stage: Stage, mode: str) -> None:
    figure_5(on_stage, mode)


def test_figure_4_the_user_plane_from_ip2_while_control_stays_on_ip1(on_stage: Stage) -> None:
    lab, net, server = on_stage.lab, on_stage.net, on_stage.server
    lab.anchor()
    before = plane_bytes(on_stage)
    with on_stage.talk("cn3", "central") as cn3:
        cn3.more(200)
        assert IP1 in net["server"].remote_hosts(), "the control connection has not moved"
        local = {line.split()[2].rpartition(":")[0] for line in connections(net["mn1"])}
        assert {IP1, IP2} == local
        assert net["cn3"].remote_hosts() == {server}
        told = on_stage.explain("cn3", "central")
        assert server in told
        assert IP1 not in told
        assert IP2 not in told
        result = on_stage.finish(cn3, "figure 4, anchored")
    # Each number went there and came back, inside TLS.
    assert plane_bytes(on_stage) - before > 2 * 5 * result.messages


def connections(host: Host) -> list[str]:
    """Return the TCP connections of a host, as the kernel lists them."""
    return host.run("ss", "-tnH", "state", "established").splitlines()


def plane_bytes(stage: Stage) -> float:
    """Return what the server has counted of bytes through planes."""
    code = (
        "import sys, urllib.request as u; sys.stdout.write(u.urlopen(sys.argv[1]).read().decode())"
    )
    url = f"http://{stage.server}:8440/metrics"
    text = stage.net["server"].run(sys.executable, "-c", code, url)
    lines = [line for line in text.splitlines() if line.startswith("roam_relay_plane_bytes_total")]
    return sum(float(line.split()[-1]) for line in lines)


def test_bouncing_between_two_routers(on_stage: Stage) -> None:
    lab = on_stage.lab
    with on_stage.talk("cn1", "auto") as cn1:
        here, there = "mr1", "mr2"
        for _ in range(of(4, 30)):
            cn1.moving()
            lab.move(here, there)
            here, there = there, here
            time.sleep(2)  # What is tested is that time passes.
            cn1.note_addresses()
        cn1.more()
        on_stage.finish(cn1, "bouncing every 2 s")


@pytest.mark.parametrize(
    "mode", ["p2p", pytest.param("central", marks=pytest.mark.nightly), "auto"]
)
def test_the_caller_moves_and_then_both_at_once(on_stage: Stage, mode: str) -> None:
    lab = on_stage.lab
    with on_stage.talk("cn3", mode) as cn3:
        cn3.moving()
        lab.move_caller()
        cn3.more(200)
        cn3.moving()
        lab.move("mr1", "mr2")
        lab.move_caller(11)
        cn3.more(200)
        if mode != "central":
            cn3.moves_to(IP2)
        on_stage.finish(cn3, "both move")


def test_one_of_two_networks_goes_silent_without_a_word(on_stage: Stage) -> None:
    lab, net = on_stage.lab, on_stage.net
    lab.also("mr2")
    with on_stage.talk("cn1", "p2p") as cn1:
        used = next(host for host in (IP1, IP2) if host in net["cn1"].remote_hosts())
        cn1.moving()
        lab.silence("mr1" if used == IP1 else "mr2")
        cn1.moves_to(IP2 if used == IP1 else IP1)
        # A new caller is not hindered by the flow that leads nowhere.
        with on_stage.talk("cn3", "combined") as cn3:
            on_stage.finish(cn3, "silent network, new session")
        on_stage.finish(cn1, "silent network")


def test_direct_sessions_do_not_miss_the_server(on_stage: Stage) -> None:
    lab, net = on_stage.lab, on_stage.net
    with on_stage.talk("cn1", "auto") as cn1:
        cn1.moves_to(IP1)
        net["core"].ip("link set server down")
        cn1.more(200)
        # Nobody can tell CN1 where MN1 is now, but MN1 itself: it dials.
        cn1.moving()
        lab.detach("mr1")
        lab.attach("mr2")
        cn1.more(200)
        cn1.note_addresses()
        on_stage.finish(cn1, "move without the server")


@pytest.mark.parametrize("mode", ["auto", pytest.param("combined", marks=pytest.mark.nightly)])
def test_only_the_relay_serves_where_the_direct_path_is_filtered(
    on_stage: Stage, mode: str
) -> None:
    on_stage.lab.filter("10.4.0.2")
    with on_stage.talk("cn3", mode) as cn3:
        cn3.more(200)
        assert cn3.note_addresses() == {on_stage.server}
        on_stage.finish(cn3, "filtered")


def test_without_any_network_for_a_while(on_stage: Stage) -> None:
    lab = on_stage.lab
    with on_stage.talk("cn1", "combined") as cn1:
        cn1.moving()
        lab.detach("mr1")
        cn1.program.until("no path", cn1.program.errors)
        time.sleep(of(5, 30))  # What is tested is that time passes.
        lab.attach("mr2")
        cn1.moves_to(IP2)
        on_stage.finish(cn1, "no network at all for a while")
