"""Two sites whose routers map by address and port, so that nothing is direct by itself; one of the
routers passes a port on where it is asked to. The router is miniupnpd, with the kernel's nftables.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.nats import RELAYS, sites
from tests.lab.network import Host, LabUnavailable, Network
from tests.lab.programs import DEADLINE, Commands

_OUTSIDE = "11.0.0.6"
"""As others see bob: miniupnpd wants an address that may be anybody's in the world."""
_RULES = """
flush ruleset
table inet site {
    chain mapped {}
    chain mapped_in {}
    chain mapped_out {}
    chain in {
        type filter hook forward priority filter;
        jump mapped; iifname "relay" ct state new drop;
    }
    chain before { type nat hook prerouting priority dstnat; jump mapped_in; }
    chain after {
        type nat hook postrouting priority srcnat;
        jump mapped_out; oifname "relay" snat ip to OUTSIDE random,fully-random;
    }
}
"""
_CONFIG = """
ext_ifname=relay
ext_ip={outside}
listening_ip=bob
enable_natpmp=yes
enable_upnp=no
ipv6_disable=yes
min_lifetime=10
uuid=00000000-0000-0000-0000-000000000001
upnp_table_name=site
upnp_nat_table_name=site
upnp_forward_chain=mapped
upnp_nat_chain=mapped_in
upnp_nat_postrouting_chain=mapped_out
allow 1024-65535 192.168.51.0/28 1024-65535
"""


@contextlib.contextmanager
def router(net: Network, folder: Path) -> Iterator[None]:
    """Let bob's router map ports on request."""
    host = net["bob-router"]
    host.ip(f"address add {_OUTSIDE}/32 dev relay")
    for other in ("relay", "alice-router"):
        net[other].ip(f"route add {_OUTSIDE} via 203.0.113.6")
    config = folder / "miniupnpd.conf"
    config.write_text(_CONFIG.format(outside=_OUTSIDE))
    host.run("nft", "-f", "-", given=_RULES.replace("OUTSIDE", _OUTSIDE))
    words = host.lasting("miniupnpd", "-d", "-f", str(config), "-P", str(folder / "miniupnpd.pid"))
    with (folder / "miniupnpd.log").open("wb") as log:
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            yield
        finally:
            process.kill()
            process.wait(DEADLINE)


def mapped(host: Host) -> bool:
    return "dnat" in host.run("nft", "list", "chain", "inet", "site", "mapped_in")


def until(host: Host, wanted: bool) -> None:
    end = time.monotonic() + DEADLINE
    while mapped(host) is not wanted:
        assert time.monotonic() < end, host.run("nft", "list", "ruleset")
        time.sleep(0.05)


@pytest.mark.nightly
def test_who_has_its_port_mapped_is_dialed_and_takes_the_mapping_back(tmp_path: Path) -> None:
    try:
        if shutil.which("miniupnpd") is None:
            raise LabUnavailable("not installed: miniupnpd (miniupnpd-nftables)")
        with sites("symmetric", "symmetric") as net:
            commands = Commands(tmp_path, RELAYS[4], 'map_port = "auto"\n')
            gateway = net["bob-router"]
            with (
                router(net, tmp_path),
                commands.relay(net["relay"]),
                commands.listen(net["bob"]) as (guid, callee),
            ):
                until(gateway, True)
                said = commands.nat_call(net["alice"], guid, "auto", DEADLINE)
                assert said["way"] == "dialed"
                callee.process.send_signal(signal.SIGINT)
                callee.process.wait(DEADLINE)
                until(gateway, False)
    except LabUnavailable as reason:
        if os.environ.get("LAB_REQUIRED"):
            raise
        pytest.skip(str(reason))
