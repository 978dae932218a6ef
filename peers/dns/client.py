"""Talking to name servers: one question, or one signed update, and a deadline for each.

What is asked, and what an answer means, is decided in lookup.py and registration.py beside it.
"""

import asyncio
import contextlib
import secrets
import socket
import struct
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, Protocol

import dns.exception
import dns.message
import dns.rcode
import dns.resolver
import dns.tsig

from peers.config import HostPort
from peers.dns import tsig
from peers.dns.answer import Answer, Malformed, Truncated, Unusable, read_answer
from peers.transport import Address, dial_any, resolve
from protocol.endpoint import Endpoint
from protocol.errors import NameServerUnavailable, PathFailed, ProtocolViolation

__all__ = [
    "Answered",
    "NamedServer",
    "Clock",
    "addresses_of",
    "ask",
    "ask_any",
    "ask_signed",
    "system_servers",
    "update",
]

_PAYLOAD = 1232
"""Bytes of an answer over UDP: what passes everywhere without fragments."""
_FIRST_TRY = 0.4
"""Seconds for the first datagram to be answered; doubled for each further one. Who has just come to
another network often loses the first one."""
_ROUNDS = 4
_NOBODY = "nobody listens there"
_SCRAPS = 64
"""Malformed datagrams that are read while an answer is waited for."""


class Through(Protocol):
    """What everything passes that others name, before it is asked."""

    def to_server(
        self, server: Endpoint, zone: str, met: Collection[str]
    ) -> AbstractContextManager[Callable[[], None]]:
        """Ask a server inside; `met` are the addresses of who has named it for the zone. Call what
        it gives when there is an answer.

        Raises:
            PathFailed: it is not asked.
        """


@dataclass(frozen=True, slots=True)
class NamedServer(HostPort):
    """A name server that a zone names as its own."""

    zone: str = ""
    met: tuple[str, ...] = ()
    """Who has said so."""
    through: Through | None = None

    def passing(self) -> AbstractContextManager[Callable[[], None]]:
        """Ask it inside, by its address.

        Raises:
            PathFailed, ProtocolViolation: it is not to be asked.
        """
        if self.through is None:
            return contextlib.nullcontext(_nobody_counts)
        return self.through.to_server(Endpoint.parse(self.host, self.port), self.zone, self.met)


def at(server: HostPort, address: str) -> HostPort:
    """Return a server by one of its addresses."""
    return replace(server, host=address)


def _passing(server: HostPort) -> AbstractContextManager[Callable[[], None]]:
    """Ask a server inside, which has to be at an address. What the configuration names is this
    peer's own wish."""
    if isinstance(server, NamedServer):
        return server.passing()
    return contextlib.nullcontext(_nobody_counts)


def _nobody_counts() -> None:
    """Nobody wants to know that there is an answer."""


async def addresses_of(server: HostPort) -> list[str]:
    """Return the addresses of a name server.

    Raises:
        NameServerUnavailable: its name leads nowhere.
    """
    try:
        found = await resolve(server.host, server.port)
    except OSError as error:  # A zone may name anything as its server.
        raise NameServerUnavailable(
            f"no address for the name server {server.host[:64]!r}: {error.strerror or error}"
        ) from None
    return [address.host for address in found]


class Clock:
    """The time by which updates are signed: the system's, corrected by a server's."""

    def __init__(self, offset: float = 0.0) -> None:
        self.offset = offset

    def now(self) -> float:
        """Return seconds since 1970."""
        return time.time() + self.offset

    def set(self, now: float) -> None:
        """Believe that it is `now`."""
        self.offset = now - time.time()


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer, and the address that has given it."""

    server: HostPort
    answer: Answer


async def ask(servers: Sequence[HostPort], name: str, kind: str, timeout: float) -> Answer:
    """Ask for one record set; return the answer alone. As `ask_any`."""
    return (await ask_any(servers, name, kind, timeout)).answer


async def ask_any(servers: Sequence[HostPort], name: str, kind: str, timeout: float) -> Answered:
    """Ask for one record set: over UDP, again where nothing comes, and over TCP where the answer
    is too large.

    A server that is silent, lame or broken leaves the question to the next one.

    Raises:
        NameServerUnavailable: none gave an answer in `timeout` seconds; says why. Or `name` is no
            name that could be asked for.
    """
    try:
        query = dns.message.make_query(name, kind, use_edns=0, payload=_PAYLOAD)
    except dns.exception.DNSException as error:
        raise NameServerUnavailable(f"not a name in the DNS: {name[:80]!r}: {error}") from None
    said: dict[str, str] = {}
    loop = asyncio.get_running_loop()
    again = loop.time()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout):
            for wait in (_FIRST_TRY * 2**number for number in range(_ROUNDS)):
                await asyncio.sleep(again - loop.time())
                for server in servers:
                    said.setdefault(str(server), "no answer")
                    try:
                        addresses = await addresses_of(server)
                    except NameServerUnavailable as error:
                        said[str(server)] = error.reason
                        continue
                    for address in addresses:
                        query.id = secrets.randbits(16)
                        found = at(server, address)
                        answer = await _try(found, query, wait)
                        if isinstance(answer, Answer):
                            return Answered(found, answer)
                        said[str(server)] = answer
                        if answer is _NOBODY:  # It may be starting.
                            again = loop.time() + wait
    reasons = "; ".join(f"{server}: {reason}" for server, reason in said.items())
    raise NameServerUnavailable(f"no answer about {name} {kind}: {reasons or 'no name server'}")


async def _try(server: HostPort, query: dns.message.QueryMessage, wait: float) -> Answer | str:
    """Return the answer of one server, which is an address, or why there is none."""
    try:
        with _passing(server) as answered:
            async with asyncio.timeout(wait):
                try:
                    answer = await _ask_by_datagram(server.host, server.port, query)
                except Truncated:
                    answered()
                else:
                    answered()
                    return answer
        async with asyncio.timeout(wait):
            wire = await _ask_by_stream((server,), query.to_wire())
            found = read_answer(wire, query)
            return "it answered something else" if found is None else found
    except TimeoutError:
        return "no answer"
    except Truncated:
        return "a whole answer that is none"
    except (Unusable, PathFailed, ProtocolViolation) as error:
        return str(error)
    except EOFError:
        return "it hung up"
    except ConnectionRefusedError:
        return _NOBODY
    except (OSError, ValueError) as error:  # The scope of an address may be anything.
        return (error.strerror if isinstance(error, OSError) else None) or str(error)


async def _ask_by_datagram(address: str, port: int, query: dns.message.QueryMessage) -> Answer:
    """Send one datagram; the caller has a timeout."""
    loop = asyncio.get_running_loop()
    if "\0" in address:
        raise ValueError("not an address")
    # Connected here: what uvloop cannot connect, as without a network, it leaves open.
    one = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        one.setblocking(False)
        one.connect((address, port))
        transport, question = await loop.create_datagram_endpoint(
            lambda: _Question(query), sock=one
        )
    except BaseException:
        one.close()
        raise
    try:
        transport.sendto(query.to_wire())
        return await question.answer
    finally:
        transport.abort()


class _Question(asyncio.DatagramProtocol):
    """Waits for the answer to one question: what anybody else sends is left alone."""

    def __init__(self, query: dns.message.QueryMessage) -> None:
        self.answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._query = query
        self._left = _SCRAPS

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        if self.answer.done():
            return
        try:
            answer = read_answer(data, self._query)
        except Malformed as error:
            self._left -= 1
            if not self._left:
                self._fail(error)
        except (Truncated, Unusable) as error:
            self._fail(error)
        else:
            if answer is not None:
                self.answer.set_result(answer)

    def error_received(self, exc: Exception) -> None:
        if not self.answer.done():
            self._fail(exc)

    def _fail(self, error: Exception) -> None:
        self.answer.set_exception(error)
        self.answer.exception()  # Who asked may have left in this very moment.


async def ask_signed(
    servers: Sequence[HostPort],
    question: tuple[str, str],
    key: dns.tsig.Key,
    clock: Clock,
    timeout: float,
) -> Answer:
    """Ask for one record set, of a name and a type, so that nobody but the server can answer: over
    TCP, both ways signed by a key of its own. `servers` are its addresses: one at least, and the
    first that is reached is asked.

    Raises:
        UpdateRefused: the server does not take the key.
        NameServerUnavailable: no answer that is signed by the key, in `timeout` seconds.
    """
    query = dns.message.make_query(*question)
    _, wire = await _signed(servers, query, key, clock, timeout)
    try:
        answer = read_answer(wire, query)
    except (Truncated, Unusable) as error:
        raise NameServerUnavailable(f"{servers[0]}: {error}") from None
    if answer is None:
        raise NameServerUnavailable(f"{servers[0]} answered something else")
    return answer


async def update(
    server: HostPort,
    message: dns.message.Message,
    key: dns.tsig.Key,
    clock: Clock,
    timeout: float,
    others: Sequence[HostPort] = (),
) -> dns.rcode.Rcode:
    """Send a signed update over TCP; return what the server says of it. It goes to one address:
    `server`'s, or that of the `others` of the same server which is reached first.

    Where the server finds our clock wrong, it is corrected, and the message sent once more.

    Raises:
        UpdateRefused: the server does not take the key.
        NameServerUnavailable: no answer that is signed by the key, in `timeout` seconds.
    """
    code, _ = await _signed((server, *others), message, key, clock, timeout)
    return code


async def _signed(
    servers: Sequence[HostPort],
    message: dns.message.Message,
    key: dns.tsig.Key,
    clock: Clock,
    timeout: float,
) -> tuple[dns.rcode.Rcode, bytes]:
    """Send a message, signed; return the answer, which is signed too, and its code."""
    try:
        async with asyncio.timeout(timeout):
            try:
                return await _exchange(servers, message, key, clock.now())
            except tsig.ClockIsWrong as wrong:
                clock.set(wrong.server_time)
                return await _exchange(servers, message, key, clock.now())
    except TimeoutError:
        raise NameServerUnavailable(f"no answer from {servers[0]} within {timeout:g} s") from None


async def _exchange(
    servers: Sequence[HostPort], message: dns.message.Message, key: dns.tsig.Key, now: float
) -> tuple[dns.rcode.Rcode, bytes]:
    signed = tsig.sign(message, key, now)
    try:
        wire = await _ask_by_stream(servers, signed.wire)
    except EOFError:
        raise NameServerUnavailable(f"{servers[0]} hung up") from None
    except (PathFailed, ProtocolViolation) as error:
        raise NameServerUnavailable(error.reason) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        raise NameServerUnavailable(f"{servers[0]}: {reason or error}") from None
    return tsig.open_answer(wire, signed, key, now), wire


async def _ask_by_stream(servers: Sequence[HostPort], wire: bytes) -> bytes:
    """Send one message over TCP to whichever of a server's addresses answers first, and return what
    comes; the caller has a timeout."""
    with contextlib.ExitStack() as passing:
        found: dict[Address, Callable[[], None]] = {}
        refused: PathFailed | None = None
        for server in servers:
            for address in await resolve(server.host, server.port):
                try:
                    found[address] = passing.enter_context(_passing(at(server, address.host)))
                except PathFailed as error:
                    refused = error
        if refused is not None and not found:
            raise refused
        dialed = await dial_any(list(found))
        reader, writer = await asyncio.open_connection(sock=dialed.connected)
        try:
            writer.write(struct.pack("!H", len(wire)) + wire)
            await writer.drain()
            (length,) = struct.unpack("!H", await reader.readexactly(2))
            answer = await reader.readexactly(length)
        finally:
            writer.transport.abort()
        found[dialed.address]()
        return answer


async def system_servers(file: str = "/etc/resolv.conf") -> tuple[HostPort, ...]:
    """Return the resolvers that this host is configured with; none where it has none."""

    def read() -> list[str]:
        try:
            return [str(one) for one in dns.resolver.Resolver(file).nameservers]
        except (dns.exception.DNSException, ValueError):  # It is what some program has written.
            return []

    return tuple(HostPort(host) for host in await asyncio.to_thread(read))
