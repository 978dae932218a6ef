"""Connections to a relay: HTTP, then a byte stream by either carrier.

The raw carrier is one HTTP/1.1 exchange (h11) on a plain or TLS transport; the WebSocket carrier
is aiohttp's client. Errors leave here as `RelayUnavailable` or as the relay's own code.
"""

import asyncio
import base64
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import h11

from peers.config import CarrierKind
from peers.tasks import Spawn
from peers.transport.relay_url import RelayAddress
from peers.transport.sockets import dial_relay, open_tcp, resolve
from peers.transport.stream import Opened
from peers.transport.tcp import END_OF_STREAM, RawStream
from protocol.errors import Code, RelayUnavailable, RoamRelayError
from protocol.messages import (
    EARLY_HEADER,
    RESUME_HEADER,
    UPGRADE_TOKEN,
)

__all__ = ["UpgradeRequest", "Upgraded", "open_upgraded"]

_MAX_INTERIM = 16
"""Answers of status 1xx before the one that counts."""
_MAX_BODY = 65_536
"""Bytes of a refusal; of a longer one only the status is told."""


@dataclass(frozen=True, slots=True)
class Upgraded:
    """A relay has switched to the byte stream."""

    resume_ticket: str
    """Of a plane's leg: the ticket for the session's next plane; empty where there is none."""
    rest: bytes
    """The first bytes of the stream, which came with the answer."""


class UpgradeRequest:
    """One HTTP request for an upgrade, and its answer: bytes out, bytes in."""

    def __init__(self, host: str, target: str, more: Sequence[tuple[str, str]] = ()) -> None:
        self._http = h11.Connection(h11.CLIENT)
        self._request = h11.Request(
            method="GET",
            target=target,
            headers=[
                ("Host", host),
                ("Connection", "Upgrade"),
                ("Upgrade", UPGRADE_TOKEN),
                *more,
            ],
        )
        self._interim = 0
        self._status: int | None = None
        self._body = b""

    def to_send(self) -> bytes:
        """Return the request. Call once."""
        data = self._http.send(self._request) or b""
        return data + (self._http.send(h11.EndOfMessage()) or b"")

    def receive(self, data: bytes) -> Upgraded | None:
        """Take bytes of the answer; return what came of it, or None while it is not whole. Empty
        data says that nothing more follows. Once it has returned or raised, call it no more.

        Raises:
            RelayUnavailable: a refusal, whose `code` is the relay's, or no HTTP.
        """
        try:
            self._http.receive_data(data)
            return self._read_events()
        except h11.RemoteProtocolError as error:
            if not data:
                raise self._unfinished() from None
            raise RelayUnavailable(f"the relay does not speak HTTP: {error}") from None

    def _read_events(self) -> Upgraded | None:
        while True:
            match self._http.next_event():
                case h11.InformationalResponse(status_code=101, headers=headers):
                    return Upgraded(_resume_ticket(headers), bytes(self._http.trailing_data[0]))
                case h11.InformationalResponse():
                    # RFC 9110 §15.2: any number may come before the answer, unasked.
                    self._interim += 1
                    if self._interim > _MAX_INTERIM:
                        raise RelayUnavailable("the relay answers and answers, and never finally")
                case h11.Response(status_code=status):
                    self._status = status
                case h11.Data(data=piece):
                    self._body += bytes(piece)
                    if len(self._body) > _MAX_BODY:
                        raise self._refusal(b"")
                case h11.EndOfMessage():
                    raise self._refusal(self._body)
                case h11.ConnectionClosed():
                    raise self._unfinished()
                case _:
                    return None

    def _unfinished(self) -> RelayUnavailable:
        if self._status is not None:
            return self._refusal(self._body)
        return RelayUnavailable("the relay hung up during the upgrade: end of stream")

    def _refusal(self, body: bytes) -> RelayUnavailable:
        try:
            answer = json.loads(body)
            return RelayUnavailable(str(answer["reason"]), code=Code(answer["code"]))
        except (ValueError, LookupError, TypeError, RecursionError):
            return RelayUnavailable(
                f"the relay answered with HTTP status {self._status}, not an upgrade"
            )


class _Exchange:
    """The first owner of a raw stream: sends the request and waits for the answer."""

    def __init__(self, stream: RawStream, request: UpgradeRequest) -> None:
        self._stream = stream
        self._request = request
        self.done: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """The stream has been released, and belongs to nobody; its resume ticket."""

    def stream_data(self, data: bytes) -> None:
        if self.done.done():
            return
        try:
            upgraded = self._request.receive(data)
        except RelayUnavailable as error:
            self._fail(error)
            return
        if upgraded is not None:
            # Now, and not when somebody wakes up: more may arrive until then.
            self._stream.release(upgraded.rest)
            self.done.set_result(upgraded.resume_ticket)

    def stream_writable(self) -> None:
        return

    def stream_lost(self, reason: str) -> None:
        if not self.done.done():
            self._fail(self._last_word(reason))

    def _last_word(self, reason: str) -> RelayUnavailable:
        try:
            self._request.receive(b"")
        except RelayUnavailable as error:
            if error.code is not None or reason == END_OF_STREAM:
                return error
        return RelayUnavailable(f"the relay hung up during the upgrade: {reason}")

    def _fail(self, error: RoamRelayError) -> None:
        self.done.set_exception(error)
        self.done.exception()  # Nobody may be waiting any more; then it is not an error unseen.


def _resume_ticket(headers: Iterable[tuple[bytes, bytes]]) -> str:
    wanted = RESUME_HEADER.lower().encode()
    return next((value.decode("ascii", "replace") for name, value in headers if name == wanted), "")


async def open_upgraded(
    relay: RelayAddress,
    path: str,
    carrier: CarrierKind,
    *,
    spawn: Spawn,
    timeout: float,
    local_address: str | None = None,
    early: bytes = b"",
) -> Opened:
    """Open a byte stream to `path` at the relay.

    The stream waits for `set_owner`. `local_address` is the source address to use; None leaves it
    to the routes. `spawn` owns the task that a WebSocket needs. `early` are the first bytes for the
    other leg of a plane: they travel with the request, and save a round trip.

    Raises:
        RelayUnavailable: no connection, no answer within `timeout` seconds, or a refusal, whose
            `code` is the relay's.
    """
    more = [(EARLY_HEADER, base64.b64encode(early).decode())] if early else []
    try:
        async with asyncio.timeout(timeout):
            if carrier is CarrierKind.RAW:
                return await _open_raw(relay, path, local_address, more)
            # aiohttp takes 0.2 s to import: only who needs it pays.
            from peers.transport.websocket import open_websocket

            return await open_websocket(relay, path, local_address, more, spawn)
    except TimeoutError:
        raise RelayUnavailable(f"no answer from {relay} within {timeout:g} s") from None
    except (OSError, UnicodeError) as error:
        raise RelayUnavailable(f"cannot connect to {relay}: {error}") from None


async def _open_raw(
    relay: RelayAddress,
    path: str,
    local_address: str | None,
    more: Sequence[tuple[str, str]],
) -> Opened:
    addresses = await resolve(relay.host, relay.port)
    dialed = await dial_relay(relay, local_address, addresses)
    stream = await open_tcp(dialed.connected, relay.ssl, relay.certificate_name or relay.host)
    try:
        request = UpgradeRequest(relay.url.authority, path, more)
        exchange = _Exchange(stream, request)
        stream.set_owner(exchange)
        stream.write(request.to_send())
        return Opened(stream, await exchange.done)
    except BaseException:
        stream.abort()
        raise
