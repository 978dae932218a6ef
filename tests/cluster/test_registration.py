"""A peer is at one node, whatever it does; and who is nowhere is said to be at once."""

import asyncio
import contextlib
import os
from functools import partial

import pytest

from protocol.codec import encode_location
from protocol.errors import Code
from protocol.identity import Identity
from protocol.messages import (
    Error,
    Message,
    Mode,
    PeerState,
    ServiceAnswer,
    ServiceRequestFrom,
    ServiceRequestTo,
    ServiceResponse,
    Verdict,
)
from tests.cluster.nats import NatsServer, cluster, known, until
from tests.relay.client import Client, client, registered


async def ask(caller: Client, guid: str, mode: Mode = Mode.COMBINED) -> ServiceResponse:
    caller.send(ServiceRequestTo(3, guid, "chat", mode, os.urandom(16), timeout=20.0))
    return await caller.expect(ServiceResponse)


@pytest.mark.parametrize("mode", list(Mode))
async def test_a_request_goes_to_the_home_and_nowhere_else(nats: NatsServer, mode: Mode) -> None:
    async with cluster(nats, "a", "b", "c") as relays:
        for home, elsewhere in ((0, 1), (1, 2), (2, 0)):
            async with (
                registered(relays[home].url, "chat") as alice,
                registered(relays[elsewhere].url) as bob,
            ):
                await known(alice.identity.guid, "abc"[home], relays[elsewhere])
                waiting = asyncio.create_task(ask(bob, alice.identity.guid, mode))
                if mode is not Mode.P2P:
                    request = await alice.expect(ServiceRequestFrom)
                    assert request.guid == bob.identity.guid
                    alice.send(
                        ServiceAnswer(
                            request.request, Verdict.ACCEPTED, entries=(alice.entry("chat", 1),)
                        )
                    )
                response = await waiting
                assert (response.code, response.state) == (None, PeerState.ONLINE)
                assert bool(response.entries) == (mode is not Mode.CENTRAL)
                assert bool(response.ticket) == (mode in (Mode.CENTRAL, Mode.AUTO))
        asked = [relay.metrics.cluster["asked here"] for relay in relays]
        assert asked == [1, 1, 1]


async def test_a_refusal_is_passed_on(nats: NatsServer) -> None:
    async with (
        cluster(nats, "a", "b") as (a, b),
        registered(a.url, "chat") as alice,
        registered(b.url) as bob,
    ):
        await known(alice.identity.guid, "a", b)
        waiting = asyncio.create_task(ask(bob, alice.identity.guid))
        request = await alice.expect(ServiceRequestFrom)
        alice.send(ServiceAnswer(request.request, Verdict.REFUSED, "not today"))
        assert (await waiting).reason == "not today"
        bob.send(ServiceRequestTo(4, alice.identity.guid, "none", Mode.AUTO, os.urandom(16)))
        assert (await bob.expect(ServiceResponse)).code is Code.UNKNOWN_SERVICE


async def test_who_is_nowhere_is_said_to_be_with_what_is_known(nats: NatsServer) -> None:
    async with (
        cluster(nats, "a", "b", suspect_grace=0.1) as (a, b),
        registered(b.url) as bob,
    ):
        b.registry.settled = a.registry.settled = 0.0
        response = await ask(bob, Identity.generate().guid)
        assert response.code is Code.UNKNOWN_PEER
        async with registered(a.url, "chat") as alice:
            await known(alice.identity.guid, "a", b)
        await known(alice.identity.guid, "", b)
        response = await ask(bob, alice.identity.guid)
        assert response.code is Code.PEER_OFFLINE
        assert response.last_seen is not None


async def test_a_peer_that_moves_to_another_node_leaves_the_first(nats: NatsServer) -> None:
    identity = Identity.generate()
    async with (
        cluster(nats, "a", "b") as (a, b),
        registered(a.url, "chat", identity=identity, seq=1) as here,
    ):
        await known(identity.guid, "a", b)
        async with client(b.url, identity) as there:
            there.instance = here.instance
            await there.register("chat", seq=2)
            # The same program: it is not superseded, which would end it for good.
            assert (await here.expect(Error)).code is Code.RESTARTING
            assert await here.closed()
            await known(identity.guid, "b", a)
            assert a.registry.get(identity.guid) is None
            assert a.registry.gone(identity.guid) is None, "it is not offline"
            async with registered(a.url) as bob:
                assert (await ask(bob, identity.guid, Mode.P2P)).code is None


async def test_another_program_with_the_key_supersedes_at_every_node(nats: NatsServer) -> None:
    identity = Identity.generate()
    async with (
        cluster(nats, "a", "b") as (a, b),
        registered(a.url, "chat", identity=identity, seq=1) as here,
    ):
        await known(identity.guid, "a", b)
        async with registered(b.url, "chat", identity=identity, seq=2):
            assert (await here.expect(Error)).code is Code.SUPERSEDED
            assert await here.closed()


async def test_an_old_record_is_stale_at_every_node(nats: NatsServer) -> None:
    identity = Identity.generate()
    async with (
        cluster(nats, "a", "b") as (a, b),
        registered(a.url, "chat", identity=identity, seq=9),
    ):
        await known(identity.guid, "a", b)
        async with client(b.url, identity) as there:
            await there.hello()
            there.send(there.signed_register(encode_location(there.record("chat", seq=9))))
            error = await there.expect(Error)
            assert (error.code, error.seq) == (Code.STALE_SEQUENCE, 9)


async def test_two_at_the_same_instant_end_with_one(nats: NatsServer) -> None:
    identities = [Identity.generate() for _ in range(8)]
    async with cluster(nats, "a", "b") as (a, b), contextlib.AsyncExitStack() as stack:
        clients = {}
        for identity in identities:
            for relay in (a, b):
                one = await stack.enter_async_context(client(relay.url, identity))
                await one.hello()
                clients[identity.guid, relay] = one
        for one in clients.values():
            one.send(one.signed_register(encode_location(one.record("chat", seq=5))))

        def is_one(guid: str) -> bool:
            here = [relay for relay in (a, b) if relay.registry.get(guid) is not None]
            claimed = [r for r in (a, b) if r.cluster is not None and r.cluster.home(guid) is None]
            return len(here) == 1 and here == claimed

        for identity in identities:
            await until(b, partial(is_one, identity.guid))
            loser = a if a.registry.get(identity.guid) is None else b
            # Registered first and outranked then; or too late, where it had heard of the other.
            while True:
                message = await clients[identity.guid, loser].expect(Message)
                if isinstance(message, Error):
                    break
            assert message.code in (Code.SUPERSEDED, Code.STALE_SEQUENCE)
