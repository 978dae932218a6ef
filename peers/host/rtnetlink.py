"""What the Linux kernel's messages say of links and addresses (rtnetlink(7), linux/if_addr.h).

PURE: bytes in, addresses out. Only what this package asks for is read; everything else is passed
over, as what is not known has to be; and so is a message that cannot be read, by itself. The
sockets are in netlink.py.
"""

import ipaddress
import os
import struct
from collections.abc import Iterable, Iterator

from peers.host.address import LocalAddress

__all__ = ["GET_ADDRESSES", "GET_LINKS", "Dump", "addresses_in", "links_in", "request"]

_HEADER = struct.Struct("=IHHII")
"""Length with the header, kind, flags, number, sender."""
_LINK, _ADDRESS = struct.Struct("=BxHiII"), struct.Struct("=BBBBI")
"""Family, type, index, flags, changed; and family, prefix length, flags, scope, index."""
_ATTRIBUTE, _FLAGS, _ERROR = struct.Struct("=HH"), struct.Struct("=I"), struct.Struct("=i")

GET_LINKS, GET_ADDRESSES = 18, 22
_NEW_LINK, _NEW_ADDRESS = 16, 20
_FAILED, _DONE = 2, 3
_REQUEST, _DUMP = 0x1, 0x300

_LINK_NAME = 3
_REMOTE_END, _LOCAL, _ADDRESS_FLAGS = 1, 2, 8
_KIND = 0x3FFF
"""The part of an attribute's kind that is not flags."""
_VERSIONS = {2: 4, 10: 6}
"""Of IP, by address family."""

_LARGEST_ERROR = 0x7FFF_FFFF
"""That has words."""
_UP = 0x1 | 0x40 | 0x10000
"""IFF_UP, IFF_RUNNING, IFF_LOWER_UP."""
_TEMPORARY, _OPTIMISTIC, _DUPLICATE, _DEPRECATED, _TENTATIVE = 0x01, 0x04, 0x08, 0x20, 0x40


def request(kind: int) -> bytes:
    """Return what asks for all of a kind."""
    body = bytes((_LINK if kind == GET_LINKS else _ADDRESS).size)
    return _HEADER.pack(_HEADER.size + len(body), kind, _REQUEST | _DUMP, 1, 0) + body


class _Unreadable(Exception):
    """A message is not as the kernel makes it."""


class Dump:
    """The answer to one request, which comes in several pieces."""

    def __init__(self) -> None:
        self.done = False
        self.is_cut = False
        """Whether a piece could not be read to its end, in which the last word may have been."""
        self.unreadable = 0
        """Messages that were passed over because they cannot be read."""
        self.bodies: list[tuple[int, bytes]] = []
        """Of all messages, each with its kind."""

    def feed(self, data: bytes) -> None:
        """Take what one read has brought: whole messages. Where the next one begins is said by the
        one before: what follows one that says nonsense is lost, to the end of this piece.

        Raises:
            OSError: the kernel refuses.
        """
        while data and not self.done:
            length, kind = 0, 0
            if len(data) >= _HEADER.size:
                length, kind, *_ = _HEADER.unpack_from(data)
            if not _HEADER.size <= length <= len(data):
                self.is_cut = True
                self.unreadable += 1
                return
            body = data[_HEADER.size : length]
            if kind in (_FAILED, _DONE):
                self.done = True
                # A dump that has failed half-way says so at its end.
                failure = _ERROR.unpack_from(body)[0] if len(body) >= _ERROR.size else 0
                if failure < 0:
                    number = min(-failure, _LARGEST_ERROR)
                    raise OSError(number, os.strerror(number))
            else:
                self.bodies.append((kind, body))
            data = data[_aligned(length) :]


def links_in(dump: Dump) -> dict[int, str]:
    """Return the names of the links that are up and have a carrier, by their index."""
    found: dict[int, str] = {}
    for kind, body in dump.bodies:
        if kind == _NEW_LINK:
            try:
                found |= _link(body)
            except _Unreadable:
                dump.unreadable += 1
    return found


def _link(body: bytes) -> dict[int, str]:
    if len(body) < _LINK.size:
        raise _Unreadable
    _, _, index, flags, _ = _LINK.unpack_from(body)
    if flags & _UP != _UP:
        return {}
    name = dict(_attributes(body[_LINK.size :])).get(_LINK_NAME, b"")
    return {index: name.rstrip(b"\0").decode("utf-8", "replace")}


def addresses_in(dump: Dump, links: dict[int, str]) -> Iterator[LocalAddress]:
    """Yield the addresses of these links."""
    for kind, body in dump.bodies:
        if kind == _NEW_ADDRESS:
            try:
                found = _address(body, links)
            except _Unreadable:
                dump.unreadable += 1
                continue
            if found is not None:
                yield found


def _address(body: bytes, links: dict[int, str]) -> LocalAddress | None:
    if len(body) < _ADDRESS.size:
        raise _Unreadable
    family, prefix_length, flags, _, index = _ADDRESS.unpack_from(body)
    if family not in _VERSIONS or index not in links:
        return None
    said = dict(_attributes(body[_ADDRESS.size :]))
    # On a point-to-point link the address is the other end's, and this host's is the local one.
    packed = said.get(_LOCAL) or said.get(_REMOTE_END)
    if packed is None:
        return None
    if len(more := said.get(_ADDRESS_FLAGS, b"")) == _FLAGS.size:
        (flags,) = _FLAGS.unpack(more)
    if flags & _OPTIMISTIC:
        flags &= ~_TENTATIVE  # RFC 4429: it may be used meanwhile, as the kernel sees it.
    version = _VERSIONS[family]
    return LocalAddress(
        _text(packed, version),
        links[index],
        index,
        version,
        prefix_length,
        # For IPv4 the same bit means a second address of the same network.
        temporary=version == 6 and bool(flags & _TEMPORARY),
        deprecated=bool(flags & _DEPRECATED),
        tentative=bool(flags & (_TENTATIVE | _DUPLICATE)),
    )


def _attributes(data: bytes) -> Iterable[tuple[int, bytes]]:
    while len(data) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(data)
        if not _ATTRIBUTE.size <= length <= len(data):
            raise _Unreadable
        yield kind & _KIND, data[_ATTRIBUTE.size : length]
        data = data[_aligned(length) :]


def _text(packed: bytes, version: int) -> str:
    if len(packed) != (4 if version == 4 else 16):
        raise _Unreadable
    return str(ipaddress.ip_address(packed))


def _aligned(length: int) -> int:
    return (length + 3) & ~3
