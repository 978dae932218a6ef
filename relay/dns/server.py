"""The embedded zone's sockets: UDP and TCP on one port, with bounds on what each may cost.

What a message means is decided in messages.py.
"""

import asyncio
import contextlib
import struct
from collections.abc import Callable
from typing import Any, cast

from protocol.endpoint import Endpoint
from protocol.hosts import host_of
from relay.config import ConfigError, DnsConfig
from relay.dns.keys import DnsKeys
from relay.dns.messages import DnsMessages, price
from relay.dns.places import Places
from relay.dns.signed import SignedMessage
from relay.dns.store import DnsStore, ZoneStore
from relay.dns.zone import Zone, ZonePeers
from relay.keys import Keys
from relay.limits import Counts, Rates, cause_of
from relay.listening import Bound, bind
from relay.log import guarded, log
from relay.metrics import Metrics
from relay.tasks import Tasks

__all__ = ["DnsServer"]

_IDLE = 10.0
"""Seconds for which a TCP connection may be silent, or leave an answer unread."""
_MAX_UPDATES = 64
"""Datagrams that may wait for the store at once; further ones are dropped."""
_SHARE = 4
"""The part of the TCP connections that one network may have."""
_HOUSEKEEPING = 30.0
_BACKLOG = 128
"""Connections that the kernel keeps until they are accepted."""


class DnsServer:
    """Serves one zone: `start`, then `close`."""

    def __init__(
        self,
        config: DnsConfig,
        keys: Keys,
        peers: ZonePeers,
        metrics: Metrics,
        clock: Callable[[], float],
    ) -> None:
        self._config = config
        self._hosts = config.hosts or ("127.0.0.1",)
        self._tasks = Tasks()
        self._clock = clock
        self._metrics = metrics
        self.zone = Zone(config, peers)
        self.keys = DnsKeys(keys.current, self.zone.name, lambda: keys.served)
        shared = peers.shared
        self._store: ZoneStore = DnsStore(config.store) if shared is None else shared.store
        self.messages = DnsMessages(config, self.zone, self.keys, self._store, metrics)
        self._rates = Rates(config.answers_per_second, config.answers_burst)
        self._stream_rates = Rates(config.answers_per_second, config.answers_burst)
        self._counts = Counts(config.max_connections_per_address, 2 * config.max_connections)
        """Twice as many as there are places: who has lost his takes a moment to leave."""
        self._places: Places[asyncio.WriteTransport] = Places(
            max(config.max_connections // _SHARE, config.max_connections_per_address),
            config.max_connections,
        )
        self._turn = asyncio.Lock()
        """Whose message is read: one in each turn of the loop, whoever waits longest first."""
        self._conversations = Tasks()
        self._updates = Tasks()
        self._slips = 0
        self._listening: list[asyncio.DatagramTransport | asyncio.Server] = []
        self.port = 0

    async def start(self, relay_port: int, *, is_shared: bool = False) -> tuple[Endpoint, ...]:
        """Load what is stored, and listen; the zone names the relay at `relay_port`. Return where
        it listens: at a port that is shared the system deals questions out to several processes.

        Raises:
            ConfigError: the store or the address cannot be used.
        """
        config = self._config
        loop = asyncio.get_running_loop()
        self.zone.show_relay(relay_port)
        try:
            bound = await bind(self._hosts, config.port, udp=True, is_shared=is_shared)
        except ConfigError as error:
            raise ConfigError(f"dns: {error}") from None
        with contextlib.closing(bound):
            listening = bound.endpoints
            # Not before: a relay that has given the port up has written all that it had.
            await self._store.open(config.remember, self.messages.hear)
            await self._listen(loop, bound)
        self.port = bound.port
        self._tasks.spawn(self._keep_house())
        log.info("serving DNS", zone=self.zone.name, host=" ".join(self._hosts), port=self.port)
        return listening

    async def _listen(self, loop: asyncio.AbstractEventLoop, bound: Bound) -> None:
        """Serve on sockets, of which each has a copy that belongs to the loop."""
        for one in bound.tcp:
            tcp = await asyncio.start_server(
                self._accept, sock=one.dup(), limit=65_536, backlog=_BACKLOG
            )
            self._listening.append(tcp)
        for one in bound.udp:
            udp, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(self), sock=one.dup())
            self._listening.append(cast(Any, udp))

    async def close(self) -> None:
        """Stop serving; what was accepted is stored."""
        try:
            while self._listening:
                self._listening.pop().close()
            await self._conversations.close()
            await self._updates.wait()
            await self._tasks.close()
        finally:
            await self._store.close()

    # -- UDP ------------------------------------------------------------------------------------

    def datagram(
        self, udp: asyncio.DatagramTransport, wire: bytes, source: tuple[Any, ...]
    ) -> None:
        """Answer one datagram, unless its source network has had enough: who asks under another's
        address makes us send little there."""
        network = cause_of(source[0]).wide
        if self._rates.take(network, self._clock(), price(wire)):
            self._metrics.dns["udp", "limited"] += 1
            self._slips += 1
            # Every second one may be somebody honest behind the same addresses: he comes by TCP.
            if self._slips % 2 == 0 and (slip := self.messages.truncated(wire)) is not None:
                _send(udp, slip, source)
            return
        began = self._metrics.loop.clock()
        response = self.messages.respond(wire, udp=True)
        self._metrics.loop.served("dns", network, began)
        if isinstance(response, bytes):
            _send(udp, response, source)
        elif response is not None and len(self._updates) < _MAX_UPDATES:
            self._rates.charge(network, self._clock(), price(response))
            self._updates.spawn(self._update(udp, response, source))

    async def _update(
        self, udp: asyncio.DatagramTransport, message: SignedMessage, source: tuple[Any, ...]
    ) -> None:
        host = host_of(source)
        _send(udp, await self.messages.update(message, host, udp=True), source)

    # -- TCP ------------------------------------------------------------------------------------

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a connection in a task of our own: of those that asyncio's streams make for a
        coroutine, they log an error when one is cancelled (Python 3.11)."""

        def ended() -> None:
            self._places.leave(writer.transport)
            writer.transport.abort()

        self._conversations.spawn(self._serve_tcp(reader, writer), ended)

    async def _serve_tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            host = host_of(writer.get_extra_info("peername"))
            network = cause_of(host).wide if host else ""
            place = self._counts.take(cause_of(host).network) if host else None
            if place is not None:
                with place:
                    if self._enter(writer.transport, network, host):
                        await self._converse(reader, writer, host)
            elif host:
                self._metrics.refusals.add("dns_per_address", host)
        except (TimeoutError, OSError, asyncio.IncompleteReadError):
            pass
        except Exception as error:
            log.error("a DNS connection failed", exc_info=error)

    def _enter(self, transport: asyncio.WriteTransport, network: str, host: str) -> bool:
        """Find a place for a newcomer; somebody else's, where there is no other."""
        leaving = self._places.enter(transport, network, self._clock())
        if leaving is not None:
            self._metrics.dns["tcp", "no place"] += 1
        if leaving is transport:
            self._metrics.refusals.add("dns_too_many", host)
            return False
        if leaving is not None:
            gone = leaving.get_extra_info("peername")
            self._metrics.refusals.add("dns_too_many", host_of(gone) if gone else "")
            leaving.abort()
        return True

    async def _converse(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str
    ) -> None:
        network = cause_of(host).wide
        while True:
            async with asyncio.timeout(_IDLE):
                (length,) = struct.unpack("!H", await reader.readexactly(2))
                wire = await reader.readexactly(length)
            # Who asks faster than its network may is not read for so long; what it sends meanwhile
            # waits on its own side.
            async with asyncio.timeout(_IDLE):
                while wait := self._stream_rates.take(network, self._clock(), price(wire)):
                    self._metrics.dns["tcp", "waits"] += 1
                    await asyncio.sleep(wait)
            async with self._turn:
                if writer.is_closing():
                    return
                began = self._metrics.loop.clock()
                response = self.messages.respond(wire, udp=False)
                self._metrics.loop.served("dns", network, began)
                await asyncio.sleep(0)
            if response is None:
                return
            if not isinstance(response, bytes):
                self._stream_rates.charge(network, self._clock(), price(response))
                response = await self.messages.update(response, host, udp=False)
            self._places.served(writer.transport, self._clock())
            writer.write(struct.pack("!H", len(response)) + response)
            async with asyncio.timeout(_IDLE):
                await writer.drain()

    async def _keep_house(self) -> None:
        while True:
            await asyncio.sleep(_HOUSEKEEPING)
            with guarded("looking at the zone"):
                self.zone.forget()
            with guarded("looking at the store"):
                await self.messages.drop_old()


def _send(udp: asyncio.DatagramTransport, response: bytes, source: tuple[Any, ...]) -> None:
    if not udp.is_closing():
        with contextlib.suppress(OSError):  # A source that was made up, like port 0.
            udp.sendto(response, source)


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, server: DnsServer) -> None:
        self._server = server
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        if self._transport is not None:
            with guarded("answering a DNS datagram"):
                self._server.datagram(self._transport, data, addr)

    def error_received(self, exc: Exception) -> None:
        return  # An ICMP error about an answer: whoever asked has gone.
