"""A relay that drains, and the next one that starts meanwhile on its ports and with its state."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import dns.asyncquery
import dns.flags
import dns.message
import pytest

from protocol.identity import Identity
from relay.config import ConfigError, DnsConfig, RelayConfig
from relay.dns import DnsStore
from relay.operator import Ban, Bans, BansShown, Peers, PeersShown, ask
from relay.server import RelayServer
from relay.succession import Succession, has_given_way
from tests.relay.client import registered, upgrade
from tests.relay.planes import Streams, close, leg, tickets
from tests.support.ports import free_port
from tests.support.processes import environment

ALICE = Identity.from_seed(bytes([1]) * 32)
RELAY = Identity.from_seed(bytes([9]) * 32)
LONG = 60.0


def whole(folder: Path, **more: object) -> RelayConfig:
    """A relay with everything that a second one could be in the way of."""
    zone = DnsConfig(zone="example.org", port=free_port(), store="zone.sqlite")
    ports = {"port": free_port(), "observe_port": free_port()}
    settings = ports | {"dns": zone, "state": str(folder / "state")}
    return RelayConfig(**{"drain_timeout": LONG} | settings | more)  # type: ignore[arg-type]


@contextlib.asynccontextmanager
async def draining(relay: RelayServer) -> AsyncIterator[tuple[Streams, Streams]]:
    """Have a relay drain that has a plane: yields the plane's two ends."""
    async with registered(relay.url) as alice, registered(relay.url, "chat") as bob:
        first, second = await tickets(alice, bob)
        one, _ = await leg(relay, alice, first)
        other, _ = await leg(relay, bob, second)
    drained = asyncio.create_task(relay.drain())
    async with asyncio.timeout(LONG):
        while not relay.draining:
            await asyncio.sleep(0)
        while relay.connections:
            await asyncio.sleep(0.01)
    assert not drained.done()
    try:
        yield one, other
    finally:
        await close(one, other)
        async with asyncio.timeout(LONG):
            await drained


async def moves(one: Streams, other: Streams) -> bool:
    """Whether bytes still pass."""
    one[1].write(b"hello")
    return await asyncio.wait_for(other[0].readexactly(5), LONG) == b"hello"


async def status(url: str, path: str) -> int:
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as http,
        http.get(url + path) as answer,
    ):
        return answer.status


async def serves_zone(port: int) -> bool:
    question = dns.message.make_query("example.org", "SOA")
    for way in (dns.asyncquery.udp, dns.asyncquery.tcp):
        if not (await way(question, "127.0.0.1", LONG, port)).answer:  # type: ignore[operator]
            return False
    return True


async def test_while_it_drains_it_says_so_until_the_end() -> None:
    """By new connections too: what asks whether a relay is ready opens one each time."""
    async with RelayServer(RelayConfig(port=0, drain_timeout=LONG)) as relay:
        async with draining(relay) as (one, other):
            for _ in range(2):
                assert await status(relay.url, "/readyz") == 503
                assert await status(relay.url, "/healthz") == 200
                assert await status(relay.url, "/metrics") == 200
                assert await moves(one, other)
            for target in ("/v1/control", f"/v1/plane/{'0' * 32}"):
                _, writer, code, body = await upgrade(relay.url, target)
                writer.close()
                assert code == 503
                assert b'"restarting"' in body
        assert await status(relay.url, "/readyz") == 503
        assert await status(relay.url, "/healthz") == 200
    with pytest.raises(aiohttp.ClientError):
        await status(relay.url, "/healthz")


async def test_who_drains_again_is_heard_as_before() -> None:
    async with RelayServer(RelayConfig(port=0)) as relay:
        for _ in range(2):
            await relay.drain()
            assert await status(relay.url, "/readyz") == 503


async def test_the_next_one_has_everything_at_once_and_planes_of_the_last_one_go_on(
    tmp_path: Path,
) -> None:
    config = whole(tmp_path)
    assert config.dns is not None
    path = config.in_state(config.operator_socket)
    async with RelayServer(config, RELAY) as last:
        await ask(path, Ban(ALICE.guid, reason="spam"))
        async with draining(last) as (one, other):
            assert await serves_zone(config.dns.port), "nobody else does yet"
            async with RelayServer(config, RELAY) as following:
                assert await moves(one, other)
                assert await status(following.url, "/readyz") == 200
                assert await serves_zone(config.dns.port)
                bans = await ask(path, Bans())
                assert isinstance(bans, BansShown)
                assert [ban.subject for ban in bans.bans] == [ALICE.guid]
                # And whom the last one has known: they are away, and not unknown.
                async with asyncio.timeout(LONG):
                    while len(following.registry) < 2:
                        await asyncio.sleep(0.01)
                async with registered(following.url, "chat"):
                    assert len(following.connections) == 1
                    listed = await ask(path, Peers())
                    assert isinstance(listed, PeersShown)
                    assert listed.total == 1
                # The end of the last one takes nothing from the one that follows.
                await close(one, other)
                async with asyncio.timeout(LONG):
                    while last.planes.live:
                        await asyncio.sleep(0.01)
                await last.__aexit__(None, None, None)
                assert isinstance(await ask(path, Peers()), PeersShown)
                assert await status(following.url, "/healthz") == 200
                assert await serves_zone(config.dns.port)
                with pytest.raises(ConfigError, match="another relay uses"):
                    async with RelayServer(config, RELAY):
                        pass


async def test_the_zone_is_read_when_the_last_one_has_written_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where nothing but the zone is the same: another port, and no state folder."""
    zone = DnsConfig(zone="example.org", port=free_port(), store=str(tmp_path / "zone.sqlite"))
    config = RelayConfig(port=0, dns=zone, drain_timeout=LONG)
    async with RelayServer(config, RELAY) as last, draining(last) as (one, other):
        opened = []
        original = DnsStore.open

        async def watched(self: DnsStore, *told: Any) -> object:
            opened.append(last._succession.is_over)
            return await original(self, *told)

        monkeypatch.setattr(DnsStore, "open", watched)
        async with RelayServer(config, RELAY):
            assert opened == [True]
            assert await serves_zone(zone.port)
            assert await moves(one, other)


async def test_one_that_does_not_drain_keeps_what_it_has(tmp_path: Path) -> None:
    config = whole(tmp_path)
    path = config.in_state(config.operator_socket)
    async with RelayServer(config, RELAY) as relay, registered(relay.url, "chat"):
        with pytest.raises(ConfigError, match="another relay uses"):
            async with RelayServer(config):
                pass
        with pytest.raises(ConfigError, match="another program listens there"):
            async with RelayServer(RelayConfig(port=config.port)):
                pass
        assert await status(relay.url, "/readyz") == 200
        assert isinstance(await ask(path, Peers()), PeersShown)
        assert len(relay.connections) == 1


async def test_what_is_given_up_is_given_up_once(tmp_path: Path) -> None:
    times = []

    async def give_up() -> None:
        times.append(1)
        await asyncio.sleep(0.05)

    succession = Succession(give_up)
    assert await succession.open(["test/a", "test/b"])
    other = Succession(give_up)
    assert not await other.open(["test/c", "test/b"]), "somebody has the name"
    assert not await has_given_way("test/c"), "then it keeps none"
    assert await asyncio.gather(*map(has_given_way, ["test/a", "test/b", "test/a"])) == [True] * 3
    assert times == [1]
    assert succession.is_over
    assert not other.is_over
    await succession.close()
    await other.close()
    assert not await has_given_way("test/a")
    assert not await has_given_way("test/nobody")


async def test_a_name_that_another_has_taken_costs_the_health_and_nothing_else(
    caplog: pytest.LogCaptureFixture,
) -> None:
    config = RelayConfig(port=free_port(), drain_timeout=LONG)
    with socket.socket(socket.AF_UNIX) as squatter:
        squatter.bind(f"\0roam-relay/{os.geteuid()}/port/{config.port}")
        async with RelayServer(config) as last, draining(last) as (one, other):
            with pytest.raises(aiohttp.ClientError):
                await status(last.url, "/readyz")
            async with RelayServer(config) as following:
                assert await status(following.url, "/readyz") == 200
                assert await moves(one, other)
    assert "cannot be asked to give way" in caplog.text


async def test_one_that_does_not_answer_is_waited_for_and_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("relay.succession._PATIENCE", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.socket(socket.AF_UNIX) as stopped:
        port = taken.getsockname()[1]
        stopped.bind(f"\0roam-relay/{os.geteuid()}/port/{port}")
        stopped.listen()
        with pytest.raises(ConfigError, match="another program listens there"):
            async with RelayServer(RelayConfig(port=port)):
                pass


async def test_an_upgrade_with_both_processes_alive(tmp_path: Path) -> None:
    zone_port, port = free_port(), free_port()
    file = tmp_path / "relay.toml"
    file.write_text(
        f'state = "{tmp_path / "state"}"\nidentity = "relay.key"\nport = {port}\n'
        f"drain_timeout = {LONG}\n"
        f'[dns]\nzone = "example.org"\nport = {zone_port}\nstore = "zone.sqlite"\n'
    )
    url = f"http://127.0.0.1:{port}"
    (tmp_path / "state").mkdir(mode=0o700)
    (tmp_path / "state" / "relay.key").write_bytes(RELAY.to_pem())
    (tmp_path / "state" / "relay.key").chmod(0o600)
    processes: list[asyncio.subprocess.Process] = []

    async def start() -> None:
        ready = tmp_path / f"ready-{len(processes)}"
        with (tmp_path / f"log-{len(processes)}").open("wb") as said:
            words = ("serve", "--config", str(file), "--ready-file", str(ready))
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "relay", *words, "--log-format", "json"),
                env=environment(),
                stderr=said,
                stdout=subprocess.DEVNULL,
            )
        processes.append(process)
        async with asyncio.timeout(LONG):
            while not ready.exists():
                assert process.returncode is None, said_by(len(processes) - 1)
                await asyncio.sleep(0.01)

    def said_by(number: int) -> str:
        return (tmp_path / f"log-{number}").read_text()

    try:
        await start()
        async with registered(url) as alice, registered(url, "chat") as bob:
            assert alice.challenge is not None
            first, second = await tickets(alice, bob)
            streams = []
            for one, ticket in ((alice, first), (bob, second)):
                reader, writer, code, _ = await upgrade(url, one.plane_target(ticket, RELAY.guid))
                assert code == 101
                streams.append((reader, writer))
        processes[0].send_signal(signal.SIGTERM)
        async with asyncio.timeout(LONG):
            while await status(url, "/readyz") != 503:
                await asyncio.sleep(0.01)
        await start()
        assert processes[0].returncode is None
        assert await moves(streams[0], streams[1])
        assert await status(url, "/readyz") == 200
        assert await serves_zone(zone_port)
        async with registered(url, "chat"):
            pass
        await close(*streams)
        async with asyncio.timeout(LONG):
            assert await processes[0].wait() == 0
        assert await status(url, "/readyz") == 200
        assert "the next relay has asked" in said_by(0)
        assert "Traceback" not in said_by(0) + said_by(1)
    finally:
        for process in processes:
            if process.returncode is None:
                process.terminate()
        for process in processes:
            async with asyncio.timeout(LONG):
                await process.wait()
