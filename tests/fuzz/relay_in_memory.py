"""A relay whose connections are in memory: everything above the socket is the real one.

The loop keeps what would be called for each connection that is accepted; a connection says that it
is TLS, so that the relay stays on its transport and looks for no descriptor.
"""

import asyncio
import itertools
from collections.abc import Callable, Iterator
from typing import Any

from protocol.errors import Code
from relay.config import DnsConfig, RelayConfig
from relay.server import RelayServer
from tests.relay.dns.asking import ZONE

__all__ = ["MemoryRelay", "MemoryTransport", "the_relay"]

_MANY = 1_000_000_000


class _Loop(asyncio.SelectorEventLoop):
    """Keeps the factories of the protocols that are served."""

    def __init__(self) -> None:
        super().__init__()
        self.served: list[Callable[[], asyncio.BaseProtocol]] = []

    async def create_server(self, protocol_factory: Any, *more: Any, **settings: Any) -> Any:
        self.served.append(protocol_factory)
        return await super().create_server(protocol_factory, *more, **settings)


class MemoryTransport(asyncio.Transport):
    """One connection: `feed` what its client says; what the relay says is in `said`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, host: str) -> None:
        super().__init__({"peername": (host, 4711), "ssl_object": True, "sslcontext": True})
        self._loop = loop
        self._reading = True
        self._waiting: list[bytes] = []
        self._lost = False
        self.protocol: Any = None
        self.said = bytearray()

    def feed(self, data: bytes) -> None:
        """These bytes have come."""
        if self._lost or not data:
            return
        if self._reading:
            self.protocol.data_received(data)
        else:
            self._waiting.append(data)

    def lose(self) -> None:
        """The client has gone."""
        self.abort()

    # -- what protocols may do ------------------------------------------------------------------

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self.protocol  # type: ignore[no-any-return]

    def is_closing(self) -> bool:
        return self._lost

    def is_reading(self) -> bool:
        return self._reading

    def pause_reading(self) -> None:
        self._reading = False

    def resume_reading(self) -> None:
        self._reading = True
        waiting, self._waiting = self._waiting, []
        for data in waiting:
            self.feed(data)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        return

    def get_write_buffer_size(self) -> int:
        return 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self._lost:
            self.said += data

    def writelines(self, list_of_data: Any) -> None:
        for data in list_of_data:
            self.write(data)

    def close(self) -> None:
        self.abort()

    def abort(self) -> None:
        if not self._lost:
            self._lost = True
            self._loop.call_soon(lambda: self.protocol.connection_lost(None))


class MemoryRelay:
    """The relay, on a loop that turns when it is told to."""

    def __init__(self) -> None:
        self.loop = _Loop()
        self._hosts = self._addresses()
        rates = {"connects_per_second": 1e9, "connects_burst": _MANY, "requests_burst": _MANY}
        dns = DnsConfig(
            zone=ZONE,
            port=0,
            addresses="127.0.0.1",
            made_per_second=1e9,
            updates_per_second=1e9,
            updates_burst=_MANY,
        )
        self.server = RelayServer(RelayConfig(port=0, dns=dns, **rates))  # type: ignore[arg-type]
        self.loop.run_until_complete(self.server.__aenter__())
        self._accept = self.loop.served[0]

    def connect(self) -> MemoryTransport:
        """Open a connection, each from another network."""
        transport = MemoryTransport(self.loop, next(self._hosts))
        transport.protocol = self._accept()
        transport.protocol.connection_made(transport)
        self.turn()
        return transport

    def upgraded(self) -> MemoryTransport:
        """Open a control connection on the raw carrier; nothing is said on it yet."""
        transport = self.connect()
        transport.feed(
            b"GET /v1/control HTTP/1.1\r\nHost: relay\r\nConnection: Upgrade\r\n"
            b"Upgrade: roam-relay/1\r\n\r\n"
        )
        self.turn()
        assert transport.said.startswith(b"HTTP/1.1 101 "), bytes(transport.said)
        transport.said.clear()
        return transport

    def turn(self, times: int = 4) -> None:
        """Let everybody do what can be done now."""

        async def turns() -> None:
            for _ in range(times):
                await asyncio.sleep(0)

        self.loop.run_until_complete(turns())

    def check_left(self) -> None:
        """Nobody is here any more, and nothing of theirs."""
        self.turn(8)
        assert not self.server.connections
        assert not self.server.broker.pending
        assert not len(self.server.watches)
        assert not self.server.metrics.closes[Code.INTERNAL.value]

    def close(self) -> None:
        """End it."""
        self.loop.run_until_complete(self.server.__aexit__(None, None, None))
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()

    @staticmethod
    def _addresses() -> Iterator[str]:
        for number in itertools.count():
            yield f"10.{number >> 16 & 255}.{number >> 8 & 255}.{1 + number % 200}"


_made: list[MemoryRelay] = []


def the_relay() -> MemoryRelay:
    """Return the one relay of this process: to start one takes longer than a thousand inputs."""
    if not _made:
        _made.append(MemoryRelay())
    return _made[0]


def close_relay() -> None:
    """End it, if there is one."""
    while _made:
        _made.pop().close()
