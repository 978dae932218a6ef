"""What an operator says at one node of a cluster holds at all of them: bans, the list, invitations,
each use of one exactly once; and what fails, is said, and is right again a second after it heals.
"""

import asyncio
import contextlib
import json
import shutil
import sqlite3
import subprocess
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
from tests.cluster.nats import TIMEOUT, NatsServer, joined, nats_server, node
from tests.relay.admission.doors import OPERATOR, come, outcome, refusal, token
from tests.relay.client import client
from tests.support import processes

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


async def test_a_ban_at_one_node_holds_at_all(shelf: NatsServer, tmp_path: Path) -> None:
    async with nodes(shelf, tmp_path, "a", "b", "c") as (a, b, c):
        await shared(a, b, c)
        alice = Identity.generate()
        async with client(b.url, alice) as there:
            await there.register()
            await do(a, Ban(alice.guid, reason="spam"))
            said = await there.expect(Error)
            assert said.code is Code.NOT_ADMITTED
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
        assert (await invitations(relays[0]))[shown.invitation.id].used == 1


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
        # Known at the other node, without the token.
        async with client(b.url, alice) as there:
            await there.register()
            assert (await do(a, Revoke(shown.invitation.id))).said == "revoked"
            assert (await there.expect(Error)).code is Code.NOT_ADMITTED
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
            ends = {ban.expires for ban in book(relay).bans}
            assert ends == {None}, "of two ends the later one"
            await until(lambda relay=relay: book(relay).member(guids[3]) is not None)  # type: ignore[misc]
            assert (await invitations(relay))[shown.invitation.id].used == 2
        await do(b, Allow(guids[0]))
        await until(lambda: guids[0] not in bans(a))
    # Now the bucket is what there is: nothing comes back.
    async with nodes(shelf, tmp_path, "a", "b", identity=identity, admission="invited") as (a, b):
        await shared(a, b)
        assert bans(a) == bans(b) == {guids[1], "192.0.2.0/24"}
    # With another key each has a part of its own, and takes its copy along.
    other = Identity.generate()
    async with nodes(shelf, tmp_path, "a", "c", identity=other, admission="invited") as (a, c):
        await shared(a, c)
        await until(lambda: bans(c) == {guids[1], "192.0.2.0/24"})
        assert (await invitations(c))[shown.invitation.id].used == 2


async def test_a_peer_is_forgotten_at_all_nodes(shelf: NatsServer, tmp_path: Path) -> None:
    alice, identity = Identity.generate(), Identity.generate()

    def known(relay: RelayServer) -> bool:
        with contextlib.closing(sqlite3.connect(relay.config.in_state("known.sqlite"))) as tables:
            (count,) = tables.execute(
                "SELECT COUNT(*) FROM known WHERE guid = ?", (alice.guid,)
            ).fetchone()
        return bool(count)

    async with nodes(shelf, tmp_path, "a", "b", identity=identity, admission="invited") as (a, b):
        await shared(a, b)
        shown = token()
        assert isinstance(await come(b, alice, shown), Registered)
        await until(lambda: known(b) and book(a).member(alice.guid) is not None)
        await do(a, Forget(alice.guid))
        await until(lambda: not known(b) and book(b).member(alice.guid) is None)
        # Its use is free again, for somebody else too.
        assert isinstance(await come(b, Identity.generate(), shown), Registered)
        assert (await refusal(a, alice, shown)).code is Code.NOT_ADMITTED
        await do(a, Allow(alice.guid))
        await until(lambda: book(b).member(alice.guid) is not None)
        assert isinstance(await come(b, alice), Registered)
        await until(lambda: known(b))
    # It was done once: who comes again is kept again.
    async with nodes(shelf, tmp_path, "b", identity=identity, admission="invited") as (b,):
        await shared(b)
        await b.operator.hear()
        assert known(b)


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
