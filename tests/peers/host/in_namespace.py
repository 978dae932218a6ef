"""What test_netlink.py runs inside a new network namespace: real interfaces come and go.

The loopback interface serves where a carrier does not matter: every kernel has it, and it needs no
duplicate detection. Usage: `python -m tests.peers.host.in_namespace SCENARIO`, which is run in
asyncio's loop and in uvloop's, each with a namespace of its own. pyroute2 makes the changes in a
thread, because it needs an event loop of its own.
"""

import asyncio
import contextlib
import ctypes
import errno
import logging
import socket
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

import uvloop
from pyroute2 import IPRoute

from peers.host import netlink
from peers.host.source import Addresses, LocalAddress, WatchedAddresses, system_addresses, usable

Changes = AsyncGenerator[Addresses, None]

CLONE_NEWNET = 0x40000000  # sched.h


async def change(*steps: Callable[[IPRoute], Any]) -> None:
    def run() -> None:
        with IPRoute() as route:
            for step in steps:
                step(route)

    await asyncio.to_thread(run)


def index(name: str) -> int:
    return socket.if_nametoindex(name)


def add(name: str, host: str, **options: Any) -> Callable[[IPRoute], Any]:
    return lambda route: route.addr(
        "add", index=index(name), address=host, prefixlen=64 if ":" in host else 24, **options
    )


def remove(name: str, host: str) -> Callable[[IPRoute], Any]:
    return lambda route: route.addr(
        "del", index=index(name), address=host, prefixlen=64 if ":" in host else 24
    )


def state(name: str, value: str) -> Callable[[IPRoute], Any]:
    return lambda route: route.link("set", index=index(name), state=value)


def default(command: str, gateway: str) -> Callable[[IPRoute], Any]:
    family = socket.AF_INET6 if ":" in gateway else socket.AF_INET
    return lambda route: route.route(command, dst="default", gateway=gateway, family=family)


def is_routed(host: str, routed: bool) -> Callable[[dict[str, LocalAddress]], bool]:
    return lambda by_host: by_host[host].routed is routed


def veth(name: str, other: str) -> Callable[[IPRoute], Any]:
    return lambda route: route.link("add", ifname=name, kind="veth", peer=other)


async def until(
    changes: Changes, condition: Callable[[dict[str, LocalAddress]], bool], seconds: float = 20.0
) -> dict[str, LocalAddress]:
    """Return the first snapshot that is so, by host."""
    by_host: dict[str, LocalAddress] = {}
    try:
        async with asyncio.timeout(seconds):
            async for snapshot in changes:
                by_host = {address.host: address for address in snapshot}
                if condition(by_host):
                    return by_host
    except TimeoutError:
        raise AssertionError(f"not told within {seconds:g} s: {by_host}") from None
    raise AssertionError("changes() ended")


async def addresses(changes: Changes) -> None:
    assert await anext(changes) == ()
    await change(state("lo", "up"), add("lo", "10.9.0.1"))
    seen = await until(changes, lambda by_host: "10.9.0.1" in by_host)
    assert seen["10.9.0.1"] == LocalAddress("10.9.0.1", "lo", index("lo"), 4, 24)
    await change(add("lo", "10.9.0.2"), add("lo", "fd09::1"))
    # Also where no duplicate is looked for, an address is tentative until the kernel has said so.
    seen = await until(
        changes,
        lambda by_host: (
            {"10.9.0.2", "fd09::1"} <= by_host.keys() and not by_host["fd09::1"].tentative
        ),
    )
    assert seen["fd09::1"] == LocalAddress("fd09::1", "lo", index("lo"), 6, 64)
    assert not seen["10.9.0.2"].temporary, "the second of a network is none"
    await change(add("lo", "10.8.0.1", local="10.8.0.2"))
    seen = await until(changes, lambda by_host: "10.8.0.2" in by_host)
    assert "10.8.0.1" not in seen, "the other end of a point-to-point link is not this host's"
    await change(add("lo", "fd08::1", preferred=0, valid=1000))
    seen = await until(changes, lambda by_host: "fd08::1" in by_host)
    assert seen["fd08::1"].deprecated
    await change(remove("lo", "10.9.0.2"), remove("lo", "fd09::1"))
    seen = await until(changes, lambda by_host: not {"10.9.0.2", "fd09::1"} & by_host.keys())
    assert "10.9.0.1" in seen


async def links(changes: Changes) -> None:
    await change(veth("net0", "far0"), state("net0", "up"), add("net0", "10.9.0.1"))
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.3):
            async for snapshot in changes:
                assert snapshot == (), "an interface without a carrier has no usable address"
    async with aclosing(system_addresses().changes()) as changes:
        await change(state("far0", "up"))
        await until(changes, lambda by_host: "10.9.0.1" in by_host)
        await change(state("far0", "down"))
        await until(changes, lambda by_host: "10.9.0.1" not in by_host)
        await change(state("far0", "up"))
        await until(changes, lambda by_host: "10.9.0.1" in by_host)
        await change(state("net0", "down"))
        await until(changes, lambda by_host: "10.9.0.1" not in by_host)
        await change(state("net0", "up"))
        await until(changes, lambda by_host: "10.9.0.1" in by_host)
        await change(lambda route: route.link("del", index=index("net0")))
        await until(changes, lambda by_host: not by_host)


async def routes(changes: Changes) -> None:
    await change(veth("net0", "far0"), state("far0", "up"), state("net0", "up"))
    await change(add("net0", "10.9.0.1"), add("net0", "10.9.0.2"), add("net0", "fd09::1"))
    seen = await until(
        changes, lambda by_host: "fd09::1" in by_host and not by_host["fd09::1"].tentative
    )
    assert not any(address.routed for address in seen.values()), "no route leads anywhere"
    for gateway, host in (("10.9.0.254", "10.9.0.1"), ("fd09::254", "fd09::1")):
        await change(default("add", gateway))
        seen = await until(changes, is_routed(host, True))
        assert not seen["10.9.0.2"].routed
        await change(default("del", gateway))
        await until(changes, is_routed(host, False))


async def duplicates(changes: Changes) -> None:
    await change(veth("net0", "far0"), state("far0", "up"), state("net0", "up"))
    await until(changes, lambda by_host: any(a.interface == "net0" for a in by_host.values()))
    await change(add("net0", "fd09::1"))
    seen = await until(changes, lambda by_host: "fd09::1" in by_host)
    assert seen["fd09::1"].tentative
    assert not usable(seen.values())
    seen = await until(
        changes, lambda by_host: "fd09::1" in by_host and not by_host["fd09::1"].tentative
    )
    assert [address.host for address in usable(seen.values())] == ["fd09::1"]


async def burst(changes: Changes) -> None:
    assert await anext(changes) == ()
    many = [f"10.9.0.{last}" for last in range(1, 51)]
    told = 0

    def all_there(by_host: dict[str, LocalAddress]) -> bool:
        nonlocal told
        told += 1
        return by_host.keys() >= set(many)

    loop = asyncio.get_running_loop()
    began = loop.time()
    await change(state("lo", "up"), *(add("lo", host) for host in many))
    await until(changes, all_there)
    took = loop.time() - began
    # At once, soon after, and each next one after twice as long: a busy machine takes long for the
    # burst, and then more of them have their time.
    pauses = [min(netlink.SOON * 2**turn, netlink.COALESCE) for turn in range(told - 1)]
    assert sum(pauses) <= took, f"{told} snapshots for a burst of {took * 1e3:.0f} ms"


async def overflow(_changes: Changes) -> None:
    overflows = 0

    class Small(socket.socket):
        """A socket that can hold two notices or so."""

        def recv(self, *arguments: Any) -> bytes:
            nonlocal overflows
            try:
                return super().recv(*arguments)
            except OSError as error:
                overflows += error.errno == errno.ENOBUFS
                raise

    def open_small() -> socket.socket:
        notices = Small(fileno=open_notices().detach())
        notices.setblocking(False)
        notices.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        return notices

    open_notices, netlink.open_notices = netlink.open_notices, open_small
    source = WatchedAddresses(netlink.read_netlink, netlink.netlink_notices)
    many = [f"10.9.0.{last}" for last in range(1, 51)]
    async with aclosing(source.changes()) as changes:
        assert await anext(changes) == ()
        await change(state("lo", "up"), *(add("lo", host) for host in many))
        await until(changes, lambda by_host: by_host.keys() >= set(many))
        assert overflows
        await change(remove("lo", many[-1]))
        await until(changes, lambda by_host: many[-1] not in by_host)


def another_namespace() -> None:
    """Go on in a new network namespace, whose interfaces nobody has touched."""
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "unshare")


async def main(scenario: Callable[[Changes], Any]) -> None:
    source = system_addresses()
    assert isinstance(source, WatchedAddresses)
    async with aclosing(source.changes()) as changes:
        await scenario(changes)


if __name__ == "__main__":
    scenario = {f.__name__: f for f in (addresses, links, routes, duplicates, burst, overflow)}[
        sys.argv[1]
    ]
    # That a step took long says how busy the machine is, and is no warning; nor in pyroute2's loop.
    logging.getLogger("asyncio").addFilter(lambda record: not record.msg.startswith("Executing"))
    for factory in (asyncio.SelectorEventLoop, uvloop.new_event_loop):
        print(f"with {factory.__name__}")
        another_namespace()
        with asyncio.Runner(debug=True, loop_factory=factory) as runner:
            runner.run(main(scenario))
