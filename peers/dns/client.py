"""Talking to name servers: one question, or one signed update, and a deadline for each.

What is asked, and what an answer means, is decided in lookup.py and registration.py beside it.
"""

import asyncio
import ipaddress
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass

import dns.asyncquery
import dns.asyncresolver
import dns.exception
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.resolver
import dns.tsig

from peers.config import HostPort
from peers.dns import tsig
from protocol.errors import NameServerUnavailable

__all__ = ["Answered", "Clock", "addresses_of", "ask", "ask_any", "system_servers", "update"]

_PAYLOAD = 1232
"""Bytes of an answer over UDP: what passes everywhere without fragments."""
_FIRST_TRY = 0.4
"""Seconds for the first datagram to be answered; doubled for each further one. Who has just come to
another network often loses the first one."""
_ROUNDS = 4


async def addresses_of(server: HostPort) -> list[str]:
    """Return the addresses of a name server.

    Raises:
        NameServerUnavailable: its name leads nowhere.
    """
    try:
        return [str(ipaddress.ip_address(server.host))]
    except ValueError:
        pass
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(server.host, server.port, type=2)
    except OSError as error:
        raise NameServerUnavailable(
            f"no address for the name server {server.host}: {error}"
        ) from None
    return list(dict.fromkeys(str(one[4][0]) for one in found))


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
    """An answer with NOERROR or NXDOMAIN, and the address that has given it."""

    server: HostPort
    message: dns.message.Message


async def ask(
    servers: Sequence[HostPort], name: str, kind: str, timeout: float
) -> dns.message.Message:
    """Ask for one record set; return the answer alone. As `ask_any`."""
    return (await ask_any(servers, name, kind, timeout)).message


async def ask_any(servers: Sequence[HostPort], name: str, kind: str, timeout: float) -> Answered:
    """Ask for one record set: over UDP, again where nothing comes, and over TCP where the answer
    is too large. Returns an answer with NOERROR or NXDOMAIN.

    A server that is silent, lame or broken leaves the question to the next one.

    Raises:
        NameServerUnavailable: none gave such an answer in `timeout` seconds; says why.
    """
    said: dict[str, str] = {}
    wait = _FIRST_TRY
    try:
        async with asyncio.timeout(timeout):
            for _ in range(_ROUNDS):
                for server in servers:
                    said.setdefault(str(server), "no answer")
                    try:
                        addresses = await addresses_of(server)
                    except NameServerUnavailable as error:
                        said[str(server)] = error.reason
                        continue
                    for address in addresses:
                        answer = await _try(address, server.port, name, kind, wait)
                        if not isinstance(answer, str):
                            return Answered(HostPort(address, server.port), answer)
                        said[str(server)] = answer
                wait *= 2
    except TimeoutError:
        pass
    reasons = "; ".join(f"{server}: {reason}" for server, reason in said.items())
    raise NameServerUnavailable(f"no answer about {name} {kind}: {reasons or 'no name server'}")


async def _try(
    address: str, port: int, name: str, kind: str, wait: float
) -> dns.message.Message | str:
    query = dns.message.make_query(name, kind, use_edns=0, payload=_PAYLOAD)
    try:
        answer, _ = await dns.asyncquery.udp_with_fallback(
            query, address, wait, port, ignore_unexpected=True, ignore_errors=True
        )
    except dns.exception.Timeout:
        return "no answer"
    except (OSError, EOFError) as error:
        return str(error) or "the connection ended"
    except (dns.exception.DNSException, ValueError, struct.error) as error:
        return f"a malformed answer: {error or type(error).__name__}"
    code = answer.rcode()
    if code == dns.rcode.NXDOMAIN:
        return answer
    if code != dns.rcode.NOERROR:
        return str(dns.rcode.to_text(code))
    if not answer.answer and any(one.rdtype == dns.rdatatype.NS for one in answer.authority):
        return "it refers to others"
    return answer


async def update(
    server: HostPort,
    message: dns.message.Message,
    key: dns.tsig.Key,
    clock: Clock,
    timeout: float,
) -> dns.message.Message:
    """Send a signed update over TCP; return its answer, whatever its code is.

    Where the server finds our clock wrong, it is corrected, and the message sent once more.

    Raises:
        UpdateRefused: the server does not take the key.
        NameServerUnavailable: no answer that is signed by the key, in `timeout` seconds.
    """
    try:
        async with asyncio.timeout(timeout):
            try:
                return await _exchange(server, message, key, clock.now())
            except tsig.ClockIsWrong as wrong:
                clock.set(wrong.server_time)
                return await _exchange(server, message, key, clock.now())
    except TimeoutError:
        raise NameServerUnavailable(f"no answer from {server} within {timeout:g} s") from None


async def _exchange(
    server: HostPort, message: dns.message.Message, key: dns.tsig.Key, now: float
) -> dns.message.Message:
    signed = tsig.sign(message, key, now)
    try:
        reader, writer = await asyncio.open_connection(server.host, server.port)
        try:
            writer.write(struct.pack("!H", len(signed.wire)) + signed.wire)
            await writer.drain()
            (length,) = struct.unpack("!H", await reader.readexactly(2))
            wire = await reader.readexactly(length)
        finally:
            writer.transport.abort()
    except asyncio.IncompleteReadError:
        raise NameServerUnavailable(f"{server} hung up") from None
    except OSError as error:
        raise NameServerUnavailable(f"{server}: {error.strerror or error}") from None
    return tsig.open_answer(wire, message, signed, key, now)


async def system_servers() -> tuple[HostPort, ...]:
    """Return the resolvers that this host is configured with; none where it has none."""

    def read() -> list[str]:
        try:
            return [str(one) for one in dns.resolver.Resolver().nameservers]
        except dns.exception.DNSException:
            return []

    return tuple(HostPort(host) for host in await asyncio.to_thread(read))
