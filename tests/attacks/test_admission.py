"""Who is not admitted, and tries all the same."""

import asyncio
import contextlib
import json
from pathlib import Path

import dns.rcode
import dns.update
import msgspec
import pytest

from protocol.codec import encode_location
from protocol.errors import Code
from protocol.identity import Identity
from protocol.invitation import Invitation
from protocol.messages import Error, Registered
from relay.admission import Grant
from relay.config import DnsConfig, RelayConfig
from relay.operator import Allow, Ban, Done
from relay.server import RelayServer
from tests.attacks.honest import EVIL, GOOD, honest, settled, state_of
from tests.relay.admission.doors import come, door, invited, outcome, refusal, token
from tests.relay.client import client, upgrade
from tests.relay.dns.asking import ALICE, NAME, ZONE, ask, send, sent, texts, update
from tests.relay.planes import close, leg


async def test_an_invitation_that_was_seen_admits_nobody_else(tmp_path: Path) -> None:
    """With plain HTTP everybody on the way sees what a peer presents; a relay sees it anyway."""
    some = token(uses=2)
    async with invited(tmp_path) as server:
        victim = Identity.generate()
        async with client(server.url, victim, GOOD) as one:
            challenge = await one.hello()
            seen = one.signed_register(encode_location(one.record()), some)
            one.send(seen)
            assert isinstance(await outcome(one), Registered)
        for _ in range(3):
            async with client(server.url, source=EVIL) as thief:
                await thief.hello()
                own = thief.signed_register(encode_location(thief.record()))
                thief.send(msgspec.structs.replace(own, invitation=seen.invitation))
                said = await outcome(thief)
                assert isinstance(said, Error)
                assert said.code is Code.NOT_ADMITTED
                assert "by another peer" in said.reason
        # Nor is the whole message of use again: its nonce was for one challenge.
        async with client(server.url, victim, EVIL) as thief:
            assert (await thief.hello()).nonce != challenge.nonce
            thief.send(seen)
            said = await outcome(thief)
            assert isinstance(said, Error)
            assert said.code is Code.BAD_SIGNATURE
        assert server.metrics.admissions["forged"] == 3
        # None of it was counted: the second place is still there.
        assert isinstance(await come(server, None, some, source=GOOD), Registered)


async def test_a_hundred_guesses_cost_their_network_alone(tmp_path: Path) -> None:
    async with invited(tmp_path, work_per_network=1.0) as server:
        before = state_of(server)
        wrong = [token(operator=Identity.generate()) for _ in range(4)]
        codes = [
            (await refusal(server, None, wrong[number % 4], source=EVIL)).code
            for number in range(70)
        ]
        assert codes[0] is Code.NOT_ADMITTED
        assert codes.count(Code.LIMIT_EXCEEDED) >= 5
        assert server.metrics.admissions["forged"] <= 65
        assert isinstance(await come(server, None, token(), source=GOOD), Registered)
        assert [one.used for one in await server.admission.book.invitations()] == [1]
        await settled(server, before)


async def test_fresh_connections_and_fresh_keys_do_not_evade_a_ban(tmp_path: Path) -> None:
    async with door(tmp_path) as server, honest(server) as peers:
        await server.operator.do(Ban(f"{EVIL}/32"))
        banned = Identity.generate()
        await server.operator.do(Ban(banned.guid))
        before = state_of(server)
        for _ in range(5):
            said = await refusal(server, source=EVIL)
            assert said.code is Code.NOT_ADMITTED
            assert said.retry_after, "it may leave that network"
            said = await refusal(server, banned, source=GOOD)
            assert (said.code, said.retry_after) == (Code.NOT_ADMITTED, None)
        await peers.look_up()
        await peers.newcomer()
        await settled(server, before)
        assert server.metrics.admissions["banned"] == 10


async def test_a_ban_ends_planes_and_the_tickets_for_more(tmp_path: Path) -> None:
    async with door(tmp_path) as server, honest(server) as peers:
        own, other = await peers.tickets()
        caller, ticket = await leg(server, peers.caller, own)
        callee, _ = await leg(server, peers.callee, other)
        await peers.talk(caller, callee)
        guid = peers.caller.identity.guid
        assert await server.operator.do(Ban(guid)) == Done(guid, "banned", 1)
        async with asyncio.timeout(60):
            assert await callee[0].read() == b""
        for streams in (caller, callee):
            await close(streams)
        # A ticket for the next plane needs no control connection.
        target = peers.caller.plane_target(ticket, server.guid)
        _, writer, status, body = await upgrade(server.url, target, GOOD)
        writer.close()
        assert (status, json.loads(body)["code"]) == (403, "not_admitted")
        await server.operator.do(Allow(guid))


async def test_a_ban_of_a_network_ends_legs_from_there(tmp_path: Path) -> None:
    """Also of who has its control connection elsewhere, and while the leg waits for the other."""
    async with door(tmp_path) as server, honest(server) as peers:
        own, other = await peers.tickets()
        caller, _ = await leg(server, peers.caller, own, source=EVIL)
        callee, _ = await leg(server, peers.callee, other, source=GOOD)
        await peers.talk(caller, callee)
        early, _ = await leg(server, peers.caller, (await peers.tickets())[0], source=EVIL)
        kept = await peers.plane()
        assert await server.operator.do(Ban(f"{EVIL}/32")) == Done(f"{EVIL}/32", "banned", 0)
        async with asyncio.timeout(60):
            for reader, _ in (caller, callee, early):
                with contextlib.suppress(ConnectionError):
                    assert await reader.read() == b""
        assert server.planes.live == 1
        await peers.talk(*kept)
        await close(caller, callee, early, *kept)


@pytest.mark.parametrize("subject", [ALICE.guid, "127.0.0.1/32"])
async def test_a_banned_peer_updates_the_zone_no_more(tmp_path: Path, subject: str) -> None:
    """Its key of the zone stays good, and needs no control connection."""
    config = RelayConfig(
        port=0, state=str(tmp_path / "state"), dns=DnsConfig(zone=ZONE, port=0, addresses=GOOD)
    )

    def put(host: str) -> dns.update.UpdateMessage:
        message = update(server)
        message.add(NAME, 60, "A", host)
        return message

    async with RelayServer(config) as server:
        assert await sent(server, put("192.0.2.1")) == dns.rcode.NOERROR
        assert texts(await ask(server, NAME)) == ["192.0.2.1"]
        await server.operator.do(Ban(subject))
        assert await sent(server, put("192.0.2.2")) == dns.rcode.REFUSED
        assert (await send(server, put("192.0.2.3"))).rcode() == dns.rcode.REFUSED
        shown = texts(await ask(server, NAME))
        assert shown == ([] if subject == ALICE.guid else ["192.0.2.1"])
        await server.operator.do(Allow(subject))
        assert await sent(server, put("192.0.2.4")) == dns.rcode.NOERROR


async def test_a_function_that_hangs_holds_up_its_callers_network_alone() -> None:
    """Whoever makes the program's function hang, as by a slow account of its own, is one network
    of many: others are decided, and who is here notices nothing."""
    hanging, go = asyncio.Semaphore(0), asyncio.Event()

    async def admit(guid: str, network: str, invitation: Invitation | None) -> Grant:
        if network == f"{EVIL}/32":
            hanging.release()
            await go.wait()
        return Grant()

    async with door(admit=admit, admission_timeout=60.0) as server, honest(server) as peers:
        before = state_of(server)
        async with asyncio.TaskGroup() as tasks:
            coming = [tasks.create_task(come(server, source=EVIL)) for _ in range(80)]
            async with asyncio.timeout(60):
                for _ in range(64):
                    await hanging.acquire()
                await peers.look_up()
                await peers.newcomer()
                # The rest of that network is told to come later.
                while server.metrics.admissions["busy"] < 16:
                    await asyncio.sleep(0)
            go.set()
        codes = [said.code for task in coming if isinstance(said := task.result(), Error)]
        assert codes == [Code.LIMIT_EXCEEDED] * 16
        await settled(server, before)
        assert isinstance(await come(server, source=EVIL), Registered)
