"""Dialing by TCP: a SYN that is lost does not cost the kernel's second.

The kernel repeats a SYN after 1 s (RFC 6298 §2.1), whatever is known of the way. Here a fresh
socket is tried after three usual round trips: three, as what is known may be of a quieter moment or
of another network. Where nothing is known it comes after 300 ms. That is a judgement: RFC 8305 §5
gives a connection 250 ms before it tries another one; on a longer way it costs one SYN more, which
a reset takes back before the far side's program hears of it. There are three sockets at most, and
none after the kernel's own second.
"""

import asyncio
import errno
import ipaddress
import os
import socket
import ssl
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from peers.transport.relay_url import RelayAddress
from peers.transport.tcp import RawStream, kernel_round_trip

__all__ = [
    "Address",
    "Dialed",
    "connecting",
    "dial",
    "dial_relay",
    "fresh_after",
    "open_tcp",
    "resolve",
]

_ROUND_TRIPS = 3
_SOONEST = 0.03
"""Seconds; a machine that is busy answers no sooner, however short the way."""
_UNKNOWN = 0.3
"""Seconds before a fresh socket where no round trip is known."""
_KERNEL = 1.0
"""Seconds until the kernel repeats a SYN by itself. A round trip as long as this may have been that
of a repeated SYN, and tells nothing (Karn's rule)."""
_OUT_OF_SOCKETS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


def fresh_after(round_trip: float | None) -> tuple[float, ...]:
    """Return when fresh sockets are tried, in seconds after the first: after a while, and after
    twice that while more. `round_trip` is the usual one in seconds, None where none is known."""
    while_ = _UNKNOWN if round_trip is None else max(_ROUND_TRIPS * round_trip, _SOONEST)
    return tuple(start for start in (while_, 3 * while_) if start < _KERNEL)


@dataclass(frozen=True, slots=True)
class Address:
    """Where to dial: an address literal, with its zone where it has one, and a port."""

    host: str
    port: int

    @property
    def family(self) -> socket.AddressFamily:
        """IPv4 or IPv6."""
        return socket.AF_INET6 if ":" in self.host else socket.AF_INET


@dataclass(frozen=True, slots=True)
class Dialed:
    """A connected socket that does not block, of whoever gets this."""

    connected: socket.socket
    address: Address
    round_trip: float | None
    """Seconds from its SYN to the answer; None where the kernel may have repeated the SYN."""


Connect = Callable[[socket.socket, tuple[str, int]], "asyncio.Future[None]"]


async def resolve(host: str, port: int, avoid: Collection[str] = ()) -> list[Address]:
    """Return the addresses of a host, in the system's order, without those to `avoid`. A literal is
    its own.

    Raises:
        OSError: it has none, or no other, or is no name.
    """
    addresses = [address for address in await _resolve(host, port) if address.host not in avoid]
    if not addresses:
        raise OSError(errno.EADDRNOTAVAIL, f"{host} has no{' other' if avoid else ''} address")
    return addresses


async def _resolve(host: str, port: int) -> list[Address]:
    try:
        ipaddress.ip_address(host)
        return [Address(host, port)]
    except ValueError:
        pass  # A name.
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError:
        # An empty label, or one of more than 63 letters.
        raise OSError(errno.EINVAL, f"not a host name: {host[:64]!r}") from None
    addresses = []
    for family, _, _, _, where in found:
        if family in (socket.AF_INET, socket.AF_INET6):
            zone = f"%{where[3]}" if len(where) == 4 and where[3] else ""
            addresses.append(Address(f"{where[0]}{zone}", port))
    return list(dict.fromkeys(addresses))


async def dial_in_turn(
    addresses: Sequence[Address],
    *,
    source: str | None = None,
    usual: Callable[[Address], float | None] = lambda address: None,
) -> Dialed:
    """Dial one address after the other; return the first that answers. `usual` tells their usual
    round trips.

    Raises:
        OSError: what the only one said, or what each did.
    """
    failed: list[tuple[Address, OSError]] = []
    for address in addresses:
        try:
            return await dial(address, source=source, round_trip=usual(address))
        except OSError as error:
            failed.append((address, error))
    if len({str(error) for _, error in failed}) == 1:
        raise failed[0][1]
    told = (f"{address.host}: {error.strerror or error}" for address, error in failed)
    raise OSError("; ".join(told) or "no address to dial")


async def dial_relay(
    relay: RelayAddress, source: str | None, addresses: Sequence[Address]
) -> Dialed:
    """Dial a relay at its addresses, one after the other, from the local address `source` (None:
    the route's), and keep how far it is.

    Raises:
        OSError: none of them answers.
    """
    dialed = await dial_in_turn(
        addresses,
        source=source,
        usual=lambda address: relay.trips.get(address.host, source),
    )
    if dialed.round_trip is not None:
        relay.trips.put(dialed.address.host, source, dialed.round_trip)
    return dialed


def connecting(one: socket.socket, where: tuple[str, int]) -> "asyncio.Future[None]":
    """Begin to connect a socket that does not block; return what is done when it is connected, or
    has failed with an OSError. Who cancels that removes the socket from the loop's writers."""
    loop = asyncio.get_running_loop()
    connected: asyncio.Future[None] = loop.create_future()
    code = one.connect_ex(where)
    if code == errno.EINPROGRESS:
        loop.add_writer(one, _finish, one, connected)
    elif code:
        connected.set_exception(OSError(code, os.strerror(code)))
    else:
        connected.set_result(None)
    return connected


def _finish(one: socket.socket, connected: "asyncio.Future[None]") -> None:
    connected.get_loop().remove_writer(one)
    if connected.done():
        return
    if code := one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
        connected.set_exception(OSError(code, os.strerror(code)))
    else:
        connected.set_result(None)


async def dial(
    address: Address,
    *,
    source: str | None = None,
    round_trip: float | None = None,
    connect: Connect | None = None,
) -> Dialed:
    """Connect to one address, from the local address `source` (None: the route's), by up to three
    sockets; the first that connects is returned, and the others are closed.

    No timeout: the kernel gives up after minutes, and who dials has a time of its own.

    Raises:
        OSError: no socket could be made, or any of them has been refused.
    """
    loop = asyncio.get_running_loop()
    running: dict[asyncio.Future[None], tuple[socket.socket, float]] = {}
    over: asyncio.Future[None] = loop.create_future()
    """Done when any of them is, or when no other one can be made."""

    def ended(attempt: "asyncio.Future[None]") -> None:
        if not over.done():
            over.set_result(None)

    def begin() -> None:
        one = _socket(address, source)
        attempt = (connect or connecting)(one, (address.host, address.port))
        running[attempt] = one, loop.time()
        attempt.add_done_callback(ended)

    def begin_another() -> None:
        # What is connected is only late to say so, on a busy machine.
        if over.done() or any(_is_connected(one) for one, _ in running.values()):
            return
        try:
            begin()
        except OSError as error:
            if error.errno not in _OUT_OF_SOCKETS:
                over.set_exception(error)
                over.exception()  # Who dials may have left in this very moment.

    timers = [loop.call_later(start, begin_another) for start in fresh_after(round_trip)]
    try:
        begin()
        await over
        attempt = min((one for one in running if one.done()), key=_failed)
        attempt.result()
        won, began = running.pop(attempt)
        took = loop.time() - began
        trip = kernel_round_trip(won) or took
        return Dialed(won, address, trip if took < _KERNEL else None)
    finally:
        for timer in timers:
            timer.cancel()
        for attempt, (one, _) in running.items():
            if not attempt.cancel() and not attempt.cancelled():
                attempt.exception()  # Told already, or of a socket that was not needed.
            loop.remove_writer(one)
            one.close()


def _failed(attempt: "asyncio.Future[None]") -> bool:
    return attempt.cancelled() or attempt.exception() is not None


def _is_connected(one: socket.socket) -> bool:
    try:
        one.getpeername()
    except OSError:
        return False
    return True


def _socket(address: Address, source: str | None) -> socket.socket:
    one = socket.socket(address.family, socket.SOCK_STREAM)
    try:
        one.setblocking(False)
        if source is not None:
            if (":" in source) != (":" in address.host):
                raise OSError(
                    errno.EADDRNOTAVAIL, f"no way from {source} to {address.host}: not one family"
                )
            one.bind((source, 0))
    except BaseException:
        one.close()
        raise
    return one


async def open_tcp(
    connected: socket.socket,
    tls: ssl.SSLContext | None = None,
    server_name: str | None = None,
) -> RawStream:
    """Make a stream of a connected socket, which belongs to the stream from now on; with `tls`
    after the handshake, with a certificate for `server_name`.

    Raises:
        OSError: the handshake failed.
    """
    loop = asyncio.get_running_loop()
    _, stream = await loop.create_connection(
        RawStream, sock=connected, ssl=tls, server_hostname=server_name if tls else None
    )
    return stream
