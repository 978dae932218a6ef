"""The registration of one peer with one relay, over as many flows as it has ways into the network.

The newest flow is primary; the others are warm standby. What one does not answer within a second is
asked over the next one too. The flows themselves are in `peers.control.flow`.
"""

import asyncio
from collections.abc import Callable, Collection, Coroutine, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, TypeAlias, TypeVar, assert_never

from peers.config import PeerConfig, log
from peers.control.account import Account, KnownRelay
from peers.control.attempt import Home, Standing
from peers.control.connection import (
    ControlConnection,
    ControlEvent,
    LetterArrived,
    PeerChanged,
    RelayRestarting,
    RelaySucceeded,
    RequestArrived,
)
from peers.control.flow import Awaited, Flow, FlowDown, FlowEvent, FlowUp
from peers.control.handshake import Records, follow
from peers.control.mappings import Mappings
from peers.control.message_stream import FlowLost
from peers.control.pin import Pin
from peers.control.refusal import StaleRecord
from peers.control.relay_address import RelayAddresses
from peers.control.tell import tell_safely
from peers.dialing import Door
from peers.tasks import Tasks, race
from protocol.endpoint import SignedEntry
from protocol.errors import (
    ConnectionClosed,
    PathFailed,
    RelayMisconfigured,
    RelayUnavailable,
    RoamRelayError,
    error_for,
)
from protocol.features import ENDPOINT_QUERY
from protocol.messages import ServiceRequestTo, ServiceResponse, Watch

__all__ = [
    "MAX_FLOWS",
    "Answered",
    "PrimaryChanged",
    "Registration",
    "RegistrationEnded",
    "RegistrationEvent",
    "RegistrationLost",
    "StandbyLost",
]

_T = TypeVar("_T")
MAX_FLOWS = 4
"""Control connections of one peer at once (docs/protocol.md §5)."""
_PATIENCE = 1.0
"""Seconds after which a request that was not answered is sent over the next flow too."""
_MAX_SAID = 16
"""Reasons why it is not registered that are logged before it is again: a stranger may make up any
number of them."""
_ENDPOINT_TIMEOUT = 5.0
"""Seconds for the relay to say where it has met a key: it takes 3 to say that it has not."""
_UPDATES = 2
"""Times that an update is sent: again where the relay knows a higher number than any of ours."""
_PING_TIMEOUT = 2.0
"""Seconds in which a flow must answer after the network changed."""


@dataclass(frozen=True, slots=True)
class PrimaryChanged:
    """Another connection has become the primary one: what the relay keeps for one connection, as
    watches, must be said anew."""

    connection: ControlConnection


@dataclass(frozen=True, slots=True)
class StandbyLost:
    """A connection that was not the primary one has ended."""


@dataclass(frozen=True, slots=True)
class RegistrationEnded:
    """The registration will not come back: no attempt can mend this."""

    error: RoamRelayError


@dataclass(frozen=True, slots=True)
class RegistrationLost:
    """Nothing is registered now: a connection has ended, or one more attempt has failed."""

    error: RoamRelayError


RegistrationEvent: TypeAlias = (
    PrimaryChanged | StandbyLost | RegistrationLost | RegistrationEnded | ControlEvent
)


class Answered(NamedTuple):
    """A service request that the other side has accepted, and the connection that says so."""

    connection: ControlConnection
    response: ServiceResponse


class Registration:
    """Keeps one peer registered, from the first `set_sources` to `close`.

    `tell` gets its news, and those of its connections. It must not block; what it raises is logged,
    and that one event is lost.
    """

    def __init__(
        self,
        account: Account,
        config: PeerConfig,
        records: Records,
        tell: Callable[[RegistrationEvent], None],
        door: Door,
    ) -> None:
        """Prepare it; nothing is connected yet, and no loop is needed.

        Raises:
            RelayUnavailable: the relay's URL or the file of its certificates cannot be used.
        """
        self._tasks = Tasks()
        self._config = config
        self._records = records
        self._tell = tell
        self._awaited = Awaited()
        self._home = (
            Home(
                account,
                RelayAddresses.of(config.relay, config),
                config,
                records,
                self._tasks,
                door,
                Standing(is_kept=config.wait_for_relay),
                Pin(config.relay_guid, config.relay_pin_file),
            )
            if config.relay is not None
            else None
        )
        self.mappings = Mappings(door, self._tasks)
        """What is known of the NATs of the networks that this peer registers from."""
        self._said: set[str] = set()
        """Why it is not registered, as far as that is in the log; each reason once."""
        self._flows: list[Flow] = []
        """Newest registered last."""
        self._told: list[ControlConnection] = []
        """The connections, the primary first, as they were told last."""
        self.last_relay: KnownRelay | None = None
        """Where this peer was registered last; None while it never was."""
        self._changed = asyncio.Event()
        self.failure: RoamRelayError | None = None
        """Why nothing is registered now."""
        self._is_over = self._home is None
        if self._home is None:
            self.failure = RelayUnavailable("no relay is configured: give relay='http://HOST:PORT'")

    @property
    def relay_host(self) -> str:
        """The relay's host, as far as it is known; empty where it is not."""
        return self._home.relay.host if self._home is not None else ""

    @property
    def pinned_relay(self) -> str | None:
        """The GUID of the relay that is expected; None where any is believed."""
        return self._home.pin.guid if self._home is not None else None

    @property
    def is_over(self) -> bool:
        """Whether it has ended for good, or never was one."""
        return self._is_over

    @property
    def refusal(self) -> RoamRelayError | None:
        """Why what is offered now is not registered, though the relay can be reached."""
        return self._records.refusal

    @property
    def current(self) -> ControlConnection | None:
        """The primary connection; None while no flow is registered."""
        live = self.connections
        return live[0] if live else None

    @property
    def connections(self) -> list[ControlConnection]:
        """The registered connections, the primary first."""
        flows = reversed(self._flows)
        return [connection for flow in flows if (connection := flow.connection) is not None]

    @property
    def routed_host(self) -> str | None:
        """The address that the routes have chosen for us; None where they lead nowhere now."""
        for flow in self._flows:
            if flow.source is None and (connection := flow.connection) is not None:
                return connection.local_host
        return None

    @property
    def observed(self) -> tuple[str, ...]:
        """The addresses that the relay has seen this peer's connections come from; none of a relay
        that does not know, behind a proxy that does not tell it."""
        told = (connection.registration.observed_host for connection in self.connections)
        return tuple(dict.fromkeys(host for host in told if host))

    def set_sources(self, sources: Sequence[str | None]) -> None:
        """Keep one flow for each of these local addresses, up to `MAX_FLOWS`, and no other."""
        if self._is_over or self._home is None:
            return
        wanted = list(dict.fromkeys(sources))[:MAX_FLOWS]
        for flow in [flow for flow in self._flows if flow.source not in wanted]:
            self._flows.remove(flow)
            flow.stop()
        for source in wanted:
            if any(flow.source == source for flow in self._flows):
                continue
            taken = {flow.number for flow in self._flows}
            number = next(number for number in range(MAX_FLOWS) if number not in taken)
            flow = Flow(number, source, self._home, self._awaited, self._flow_event)
            self._flows.insert(0, flow)
            flow.begin()
        self._tell_changes()

    def blocked(self, error: RelayUnavailable) -> None:
        """There is no address to come from: say why nothing is registered."""
        if self.current is not None or self._is_over or self._home is None:
            return
        if self.failure is None or self.failure.reason != error.reason:
            log.warning("not registered", relay=self._relay_name, reason=error.reason)
        self.failure = error
        self._changed.set()
        tell_safely(self._tell, RegistrationLost(error))

    def awaited(self) -> AbstractContextManager[None]:
        """Wait for the relay inside: while anybody does, a relay that has gone without a word is
        sought sooner. `connection` hurries besides."""
        return self._awaited.waiting()

    async def connection(self, timeout: float | None) -> ControlConnection:
        """Return the primary connection; wait for it where there is none yet, without end where
        `timeout` is None.

        Raises:
            RelayUnavailable: there is none in time, or never will be; says what the last attempt
                said, as `RelayMisconfigured` where it is that.
        """
        if self.current is None:
            self.hurry()
        try:
            async with asyncio.timeout(timeout):
                while (current := self.current) is None and not self._is_over:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            reason = f": {self.failure}" if self.failure else ""
            kind = (
                RelayMisconfigured
                if isinstance(self.failure, RelayMisconfigured)
                else RelayUnavailable
            )
            raise kind(
                f"not registered with {self._relay_name} within {timeout:g} s{reason}",
                code=self.failure.code if self.failure else None,
            ) from None
        if current is None:
            raise self.failure or RelayUnavailable("closed")
        return current

    async def ask(self, request: ServiceRequestTo, patience: float) -> Answered:
        """Send a service request and wait for what the other side says. Its number is set here.

        Raises:
            RelayUnavailable: there is no connection within `patience` seconds, or it has ended.
            RequestTimeout: the relay did not answer.
            RoamRelayError: what the relay or the other peer said.
        """
        await self.connection(patience)

        async def over(connection: ControlConnection) -> Answered:
            return Answered(connection, await connection.request(request))

        try:
            answered = await self._over_flows(over)
        except FlowLost:
            # The request went nowhere, or its answer: as if there had been no connection.
            await self.connection(patience)
            answered = await self._over_flows(over)
        response = answered.response
        if response.code is not None:
            raise error_for(
                response.code,
                response.reason,
                last_seen=response.last_seen,
                retry_after=response.retry_after,
            )
        return answered

    @property
    def may_ask_where(self) -> bool:
        """Whether the relay can be asked now where it has met others' keys."""
        return self.current is not None and ENDPOINT_QUERY in self.current.relay.features

    async def has_met(self, guid: str, entry: SignedEntry) -> bool:
        """Ask the relay whether it has met a peer's key where the peer's entry says; False where it
        does not say."""
        current = self.current
        if current is None or not self.may_ask_where:
            return False
        try:
            return (await current.endpoint_query(guid, entry, _ENDPOINT_TIMEOUT)).met
        except RoamRelayError as error:
            log.debug("not told of an endpoint", peer=guid[:8], reason=error.reason)
            return False

    async def publish(self) -> None:
        """Register the record anew.

        Raises:
            RelayUnavailable: nothing is connected; the next connection will do it.
            RoamRelayError: the relay refused it, or did not confirm it in time; or it has refused
                what is offered now, and what was in force stays.
        """
        if self.current is None:
            raise RelayUnavailable(f"not registered with {self._relay_name} now")

        async def update(connection: ControlConnection) -> None:
            for _ in range(_UPDATES):
                record = self._records.record(connection.local_host)
                try:
                    await connection.update(record, self._config.connect_timeout)
                except StaleRecord as error:
                    if not follow(error, self._records):
                        # What is newer was made here too, and is in force: nothing is missing.
                        return
                else:
                    self._records.accepted(record)
                    return

        await self._over_flows(update)
        if self.refusal is not None:
            raise self.refusal

    def watch(self, watch: Watch) -> None:
        """Ask the relay to tell of a peer, over the primary flow; without one, nothing happens."""
        if (current := self.current) is not None:
            current.watch(watch)

    def hurry(self) -> None:
        """Cut all waits short."""
        for flow in list(self._flows):
            flow.hurry()

    def network_changed(self, gone: Collection[str]) -> None:
        """Drop what came from an address that is gone, and make every other flow prove itself."""
        for flow in list(self._flows):
            connection = flow.connection
            if connection is not None and connection.local_host in gone:
                flow.drop(f"its local address {connection.local_host} is gone")
            else:
                flow.check(_PING_TIMEOUT)
                flow.hurry(moved=True)

    async def close(self) -> None:
        """End every connection and do not come back; return when nothing runs any more.

        All has been ended even where the caller is cancelled meanwhile.
        """
        self._end()
        await self._tasks.close()

    # -- the flows' side ------------------------------------------------------------------------

    def _flow_event(self, event: FlowEvent) -> None:
        match event:
            case FlowUp(flow, connection):
                self._up(flow, connection)
            case FlowDown(flow, error, final):
                self._down(flow, error, final)
            case RequestArrived() | PeerChanged() | RelayRestarting() | RelaySucceeded():
                self._tell(event)
            case LetterArrived():
                self._tell(event)
            case _:
                assert_never(event)

    def _up(self, flow: Flow, connection: ControlConnection) -> None:
        if flow not in self._flows:
            return
        self._flows.remove(flow)
        self._flows.append(flow)
        self.failure = None
        self._said.clear()
        self.last_relay = connection.relay
        self.mappings.look(connection)
        self._changed.set()
        self._tell_changes()

    def _down(self, flow: Flow, error: RoamRelayError, final: bool) -> None:
        if flow not in self._flows:
            return
        if final:
            log.error("registration ended", relay=self._relay_name, reason=error.reason)
            self.failure = error
            self._end()
            tell_safely(self._tell, RegistrationEnded(error))
            return
        if error.reason not in self._said and len(self._said) < _MAX_SAID:
            self._said.add(error.reason)
            log.warning("not registered", relay=self._relay_name, reason=error.reason)
        if self.current is None:
            self.failure = error
            tell_safely(self._tell, RegistrationLost(error))
        self._changed.set()
        self._tell_changes()

    def _tell_changes(self) -> None:
        before, self._told = self._told, self.connections
        if self._told and self._told[:1] != before[:1]:
            tell_safely(self._tell, PrimaryChanged(self._told[0]))
        elif self._told and len(self._told) < len(before):
            tell_safely(self._tell, StandbyLost())

    # -- inside ---------------------------------------------------------------------------------

    @property
    def _relay_name(self) -> str:
        return str(self._home.relay) if self._home is not None else ""

    def _end(self) -> None:
        self._is_over = True
        flows, self._flows = self._flows, []
        for flow in flows:
            flow.stop()
        self._changed.set()

    async def _over_flows(self, work: Callable[[ControlConnection], Coroutine[Any, Any, _T]]) -> _T:
        """Do it over the primary flow, and over the next one too when that takes long or fails."""
        used = self.connections
        ways = [partial(work, connection) for connection in used]
        try:
            if len(ways) == 1:
                return await ways[0]()
            return await race(ways, stagger=_PATIENCE, discard=lambda result: None)
        except PathFailed as error:
            lost = all(connection.is_closed for connection in used)
            raise (FlowLost if lost else RelayUnavailable)(error.reason) from None
        except ConnectionClosed:
            if self._is_over:
                raise
            # This flow alone was given up, for one from another address.
            raise RelayUnavailable("the connection to the relay was closed here") from None
