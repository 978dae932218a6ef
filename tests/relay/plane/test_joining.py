"""Planes: tickets, joining, half-close, back pressure."""

import asyncio
import hashlib
import json
import os

import pytest

from protocol.errors import Code
from protocol.messages import (
    Mode,
    ServiceAnswer,
    ServiceRequestFrom,
    ServiceRequestTo,
    ServiceResponse,
    Verdict,
)
from relay.server import RelayServer
from tests.relay.client import registered, upgrade
from tests.relay.planes import SESSION, tickets


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
        received = await asyncio.wait_for(reader_b.read(-1), 20)
        await writing
        assert hashlib.sha256(received).digest() == hashlib.sha256(data).digest()
        # The other way still lives.
        writer_b.write(b"and back")
        writer_b.write_eof()
        assert await asyncio.wait_for(reader_a.read(-1), 10) == b"and back"
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
        while piece := await asyncio.wait_for(reader_b.read(1 << 20), 10):
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
        assert await asyncio.wait_for(reader_b.read(1), 10) == b""
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
        assert await asyncio.wait_for(reader.read(1), 10) == b""
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
