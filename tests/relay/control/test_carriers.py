"""Carriers: a peer that does not read hinders nobody."""

import asyncio

from protocol.errors import Code
from protocol.messages import (
    Error,
    Mode,
    ServiceAnswer,
    ServiceRequestFrom,
    ServiceRequestTo,
    ServiceResponse,
    Verdict,
)
from relay.server import RelayServer
from tests.relay.client import Client, registered

SESSION = b"s" * 16


def request(callee: Client, number: int = 1, mode: Mode = Mode.COMBINED, timeout: float = 5.0):
    return ServiceRequestTo(number, callee.identity.guid, "chat", mode, SESSION, (), timeout)


async def test_a_frozen_peer_hinders_nobody_and_is_aborted(relay: RelayServer) -> None:
    async with (
        registered(relay.url) as alice,
        registered(relay.url, "chat") as bob,
        registered(relay.url, "chat") as cathy,
    ):
        assert cathy.identity.guid
        cathy.writer.transport.pause_reading()
        # Far more than the sockets' buffers and her outbox hold; nobody waits for her.
        connection = relay.registry.get(cathy.identity.guid).primary  # type: ignore[union-attr]
        reason = "r" * 500
        while not connection.is_closed:  # type: ignore[union-attr]
            connection.send(Error(Code.INTERNAL, reason))  # type: ignore[union-attr]
            await asyncio.sleep(0)
        assert relay.metrics.closes[Code.SLOW_CONSUMER.value] == 1
        alice.send(request(bob))
        asked = await bob.expect(ServiceRequestFrom)
        bob.send(ServiceAnswer(asked.request, Verdict.ACCEPTED, "", (bob.entry("chat", 1),)))
        answer = await alice.expect(ServiceResponse)
        assert answer.code is None
        assert len(answer.entries) == 1
        alice.send(request(cathy, 2))
        assert (await alice.expect(ServiceResponse)).code is Code.PEER_OFFLINE


async def test_the_write_deadline_aborts_a_peer_that_stops_reading(relay: RelayServer) -> None:
    async with registered(relay.url) as cathy:
        cathy.writer.transport.pause_reading()
        connection = relay.registry.get(cathy.identity.guid).primary  # type: ignore[union-attr]
        carrier = connection._carrier  # type: ignore[union-attr]
        while not carrier._paused:
            connection.send(Error(Code.INTERNAL, "r" * 500))  # type: ignore[union-attr]
            await asyncio.sleep(0)
        await asyncio.wait_for(asyncio.shield(carrier.closed), 5)
        assert relay.metrics.closes[Code.SLOW_CONSUMER.value] == 1
