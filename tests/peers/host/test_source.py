"""This host's addresses: which may be used, and that changes are told at once."""

import asyncio
import contextlib
import os
import subprocess
import sys
from contextlib import aclosing
from functools import cache
from pathlib import Path

import pytest

from peers.host import netlink
from peers.host import source as addresses
from peers.host.address import MAX_USABLE, snapshot
from peers.host.source import (
    Addresses,
    LocalAddress,
    WatchedAddresses,
    polled_addresses,
    read_ifaddr,
    system_addresses,
    usable,
)

ROOT = Path(__file__).parents[3]


def at(host: str, interface: str = "eth0", index: int = 2, **flags: bool) -> LocalAddress:
    return LocalAddress(host, interface, index, 6 if ":" in host else 4, 64, **flags)


def hosts(found: Addresses) -> list[str]:
    return [address.host for address in found]


# -- which may be used ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address",
    [
        at("fe80::1"),
        at("169.254.7.7"),
        at("127.0.0.1", "lo"),
        at("::1", "lo"),
        at("2a00::1", tentative=True),
        at("224.0.0.9"),
        at("ff02::1"),
        at("0.0.0.0"),
        at("::"),
    ],
    ids=str,
)
def test_what_nobody_can_dial_is_not_usable(address: LocalAddress) -> None:
    assert usable([address]) == ()


@pytest.mark.parametrize(
    "name",
    ["docker0", "br-0123456789ab", "virbr0", "veth12ab", "cni0", "cni-podman0", "flannel.1"]
    + ["kube-ipvs0", "lxcbr0", "lxdbr0", "podman1", "vmnet8", "vboxnet0", "cali1a2b"],
)
def test_interfaces_that_lead_nowhere_are_not_usable(name: str) -> None:
    assert usable([at("172.17.0.1", name)]) == ()


@pytest.mark.parametrize("name", ["eth0", "wlan0", "br-lan", "br-ex", "br0", "tun0", "wg0", "en0"])
def test_interfaces_that_lead_somewhere_are_usable(name: str) -> None:
    assert hosts(usable([at("10.0.0.1", name)])) == ["10.0.0.1"]


BEST_FIRST = (
    at("2a00::1"),
    at("2a00::2", "wlan0", 3),
    at("2a00::3", temporary=True),
    at("9.9.9.9"),
    at("10.0.0.1"),
    at("10.0.0.2"),
    at("10.0.0.1", "wlan0", 3),
    at("2002:909:909::1"),
    at("2001:0:1::1"),
    at("fd00::1"),
    at("2a00::4", deprecated=True),
    at("10.0.0.3", deprecated=True),
)


def test_the_order_is_the_same_whatever_order_the_system_has() -> None:
    expected = list(dict.fromkeys(hosts(BEST_FIRST)))
    assert hosts(usable(BEST_FIRST)) == expected
    assert hosts(usable(reversed(BEST_FIRST))) == expected
    assert usable(usable(BEST_FIRST)) == usable(BEST_FIRST)
    assert {address.index for address in usable(BEST_FIRST) if address.host == "10.0.0.1"} == {2}


def test_loopback_is_usable_when_asked_for_and_comes_behind_what_leads_further() -> None:
    mixed = [at("::1", "lo", 1), at("127.0.0.1", "lo", 1), at("fd00::1"), at("fe80::1")]
    assert hosts(usable(mixed, loopback=True)) == ["fd00::1", "::1", "127.0.0.1"]
    assert hosts(usable(mixed)) == ["fd00::1"]


def test_there_are_never_more_than_a_registration_holds() -> None:
    many = [at(f"10.0.0.{last}") for last in range(1, 100)]
    assert usable(many) == tuple(many[:MAX_USABLE])


def test_an_address_knows_what_it_is() -> None:
    assert at("fe80::1").link_local
    assert at("169.254.0.1").link_local
    assert at("127.3.2.1").loopback
    assert at("::1").loopback
    assert not at("10.0.0.1").loopback
    assert not at("10.0.0.1").link_local


# -- telling of changes ---------------------------------------------------------------------------


class Host:
    """Addresses as the test wants them, and the moments at which a source looks."""

    def __init__(self) -> None:
        self.now: Addresses | OSError = ()
        self.looks = asyncio.Semaphore(0)
        self.waits = asyncio.Semaphore(0)

    def read(self) -> Addresses:
        if isinstance(self.now, OSError):
            raise self.now
        return self.now

    async def wait(self) -> None:
        self.waits.release()
        await self.looks.acquire()

    def becomes(self, now: Addresses | OSError) -> None:
        self.now = now
        self.looks.release()


async def test_polling_tells_what_is_there_and_then_only_what_differs() -> None:
    host = Host()
    host.now = (at("10.0.0.1"),)
    source = polled_addresses(host.read, host.wait)
    assert await source.read() == host.now
    async with asyncio.timeout(5), aclosing(source.changes()) as changes:
        assert await anext(changes) == (at("10.0.0.1"),)
        next_change = asyncio.ensure_future(anext(changes))
        await host.waits.acquire()
        host.becomes((at("10.0.0.1"),))
        await host.waits.acquire()
        assert not next_change.done()
        host.becomes((at("10.0.0.2"),))
        assert await next_change == (at("10.0.0.2"),)
        next_change = asyncio.ensure_future(anext(changes))
        host.becomes(())
        assert await next_change == ()


async def test_a_system_that_does_not_answer_is_asked_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(addresses, "RETRY_INTERVAL", 0)
    host = Host()
    source = polled_addresses(host.read, host.wait)
    async with asyncio.timeout(5), aclosing(source.changes()) as changes:
        assert await anext(changes) == ()
        next_change = asyncio.ensure_future(anext(changes))
        await host.waits.acquire()
        host.becomes(OSError(24, "Too many open files"))
        while "Too many open files" not in caplog.text:
            await asyncio.sleep(0)
        host.becomes((at("10.0.0.1"),))
        assert await next_change == (at("10.0.0.1"),)


async def test_what_is_watched_is_opened_before_the_first_read_and_closed_in_the_end() -> None:
    events = []

    @contextlib.contextmanager
    def watch():
        events.append("open")
        try:
            yield asyncio.Event().wait
        finally:
            events.append("close")

    def read() -> Addresses:
        events.append("read")
        return ()

    async def follow() -> None:
        async for _ in WatchedAddresses(read, watch).changes():
            told.set()

    told = asyncio.Event()
    task = asyncio.create_task(follow())
    await told.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert events == ["open", "read", "close"]


async def test_without_netlink_the_addresses_are_polled(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(addresses, "open_notices", refuse)
    source = system_addresses()
    assert await source.read() == read_ifaddr()


def test_every_system_tells_of_loopback() -> None:
    found = read_ifaddr()
    assert found == snapshot(found)
    assert "127.0.0.1" in hosts(found)
    assert all(address.index for address in found if address.loopback)


# -- the Linux kernel -----------------------------------------------------------------------------


@cache
def namespace_command() -> tuple[str, ...] | None:
    """Return the command that runs another in a network namespace of its own, if any may."""
    for command in (("unshare", "--map-root-user", "--net"), ("unshare", "--net")):
        with contextlib.suppress(OSError):
            if subprocess.run((*command, "true"), capture_output=True, check=False).returncode == 0:
                return command
    return None


@pytest.mark.skipif(sys.platform != "linux", reason="netlink is Linux's")
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("scenario", ["addresses", "links", "duplicates", "burst", "overflow"])
def test_netlink_tells_of(scenario: str, loop: str) -> None:
    command = namespace_command()
    if command is None:
        pytest.skip("this kernel lets nobody here make a network namespace")
    done = subprocess.run(
        (*command, sys.executable, "-X", "dev", "-W", "error")
        + ("-m", "tests.peers.host.in_namespace", scenario, loop),
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
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
