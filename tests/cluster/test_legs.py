"""Legs of planes that are at another node than the one where they come."""

import asyncio
import json
import logging
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
from relay.backplane import tag_of
from relay.server import RelayServer
from tests.cluster.nats import TIMEOUT, NatsServer, cluster, known
from tests.relay.client import Client, client, registered, upgrade, upgrade_with


async def asked(
    caller: Client, callee: Client, *, resume: bool = False
) -> tuple[ServiceRequestFrom, ServiceResponse]:
    """Ask for a session over a plane, and accept it; return what each side is told."""
    caller.send(
        ServiceRequestTo(
            7, callee.identity.guid, "chat", Mode.CENTRAL, os.urandom(16), resume=resume
        )
    )
    request = await callee.expect(ServiceRequestFrom)
    callee.send(ServiceAnswer(request.request, Verdict.ACCEPTED))
    return request, await caller.expect(ServiceResponse)


async def talk(
    one: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    other: tuple[asyncio.StreamReader, asyncio.StreamWriter],
) -> None:
    """Say something both ways."""
    for (reader, _), (_, writer) in ((one, other), (other, one)):
        writer.write(b"hello")
        assert await asyncio.wait_for(reader.readexactly(5), TIMEOUT) == b"hello"


def resume_ticket(head: bytes) -> str:
    """Return the ticket for the next plane in an answer."""
    (line,) = (one for one in head.decode().split("\r\n") if one.startswith("Roam-Relay-Resume"))
    return line.partition(": ")[2]


@pytest.mark.parametrize("is_told", [False, True], ids=["to its own relay", "to the url"])
async def test_a_leg_is_led_to_its_plane(nats: NatsServer, is_told: bool) -> None:
    async with (
        cluster(nats, "a", "b") as (a, b),
        registered(a.url, "chat") as alice,
        registered(b.url) as bob,
    ):
        await known(alice.identity.guid, "a", b)
        request, response = await asked(bob, alice)
        assert response.code is None
        assert (response.url, request.url) == (a.url, "")
        assert response.ticket
        assert request.ticket
        url = response.url if is_told else b.url
        here = await upgrade_with(url, bob.plane_target(response.ticket, b.guid))
        there = await upgrade_with(a.url, alice.plane_target(request.ticket, a.guid))
        assert here[2].split()[1] == there[2].split()[1] == b"101", (here, there)
        await talk(here[:2], there[:2])
        assert (b.metrics.plane_bytes_by_way["detour"] > 0) is not is_told
        assert a.metrics.planes_opened == 1
        for leg in (here, there):
            leg[1].close()


async def test_a_ticket_for_the_next_plane_is_good_at_every_node(nats: NatsServer) -> None:
    async with (
        cluster(nats, "a", "b") as (a, b),
        registered(a.url, "chat") as alice,
        registered(b.url) as bob,
    ):
        await known(alice.identity.guid, "a", b)
        request, response = await asked(bob, alice)
        assert response.ticket
        assert request.ticket
        here = await upgrade_with(b.url, bob.plane_target(response.ticket, b.guid))
        there = await upgrade_with(a.url, alice.plane_target(request.ticket, a.guid))
        await talk(here[:2], there[:2])
        for leg in (here, there):
            leg[1].close()
        # Who comes back has no control connection; the other one is asked where it is.
        for back, other, relay in ((bob, alice, b), (alice, bob, a)):
            ticket = resume_ticket((here if back is bob else there)[2])
            here_again = await upgrade_with(relay.url, back.plane_target(ticket, a.guid))
            assert here_again[2].split()[1] == b"101", here_again
            wanted = await other.expect(ServiceRequestFrom)
            assert wanted.resume
            assert wanted.ticket
            assert wanted.url == ("" if other is alice else a.url)
            at = wanted.url or a.url
            again = await upgrade_with(at, other.plane_target(wanted.ticket, a.guid))
            other.send(ServiceAnswer(wanted.request, Verdict.ACCEPTED))
            await talk(here_again[:2], again[:2])
            here_again[1].close()
            again[1].close()


async def refused(relay: RelayServer, target: str, headers: str = "") -> bytes:
    """Return what a leg is refused with."""
    _, writer, head, body = await upgrade_with(relay.url, target, headers)
    writer.close()
    assert b"101" not in head.split(b"\r\n")[0]
    return body


async def test_a_leg_that_was_led_here_goes_no_further(nats: NatsServer) -> None:
    async with (
        cluster(nats, "a", "b") as (a, b),
        registered(a.url, "chat") as alice,
        registered(b.url) as bob,
    ):
        await known(alice.identity.guid, "a", b)
        _, response = await asked(bob, alice)
        assert response.ticket
        target = bob.plane_target(response.ticket, b.guid)
        body = await refused(b, target, "Roam-Relay-Node: 192.0.2.1 made-up\r\n")
        assert Code.TICKET_UNKNOWN.value.encode() in body
        # Somebody else's, and one that nobody has made: the plane's node says so.
        assert Code.TICKET_FOREIGN.value.encode() in await refused(
            b, alice.plane_target(response.ticket, b.guid)
        )
        made_up = response.ticket[:8] + "0" * 24
        assert Code.TICKET_UNKNOWN.value.encode() in await refused(
            b, bob.plane_target(made_up, b.guid)
        )


async def test_a_node_that_has_gone_has_no_planes(nats: NatsServer) -> None:
    async with cluster(nats, "a", "b") as (a, b), registered(b.url) as bob:
        async with registered(a.url, "chat") as alice:
            await known(alice.identity.guid, "a", b)
            _, response = await asked(bob, alice)
        assert response.ticket
        target = bob.plane_target(response.ticket, b.guid)
        a._fronts.close()
        body = await refused(b, target)
        assert Code.CLUSTER_UNAVAILABLE.value.encode() in body
        reader, writer, status, _ = await upgrade(b.url, "/v1/control")
        writer.close()
        assert status == 101
        del reader


async def test_a_leg_that_was_led_here_is_charged_to_whom_it_is_of(
    nats: NatsServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "relay")
    async with cluster(nats, "a", "b", work_per_network=0.002) as (a, b):
        ticket = tag_of("a") + "0" * 24
        async with client(a.url) as bob:
            target = bob.plane_target(ticket, a.guid)

        async def led(host: str) -> str:
            """Return why a leg is refused that the other node leads here."""
            proof = b.cluster.origin(ticket, host) if b.cluster is not None else ""
            body = await refused(a, target, f"Roam-Relay-Node: {host} {proof}\r\n")
            return str(json.loads(body)["code"])

        # The node that brings them has as little time as everybody: enough for five by itself.
        for number in range(1, 30):
            assert await led(f"192.0.2.{number}") == Code.TICKET_UNKNOWN
        said = [one.getMessage() for one in caplog.records if "refused" in one.getMessage()]
        assert any("192.0.2.1 by 127.0.0.1" in one for one in said), said
        async with asyncio.timeout(TIMEOUT):
            while await led("198.51.100.1") != Code.LIMIT_EXCEEDED:
                pass  # Who comes often pays for itself,
        assert await led("192.0.2.200") == Code.TICKET_UNKNOWN, "and for nobody else"
