"""What an operator says at one node of a cluster holds at all of them: bans, the list, invitations,
each use of one exactly once; and what fails, is said, and is right again a second after it heals.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from protocol.errors import Code
from protocol.identity import Identity
from protocol.messages import Error, Registered
from relay.admission import Outcome, SharedBook
from relay.config import MailboxConfig
from relay.operator import (
    Allow,
    Announce,
    Answer,
    Asked,
    Ban,
    Done,
    Invitations,
    InvitationShown,
    InvitationsShown,
    Revoke,
)
from relay.server import RelayServer
from tests.cluster.nats import TIMEOUT, NatsServer, joined, nats_server, node
from tests.relay.admission.doors import OPERATOR, come, refusal, token
from tests.relay.client import client

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


async def test_the_list_and_what_is_taken_back_hold_at_all(
    shelf: NatsServer, tmp_path: Path
) -> None:
    async with nodes(shelf, tmp_path, "a", "b", admission="listed") as (a, b):
        await shared(a, b)
        alice = Identity.generate()
        assert isinstance(await come(b, alice), Error)
        await do(a, Allow(alice.guid))
        await until(lambda: book(b).member(alice.guid) is not None)
        async with client(b.url, alice) as there:
            await there.register()
            await do(a, Revoke(alice.guid))
            assert (await there.expect(Error)).code is Code.NOT_ADMITTED
        assert isinstance(await come(b, alice), Error)


async def test_an_invitation_is_used_once_in_the_whole_cluster(
    shelf: NatsServer, tmp_path: Path
) -> None:
    async with nodes(shelf, tmp_path, "a", "b", "c", admission="invited") as relays:
        await shared(*relays)
        for uses in (1, 4):
            for _ in range(5):
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


async def test_invitations_from_end_to_end(shelf: NatsServer, tmp_path: Path) -> None:
    async with nodes(shelf, tmp_path, "a", "b", admission="invited") as (a, b):
        await shared(a, b)
        shown, alice, bob = token(uses=2, note="two"), Identity.generate(), Identity.generate()
        await do(a, Announce(shown.statement))
        await until(lambda: book(b)._union.get(f"invitation.{shown.invitation.id}") is not None)
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
