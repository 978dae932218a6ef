"""Every function of the program that we call may raise: that is its error, not our end."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest

from peers import CallbackFailed, Candidate, Identity, Mode, Peer, PeerConfig, Session
from peers.host.address import LocalAddress
from peers.roaming.driver import Driver
from protocol.errors import RoamRelayError
from relay.server import RelayServer
from tests.support.addresses import address
from tests.support.rooms import rooms

DIRECT = [Mode.P2P, Mode.COMBINED]


def raises(candidates: Sequence[Candidate]) -> Sequence[Candidate]:
    raise ZeroDivisionError("the program's own")


def returns_nothing(candidates: Sequence[Candidate]) -> Any:
    return None


def returns_others(candidates: Sequence[Candidate]) -> Any:
    return [1, "two", None]


async def still_good(here: Session, there: Session) -> None:
    """A session goes on, both ways."""
    async with asyncio.timeout(60):
        for one, other in ((here, there), (there, here)):
            await one.send(b"still here")
            assert await other.receive() == b"still here"


@contextlib.asynccontextmanager
async def talking(alice: Peer, bob: Peer) -> AsyncIterator[tuple[Session, Session]]:
    """A session between the two that has nothing to do with what goes wrong."""
    listener = alice.listen("other")
    await alice.published()
    here = await bob.connect(alice.guid, "other", mode="p2p")
    there = await asyncio.wait_for(anext(listener), 60)
    yield here, there
    await still_good(here, there)


@pytest.mark.parametrize("mode", DIRECT)
@pytest.mark.parametrize("select", [raises, returns_nothing])
async def test_a_select_that_fails_is_told_to_who_connects(
    alice: Peer, bob: Peer, mode: Mode, select: Callable[..., Any]
) -> None:
    async with talking(alice, bob):
        alice.listen("chat")
        await alice.published()
        with pytest.raises(
            CallbackFailed, match=r"^select raised (ZeroDivision|Type)Error"
        ) as told:
            await bob.connect(alice.guid, "chat", mode=mode, select=select)
        assert type(told.value.__cause__) in (ZeroDivisionError, TypeError)
        # The same program, with a function that works.
        session = await bob.connect(alice.guid, "chat", mode=mode, select=lambda every: every)
        await session.close()


async def test_a_select_that_leaves_nothing_finds_no_path(alice: Peer, bob: Peer) -> None:
    async with talking(alice, bob):
        alice.listen("chat")
        await alice.published()
        with pytest.raises(RoamRelayError, match="select has left none"):
            await bob.connect(alice.guid, "chat", mode="p2p", select=returns_others)


async def test_a_select_that_fails_later_costs_a_round_and_not_the_session(
    alice: Peer, bob: Peer
) -> None:
    asked = 0

    def fails_second(every: Sequence[Candidate]) -> Sequence[Candidate]:
        nonlocal asked
        asked += 1
        if asked == 2:
            raise ZeroDivisionError("the program's own")
        return every

    async with talking(alice, bob):
        listener = alice.listen("chat")
        await alice.published()
        session = await bob.connect(alice.guid, "chat", mode="p2p", select=fails_second)
        there = await asyncio.wait_for(anext(listener), 60)
        # Only this side looks for the next path, and by the function alone.
        there._tell = lambda news: None
        session.drop_path("cut by the test")
        await still_good(session, there)
        assert asked >= 3
        await session.close()


class Source:
    """Tells addresses, and fails as the test wants it to."""

    def __init__(self, *steps: tuple[LocalAddress, ...] | Exception) -> None:
        self._steps = list(steps)
        self.begun = 0
        self.done = asyncio.Event()

    async def read(self) -> tuple[LocalAddress, ...]:
        return self._next()

    async def changes(self) -> AsyncIterator[tuple[LocalAddress, ...]]:
        self.begun += 1
        while self._steps:
            yield self._next()
        self.done.set()
        await asyncio.Event().wait()

    def _next(self) -> tuple[LocalAddress, ...]:
        step = self._steps.pop(0)
        if isinstance(step, Exception):
            raise step
        return step


@pytest.mark.expected_errors("addresses are not")
async def test_a_source_of_addresses_that_raises_is_asked_again(
    relay: RelayServer, alice: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("peers.whereabouts._AGAIN", 0.01)
    here = (address("127.0.0.1"),)
    source = Source(
        ValueError("at the first look"),
        here,
        KeyError("later"),
        here,
        OSError("and later"),
        here,
        RoamRelayError("one of ours"),
        here,
    )
    config = PeerConfig(relay=relay.url, sources=("127.0.0.1",))
    async with Peer(Identity.generate(), config=config, addresses=source) as bob:
        async with talking(alice, bob):
            await asyncio.wait_for(source.done.wait(), 60)
        assert source.begun == 4


@pytest.mark.expected_errors("addresses are not")
@pytest.mark.parametrize("told", [None, 7, ("192.0.2.1",), (None,)])
async def test_a_source_that_tells_what_is_no_address_harms_nobody(
    relay: RelayServer, alice: Peer, monkeypatch: pytest.MonkeyPatch, told: Any
) -> None:
    monkeypatch.setattr("peers.whereabouts._AGAIN", 0.01)
    source = Source(told, told, (address("127.0.0.1"),))
    config = PeerConfig(relay=relay.url, sources=("127.0.0.1",))
    async with Peer(Identity.generate(), config=config, addresses=source) as bob:
        await asyncio.wait_for(source.done.wait(), 60)
        async with talking(alice, bob):
            pass


async def test_who_breaks_off_in_a_loop_over_events_or_sessions_breaks_off_alone(
    alice: Peer, bob: Peer
) -> None:
    async with talking(alice, bob) as (here, there):
        listener = alice.listen("chat")
        await alice.published()

        async def serve() -> None:
            async for session in listener:
                await session.send(b"hello")
                raise ZeroDivisionError("the program's own")

        async def follow() -> None:
            async for _ in here.events():
                raise ZeroDivisionError("the program's own")

        serving, following = asyncio.create_task(serve()), asyncio.create_task(follow())
        session = await bob.connect(alice.guid, "chat")
        assert await asyncio.wait_for(session.receive(), 60) == b"hello"
        for task in (serving, following):
            with pytest.raises(ZeroDivisionError):
                await asyncio.wait_for(task, 60)
        # A path more: everybody who still follows is told.
        here.drop_path("cut by the test")
        await still_good(here, there)
        second = await bob.connect(alice.guid, "chat")
        await second.send(b"to whoever comes")
        assert await asyncio.wait_for(anext(listener), 60) is not None
        session.abort()
        second.abort()


@pytest.mark.parametrize("when", ["announced", "dialed", "met"])
async def test_a_service_that_closes_while_its_caller_is_dialed_ends_that_session_alone(
    alice: Peer, bob: Peer, when: str
) -> None:
    """Once, the callee that dialed back found no listener, and lost all its sessions."""
    async with talking(alice, bob) as (here, there):
        listener = alice.listen("chat")
        await alice.published()
        # The caller cannot reach the callee: it is dialed in place of dialing.
        ways = rooms(alice).ways
        direct, come, closed = ways.direct, ways.meetings.come, asyncio.Event()

        async def met_meanwhile(midway: Any) -> Any:
            try:
                stream = await come(midway)
                listener.close()
                return stream
            finally:
                closed.set()

        async def close_meanwhile(*arguments: Any, **more: Any) -> Any:
            try:
                if when == "announced":
                    listener.close()
                welcomed = await direct(*arguments, **more)
                if when == "dialed":
                    listener.close()
                return welcomed
            finally:
                closed.set()

        if when == "met":
            ways.meetings.come = met_meanwhile  # type: ignore[method-assign]
        else:
            ways.meetings.answer = lambda *_: ({}, None)  # type: ignore[method-assign]
            ways.direct = close_meanwhile  # type: ignore[method-assign]
        rooms(alice).direct.close()
        opening = asyncio.create_task(bob.connect(alice.guid, "chat", mode="combined", timeout=5))
        await asyncio.wait_for(closed.wait(), 60)
        with contextlib.suppress(RoamRelayError):
            session = await asyncio.wait_for(opening, 60)
            # It was opened for a moment: the other side ends it.
            with pytest.raises(RoamRelayError):
                await asyncio.wait_for(session.receive(), 60)
        ways.direct = direct  # type: ignore[method-assign]
        assert len(rooms(alice).sessions.live) == 1, "the other one"
        await still_good(here, there)


@pytest.mark.expected_errors("unexpected in the background")
@pytest.mark.parametrize("what", ["round", "look"])
async def test_what_nobody_expected_in_the_background_ends_one_session(
    alice: Peer, bob: Peer, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with talking(alice, bob):
        listener = alice.listen("chat")
        await alice.published()
        session = await bob.connect(alice.guid, "chat", mode="auto")
        there = await asyncio.wait_for(anext(listener), 60)
        driver = rooms(bob).sessions._live[session.id]

        name = "_run" if what == "round" else "_run_look"
        works = getattr(Driver, name)

        async def fail(self: Driver, *arguments: Any) -> None:
            if self is driver:
                raise KeyError("nobody thought of it")
            await works(self, *arguments)

        monkeypatch.setattr(Driver, name, fail)
        if what == "round":
            session.drop_path("cut by the test")
        else:
            driver._begin_look(None)  # type: ignore[arg-type]
        with pytest.raises(RoamRelayError, match="KeyError"):
            await asyncio.wait_for(session.receive(), 60)
        there.abort()


@pytest.mark.parametrize("message", ["text", 7, None, ["list"], object()])
async def test_what_is_no_message_is_said_where_it_was_made(
    alice: Peer, bob: Peer, message: Any
) -> None:
    async with talking(alice, bob) as (here, _):
        with pytest.raises(TypeError, match="bytes"):
            await here.send(message)


async def test_a_buffer_that_changes_afterwards_was_copied(alice: Peer, bob: Peer) -> None:
    async with talking(alice, bob) as (here, there):
        buffer = bytearray(b"before")
        await here.send(buffer)
        await here.send(memoryview(buffer)[:3])
        buffer[:] = b"AFTER!"
        assert [await there.receive(), await there.receive()] == [b"before", b"bef"]


async def test_what_needs_an_open_peer_says_so() -> None:
    peer = Peer(Identity.generate(), "http://127.0.0.1:9")
    with pytest.raises(RoamRelayError, match="async with"):
        peer.listen("chat")
    with pytest.raises(RoamRelayError, match="async with"):
        await peer.connect(peer.guid, "chat")
