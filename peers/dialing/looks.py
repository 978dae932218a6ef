"""What a relay is asked beside a conversation: at its second port, where a connection is seen; and
by plain HTTP, for who examines a network, whether it is one, what time it has, and for how long its
certificate is good."""

import asyncio
import contextlib
import os
import ssl
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from time import time
from typing import Any

import h11

from peers.transport import Address, RelayAddress, dial_from, dial_relay
from protocol.dialing import is_well_known
from protocol.endpoint import Endpoint
from protocol.errors import PathFailed, ProtocolViolation, RelayUnavailable, RoamRelayError
from protocol.observation import SIZE, question, read_answer

__all__ = ["Health", "health_of", "observe"]

_MAX_BYTES = 65_536
"""Of an answer; a longer one is somebody else's."""


_WEB = (80, 443)
"""Ports below 1024 at which a relay may serve."""


async def observe(at: Endpoint, local: Endpoint, timeout: float) -> Endpoint:
    """Ask a relay at its second port where it sees a connection that leaves from a local address
    and a port that is shared. The relay is dialed where it was met, and has named the port.

    Raises:
        PathFailed: nobody says so in time, or it is a well-known service's port.
    """
    if is_well_known(at.port) and at.port not in _WEB:
        raise PathFailed(f"port {at.port} is a well-known service's")
    asked = question(os.urandom(20))
    try:
        async with asyncio.timeout(timeout):
            return read_answer(asked, await _answer(at, local, asked))
    except TimeoutError:
        raise PathFailed(f"no answer from {at} within {timeout:g} s") from None
    except (OSError, EOFError, ProtocolViolation) as error:
        raise PathFailed(f"{at} does not say where it sees this: {error}") from None


async def _answer(at: Endpoint, local: Endpoint, asked: bytes) -> bytes:
    connected = await dial_from(Address(at.host, at.port), local.host, local.port)
    loop = asyncio.get_running_loop()
    try:
        await loop.sock_sendall(connected, asked)
        answer = b""
        while len(answer) < SIZE:
            data = await loop.sock_recv(connected, SIZE - len(answer))
            if not data:
                raise EOFError("it has hung up")
            answer += data
        return answer
    finally:
        connected.close()


@dataclass(frozen=True, slots=True)
class Health:
    """An answer to the question how a relay is."""

    status: int
    body: bytes
    clock_ahead: float | None
    """Seconds by which this host's clock is ahead, as far as a whole second tells; None where the
    answer has no date."""
    certificate_seconds: float | None
    """For which the certificate is good by this host's clock; None where there is none."""


async def health_of(relay: RelayAddress, timeout: float, source: str | None = None) -> Health:
    """Ask a relay how it is, from an address of this host, or the route's.

    Raises:
        RelayUnavailable: nobody answers in time, or no HTTP; the certificate is none to believe.
    """
    try:
        async with asyncio.timeout(timeout):
            return await _ask(relay, source)
    except TimeoutError:
        raise RelayUnavailable(f"no answer from {relay} within {timeout:g} s") from None
    except RoamRelayError:
        raise
    except (OSError, EOFError, ValueError, h11.RemoteProtocolError) as error:
        raise RelayUnavailable(f"{relay} does not answer plain HTTP: {error}") from None


async def _ask(relay: RelayAddress, source: str | None) -> Health:
    dialed = await dial_relay(relay, source)
    context = relay.tls()
    try:
        reader, writer = await asyncio.open_connection(
            sock=dialed.connected,
            ssl=context,
            server_hostname=(relay.certificate_name or relay.host) if context else None,
        )
    except BaseException:
        dialed.connected.close()
        raise
    try:
        shown: dict[str, Any] | None = writer.get_extra_info("peercert")
        ends = ssl.cert_time_to_seconds(shown["notAfter"]) if shown else None
        before = time()
        headers, status, body = await _exchange(relay, reader, writer)
        after = time()
    finally:
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    return Health(
        status,
        body,
        _ahead(headers.get(b"date"), before, after),
        None if ends is None else ends - after,
    )


async def _exchange(
    relay: RelayAddress, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> tuple[dict[bytes, bytes], int, bytes]:
    http = h11.Connection(h11.CLIENT)
    headers = [("Host", relay.authority), ("Connection", "close")]
    request = h11.Request(method="GET", target="/healthz", headers=headers)
    writer.write((http.send(request) or b"") + (http.send(h11.EndOfMessage()) or b""))
    status, body, fields = 0, b"", dict[bytes, bytes]()
    taken = 0
    while True:
        match http.next_event():
            case h11.Response(status_code=status, headers=told):
                fields = dict(told)
            case h11.Data(data=piece):
                body += bytes(piece)
            case h11.EndOfMessage() | h11.ConnectionClosed():
                return fields, status, body
            case h11.NEED_DATA:
                data = await reader.read(4096)
                taken += len(data)
                if taken > _MAX_BYTES:
                    raise ValueError("it says too much")
                http.receive_data(data)
            case h11.PAUSED:
                raise ValueError("it switches to another protocol")
            case _:
                continue  # What is said before the answer (RFC 9110 §15.2).


def _ahead(date: bytes | None, before: float, after: float) -> float | None:
    """Return by how much this host's clock is ahead; 0 where the two may agree. The answer was
    dated between `before` and `after`, in a second that had begun."""
    if date is None:
        return None
    try:
        told = parsedate_to_datetime(date.decode("ascii")).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    if after < told:
        return after - told
    if before > told + 1:
        return before - told - 1
    return 0.0
