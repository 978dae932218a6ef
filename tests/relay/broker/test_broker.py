"""Requests in every mode, the next path of a session, several flows, and what each ends with."""

import contextlib
from collections.abc import AsyncIterator

import pytest

from protocol.codec import encode_location
from protocol.errors import Code
from protocol.features import OFFER
from protocol.identity import Identity
from protocol.messages import (
    Error,
    LocationRecord,
    Mode,
    Registered,
    ServiceAnswer,
    ServiceRecord,
    ServiceRequestFrom,
    ServiceRequestTo,
    ServiceResponse,
    Verdict,
)
from protocol.offer import MAX_OFFER
from relay.server import RelayServer
from tests.relay.client import Client, client, registered

SESSION = b"s" * 16


async def test_auto_is_central_with_entries(relay: RelayServer) -> None:
    async with registered(relay.url) as alice, registered(relay.url, "chat") as bob:
        own = (alice.entry("chat", 1), alice.entry("chat", 1, "192.0.2.1"))
        alice.send(ServiceRequestTo(1, bob.identity.guid, "chat", Mode.AUTO, SESSION, own))
        asked = await bob.expect(ServiceRequestFrom)
        assert asked.ticket is not None
        assert asked.entries == own[:1], "only what is proven"
        there = (bob.entry("chat", 1), bob.entry("chat", 1, "192.0.2.2"))
        bob.send(ServiceAnswer(asked.request, Verdict.ACCEPTED, entries=there))
        answer = await alice.expect(ServiceResponse)
        assert answer.code is None
        assert answer.ticket not in (None, asked.ticket)
        assert answer.entries == there[:1]
        # Without any entry it is still a success: data flows through the plane.
        alice.send(ServiceRequestTo(2, bob.identity.guid, "chat", Mode.AUTO, SESSION))
        asked = await bob.expect(ServiceRequestFrom)
        bob.send(ServiceAnswer(asked.request, Verdict.ACCEPTED))
        answer = await alice.expect(ServiceResponse)
        assert (answer.code, answer.entries) == (None, ())


async def test_the_next_path_is_asked_for_in_every_mode_and_by_either_side(
    relay: RelayServer,
) -> None:
    async with registered(relay.url) as caller, registered(relay.url, "chat") as callee:
        number = 0
        for asks, asked_one in ((caller, callee), (callee, caller)):
            for mode in Mode:
                number += 1
                asks.send(
                    ServiceRequestTo(
                        number, asked_one.identity.guid, "chat", mode, SESSION, resume=True
                    )
                )
                asked = await asked_one.expect(ServiceRequestFrom)
                assert asked.resume
                assert (asked.ticket is not None) == (mode in (Mode.CENTRAL, Mode.AUTO))
                own = (asked_one.entry("chat", 1),)
                asked_one.send(ServiceAnswer(asked.request, Verdict.ACCEPTED, entries=own))
                answer = await asks.expect(ServiceResponse)
                assert answer.code is None, answer
                assert answer.entries == (() if mode is Mode.CENTRAL else own)


async def test_who_knows_no_such_session_says_so(relay: RelayServer) -> None:
    async with registered(relay.url) as alice, registered(relay.url) as bob:
        alice.send(ServiceRequestTo(1, bob.identity.guid, "chat", Mode.P2P, SESSION, resume=True))
        asked = await bob.expect(ServiceRequestFrom)
        bob.send(ServiceAnswer(asked.request, Verdict.REFUSED, code=Code.SESSION_UNKNOWN))
        assert (await alice.expect(ServiceResponse)).code is Code.SESSION_UNKNOWN


async def test_a_silent_flow_is_passed_over(relay: RelayServer) -> None:
    async with (
        registered(relay.url) as alice,
        registered(relay.url, "chat") as standby,
        client(relay.url, standby.identity) as primary,
    ):
        primary.instance = standby.instance
        await primary.hello(flow=1)
        await primary.register("chat")
        alice.send(
            ServiceRequestTo(1, standby.identity.guid, "chat", Mode.CENTRAL, SESSION, (), 5.0)
        )
        first = await primary.expect(ServiceRequestFrom)
        # The primary says nothing; after a second the other flow is asked the same.
        second = await standby.expect(ServiceRequestFrom)
        assert second == first
        standby.send(ServiceAnswer(second.request, Verdict.ACCEPTED))
        assert (await alice.expect(ServiceResponse)).code is None
        assert relay.broker.pending == 0


async def test_a_flow_that_is_lost_hands_its_requests_on(relay: RelayServer) -> None:
    async with (
        registered(relay.url) as alice,
        registered(relay.url, "chat") as standby,
        client(relay.url, standby.identity) as primary,
    ):
        primary.instance = standby.instance
        await primary.hello(flow=1)
        await primary.register("chat")
        alice.send(
            ServiceRequestTo(1, standby.identity.guid, "chat", Mode.CENTRAL, SESSION, (), 5.0)
        )
        first = await primary.expect(ServiceRequestFrom)
        primary.writer.transport.abort()
        assert await standby.expect(ServiceRequestFrom) == first
        standby.send(ServiceAnswer(first.request, Verdict.ACCEPTED))
        assert (await alice.expect(ServiceResponse)).code is None


def request(callee: Client, number: int = 1, mode: Mode = Mode.COMBINED, timeout: float = 5.0):
    return ServiceRequestTo(number, callee.identity.guid, "chat", mode, SESSION, (), timeout)


async def test_request_outcomes(relay: RelayServer) -> None:
    async with registered(relay.url) as alice, registered(relay.url, "chat") as bob:
        nobody = Identity.generate().guid
        alice.send(ServiceRequestTo(1, nobody, "chat", Mode.P2P, SESSION))
        assert (await alice.expect(ServiceResponse)).code is Code.UNKNOWN_PEER
        alice.send(ServiceRequestTo(2, bob.identity.guid, "mail", Mode.P2P, SESSION))
        assert (await alice.expect(ServiceResponse)).code is Code.UNKNOWN_SERVICE
        alice.send(request(bob, 3))
        asked = await bob.expect(ServiceRequestFrom)
        bob.send(ServiceAnswer(asked.request, Verdict.REFUSED, "busy"))
        refused = await alice.expect(ServiceResponse)
        assert (refused.code, refused.reason) == (Code.REFUSED, "busy")
        bob.send(ServiceAnswer(asked.request, Verdict.ACCEPTED))
        assert (await bob.expect(Error)).code is Code.UNKNOWN_REQUEST
        alice.send(request(bob, 4, timeout=0.2))
        await bob.expect(ServiceRequestFrom)
        assert (await alice.expect(ServiceResponse)).code is Code.REQUEST_TIMEOUT
        alice.send(request(bob, 5, Mode.CENTRAL))
        await bob.expect(ServiceRequestFrom)
        bob.writer.transport.abort()
        assert (await alice.expect(ServiceResponse)).code is Code.PEER_OFFLINE
        assert relay.broker.pending == 0
        assert relay.planes.pending == 0


@contextlib.asynccontextmanager
async def naming(url: str, *features: str, service: str = "chat") -> AsyncIterator[Client]:
    """Register as one that names these features."""
    async with client(url) as one:
        await one.hello(features=features)
        await one.register(service)
        yield one


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("mode", [Mode.CENTRAL, Mode.COMBINED, Mode.AUTO])
async def test_an_offer_goes_there_and_back_as_it_is(
    relay: RelayServer, mode: Mode, resume: bool
) -> None:
    asked_for, answered = bytes(range(256)) * 8, b"no signature, and nobody reads it"
    async with naming(relay.url, OFFER) as alice, naming(relay.url, OFFER) as bob:
        guid, own = bob.identity.guid, (bob.entry("chat", 1),)
        alice.send(
            ServiceRequestTo(1, guid, "chat", mode, SESSION, (), 5.0, resume, offer=asked_for)
        )
        asked = await bob.expect(ServiceRequestFrom)
        assert asked.offer == asked_for
        bob.send(ServiceAnswer(asked.request, Verdict.ACCEPTED, entries=own, offer=answered))
        response = await alice.expect(ServiceResponse)
        assert (response.code, response.offer) == (None, answered)


@pytest.mark.parametrize(("here", "there"), [((), (OFFER,)), ((OFFER,), ()), ((), ())])
async def test_who_has_not_named_it_gets_no_offer_and_the_other_side_none_back(
    relay: RelayServer, here: tuple[str, ...], there: tuple[str, ...]
) -> None:
    async with naming(relay.url, *here) as alice, naming(relay.url, *there) as bob:
        guid = bob.identity.guid
        alice.send(ServiceRequestTo(1, guid, "chat", Mode.CENTRAL, SESSION, offer=b"asked"))
        asked = await bob.expect(ServiceRequestFrom)
        bob.send(ServiceAnswer(asked.request, Verdict.ACCEPTED, offer=b"answered"))
        response = await alice.expect(ServiceResponse)
        assert (asked.offer, response.offer, response.code) == (b"", b"", None)


async def test_an_answer_has_an_offer_only_where_the_request_had_one_and_was_accepted(
    relay: RelayServer,
) -> None:
    async with naming(relay.url, OFFER) as alice, naming(relay.url, OFFER) as bob:
        guid = bob.identity.guid
        alice.send(ServiceRequestTo(1, guid, "chat", Mode.CENTRAL, SESSION))
        asked = await bob.expect(ServiceRequestFrom)
        bob.send(ServiceAnswer(asked.request, Verdict.ACCEPTED, offer=b"unasked"))
        response = await alice.expect(ServiceResponse)
        assert (response.code, response.offer) == (None, b"")
        alice.send(ServiceRequestTo(2, guid, "chat", Mode.CENTRAL, SESSION, offer=b"asked"))
        asked = await bob.expect(ServiceRequestFrom)
        bob.send(ServiceAnswer(asked.request, Verdict.REFUSED, offer=b"answered"))
        response = await alice.expect(ServiceResponse)
        assert (response.code, response.offer) == (Code.REFUSED, b"")


async def test_in_p2p_nobody_is_asked_and_an_offer_ends_at_the_relay(relay: RelayServer) -> None:
    async with naming(relay.url, OFFER) as alice, naming(relay.url, OFFER) as bob:
        alice.send(
            ServiceRequestTo(1, bob.identity.guid, "chat", Mode.P2P, SESSION, offer=b"asked")
        )
        response = await alice.expect(ServiceResponse)
        assert (response.code, response.offer) == (None, b"")
        assert not bob.messages


async def test_an_offer_that_is_too_long_is_no_message(relay: RelayServer) -> None:
    async with naming(relay.url, OFFER) as alice:
        too_long = bytes(MAX_OFFER + 1)
        alice.send(
            ServiceRequestTo(1, alice.identity.guid, "chat", Mode.CENTRAL, SESSION, offer=too_long)
        )
        assert (await alice.expect(Error)).code is Code.BAD_MESSAGE


async def test_too_many_requests_wait(relay: RelayServer) -> None:
    async with registered(relay.url) as alice, registered(relay.url, "chat") as bob:
        for number in range(5):
            alice.send(request(bob, number))
        answer = await alice.expect(ServiceResponse)
        assert (answer.request, answer.code) == (4, Code.LIMIT_EXCEEDED)
        assert answer.retry_after == 1.0


async def test_only_proven_endpoints_are_disclosed(relay: RelayServer) -> None:
    async with registered(relay.url) as alice, client(relay.url) as bob:
        entries = (bob.entry("chat", 1, "192.0.2.1"), bob.entry("chat", 1))
        await bob.hello()
        record = LocationRecord(1, (ServiceRecord("chat", entries),))
        bob.send(bob.signed_register(encode_location(record)))
        await bob.expect(Registered)
        alice.send(ServiceRequestTo(1, bob.identity.guid, "chat", Mode.P2P, SESSION))
        assert (await alice.expect(ServiceResponse)).entries == entries[1:]
        alice.send(request(bob, 2))
        asked = await bob.expect(ServiceRequestFrom)
        bob.send(ServiceAnswer(asked.request, Verdict.ACCEPTED, "", entries[:1]))
        assert (await alice.expect(ServiceResponse)).code is Code.NO_ENDPOINT
