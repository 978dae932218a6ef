"""The sockets that a relay listens on: one port at every address that it is given.

Nothing is accepted here.
"""

import asyncio
import contextlib
import errno
import ipaddress
import os
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from protocol.dialing import unwrapped
from protocol.endpoint import Endpoint
from relay.config import ConfigError
from relay.succession import has_given_way, port_name

__all__ = ["Bound", "bind", "reserve", "serves", "try_out"]

_BACKLOG = 1024
"""Connections that the kernel keeps until they are accepted."""
_ALL = ("::", "0.0.0.0")
"""All addresses of a family. A system without that family serves the others."""
_FREE_PORTS = 8
"""Free ports that are tried until one is free everywhere, where any port will do."""
_NEXT_STEP = {
    errno.EADDRNOTAVAIL: "this machine has no such address now: '::' takes all that it has; where "
    "the address comes later, start the relay after it",
    errno.EADDRINUSE: "another program listens there: stop it, or choose another port",
    errno.EACCES: "this user may not: choose a port from 1024 up, or allow it",
}

_Place = tuple[socket.AddressFamily, str]


@dataclass(frozen=True, slots=True)
class Bound:
    """Sockets on one port, until `close`. Who serves takes copies (`dup`). None of them blocks."""

    tcp: tuple[socket.socket, ...]
    """They listen."""
    udp: tuple[socket.socket, ...]
    port: int

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """Where they listen, `::` and `0.0.0.0` as such."""
        names = (one.getsockname() for one in self.tcp)
        return tuple(Endpoint(name[0].partition("%")[0], name[1]) for name in names)

    def close(self) -> None:
        """Close them all."""
        for one in (*self.tcp, *self.udp):
            one.close()


def serves(listening: Iterable[Endpoint], endpoint: Endpoint) -> bool:
    """Whether one of these is what is met at an endpoint: this program itself."""
    for own in listening:
        if own.port != endpoint.port:
            continue
        address = unwrapped(endpoint.host)
        if own.host == str(address) or (own.host in _ALL and _is_here(address)):
            return True
    return False


def _is_here(address: ipaddress.IPv4Address | ipaddress.IPv6Address | None) -> bool:
    """Whether an address is this host's: only such a one can be taken."""
    if address is None or address.is_loopback:
        return address is not None
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as one:
            one.bind((str(address), 0))
    except OSError:
        return False
    return True


async def bind(
    hosts: Sequence[str], port: int, *, udp: bool = False, is_shared: bool = False
) -> Bound:
    """Take a port by TCP at each host, and by UDP where it is asked for. `::` is every address of
    both families, as far as the system has them; a port of 0 is any free one. A port that is shared
    is taken by each process that is one of one relay: the system deals connections out.

    Raises:
        ConfigError: one cannot be had; says which, and what to do. None is open then.
    """
    places = _without_parts([place for host in hosts for place in await _resolve(host)])
    if is_shared:
        try:
            return _take(places, port, udp, _Use.SHARED)
        except _Failed as failed:
            raise _in_words(failed.host, port, failed.error) from None
    try:
        return _take(places, port, udp)
    except _Failed as failed:
        # One that drains has it still, and gives it up to the next one that asks.
        is_taken = port and failed.error.errno == errno.EADDRINUSE
        if is_taken and not await has_given_way(port_name(port)):
            raise _in_words(failed.host, port, failed.error) from None
    for left in reversed(range(1 if port else _FREE_PORTS)):
        try:
            return _take(places, port, udp)
        except _Failed as failed:
            if not left or failed.error.errno != errno.EADDRINUSE:
                raise _in_words(failed.host, port, failed.error) from None
    raise AssertionError("there is a last try")


async def reserve(hosts: Sequence[str], port: int, *, udp: bool = False) -> Bound:
    """Take a port for the processes of one relay, which share it: keep it while they come and go,
    and accept nobody. By UDP it is only seen that it is free: whoever keeps that gets what comes.

    Raises:
        ConfigError: another program has it; says what to do.
    """
    # Once for itself: another relay of this user that shares its port would let us share it.
    alone = await bind(hosts, port, udp=udp)
    alone.close()
    places = _without_parts([place for host in hosts for place in await _resolve(host)])
    try:
        return _take(places, alone.port, False, _Use.RESERVED)
    except _Failed as failed:
        raise _in_words(failed.host, alone.port, failed.error) from None


async def try_out(hosts: Sequence[str], port: int, *, udp: bool = False) -> str:
    """Take a port as `bind` does, and give it back at once; who drains is not asked to give way.
    Return in words where another program has it; empty where nobody does.

    Raises:
        ConfigError: it cannot be had for another reason; says which, and what to do.
    """
    places = _without_parts([place for host in hosts for place in await _resolve(host)])
    try:
        _take(places, port, udp).close()
    except _Failed as failed:
        words = _in_words(failed.host, port, failed.error)
        if failed.error.errno != errno.EADDRINUSE:
            raise words from None
        return str(words)
    return ""


class _Use(Enum):
    """What a socket is for."""

    OWN = auto()
    SHARED = auto()
    """It listens beside those of other processes of this user."""
    RESERVED = auto()
    """It keeps the port for these, and does not listen."""


class _Failed(Exception):
    def __init__(self, host: str, error: OSError) -> None:
        super().__init__(str(error))
        self.host = host
        self.error = error


async def _resolve(host: str) -> list[_Place]:
    """Return the addresses of a host by family, with the zone that a link-local one may have."""
    if host == "::":
        return [(socket.AF_INET6, "::"), (socket.AF_INET, "0.0.0.0")]
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise _in_words(host, None, error) from None
    return [
        (family, f"{where[0]}%{where[3]}" if len(where) == 4 and where[3] else str(where[0]))
        for family, _, _, _, where in found
    ]


def _without_parts(places: Sequence[_Place]) -> list[_Place]:
    """Return each place once, and of a family that is served at all addresses no single one."""
    whole = {family for family, host in places if host in _ALL}
    return [
        (family, host)
        for family, host in dict.fromkeys(places)
        if family not in whole or host in _ALL
    ]


def _take(places: Sequence[_Place], port: int, udp: bool, use: _Use = _Use.OWN) -> Bound:
    tcp: list[socket.socket] = []
    datagrams: list[socket.socket] = []
    with contextlib.ExitStack() as undo:
        for family, host in places:
            try:
                tcp.append(_socket(family, host, port, socket.SOCK_STREAM, use))
                undo.callback(tcp[-1].close)
                port = tcp[-1].getsockname()[1]
                if udp:
                    datagrams.append(_socket(family, host, port, socket.SOCK_DGRAM, use))
                    undo.callback(datagrams[-1].close)
            except OSError as error:
                if error.errno != errno.EAFNOSUPPORT or host not in _ALL or len(places) < 2:
                    raise _Failed(host, error) from None
        undo.pop_all()
    if not tcp:
        raise _Failed(places[0][1], OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT)))
    return Bound(tuple(tcp), tuple(datagrams), port)


def _socket(
    family: socket.AddressFamily, host: str, port: int, kind: socket.SocketKind, use: _Use
) -> socket.socket:
    one = socket.socket(family, kind)
    try:
        one.setblocking(False)
        if kind is socket.SOCK_STREAM and os.name == "posix":
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if use is not _Use.OWN:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        one.bind((host, port))
        if kind is socket.SOCK_STREAM and use is not _Use.RESERVED:
            one.listen(_BACKLOG)
    except BaseException:
        one.close()
        raise
    return one


def _in_words(host: str, port: int | None, error: OSError) -> ConfigError:
    where = host if port is None else f"{host} port {port}"
    why = _NEXT_STEP.get(error.errno or 0) or error.strerror or str(error)
    return ConfigError(f"cannot listen on {where}: {why}")
