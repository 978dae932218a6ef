"""Serving sessions: many at once and no more than that, each by itself, and none left."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from peers import (
    ConnectionClosed,
    Identity,
    Mode,
    Peer,
    RoamRelayError,
    Session,
    SessionClosed,
    SessionLost,
)
from relay.server import RelayServer

LONG = 60.0
"""Seconds: nothing is waited for that long."""


async def echo(session: Session) -> None:
    async for message in session:
        await session.send(message)


async def asked(session: Session, message: bytes = b"hello") -> bytes:
    await session.send(message)
    return await asyncio.wait_for(session.receive(), LONG)


@pytest.fixture
async def caller(bob: Peer, alice: Peer) -> AsyncIterator[Peer]:
    """Bob, where no task but his and alice's is left in the end."""
    before = asyncio.all_tasks()
    yield bob
    async with asyncio.timeout(LONG):
        while any("serve" in str(task) for task in asyncio.all_tasks() - before):
            await asyncio.sleep(0)


def serving(peer: Peer, handler: object = echo, **terms: int) -> "asyncio.Task[None]":
    return asyncio.create_task(peer.serve("chat", handler, **terms))  # type: ignore[arg-type]


async def connected(bob: Peer, alice: Peer, mode: Mode = Mode.P2P) -> Session:
    return await bob.connect(alice.guid, "chat", mode=mode, wait=True)


async def test_many_at_once_and_one_that_breaks_off_stops_nobody(alice: Peer, caller: Peer) -> None:
    task = serving(alice)
    sessions = [await connected(caller, alice) for _ in range(5)]
    assert [await asked(one, b"%d" % number) for number, one in enumerate(sessions)] == [
        b"0",
        b"1",
        b"2",
        b"3",
        b"4",
    ]
    sessions[0].abort("enough")
    await sessions[1].close()
    assert await asked(sessions[2]) == b"hello"
    assert await asked(await connected(caller, alice)) == b"hello"
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_no_more_than_it_says_and_the_next_one_when_one_has_ended(
    alice: Peer, caller: Peer
) -> None:
    running = most = 0

    async def counted(session: Session) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        try:
            await echo(session)
        finally:
            running -= 1

    task = serving(alice, counted, max_sessions=2)
    sessions = [await connected(caller, alice) for _ in range(3)]
    for one in sessions:
        await one.send(b"hello")
    for one in sessions[:2]:
        assert await asyncio.wait_for(one.receive(), LONG) == b"hello"
    waiting = asyncio.create_task(sessions[2].receive())
    assert await asked(sessions[1]) == b"hello"
    assert not waiting.done()
    await sessions[0].close()
    assert await asyncio.wait_for(waiting, LONG) == b"hello"
    assert most == 2
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.expected_errors("the handler of 'chat' failed")
async def test_what_a_handler_raises_ends_its_session_and_is_told_once(
    alice: Peer, caller: Peer
) -> None:
    told: list[dict[str, object]] = []

    async def fails(session: Session) -> None:
        if await session.receive() == b"fail":
            raise LookupError("a secret of the program")
        await echo(session)

    asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context))
    task = serving(alice, fails)
    sibling = await connected(caller, alice)
    await sibling.send(b"first")
    bad = await connected(caller, alice)
    with pytest.raises(SessionLost, match="the service failed") as caught:
        await asked(bad, b"fail")
    assert "secret" not in str(caught.value)
    assert await asked(sibling) == b"hello"
    (context,) = told
    assert isinstance(context["exception"], LookupError)
    assert "'chat'" in str(context["message"])
    asyncio.get_running_loop().set_exception_handler(None)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.expected_errors("the handler of 'chat' failed")
async def test_a_handler_that_is_not_async(alice: Peer, caller: Peer) -> None:
    task = serving(alice, lambda session: None)
    with pytest.raises(SessionLost, match="the service failed"):
        await asked(await connected(caller, alice))
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_session_is_closed_when_its_handler_returns(alice: Peer, caller: Peer) -> None:
    async def once(session: Session) -> None:
        await session.send(await session.receive())

    task = serving(alice, once)
    session = await connected(caller, alice)
    assert await asked(session) == b"hello"
    with pytest.raises(SessionClosed):
        await asyncio.wait_for(session.receive(), LONG)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_cancelled_it_leaves_no_task_and_no_service(alice: Peer, caller: Peer) -> None:
    ended: list[type[BaseException]] = []

    async def waits(session: Session) -> None:
        try:
            await asyncio.sleep(LONG)
        except BaseException as error:
            ended.append(type(error))
            raise

    task = serving(alice, waits)
    session = await connected(caller, alice)
    await session.send(b"hello")
    async with asyncio.timeout(LONG):
        while session.outstanding:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ended == [asyncio.CancelledError]
        with pytest.raises(SessionLost, match="the service is closed"):
            await session.receive()
    again = serving(alice)
    assert await asked(await connected(caller, alice)) == b"hello"
    again.cancel()
    await asyncio.gather(again, return_exceptions=True)


async def test_a_peer_that_is_closed_ends_it_and_closes_the_sessions_cleanly(
    relay: RelayServer, bob: Peer
) -> None:
    alice = await Peer(Identity.generate(), relay.url).start()
    task = serving(alice)
    session = await connected(bob, alice)
    assert await asked(session) == b"hello"
    await alice.close()
    await asyncio.wait_for(task, LONG)
    with pytest.raises(SessionClosed):
        await asyncio.wait_for(session.receive(), LONG)
    with pytest.raises(ConnectionClosed):
        await alice.serve("chat", echo)


async def test_a_service_is_served_once(alice: Peer) -> None:
    task = serving(alice)
    await asyncio.sleep(0)
    with pytest.raises(ValueError, match="offered already"):
        await alice.serve("chat", echo)
    assert not task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.expected_errors("registration ended")
async def test_a_registration_that_is_lost_for_good_is_raised(relay: RelayServer) -> None:
    identity = Identity.generate()
    async with Peer(identity, relay.url) as first:
        task = serving(first)
        await first.published()
        async with Peer(identity, relay.url):
            with pytest.raises(RoamRelayError):
                await asyncio.wait_for(task, LONG)
