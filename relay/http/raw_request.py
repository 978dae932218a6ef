"""Requests for a carrier as peers send them: whole, on plain TCP, and nothing unusual.

Such a request is read and answered here, on its socket: an HTTP server's transport, which it would
leave again at once, costs more than all that the relay does for it. What is read here is less than
HTTP. All else is aiohttp's to read: what comes in pieces, has a body, names a header twice, or
asks for anything but this; and each WebSocket of a page, and of a leg. No I/O but the answer.
"""

import base64
import hashlib
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from aiohttp.http import WS_KEY
from multidict import CIMultiDict

from protocol.messages import PAGE_PROTOCOL, UPGRADE_TOKEN, WEBSOCKET_PROTOCOL
from relay.http.origin import Headers

__all__ = [
    "MAX_HEAD",
    "WEBSOCKET",
    "RawRequest",
    "asks_to_upgrade",
    "is_raw_upgrade",
    "protocol_named",
    "read_raw_request",
    "websocket_answer",
]

WEBSOCKET = "websocket"
"""What `Upgrade` names for one."""

MAX_HEAD = 1 << 14
"""Bytes that are looked at; a request that is longer is aiohttp's."""

_HEAD = re.compile(
    rb"GET /v1/(?P<target>[!-~]{1,1024}) HTTP/1\.1\r\n"
    rb"(?P<lines>(?:[A-Za-z0-9-]{1,64}:[ !-~]{0,8192}\r\n){2,32})\r\n"
)
_TARGET = re.compile(
    r"(?P<control>control)"
    r"|plane/(?P<ticket>[0-9A-Za-z]+)\?guid=(?P<guid>[0-9A-Za-z]+)&signature=(?P<signature>[\w-]+)",
    re.ASCII,
)
_ELSEWHERE = ("Content-Length", "Transfer-Encoding", "Expect")
"""Headers of requests that are not read here."""
_KEY = re.compile(r"[A-Za-z0-9+/]{22}==", re.ASCII)
"""16 bytes, as all write them."""


@dataclass(frozen=True, slots=True)
class RawRequest:
    """A request for a control connection, or for a leg of a user plane."""

    size: int
    """Bytes of it."""
    headers: CIMultiDict[str]
    ticket: str = ""
    """Of the plane; empty: it is for a control connection."""
    guid: str = ""
    signature: str = ""
    is_websocket: bool = False

    def accept(self, sock: socket.socket, headers: Mapping[str, str] | None = None) -> None:
        """Take the request out of its socket, and send the 101.

        Raises:
            OSError: its sender has gone.
        """
        sock.recv(self.size)
        token, headers = UPGRADE_TOKEN, headers or {}
        if self.is_websocket:
            token, headers = WEBSOCKET, {**headers, **websocket_answer(self.headers)}
        more = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        answer = (
            "HTTP/1.1 101 Switching Protocols\r\n"
            f"Upgrade: {token}\r\nConnection: Upgrade\r\n{more}\r\n"
        ).encode()
        # Nothing was sent before: the system takes it whole.
        if sock.send(answer) != len(answer):
            raise ConnectionAbortedError("the answer did not leave at once")


def asks_to_upgrade(headers: Headers) -> bool:
    """Whether `Connection` names the upgrade that a request asks for (RFC 9110 §7.8)."""
    tokens = headers.get("Connection", "").lower().split(",")
    return any(token.strip() == "upgrade" for token in tokens)


def is_raw_upgrade(headers: Headers) -> bool:
    """Whether a request asks for the raw carrier."""
    return asks_to_upgrade(headers) and (
        headers.get("Upgrade", "").strip().lower() == UPGRADE_TOKEN
    )


def protocol_named(headers: Headers) -> str | None:
    """Return which of the protocols that a WebSocket's client names is spoken: that of pages before
    the other one. Empty where it names none; None where it names none of ours."""
    offered = headers.getall("Sec-WebSocket-Protocol", [])
    names = [name.strip() for line in offered for name in line.split(",")]
    if not names:
        return ""
    return next((one for one in (PAGE_PROTOCOL, WEBSOCKET_PROTOCOL) if one in names), None)


def websocket_answer(headers: Headers) -> dict[str, str]:
    """Return what the 101 says to a request that was found to ask for a WebSocket."""
    key = headers.get("Sec-WebSocket-Key", "").encode()
    answer = {
        "Sec-WebSocket-Accept": base64.b64encode(hashlib.sha1(key + WS_KEY).digest()).decode()
    }
    if protocol := protocol_named(headers):
        answer["Sec-WebSocket-Protocol"] = protocol
    return answer


def _is_websocket(headers: Headers) -> bool:
    """Whether a request asks for a WebSocket, as programs do that are no pages."""
    return (
        asks_to_upgrade(headers)
        and headers.get("Upgrade", "").lower() == WEBSOCKET
        and headers.get("Sec-WebSocket-Version", "") == "13"
        and _KEY.fullmatch(headers.get("Sec-WebSocket-Key", "")) is not None
        and "Origin" not in headers
        and protocol_named(headers) is not None
    )


def read_raw_request(data: bytes) -> RawRequest | None:
    """Return the request that bytes are, all of them; None where aiohttp has to read them."""
    head = _HEAD.fullmatch(data)
    if head is None:
        return None
    target = _TARGET.fullmatch(head["target"].decode())
    if target is None:
        return None
    headers: CIMultiDict[str] = CIMultiDict()
    for line in head["lines"].decode().split("\r\n")[:-1]:
        name, _, value = line.partition(":")
        if name in headers:
            return None
        headers[name] = value.strip(" ")
    if "Host" not in headers or any(name in headers for name in _ELSEWHERE):
        return None
    if target["control"] and _is_websocket(headers):
        return RawRequest(len(data), headers, is_websocket=True)
    if not is_raw_upgrade(headers) or "Sec-WebSocket-Key" in headers:
        return None
    if target["control"]:
        return RawRequest(len(data), headers)
    return RawRequest(len(data), headers, target["ticket"], target["guid"], target["signature"])
