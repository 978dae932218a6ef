"""One attempt to register one flow: at every address of the relay, from every address of this host.

It ends with a registered connection or with an error; when the next one comes is decided in
`peers.control.reconnect`.
"""

import asyncio
import ipaddress
from dataclasses import dataclass

import ifaddr

from peers.config import PeerConfig
from peers.control.account import Account, Line
from peers.control.connection import ControlConnection, Tell
from peers.control.handshake import Handshake, Records
from peers.control.relay_address import RelayAddresses
from peers.tasks import Tasks
from peers.transport import Stream, open_upgraded
from protocol.errors import Code, RelayUnavailable

__all__ = ["Home", "attempt"]

_PROBES = 3
"""Signs of life that the kernel wants in one heartbeat: a router with a new address drops what
belongs to a flow, and tells neither end of it."""
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


async def attempt(home: Home, flow: int, source: str | None, tell: Tell) -> ControlConnection:
    """Connect and register. `source` is the local address that it comes from; None leaves it to
    the routes, and tries every other address when they lead nowhere.

    Raises:
        RelayUnavailable: nobody answers, or the relay refuses (see `code`).
        RoamRelayError: what else the handshake raises.
    """
    try:
        return await _from(home, flow, source, tell)
    except RelayUnavailable as first:
        if first.code is not None or source is not None:
            raise
        for other in await asyncio.to_thread(_sources_towards, home.relay.host):
            try:
                return await _from(home, flow, other, tell)
            except RelayUnavailable as error:
                if error.code is not None:
                    raise
        raise


async def _from(home: Home, flow: int, source: str | None, tell: Tell) -> ControlConnection:
    failure = RelayUnavailable(f"{home.relay} has no address")
    addresses = await home.relay.find()
    for address in addresses:
        patience = _PATIENCE if address is not addresses[-1] else None
        line = Line(address, source, flow, home.config.relay_guid, patience)
        try:
            return await _register(home, line, tell)
        except RelayUnavailable as error:
            if error.code not in (None, Code.RESTARTING):
                raise
            failure = error
    raise failure


async def _register(home: Home, line: Line, tell: Tell) -> ControlConnection:
    timeout = home.config.connect_timeout
    stream = await _open(home, line)
    made = await Handshake(home.account, line, tell).register(stream, home.records, timeout)
    stream.probe_when_idle(made.registration.heartbeat / _PROBES)
    return made


async def _open(home: Home, line: Line) -> Stream:
    timeout = home.config.connect_timeout
    opened = await open_upgraded(
        line.address,
        "/v1/control",
        home.config.carrier,
        spawn=home.tasks.spawn,
        timeout=min(timeout, line.patience or timeout),
        local_address=line.source,
    )
    return opened.stream


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
