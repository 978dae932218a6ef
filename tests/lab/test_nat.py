"""Two peers at home, behind one NAT, and a relay outside: the kernel's own address translation."""

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.lab.network import LabUnavailable, Network, network
from tests.lab.programs import DEADLINE, Commands

RELAY, HOME = "203.0.113.1", "203.0.113.5"
ALICE, BOB = "192.168.50.2", "192.168.50.3"
_MASQUERADE = """
table ip home {
    chain out { type nat hook postrouting priority srcnat; oifname "relay" masquerade; }
    chain in { type filter hook forward priority filter; iifname "relay" ct state new drop; }
}
"""


@contextmanager
def home() -> Iterator[Network]:
    """Make a home: a router that translates, and two hosts on its bridge."""
    if shutil.which("nft") is None:
        raise LabUnavailable("not installed: nft (nftables)")
    with network() as net:
        net.host("relay", "router", "alice", "bob")
        net.link("router", [f"{HOME}/24"], "relay", [f"{RELAY}/24"])
        router = net["router"]
        router.ip("link add home type bridge", "link set home up")
        router.ip("address add 192.168.50.1/24 dev home")
        for name, address in (("alice", ALICE), ("bob", BOB)):
            net.link("router", [], name, [f"{address}/24"])
            router.ip(f"link set {name} master home")
            net[name].ip("route add default via 192.168.50.1")
        router.forward()
        router.run("nft", "-f", "-", given=_MASQUERADE)
        yield net


@pytest.fixture
def at_home() -> Iterator[Network]:
    with ExitStack() as stack:
        try:
            net = stack.enter_context(home())
        except LabUnavailable as reason:
            if os.environ.get("LAB_REQUIRED"):
                raise
            pytest.skip(str(reason))
        yield net


@pytest.mark.parametrize("mode", ["p2p", "combined", "auto"])
def test_two_behind_one_nat_talk_directly(at_home: Network, tmp_path: Path, mode: str) -> None:
    commands = Commands(tmp_path, RELAY)
    with commands.relay(at_home["relay"]), commands.listen(at_home["bob"]) as (guid, bob):
        alice = commands.connect(at_home["alice"], guid, mode)
        try:
            alice.write("over the fence")
            bob.until("over the fence", bob.out)
            end = time.monotonic() + DEADLINE
            while BOB not in at_home["alice"].remote_hosts():
                assert time.monotonic() < end, alice.said()
                alice.write("still there")
                bob.until("still there", bob.out)
        finally:
            alice.close()
