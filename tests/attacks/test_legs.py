"""Legs of planes that nobody may take: under another's name, with a ticket that was seen."""

import asyncio
import json

from protocol.identity import Identity
from relay.config import RelayConfig
from relay.server import RelayServer
from tests.attacks.honest import EVIL, GOOD, Honest, honest
from tests.relay.client import Client, upgrade_with
from tests.relay.planes import close, leg, resume_ticket


def forged(peers: Honest, ticket: str) -> str:
    """Return the request for somebody's leg, signed by somebody else."""
    stranger = Client(Identity.generate(), peers.caller.reader, peers.caller.writer)
    target = stranger.plane_target(ticket, peers.relay.guid)
    return target.replace(stranger.identity.guid, peers.caller.identity.guid)


async def outcome(relay: RelayServer, target: str, source: str) -> str:
    _, writer, head, body = await upgrade_with(relay.url, target, source=source)
    writer.close()
    return "101" if head.split()[1] == b"101" else str(json.loads(body)["code"])


async def test_what_is_not_proven_is_charged_to_where_it_comes_from() -> None:
    config = RelayConfig(port=0, requests_per_second=0.01, requests_burst=3, work_per_network=0.01)
    async with RelayServer(config) as relay, honest(relay) as peers:
        # The first plane, and the ticket for the next one, which somebody has seen.
        own, other = await peers.tickets()
        _, writer, head, _ = await upgrade_with(
            relay.url, peers.caller.plane_target(own, relay.guid), source=GOOD
        )
        callee, _ = await leg(relay, peers.callee, other)
        await close(callee)
        writer.close()
        ticket = resume_ticket(head)
        # Together: a busy machine would let what they have used come back meanwhile.
        codes = await asyncio.gather(
            *(outcome(relay, forged(peers, ticket), EVIL) for _ in range(60))
        )
        assert set(codes) <= {"ticket_foreign", "limit_exceeded"}
        assert relay.metrics.limited["work"] > 0, "its network has had its share, and waits"
        # The peer's own rate is as it was: one of three was for the first plane.
        await peers.look_up()
        target = peers.caller.plane_target(ticket, relay.guid)
        assert await outcome(relay, target, GOOD) == "101"
