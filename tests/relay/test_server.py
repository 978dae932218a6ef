"""Start and end of a relay: whole, or not at all, whoever is cancelled and whatever raises."""

import asyncio
import contextlib
import gc
import os
import socket
from pathlib import Path
from time import monotonic
from typing import Any, cast

import pytest
from msgspec import structs

from protocol import lateness
from relay.config import ConfigError, DnsConfig, RelayConfig, Siblings
from relay.control import ControlConnection
from relay.dns import DnsServer
from relay.http.door import TurnedAway
from relay.http.origin import Origin
from relay.plane import Planes
from relay.server import RelayServer
from tests.relay.certificates import certificate
from tests.relay.client import registered
from tests.support.scale import of

TURNS = range(40)
"""Turns of the loop before the cancellation: more than a start or an end takes awaits."""


def config(folder: Path) -> RelayConfig:
    dns = DnsConfig(zone="example.org", port=0, store=str(folder / "dns.sqlite"))
    return RelayConfig(port=0, dns=dns)


def open_now() -> tuple[int, set[asyncio.Task[object]]]:
    return len(os.listdir("/proc/self/fd")), asyncio.all_tasks()


async def closes_to(before: tuple[int, set[asyncio.Task[object]]]) -> None:
    async with asyncio.timeout(60):
        while open_now() != before:
            await asyncio.sleep(0.01)
            gc.collect()


async def cancelled_after(turns: int, task: asyncio.Task[object]) -> None:
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def warm_up(folder: Path) -> None:
    """What a process opens once, it keeps."""
    async with RelayServer(config(folder)):
        pass


async def test_a_start_that_is_cancelled_leaves_nothing_open(tmp_path: Path) -> None:
    await warm_up(tmp_path)
    before = open_now()
    entered = 0
    for turns in TURNS:
        server = RelayServer(config(tmp_path))
        task = asyncio.create_task(server.__aenter__())
        await cancelled_after(turns, task)
        if not task.cancelled():
            entered += 1
            await server.__aexit__(None, None, None)
        await closes_to(before)
    assert entered < len(TURNS), "some were cancelled on the way"


async def test_an_end_that_is_cancelled_closes_everything(tmp_path: Path) -> None:
    await warm_up(tmp_path)
    before = open_now()
    # A task that is cancelled before its first step does not begin.
    for turns in TURNS[1 :: of(3, 1)]:
        server = RelayServer(config(tmp_path))
        await server.__aenter__()
        async with registered(server.url, "chat"):
            task = asyncio.create_task(server.__aexit__(None, None, None))
            await cancelled_after(turns, task)
        await closes_to(before)


async def test_a_block_that_is_cancelled_again_and_again(tmp_path: Path) -> None:
    await warm_up(tmp_path)
    before = open_now()
    inside = asyncio.Event()

    async def serve() -> None:
        async with RelayServer(config(tmp_path)):
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(serve())
    await inside.wait()
    while not task.done():
        task.cancel()
        await asyncio.sleep(0)
    assert task.cancelled()
    await closes_to(before)


class Broken(Exception):
    """Nobody expects this one."""


@pytest.mark.parametrize(
    ("owner", "step"), [(Planes, "close"), (ControlConnection, "abort"), (DnsServer, "close")]
)
@pytest.mark.expected_errors("a step failed")
async def test_a_step_of_the_end_that_raises_keeps_no_other_from_its_turn(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    owner: type,
    step: str,
) -> None:
    await warm_up(tmp_path)
    before = open_now()
    original = getattr(owner, step)

    def fail(self: object, *arguments: object) -> object:
        done = original(self, *arguments)
        if not asyncio.iscoroutine(done):
            raise Broken

        async def wait() -> None:
            await done
            raise Broken

        return wait()

    monkeypatch.setattr(owner, step, fail)
    async with RelayServer(config(tmp_path)) as server, registered(server.url, "chat"):
        pass
    assert {record.exc_info[0] for record in caplog.records if record.exc_info} == {Broken}
    del server
    await closes_to(before)


@pytest.mark.parametrize("error", [Broken, OSError, ConfigError])
async def test_a_start_that_fails_half_way_listens_no_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    await warm_up(tmp_path)
    before = open_now()
    start = DnsServer.start

    async def fail(self: DnsServer, port: int, **more: bool) -> None:
        await start(self, port, **more)
        raise error

    monkeypatch.setattr(DnsServer, "start", fail)
    server = RelayServer(config(tmp_path))
    with pytest.raises(error):
        await server.__aenter__()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", int(server.url.rpartition(":")[2]))
    await closes_to(before)


async def test_a_port_that_is_taken(tmp_path: Path) -> None:
    await warm_up(tmp_path)
    before = open_now()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1 port {port}"):
            async with RelayServer(RelayConfig(port=port)):
                pass
    await closes_to(before)


async def test_what_can_be_reloaded_is_and_the_rest_is_named() -> None:
    old = RelayConfig(port=0, connects_per_second=0.001, connects_burst=1)
    async with RelayServer(old) as relay:
        new = structs.replace(
            old, drain_timeout=0.5, connects_burst=3, max_connections=2, host="::1", lease=60.0
        )
        place = relay.doorkeeper.admit(Origin("192.0.2.1", 1), monotonic())
        with pytest.raises(TurnedAway):
            relay.doorkeeper.admit(Origin("192.0.2.1", 1), monotonic())
        assert relay.reload(new) == ("host", "lease")
        assert (relay.config.drain_timeout, relay.config.host) == (0.5, "127.0.0.1")
        relay.doorkeeper.admit(Origin("192.0.2.2", 1), monotonic())
        with pytest.raises(TurnedAway):
            relay.doorkeeper.admit(Origin("192.0.2.3", 1), monotonic())
        place.release()
        relay.doorkeeper.admit(Origin("192.0.2.3", 1), monotonic())
        # Said again until it is restarted: it is still so.
        assert relay.reload(new) == ("host", "lease")
        assert relay.reload(old) == ()


async def test_a_certificate_for_a_relay_without_one_needs_a_restart(tmp_path: Path) -> None:
    chain, key = certificate(tmp_path)
    async with RelayServer(RelayConfig(port=0)) as relay:
        with_tls = structs.replace(relay.config, tls_certificate=chain, tls_key=key)
        assert relay.reload(with_tls) == ("tls_certificate", "tls_key")


@pytest.mark.parametrize("host", ["a..b", "a" * 70, "nowhere.invalid", "::zz"])
async def test_a_host_that_is_none_is_said(host: str) -> None:
    with pytest.raises(ConfigError, match=r"cannot listen on|not an address or a name"):
        async with RelayServer(RelayConfig(port=0, host=host)):
            pass


async def test_nobody_is_judged_silent_by_a_beat_that_was_held_up_before_all_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """libuv runs timers before it reads: a relay that was stopped would drop everybody."""
    story: list[tuple[str, float]] = []
    clock = [1000.0]
    late = {10: 60.0, 21: 60.0, 22: 60.0}
    """How much later than asked for these sleeps end."""

    class Silent:
        def watch_time(self, now: float) -> None:
            story.append(("judged", now))

    async def sleep(seconds: float) -> None:
        story.append(("slept", seconds))
        slept = sum(what == "slept" for what, _ in story)
        if slept == 34:
            raise asyncio.CancelledError
        clock[0] += seconds + late.get(slept, 0.0)

    server = RelayServer(RelayConfig(port=0))
    monkeypatch.setattr("relay.server.monotonic", lambda: clock[0])
    monkeypatch.setattr("asyncio.sleep", sleep)
    cast(Any, server.connections).add(Silent())
    with pytest.raises(asyncio.CancelledError):
        await server._keep_time()
    turn = lateness.TURN
    judged = [number for number, (what, _) in enumerate(story) if what == "judged"]
    before = [[seconds for _, seconds in story[number - 2 : number]] for number in judged]
    assert before == [[0.1, turn], [turn, turn], [0.1, 0.1]]


async def test_what_the_operator_says_elsewhere_is_read_one_time_after_the_other() -> None:
    async with RelayServer(RelayConfig(port=0), siblings=Siblings(book=None)) as relay:
        reading, beats = 0, asyncio.Event()
        refresh, expire = asyncio.Event(), relay.proofs.expire
        count = 0

        async def slow() -> bool:
            nonlocal reading
            reading += 1
            await refresh.wait()
            return False

        def beat(now: float) -> None:
            nonlocal count
            count += reading > 0
            if count >= 8:
                beats.set()
            expire(now)

        relay.admission.book.refresh = slow  # type: ignore[method-assign]
        relay.proofs.expire = beat  # type: ignore[method-assign]
        async with asyncio.timeout(60):
            await beats.wait()
        assert reading == 1
