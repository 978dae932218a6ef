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
from peers.dialing import Door, Leg, Reason
from peers.tasks import Tasks
from peers.transport import RelayAddress, Stream
from protocol.errors import Code, RelayUnavailable

__all__ = ["Home", "attempt"]


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
    for address in await home.relay.find():
        line = Line(address, source, flow, home.config.relay_guid)
        try:
            return await _register(home, line, tell)
        except RelayUnavailable as error:
            if error.code not in (None, Code.RESTARTING):
                raise
            failure = error
    raise failure


async def _register(home: Home, line: Line, tell: Tell) -> ControlConnection:
    timeout = home.config.connect_timeout
    stream = await _open(home, line.address, line.source)
    return await Handshake(home.account, line, tell).register(stream, home.records, timeout)


async def _open(home: Home, address: RelayAddress, source: str | None) -> Stream:
    try:
        opened = await home.door.to_relay(
            address,
            Leg("/v1/control", Reason.CONTROL, home.config.carrier, source),
            spawn=home.tasks.spawn,
            timeout=home.config.connect_timeout,
        )
        return opened.stream
    except UnicodeError as error:
        # What the system's resolver says of a name that is none, as one with a long label.
        raise RelayUnavailable(f"cannot connect to {address}: {error}") from None


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
