"""Two homes behind one carrier's NAT, which does not lead its own address back inside: their hosts
have one outer address, and even the same private one, and go on over the relay."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.lab.network import LabUnavailable, Network, network
from tests.lab.programs import Commands

RELAY, CARRIER = "203.0.113.1", "203.0.113.5"
HOST = "192.168.50.2"
"""Of both: homes have the same few networks."""
_MASQUERADE = """
table ip nat {
    chain out { type nat hook postrouting priority srcnat; oifname "OUT" masquerade; }
    chain in { type filter hook forward priority filter; iifname "OUT" ct state new drop; }
}
"""


@contextmanager
def homes() -> Iterator[Network]:
    if shutil.which("nft") is None:
        raise LabUnavailable("not installed: nft (nftables)")
    with network() as net:
        net.host("relay", "cgnat")
        net.link("cgnat", [f"{CARRIER}/24"], "relay", [f"{RELAY}/24"])
        net["cgnat"].forward()
        net["cgnat"].run("nft", "-f", "-", given=_MASQUERADE.replace("OUT", "relay"))
        for number, name in enumerate(("alice", "bob")):
            home, base = f"{name}-home", f"100.64.{number}"
            net.host(home, name)
            net.link("cgnat", [f"{base}.1/24"], home, [f"{base}.2/24"])
            net[home].ip(f"route add default via {base}.1")
            net[home].forward()
            net[home].run("nft", "-f", "-", given=_MASQUERADE.replace("OUT", "cgnat"))
            net.link(home, ["192.168.50.1/24"], name, [f"{HOST}/24"])
            net[name].ip("route add default via 192.168.50.1")
        yield net


@pytest.mark.nightly
@pytest.mark.parametrize("mode", ["combined", "auto"])
def test_two_homes_behind_one_carrier_talk(tmp_path: Path, mode: str) -> None:
    try:
        with homes() as net:
            commands = Commands(tmp_path, RELAY)
            with (
                commands.relay(net["relay"]),
                commands.listen(net["bob"], "--echo") as (guid, _),
            ):
                caller = commands.connect(net["alice"], guid, mode)
                try:
                    for number in range(200):
                        caller.write(f"line {number}")
                        caller.until(f"line {number}", caller.out)
                    assert net["alice"].remote_hosts() <= {RELAY}, "nobody else is there for it"
                finally:
                    caller.close()
    except LabUnavailable as reason:
        if os.environ.get("LAB_REQUIRED"):
            raise
        pytest.skip(str(reason))
