"""Planes: tickets, joining, half-close, back pressure."""

import asyncio
import hashlib
import json
import logging
import os
from typing import Any

import aiohttp
import pytest

from protocol.errors import Code
from protocol.messages import (
    WEBSOCKET_PROTOCOL,
    Mode,
    ServiceAnswer,
    ServiceRequestFrom,
    ServiceRequestTo,
    ServiceResponse,
    Verdict,
)
from relay.server import RelayServer
from tests.relay.client import registered, upgrade
from tests.relay.planes import SESSION, close, early, leg, tickets


async def code_of(url: str, target: str) -> tuple[int, str]:
    _, writer, status, body = await upgrade(url, target)
    writer.close()
    return status, json.loads(body)["code"]


async def test_bytes_pass_both_ways_and_each_way_ends_by_itself(relay: RelayServer) -> None:
    async with registered(relay.url) as alice, registered(relay.url, "chat") as bob:
        first, second = await tickets(alice, bob)
        target = alice.plane_target(first, relay.guid)
        reader_a, writer_a, status, _ = await upgrade(relay.url, target)
        assert status == 101
        target = bob.plane_target(second, relay.guid)
        reader_b, writer_b, status, _ = await upgrade(relay.url, target)
        assert status == 101
        data = os.urandom(8 << 20)

        async def write() -> None:
            writer_a.write(data)
            await writer_a.drain()
            writer_a.write_eof()

        writing = asyncio.create_task(write())
        received = await asyncio.wait_for(reader_b.read(-1), 60)
        await writing
        assert hashlib.sha256(received).digest() == hashlib.sha256(data).digest()
        # The other way still lives.
        writer_b.write(b"and back")
        writer_b.write_eof()
        assert await asyncio.wait_for(reader_a.read(-1), 60) == b"and back"
        assert relay.metrics.plane_bytes == len(data) + 8
        assert set(relay.metrics.plane_bytes_by_way) == {"splice"}
        for writer in (writer_a, writer_b):
            writer.close()
            await writer.wait_closed()
        assert relay.metrics.planes_closed["finished"] == 1
        assert not relay.planes.live


async def test_a_slow_reader_stops_its_writer_and_nothing_piles_up(relay: RelayServer) -> None:
    async with registered(relay.url) as alice, registered(relay.url, "chat") as bob:
        first, second = await tickets(alice, bob)
        _, writer_a, _, _ = await upgrade(relay.url, alice.plane_target(first, relay.guid))
        reader_b, writer_b, _, _ = await upgrade(relay.url, bob.plane_target(second, relay.guid))
        writer_b.transport.pause_reading()
        data = bytes(64 << 20)
        writer_a.write(data)
        moved = -1
        # Until nothing moves any more: then all buffers on the way are full.
        while moved != relay.metrics.plane_bytes:
            moved = relay.metrics.plane_bytes
            for _ in range(200):
                await asyncio.sleep(0.001)
        assert moved < len(data)
        writer_b.transport.resume_reading()
        writer_a.write_eof()
        size = 0
        while piece := await asyncio.wait_for(reader_b.read(1 << 20), 60):
            size += len(piece)
        assert size == len(data)
        writer_a.close()
        writer_b.close()


async def test_a_leg_that_dies_ends_the_other(relay: RelayServer) -> None:
    async with registered(relay.url) as alice, registered(relay.url, "chat") as bob:
        first, second = await tickets(alice, bob)
        _, writer_a, _, _ = await upgrade(relay.url, alice.plane_target(first, relay.guid))
        reader_b, writer_b, _, _ = await upgrade(relay.url, bob.plane_target(second, relay.guid))
        writer_a.write(b"x")
        assert await reader_b.readexactly(1) == b"x"
        writer_a.transport.abort()
        assert await asyncio.wait_for(reader_b.read(1), 60) == b""
        writer_b.close()


async def test_tickets_that_do_not_admit(relay: RelayServer) -> None:
    async with registered(relay.url) as alice, registered(relay.url, "chat") as bob:
        first, second = await tickets(alice, bob)
        url, guid = relay.url, relay.guid
        unknown = "0" * 32
        assert await code_of(url, alice.plane_target(unknown, guid)) == (404, "ticket_unknown")
        assert await code_of(url, bob.plane_target(first, guid)) == (403, "ticket_foreign")
        # A stolen GUID without its key does not help either.
        stolen = bob.plane_target(first, guid).replace(bob.identity.guid, alice.identity.guid)
        assert await code_of(url, stolen) == (403, "ticket_foreign")
        assert await code_of(url, f"/v1/plane/{first}") == (400, "bad_message")
        malformed = f"/v1/plane/{first}?guid={alice.identity.guid}&signature=%2A"
        assert await code_of(url, malformed) == (400, "bad_message")
        # None of these used it up.
        reader, writer, status, _ = await upgrade(url, alice.plane_target(first, guid))
        assert status == 101
        assert await code_of(url, alice.plane_target(first, guid)) == (409, "ticket_used")
        # The other leg does not come.
        relay.planes.sweep(asyncio.get_running_loop().time() + 120)
        assert await asyncio.wait_for(reader.read(1), 60) == b""
        assert await code_of(url, alice.plane_target(first, guid)) == (409, "ticket_used")
        assert await code_of(url, bob.plane_target(second, guid)) == (410, "ticket_expired")
        assert relay.metrics.planes_closed["expired"] == 1
        writer.close()


@pytest.mark.parametrize("verdict", list(Verdict))
async def test_a_plane_without_legs_leaves_nothing(relay: RelayServer, verdict: Verdict) -> None:
    async with registered(relay.url) as alice, registered(relay.url, "chat") as bob:
        alice.send(ServiceRequestTo(1, bob.identity.guid, "chat", Mode.CENTRAL, SESSION))
        asked = await bob.expect(ServiceRequestFrom)
        bob.send(ServiceAnswer(asked.request, verdict, "no"))
        answer = await alice.expect(ServiceResponse)
        assert (answer.code is Code.REFUSED) == (verdict is Verdict.REFUSED)
        relay.planes.sweep(asyncio.get_running_loop().time() + 60)
        assert relay.planes.pending == 0


def words_of(record: logging.LogRecord) -> dict[str, Any]:
    return dict(getattr(record, "relay_fields", {}))


@pytest.mark.parametrize("carrier", ["raw", "websocket"])
async def test_the_end_of_a_plane_is_told_whole(
    relay: RelayServer, caplog: pytest.LogCaptureFixture, carrier: str
) -> None:
    """Who has had it, for what and how long, and how many bytes went which way."""
    caplog.set_level("INFO", "relay")
    async with registered(relay.url) as alice, registered(relay.url, "chat") as bob:
        first, second = await tickets(alice, bob)
        # The callee's leg comes first: which way is whose does not go by who has come first.
        (_, theirs), _ = await leg(relay, bob, second, early(b"12345"))
        if carrier == "raw":
            (reader, own), _ = await leg(relay, alice, first)
            own.write(b"x" * 1000)
            own.write_eof()
            theirs.write(b"y" * 20)
            theirs.write_eof()
            assert await asyncio.wait_for(reader.read(-1), 60) == b"12345" + b"y" * 20
            await close((reader, own))
        else:
            target = alice.plane_target(first, relay.guid)
            async with (
                aiohttp.ClientSession(relay.url) as http,
                http.ws_connect(target, protocols=(WEBSOCKET_PROTOCOL,)) as websocket,
            ):
                await websocket.send_bytes(b"x" * 1000)
                theirs.write(b"y" * 20)
                theirs.write_eof()
                got = b""
                while len(got) < 25:
                    got += await asyncio.wait_for(websocket.receive_bytes(), 60)
        theirs.close()
        async with asyncio.timeout(60):
            while relay.planes.live:
                await asyncio.sleep(0.01)
    (ended,) = [one for one in map(words_of, caplog.records) if one.get("event") == "plane ended"]
    assert (ended["caller"], ended["callee"]) == (alice.identity.guid, bob.identity.guid)
    assert (ended["mode"], ended["service"]) == ("central", "chat")
    assert (ended["bytes_from_caller"], ended["bytes_from_callee"]) == (1000, 25)
    assert 0 <= ended["seconds"] < 60
    assert ended["reason"] in ("finished", "reset")
    tally = relay.metrics.tally
    assert (tally.of(alice.identity.guid).planes, tally.of(bob.identity.guid).planes) == (1, 1)
    assert tally.of(alice.identity.guid).sent >= 1000
    assert tally.of(bob.identity.guid).received >= 1000
