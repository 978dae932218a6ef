"""What an operator says at one node of a cluster holds at all of them: bans, the list, invitations,
each use of one exactly once; and what fails, is said, and is right again a second after it heals.
"""

import asyncio
import contextlib
import json
import shutil
import sqlite3
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import nats
import pytest
from nats.js import JetStreamContext

from protocol.errors import Code
from protocol.identity import Identity
from protocol.invitation import Token
from protocol.messages import Error, Registered
from relay.admission import Outcome, SharedBook
from relay.backplane import Seal
from relay.cluster import Bucket, look_at_jetstream
from relay.config import MailboxConfig, RelayConfig
from relay.operator import (
    Allow,
    Announce,
    Answer,
    Asked,
    Ban,
    Done,
    Failed,
    Forget,
    Invitations,
    InvitationShown,
    InvitationsShown,
    Revoke,
)
from relay.place import make_key
from relay.server import RelayServer
from tests.cluster.nats import TIMEOUT, NatsServer, joined, known, nats_server, node
from tests.cluster.test_legs import asked, talk
from tests.cluster.test_partition import routed
from tests.relay.admission.doors import OPERATOR, come, outcome, refusal, token
from tests.relay.client import Client, client, registered, upgrade_with
from tests.support import processes
from tests.support.full_disk import full_disk
from tests.support.ports import free_port

JETSTREAM = "jetstream {{ store_dir: '{}' }}"


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A NATS with JetStream, for all tests that do not stop it."""
    folder = tmp_path_factory.mktemp("shelf")
    with nats_server(folder, JETSTREAM.format(folder)) as server:
        yield server


def book(relay: RelayServer) -> SharedBook:
    found = relay.admission.book
    assert isinstance(found, SharedBook)
    return found


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(TIMEOUT):
        while not is_so():
            await asyncio.sleep(0.01)


async def shared(*relays: RelayServer) -> None:
    for relay in relays:
        await until(lambda relay=relay: book(relay).is_shared)  # type: ignore[misc]


def member_of(nats: NatsServer, folder: Path, name: str, **changes: Any) -> Any:
    settings = {
        "state": str(folder / name),
        "mailbox": MailboxConfig(enabled=False),
        "operators": OPERATOR.guid,
    }
    return node(name, nats, folder.name, **(settings | changes))


@contextlib.asynccontextmanager
async def nodes(
    nats: NatsServer, folder: Path, *names: str, identity: Identity | None = None, **changes: Any
) -> AsyncIterator[tuple[RelayServer, ...]]:
    """Run relays of one identity, each with a state folder of its own."""
    identity = identity or Identity.generate()
    async with contextlib.AsyncExitStack() as stack:
        relays = [
            await stack.enter_async_context(
                RelayServer(member_of(nats, folder, name, **changes), identity)
            )
            for name in names
        ]
        await joined(*relays, nodes=len(names))
        yield tuple(relays)


async def do(relay: RelayServer, asked: Asked) -> Done:
    answer = await relay.operator.do(asked)
    assert isinstance(answer, Done), answer
    return answer


async def invitations(relay: RelayServer) -> dict[str, InvitationShown]:
    answer: Answer = await relay.operator.do(Invitations())
    assert isinstance(answer, InvitationsShown)
    return {one.id: one for one in answer.invitations}


def bans(relay: RelayServer) -> set[str]:
    return {ban.subject for ban in book(relay).bans}


@contextlib.asynccontextmanager
async def joined_by_a_plane(
    caller: Client, callee: Client, near: RelayServer, far: RelayServer
) -> AsyncIterator[asyncio.StreamReader]:
    """Join two peers at the callee's node; what the callee reads."""
    assert far.config.cluster is not None
    await known(callee.identity.guid, far.config.cluster.node, near)
    request, response = await asked(caller, callee)
    assert request.ticket
    assert response.ticket
    here = await upgrade_with(far.url, caller.plane_target(response.ticket, far.guid))
    there = await upgrade_with(far.url, callee.plane_target(request.ticket, far.guid))
    with contextlib.closing(here[1]), contextlib.closing(there[1]):
        await talk(here[:2], there[:2])
        yield there[0]


async def test_a_ban_at_one_node_holds_at_all(shelf: NatsServer, tmp_path: Path) -> None:
    async with nodes(shelf, tmp_path, "a", "b", "c") as (a, b, c):
        await shared(a, b, c)
        alice = Identity.generate()
        async with client(b.url, alice) as there, registered(c.url, "chat") as carol:
            await there.register()
            async with joined_by_a_plane(there, carol, b, c) as reader:
                await do(a, Ban(alice.guid, reason="spam"))
                said = await there.expect(Error)
                assert said.code is Code.NOT_ADMITTED
                assert not await asyncio.wait_for(reader.read(), TIMEOUT), "the plane has ended"
        assert (await refusal(c, alice)).code is Code.NOT_ADMITTED
        await do(c, Ban("192.0.2.0/24", seconds=1000))
        for relay in (a, b, c):
            await until(lambda relay=relay: bans(relay) == {alice.guid, "192.0.2.0/24"})  # type: ignore[misc]
        # Lifted where it was not said.
        await do(b, Allow(alice.guid))
        await until(lambda: all(bans(one) == {"192.0.2.0/24"} for one in (a, b, c)))
        assert isinstance(await come(c, alice), Registered)


async def test_an_invitation_is_used_once_in_the_whole_cluster(
    shelf: NatsServer, tmp_path: Path
) -> None:
    async with nodes(shelf, tmp_path, "a", "b", "c", admission="invited") as relays:
        await shared(*relays)
        for uses in (1, 4):
            for _ in range(3):
                shown = token(uses=uses)
                peers = [Identity.generate() for _ in range(9)]
                said = await asyncio.gather(
                    *(
                        book(relays[number % 3]).redeem(shown.invitation, one.guid)
                        for number, one in enumerate(peers)
                    )
                )
                refused = [one for one in said if not hasattr(one, "guid")]
                assert len(said) - len(refused) == uses
                assert {one.outcome for one in refused} == {Outcome.USED_UP}  # type: ignore[union-attr]
                for relay in relays:
                    async with asyncio.timeout(TIMEOUT):
                        while (await invitations(relay))[shown.invitation.id].used != uses:
                            await asyncio.sleep(0.01)
        # The same peer at all nodes at once is one use.
        shown, alice = token(uses=3), Identity.generate()
        said = await asyncio.gather(
            *(book(one).redeem(shown.invitation, alice.guid) for one in relays)
        )
        assert all(hasattr(one, "guid") for one in said)
        async with asyncio.timeout(TIMEOUT):
            while (await invitations(relays[0]))[shown.invitation.id].used != 1:
                await asyncio.sleep(0.01)


async def test_the_list_and_invitations_hold_at_all(shelf: NatsServer, tmp_path: Path) -> None:
    async with nodes(shelf, tmp_path, "a", "b", admission="invited") as (a, b):
        await shared(a, b)
        shown, alice, bob = token(uses=2, note="two"), Identity.generate(), Identity.generate()
        await do(a, Announce(shown.statement))
        async with asyncio.timeout(TIMEOUT):
            while shown.invitation.id not in await invitations(b):
                await asyncio.sleep(0.01)
        assert (await invitations(b))[shown.invitation.id].note == "two"
        assert isinstance(await come(a, alice, shown), Registered)
        await until(lambda: book(b).member(alice.guid) is not None)
        # Known at the other node, without the token; its planes may be at a third one.
        carol = Identity.generate()
        await do(a, Allow(carol.guid))
        async with client(b.url, alice) as there, client(a.url, carol) as callee:
            await there.register()
            await callee.register("chat")
            async with joined_by_a_plane(there, callee, b, a) as reader:
                assert (await do(b, Revoke(shown.invitation.id))).said == "revoked"
                assert (await there.expect(Error)).code is Code.NOT_ADMITTED
                assert not await asyncio.wait_for(reader.read(), TIMEOUT), "the plane has ended"
        assert (await refusal(b, alice, shown)).code is Code.NOT_ADMITTED
        assert "taken back" in (await refusal(b, bob, shown)).reason
        # The list goes before; and what is taken back ends who is here.
        await do(a, Allow(bob.guid))
        await until(lambda: book(b).member(bob.guid) is not None)
        async with client(b.url, bob) as there:
            await there.register()
            await do(a, Revoke(bob.guid))
            assert (await there.expect(Error)).code is Code.NOT_ADMITTED
        assert isinstance(await come(b, bob), Error)


@contextlib.asynccontextmanager
async def bucket(nats_url: str, prefix: str) -> AsyncIterator[tuple[JetStreamContext, str]]:
    """Return what a stranger at NATS has, and what keys of the bucket begin with."""
    stranger = await nats.connect(nats_url)
    try:
        stream = stranger.jetstream()
        info = await stream.stream_info(f"KV_{prefix}_operator", subjects_filter=">")
        subject = next(one for one in info.state.subjects or {} if one.endswith(".epoch"))
        yield stream, subject.removesuffix("epoch")
    finally:
        await stranger.close()


async def test_what_nodes_had_before_is_taken_up_once(shelf: NatsServer, tmp_path: Path) -> None:
    guids = [Identity.generate().guid for _ in range(4)]
    shown, identity = token(uses=2), Identity.generate()
    rules = {"operators": OPERATOR.guid, "admission": "invited"}
    for name, own in (("a", 0), ("b", 1)):
        # Each was alone, and had heard of one of them, and of one ban, in its own way.
        config = RelayConfig(port=0, state=str(tmp_path / name), **rules)  # type: ignore[arg-type]
        async with RelayServer(config, identity) as alone:
            await do(alone, Ban(guids[own]))
            await do(alone, Ban("192.0.2.0/24", seconds=1000 if own else None))
            await alone.admission.book.redeem(shown.invitation, guids[2 + own])
            await do(alone, Allow(guids[2]))
            if own:
                await do(alone, Revoke(guids[2]))
    async with nodes(shelf, tmp_path, "a", "b", identity=identity, admission="invited") as (a, b):
        await shared(a, b)
        for relay in (a, b):
            await until(lambda relay=relay: bans(relay) == {*guids[:2], "192.0.2.0/24"})  # type: ignore[misc]
            # Of two ends the later one.
            await until(lambda relay=relay: {ban.expires for ban in book(relay).bans} == {None})  # type: ignore[misc]
            await until(lambda relay=relay: book(relay).member(guids[3]) is not None)  # type: ignore[misc]
            async with asyncio.timeout(TIMEOUT):
                while (await invitations(relay))[shown.invitation.id].used != 2:
                    await asyncio.sleep(0.01)
        await do(b, Allow(guids[0]))
        await until(lambda: guids[0] not in bans(a))
    # Now the bucket is what there is: nothing comes back.
    async with nodes(shelf, tmp_path, "a", "b", identity=identity, admission="invited") as (a, b):
        await shared(a, b)
        assert bans(a) == bans(b) == {guids[1], "192.0.2.0/24"}
    # What a node is told while it is no node is taken up when it is one again.
    async with RelayServer(RelayConfig(port=0, state=str(tmp_path / "a")), identity) as alone:
        await do(alone, Ban(guids[3]))
    async with nodes(shelf, tmp_path, "a", "b", identity=identity, admission="invited") as (a, b):
        await shared(a, b)
        await until(lambda: bans(a) == bans(b) == {guids[1], guids[3], "192.0.2.0/24"})


@pytest.mark.nightly
async def test_with_another_key_a_node_takes_its_copy_along(
    shelf: NatsServer, tmp_path: Path
) -> None:
    shown, guid = token(uses=2), Identity.generate().guid
    async with nodes(shelf, tmp_path, "a") as (a,):
        await shared(a)
        await do(a, Ban(guid))
        await book(a).redeem(shown.invitation, Identity.generate().guid)
    async with nodes(shelf, tmp_path, "a", "b") as (a, b):
        await shared(a, b)
        await until(lambda: bans(a) == bans(b) == {guid})
        assert (await invitations(b))[shown.invitation.id].used == 1


@pytest.mark.nightly
async def test_a_user_who_may_not_use_jetstream(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("secret")
    users = (
        "authorization { users: [{ user: node, password: secret, "
        'permissions: { publish: { deny: ["$JS.>"] } } }] }'
    )
    user = {"user": "node", "password": str(tmp_path / "password")}
    with nats_server(tmp_path, JETSTREAM.format(tmp_path / "store"), users) as server:
        async with nodes(server, tmp_path, "a", cluster=user) as (a,):
            await do(a, Ban("192.0.2.1"))
            (found,) = await look_at_jetstream(a.config)
            assert (found.level, "may not use JetStream" in found.said) == ("warning", True)


async def test_a_peer_is_forgotten_at_all_nodes(shelf: NatsServer, tmp_path: Path) -> None:
    alice, identity = Identity.generate(), Identity.generate()

    def is_kept(relay: RelayServer) -> bool:
        with contextlib.closing(sqlite3.connect(relay.config.in_state("known.sqlite"))) as tables:
            (count,) = tables.execute(
                "SELECT COUNT(*) FROM known WHERE guid = ?", (alice.guid,)
            ).fetchone()
        return bool(count)

    async with nodes(shelf, tmp_path, "a", "b", identity=identity, admission="invited") as (a, b):
        await shared(a, b)
        shown = token()
        assert isinstance(await come(b, alice, shown), Registered)
        await until(lambda: is_kept(b) and book(a).member(alice.guid) is not None)
        await do(a, Forget(alice.guid))
        await until(lambda: not is_kept(b) and book(b).member(alice.guid) is None)
        # Its use is free again, for somebody else too.
        assert isinstance(await come(b, Identity.generate(), shown), Registered)
        assert (await refusal(a, alice, shown)).code is Code.NOT_ADMITTED
        await do(a, Allow(alice.guid))
        await until(lambda: book(b).member(alice.guid) is not None)
        assert isinstance(await come(b, alice), Registered)
        await until(lambda: is_kept(b))
    # It was done once: who comes again is kept again.
    async with nodes(shelf, tmp_path, "b", identity=identity, admission="invited") as (b,):
        await shared(b)
        await b.operator.hear()
        assert is_kept(b)


async def test_what_strangers_write_into_the_bucket_harms_nobody(
    shelf: NatsServer, tmp_path: Path
) -> None:
    identity, banned = Identity.generate(), Identity.generate().guid
    async with nodes(shelf, tmp_path, "a", "b", identity=identity) as (a, b):
        await shared(a, b)
        await do(a, Ban(banned))
        await until(lambda: banned in bans(b))
        async with bucket(shelf.url, tmp_path.name) as (stream, part):
            kept = f"KV_{tmp_path.name}_operator"
            info = await stream.stream_info(kept, subjects_filter=f"{part}ban.>")
            (key,) = info.state.subjects or {}
            sealed = await stream.get_last_msg(kept, key)
            assert sealed.data is not None
            for subject, data, headers in (
                (key, b"", {"KV-Operation": "DEL"}),
                (key, b"rubbish", None),
                (f"{part}epoch", b"\x00" * 1000, None),
                (f"{part}ban.{32 * '0'}", sealed.data, None),
                (f"{part}use.x.y", b"", {"KV-Operation": "PURGE", "Nats-Rollup": "sub"}),
                (f"{part}...", b"", None),
            ):
                with contextlib.suppress(nats.errors.Error):
                    await stream.publish(subject, data, headers=headers)
            await until(lambda: not book(a).strange and not book(b).strange)
            assert bans(a) == bans(b) == {banned}
            while (
                await stream.get_last_msg(f"KV_{tmp_path.name}_operator", key)
            ).data != sealed.data:
                await asyncio.sleep(0.01)
        # It has been put back, for who comes now too.
        async with RelayServer(member_of(shelf, tmp_path, "c"), identity) as c:
            await until(lambda: bans(c) == {banned})
        # Written over while nobody was there: it is put back by who comes first.
    async with bucket(shelf.url, tmp_path.name) as (stream, part):
        await stream.publish(key, b"rubbish")
    async with nodes(shelf, tmp_path, "a", identity=identity) as (a,):
        await shared(a)
        assert bans(a) == {banned}


async def test_nats_is_lost_and_comes_back(tmp_path: Path) -> None:
    alice, bob = Identity.generate(), Identity.generate()
    store = tmp_path / "store"
    with nats_server(tmp_path, JETSTREAM.format(store)) as server:
        identity = Identity.generate()
        async with nodes(server, tmp_path, "a", "b", identity=identity) as (a, b):
            await shared(a, b)
            await do(a, Ban(alice.guid))
            await until(lambda: bans(b) == {alice.guid})
            server.kill()
            await until(lambda: not book(a).is_shared and not book(b).is_shared)
            # What was said holds; what is said now is refused, with a next step.
            assert (await refusal(b, alice)).code is Code.NOT_ADMITTED
            for asked in (Ban(bob.guid), Allow(alice.guid), Revoke("0" * 16), Forget(bob.guid)):
                answer = await a.operator.do(asked)
                assert isinstance(answer, Failed)
                assert "nothing has changed" in answer.reason
                assert "'relay check'" in answer.reason
            assert bans(a) == {alice.guid}
            older = shutil.copytree(store, tmp_path / "older")
            async with RelayServer(member_of(server, tmp_path, "c"), identity) as c:
                assert not bans(c), "it is new"
            server.start()
            await shared(a, b)
            await do(b, Ban(bob.guid))
            await until(lambda: bans(a) == {alice.guid, bob.guid})
            # A stranger takes a value away, by JetStream's own words: nobody hears that.
            async with bucket(server.url, tmp_path.name) as (stream, part):
                await stream.purge_stream(f"KV_{tmp_path.name}_operator", subject=f"{part}ban.>")
            server.kill()
            await until(lambda: not book(a).is_shared and not book(b).is_shared)
            server.start()
            await shared(a, b)
            assert bans(a) == bans(b) == {alice.guid, bob.guid}
            # An older bucket is put back: what it lacks each node knows.
            server.kill()
            await until(lambda: not book(a).is_shared and not book(b).is_shared)
            shutil.rmtree(store)
            older.rename(store)
            server.start()
            await shared(a, b)
            assert bans(a) == bans(b) == {alice.guid, bob.guid}
            async with RelayServer(member_of(server, tmp_path, "c"), identity) as c:
                await until(lambda: bans(c) == {alice.guid, bob.guid})


async def test_without_jetstream_each_node_is_alone(nats: NatsServer, tmp_path: Path) -> None:
    alice = Identity.generate()
    async with nodes(nats, tmp_path, "a", "b") as (a, b):
        await do(a, Ban(alice.guid))
        assert bans(a) == {alice.guid}
        assert not bans(b)
        assert isinstance(await come(b, alice), Registered)
        assert not book(a).is_shared


@pytest.mark.nightly
async def test_no_room_in_jetstream(tmp_path: Path) -> None:
    alice, identity = Identity.generate(), Identity.generate()
    with nats_server(tmp_path, JETSTREAM.format(tmp_path / "store")) as server:
        async with nodes(server, tmp_path, "a", identity=identity) as (a,):
            await shared(a)
            await do(a, Ban(alice.guid))
            async with bucket(server.url, tmp_path.name) as (stream, _):
                there = await stream.stream_info(f"KV_{tmp_path.name}_operator")
                bound = max(1, there.state.bytes)
                await stream.update_stream(there.config.evolve(max_bytes=bound))
                for asked in (Ban("192.0.2.0/24"), Announce(token().statement)):
                    answer = await a.operator.do(asked)
                    assert isinstance(answer, Failed)
                    assert "nothing has changed: " in answer.reason
                assert bans(a) == {alice.guid}
                # Who has bans of its own cannot tell the others; it obeys theirs.
                config = RelayConfig(port=0, state=str(tmp_path / "b"))
                async with RelayServer(config, identity) as alone:
                    await do(alone, Ban("198.51.100.0/24"))
                async with RelayServer(member_of(server, tmp_path, "b"), identity) as b:
                    assert bans(b) == {alice.guid, "198.51.100.0/24"}
                    assert not book(b).is_shared
                    await stream.update_stream(there.config)
                    await shared(b)
                    await until(lambda: bans(a) == bans(b))


@pytest.mark.nightly
async def test_commands_at_processes_that_are_killed(tmp_path: Path) -> None:
    """Everything at its ends: the commands, the processes, kill -9 of any of them."""
    key = str(tmp_path / "relay.key")
    make_key(key)
    peers = [Identity.generate().guid for _ in range(6)]

    def config(name: str, server: NatsServer) -> list[str]:
        file = tmp_path / f"{name}.toml"
        state = tmp_path / name
        file.write_text(
            f'state = "{state}"\nidentity = "{key}"\nadmission = "invited"\n[mailbox]\n'
            f'enabled = false\n[cluster]\nnode = "{name}"\nservers = "{server.url}"\n'
        )
        return ["--config", str(file), "--drain-timeout", "0"]

    async def command(name: str, *words: str) -> subprocess.CompletedProcess[str]:
        file = str(tmp_path / f"{name}.toml")
        return await asyncio.to_thread(
            processes.run_relay, tmp_path, *words, "--config", file, "--json"
        )

    async def banned(name: str) -> set[str]:
        done = await command(name, "bans")
        assert done.returncode == 0, done.stderr
        return {one["subject"] for one in json.loads(done.stdout)["bans"]}

    async def settled(expected: set[str], *names: str) -> None:
        async with asyncio.timeout(TIMEOUT):
            for name in names:
                while await banned(name) != expected:
                    await asyncio.sleep(0.05)

    with (
        nats_server(tmp_path, JETSTREAM.format(tmp_path / "store")) as server,
        contextlib.ExitStack() as stack,
    ):
        running = {
            name: stack.enter_context(processes.relay(tmp_path, *config(name, server)))
            for name in ("a", "b", "c")
        }
        for number, name in enumerate(("a", "b", "c")):
            assert (await command(name, "ban", peers[number])).returncode == 0
        await settled(set(peers[:3]), "a", "b", "c")
        # A node, killed in the moment in which another one says something.
        said = asyncio.create_task(command("a", "ban", peers[3]))
        running["b"][1].kill()
        running["b"][1].wait()
        assert (await said).returncode == 0
        assert (await command("a", "allow", peers[0])).returncode == 0
        running["b"] = stack.enter_context(processes.relay(tmp_path, *config("b", server)))
        await settled(set(peers[1:4]), "a", "b", "c")
        # NATS, killed as soon as it is said to be done: it is there.
        assert (await command("c", "ban", peers[4])).returncode == 0
        server.kill()
        for name in ("a", "b"):
            failed = await command(name, "ban", peers[5])
            assert failed.returncode == 1
            assert "relay check" in failed.stderr
        # A node that begins without NATS has its copy.
        running["a"][1].kill()
        running["a"][1].wait()
        running["a"] = stack.enter_context(processes.relay(tmp_path, *config("a", server)))
        assert set(peers[1:4]) <= await banned("a")
        server.start()
        await settled(set(peers[1:5]), "a", "b", "c")
        # One invitation, shown at all nodes by programs: it is used once.
        done = await command("a", "invite", "--uses", "1")
        assert done.returncode == 0, done.stderr
        shown = Token.parse(json.loads(done.stdout)["token"])

        async def shows(url: str) -> Registered | Error:
            async with client(url, Identity.generate()) as one:
                await one.ask_to_register(token=shown)
                return await outcome(one)

        outcomes = await asyncio.gather(*(shows(url) for url, _ in running.values()))
        assert sum(isinstance(one, Registered) for one in outcomes) == 1


async def test_clocks_that_differ_change_no_order(shelf: NatsServer, tmp_path: Path) -> None:
    seal, one, two = Seal(Identity.generate()), "192.0.2.0/24", "198.51.100.0/24"
    ahead = 3600.0
    async with contextlib.AsyncExitStack() as stack:
        books = []
        for name, shift in (("a", 0.0), ("b", ahead)):
            config = member_of(shelf, tmp_path, name)
            made = SharedBook(None, lambda shift=shift: time.time() + shift, Bucket(config, seal))  # type: ignore[misc]
            stack.push_async_callback(made.close)
            await made.open()
            books.append(made)
        a, b = books
        await until(lambda: a.is_shared and b.is_shared)
        # Whoever speaks last is right, though it says that it was an hour earlier.
        await b.ban(one, None, "b")
        await until(lambda: len(a.bans) == 1)
        await a.lift(one)
        await until(lambda: not len(b.bans))
        await b.ban(one, None, "b")
        await until(lambda: len(a.bans) == 1)
        await a.ban(one, None, "a")
        await until(lambda: [ban.reason for ban in b.bans] == ["a"])
        # A ban ends by the clock of each: at one it is over, and goes on at the other.
        await a.ban(two, time.time() + 60, "a")
        await until(lambda: len(b.bans) == 2)
        assert b.bans.of("", "198.51.100.1", time.time() + ahead) is None
        await b.drop_old()
        assert len(b.bans) == 1
        assert a.bans.of("", "198.51.100.1", time.time()) is not None
        # For who comes now, too.
        late = SharedBook(None, time.time, Bucket(member_of(shelf, tmp_path, "c"), seal))
        stack.push_async_callback(late.close)
        await late.open()
        await until(lambda: {ban.subject for ban in late.bans} == {one, two})


@pytest.mark.nightly
async def test_one_of_three_nats_servers_is_killed(tmp_path: Path) -> None:
    ports = [free_port() for _ in range(3)]
    identity, guid = Identity.generate(), Identity.generate().guid
    with contextlib.ExitStack() as stack:
        servers = [
            stack.enter_context(
                nats_server(
                    tmp_path,
                    f"server_name: s{port}",
                    JETSTREAM.format(tmp_path / str(port)),
                    routed(port, *(one for one in ports if one != port)),
                )
            )
            for port in ports
        ]
        urls = tuple(one.url for one in servers)
        settings = MailboxConfig(enabled=False, replicas=3)
        async with asyncio.timeout(3 * TIMEOUT), contextlib.AsyncExitStack() as relays:
            a, b = [
                await relays.enter_async_context(
                    RelayServer(
                        member_of(one, tmp_path, name, mailbox=settings, cluster={"servers": urls}),
                        identity,
                    )
                )
                for name, one in zip("ab", servers[:2], strict=True)
            ]
            await shared(a, b)
            await do(a, Ban(guid))
            await until(lambda: bans(b) == {guid})
            for server in servers:
                server.kill()
                # As soon as another one leads: until then it is refused.
                while not isinstance(await b.operator.do(Allow(guid)), Done):
                    await asyncio.sleep(0.1)
                while not isinstance(await a.operator.do(Ban(guid)), Done):
                    await asyncio.sleep(0.1)
                await until(lambda: bans(a) == bans(b) == {guid})
                server.start()
                await shared(a, b)


@pytest.mark.expected_errors("what the operator has said is not in the store here")
async def test_a_node_whose_disk_is_full_obeys_and_catches_up(
    shelf: NatsServer, tmp_path: Path
) -> None:
    def stored(relay: RelayServer) -> int:
        with contextlib.closing(sqlite3.connect(relay.config.in_state("relay.sqlite"))) as tables:
            (count,) = tables.execute("SELECT COUNT(*) FROM bans").fetchone()
        return int(count)

    async with nodes(shelf, tmp_path, "a") as (a,):
        await shared(a)
        with full_disk():
            await do(a, Ban("192.0.2.0/24"))
            await do(a, Ban("198.51.100.0/24"))
            assert len(bans(a)) == 2
            assert stored(a) == 0
        await until(lambda: stored(a) == 2)
