"""Heads of HTTP: what strangers ask the relay, and what relays and proxies answer a peer."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from unittest.mock import Mock

from aiohttp import web
from aiohttp.http import HttpRequestParser
from yarl import URL

from peers.transport.proxies import ConnectRequest
from peers.transport.upgrade import UpgradeRequest
from protocol.errors import RelayUnavailable
from protocol.hosts import is_address
from protocol.messages import PAGE_PROTOCOL, WEBSOCKET_PROTOCOL
from relay.http.forwarded import (
    BadForwarding,
    clients_in_forwarded,
    clients_in_x_forwarded_for,
)
from relay.http.proxy_header import BadProxyHeader, looks_like_header, read_header
from relay.http.raw_request import MAX_HEAD, read_raw_request, websocket_answer
from tests.fuzz.draws import Draw
from tests.fuzz.findings import nothing_logged
from tests.fuzz.relay_in_memory import the_relay

__all__ = [
    "forwarded",
    "proxy_answers",
    "proxy_headers",
    "raw_requests",
    "requests",
    "upgrade_answers",
]

_TICKET = "A" * 32


def requests(data: bytes) -> None:
    """Bytes on a fresh connection: raw, or as the headers of an upgrade for control, or of a leg of
    a plane. The relay never fails at them, and keeps nobody who has gone."""
    draw = Draw(data)
    kind, size = draw.number(4), draw.number()
    text = draw.rest()
    begin = {
        0: b"",
        1: b"GET /v1/control HTTP/1.1\r\nHost: relay\r\n",
        2: b"GET /v1/plane/" + _TICKET.encode() + b" HTTP/1.1\r\nHost: relay\r\n",
        3: b"GET /v1/p",
    }[kind]
    stream = begin + text + (b"\r\n\r\n" if kind in (1, 2) else b"")
    step = size or len(stream) or 1
    relay = the_relay()
    with nothing_logged():
        line = relay.connect()
        for start in range(0, len(stream), step):
            line.feed(stream[start : start + step])
        relay.turn(6)
        said = line.said()
        assert b"HTTP/1.1 500 " not in said, said
        line.lose()
        relay.check_left()


def raw_requests(data: bytes) -> None:
    """What is read on its socket is what aiohttp reads of it, and nothing is left over."""
    request = read_raw_request(data)
    if request is None:
        return
    assert request.size == len(data) <= MAX_HEAD * 32
    parser = HttpRequestParser(Mock(), Mock(spec=asyncio.AbstractEventLoop), 1 << 16)
    (found,), _, rest = parser.feed_data(data)
    message = found[0]
    assert rest == b""
    assert (message.method, message.version) == ("GET", (1, 1))
    assert (message.upgrade, message.chunked, message.should_close) == (True, False, False)
    assert _plain(request.headers) == _plain(message.headers)
    if request.is_websocket:
        assert "Origin" not in message.headers
        asked = Mock(headers=message.headers, _message=message, remote="")
        websocket = web.WebSocketResponse(protocols=(PAGE_PROTOCOL, WEBSOCKET_PROTOCOL))
        ready = websocket.can_prepare(asked)
        assert ready.ok
        answer = websocket_answer(request.headers)
        assert bool(ready.protocol) is ("Sec-WebSocket-Protocol" in answer)
    query = message.url.query
    if request.ticket:
        assert message.url.path == f"/v1/plane/{request.ticket}"
        assert (query["guid"], query["signature"]) == (request.guid, request.signature)
        assert len(query) == 2
    else:
        assert str(message.url) == "/v1/control"


def _plain(headers: Mapping[str, str]) -> list[tuple[str, str]]:
    return [(name.lower(), value) for name, value in headers.items()]


def upgrade_answers(data: bytes) -> None:
    """A relay's answer to a peer."""

    def receiver() -> Callable[[bytes], object]:
        request = UpgradeRequest("relay", "/v1/control")
        request.to_send()
        return request.receive

    _answers(data, receiver)


def proxy_answers(data: bytes) -> None:
    """A proxy's answer to a peer."""

    def receiver() -> Callable[[bytes], object]:
        request = ConnectRequest(URL("http://user:word@proxy:8080"), "relay:443")
        request.to_send()
        return lambda data: request.receive(data) or None

    _answers(data, receiver)


def proxy_headers(data: bytes) -> None:
    """The header of the PROXY protocol: more bytes never change what was read from fewer."""
    draw = Draw(data)
    begin = (b"", b"PROXY ", b"\r\n\r\n\0\r\nQUIT\n", b"PROXY TCP6 ")[draw.number(4)]
    stream = begin + draw.rest()
    assert looks_like_header(stream) in (True, False) or len(stream) < 16
    decided = _proxy_header(stream)
    for end in range(0, min(len(stream), 120)):
        early = _proxy_header(stream[:end])
        assert early in (None, decided), (early, decided)


def _proxy_header(data: bytes) -> str | None:
    if not looks_like_header(data):
        return None
    try:
        header = read_header(data)
    except BadProxyHeader:
        return "bad"
    if header is not None:
        assert 0 < header.length <= len(data)
        assert header.client is None or is_address(header.client[0])
    return None if header is None else repr(header)


def forwarded(data: bytes) -> None:
    """`Forwarded` and `X-Forwarded-For`: addresses or a refusal, in steps that do not explode."""
    text = data[:8192].decode("latin-1")
    lines = text.split("\n")
    for read in (clients_in_forwarded, clients_in_x_forwarded_for):
        with contextlib.suppress(BadForwarding):
            for client in read(lines):
                assert client is None or (is_address(client[0]) and 0 <= client[1] < 65536)


def _answers(data: bytes, receiver: Callable[[], Callable[[bytes], object]]) -> None:
    draw = Draw(data)
    size = draw.number() or 1
    answer = draw.rest()
    whole = _answer(receiver(), [answer] if answer else [])
    pieces = [answer[start : start + size] for start in range(0, len(answer), size)]
    assert _answer(receiver(), pieces) == whole


def _answer(receive: Callable[[bytes], object], pieces: list[bytes]) -> str:
    """Return what came of it, without the rest, which goes on behind the answer."""
    try:
        for piece in (*pieces, b""):
            if (found := receive(piece)) is not None:
                return f"{type(found).__name__} {getattr(found, 'resume_ticket', '')}"
    except RelayUnavailable as error:
        return f"{type(error).__name__} {error.code}"
    return "waits"
