"""Requests for the raw carrier as peers send them: whole, on plain TCP, and nothing unusual.

Such a request is read and answered here, on its socket: an HTTP server's transport, which it would
leave again at once, costs more than all that the relay does for it. What is read here is less than
HTTP. All else is aiohttp's to read: what comes in pieces, has a body, names a header twice, or
asks for anything but this. No I/O but the answer.
"""

import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from multidict import CIMultiDict

from protocol.messages import UPGRADE_TOKEN
from relay.http.origin import Headers

__all__ = ["MAX_HEAD", "RawRequest", "asks_to_upgrade", "is_raw_upgrade", "read_raw_request"]

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
_ELSEWHERE = ("Content-Length", "Transfer-Encoding", "Expect", "Sec-WebSocket-Key")
"""Headers of requests that are not read here."""


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

    def accept(self, sock: socket.socket, headers: Mapping[str, str] | None = None) -> None:
        """Take the request out of its socket, and send the 101.

        Raises:
            OSError: its sender has gone.
        """
        sock.recv(self.size)
        more = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
        answer = (
            "HTTP/1.1 101 Switching Protocols\r\n"
            f"Upgrade: {UPGRADE_TOKEN}\r\nConnection: Upgrade\r\n{more}\r\n"
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
    if not is_raw_upgrade(headers) or "Host" not in headers:
        return None
    if any(name in headers for name in _ELSEWHERE):
        return None
    if target["control"]:
        return RawRequest(len(data), headers)
    return RawRequest(len(data), headers, target["ticket"], target["guid"], target["signature"])
