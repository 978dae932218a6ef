"""This host's addresses as they change: told at once, and only where they differ."""

import asyncio
import contextlib
from contextlib import aclosing

import pytest

from peers.host import source as addresses
from peers.host.address import snapshot
from peers.host.routing import with_routes
from peers.host.source import (
    Addresses,
    LocalAddress,
    WatchedAddresses,
    polled_addresses,
    read_ifaddr,
    system_addresses,
)


def at(host: str, interface: str = "eth0", index: int = 2, **flags: bool) -> LocalAddress:
    return LocalAddress(host, interface, index, 6 if ":" in host else 4, 64, **flags)


def hosts(found: Addresses) -> list[str]:
    return [address.host for address in found]


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
    async with asyncio.timeout(60), aclosing(source.changes()) as changes:
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
    async with asyncio.timeout(60), aclosing(source.changes()) as changes:
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
    assert await source.read() == with_routes(read_ifaddr())


def test_every_system_tells_of_loopback() -> None:
    found = read_ifaddr()
    assert found == snapshot(found)
    assert "127.0.0.1" in hosts(found)
    assert all(address.index for address in found if address.loopback)
