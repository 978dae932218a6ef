"""Requests that the relay reads on their socket, and all else that it leaves to aiohttp."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from protocol.errors import Code
from protocol.identity import Identity
from protocol.messages import EARLY_HEADER
from relay.config import RelayConfig
from relay.http.raw_request import MAX_HEAD, read_raw_request
from relay.http.visitor import Visitor
from relay.server import RelayServer
from tests.fuzz.http import raw_requests
from tests.relay.client import Client, registered
from tests.relay.planes import leg, tickets

HEADERS = b"Host: r\r\nConnection: Upgrade\r\nUpgrade: roam-relay/1\r\n"
CONTROL = b"GET /v1/control HTTP/1.1\r\n" + HEADERS + b"\r\n"
PLANE = b"GET /v1/plane/0aF?guid=b2&signature=x_-Y HTTP/1.1\r\n" + HEADERS + b"\r\n"
WEBSOCKET = (
    b"GET /v1/control HTTP/1.1\r\nHost: r\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Protocol: chat, roam-relay.1\r\n\r\n"
)


def test_what_is_read_here() -> None:
    control = read_raw_request(CONTROL)
    assert control is not None
    assert (control.size, control.ticket) == (len(CONTROL), "")
    assert dict(control.headers)["Host"] == "r"
    plane = read_raw_request(PLANE.replace(b"\r\n\r\n", b"\r\nX:  a b \r\n\r\n"))
    assert plane is not None
    assert (plane.ticket, plane.guid, plane.signature) == ("0aF", "b2", "x_-Y")
    assert plane.headers["x"] == "a b"


@pytest.mark.parametrize(
    "change",
    [
        lambda whole: whole[:-1],
        lambda whole: whole + b"x",
        lambda whole: whole + whole,
        lambda whole: b"\r\n" + whole,
        lambda whole: whole.replace(b"GET", b"POST"),
        lambda whole: whole.replace(b"HTTP/1.1", b"HTTP/1.0"),
        lambda whole: whole.replace(b"/v1/", b"/v1//"),
        lambda whole: whole.replace(b"/v1/", b"http://r/v1/"),
        lambda whole: whole.replace(b"\r\n", b"\n"),
        lambda whole: whole.replace(b"Host: r\r\n", b""),
        lambda whole: whole.replace(b"Host: r\r\n", b"Host: r\r\nhOST: s\r\n"),
        lambda whole: whole.replace(b"Host: r\r\n", b"Host: r\r\n folded\r\n"),
        lambda whole: whole.replace(b"Host: r", b"Host : r"),
        lambda whole: whole.replace(b"Host: r", b"Host: \xff"),
        lambda whole: whole.replace(b"Host: r", b"Host: r\rX: y"),
        lambda whole: whole.replace(b"Host: r", b"Host: r\0"),
        lambda whole: whole.replace(b"Host: r", b"Host: r\r\nContent-Length: 0"),
        lambda whole: whole.replace(b"Host: r", b"Host: r\r\nTransfer-Encoding: chunked"),
        lambda whole: whole.replace(b"Host: r", b"Host: r\r\nExpect: 100-continue"),
        lambda whole: whole.replace(b"Host: r", b"Host: r\r\nSec-WebSocket-Key: x"),
        lambda whole: whole.replace(b"roam-relay/1", b"websocket"),
        lambda whole: whole.replace(b"roam-relay/1", b"roam-relay/1, websocket"),
        lambda whole: whole.replace(b"n: Upgrade", b"n: close"),
        lambda whole: whole.replace(b"Host: r", b"Host: r" + 31 * b"\r\nX: y"),
        lambda whole: whole.replace(b"Host: r", b"Host: " + MAX_HEAD * b"r"),
    ],
)
def test_what_is_left_to_aiohttp(change: Callable[[bytes], bytes]) -> None:
    for whole in (CONTROL, PLANE):
        assert change(whole) != whole
        assert read_raw_request(change(whole)) is None
    raw_requests(change(PLANE))


def test_a_websocket_that_is_read_here() -> None:
    for whole in (
        WEBSOCKET,
        WEBSOCKET.replace(b"Upgrade: websocket", b"Upgrade: WebSocket"),
        WEBSOCKET.replace(b"Sec-WebSocket-Protocol: chat, roam-relay.1\r\n", b""),
        WEBSOCKET.replace(b"Host: r", b"Host: r\r\nSec-WebSocket-Extensions: permessage-deflate"),
    ):
        request = read_raw_request(whole)
        assert request is not None
        assert (request.is_websocket, request.ticket) == (True, "")
        raw_requests(whole)


@pytest.mark.parametrize(
    "change",
    [
        lambda whole: whole + b"\x82\x80\0\0\0\0",
        lambda whole: whole.replace(b"/v1/control", b"/v1/plane/0aF?guid=b2&signature=x_-Y"),
        lambda whole: whole.replace(b"Host: r", b"Host: r\r\nOrigin: http://r"),
        lambda whole: whole.replace(b"Host: r", b"Host: r\r\nContent-Length: 0"),
        lambda whole: whole.replace(b"Version: 13", b"Version: 8"),
        lambda whole: whole.replace(b"Version: 13", b"Version: 14"),
        lambda whole: whole.replace(b"Sec-WebSocket-Version: 13\r\n", b""),
        lambda whole: whole.replace(b"ZQ==", b"ZQ"),
        lambda whole: whole.replace(b"dGhl", b"dG!l"),
        lambda whole: whole.replace(b"dGhl", b"dGhldGhl"),
        lambda whole: whole.replace(b"chat, roam-relay.1", b"chat"),
        lambda whole: whole.replace(b"n: Upgrade", b"n: close"),
        lambda whole: whole.replace(b"e: websocket", b"e: websocket, roam-relay/1"),
    ],
)
def test_websockets_that_are_left_to_aiohttp(change: Callable[[bytes], bytes]) -> None:
    assert change(WEBSOCKET) != WEBSOCKET
    assert read_raw_request(change(WEBSOCKET)) is None


async def test_a_websocket_whole_or_in_pieces(relay: RelayServer, handed: list[bool]) -> None:
    """It is answered the same, and its frames are read behind either answer."""
    for pieces in ((WEBSOCKET,), (WEBSOCKET[:30], WEBSOCKET[30:])):
        async with asked(relay, *pieces, looked=handed) as (reader, writer):
            answer = await head(reader)
            assert answer.startswith(b"HTTP/1.1 101 ")
            assert b"upgrade: websocket\r\n" in answer.lower()
            assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in answer
            assert b"Sec-WebSocket-Protocol: roam-relay.1\r\n" in answer
            writer.write(b"\x89\x82" + bytes(4) + b"hi")
            assert await asyncio.wait_for(reader.readexactly(4), 60) == b"\x8a\x02hi"
            assert relay.doorkeeper.inside == 1
        async with asyncio.timeout(60):
            while relay.doorkeeper.inside:
                await asyncio.sleep(0.01)
    assert handed == [True, False]


async def test_a_page_is_asked_where_it_comes_from(relay: RelayServer, handed: list[bool]) -> None:
    foreign = WEBSOCKET.replace(b"Host: r", b"Host: r\r\nOrigin: http://elsewhere.example")
    async with asked(relay, foreign, looked=handed) as (reader, _):
        assert (await head(reader)).startswith(b"HTTP/1.1 403 ")
    assert handed == [False]


@pytest.mark.parametrize(
    "target",
    [
        b"control?",
        b"control/",
        b"control#x",
        b"plane/",
        b"plane/a%62?guid=b&signature=c",
        b"plane/a?guid=b&signature=%63",
        b"plane/a?guid=b+&signature=c",
        b"plane/a?guid=b&signature=c&guid=d",
        b"plane/a?signature=c&guid=b",
        b"plane/a?guid=b",
        b"peers/a/services/b",
    ],
)
def test_targets_that_are_left_to_aiohttp(target: bytes) -> None:
    whole = CONTROL.replace(b"control", target)
    assert read_raw_request(whole) is None
    raw_requests(whole)


@asynccontextmanager
async def asked(
    relay: RelayServer, *pieces: bytes, looked: list[bool] | None = None
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection that has sent a request in pieces: the second when the first was looked at."""
    port = int(relay.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        before = len(looked or ())
        for piece in pieces:
            writer.write(piece)
            async with asyncio.timeout(60):
                while looked is not None and len(looked) == before:
                    await asyncio.sleep(0)
        yield reader, writer
    finally:
        writer.transport.abort()


async def head(reader: asyncio.StreamReader) -> bytes:
    return await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)


@pytest.fixture
def handed(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each request that came was served on its socket."""
    found: list[bool] = []
    real = Visitor._is_raw

    async def is_raw(self: Visitor) -> bool:
        found.append(await real(self))
        return found[-1]

    monkeypatch.setattr(Visitor, "_is_raw", is_raw)
    return found


async def test_whole_or_in_pieces_it_becomes_a_control_connection(
    relay: RelayServer, handed: list[bool]
) -> None:
    for pieces in ((CONTROL,), (CONTROL[:30], CONTROL[30:])):
        async with asked(relay, *pieces, looked=handed) as (reader, writer):
            answer = await head(reader)
            assert answer.startswith(b"HTTP/1.1 101 ")
            assert b"upgrade: roam-relay/1\r\n" in answer.lower()
            client = Client(Identity.generate(), reader, writer)
            await client.register()
            assert len(relay.connections) == 1
        async with asyncio.timeout(60):
            while len(relay.connections) or relay.doorkeeper.inside:
                await asyncio.sleep(0.01)
    assert handed == [True, False]


async def test_whole_or_in_pieces_it_becomes_a_leg(relay: RelayServer, handed: list[bool]) -> None:
    async with registered(relay.url) as alice, registered(relay.url, "chat") as bob:
        first, second = await tickets(alice, bob)
        handed.clear()
        request = (
            f"GET {alice.plane_target(first, relay.guid)} HTTP/1.1\r\n".encode() + HEADERS + b"\r\n"
        )
        async with asked(relay, request[:70], request[70:], looked=handed) as (reader, writer):
            assert b" 101 " in await head(reader)
            (theirs, writing), _ = await leg(relay, bob, second)
            writer.write(b"to bob")
            writing.write(b"to alice")
            assert await asyncio.wait_for(theirs.readexactly(6), 60) == b"to bob"
            assert await asyncio.wait_for(reader.readexactly(8), 60) == b"to alice"
            writing.transport.abort()
        assert handed == [False, True]


@pytest.mark.parametrize("cut", [0, 40])
async def test_a_refusal_is_the_same_either_way(
    relay: RelayServer, handed: list[bool], cut: int
) -> None:
    """It is told with its code, the connection goes on, and it is counted once."""
    pieces = [piece for piece in (PLANE[:cut], PLANE[cut:]) if piece]
    async with asked(relay, *pieces, looked=handed) as (reader, writer):
        for refusals in (1, 2):
            answer = await head(reader)
            assert answer.startswith(b"HTTP/1.1 404 ")
            assert b"Roam-Relay-Code: ticket_unknown\r\n" in answer
            size = re.search(rb"Content-Length: (\d+)", answer)
            assert size is not None
            await reader.readexactly(int(size[1]))
            assert relay.metrics.refusals == {"ticket_unknown": refusals}
            writer.write(PLANE)
    assert relay.planes.pending == 0


async def test_who_may_not_come_in_is_told_why(relay: RelayServer) -> None:
    config = RelayConfig(port=0, max_connections_per_address=1)
    async with RelayServer(config) as small, asked(small, CONTROL) as (reader, _):
        assert b" 101 " in await head(reader)
        async with asked(small, CONTROL) as (second, _):
            answer = await head(second)
            assert b" 429 " in answer
            assert f"Roam-Relay-Code: {Code.LIMIT_EXCEEDED}\r\n".encode() in answer
        assert small.metrics.refusals == {"too_many_per_address": 1}


async def test_early_bytes_that_cannot_be_read(relay: RelayServer) -> None:
    bad = PLANE.replace(b"Host", EARLY_HEADER.encode() + b": @\r\nHost")
    assert read_raw_request(bad) is not None
    async with asked(relay, bad) as (reader, _):
        assert b" 400 " in await head(reader)
    assert relay.metrics.refusals == {"bad_message": 1}


async def test_who_has_gone_before_its_answer_leaves_nothing(
    relay: RelayServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a place nor a socket, nor a plane that waits."""

    def gone(*_: object) -> None:
        raise ConnectionResetError("it has gone")

    async with registered(relay.url) as alice, registered(relay.url, "chat") as bob:
        first, _ = await tickets(alice, bob)
        inside = relay.doorkeeper.inside
        with monkeypatch.context() as patched:
            patched.setattr("relay.http.raw_request.RawRequest.accept", gone)
            request = f"GET {alice.plane_target(first, relay.guid)} HTTP/1.1\r\n".encode()
            for whole in (CONTROL, request + HEADERS + b"\r\n"):
                async with asked(relay, whole) as (reader, _):
                    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
                        await head(reader)
        assert relay.doorkeeper.inside == inside
        assert relay.doorkeeper.newcomers == 0
        assert relay.planes.pending == 0


@pytest.mark.expected_errors("a request failed")
@pytest.mark.parametrize("closed", [False, True])
async def test_a_route_that_fails_ends_its_request_alone(
    relay: RelayServer, monkeypatch: pytest.MonkeyPatch, closed: bool
) -> None:
    where = "raw_request.RawRequest.accept" if closed else "door.Doorkeeper.admit"

    def fails(*_: object) -> None:
        raise RuntimeError("nobody expected this")

    with monkeypatch.context() as patched:
        patched.setattr(f"relay.http.{where}", fails)
        async with asked(relay, CONTROL) as (reader, _):
            said = await asyncio.wait_for(reader.readline(), 60) if not closed else b""
            assert closed or b" 500 " in said
            if closed:
                with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
                    await head(reader)
    async with asyncio.timeout(60):
        while relay.doorkeeper.inside or relay.doorkeeper.newcomers:
            await asyncio.sleep(0.01)
    async with registered(relay.url):
        pass
