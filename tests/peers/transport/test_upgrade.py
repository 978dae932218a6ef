"""The HTTP exchange before a raw stream: the machine by itself, and the call over real sockets."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peers.config import CarrierKind
from peers.tasks import Tasks
from peers.transport.relay_url import RelayAddress
from peers.transport.upgrade import Upgraded, UpgradeRequest, open_upgraded
from protocol.errors import Code, RelayUnavailable

HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: roam-relay/1\r\n"
    b"Roam-Relay-Resume: 0123\r\n\r\n"
)
FOLLOWS = bytes(range(256))
ANSWER = HINTS + CONTINUE + HINTS + SWITCH + FOLLOWS


def asked() -> UpgradeRequest:
    request = UpgradeRequest("relay.example", "/v1/control")
    assert request.to_send().startswith(b"GET /v1/control HTTP/1.1\r\n")
    return request


def answer_in(*pieces: bytes) -> Upgraded | None:
    """Give pieces until there is an answer; those behind it are of the stream."""
    request = asked()
    left = list(pieces)
    while left:
        upgraded = request.receive(left.pop(0))
        if upgraded is not None:
            return Upgraded(upgraded.resume_ticket, upgraded.rest + b"".join(left))
    return None


def test_whatever_comes_before_the_101_is_skipped_however_it_is_cut() -> None:
    expected = Upgraded("0123", FOLLOWS)
    assert answer_in(ANSWER) == expected
    for cut in range(1, len(ANSWER)):
        assert answer_in(ANSWER[:cut], ANSWER[cut:]) == expected, cut
    assert answer_in(*(bytes([byte]) for byte in ANSWER)) == expected


@given(cuts=st.sets(st.integers(1, len(ANSWER) - 1), max_size=12))
def test_any_pieces_are_the_same_answer(cuts: set[int]) -> None:
    edges = [0, *sorted(cuts), len(ANSWER)]
    pieces = [ANSWER[begin:end] for begin, end in pairwise(edges)]
    assert answer_in(*pieces) == Upgraded("0123", FOLLOWS)


def test_a_second_101_is_of_the_stream() -> None:
    assert answer_in(SWITCH + SWITCH) == Upgraded("0123", SWITCH)


@pytest.mark.parametrize(
    ("begins", "repeats", "reason"),
    [
        (b"", HINTS, "never finally"),
        (b"HTTP/1.1 200 OK\r\n", b"X-More: " + b"x" * 100 + b"\r\n", "does not speak HTTP"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"1000\r\n" + bytes(0x1000) + b"\r\n",
            "HTTP status 200, not an upgrade",
        ),
        (b"HTTP/1.1 200 OK\r\n\r\n", bytes(0x1000), "HTTP status 200, not an upgrade"),
    ],
    ids=["interim", "head", "chunks", "body"],
)
def test_what_has_no_end_is_given_one(begins: bytes, repeats: bytes, reason: str) -> None:
    """In pieces it may take some dozens of KiB, and no more."""
    most = 100_000 // len(repeats)
    with pytest.raises(RelayUnavailable, match=reason):
        answer_in(begins or repeats, *[repeats] * most)
    with pytest.raises(RelayUnavailable, match=reason):
        answer_in(begins + repeats * most)


@pytest.mark.parametrize(
    ("answer", "reason", "code"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "HTTP status 200", None),
        (b"HTTP/1.1 204 No Content\r\n\r\n", "HTTP status 204", None),
        (b"HTTP/1.1 502 Bad\r\n\r\n<html>", "HTTP status 502", None),
        (b"HTTP/1.1 502 Bad\r\nContent-Length: 9\r\n\r\n<html>", "HTTP status 502", None),
        (HINTS + b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n", "HTTP status 404", None),
        (
            b'HTTP/1.1 429 Slow\r\n\r\n{"code":"limit_exceeded","reason":"too many"}',
            "too many",
            Code.LIMIT_EXCEEDED,
        ),
        (b'HTTP/1.1 403 No\r\n\r\n{"code":7,"reason":"x"}', "HTTP status 403", None),
        (b"HTTP/1.1 403 No\r\n\r\n[]", "HTTP status 403", None),
        (b"HTTP/1.1 403 No\r\n\r\n" + b"[" * 60_000, "HTTP status 403", None),
        (b"HTTP/1.1 403 No\r\n\r\n\xff", "HTTP status 403", None),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "does not speak HTTP", None),
        (bytes(64) + b"\r\n\r\n", "does not speak HTTP", None),
        (b"", "hung up", None),
        (HINTS, "hung up", None),
        (SWITCH[:20], "hung up", None),
    ],
)
def test_what_is_no_upgrade_says_what_it_is(answer: bytes, reason: str, code: Code | None) -> None:
    for pieces in ((answer,), tuple(bytes([byte]) for byte in answer)):
        with pytest.raises(RelayUnavailable, match=reason) as failed:
            answer_in(*(piece for piece in pieces if piece), b"")
        assert failed.value.code is code
        if len(answer) > 1000:
            break


@given(answer=st.binary(max_size=200), cut=st.integers(0, 200))
def test_garbage_is_refused_and_nothing_else(answer: bytes, cut: int) -> None:
    with pytest.raises(RelayUnavailable):
        answer_in(*(piece for piece in (answer[:cut], answer[cut:]) if piece), b"")


# -- over real sockets ----------------------------------------------------------------------------

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def http_server(serve: Serve) -> AsyncIterator[RelayAddress]:
    """A server that reads the request, does what a test says, and hangs up."""
    conversations: set[asyncio.Task[None]] = set()

    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        conversations.add(task)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await reader.readuntil(b"\r\n\r\n")
                await serve(reader, writer)
        finally:
            conversations.discard(task)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    server = await asyncio.start_server(accepted, "127.0.0.1", 0)
    try:
        yield RelayAddress(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    finally:
        server.close()
        await asyncio.gather(*conversations, return_exceptions=True)


class Owner:
    def __init__(self) -> None:
        self.received = b""
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def stream_data(self, data: bytes) -> None:
        self.received += data

    def stream_writable(self) -> None:
        return

    def stream_lost(self, reason: str) -> None:
        self.lost.set_result(reason)


@pytest.mark.parametrize("apart", [False, True])
async def test_the_stream_begins_behind_the_101(apart: bool) -> None:
    more = bytes(200_000)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(ANSWER)
        if apart:
            await writer.drain()
        writer.write(more)
        await writer.drain()
        writer.write_eof()
        await reader.read()

    async with http_server(serve) as relay:
        opened = await open_upgraded(
            relay, "/v1/control", CarrierKind.RAW, spawn=Tasks().spawn, timeout=10
        )
        assert opened.resume_ticket == "0123"
        stream = opened.stream
        owner = Owner()
        stream.set_owner(owner)
        assert await asyncio.wait_for(owner.lost, 60) == "end of stream"
        assert owner.received == FOLLOWS + more


@pytest.mark.parametrize("answer", [b"", HINTS, b"HTTP/1.1 502 Bad\r\n\r\n<html>", b"\0\r\n\r\n"])
async def test_a_server_that_hangs_up_is_said_at_once(
    answer: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)

    async with http_server(serve) as relay:
        with caplog.at_level(logging.WARNING), pytest.raises(RelayUnavailable):
            await open_upgraded(
                relay, "/v1/control", CarrierKind.RAW, spawn=Tasks().spawn, timeout=10
            )
    assert not caplog.records


async def test_silence_ends_with_the_timeout() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HINTS)
        await reader.read()

    async with http_server(serve) as relay:
        with pytest.raises(RelayUnavailable, match=r"within 0\.1 s"):
            await open_upgraded(
                relay, "/v1/control", CarrierKind.RAW, spawn=Tasks().spawn, timeout=0.1
            )
