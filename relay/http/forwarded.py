"""What proxies write into a request of whom it is from: `X-Forwarded-For` and `Forwarded`.

Each proxy appends the address that it has seen, so the last one is the nearest, and what stands
before the first that nobody trusts is a client's own words. No I/O; who is trusted is elsewhere.
"""

import ipaddress
import re
from collections.abc import Iterator, Sequence

from protocol.errors import ProtocolViolation

__all__ = ["BadForwarding", "clients_in_forwarded", "clients_in_x_forwarded_for"]

Client = tuple[str, int] | None
"""A host and its port, 0 where none is told; None where the proxy says that it does not say."""

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PAIR = re.compile(
    rf'[ \t]*(?P<name>{_TOKEN})=(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<bare>[^\s",;=]+))[ \t]*'
)
_NODE = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[0-9.]+)(?::(?P<port>[0-9]{1,5}|_[\w.-]+))?")
_HIDDEN = re.compile(r"(?:unknown|_[\w.-]+)(?::(?:[0-9]{1,5}|_[\w.-]+))?", re.IGNORECASE)


class BadForwarding(ProtocolViolation):
    """A header of a proxy that we trust cannot be read."""


def clients_in_x_forwarded_for(lines: Sequence[str]) -> Iterator[Client]:
    """Yield the clients of the lines of `X-Forwarded-For`, the nearest first.

    Raises:
        BadForwarding: the one that is asked for is malformed; those before it are not looked at.
    """
    for line in reversed(lines):
        for part in reversed(line.split(",")):
            if node := part.strip():
                yield _client(node)


def clients_in_forwarded(lines: Sequence[str]) -> Iterator[Client]:
    """Yield the clients of the lines of `Forwarded` (RFC 7239), the nearest first.

    Raises:
        BadForwarding: the line of the one that is asked for is malformed.
    """
    for line in reversed(lines):
        for node in reversed(_nodes(line)):
            yield None if node is None else _client(node)


def _nodes(line: str) -> list[str | None]:
    """Return what each element says `for` whom it is; None where it does not say.

    A line is read whole or not at all: who passes over what is malformed can be brought to pass
    over the end, which alone is the proxy's, and to believe a client's words before it.
    """
    nodes: list[str | None] = []
    at = 0
    while at < len(line):
        names: dict[str, str] = {}
        while True:
            pair = _PAIR.match(line, at)
            if pair is None:
                raise BadForwarding(f"Forwarded is malformed at its character {at}")
            quoted = pair["quoted"]
            value = pair["bare"] if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
            name = pair["name"].lower()
            if name in names:
                raise BadForwarding(f"Forwarded says {name} twice of one hop")
            names[name] = value
            at = pair.end()
            if line[at : at + 1] != ";":
                break
            at += 1
        nodes.append(names.get("for"))
        if at < len(line):
            if line[at] != "," or at + 1 == len(line):
                raise BadForwarding(f"Forwarded is malformed at its character {at}")
            at += 1
    return nodes


def _client(node: str) -> Client:
    if _HIDDEN.fullmatch(node):
        return None
    host, port = node, ""
    if found := _NODE.fullmatch(node):
        host, port = found["host"].strip("[]"), found["port"] or ""
    try:
        # An IPv6 address without brackets is usual in X-Forwarded-For; it has no port then.
        address = ipaddress.ip_address(host)
    except ValueError:
        raise BadForwarding(f"{node[:64]!r} is no address") from None
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id is not None:
            raise BadForwarding(f"{node[:64]!r} means nothing on another host")
        address = address.ipv4_mapped or address
    number = int(port) if port.isdigit() else 0
    if number > 65_535:
        raise BadForwarding(f"{port} is no port")
    return None if address.is_unspecified else (str(address), number)
