"""Dialing by TCP: a SYN that is lost does not cost the kernel's second.

The kernel repeats a SYN after 1 s (RFC 6298 §2.1), whatever is known of the way. Here a fresh
socket is tried after two usual round trips: two, as what is known may be of a quieter moment or of
another network; no program's time is in it, as kernels answer a SYN by themselves. Where nothing is
known it comes after 300 ms. That is a judgement: RFC 8305 §5 gives a connection 250 ms before it
tries another one; on a longer way it costs one SYN more, which a reset takes back before the far
side's program hears of it. There are three sockets at most, and none after the kernel's own second.

A host with several addresses is dialed at all of them, in a staggered race (RFC 8305): the family
that a network does not carry costs a stagger.

What leaves from the port at which this peer listens shows the mapping at which a NAT would let
others in. Where that cannot be, as the same two ends have a connection already or one that is not
forgotten yet, the kernel says so before a packet is sent, and any free port is taken. So it is for
every fresh socket.
"""

import asyncio
import errno
import os
import socket
import ssl
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest

from yarl import URL

from peers.tasks import race
from peers.transport.proxies import ConnectRequest
from peers.transport.relay_url import RelayAddress
from peers.transport.tcp import RawStream, expect_answers, kernel_round_trip
from protocol.errors import PathFailed, RelayUnavailable, RoamRelayError
from protocol.hosts import is_address, is_host

__all__ = [
    "Address",
    "Dialed",
    "connecting",
    "dial",
    "dial_any",
    "dial_from",
    "dial_relay",
    "dial_through",
    "fresh_after",
    "share_port",
    "in_turn",
    "open_tcp",
    "resolve",
]

_ROUND_TRIPS = 2
_SOONEST = 0.03
"""Seconds; a machine that is busy answers no sooner, however short the way."""
_UNKNOWN = 0.3
"""Seconds before a fresh socket where no round trip is known."""
_KERNEL = 1.0
"""Seconds until the kernel repeats a SYN by itself. A round trip as long as this may have been that
of a repeated SYN, and tells nothing (Karn's rule)."""
STAGGER = 0.25
"""Seconds between the starts of attempts at two addresses of one host (RFC 8305 §5)."""
MAX_ADDRESSES = 8
"""Addresses of one host that are tried: a name may have any number."""
_SYN_COUNT = getattr(socket, "TCP_SYNCNT", None)
"""Linux's: how often a SYN is repeated."""
_SHARED_PORT = getattr(socket, "SO_REUSEPORT", None)
"""Several sockets of one user at one port, where a system has that."""
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


async def resolve(host: str, port: int) -> list[Address]:
    """Return the addresses of a host, in the system's order. A literal is its own.

    Raises:
        OSError: it has none, or is no name.
    """
    if is_address(host):
        return [Address(host, port)]
    if not is_host(host):
        raise OSError(errno.EINVAL, f"not a host name: {host[:64]!r}")
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = []
    for family, _, _, _, where in found:
        if family in (socket.AF_INET, socket.AF_INET6):
            zone = f"%{where[3]}" if len(where) == 4 and where[3] else ""
            addresses.append(Address(f"{where[0]}{zone}", port))
    if not addresses:
        raise OSError(errno.EADDRNOTAVAIL, f"{host} has no address")
    return list(dict.fromkeys(addresses))


def in_turn(addresses: Sequence[Address], is_known: Callable[[Address], bool]) -> list[Address]:
    """Return the addresses in the order in which they are tried, at most `MAX_ADDRESSES`: those
    that have answered before go first, and the families take turns (RFC 8305 §4)."""
    families: dict[socket.AddressFamily, list[Address]] = {}
    for address in sorted(dict.fromkeys(addresses), key=lambda one: not is_known(one)):
        families.setdefault(address.family, []).append(address)
    turns = zip_longest(*families.values())
    return [address for turn in turns for address in turn if address is not None][:MAX_ADDRESSES]


async def dial_any(
    addresses: Sequence[Address],
    *,
    source: str | None = None,
    usual: Callable[[Address], float | None] = lambda address: None,
    port: int | None = None,
) -> Dialed:
    """Dial all the addresses of one host, each a stagger after the one before or when that has
    failed, and return the first that answers. `usual` tells their usual round trips, and `port` is
    as for `dial`.

    Raises:
        OSError: what the only one said, or what each did.
    """
    failed: list[tuple[Address, OSError]] = []

    async def attempt(address: Address) -> Dialed:
        try:
            return await dial(address, source=source, round_trip=usual(address), port=port)
        except OSError as error:
            failed.append((address, error))
            raise PathFailed(str(error)) from None

    ordered = in_turn(addresses, lambda address: usual(address) is not None)
    if not ordered:
        raise OSError("no address to dial")
    if len(ordered) == 1:
        return await dial(ordered[0], source=source, round_trip=usual(ordered[0]), port=port)
    try:
        return await race(
            [partial(attempt, address) for address in ordered], stagger=STAGGER, discard=_discard
        )
    except RoamRelayError as error:
        if not failed:
            raise OSError(error.reason) from None
    if len({str(error) for _, error in failed}) == 1:
        raise failed[0][1]
    raise OSError("; ".join(f"{at.host}: {error.strerror or error}" for at, error in failed))


def _discard(dialed: Dialed) -> None:
    dialed.connected.close()


async def dial_relay(
    relay: RelayAddress,
    source: str | None,
    avoid: Collection[str] = (),
    port: int | None = None,
) -> Dialed:
    """Dial a relay, at whichever of its addresses answers first but those to `avoid`, from the
    local address `source` (None: the route's) and `port` as for `dial`, and keep how far it is.

    Raises:
        OSError: none of them answers, or its name leads nowhere.
    """
    hosts = relay.addresses or (relay.host,)
    found = [address for host in hosts for address in await resolve(host, relay.port)]
    wanted = [address for address in found if address.host not in avoid]
    if not wanted:
        raise OSError(errno.EADDRNOTAVAIL, f"{relay.host} has no other address")
    return await _dial_known(wanted, relay, source, port)


async def dial_through(proxy: URL, relay: RelayAddress, source: str | None) -> Dialed:
    """Do so through a proxy, by CONNECT. The caller has a timeout.

    Raises:
        OSError: the proxy cannot be reached.
        RelayUnavailable: it refuses.
    """
    if proxy.scheme != "http":
        raise RelayUnavailable(f"a proxy with {proxy.scheme}:// cannot be asked for a connection")
    found = await resolve(proxy.host or "", proxy.port or 0)
    dialed = await _dial_known(found, relay, source)
    loop, request = asyncio.get_running_loop(), ConnectRequest(proxy, relay.target)
    try:
        await loop.sock_sendall(dialed.connected, request.to_send())
        while not request.receive(await loop.sock_recv(dialed.connected, 4096)):
            pass
    except BaseException:
        dialed.connected.close()
        raise
    return dialed


async def _dial_known(
    addresses: Sequence[Address],
    relay: RelayAddress,
    source: str | None,
    port: int | None = None,
) -> Dialed:
    dialed = await dial_any(
        addresses,
        source=source,
        usual=lambda address: relay.trips.get(address.host, source),
        port=port,
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
    repeats: int | None = None,
    connect: Connect | None = None,
    port: int | None = None,
) -> Dialed:
    """Connect to one address, from the local address `source` (None: the route's), by up to three
    sockets; the first that connects is returned, and the others are closed. `repeats` is how often
    the kernel repeats the SYN of each, where it can be told (None: for minutes). `port` is one of
    this peer's own that is shared (`share_port`): the first socket leaves from it where it can, and
    where that one fails, another one from any port.

    No timeout: who dials has a time of its own.

    Raises:
        OSError: no socket could be made, or any of them has been refused, from any port.
    """
    loop = asyncio.get_running_loop()
    running: dict[asyncio.Future[None], tuple[socket.socket, float]] = {}
    over: asyncio.Future[None] = loop.create_future()
    """Done when any of them is, or when no other one can be made."""

    from_port: set[asyncio.Future[None]] = set()
    anew: list[Callable[[], None]] = []
    """What begins another one; empty when all is over, as it would hold what holds it."""

    def ended(attempt: "asyncio.Future[None]") -> None:
        if over.done():
            return
        if attempt in from_port and _failed(attempt):
            # Something on the way, or this host, may know that port and not let it through.
            from_port.clear()
            running.pop(attempt)[0].close()
            if not running:
                for begin_anew in anew:
                    begin_anew()
            return
        over.set_result(None)

    def begin(port: int | None = None) -> None:
        one = _socket(address, source, port or 0)
        try:
            if repeats is not None and _SYN_COUNT is not None:
                one.setsockopt(socket.IPPROTO_TCP, _SYN_COUNT, repeats)
            attempt = (connect or connecting)(one, (address.host, address.port))
        except BaseException:
            one.close()
            raise
        running[attempt] = one, loop.time()
        if port:
            from_port.add(attempt)
        attempt.add_done_callback(ended)

    def begin_or_end() -> None:
        try:
            begin()
        except OSError as error:
            over.set_exception(error)
            over.exception()  # Who dials may have left in this very moment.

    anew.append(begin_or_end)

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
        try:
            begin(port)
        except OSError:
            if not port:
                raise
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
        anew.clear()
        for attempt, (one, _) in running.items():
            if not attempt.cancel() and not attempt.cancelled():
                attempt.exception()  # Told already, or of a socket that was not needed.
            loop.remove_writer(one)
            one.close()


async def dial_from(address: Address, source: str, port: int) -> socket.socket:
    """Connect by one socket from a local address and a port that is shared (`share_port`); the
    other end may do so at the same time (RFC 9293 §3.5). The caller has a timeout.

    Raises:
        OSError: it was refused, or the two ends have a connection already.
    """
    one = _socket(address, source, port)
    try:
        await connecting(one, (address.host, address.port))
    except BaseException:
        asyncio.get_running_loop().remove_writer(one)
        one.close()
        raise
    return one


def _failed(attempt: "asyncio.Future[None]") -> bool:
    return attempt.cancelled() or attempt.exception() is not None


def _is_connected(one: socket.socket) -> bool:
    try:
        one.getpeername()
    except OSError:
        return False
    return True


def share_port(one: socket.socket) -> None:
    """Let others of this user's sockets leave from the port that a socket has: of a listening one
    after it was bound, so that who takes a port that is taken is told so. Nothing happens where a
    system cannot."""
    if _SHARED_PORT is not None:
        one.setsockopt(socket.SOL_SOCKET, _SHARED_PORT, 1)


def _socket(address: Address, source: str | None, port: int = 0) -> socket.socket:
    one = socket.socket(address.family, socket.SOCK_STREAM)
    try:
        one.setblocking(False)
        expect_answers(one)
        if source is not None and (":" in source) != (":" in address.host):
            raise OSError(
                errno.EADDRNOTAVAIL, f"no way from {source} to {address.host}: not one family"
            )
        if port:
            # The first for the next socket there, while this one is still remembered.
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            share_port(one)
            if address.family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if source is not None or port:
            one.bind((source or ("::" if ":" in address.host else "0.0.0.0"), port))
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
