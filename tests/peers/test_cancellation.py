"""Every public call, and entering and leaving a peer, cancelled at each await: nothing is left, and
what was there before goes on.
"""

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import psutil
import pytest

from peers import Identity, Mode, Peer, PeerConfig, Session
from peers.tasks import Tasks
from protocol.errors import PeerOffline, RoamRelayError, UnknownPeer
from relay.config import RelayConfig
from relay.server import RelayServer
from tests.support.rooms import rooms

TURNS = [*range(14), 16, 20, 25, 30, 40, 60, 100, 200]
"""After how many turns of the loop the call is cancelled."""
QUICK = PeerConfig(connect_timeout=10.0, request_timeout=10.0, path_timeout=10.0)


def held() -> tuple[int, int]:
    """The listening sockets and the descriptors of this process."""
    gc.collect()
    process = psutil.Process()
    listening = sum(one.status == psutil.CONN_LISTEN for one in process.net_connections("tcp"))
    return listening, process.num_fds()


async def settled(before: set["asyncio.Task[Any]"], fds: tuple[int, int]) -> None:
    """Wait until no task and no descriptor is there that was not before."""
    async with asyncio.timeout(90):
        while asyncio.all_tasks() - before:
            await asyncio.sleep(0.01)
        while (now := held())[1] > fds[1] or now[0] > fds[0]:
            await asyncio.sleep(0.01)


async def cancelled_after(turns: int, work: Coroutine[Any, Any, Any]) -> bool:
    """Run the work, cancel it after so many turns of the loop; return whether that was in time."""
    task = asyncio.create_task(work)
    for _ in range(turns):
        await asyncio.sleep(0)
    early = task.cancel()
    try:
        result = await task
    except asyncio.CancelledError:
        return True
    except RoamRelayError:
        return early
    if isinstance(result, Session):
        result.abort()
    return False


@pytest.mark.parametrize("turns", TURNS)
async def test_entering(relay: RelayServer, turns: int) -> None:
    async with Peer(Identity.generate(), relay.url) as watcher:
        before, fds = asyncio.all_tasks(), held()
        identity = Identity.generate()
        peer = Peer(identity, relay.url, config=QUICK)
        if not await cancelled_after(turns, peer.__aenter__()):
            await peer.__aexit__(None, None, None)
        await settled(before, fds)
        with pytest.raises((UnknownPeer, PeerOffline)):
            await watcher.locate(identity.guid, "chat")


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("turns", TURNS)
async def test_leaving(relay: RelayServer, alice: Peer, turns: int, times: int) -> None:
    """However often, and although the other side does not answer."""
    listener = alice.listen("chat")
    await alice.published()
    before, fds = asyncio.all_tasks(), held()
    identity = Identity.generate()

    async def program() -> None:
        async with Peer(identity, relay.url, config=QUICK) as bob:
            bob.listen("here")
            await bob.published()
            for mode in (Mode.P2P, Mode.CENTRAL):
                session = await bob.connect(alice.guid, "chat", mode=mode)
                there = await anext(listener)
                there._flush = lambda: None  # type: ignore[method-assign]
                await session.send(b"never acknowledged")
            leaving.set()

    leaving = asyncio.Event()
    task = asyncio.create_task(program())
    await asyncio.wait_for(leaving.wait(), 60)
    for _ in range(turns):
        await asyncio.sleep(0)
    for _ in range(times):
        task.cancel()
        await asyncio.sleep(0)
    async with asyncio.timeout(60):
        with contextlib.suppress(asyncio.CancelledError):
            await task
    # Nothing of it runs any more in the very moment in which the cancellation is raised.
    names = {one.get_coro().__qualname__ for one in asyncio.all_tasks() - before}  # type: ignore[union-attr]
    assert not names
    for session in rooms(alice).sessions.live:
        session.abort()
    await settled(before, fds)
    with pytest.raises((UnknownPeer, PeerOffline)):
        await alice.locate(identity.guid, "here")


@contextlib.asynccontextmanager
async def pair(mode: Mode) -> AsyncIterator[tuple[Peer, Peer]]:
    """Two peers that have talked before, with a relay of their own."""
    # A leg whose other one does not come is held until its ticket has expired.
    config = RelayConfig(
        port=0, requests_burst=100_000, connects_burst=100_000, ticket_lifetime=2.0
    )
    async with (
        RelayServer(config) as relay,
        Peer(Identity.generate(), relay.url, config=QUICK) as alice,
        Peer(Identity.generate(), relay.url, config=QUICK) as bob,
    ):
        alice.listen("chat")
        await alice.published()
        yield alice, bob


@pytest.mark.parametrize("mode", list(Mode))
async def test_connecting(mode: Mode) -> None:
    async with pair(mode) as (alice, bob):
        before, fds = asyncio.all_tasks(), held()
        early = 0
        for turns in TURNS:
            early += await cancelled_after(turns, bob.connect(alice.guid, "chat", mode=mode))
            listener = rooms(alice).services.listeners["chat"]
            while not listener._waiting.empty():
                (await anext(listener)).abort()
            for end in (alice, bob):
                for session in rooms(end).sessions.live:
                    session.abort()
        assert early > 5, "it was cancelled on its way"
        for end in (alice, bob):
            rooms(end).sessions.abort()  # What was announced and never came.
        await settled(before, fds)
        session = await bob.connect(alice.guid, "chat", mode=mode)
        await session.close()


CALLS: dict[str, Callable[[Peer, Peer], Coroutine[Any, Any, Any]]] = {
    "locate": lambda alice, bob: bob.locate(alice.guid, "chat"),
    "published": lambda alice, bob: bob.published(),
    "wait": lambda alice, bob: bob.connect(Identity.generate().guid, "chat", wait=True),
    "watch": lambda alice, bob: watched_once(bob, alice.guid),
    "survey": lambda alice, bob: surveyed(bob, alice.guid),
    "ddns_key": lambda alice, bob: bob.ddns_key(),
}


async def watched_once(peer: Peer, guid: str) -> None:
    async with contextlib.aclosing(peer.watch(guid)) as presences:
        async for _ in presences:
            pass


async def surveyed(peer: Peer, guid: str) -> None:
    await peer.survey(await peer.locate(guid, "chat"))


@pytest.mark.parametrize("call", list(CALLS))
async def test_every_other_call_of_a_peer(call: str) -> None:
    async with pair(Mode.P2P) as (alice, bob):
        before, fds = asyncio.all_tasks(), held()
        for turns in TURNS:
            await cancelled_after(turns, CALLS[call](alice, bob))
        await settled(before, fds)
        assert (await bob.locate(alice.guid, "chat")).entries


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 5])
async def test_every_call_of_a_session(alice: Peer, bob: Peer, turns: int) -> None:
    listener = alice.listen("chat")
    await alice.published()
    here = await bob.connect(alice.guid, "chat")
    there = await asyncio.wait_for(anext(listener), 60)
    for number in range(50):
        await cancelled_after(turns, here.receive())
        await cancelled_after(turns, anext(aiter(here)))
        await cancelled_after(turns, anext(aiter(here.events())))
        await there.send(b"%d" % number)
        # A message that had arrived when its reader was cancelled is still there.
        while True:
            task = asyncio.create_task(here.receive())
            await asyncio.sleep(0)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                assert await task == b"%d" % number
                break
    closing = asyncio.create_task(here.close())
    await asyncio.sleep(0)
    closing.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await closing
    await here.close()
    await there.close()


async def test_a_send_that_is_cancelled_has_not_sent_its_own(relay: RelayServer) -> None:
    from peers import SessionSettings

    small = PeerConfig(session=SessionSettings(window=4096))
    async with (
        Peer(Identity.generate(), relay.url, config=small) as alice,
        Peer(Identity.generate(), relay.url, config=small) as bob,
    ):
        listener = alice.listen("chat")
        await alice.published()
        here = await bob.connect(alice.guid, "chat")
        there = await asyncio.wait_for(anext(listener), 60)
        sent = []
        for number in range(200):
            task = asyncio.create_task(here.send(b"%04d" % number + bytes(500)))
            await asyncio.sleep(0)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
                sent.append(number)
        assert 0 < len(sent) < 200, "the window was full"
        await_all = asyncio.create_task(here.close())
        assert [int((await there.receive())[:4]) for _ in sent] == sent
        await await_all


async def test_the_tasks_of_an_owner_end_although_the_program_holds_one_back(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program's own source of addresses may swallow its cancellation."""
    monkeypatch.setattr("peers.tasks.spawn._END", 0.05)
    tasks, release = Tasks(), asyncio.Event()

    async def stubborn() -> None:
        while not release.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await release.wait()

    task = tasks.spawn(stubborn())
    await asyncio.sleep(0)
    await asyncio.wait_for(tasks.close(), 60)
    assert "does not end" in caplog.text
    release.set()
    assert task is not None
    await task
