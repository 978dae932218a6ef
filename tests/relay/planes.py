"""Planes by hand: tickets, legs, and what a leg is refused with."""

import asyncio
import base64
import contextlib
import json
import re

from protocol.messages import (
    Mode,
    ServiceAnswer,
    ServiceRequestFrom,
    ServiceRequestTo,
    ServiceResponse,
    Verdict,
)
from relay.server import RelayServer
from tests.relay.client import Client, upgrade_with

SESSION = b"p" * 16

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def tickets(alice: Client, bob: Client) -> tuple[str, str]:
    alice.send(ServiceRequestTo(1, bob.identity.guid, "chat", Mode.CENTRAL, SESSION))
    asked = await bob.expect(ServiceRequestFrom)
    bob.send(ServiceAnswer(asked.request, Verdict.ACCEPTED))
    answer = await alice.expect(ServiceResponse)
    assert answer.ticket is not None
    assert asked.ticket is not None
    assert answer.ticket != asked.ticket
    assert answer.entries == asked.entries == ()
    return answer.ticket, asked.ticket


def resume_ticket(head: bytes) -> str:
    found = re.search(rb"roam-relay-resume: ([0-9a-f]{32})\r\n", head, re.IGNORECASE)
    assert found is not None, head
    return found[1].decode()


def early(data: bytes) -> str:
    return f"Roam-Relay-Early: {base64.b64encode(data).decode()}\r\n"


async def leg(
    relay: RelayServer,
    client: Client,
    ticket: str,
    headers: str = "",
    source: str | None = None,
) -> tuple[Streams, str]:
    reader, writer, head, body = await upgrade_with(
        relay.url, client.plane_target(ticket, relay.guid), headers, source=source
    )
    assert head.split()[1] == b"101", (head, body)
    return (reader, writer), resume_ticket(head)


async def refused(relay: RelayServer, client: Client, ticket: str, headers: str = "") -> str:
    _, writer, _, body = await upgrade_with(
        relay.url, client.plane_target(ticket, relay.guid), headers
    )
    writer.close()
    return str(json.loads(body)["code"])


async def close(*streams: Streams) -> None:
    for _, writer in streams:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
