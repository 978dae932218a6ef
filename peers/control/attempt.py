"""One attempt to register one flow: at every address of the relay, from every address of this host.

It ends with a registered connection or with an error; when the next one comes is decided in
`peers.control.reconnect`.
"""

import asyncio
import ipaddress
import random
from collections.abc import Collection
from dataclasses import dataclass, field

import ifaddr

from peers.config import PeerConfig
from peers.control.account import Account, KnownRelay, Line
from peers.control.connection import ControlConnection, Tell
from peers.control.doubt import PROBES
from peers.control.handshake import Handshake, Records
from peers.control.nodes import Nodes, Way
from peers.control.pin import Pin
from peers.control.refusal import Phase, judge, unproven
from peers.control.relay_address import RelayAddresses
from peers.dialing import Door, Leg, Node, Reason
from peers.tasks import Tasks
from peers.transport import Stream
from protocol.errors import Code, RelayUnavailable, RoamRelayError
from protocol.hosts import host_in

__all__ = ["AttemptEnded", "Home", "Spare", "Standing", "attempt", "open_spare"]


class AttemptEnded(Exception):
    """An attempt came to nothing: why, and in which phase. It is for who asked for the attempt, and
    leaves `peers.control` never."""

    def __init__(self, error: RoamRelayError, phase: Phase = Phase.UNPROVEN) -> None:
        super().__init__(error.reason)
        self.error = unproven(error) if phase is Phase.UNPROVEN else error
        self.phase = phase


@dataclass(slots=True)
class Standing:
    """How a registration stands, as all its flows know it."""

    is_kept: bool = False
    """Whether it has worked, or is to be waited for: then little ends it (refusal.py)."""


_PATIENCE = 2.5
"""Seconds for a relay that SRV records name, before the next one: two round trips and a handshake
by satellite."""


@dataclass(frozen=True, slots=True)
class Home:
    """What the flows of one registration share: who registers, with which relay, and how."""

    account: Account
    relay: RelayAddresses
    config: PeerConfig
    records: Records
    tasks: Tasks
    """Own what runs for the flows and their streams."""
    door: Door
    """Through which the relay is dialed."""
    standing: Standing = field(default_factory=Standing)
    pin: Pin = field(default_factory=Pin)
    nodes: Nodes = field(default_factory=lambda: Nodes(random.random))


@dataclass(frozen=True, slots=True)
class Spare:
    """A stream to the relay on which nothing was said yet. Whoever has it uses it, or aborts it."""

    line: Line
    stream: Stream


async def open_spare(home: Home, replaced: ControlConnection, flow: int) -> Spare:
    """Open another stream on the line of a connection.

    Raises:
        RoamRelayError: nobody answers there.
    """
    line = Line(replaced.address, replaced.source, flow, home.pin)
    return Spare(line, await _open(home, line, ()))


async def attempt(
    home: Home, flow: int, source: str | None, tell: Tell, spare: Spare | None = None
) -> ControlConnection:
    """Connect and register, on `spare` first where there is one. `source` is the local address that
    it comes from; None leaves it to the routes, and tries every other address when they lead
    nowhere.

    Raises:
        AttemptEnded: nobody answers, or who answers refuses or is not the relay.
    """
    if spare is not None:
        try:
            return await _shake_hands(home, Handshake(home.account, spare.line, tell), spare.stream)
        except AttemptEnded as ended:
            if _concerns_all(home, ended):
                raise
    try:
        return await _from(home, flow, source, tell)
    except AttemptEnded as first:
        if source is not None or not _depends_on_way(first):
            raise
        for other in await asyncio.to_thread(_sources_towards, home.relay.host):
            try:
                return await _from(home, flow, other, tell)
            except AttemptEnded as ended:
                if not _depends_on_way(ended):
                    raise
        raise


def _depends_on_way(ended: AttemptEnded) -> bool:
    """Whether it may go better from another address of this host: nobody was reached, or nobody has
    proven to be the relay. One that is busy is so for all."""
    busy = (Code.LIMIT_EXCEEDED, Code.RESTARTING)
    return ended.phase is Phase.UNPROVEN and ended.error.code not in busy


async def _from(home: Home, flow: int, source: str | None, tell: Tell) -> ControlConnection:
    """Try every address of the relay, and the nodes that it has named. What one of them says counts
    for the others only where it has proven to be the relay, and the answer would be the same."""
    failure = AttemptEnded(RelayUnavailable(f"{home.relay} has no address"))
    try:
        ways = home.nodes.ways(await home.relay.find())
    except RoamRelayError as error:
        ways, failure = home.nodes.ways(()), AttemptEnded(error)
    for way in ways:
        patience = _PATIENCE if way is not ways[-1] else None
        line = Line(way.address, source, flow, _pin(home, way), patience)
        try:
            return await _register(home, line, tell, way)
        except AttemptEnded as ended:
            if _concerns_all(home, ended):
                raise
            # Who answers, and be it with a refusal, tells more than who is not there.
            if failure.error.code is None or ended.error.code is not None:
                failure = ended
    raise failure


def _concerns_all(home: Home, ended: AttemptEnded) -> bool:
    if ended.phase is Phase.UNPROVEN:
        return False
    final = judge(ended.error, ended.phase, kept=home.standing.is_kept).final
    return final or ended.error.code is Code.STALE_SEQUENCE


def _pin(home: Home, way: Way) -> Pin:
    """Return what is expected there: of a node that the relay has named, the key of that relay."""
    if way.named_by is None or home.pin.guid is not None:
        return home.pin
    return Pin(way.named_by.guid)


async def _register(home: Home, line: Line, tell: Tell, way: Way) -> ControlConnection:
    """Try every address of one host until one has proven to be the relay."""
    strangers: set[str] = set()
    failure: AttemptEnded | None = None
    while True:
        handshake = Handshake(home.account, line, tell)
        try:
            stream = await _open(home, line, strangers, way.named_by)
        except RoamRelayError as error:
            raise failure or AttemptEnded(error) from None
        there = host_in(stream.remote)
        try:
            return await _shake_hands(home, handshake, stream)
        except AttemptEnded as ended:
            if ended.phase is not Phase.UNPROVEN or there in strangers:
                raise
            failure = failure or ended
        strangers.add(there)


async def _shake_hands(home: Home, handshake: Handshake, stream: Stream) -> ControlConnection:
    try:
        made = await handshake.register(stream, home.records, home.config.connect_timeout)
    except RoamRelayError as error:
        raise AttemptEnded(error, handshake.phase) from None
    if home.pin.to_write:
        home.tasks.spawn(asyncio.to_thread(home.pin.write))
    stream.settled()
    stream.probe_when_idle(made.registration.heartbeat / PROBES)
    return made


async def _open(
    home: Home, line: Line, strangers: Collection[str], named_by: KnownRelay | None = None
) -> Stream:
    timeout = min(home.config.connect_timeout, line.patience or home.config.connect_timeout)
    leg = Leg("/v1/control", Reason.CONTROL, home.config.carrier, line.source, avoid=strangers)
    if named_by is None:
        opened = await home.door.to_relay(
            line.address, leg, spawn=home.tasks.spawn, timeout=timeout
        )
        return opened.stream
    there = str(line.address)
    node = Node(named_by.address, named_by.guid, there)
    # One that was met and is not the relay is not dialed twice.
    at = None
    if not strangers:
        at = await home.door.to_node(node, leg, spawn=home.tasks.spawn, timeout=timeout)
    if at is None:
        raise RelayUnavailable(f"nobody is at {there}, where the relay has named a node of it")
    return at.stream


def _sources_towards(relay: str) -> list[str]:
    """Return this host's addresses of the relay's family, but those that lead nowhere; none where
    the system does not tell them."""
    family: int | None = None
    try:
        known = ipaddress.ip_address(relay)
        if known.is_loopback:
            return []
        family = known.version
    except ValueError:
        pass  # A name: it may have addresses of both families.
    try:
        adapters = list(ifaddr.get_adapters())
    except OSError:
        return []
    sources = []
    for adapter in adapters:
        for ip in adapter.ips:
            host = ip.ip if isinstance(ip.ip, str) else ip.ip[0]
            address = ipaddress.ip_address(host)
            if address.is_loopback or address.is_link_local:
                continue
            if family is None or address.version == family:
                sources.append(host)
    return sources
