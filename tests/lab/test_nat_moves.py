"""A host moves from an open network to behind a NAT and back, with numbered messages under way:
none is lost, in every mode, whichever side moves."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.lab.network import LabUnavailable, Network, network
from tests.lab.programs import Commands
from tests.lab.traffic import Result, Traffic

RELAY, STAYS = "203.0.113.1", "198.51.100.18"
OPEN, HOME = "198.51.100.2", "192.168.50.2"
OUTSIDE = {"open": "203.0.113.5", "home": "203.0.113.6", "other": "203.0.113.7"}
_MASQUERADE = """
table ip home {
    chain out { type nat hook postrouting priority srcnat; oifname "relay" masquerade; }
    chain in { type filter hook forward priority filter; iifname "relay" ct state new drop; }
}
"""
MODES = ("p2p", "combined", "auto", "central")


@contextmanager
def land() -> Iterator[Network]:
    """Make a relay in the middle, a host `stays` in a network of its own, and a host `moves` that
    has a link to an open network and one to a home behind a NAT."""
    if shutil.which("nft") is None:
        raise LabUnavailable("not installed: nft (nftables)")
    with network() as net:
        net.host("relay", *OUTSIDE, "moves", "stays")
        relay = net["relay"]
        relay.ip("link add middle type bridge", "link set middle up")
        relay.ip(f"address add {RELAY}/24 dev middle")
        relay.forward()
        for router, outside in OUTSIDE.items():
            net.link(router, [f"{outside}/24"], "relay", [])
            relay.ip(f"link set {router} master middle")
            net[router].forward()
        net.link("open", ["198.51.100.1/28"], "moves", [])
        net.link("home", ["192.168.50.1/28"], "moves", [])
        net.link("other", ["198.51.100.17/28"], "stays", [f"{STAYS}/28"])
        net["stays"].ip("route add default via 198.51.100.17")
        net["home"].run("nft", "-f", "-", given=_MASQUERADE)
        for host in ("relay", "home", "other"):
            net[host].ip(f"route add 198.51.100.0/28 via {OUTSIDE['open']}")
        for host in ("relay", "home", "open"):
            net[host].ip(f"route add 198.51.100.16/28 via {OUTSIDE['other']}")
        move(net, "open", "")
        yield net


def move(net: Network, to: str, from_: str) -> None:
    """Leave one network and come to another one, in one go."""
    places = {"open": (OPEN, "198.51.100.1"), "home": (HOME, "192.168.50.1")}
    host, gateway = places[to]
    leave = [f"address del {places[from_][0]}/28 dev {from_}"] if from_ else []
    net["moves"].ip(*leave, f"address add {host}/28 dev {to}", f"route add default via {gateway}")


def play(folder: Path, mode: str, caller: str, rounds: int, messages: int) -> Result:
    """Move there and back, so often; `caller` is the host that calls the other one."""
    callee = "stays" if caller == "moves" else "moves"
    with land() as net:
        commands = Commands(folder, RELAY)
        with commands.relay(net["relay"]), commands.listen(net[callee], "--echo") as (guid, _):
            program = commands.connect(net[caller], guid, mode)
            try:
                traffic = Traffic(program, program, net[caller], interval=0.02)
                traffic.begin()
                for _ in range(rounds):
                    for to, from_ in (("home", "open"), ("open", "home")):
                        traffic.moving()
                        move(net, to, from_)
                        traffic.more(messages)
                return traffic.finish()
            finally:
                program.close()


def judge(folder: Path, mode: str, caller: str, rounds: int, messages: int) -> None:
    try:
        result = play(folder, mode, caller, rounds, messages)
    except LabUnavailable as reason:
        if os.environ.get("LAB_REQUIRED"):
            raise
        pytest.skip(str(reason))
    else:
        assert result.whole, result


def test_a_move_behind_a_nat_and_back_loses_nothing(tmp_path: Path) -> None:
    judge(tmp_path, "combined", "stays", 1, 20)


@pytest.mark.nightly
@pytest.mark.parametrize("caller", ["moves", "stays"])
@pytest.mark.parametrize("mode", MODES)
def test_nor_do_many_in_every_mode(tmp_path: Path, mode: str, caller: str) -> None:
    judge(tmp_path, mode, caller, 3, 100)
