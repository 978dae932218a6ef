"""The next plane of a session: tickets in the 101, and early bytes."""

import asyncio
import json

import pytest

from protocol.errors import Code
from protocol.messages import MAX_EARLY, Mode, ServiceAnswer, ServiceRequestFrom, Verdict
from relay.config import RelayConfig
from relay.server import RelayServer
from tests.relay.client import registered, upgrade_with
from tests.relay.planes import SESSION, close, early, leg, refused, tickets


async def test_who_has_lost_everything_comes_back_with_the_ticket(relay: RelayServer) -> None:
    async with registered(relay.url, "chat") as bob:
        async with registered(relay.url) as alice:
            first, second = await tickets(alice, bob)
            a, again = await leg(relay, alice, first, early(b"hello, "))
            b, _ = await leg(relay, bob, second)
            a[1].write(b"bob")
            assert await asyncio.wait_for(b[0].readexactly(10), 60) == b"hello, bob"
        # Alice's control connection is gone, and so is her leg.
        await close(a)
        for _ in range(3):
            spent = again
            a2, again = await leg(relay, alice, spent, early(b"back "))
            asked = await bob.expect(ServiceRequestFrom)
            assert (asked.guid, asked.session, asked.mode) == (
                alice.identity.guid,
                SESSION,
                Mode.CENTRAL,
            )
            assert asked.resume
            assert asked.ticket is not None
            bob.send(ServiceAnswer(asked.request, Verdict.ACCEPTED))
            b2, _ = await leg(relay, bob, asked.ticket)
            a2[1].write(b"again")
            assert await asyncio.wait_for(b2[0].readexactly(10), 60) == b"back again"
            b2[1].write(b"welcome")
            assert await asyncio.wait_for(a2[0].readexactly(7), 60) == b"welcome"
            assert await refused(relay, alice, spent) == Code.TICKET_UNKNOWN
            await close(a2, b2)
        await close(b)


async def test_the_ticket_is_for_nobody_else(relay: RelayServer) -> None:
    async with registered(relay.url) as alice, registered(relay.url, "chat") as bob:
        first, second = await tickets(alice, bob)
        a, ticket = await leg(relay, alice, first)
        b, _ = await leg(relay, bob, second)
        assert await refused(relay, bob, ticket) == Code.TICKET_FOREIGN
        target = alice.plane_target(ticket, bob.identity.guid)  # Signed for another relay.
        _, writer, _, body = await upgrade_with(relay.url, target)
        writer.close()
        assert json.loads(body)["code"] == Code.TICKET_FOREIGN
        a2, _ = await leg(relay, alice, ticket)
        asked = await bob.expect(ServiceRequestFrom)
        bob.send(ServiceAnswer(asked.request, Verdict.REFUSED, code=Code.SESSION_UNKNOWN))
        assert await asyncio.wait_for(a2[0].read(), 60) == b"", "refused: the leg is closed"
        await close(a, b, a2)


async def test_while_the_other_peer_is_away_the_ticket_stays_good(relay: RelayServer) -> None:
    async with registered(relay.url) as alice:
        async with registered(relay.url, "chat") as bob:
            first, second = await tickets(alice, bob)
            a, ticket = await leg(relay, alice, first)
            b, _ = await leg(relay, bob, second)
        await close(a, b)
        assert await refused(relay, alice, ticket) == Code.PEER_OFFLINE
        assert await refused(relay, alice, ticket) == Code.PEER_OFFLINE
        assert not relay.planes.pending


@pytest.mark.parametrize(
    "header",
    ["Roam-Relay-Early: @@@\r\n", early(b"x" * (MAX_EARLY + 1)), early(b"x")[:-3] + "\r\n"],
)
async def test_early_bytes_that_cannot_be_read(relay: RelayServer, header: str) -> None:
    async with registered(relay.url) as alice, registered(relay.url, "chat") as bob:
        first, _ = await tickets(alice, bob)
        assert await refused(relay, alice, first, header) == Code.BAD_MESSAGE
        a, _ = await leg(relay, alice, first, early(b"x" * MAX_EARLY))
        await close(a)


async def test_coming_back_is_limited_like_requests() -> None:
    async with (
        RelayServer(RelayConfig(port=0, requests_burst=2, requests_per_second=0.01)) as relay,
        registered(relay.url) as alice,
        registered(relay.url, "chat") as bob,
    ):
        first, second = await tickets(alice, bob)
        a, ticket = await leg(relay, alice, first)
        b, _ = await leg(relay, bob, second)
        a2, ticket = await leg(relay, alice, ticket)
        assert await refused(relay, alice, ticket) == Code.LIMIT_EXCEEDED
        await close(a, b, a2)
