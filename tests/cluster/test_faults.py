"""What fails in a cluster, is said in a word of its own, and heals by itself."""

import asyncio
import logging
import os
from pathlib import Path

import msgspec
import nats as nats_client
import pytest

from protocol.errors import Code
from protocol.identity import Identity
from protocol.messages import Mode, ServiceRequestFrom, ServiceRequestTo, ServiceResponse
from relay.backplane import PeerHere
from relay.server import RelayServer
from tests.cluster.nats import NatsServer, cluster, joined, known, nats_server, node, until
from tests.cluster.test_registration import ask
from tests.relay.client import registered


async def test_without_nats_what_is_local_goes_on_and_it_heals(tmp_path: Path) -> None:
    with nats_server(tmp_path) as nats:
        async with (
            cluster(nats, "a", "b") as (a, b),
            registered(a.url, "chat") as alice,
            registered(b.url, "chat") as bob,
            registered(b.url) as carol,
        ):
            await known(alice.identity.guid, "a", b)
            # One waits already when NATS is lost.
            waiting = asyncio.create_task(ask(bob, alice.identity.guid))
            await alice.expect(ServiceRequestFrom)
            nats.kill()
            response = await waiting
            assert (response.code, response.retry_after) == (Code.CLUSTER_UNAVAILABLE, 1.0)
            await until(b, lambda: b.cluster is not None and not b.cluster.is_in)
            for guid in (alice.identity.guid, Identity.generate().guid):
                assert (await ask(carol, guid)).code is Code.CLUSTER_UNAVAILABLE
            assert (await ask(carol, bob.identity.guid, Mode.P2P)).code is None
            # Meanwhile one comes and one moves.
            async with (
                registered(a.url, "chat") as dave,
                registered(a.url, "chat", identity=bob.identity) as moved,
            ):
                nats.start()
                await joined(a, b, nodes=2)
                await known(dave.identity.guid, "a", b)
                await known(bob.identity.guid, "a", b)
                assert b.registry.get(bob.identity.guid) is None
                for one in (alice, dave, moved):
                    response = await ask(carol, one.identity.guid, Mode.P2P)
                    assert response.code is None


async def test_the_home_goes_while_a_request_waits(nats: NatsServer) -> None:
    async with cluster(nats, "b") as (b,), registered(b.url) as bob:
        config = node("a", nats, b.config.cluster.prefix if b.config.cluster else "")
        async with RelayServer(config, b.identity) as a, registered(a.url, "chat") as alice:
            await known(alice.identity.guid, "a", b)
            waiting = asyncio.create_task(ask(bob, alice.identity.guid))
            await alice.expect(ServiceRequestFrom)
        response = await waiting
        assert response.code in (Code.CLUSTER_UNAVAILABLE, Code.PEER_OFFLINE)
        await known(alice.identity.guid, "", b)
        assert (await ask(bob, alice.identity.guid)).code is Code.PEER_OFFLINE


async def test_what_strangers_say_on_our_subjects_changes_nothing(
    nats: NatsServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "relay")
    async with cluster(nats, "a", "b") as (a, b):
        assert a.cluster is not None
        assert a.config.cluster is not None
        stranger = await nats_client.connect(nats.url)
        prefix = f"{a.config.cluster.prefix}.1"
        came = a.cluster.directory.came(PeerHere(Identity.generate().guid, 1, b"i" * 16))
        said = (
            b"",
            b"\0" * 100,
            os.urandom(5000),
            # A true word, on another subject; and one of another cluster.
            a.cluster.seal.close("elsewhere", came),
        )
        for subject in ("all", "node.a", "node.b", "none.a.1", "none.b.x"):
            for data in said:
                await stranger.publish(f"{prefix}.{subject}", data)
        await stranger.flush()
        await until(a, lambda: a.metrics.cluster["foreign"] >= 2 * len(said))
        await stranger.close()
        async with registered(a.url, "chat") as alice, registered(b.url) as bob:
            await known(alice.identity.guid, "a", b)
            assert (await ask(bob, alice.identity.guid, Mode.P2P)).code is None
        assert a.cluster.directory.nodes.keys() == {"b"}
    lines = [record for record in caplog.records if "foreign" in record.getMessage()]
    assert len(lines) == 2, "each node says so once a minute"


async def test_another_prefix_and_another_key_are_another_cluster(nats: NatsServer) -> None:
    async with cluster(nats, "a") as (a,):
        assert a.config.cluster is not None
        other_key = node("b", nats, a.config.cluster.prefix)
        async with (
            RelayServer(node("b", nats, "other"), a.identity) as other_prefix,
            RelayServer(other_key) as stranger,
        ):
            await joined(other_prefix, stranger, nodes=1)
            await until(a, lambda: a.metrics.cluster["foreign"] > 0)
            await joined(a, nodes=1)


async def test_wrong_credentials_are_said_and_nothing_else_fails(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "relay")
    lines = "authorization { user: relay, password: secret }"
    for name, text in (("right", "secret\n"), ("wrong", "guess\n")):
        (tmp_path / name).write_text(text)
    with nats_server(tmp_path, lines) as nats:
        secret = {"user": "relay", "password": str(tmp_path / "right")}
        guess = {"user": "relay", "password": str(tmp_path / "wrong")}
        async with (
            cluster(nats, "a", cluster=secret) as (a,),
            RelayServer(node("b", nats, "p", cluster=guess), a.identity) as b,
            registered(b.url, "chat") as alice,
            registered(b.url) as bob,
        ):
            assert (await ask(bob, alice.identity.guid, Mode.P2P)).code is None
            response = await ask(bob, Identity.generate().guid)
            assert response.code is Code.CLUSTER_UNAVAILABLE
            await until(
                b, lambda: any("uthorization" in one.getMessage() for one in caplog.records)
            )


async def test_of_two_nodes_with_one_name_the_later_one_has_it(
    nats: NatsServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "relay")
    async with cluster(nats, "a", "b") as (first, b):
        assert b.config.cluster is not None
        config = node("a", nats, b.config.cluster.prefix)
        async with RelayServer(config, b.identity) as second:
            await joined(second, nodes=2)
            await until(first, lambda: first.cluster is not None and not first.cluster.is_in)
            async with (
                registered(second.url, "chat") as alice,
                registered(b.url) as bob,
                registered(first.url) as carol,
            ):
                await known(alice.identity.guid, "a", b)
                assert (await ask(bob, alice.identity.guid, Mode.P2P)).code is None
                response = await ask(carol, alice.identity.guid, Mode.P2P)
                assert response.code is Code.CLUSTER_UNAVAILABLE
                assert "another node has the name a" in response.reason
            # It is logged with the node's next beat.
            said = "another node has the name a"
            await until(first, lambda: any(said in one.getMessage() for one in caplog.records))


async def test_one_caller_has_its_bound_across_nodes(nats: NatsServer) -> None:
    async with (
        cluster(nats, "a", "b", pending_requests=2) as (a, b),
        registered(a.url, "chat") as alice,
        registered(b.url) as bob,
    ):
        await known(alice.identity.guid, "a", b)
        for number in range(3):
            bob.send(
                ServiceRequestTo(number, alice.identity.guid, "chat", Mode.COMBINED, os.urandom(16))
            )
        response = await bob.expect(ServiceResponse)
        assert (response.request, response.code) == (2, Code.LIMIT_EXCEEDED)


async def test_a_node_of_another_version_is_understood_as_far_as_it_goes(
    nats: NatsServer,
) -> None:
    async with cluster(nats, "a", "b") as (a, b), registered(b.url) as bob:
        assert a.cluster is not None
        assert b.config.cluster is not None
        guid, seal = Identity.generate().guid, a.cluster.seal
        subject = f"{b.config.cluster.prefix}.1.all"
        later = await nats_client.connect(nats.url)

        async def say(**words: object) -> None:
            data = msgspec.msgpack.encode({"node": "z", "incarnation": 1, **words})
            await later.publish(subject, seal.wrap(subject, data))

        # What it says more is passed over, also at the end of a claim; what is missing has a
        # default; and a kind that is not known here is nothing, and no end of the connection.
        claim = [guid, 5, b"i" * 16, "z", 1, "", True, True, b"", b"", "more", {"and": 1}]
        await say(type="beat", serial=0, urls=["http://192.0.2.1:8440"], color="green")
        await say(type="sings", song=[1, 2, 3])
        await say(type="came", claim=claim, mood=7)
        await later.flush()
        await known(guid, "z", a, b)
        assert a.cluster.directory.nodes["z"] == ("http://192.0.2.1:8440",)
        await until(a, lambda: a.metrics.cluster["foreign"] >= 1)
        assert (await ask(bob, guid, Mode.P2P)).code is Code.CLUSTER_UNAVAILABLE
        async with registered(a.url, "chat") as alice:
            await known(alice.identity.guid, "a", b)
            assert (await ask(bob, alice.identity.guid, Mode.P2P)).code is None
        # It says nothing more, and is lost with all that it has claimed.
        await known(guid, "", a, b)
        await later.close()
