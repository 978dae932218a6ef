"""What the NAT of each network does to this peer's port, as far as a relay's second port tells.

It is asked once a network, beside the conversation, from the port at which this peer listens; what
it says is kept for an hour. Nobody waits for it: what is not known yet is `unknown`.
"""

import asyncio
from collections import OrderedDict
from typing import NamedTuple

from peers.config import log
from peers.control.connection import ControlConnection
from peers.dialing import Door, observe
from peers.reach import Mapping, Observation, mapping_of
from peers.tasks import Tasks
from protocol.endpoint import Endpoint
from protocol.errors import RoamRelayError

__all__ = ["Mappings"]

_TIMEOUT = 5.0
"""Seconds for the relay to say where it sees this peer."""
_KEPT = 3600.0
"""Seconds for which a network is believed to be as it was; one that did not answer, too."""
_MAX_NETWORKS = 16
"""Networks that are remembered; beyond it the one asked first is forgotten."""


class _Network(NamedTuple):
    """A network, as it shows: this host's address in it, and the address outside."""

    inside: str
    outside: str


class Mappings:
    """Of one peer."""

    def __init__(self, door: Door, tasks: Tasks) -> None:
        self._door = door
        self._tasks = tasks
        self._known: OrderedDict[_Network, tuple[Mapping, float]] = OrderedDict()
        """With the time until which that holds."""

    def of(self, connection: ControlConnection) -> Mapping:
        """Return what is known of the network that a connection goes through."""
        local, seen = connection.local, connection.observed
        if local is None or seen is None:
            return Mapping.UNKNOWN
        if local == seen:
            return Mapping.NONE
        now = asyncio.get_running_loop().time()
        mapping, until = self._known.get(_Network(local.host, seen.host), (Mapping.UNKNOWN, now))
        return mapping if now < until else Mapping.UNKNOWN

    def look(self, connection: ControlConnection) -> None:
        """A connection is registered: ask for its network, where that can be and was not lately."""
        local, seen = connection.local, connection.observed
        met, at = connection.met_at, connection.second_port
        if local is None or seen is None or met is None or at is None or local == seen:
            return
        # On the way through a proxy it would be the proxy's.
        if local.port != self._door.listening_port:
            return
        now = asyncio.get_running_loop().time()
        network = _Network(local.host, seen.host)
        if network in self._known and now < self._known[network][1]:
            return
        self._put(network, Mapping.UNKNOWN, now)
        self._tasks.spawn(self._ask(network, at, Observation(local, met, seen)))

    async def _ask(self, network: _Network, at: Endpoint, here: Observation) -> None:
        try:
            there = await observe(at, here.local, _TIMEOUT)
        except RoamRelayError as error:
            log.debug("not told what the network's mapping depends on", reason=error.reason)
            return
        mapping = mapping_of((here, Observation(here.local, at, there)))
        log.debug("the network's mapping", mapping=mapping.value, source=network.inside)
        self._put(network, mapping, asyncio.get_running_loop().time())

    def _put(self, network: _Network, mapping: Mapping, now: float) -> None:
        self._known[network] = mapping, now + _KEPT
        if len(self._known) > _MAX_NETWORKS:
            self._known.popitem(last=False)
