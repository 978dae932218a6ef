"""Connections to a relay: HTTP, then a byte stream by either carrier.

The raw carrier is one HTTP/1.1 exchange (h11) on a plain or TLS transport; the WebSocket carrier
is aiohttp's client. Errors leave here as `RelayUnavailable` or as the relay's own code.
"""

import asyncio
import base64
import json
import ssl
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import h11

from peers.config import CarrierKind, log
from peers.tasks import Spawn
from peers.transport.proxies import proxy_for
from peers.transport.relay_url import RelayAddress
from peers.transport.sockets import Dialed, dial_relay, dial_through, open_tcp
from peers.transport.stream import Opened
from peers.transport.tcp import END_OF_STREAM, RawStream
from peers.transport.trust import in_words
from protocol.errors import Code, RelayMisconfigured, RelayUnavailable, RoamRelayError
from protocol.hosts import host_of
from protocol.messages import (
    EARLY_HEADER,
    RESUME_HEADER,
    UPGRADE_TOKEN,
)

__all__ = ["NotUpgraded", "UpgradeRequest", "Upgraded", "open_upgraded", "retry_after"]

_MAX_INTERIM = 16
"""Answers of status 1xx before the one that counts."""
UPGRADE_REQUIRED = 426
"""The status of a relay that was asked for no upgrade, or for none that it knows."""
_MAX_BODY = 65_536
"""Bytes of a refusal; of a longer one only the status is told."""


_NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL"})
"""What OpenSSL says of an answer that is no TLS."""


class NotUpgraded(RelayUnavailable):
    """Whoever answered has not switched to this carrier; the other one may pass. What a relay says
    by a code of its own, as of a ticket, is none of these."""


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
        self._retry_after: float | None = None
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
            raise NotUpgraded(f"the relay does not speak HTTP: {error}") from None

    def _read_events(self) -> Upgraded | None:
        while True:
            match self._http.next_event():
                case h11.InformationalResponse(status_code=101, headers=headers):
                    return Upgraded(
                        _header(RESUME_HEADER, headers), bytes(self._http.trailing_data[0])
                    )
                case h11.InformationalResponse():
                    # RFC 9110 §15.2: any number may come before the answer, unasked.
                    self._interim += 1
                    if self._interim > _MAX_INTERIM:
                        raise NotUpgraded("the relay answers and answers, and never finally")
                case h11.Response(status_code=status, headers=headers):
                    self._status = status
                    self._retry_after = retry_after(_header("Retry-After", headers))
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
        return NotUpgraded("the relay hung up during the upgrade: end of stream")

    def _refusal(self, body: bytes) -> RelayUnavailable:
        try:
            answer = json.loads(body)
            reason, code = str(answer["reason"]), Code(answer["code"])
            kind = NotUpgraded if self._status == UPGRADE_REQUIRED else RelayUnavailable
        except (ValueError, LookupError, TypeError, RecursionError):
            kind, reason, code = (
                NotUpgraded,
                f"the relay answered with HTTP status {self._status}, not an upgrade",
                None,
            )
        return kind(reason, code=code, retry_after=self._retry_after)


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
        return NotUpgraded(f"the relay hung up during the upgrade: {reason}")

    def _fail(self, error: RoamRelayError) -> None:
        self.done.set_exception(error)
        self.done.exception()  # Nobody may be waiting any more; then it is not an error unseen.


def _header(name: str, headers: Iterable[tuple[bytes, bytes]]) -> str:
    wanted = name.lower().encode()
    return next((value.decode("ascii", "replace") for name, value in headers if name == wanted), "")


def retry_after(told: str) -> float | None:
    """Return the seconds that a `Retry-After` names (RFC 9110 §10.2.3); None where it names none,
    or a date: the clocks may differ."""
    return float(told) if told.isascii() and told.isdigit() and len(told) <= 9 else None


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A stream that is to be opened."""

    relay: RelayAddress
    path: str
    source: str | None
    more: Sequence[tuple[str, str]]
    spawn: Spawn
    patience: float
    """Seconds for a proxy that the environment names, before the way without it."""
    avoid: Collection[str]
    """Addresses of the relay's host that are not dialed."""
    port: int | None
    """This peer's own, from which the relay is dialed where that can be."""


async def open_upgraded(
    relay: RelayAddress,
    path: str,
    carrier: CarrierKind | None,
    *,
    spawn: Spawn,
    timeout: float,
    local_address: str | None = None,
    early: bytes = b"",
    avoid: Collection[str] = (),
    port: int | None = None,
) -> Opened:
    """Open a byte stream to `path` at the relay.

    The stream waits for `set_owner`. `local_address` is the source address to use; None leaves it
    to the routes. `spawn` owns the task that a WebSocket needs. `early` are the first bytes for the
    other leg of a plane: they travel with the request, and save a round trip. `avoid` are addresses
    of the relay's host that are not dialed: who answers there has proven to be another. `port` is
    as for `dial`, on the way without a proxy. `carrier`
    is a demand; None tries the raw one, and a WebSocket where the upgrade is refused, or the other
    way round where that has passed in this network.

    Raises:
        RelayUnavailable: no connection, no answer within `timeout` seconds, or a refusal, whose
            `code` is the relay's. `RelayMisconfigured` where waiting will not cure it.
    """
    more = [(EARLY_HEADER, base64.b64encode(early).decode())] if early else []
    wanted = _Wanted(relay, path, local_address, more, spawn, timeout / 2, avoid, port)
    try:
        relay.tls()  # What cannot be used is said before anything is dialed.
        async with asyncio.timeout(timeout):
            if carrier is None:
                return await _open_by_either(wanted)
            if carrier is CarrierKind.RAW:
                return await _open_raw(wanted, await _reach(wanted))
            return await _open_websocket(wanted)
    except NotUpgraded as error:
        other = "neither carrier passes" if carrier is None else f"'carrier' demands {carrier}"
        raise RelayUnavailable(
            f"{error.reason} ({other})", code=error.code, retry_after=error.retry_after
        ) from None
    except TimeoutError:
        raise RelayUnavailable(f"no answer from {relay} within {timeout:g} s") from None
    except ssl.SSLCertVerificationError as error:
        raise RelayMisconfigured(in_words(relay, error)) from None
    except OSError as error:
        if isinstance(error, ssl.SSLError) and error.reason in _NO_TLS:
            raise RelayMisconfigured(
                f"{relay} does not speak TLS: is it http://, or another port?"
            ) from None
        raise RelayUnavailable(f"cannot connect to {relay}: {error}") from None


async def _open_by_either(wanted: _Wanted) -> Opened:
    relay, now = wanted.relay, asyncio.get_running_loop().time()
    plain = relay.url.scheme == "http" and proxy_for(relay.url) is not None
    try:
        # A proxy for plain HTTP takes WebSockets alone, and needs its share of the time.
        async with asyncio.timeout(wanted.patience if plain else None):
            dialed = await _reach(wanted)
    except OSError:  # TimeoutError is one.
        if not plain:
            raise
        return await _open_websocket(wanted)
    # Which network this is shows when it is dialed: the routes may have chosen the address.
    network = host_of(dialed.connected.getsockname())
    known = relay.trips.carriers
    first, second = known.in_order(relay.authority, network, now)
    try:
        return await _open_on(wanted, first, dialed)
    except NotUpgraded as refused:
        try:
            again = await _reach(wanted)
            opened = await _open_on(wanted, second, again)
        except NotUpgraded as error:
            raise NotUpgraded(
                f"{refused}; {error}", code=refused.code, retry_after=refused.retry_after
            ) from None
    known.put(relay.authority, network, second, now)
    log.info("another carrier passes", relay=str(relay), source=network, carrier=second.value)
    return opened


async def _reach(wanted: _Wanted) -> Dialed:
    """Connect to the relay: for `https://` through the proxy that the environment names, and
    directly where there is none, or it does not let us through."""
    relay, proxy = wanted.relay, proxy_for(wanted.relay.url)
    if proxy is None or relay.url.scheme != "https":
        return await dial_relay(relay, wanted.source, wanted.avoid, wanted.port)
    try:
        async with asyncio.timeout(wanted.patience):
            return await dial_through(proxy, relay, wanted.source)
    except (OSError, RelayUnavailable) as error:
        refused = str(error) or "no answer"
    log.info("not through the proxy", relay=str(relay), reason=refused)
    try:
        return await dial_relay(relay, wanted.source, wanted.avoid, wanted.port)
    except OSError as error:
        raise OSError(f"{error}; and not through the proxy: {refused}") from None


async def _open_on(wanted: _Wanted, carrier: CarrierKind, dialed: Dialed) -> Opened:
    if carrier is CarrierKind.RAW:
        return await _open_raw(wanted, dialed)
    return await _open_websocket(wanted, dialed)


async def _open_websocket(wanted: _Wanted, dialed: Dialed | None = None) -> Opened:
    # aiohttp takes 0.2 s to import: only who needs it pays.
    from peers.transport.websocket import open_websocket

    own_port = wanted.port is not None and proxy_for(wanted.relay.url) is None
    if dialed is None and (wanted.avoid or own_port):
        dialed = await _reach(wanted)
    return await open_websocket(
        wanted.relay, wanted.path, wanted.source, wanted.more, wanted.spawn, dialed
    )


async def _open_raw(wanted: _Wanted, dialed: Dialed) -> Opened:
    relay = wanted.relay
    stream = await open_tcp(dialed.connected, relay.tls(), relay.certificate_name or relay.host)
    try:
        request = UpgradeRequest(relay.authority, wanted.path, wanted.more)
        exchange = _Exchange(stream, request)
        stream.set_owner(exchange)
        stream.write(request.to_send())
        return Opened(stream, await exchange.done)
    except BaseException:
        stream.abort()
        raise
