"""A session in `combined` whose direct way closes for good goes on over the relay, and back."""

import asyncio
import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from peers import Identity, Mode, Peer, PeerConfig, Session
from peers.dialing import door
from relay.config import RelayConfig
from relay.server import RelayServer
from tests.support import faults
from tests.support.rooms import rooms


async def vanishes(*arguments: Any, **options: Any) -> Any:
    """SYNs vanish, as in a network that filters."""
    await asyncio.Event().wait()


async def is_refused(*arguments: Any, **options: Any) -> Any:
    raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")


@contextmanager
def no_direct_way(
    monkeypatch: pytest.MonkeyPatch, dial: Callable[..., Any] = vanishes
) -> Iterator[None]:
    """Nobody reaches anybody directly."""
    with monkeypatch.context() as patched:
        patched.setattr(door, "dial", dial)
        yield


async def until_on(session: Session, kind: str, seconds: float = 60.0) -> None:
    async with asyncio.timeout(seconds):
        async for change in session.events():
            if change.path is not None and change.path.kind == kind:
                return


class Talk:
    """Numbered messages both ways, all the time."""

    def __init__(self, here: Session, there: Session) -> None:
        self._ends = (here, there)
        self.sent = [0, 0]
        self.got: tuple[list[int], list[int]] = ([], [])
        self._over = False

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for end in (0, 1):
                tasks.create_task(self._send(end))
                tasks.create_task(self._receive(end))

    def stop(self) -> None:
        self._over = True

    async def _send(self, end: int) -> None:
        while not self._over:
            await self._ends[end].send(b"%d" % self.sent[end])
            self.sent[end] += 1
            await asyncio.sleep(0.005)
        await self._ends[end].send(b"end")

    async def _receive(self, end: int) -> None:
        while (message := await self._ends[end].receive()) != b"end":
            self.got[end].append(int(message))


@pytest.mark.parametrize("dial", [vanishes, is_refused])
async def test_no_message_is_lost_over_the_relay_and_back(
    monkeypatch: pytest.MonkeyPatch, dial: Callable[..., Any]
) -> None:
    monkeypatch.setattr("peers.roaming.rounds._DIRECT", 0.3)
    config = PeerConfig(connect_timeout=60.0)
    async with (
        RelayServer(RelayConfig(port=0)) as relay,
        Peer(Identity.generate(), relay.url, config=config) as alice,
        Peer(Identity.generate(), relay.url, config=config) as bob,
    ):
        listener = alice.listen("chat")
        await alice.published()
        session = await bob.connect(alice.guid, "chat", mode=Mode.COMBINED)
        there = await anext(listener)
        talk = Talk(session, there)
        talking = asyncio.create_task(talk.run())
        with no_direct_way(monkeypatch, dial):
            assert faults.reset(session)
            await until_on(session, "relayed")
            assert there.mode is session.mode is Mode.COMBINED, "it is what it was opened as"
            before = sum(talk.sent)
            async with asyncio.timeout(60):
                while sum(talk.sent) < before + 50:
                    await asyncio.sleep(0.01)
        for peer in (alice, bob):
            rooms(peer).sessions.network_changed(frozenset())
        await until_on(session, "direct")
        talk.stop()
        async with asyncio.timeout(60):
            await talking
        assert talk.got == (list(range(talk.sent[1])), list(range(talk.sent[0])))
        await session.close()


@pytest.mark.parametrize("who", ["caller", "callee"])
async def test_who_does_not_allow_it_stays_without_a_path(
    monkeypatch: pytest.MonkeyPatch, who: str
) -> None:
    """Then the other side is not asked in a mode that it has not named, and the session lives."""
    plain = PeerConfig(fallback=False)
    async with (
        RelayServer(RelayConfig(port=0)) as relay,
        Peer(Identity.generate(), relay.url, config=plain if who == "callee" else None) as alice,
        Peer(Identity.generate(), relay.url, config=plain if who == "caller" else None) as bob,
    ):
        listener = alice.listen("chat")
        await alice.published()
        session = await bob.connect(alice.guid, "chat", mode=Mode.COMBINED)
        there = await anext(listener)
        for end in (session, there):
            route = rooms(bob if end is session else alice).sessions.find(end.id)
            assert route is not None
            assert not route.falls_back
        asked = relay.metrics.requests

        def count(mode: Mode) -> int:
            return sum(number for (named, _), number in asked.items() if named == mode.value)

        # What would come after four seconds is due at once.
        monkeypatch.setattr("peers.roaming.rounds._DIRECT", 0.0)
        with no_direct_way(monkeypatch, is_refused):
            assert faults.reset(session)
            before = count(Mode.COMBINED)
            async with asyncio.timeout(60):
                while count(Mode.COMBINED) < before + 4:
                    await asyncio.sleep(0.01)
            assert not count(Mode.AUTO)
        async with asyncio.timeout(60):
            await session.send(b"still there")
            assert await there.receive() == b"still there"
        await session.close()
