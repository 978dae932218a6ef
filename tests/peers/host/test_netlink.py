"""What the Linux kernel tells of addresses, in network namespaces of the tests' own."""

import contextlib
import os
import socket
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from peers.host import netlink
from peers.host.source import (
    read_ifaddr,
)
from tests.peers.host.test_rtnetlink import DONE, address, link, message

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
@pytest.mark.parametrize(
    "scenario", ["addresses", "links", "routes", "duplicates", "burst", "overflow"]
)
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


class Kernel:
    """Answers a request with pieces; `flags` are those of the first one."""

    def __init__(self, answers: list[list[bytes]], flags: int) -> None:
        self._answers, self._flags = answers, flags

    def __call__(self, *words: int) -> "Kernel":
        self._pieces = self._answers.pop(0)
        self._waits = True
        return self

    def __enter__(self) -> "Kernel":
        return self

    def __exit__(self, *words: object) -> None:
        pass

    def settimeout(self, seconds: float) -> None:
        pass

    def setblocking(self, waits: bool) -> None:
        self._waits = waits

    def send(self, data: bytes) -> None:
        pass

    def recvmsg(self, most: int) -> tuple[bytes, list[object], int, tuple[int, int]]:
        if not self._pieces:
            assert not self._waits, "nothing more comes: it would wait for that"
            raise BlockingIOError
        flags, self._flags = self._flags, 0
        return self._pieces.pop(0), [], flags, (0, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="netlink is Linux's")
@pytest.mark.parametrize("flags", [0, socket.MSG_TRUNC])
def test_what_can_be_read_is_read(monkeypatch: pytest.MonkeyPatch, flags: int) -> None:
    whole = address("192.0.2.7") + address("192.0.2.8")
    # The end of the first answer is in what cannot be read.
    pieces = [address("192.0.2.7")] if flags else [whole[:-3]]
    kernel = Kernel([pieces, [link(2, "eth0") + message(DONE, bytes(4))]], flags)
    monkeypatch.setattr(netlink.socket, "socket", kernel)
    assert [one.host for one in netlink.read_netlink()] == ["192.0.2.7"]


@pytest.mark.skipif(sys.platform != "linux", reason="netlink is Linux's")
def test_where_nothing_can_be_read_it_is_not_said_that_there_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kernel = Kernel([[b"no netlink"], [link(2, "eth0") + message(DONE, bytes(4))]], 0)
    monkeypatch.setattr(netlink.socket, "socket", kernel)
    with pytest.raises(OSError, match="no netlink"):
        netlink.read_netlink()


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
