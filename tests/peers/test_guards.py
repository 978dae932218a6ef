"""Wrong use that cannot be seen from an argument: another thread, another loop, a peer that is not
open. It is told at once, what to do instead is said, and the peer goes on.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

from peers import (
    ConnectionClosed,
    Identity,
    Mode,
    Peer,
    PeerConfig,
    RelayUnavailable,
    RoamRelayError,
    Session,
    UsageError,
)
from relay.config import RelayConfig
from relay.server import RelayServer
from tests.support.sessions import pair

GUID = Identity.generate().guid
NEXT_STEP = "run_coroutine_threadsafe"

Call = Callable[[Peer, Session], Any]
CALLS: dict[str, Call] = {
    "listen": lambda peer, session: peer.listen("more"),
    "expose": lambda peer, session: peer.expose("more", 80),
    "connect": lambda peer, session: peer.connect(GUID, "chat", mode="p2p"),
    "locate": lambda peer, session: peer.locate(GUID, "chat"),
    "published": lambda peer, session: peer.published(),
    "ddns_key": lambda peer, session: peer.ddns_key(),
    "watch": lambda peer, session: peer.watch(GUID),
    "leaving": lambda peer, session: peer.leaving("192.0.2.1"),
    "block": lambda peer, session: peer.block(GUID),
    "close": lambda peer, session: peer.close(),
    "send": lambda peer, session: session.send(b"x"),
    "receive": lambda peer, session: session.receive(),
    "session.close": lambda peer, session: session.close(),
    "abort": lambda peer, session: session.abort(),
    "pin": lambda peer, session: session.pin(),
    "events": lambda peer, session: peer.events(),
    "session.events": lambda peer, session: session.events(),
}
EVERY_CALL = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)


async def made(call: Call, peer: Peer, session: Session) -> Any:
    result = call(peer, session)
    return await result if asyncio.iscoroutine(result) else result


def in_thread(run: Callable[[], object]) -> BaseException | None:
    """Run something in a thread of its own, and return what it raised."""
    raised: list[BaseException] = []

    def work() -> None:
        try:
            run()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(20)
    assert not thread.is_alive(), "it hangs"
    return raised[0] if raised else None


async def lives(here: Session, there: Session) -> None:
    async with asyncio.timeout(60):
        await here.send(b"still here")
        assert await there.receive() == b"still here"


@EVERY_CALL
async def test_from_the_loop_of_another_thread(alice: Peer, bob: Peer, call: Call) -> None:
    here, there = await pair(alice, bob, Mode.CENTRAL)
    error = in_thread(lambda: asyncio.run(made(call, bob, here)))
    assert isinstance(error, UsageError), error
    assert NEXT_STEP in str(error)
    await lives(here, there)


async def test_from_a_thread_without_a_loop(alice: Peer, bob: Peer) -> None:
    here, there = await pair(alice, bob, Mode.CENTRAL)
    for name in ("listen", "expose", "watch", "leaving", "block", "abort", "pin", "session.events"):
        error = in_thread(lambda call=CALLS[name]: call(bob, here))  # type: ignore[misc]
        assert isinstance(error, UsageError), name
    await lives(here, there)


async def test_a_listener_belongs_to_its_loop(bob: Peer) -> None:
    listener = bob.listen("chat")

    async def taken() -> Session:
        return await anext(listener)

    for use in (lambda: asyncio.run(taken()), listener.close):
        error = in_thread(use)  # type: ignore[arg-type]
        assert isinstance(error, UsageError), error
    await bob.published()


async def test_what_is_followed_is_followed_in_its_loop(alice: Peer, bob: Peer) -> None:
    here, there = await pair(alice, bob, Mode.CENTRAL)
    for events in (here.events(), bob.events(), bob.watch(alice.guid)):

        async def followed(events: AsyncIterator[object] = events) -> object:
            return await anext(events)

        error = in_thread(lambda work=followed: asyncio.run(work()))  # type: ignore[misc]
        assert isinstance(error, UsageError), error
    await lives(here, there)


async def test_the_next_step_is_one(alice: Peer, bob: Peer) -> None:
    here, there = await pair(alice, bob, Mode.CENTRAL)
    loop = asyncio.get_running_loop()

    def work() -> None:
        asyncio.run_coroutine_threadsafe(here.send(b"from a thread"), loop).result(20)

    assert await asyncio.to_thread(work) is None
    assert await there.receive() == b"from a thread"


def test_a_loop_that_has_ended() -> None:
    """Two `asyncio.run`, as in a notebook or a script."""

    async def opened() -> Peer:
        async with RelayServer(RelayConfig(port=0)) as relay:
            peer = await Peer(Identity.generate(), relay.url).start()
            await peer.close()
        return peer

    async def used(peer: Peer) -> None:
        await peer.published()

    peer = asyncio.run(opened())
    with pytest.raises(UsageError, match="event loop that has ended"):
        asyncio.run(used(peer))


@EVERY_CALL
async def test_a_peer_that_was_never_entered(alice: Peer, bob: Peer, call: Call) -> None:
    here, _ = await pair(alice, bob, Mode.CENTRAL)
    peer = Peer(Identity.generate(), "http://127.0.0.1:1")
    if call not in (CALLS["close"], *list(CALLS.values())[-7:]):
        with pytest.raises(ConnectionClosed, match="async with"):
            await made(call, peer, here)
    await peer.close()


async def test_a_peer_that_is_closed(relay: RelayServer, alice: Peer) -> None:
    async with Peer(Identity.generate(), relay.url) as peer:
        here, _ = await pair(alice, peer, Mode.CENTRAL)
    for name in list(CALLS)[:8]:
        with pytest.raises(ConnectionClosed, match="closed"):
            await made(CALLS[name], peer, here)
    assert peer.relay_guid is None
    assert peer.port


async def test_a_peer_is_entered_once(relay: RelayServer) -> None:
    async with Peer(Identity.generate(), relay.url) as peer:
        for enter in (peer.start, peer.__aenter__):
            with pytest.raises(ConnectionClosed, match="entered once"):
                await enter()
        await peer.published()
    with pytest.raises(ConnectionClosed, match="entered once"):
        await peer.start()


async def test_start_and_close_are_what_entering_and_leaving_are(
    relay: RelayServer, alice: Peer
) -> None:
    before = asyncio.all_tasks()
    peer = Peer(Identity.generate(), relay.url)
    assert await peer.start() is peer
    here, there = await pair(alice, peer, Mode.CENTRAL)
    await here.send(b"last words")
    await asyncio.gather(peer.close(), peer.close(timeout=5), peer.close())
    assert [message async for message in there] == [b"last words"]
    await peer.close()
    await there.close()
    async with asyncio.timeout(60):
        while asyncio.all_tasks() - before:
            await asyncio.sleep(0)


async def test_a_start_that_failed_leaves_nothing_to_close() -> None:
    peer = Peer(Identity.generate(), "http://127.0.0.1:1", config=PeerConfig(connect_timeout=0.2))
    before = asyncio.all_tasks()
    with pytest.raises(RelayUnavailable):
        await peer.start()
    await peer.close()
    assert asyncio.all_tasks() == before


async def test_the_program_s_own_group_ends_by_its_own_errors_alone(alice: Peer, bob: Peer) -> None:
    here, there = await pair(alice, bob, Mode.CENTRAL)

    async def wrong() -> None:
        await bob.connect(alice.guid, "chat", timeout="a")  # type: ignore[arg-type]

    with pytest.raises(ExceptionGroup) as caught:
        async with asyncio.TaskGroup() as group:
            group.create_task(wrong())
    assert [type(error) for error in caught.value.exceptions] == [TypeError]
    await lives(here, there)
    # And what belongs to nobody's group is not hidden behind another error.
    for work in (bob.connect(alice.guid, "none"), bob.locate(alice.guid, "none")):
        awaited: Coroutine[Any, Any, Any] = work
        with pytest.raises(RoamRelayError):
            await awaited
    await lives(here, there)
