"""The registration of one peer with one relay, over as many flows as it has ways into the network.

The newest flow is primary; the others are warm standby. What one does not answer within a second is
asked over the next one too. The flows themselves are in peers/flow.py.
"""

import asyncio
import ssl
from collections.abc import Callable, Collection, Coroutine, Sequence
from typing import Any, TypeVar

from peers.config import HostPort, PeerConfig, log
from peers.control.connection import ControlConnection
from peers.control.flow import Flow
from peers.control.relay_address import RelayLocation
from peers.tasks import Spawn, race
from peers.transport import RelayAddress
from protocol.errors import Code, PathFailed, RelayUnavailable, RoamRelayError
from protocol.identity import Identity
from protocol.messages import (
    LocationRecord,
    PeerEvent,
    ServiceRequestFrom,
    ServiceRequestTo,
    ServiceResponse,
    Watch,
)

__all__ = ["MAX_FLOWS", "Registration"]

_T = TypeVar("_T")
MAX_FLOWS = 4
"""Control connections of one peer at once (docs/protocol.md §5)."""
_PATIENCE = 1.0
"""Seconds after which a request that was not answered is sent over the next flow too."""
_PING_TIMEOUT = 2.0
"""Seconds in which a flow must answer after the network changed."""


class Registration:
    """Keeps one peer registered.

    `make_record` returns the location record of now; each call must return a higher `seq`. It is
    given the source address of the connection that it is for. `on_primary` is called whenever
    another connection has become the primary one.
    """

    def __init__(
        self,
        identity: Identity,
        instance: bytes,
        config: PeerConfig,
        *,
        make_record: Callable[[str], LocationRecord],
        on_request: Callable[[ControlConnection, ServiceRequestFrom], None],
        on_peer_event: Callable[[PeerEvent], None],
        on_primary: Callable[[], None],
        on_final: Callable[[], None],
        is_urgent: Callable[[], bool],
        spawn: Spawn,
    ) -> None:
        context = None
        if config.relay_ca is not None:
            try:
                context = ssl.create_default_context(cafile=config.relay_ca)
            except OSError as error:
                raise RelayUnavailable(f"cannot use {config.relay_ca}: {error}") from None
        nameservers = config.ddns.nameservers if config.ddns else ()
        self.where = (
            RelayLocation(
                config.relay,
                ssl_context=context,
                nameservers=[HostPort.parse(text) for text in nameservers],
                timeout=config.connect_timeout,
            )
            if config.relay is not None
            else None
        )
        self.instance = instance
        self._identity = identity
        self._config = config
        self.make_record = make_record
        self.on_request = on_request
        self.on_peer_event = on_peer_event
        self._on_primary = on_primary
        self._on_final = on_final
        self._is_urgent = is_urgent
        self._spawn = spawn
        self._flows: list[Flow] = []
        """Newest registered last."""
        self.last_relay: tuple[RelayAddress, str] | None = None
        """Where this peer was registered last, and the GUID of that relay."""
        self._changed = asyncio.Event()
        self.failure: RoamRelayError | None = None
        """Why nothing is registered now."""
        self._final = self.where is None
        if self._final:
            self.failure = RelayUnavailable("no relay is configured: give relay='http://HOST:PORT'")

    @property
    def current(self) -> ControlConnection | None:
        """The primary connection; None while no flow is registered."""
        live = self.connections
        return live[0] if live else None

    @property
    def connections(self) -> list[ControlConnection]:
        """The registered connections, the primary first."""
        return [
            flow.connection
            for flow in reversed(self._flows)
            if flow.connection is not None and flow.is_live
        ]

    @property
    def routed_host(self) -> str | None:
        """The address that the routes have chosen for us; None where they lead nowhere now."""
        for flow in self._flows:
            if flow.source is None and flow.connection is not None and flow.is_live:
                return flow.connection.local_host
        return None

    def set_sources(self, sources: Sequence[str | None]) -> None:
        """Keep one flow for each of these local addresses, up to `MAX_FLOWS`, and no other."""
        wanted = list(dict.fromkeys(sources))[:MAX_FLOWS]
        for flow in [flow for flow in self._flows if flow.source not in wanted]:
            self._flows.remove(flow)
            flow.stop()
        for source in wanted:
            if (
                self._final
                or self.where is None
                or any(flow.source == source for flow in self._flows)
            ):
                continue
            taken = {flow.number for flow in self._flows}
            number = next(number for number in range(MAX_FLOWS) if number not in taken)
            flow = Flow(
                number,
                source,
                identity=self._identity,
                instance=self.instance,
                where=self.where,
                config=self._config,
                owner=self,
                spawn=self._spawn,
            )
            self._flows.insert(0, flow)
            self._spawn(flow.run())

    @property
    def observed(self) -> tuple[str, ...]:
        """The addresses that the relay has seen this peer's connections come from."""
        told = (connection.registration for connection in self.connections)
        return tuple(dict.fromkeys(one.observed_host for one in told if one is not None))

    async def connection(self, timeout: float) -> ControlConnection:
        """Return the primary connection; wait for it where there is none yet.

        Raises:
            RelayUnavailable: there is none in time, or never will be; says what the last attempt
                said.
        """
        if self.current is None:
            self.hurry()
        try:
            async with asyncio.timeout(timeout):
                while (current := self.current) is None and not self._final:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            reason = f": {self.failure}" if self.failure else ""
            raise RelayUnavailable(
                f"not registered with {self.where} within {timeout:g} s{reason}",
                code=self.failure.code if self.failure else None,
            ) from None
        if current is None:
            raise self.failure or RelayUnavailable("closed")
        return current

    async def request(
        self, make: Callable[[int], ServiceRequestTo], timeout: float
    ) -> tuple[ControlConnection, ServiceResponse]:
        """Send a service request; return its response and the connection that it came on.

        Raises:
            RelayUnavailable: there is no connection within `timeout` seconds.
            RequestTimeout: the relay did not answer.
        """
        await self.connection(timeout)

        async def ask(connection: ControlConnection) -> tuple[ControlConnection, ServiceResponse]:
            return connection, await connection.request(make)

        return await self._over_flows(ask)

    async def publish(self) -> None:
        """Register the record anew. Where nothing is connected, the next connection will.

        Raises:
            RoamRelayError: the relay refused it.
        """
        if self.current is None:
            return

        async def update(connection: ControlConnection) -> None:
            record = self.make_record(connection.local_host)
            try:
                await connection.update(record, self._config.connect_timeout)
            except RelayUnavailable as error:
                if error.code is not Code.STALE_SEQUENCE:
                    raise
                # What is newer was made here too, and is in force: nothing is missing.

        await self._over_flows(update)

    def watch(self, watch: Watch) -> None:
        """Ask the relay to tell of a peer, over the primary flow; without one, nothing happens."""
        if self.current is not None:
            self.current.watch(watch)

    def hurry(self) -> None:
        """Cut all waits short."""
        for flow in self._flows:
            flow.hurry()

    def network_changed(self, gone: Collection[str]) -> None:
        """Drop what came from an address that is gone, and make every other flow prove itself."""
        for flow in self._flows:
            connection = flow.connection
            if connection is not None and connection.local_host in gone:
                flow.drop(f"its local address {connection.local_host} is gone")
            else:
                flow.check(_PING_TIMEOUT)
                flow.hurry()

    def close(self) -> None:
        """End every connection and do not come back."""
        self._final = True
        for flow in self._flows:
            flow.stop()
        self._flows.clear()
        self._changed.set()

    # -- for the flows --------------------------------------------------------------------------

    @property
    def is_urgent(self) -> bool:
        return self._is_urgent()

    def flow_up(self, flow: Flow) -> None:
        if flow in self._flows:
            self._flows.remove(flow)
            self._flows.append(flow)
            self.failure = None
            if flow.connection is not None:
                self.last_relay = flow.connection.address, flow.connection.relay_guid
            self._changed.set()
            self._on_primary()

    def flow_down(self, flow: Flow, error: RoamRelayError, *, final: bool) -> None:
        if flow not in self._flows:
            return
        if self.current is None or final:
            self.failure = error
        if final:
            log.error("registration ended", relay=str(self.where), reason=error.reason)
            self.close()
            self._on_final()
        else:
            log.warning("not registered", relay=str(self.where), reason=error.reason)
            if self.current is not None:
                self._on_primary()
        self._changed.set()

    async def _over_flows(self, work: Callable[[ControlConnection], Coroutine[Any, Any, _T]]) -> _T:
        """Do it over the primary flow, and over the next one too when that takes long or fails."""
        ways = [lambda connection=connection: work(connection) for connection in self.connections]
        if len(ways) == 1:
            return await ways[0]()
        try:
            return await race(ways, stagger=_PATIENCE, discard=lambda result: None)
        except PathFailed as error:
            raise RelayUnavailable(error.reason) from None
