"""What the Linux kernel tells of addresses, in network namespaces of the tests' own."""

import contextlib
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from peers.host import netlink
from peers.host.source import (
    read_ifaddr,
)

ROOT = Path(__file__).parents[3]


@cache
def namespace_command() -> tuple[str, ...] | None:
    """Return the command that runs another in a network namespace of its own, if any may."""
    for command in (("unshare", "--map-root-user", "--net"), ("unshare", "--net")):
        with contextlib.suppress(OSError):
            if subprocess.run((*command, "true"), capture_output=True, check=False).returncode == 0:
                return command
    return None


@pytest.mark.skipif(sys.platform != "linux", reason="netlink is Linux's")
@pytest.mark.parametrize("scenario", ["addresses", "links", "duplicates", "burst", "overflow"])
def test_netlink_tells_of(scenario: str) -> None:
    command = namespace_command()
    if command is None:
        pytest.skip("this kernel lets nobody here make a network namespace")
    done = subprocess.run(
        (*command, sys.executable, "-X", "dev", "-W", "error")
        + ("-m", "tests.peers.host.in_namespace", scenario),
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert not done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="netlink is Linux's")
def test_netlink_and_ifaddr_see_the_same_host() -> None:
    plain = {(address.host, address.interface, address.index) for address in read_ifaddr()}
    full = {(address.host, address.interface, address.index) for address in netlink.read_netlink()}
    assert full <= plain
    assert "127.0.0.1" in {host for host, _, _ in full}


@pytest.mark.skipif(sys.platform != "linux", reason="netlink is Linux's")
def test_pyroute2_sees_the_same_host() -> None:
    """It knows all of rtnetlink, and is asked in a process of its own: it runs a loop."""
    program = (
        "from pyroute2 import IPRoute\n"
        "with IPRoute() as route:\n"
        "    up = {one['index']: one.get('ifname') for one in route.get_links()\n"
        "          if one['flags'] & 0x10041 == 0x10041}\n"
        "    for one in route.get_addr():\n"
        "        if one['index'] in up:\n"
        "            host = one.get('IFA_LOCAL') or one.get('IFA_ADDRESS')\n"
        "            flags = one.get('IFA_FLAGS') or one['flags']\n"
        "            print(host, up[one['index']], one['index'], one['prefixlen'],\n"
        "                  bool(flags & 0x20))\n"
    )
    done = subprocess.run(
        (sys.executable, "-c", program), capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    ours = {
        f"{one.host} {one.interface} {one.index} {one.prefix_length} {one.deprecated}"
        for one in netlink.read_netlink()
    }
    assert ours == set(done.stdout.splitlines())
