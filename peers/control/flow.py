"""One flow: a control connection from one local address, which comes back by itself.

A peer has a flow for each way into the network that it has (peers/registration.py). A flow gives up
only on what another attempt cannot mend (`Code.is_retryable`).
"""

import asyncio
import contextlib
import ipaddress
import random
from collections.abc import Callable, Iterator
from typing import Protocol

import ifaddr

from peers.config import PeerConfig, log
from peers.control.connection import ControlConnection
from peers.control.relay_address import RelayLocation
from peers.tasks import Spawn, backoff
from peers.transport import RelayAddress, open_upgraded
from protocol.errors import Code, RelayUnavailable, RoamRelayError, WrongIdentity
from protocol.identity import Identity
from protocol.messages import LocationRecord, PeerEvent, ServiceRequestFrom

__all__ = ["Flow", "FlowOwner"]

AGENT = "roam-relay/0.1"

_RETURN_IDLE, _RETURN_URGENT = 5.0, 1.5
"""Seconds within which a peer comes back, at random, after its relay has gone without a word: many
peers lose it in the same moment. Urgent is a peer one of whose sessions waits for the relay."""


_SHORTEST_PAUSE = 0.05
"""Seconds between two attempts, whoever hurries."""


class FlowOwner(Protocol):
    """What a flow needs of its registration. None of these may raise or block."""

    @property
    def is_urgent(self) -> bool:
        """Whether something waits for the relay."""

    def make_record(self, local_host: str) -> LocationRecord:
        """Return the location record of now, under a new `seq`; `local_host` is the source address
        of the connection that it is for."""

    def flow_up(self, flow: "Flow") -> None:
        """The flow is registered."""

    def flow_down(self, flow: "Flow", error: RoamRelayError, *, final: bool) -> None:
        """The flow is not registered; `final` says that it will not come back."""

    def on_request(self, connection: ControlConnection, request: ServiceRequestFrom) -> None:
        """Another peer asks for something."""

    def on_peer_event(self, event: PeerEvent) -> None:
        """A watched peer has come, moved or gone."""


class Flow:
    """Keeps one control connection. `source` is the local address that it comes from; None leaves
    it to the routes, and tries every other address when they lead nowhere."""

    def __init__(
        self,
        number: int,
        source: str | None,
        *,
        identity: Identity,
        instance: bytes,
        where: RelayLocation,
        config: PeerConfig,
        owner: FlowOwner,
        spawn: Spawn,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self.number = number
        self.source = source
        self._identity = identity
        self._instance = instance
        self._where = where
        self._config = config
        self._owner = owner
        self._spawn = spawn
        self._rng = rng
        self._hurry = asyncio.Event()
        self._stopped = False
        self._network_changed = False
        self.connection: ControlConnection | None = None
        """The registered connection; None while there is none."""

    @property
    def is_live(self) -> bool:
        """Whether the flow is registered now."""
        return self.connection is not None and not self.connection.closed.done()

    async def run(self) -> None:
        """Connect, register, and do it again whenever the connection ends. Ends on `stop`, on
        cancellation, and on an error that another attempt cannot mend."""
        waits: Iterator[float] | None = None
        was_late = False
        while not self._stopped:
            try:
                connection = await self._attempt()
            except RoamRelayError as error:
                if self._down(error):
                    return
                waits = waits or backoff(self._rng, first=0.5)
                late = error.code is Code.STALE_SEQUENCE and not was_late
                # Another flow was faster with a newer record: then this one's was only late, and
                # the next is not.
                wait, was_late = (0.0 if late else next(waits)), late
            else:
                waits, was_late = None, False
                try:
                    await connection.keep_alive()
                finally:
                    connection.close()
                    self.connection = None
                if self._down(connection.closed.result()):
                    return
                wait = self._wait_after(connection)
            await self._pause(wait)

    def hurry(self) -> None:
        """Try at once, and begin anew with short waits: the network has changed, or somebody
        waits for the relay."""
        self._hurry.set()

    def check(self, timeout: float) -> None:
        """Ping the connection; unless it answers within `timeout` seconds, drop it and try anew."""
        connection = self.connection
        if connection is not None and not connection.closed.done():
            self._spawn(self._ping(connection, timeout))

    def drop(self, reason: str) -> None:
        """Drop the connection, which leads nowhere any more, and try anew at once."""
        if self.connection is not None:
            self._network_changed = True
            self.connection.drop(reason)
        self.hurry()

    def stop(self) -> None:
        """End the connection, and do not come back."""
        self._stopped = True
        if self.connection is not None:
            self.connection.close()
        self._hurry.set()

    # -- inside ---------------------------------------------------------------------------------

    async def _ping(self, connection: ControlConnection, timeout: float) -> None:
        try:
            await connection.ping(timeout)
        except RoamRelayError:
            if not connection.closed.done():
                self._network_changed = True
                connection.drop(f"no answer for {timeout:g} s after the network changed")

    async def _pause(self, seconds: float) -> None:
        if seconds and not self._stopped:
            # Whoever hurries again and again still leaves the relay a moment between attempts.
            await asyncio.sleep(min(seconds, _SHORTEST_PAUSE))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds - _SHORTEST_PAUSE):
                    await self._hurry.wait()
        self._hurry.clear()

    def _wait_after(self, connection: ControlConnection) -> float:
        if self._network_changed:
            self._network_changed = False
            return 0.0
        told = connection.restarting
        if told is not None:
            return told.delay + told.spread * self._rng()
        return self._rng() * (_RETURN_URGENT if self._owner.is_urgent else _RETURN_IDLE)

    def _down(self, error: RoamRelayError) -> bool:
        """Tell that the flow is down; return whether it is so for good."""
        final = isinstance(error, WrongIdentity) or (
            error.code is not None and not error.code.is_retryable
        )
        if not self._stopped:
            self._owner.flow_down(self, error, final=final)
        return final

    async def _attempt(self) -> ControlConnection:
        try:
            return await self._attempt_from(self.source)
        except RelayUnavailable as first:
            if first.code is not None or self.source is not None:
                raise
            for source in await asyncio.to_thread(self._other_sources):
                try:
                    return await self._attempt_from(source)
                except RelayUnavailable as error:
                    if error.code is not None:
                        raise
            raise

    async def _attempt_from(self, source: str | None) -> ControlConnection:
        addresses = await self._where.addresses()
        for address in addresses:
            try:
                return await self._register_at(address, source)
            except RelayUnavailable as error:
                if error.code not in (None, Code.RESTARTING) or address is addresses[-1]:
                    raise
        raise AssertionError("there is always an address")

    async def _register_at(self, address: RelayAddress, source: str | None) -> ControlConnection:
        config = self._config
        stream = await open_upgraded(
            address,
            "/v1/control",
            config.carrier,
            spawn=self._spawn,
            timeout=config.connect_timeout,
            local_address=source,
        )
        connection = ControlConnection(
            self._identity,
            self._instance,
            stream,
            flow=self.number,
            source=source,
            agent=AGENT,
            on_request=self._owner.on_request,
            on_peer_event=self._owner.on_peer_event,
            address=address,
            relay_guid=config.relay_guid,
        )
        try:
            record = self._owner.make_record(connection.local_host)
            await connection.register(record, config.connect_timeout)
        except BaseException:
            stream.abort()
            raise
        if self._stopped:
            connection.close()
            raise RelayUnavailable("closed")
        self.connection = connection
        log.info("registered", relay=str(address), source=connection.local_host)
        self._owner.flow_up(self)
        return connection

    def _other_sources(self) -> list[str]:
        """Return this host's addresses of the relay's family, but those that lead nowhere."""
        family: int | None = None
        try:
            relay = ipaddress.ip_address(self._where.host)
            if relay.is_loopback:
                return []
            family = relay.version
        except ValueError:
            pass  # A name: it may have addresses of both families.
        sources = []
        for adapter in ifaddr.get_adapters():
            for ip in adapter.ips:
                host = ip.ip if isinstance(ip.ip, str) else ip.ip[0]
                address = ipaddress.ip_address(host)
                if address.is_loopback or address.is_link_local:
                    continue
                if family is None or address.version == family:
                    sources.append(host)
        return sources
