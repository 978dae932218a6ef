"""What `peer doctor` looks at: this host's addresses, the relay's name, each way to it, its clock
and certificate, how it sees this host, and whether it can dial it. What that means is in
`peers.reach`.

All of it is done with a key of the moment, so that a program that runs with this peer's own one is
not disturbed; each look has a timeout, and none keeps the next one from being done.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from time import time_ns

from peers.config import CarrierKind, HostPort, Identity, PathKind, PeerConfig
from peers.control import Account, ControlConnection, Handshake, Line, Pin, RelayAddresses
from peers.dialing import Door, Leg, Reason, health_of, observe
from peers.host import Addresses, Interfaces, system_addresses
from peers.path import Paths
from peers.reach import (
    AddressSeen,
    Diagnosis,
    HealthSeen,
    Mapping,
    NameSeen,
    Observation,
    RegistrationSeen,
    WaySeen,
    ZoneSeen,
    mapping_of,
)
from peers.tasks import Tasks
from peers.transport import DirectServer, RelayAddress, Stream, proxy_for, resolve
from protocol.endpoint import Entry, Phase, Provenance, sign_entry
from protocol.errors import Code, PathFailed, RelayUnavailable, RoamRelayError
from protocol.extras import needed
from protocol.features import ENDPOINT_QUERY
from protocol.hosts import host_in, is_address
from protocol.messages import LocationRecord

__all__ = ["Examination"]

_MAX_SOURCES = 4
"""Addresses of this host, of one family, from which a relay is tried: as many as there are flows of
a peer."""
_READ_WITHIN = 5.0
"""Seconds for the system to tell its addresses, and a name's."""
_ASKED_FOR = 6.0
"""Seconds for the relay to say whether it has met this host: it takes 3 to say that it has not."""
_SERVICE = "doctor"
_DAY = 86_400.0


class _Records:
    """Registers a peer that offers nothing."""

    refusal: RoamRelayError | None = None

    def __init__(self) -> None:
        # As a peer counts: a program with the same key follows.
        self._seq = time_ns() // 1_000_000

    def record(self, local_host: str) -> LocationRecord:
        self._seq += 1
        return LocationRecord(self._seq)

    def advance(self, seq: int) -> bool:
        newer = seq > self._seq
        self._seq = max(self._seq, seq)
        return newer

    def accepted(self, record: LocationRecord) -> None:
        return

    def refused(self, record: LocationRecord, error: RoamRelayError) -> None:
        return


@dataclass(frozen=True, slots=True)
class _Place:
    """An address of a relay."""

    relay: RelayAddress
    host: str
    """Empty where a proxy is asked for the name."""
    proxy: str

    @property
    def address(self) -> RelayAddress:
        return self.relay if not self.host else self.relay.only_at(self.host)


class Examination:
    """Of the network that this host is in. `tell` gets what is being looked at, in words."""

    def __init__(self, config: PeerConfig, identity: Identity, tell: Callable[[str], None]) -> None:
        self._config = config
        self._identity = identity
        self._tell = tell
        self._interfaces = Interfaces(config)
        self._account = Account(identity, os.urandom(16))
        self._records = _Records()
        self._observations: list[Observation] = []

    async def run(self) -> Diagnosis:
        """Look at all of it.

        Raises:
            RelayUnavailable: what is configured as the relay is none.
        """
        self._tell("looking at this host's addresses")
        seen = Diagnosis(addresses=await self._addresses())
        if self._config.relay is not None:
            seen = await self._relays(seen, self._config.relay)
        if self._config.ddns is not None:
            self._tell(f"asking for the zone {self._config.ddns.zone}")
            seen = replace(seen, zone=await self._zone())
        return seen

    async def _relays(self, seen: Diagnosis, text: str) -> Diagnosis:
        names, places = list[NameSeen](), list[_Place]()
        try:
            relays: Sequence[RelayAddress] = await RelayAddresses.of(text, self._config).find()
        except RelayUnavailable as error:
            if not text.startswith("dns"):
                raise
            relays = ()
            names.append(NameSeen(text, failure=error.reason))
        for relay in relays:
            self._tell(f"looking for {relay.host}")
            name, found = await self._places(relay)
            names.append(name)
            places += found
        ways = [way async for way in self._ways(places)]
        working = [one for one in ways if one.failure is None]
        health = []
        for relay in relays:
            if proxy_for(relay.url) is None and any(one.relay is relay for one in places):
                self._tell(f"asking {relay} for its time and its certificate")
                health += [await self._health(one) for one in places if one.relay is relay][:1]
        reached = [
            place
            for place in places
            if any((one.relay, one.host) == (str(place.relay), place.host) for one in working)
        ]
        registrations: Sequence[RegistrationSeen] = ()
        if reached:
            try:
                registrations = await self._registrations(reached)
            except PathFailed as error:  # Nothing can listen here.
                at = reached[0]
                registrations = (RegistrationSeen(str(at.relay), at.host, failure=error),)
        return replace(seen, names=names, ways=ways, health=health, registrations=registrations)

    # -- one look each ----------------------------------------------------------------------------

    async def _addresses(self) -> tuple[AddressSeen, ...]:
        snapshot: Addresses = ()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(_READ_WITHIN):
                snapshot = await system_addresses().read()
        self._interfaces.update(snapshot)
        hosts = self._interfaces.hosts
        return tuple(AddressSeen(one, self._interfaces.interface_of(one) or "") for one in hosts)

    async def _places(self, relay: RelayAddress) -> tuple[NameSeen, list[_Place]]:
        """Return the first address of each family; behind a proxy, the proxy finds the name."""
        proxy = proxy_for(relay.url)
        if proxy is not None:
            # It may hold a password.
            shown = str(proxy.with_user(None).with_password(None).origin())
            return NameSeen(str(relay), is_name=False), [_Place(relay, "", shown)]
        try:
            async with asyncio.timeout(_READ_WITHIN):
                hosts = relay.addresses or tuple(
                    one.host for one in await resolve(relay.host, relay.port)
                )
        except (OSError, TimeoutError) as error:
            said = str(error) or f"no answer within {_READ_WITHIN:g} s"
            return NameSeen(str(relay), failure=said), []
        first = {":" in host: host for host in reversed(hosts)}
        places = [
            _Place(relay, host, "") for host in dict.fromkeys(hosts) if host in first.values()
        ]
        is_name = not is_address(relay.host)
        return NameSeen(str(relay), tuple(dict.fromkeys(hosts)), is_name=is_name), places

    def _sources(self, place: _Place) -> tuple[str | None, ...]:
        """Return from where an address of a relay is tried: of more than one of this host, each."""
        if not place.host:
            return (None,)
        version = 6 if ":" in place.host else 4
        of_interfaces: dict[str | None, str] = {}
        for host in self._interfaces.hosts:
            if (6 if ":" in host else 4) == version:
                of_interfaces.setdefault(self._interfaces.interface_of(host), host)
        hosts = tuple(of_interfaces.values())[:_MAX_SOURCES]
        # Where `sources` names what may be used, nothing leaves from anywhere else.
        return hosts if len(hosts) > 1 or self._config.sources else (None,)

    async def _ways(self, places: Sequence[_Place]) -> AsyncIterator[WaySeen]:
        wanted = self._config.carrier
        carriers = tuple(CarrierKind) if wanted is None else (wanted,)
        for carrier in carriers if places else ():
            self._tell(f"trying to reach the relay by {carrier.value}")
            tries = [
                self._way(place, source, carrier)
                for place in places
                for source in self._sources(place)
            ]
            for way in await asyncio.gather(*tries):
                yield way

    async def _way(self, place: _Place, source: str | None, carrier: CarrierKind) -> WaySeen:
        loop = asyncio.get_running_loop()
        tasks, began = Tasks(), loop.time()
        interface = "" if source is None else self._interfaces.interface_of(source) or ""
        way = WaySeen(
            str(place.relay), carrier.value, place.host, source or "", interface, proxy=place.proxy
        )
        try:
            leg = Leg("/v1/control", Reason.EXAMINATION, carrier, source)
            opened = await Door(self._config, self._interfaces, 0).to_relay(
                place.address, leg, spawn=tasks.spawn, timeout=self._config.connect_timeout
            )
        except RelayUnavailable as error:
            return replace(way, failure=error)
        else:
            took, local = loop.time() - began, host_in(opened.stream.local)
            opened.stream.abort()
            interface = self._interfaces.interface_of(local) or ""
            return replace(way, seconds=took, source=local, interface=interface)
        finally:
            await tasks.close()

    async def _health(self, place: _Place) -> HealthSeen:
        relay = place.relay
        try:
            sources = self._sources(place)
            if not sources:
                return HealthSeen(str(relay), failure="none of `sources` is of its family here")
            health = await health_of(place.address, self._config.connect_timeout, sources[0])
        except RelayUnavailable as error:
            return HealthSeen(str(relay), failure=error.reason)
        left = health.certificate_seconds
        return HealthSeen(
            str(relay),
            health.status,
            health.clock_ahead,
            None if left is None else left / _DAY,
            is_relay=health.status == 200 and health.body.strip() == b"ok",
        )

    async def _registrations(self, places: Sequence[_Place]) -> list[RegistrationSeen]:
        """Register at each, from one port: so what different relays see can be compared."""
        tasks, paths = Tasks(), Paths(self._identity)
        direct = self._listen()
        try:

            async def serve(stream: Stream) -> None:
                # The relay's handshake ends when the key has shown.
                path = paths.make(stream, PathKind.DIRECT, server=True)
                with contextlib.suppress(RoamRelayError):
                    await path.accept(self._config.path_timeout)
                path.abort()

            await direct.start(serve, tasks.spawn)
            found = []
            for place in places:
                self._tell(f"registering at {place.relay}, and asking it to dial this host")
                found.append(await self._registered(place, direct.port, tasks))
            return found
        finally:
            direct.close()
            await tasks.close()
            await paths.abort()

    def _listen(self) -> DirectServer:
        """Listen where this peer would; at any port where a program of it does."""
        config = self._config
        try:
            return DirectServer.bind(config.listen_hosts, config.listen_port)
        except PathFailed:
            return DirectServer.bind(config.listen_hosts, 0)

    async def _registered(self, place: _Place, port: int, tasks: Tasks) -> RegistrationSeen:
        seen = RegistrationSeen(str(place.relay), place.host, port=port, proxied=bool(place.proxy))
        try:
            try:
                connection = await self._connected(place, port, tasks)
            except RelayUnavailable as error:
                if error.code is not Code.STALE_SEQUENCE:
                    raise
                connection = await self._connected(place, port, tasks)
        except RoamRelayError as error:
            return replace(seen, failure=error)
        try:
            seen = replace(
                seen,
                relay_guid=connection.relay_guid,
                local=connection.local,
                observed=connection.observed,
            )
            if place.proxy:
                return replace(seen, why_unknown="it comes by a proxy, which nobody gets through")
            seen = replace(seen, may_observe=connection.second_port is not None)
            seen = replace(seen, mapping=await self._mapping(connection))
            return await self._dialed(seen, connection)
        finally:
            connection.close()

    async def _mapping(self, connection: ControlConnection) -> Mapping:
        """Return what the mapping depends on: by what is seen at this relay, at its second port,
        and at the other addresses and relays that were asked from the same port."""
        local, seen = connection.local, connection.observed
        if local is None or seen is None or connection.met_at is None:
            return Mapping.UNKNOWN
        self._observations.append(Observation(local, connection.met_at, seen))
        at = connection.second_port
        if at is not None and local != seen:
            with contextlib.suppress(PathFailed):
                there = await observe(at, local, self._config.connect_timeout)
                self._observations.append(Observation(local, at, there))
        return mapping_of([one for one in self._observations if one.local == local])

    async def _connected(self, place: _Place, port: int, tasks: Tasks) -> ControlConnection:
        """Register from the port at which this host listens.

        Raises:
            RoamRelayError: nobody answers, or who answers does not register this peer.
        """
        timeout = self._config.connect_timeout
        source = next(iter(self._sources(place)), None)
        leg = Leg("/v1/control", Reason.CONTROL, self._config.carrier, source)
        door = Door(self._config, self._interfaces, port)
        opened = await door.to_relay(place.address, leg, spawn=tasks.spawn, timeout=timeout)
        pin = Pin(self._config.relay_guid, self._config.relay_pin_file)
        line = Line(place.address, pin=pin)
        handshake = Handshake(self._account, line, lambda event: None)
        return await handshake.register(opened.stream, self._records, timeout)

    async def _dialed(
        self, seen: RegistrationSeen, connection: ControlConnection
    ) -> RegistrationSeen:
        """Have the relay dial this host: where this connection comes from, and nowhere else."""
        observed = connection.observed
        if observed is None:
            return replace(seen, why_unknown="the relay does not see where it comes from")
        if ENDPOINT_QUERY not in connection.relay.features:
            return replace(seen, why_unknown="this relay is of an older version and cannot try")
        ports = dict.fromkeys((seen.port, observed.port))
        answers = await asyncio.gather(
            *(self._is_met(connection, observed.host, port) for port in ports),
            return_exceptions=True,
        )
        met = dict(zip(ports, answers, strict=True))
        for answer in answers:
            if isinstance(answer, RoamRelayError):
                return replace(seen, why_unknown=answer.reason)
            if isinstance(answer, BaseException):
                raise answer
        at_mapping = not met[seen.port] and met[observed.port] is True
        return replace(seen, reachable=met[seen.port] is True, at_mapping=at_mapping)

    async def _is_met(self, connection: ControlConnection, host: str, port: int) -> bool:
        entry = sign_entry(
            self._identity,
            Entry(1, _SERVICE, host, port, Phase.NEW, 60, Provenance.OBSERVED),
        )
        answer = await connection.endpoint_query(self._identity.guid, entry, _ASKED_FOR)
        if answer.code is not None:
            raise RelayUnavailable(answer.reason or answer.code.value, code=answer.code)
        return answer.met

    async def _zone(self) -> ZoneSeen | None:
        config = self._config.ddns
        if config is None:
            return None
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            with needed("dns", "dynamic DNS"):
                from peers.dns import ask, system_servers
            named = (config.server,) if config.server is not None else config.nameservers
            servers = tuple(map(HostPort.parse, named)) or await system_servers()
            await ask(servers, config.zone, "SOA", config.timeout)
        except RoamRelayError as error:
            return ZoneSeen(config.zone, failure=error.reason)
        return ZoneSeen(config.zone, loop.time() - began)
