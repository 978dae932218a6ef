"""One path from its handshake to its end, over a stream that is made of nothing."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peers import Identity, Mode, WrongIdentity
from peers.config import PathKind
from peers.path import PathEnd, Paths
from protocol.codec import encode
from protocol.errors import Code, PathFailed, Refused, RoamRelayError
from protocol.first_bytes import flight_head
from protocol.messages import PathHello, PathReject, PathWelcome, Ping
from protocol.session import EARLY_BYTES, Early
from tests.peers.roaming.fakes import HERE, THERE
from tests.support.memory_stream import MemoryStream, streams
from tests.support.virtual_time import run

HELLO = PathHello(b"s" * 16, "chat", Mode.P2P)
HERES, THERES = HERE.guid, THERE.guid


class User:
    """What a session is for its path."""

    def __init__(self) -> None:
        self.data = b""
        self.lost: list[str] = []
        self.writable = 0
        self.heard = 0

    def path_data(self, path: PathEnd, data: bytes) -> None:
        self.data += data

    def path_heard(self, path: PathEnd) -> None:
        self.heard += 1

    def path_writable(self, path: PathEnd) -> None:
        self.writable += 1

    def path_lost(self, path: PathEnd, reason: str) -> None:
        self.lost.append(reason)


class Scene:
    """Both ends of a path that has not begun."""

    def __init__(self, here: Identity = HERE, there: Identity = THERE) -> None:
        self.a, self.b = streams()
        self.paths = Paths(here), Paths(there)
        self.client = self.paths[0].make(self.a, PathKind.DIRECT, server=False)
        self.server = self.paths[1].make(self.b, PathKind.DIRECT, server=True)
        self.user, self.other = User(), User()

    async def proven(self) -> PathHello:
        """Prove both, and say hello; the server has not answered yet."""

        async def ask() -> PathWelcome:
            await self.client.prove(THERES, 5.0)
            return await self.client.ask(lambda path: HELLO, 5.0)

        self.asking = asyncio.create_task(ask())
        return await self.server.accept(5.0)

    async def carrying(self) -> None:
        """Let both carry."""
        await self.proven()
        assert not self.a.is_settled
        assert not self.b.is_settled
        self.server.welcome(PathWelcome())
        self.server.carry(self.other)
        await self.asking
        self.client.carry(self.user)
        assert self.a.is_settled
        assert self.b.is_settled

    async def all_gone(self) -> None:
        for one in self.paths:
            await one.abort()


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def failed(work: Coroutine[Any, Any, Any]) -> RoamRelayError:
    with pytest.raises(RoamRelayError) as told:
        await work
    return told.value


def test_both_sides_are_proven_before_anything_is_said() -> None:
    async def scene() -> None:
        it = Scene()
        accepting = asyncio.create_task(it.server.accept(5.0))
        assert await it.client.prove(THERES, 5.0) >= 0
        assert it.client.remote_guid == THERES
        await turns()
        assert not accepting.done()
        assert it.server.remote_guid == HERES
        asking = asyncio.create_task(it.client.ask(lambda path: HELLO, 5.0))
        assert await accepting == HELLO
        it.server.welcome(PathWelcome(received=3))
        assert (await asking).received == 3
        await it.all_gone()
        assert it.a.gone
        assert it.b.gone

    run(scene())


EARLY = Early((b"one", b"two"), ((1, 0), (2, 0)), 0.0)


def test_what_leaves_with_the_hello_is_in_its_flight_and_delivered_behind_the_welcome() -> None:
    async def scene() -> None:
        it = Scene()
        accepting = asyncio.create_task(it.server.accept(5.0))
        await it.client.prove(THERES, 5.0)
        before = len(it.a.written)
        asking = asyncio.create_task(it.client.ask(lambda path: HELLO, 5.0, lambda: EARLY))
        assert await accepting == HELLO
        assert len(it.a.written) == before + 1, "one write, before anything was answered"
        it.server.welcome(PathWelcome())
        it.server.carry(it.other)
        await asking
        await turns()
        assert it.other.data == b"onetwo"
        assert it.client.early is EARLY
        await it.all_gone()

    run(scene())


def test_what_stands_behind_a_hello_that_is_rejected_is_discarded() -> None:
    async def scene() -> None:
        it = Scene()
        accepting = asyncio.create_task(it.server.accept(5.0))
        await it.client.prove(THERES, 5.0)
        asking = asyncio.create_task(it.client.ask(lambda path: HELLO, 5.0, lambda: EARLY))
        await accepting
        it.server.reject(Code.PATH_SUPERSEDED, "a newer path was taken")
        it.server.carry(it.other)
        assert (await failed(asking)).code is Code.PATH_SUPERSEDED
        assert it.other.data == b""
        await it.all_gone()

    run(scene())


@pytest.mark.parametrize(("size", "lives"), [(EARLY_BYTES, True), (EARLY_BYTES + 1, False)])
def test_what_stands_behind_a_hello_has_a_bound(size: int, lives: bool) -> None:
    """However many records bring it, and however long the answer takes."""

    async def scene() -> None:
        it = Scene()
        accepting = asyncio.create_task(it.server.accept(5.0))
        await it.client.prove(THERES, 5.0)
        early = Early((bytes(size - 1), b"x"), ((1, 0), (2, 0)), 0.0)
        asking = asyncio.create_task(it.client.ask(lambda path: HELLO, 5.0, lambda: early))
        with contextlib.suppress(RoamRelayError):
            assert await accepting == HELLO
        await turns()
        assert (not it.b.end) is lives, it.b.end
        it.server.welcome(PathWelcome())
        if lives:
            it.server.carry(it.other)
            await asking
            assert len(it.other.data) == size
        else:
            assert isinstance(await failed(asking), PathFailed)
        await it.all_gone()

    run(scene())


class SealedFlight:
    """What leaves before TLS. Of what is sealed in it a path knows nothing."""

    def __init__(self, sealed: bytes = b"sealed") -> None:
        self.data = flight_head(b"k" * 16, b"r" * 32, len(sealed)) + sealed
        self.answers: list[bytes] = []
        self.has_failed = False

    def answered(self, data: bytes) -> None:
        self.answers.append(data)

    def failed(self) -> None:
        self.has_failed = True


ANSWER = SealedFlight(b"its answer").data


@pytest.mark.parametrize("answer", [ANSWER, b""], ids=["answered", "not"])
@pytest.mark.parametrize("size", [1, 53, 54, 55, 10_000])
def test_what_is_sealed_before_tls_is_taken_and_answered_and_tls_goes_on(
    answer: bytes, size: int
) -> None:
    """In whatever pieces it arrives."""

    async def scene() -> None:
        it = Scene()
        flight, taken = SealedFlight(), list[bytes]()

        def take(data: bytes) -> bytes:
            assert not it.server.remote_guid, "nobody has proven anything"
            taken.append(data)
            return answer

        def in_pieces(end: MemoryStream) -> Callable[[bytes], bytes]:
            def arrive(data: bytes) -> bytes:
                for at in range(0, len(data), size):
                    end.arrives(data[at : at + size])
                return b""

            return arrive

        it.a.changes, it.b.changes = in_pieces(it.b), in_pieces(it.a)
        accepting = asyncio.create_task(it.server.accept(5.0, take))
        await turns()  # So that its stream has an owner.
        await it.client.prove(THERES, 5.0, flight)
        assert it.a.written[0].startswith(flight.data + b"\x16"), "in one write"
        assert taken == [flight.data]
        assert flight.answers == [answer] * bool(answer)
        asking = asyncio.create_task(it.client.ask(lambda path: HELLO, 5.0))
        assert await accepting == HELLO
        it.server.welcome(PathWelcome())
        await asking
        assert it.client.export(b"session") == it.server.export(b"session")
        assert it.client.export(b"session") != it.client.export(b"another")
        await it.all_gone()

    run(scene())


def test_who_can_use_none_goes_on_with_tls() -> None:
    async def scene() -> None:
        it = Scene()
        accepting = asyncio.create_task(it.server.accept(5.0))
        await it.client.prove(THERES, 5.0, SealedFlight())
        asking = asyncio.create_task(it.client.ask(lambda path: HELLO, 5.0))
        assert await accepting == HELLO
        it.server.welcome(PathWelcome())
        await asking
        await it.all_gone()

    run(scene())


UNKNOWN = [b"RR\x01\x02", b"RR\x02\x01", b"R\x16"]
UNKNOWN_IDS = ["kind", "version", "neither"]


@pytest.mark.parametrize("begin", [ANSWER, *UNKNOWN], ids=["answer", *UNKNOWN_IDS])
def test_who_has_sent_no_flight_takes_none(begin: bytes) -> None:
    async def scene() -> None:
        it = Scene()
        accepting = asyncio.create_task(failed(it.server.accept(5.0)))
        proving = asyncio.create_task(failed(it.client.prove(THERES, 5.0)))
        await asyncio.sleep(0)
        it.a.arrives(begin + bytes(20))
        assert (await proving).reason.startswith("TLS failed")
        await accepting
        await it.all_gone()

    run(scene())


@pytest.mark.parametrize("begin", UNKNOWN, ids=UNKNOWN_IDS)
def test_what_is_not_known_before_tls_ends_the_path(begin: bytes) -> None:
    async def scene() -> None:
        it = Scene()
        taken: list[bytes] = []
        accepting = asyncio.create_task(
            failed(it.server.accept(5.0, lambda data: taken.append(data) or b""))
        )
        await turns()
        it.b.arrives(begin)
        assert "not known here" in (await accepting).reason
        assert (taken, it.b.end, it.b.written) == ([], "aborted", [])
        await it.paths[1].abort()

    run(scene())


def test_a_flight_that_is_cut_is_not_taken() -> None:
    async def scene() -> None:
        for cut in range(0, len(ANSWER), 7):
            it = Scene()
            taken: list[bytes] = []
            accepting = asyncio.create_task(
                failed(it.server.accept(5.0, lambda data, taken=taken: taken.append(data) or b""))
            )
            await turns(3)
            it.b.arrives(ANSWER[:cut])
            it.b.lose("cut")
            await accepting
            assert taken == []

    run(scene())


def test_bytes_go_both_ways_and_what_came_early_is_not_lost() -> None:
    async def scene() -> None:
        it = Scene()
        await it.proven()
        it.server.welcome(PathWelcome())
        it.server.send(b"right behind the welcome")
        await it.asking
        await turns()
        it.client.carry(it.user)
        it.server.carry(it.other)
        assert it.user.data == b"right behind the welcome"
        it.client.send(b"ping")
        await turns()
        assert it.other.data == b"ping"
        await it.all_gone()

    run(scene())


def test_what_came_before_the_end_is_delivered_to_who_takes_the_path_after_it() -> None:
    """Whoever answers for a session that has closed hangs up behind the answer."""

    async def scene() -> None:
        it = Scene()
        await it.proven()
        it.server.welcome(PathWelcome())
        it.server.send(b"closed")
        it.server.finish()
        await it.asking
        await turns()
        it.client.carry(it.user)
        assert (it.user.data, it.user.lost) == (b"closed", ["the other side closed the path"])
        await it.all_gone()

    run(scene())


@pytest.mark.parametrize("by", ["client", "server"])
def test_a_path_that_is_finished_brings_all_that_was_sent_and_both_streams_are_gone(
    by: str,
) -> None:
    async def scene() -> None:
        it = Scene()
        await it.carrying()
        one, user = (it.client, it.other) if by == "client" else (it.server, it.user)
        for number in range(50):
            one.send(b"%d," % number)
        one.finish()
        one.finish()
        one.send(b"too late")
        await turns()
        assert user.data == b"".join(b"%d," % number for number in range(50))
        assert user.lost == ["the other side closed the path"]
        for paths in it.paths:
            await asyncio.wait_for(paths.close(), 1.0)
        mine, theirs = (it.a, it.b) if by == "client" else (it.b, it.a)
        assert theirs.end == "aborted", "whoever hears it drops the stream"
        assert mine.gone

    run(scene())


def test_a_path_that_is_finished_waits_for_the_other_side_and_not_for_ever() -> None:
    async def scene() -> None:
        it = Scene()
        await it.carrying()
        it.a.changes = lambda data: b""
        loop = asyncio.get_running_loop()
        began = loop.time()
        it.client.finish()
        await turns()
        assert it.a.end == ""
        await asyncio.sleep(2.1)
        assert it.a.end == "aborted"
        assert loop.time() - began < 3
        await it.all_gone()

    run(scene())


def test_whoever_carries_is_told_once_that_it_is_gone() -> None:
    async def scene() -> None:
        it = Scene()
        await it.carrying()
        it.a.lose("reset")
        it.a.lose("again")
        assert it.user.lost == [f"{it.client.remote}: reset"]
        it.client.send(b"nobody hears this")
        it.client.abort()
        it.client.finish()
        late = User()
        it.client.carry(late)
        assert late.lost == [f"{it.client.remote}: reset"]
        assert it.user.lost == late.lost
        await it.all_gone()

    run(scene())


def test_whoever_aborts_is_told_nothing() -> None:
    async def scene() -> None:
        it = Scene()
        await it.carrying()
        it.client.abort()
        await turns()
        assert it.user.lost == []
        assert len(it.other.lost) == 1

    run(scene())


def test_what_waits_is_told_that_there_is_room() -> None:
    async def scene() -> None:
        it = Scene()
        it.client.stream_writable()
        await it.carrying()
        it.a.paused = True
        assert it.client.paused
        it.client.stream_writable()
        assert it.user.writable == 1
        await it.all_gone()

    run(scene())


def test_another_peer_is_named() -> None:
    async def scene() -> None:
        stranger = Identity.generate()
        it = Scene(there=stranger)
        accepting = asyncio.create_task(failed(it.server.accept(5.0)))
        told = await failed(it.client.prove(THERES, 5.0))
        assert isinstance(told, WrongIdentity)
        assert (told.expected, told.actual) == (THERES, stranger.guid)
        await accepting
        assert it.a.end == "aborted"
        await it.all_gone()

    run(scene())


def silent(it: Scene) -> None:
    it.b.changes = lambda data: b""


def garbled(it: Scene) -> None:
    it.b.changes = lambda data: bytes(len(data))


def cut(it: Scene) -> None:
    it.b.abort()


@pytest.mark.parametrize(
    ("fault", "words"),
    [(silent, "no answer within 5 s"), (garbled, "TLS failed"), (cut, "reset by the other side")],
    ids=lambda what: getattr(what, "__name__", ""),
)
def test_a_proof_that_fails_says_why_and_leaves_nothing(fault: Any, words: str) -> None:
    async def scene() -> None:
        it = Scene()
        accepting = asyncio.create_task(failed(it.server.accept(5.0)))
        fault(it)
        assert words in (await failed(it.client.prove(THERES, 5.0))).reason
        assert isinstance(await accepting, PathFailed)
        await it.all_gone()
        assert (it.a.end, it.b.end) == ("aborted", "aborted")

    run(scene())


def test_a_hello_that_is_rejected_brings_the_other_side_s_own_words() -> None:
    async def scene() -> None:
        it = Scene()
        await it.proven()
        it.server.reject(Code.REFUSED, "not today" + "!" * 1000)
        told = await failed(it.asking)
        assert isinstance(told, Refused)
        assert told.reason.startswith("not today")
        assert len(told.reason) <= 512
        await turns()
        assert it.a.end == "aborted"
        await it.all_gone()

    run(scene())


def test_a_hello_that_is_not_answered_in_time() -> None:
    async def scene() -> None:
        it = Scene()
        await it.proven()
        assert "no answer to the hello within 5 s" in (await failed(it.asking)).reason
        assert it.a.end == "aborted"
        await it.all_gone()

    run(scene())


def test_a_client_that_says_no_hello_is_let_go() -> None:
    async def scene() -> None:
        it = Scene()
        accepting = asyncio.create_task(failed(it.server.accept(5.0)))
        await it.client.prove(THERES, 5.0)
        assert "no hello within 5 s" in (await accepting).reason
        await it.all_gone()

    run(scene())


def test_what_the_hello_raises_ends_the_path() -> None:
    async def scene() -> None:
        it = Scene()
        accepting = asyncio.create_task(failed(it.server.accept(5.0)))
        await it.client.prove(THERES, 5.0)

        def no_more(path: PathEnd) -> PathHello:
            raise PathFailed("the session needs it no more")

        assert "needs it no more" in (await failed(it.client.ask(no_more, 5.0))).reason
        assert it.a.end == "aborted"
        await accepting
        await it.all_gone()

    run(scene())


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (PathReject(Code.REFUSED, "?"), "did not begin with a hello"),
        (PathWelcome(), "did not begin with a hello"),
        (Ping(), ""),
    ],
)
def test_a_client_begins_with_a_hello(said: Any, words: str) -> None:
    async def scene() -> None:
        it = Scene()
        accepting = asyncio.create_task(failed(it.server.accept(5.0)))
        await it.client.prove(THERES, 5.0)
        it.client.send(encode(said))
        assert words in (await accepting).reason
        assert it.b.end == "aborted"
        await it.all_gone()

    run(scene())


def test_a_server_answers_a_hello_with_nothing_but_an_answer() -> None:
    async def scene() -> None:
        it = Scene()
        await it.proven()
        it.server.send(encode(HELLO))
        assert "did not answer the hello" in (await failed(it.asking)).reason
        await it.all_gone()

    run(scene())


def test_what_comes_before_the_session_takes_the_path_has_a_bound() -> None:
    async def scene() -> None:
        it = Scene()
        await it.proven()
        it.server.welcome(PathWelcome())
        await it.asking
        for _ in range(20):
            it.server.send(bytes(65_536))
        await turns()
        assert it.a.end == "aborted"
        it.client.carry(it.user)
        assert "too much" in it.user.lost[0]
        await it.all_gone()

    run(scene())


@pytest.mark.parametrize("step", ["prove", "ask", "accept"])
def test_whoever_is_cancelled_leaves_no_stream_open(step: str) -> None:
    async def scene() -> None:
        it = Scene()
        if step == "prove":
            silent(it)
        accepting = asyncio.create_task(it.server.accept(5.0))
        proving = asyncio.create_task(it.client.prove(THERES, 5.0))
        work, stream = proving, it.a
        if step == "ask":
            await proving
            work = asyncio.create_task(it.client.ask(lambda path: HELLO, 5.0))  # type: ignore[arg-type]
        if step == "accept":
            work, stream = accepting, it.b  # type: ignore[assignment]
        await turns(2)
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        assert stream.end == "aborted"
        for one in (accepting, proving):
            one.cancel()
        await asyncio.gather(accepting, proving, return_exceptions=True)
        await it.all_gone()

    run(scene())


@given(pieces=st.lists(st.integers(1, 400), max_size=12), swap=st.booleans())
def test_however_the_bytes_are_cut_the_same_is_understood(pieces: list[int], swap: bool) -> None:
    async def scene() -> None:
        it = Scene()
        for stream in (it.a, it.b):
            cut_into(stream, pieces if not swap else pieces[::-1])
        await it.carrying()
        it.client.send(b"here" * 100)
        it.server.send(b"there" * 100)
        await turns(60)
        assert (it.other.data, it.user.data) == (b"here" * 100, b"there" * 100)
        await it.all_gone()

    run(scene())


def cut_into(stream: MemoryStream, sizes: list[int]) -> None:
    """Let what leaves a stream arrive in pieces of these sizes, and the rest as it is."""
    left = list(sizes)

    def send(data: bytes) -> bytes:
        other = stream.other
        assert other is not None
        while left and len(data) > left[0]:
            size = left.pop(0)
            piece, data = data[:size], data[size:]
            asyncio.get_running_loop().call_soon(other.arrives, piece)
        return data

    stream.changes = send
