"""Flights of a session's next path, as the session has them: on a clock that jumps."""

import asyncio

import msgspec
import pytest

from peers.session import FlightKeysChanged, Over, SessionEnd, SessionNews, Trace
from protocol.codec import encode
from protocol.features import EARLY_DATA, FIRST_FLIGHT, SESSION_2, SESSION_FEATURES
from protocol.first_bytes import MAX_SEALED
from protocol.first_flight import key_id_in
from protocol.messages import PathHello
from tests.peers.roaming.fakes import CALLEE, CALLER, PATIENT
from tests.support.fake_path import FakePath, linked
from tests.support.virtual_time import run


class Pair:
    """Both ends of a session that have a path. That of the callee lives on when the caller moves:
    it does not know yet."""

    def __init__(
        self, *, session_id: bytes = b"s" * 16, features: tuple[str, ...] = SESSION_FEATURES
    ) -> None:
        self.told: list[SessionNews] = []
        self.caller, self.callee = (
            SessionEnd(
                session_id, terms, PATIENT, Trace(asyncio.get_running_loop().time), self.told.append
            )
            for terms in (CALLER, CALLEE)
        )
        self.number = 0
        self.paths: tuple[FakePath, FakePath]
        self.join(features)

    def join(self, features: tuple[str, ...] = SESSION_FEATURES) -> None:
        """Give both a path, which the caller has dialed."""
        self.number += 1
        hello = msgspec.structs.replace(self.caller.hello(self.number, ()), features=features)
        welcome = msgspec.structs.replace(self.callee.welcome(()), features=features)
        self.paths = here, there = linked()
        self.callee.take_path(there.path, self.number, hello, dialed_here=False)
        self.caller.take_path(here.path, self.number, welcome, dialed_here=True)

    def move(self) -> None:
        """The caller has another address now; the callee's path is silent."""
        for path in self.paths:
            path._other = None
        self.caller.drop_path("moved")

    def flight(self, number: int | None = None) -> bytes:
        flight = self.caller.flight(self.number + 1 if number is None else number)
        assert flight is not None
        return flight.data

    def end(self) -> None:
        self.caller.abort()
        self.callee.abort()


def test_it_brings_the_oldest_of_both_and_moves_nobody() -> None:
    async def scene() -> None:
        pair = Pair()
        pair.move()
        await pair.caller.send(b"from the one that moved")
        await pair.callee.send(b"into a path that is dead")
        flight = pair.caller.flight(2)
        assert flight is not None
        answer = pair.callee.take_flight(flight.data)
        assert await pair.callee.receive() == b"from the one that moved"
        assert pair.callee.path is pair.paths[1]
        flight.answered(answer)
        assert await pair.caller.receive() == b"into a path that is dead"
        assert pair.caller.path is None
        assert pair.caller.outstanding == 0
        pair.join()
        await pair.caller.send(b"two")
        await pair.callee.send(b"three")
        assert await pair.callee.receive() == b"two"
        assert await pair.caller.receive() == b"three"
        pair.end()

    run(scene())


def test_a_replay_brings_nothing_while_the_path_lives_nor_after_it() -> None:
    async def scene() -> None:
        pair = Pair()
        pair.move()
        await pair.caller.send(b"once")
        recorded, late = pair.flight(), pair.flight()
        assert pair.callee.take_flight(recorded)
        assert pair.callee.take_flight(recorded) == b""
        pair.join()
        assert pair.callee.take_flight(recorded) == b""
        # One that was held back is no replay; the number of the path that was taken refuses it.
        assert pair.callee.take_flight(late) == b""
        assert pair.callee.figures().received == 1
        assert pair.callee.path is pair.paths[1]
        pair.end()

    run(scene())


def test_neither_the_other_session_nor_the_other_side_takes_it() -> None:
    async def scene() -> None:
        pair, other = Pair(), Pair(session_id=b"o" * 16)
        pair.move()
        await pair.caller.send(b"for one alone")
        data = pair.flight()
        for wrong in (pair.caller, other.caller, other.callee):
            assert wrong.take_flight(data) == b""
            assert wrong.figures().received == 0
        assert pair.callee.take_flight(data)
        pair.end()
        other.end()

    run(scene())


@pytest.mark.parametrize(
    "change",
    [{"session": b"x" * 16}, {"resume": False}, {"standby": True}, {"path": 1}],
    ids=lambda change: next(iter(change)),
)
def test_what_its_hello_says_must_be_of_this_session(change: dict[str, object]) -> None:
    async def scene() -> None:
        pair = Pair()
        hello = msgspec.structs.replace(pair.caller.hello(2, ()), **change)
        sealed = pair.caller._flight_keys.seal(b"r" * 32, encode(hello) + b"\x93\0\1\x91\xc4\1x")
        assert sealed is not None
        assert pair.callee.take_flight(sealed.data) == b""
        assert pair.callee.figures().received == 0
        pair.end()

    run(scene())


@pytest.mark.parametrize(
    "plain", [b"", b"\xc1", encode(PathHello(b"s" * 16, "x", CALLER.mode))[:9]]
)
def test_what_is_no_hello_ends_nothing(plain: bytes) -> None:
    async def scene() -> None:
        pair = Pair()
        sealed = pair.caller._flight_keys.seal(b"r" * 32, plain)
        assert sealed is not None
        assert pair.callee.take_flight(sealed.data) == b""
        assert not pair.callee.is_over
        pair.end()

    run(scene())


def test_none_leaves_where_a_path_delivers_or_the_other_side_takes_none() -> None:
    async def scene() -> None:
        pair = Pair()
        assert pair.caller.flight(2) is None, "there is a path"
        pair.move()
        assert pair.caller.flight(2) is not None
        pair.join(features=(SESSION_2, EARLY_DATA))
        pair.move()
        assert pair.caller.flight(3) is None, "not named on the last path"
        pair.end()
        assert pair.caller.flight(3) is None, "over"
        fresh = SessionEnd(b"s" * 16, CALLER, PATIENT, Trace(lambda: 0.0), pair.told.append)
        assert fresh.flight(1) is None, "never had a path"
        fresh.abort()

    run(scene())


@pytest.mark.parametrize("features", [(), (SESSION_2, EARLY_DATA), (EARLY_DATA, FIRST_FLIGHT)])
def test_an_old_party_never_sees_one(features: tuple[str, ...]) -> None:
    async def scene() -> None:
        pair = Pair(features=features)
        pair.move()
        await pair.caller.send(b"waits for the hello")
        assert pair.caller.flight(2) is None
        assert pair.caller.flight_keys == pair.callee.flight_keys == ()
        assert not [one for one in pair.told if isinstance(one, FlightKeysChanged)]
        pair.end()

    run(scene())


def test_after_one_that_came_to_nothing_no_more_leave_before_the_next_path() -> None:
    async def scene() -> None:
        pair = Pair()
        pair.move()
        flight = pair.caller.flight(2)
        assert flight is not None
        flight.failed()
        assert pair.caller.flight(3) is None
        pair.join()
        pair.move()
        assert pair.caller.flight(3) is not None
        pair.end()

    run(scene())


def test_without_messages_it_brings_those_of_the_other_side() -> None:
    """Where the other side's key was not met yet."""

    async def scene() -> None:
        pair = Pair()
        pair.move()
        await pair.caller.send(b"not for whoever listens there")
        await pair.callee.send(b"into a path that is dead")
        flight = pair.caller.flight(2, with_messages=False)
        assert flight is not None
        assert len(flight.data) < 400
        answer = pair.callee.take_flight(flight.data)
        assert pair.callee.figures().received == 0
        flight.answered(answer)
        assert await pair.caller.receive() == b"into a path that is dead"
        pair.end()

    run(scene())


@pytest.mark.parametrize("with_messages", [True, False])
def test_one_kind_that_came_to_nothing_leaves_the_other(with_messages: bool) -> None:
    """Another host at an address that was never tried says nothing of where the key was met."""

    async def scene() -> None:
        pair = Pair()
        pair.move()
        flight = pair.caller.flight(2, with_messages=with_messages)
        assert flight is not None
        flight.failed()
        assert pair.caller.flight(3, with_messages=with_messages) is None
        assert pair.caller.flight(3, with_messages=not with_messages) is not None
        pair.end()

    run(scene())


def test_it_fits_into_what_tcp_sends_at_once() -> None:
    async def scene() -> None:
        pair = Pair()
        pair.move()
        for _ in range(2):
            await pair.caller.send(bytes(1 << 20))
        assert 8192 < len(pair.flight()) < 10_000 < MAX_SEALED
        pair.end()

    run(scene())


def test_who_looks_for_its_session_is_told_of_the_keys() -> None:
    async def scene() -> None:
        pair = Pair()
        ids: set[bytes] = set()
        for _ in range(4):
            pair.move()
            assert key_id_in(pair.flight()) in pair.callee.flight_keys
            pair.join()
        for news in pair.told:
            if isinstance(news, FlightKeysChanged) and news.session is pair.callee:
                ids.difference_update(news.gone)
                ids.update(news.come)
        assert ids == set(pair.callee.flight_keys)
        assert len(ids) == 2
        keys = []
        pair.callee._tell = lambda news: keys.append((type(news), pair.callee.flight_keys))
        pair.end()
        assert keys[-1] == (Over, tuple(keys[-1][1])), "the ids are there until it is told"
        assert set(keys[-1][1]) == ids
        assert pair.callee.flight_keys == ()

    run(scene())
