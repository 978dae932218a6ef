"""Connections to a relay: HTTP, then a byte stream by either carrier.

The raw carrier is one HTTP/1.1 exchange (h11) on a plain or TLS transport; the WebSocket carrier
is aiohttp's client. Errors leave here as `RelayUnavailable` or as the relay's own code.
"""

import asyncio
import base64
import json
from collections.abc import Iterable, Sequence

import h11

from peers.config import CarrierKind
from peers.tasks import Spawn
from peers.transport.relay_url import RelayAddress
from peers.transport.stream import Stream
from peers.transport.tcp import RawStream
from protocol.errors import Code, RelayUnavailable, RoamRelayError
from protocol.messages import (
    EARLY_HEADER,
    RESUME_HEADER,
    UPGRADE_TOKEN,
)

__all__ = ["open_upgraded"]


class _UpgradeExchange:
    """One HTTP request for an upgrade and its answer: the first owner of a raw stream."""

    def __init__(
        self, stream: RawStream, host: str, target: str, more: Sequence[tuple[str, str]]
    ) -> None:
        self._stream = stream
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
        self._body = b""
        self._status = 0
        self.done: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        """Set to the bytes that followed the 101."""

    def start(self) -> None:
        data = self._http.send(self._request) or b""
        data += self._http.send(h11.EndOfMessage()) or b""
        self._stream.write(data)

    def stream_data(self, data: bytes) -> None:
        if self.done.done():
            return
        try:
            self._http.receive_data(data)
            self._read_events()
        except h11.RemoteProtocolError as error:
            self._fail(RelayUnavailable(f"the relay does not speak HTTP: {error}"))

    def stream_writable(self) -> None:
        return

    def stream_lost(self, reason: str) -> None:
        self._fail(RelayUnavailable(f"the relay hung up during the upgrade: {reason}"))

    def _read_events(self) -> None:
        while True:
            event = self._http.next_event()
            match event:
                case h11.InformationalResponse(status_code=101):
                    self._stream.resume_ticket = _resume_ticket(event.headers)
                    self.done.set_result(bytes(self._http.trailing_data[0]))
                    return
                case h11.Response():
                    self._status = event.status_code
                case h11.Data() if len(self._body) < 65_536:
                    self._body += bytes(event.data)
                case h11.EndOfMessage():
                    self._fail(_http_error(self._status, self._body))
                    return
                case _:
                    return

    def _fail(self, error: RoamRelayError) -> None:
        if not self.done.done():
            self.done.set_exception(error)


def _resume_ticket(headers: Iterable[tuple[bytes, bytes]]) -> str:
    wanted = RESUME_HEADER.lower().encode()
    return next((value.decode("ascii", "replace") for name, value in headers if name == wanted), "")


def _http_error(status: int, body: bytes) -> RoamRelayError:
    try:
        answer = json.loads(body)
        return RelayUnavailable(str(answer["reason"]), code=Code(answer["code"]))
    except (ValueError, KeyError, TypeError):
        return RelayUnavailable(f"the relay answered with HTTP status {status}, not an upgrade")


async def open_upgraded(
    relay: RelayAddress,
    path: str,
    carrier: CarrierKind,
    *,
    spawn: Spawn,
    timeout: float,
    local_address: str | None = None,
    early: bytes = b"",
) -> Stream:
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
    except OSError as error:
        raise RelayUnavailable(f"cannot connect to {relay}: {error}") from None


async def _open_raw(
    relay: RelayAddress,
    path: str,
    local_address: str | None,
    more: Sequence[tuple[str, str]],
) -> Stream:
    loop = asyncio.get_running_loop()
    _, stream = await loop.create_connection(
        RawStream,
        relay.host,
        relay.port,
        ssl=relay.ssl,
        server_hostname=relay.certificate_name,
        local_addr=(local_address, 0) if local_address else None,
    )
    exchange = _UpgradeExchange(stream, relay.url.authority, path, more)
    try:
        stream.set_owner(exchange)
        exchange.start()
        rest = await exchange.done
    except BaseException:
        stream.abort()
        raise
    stream.release(rest)
    return stream
