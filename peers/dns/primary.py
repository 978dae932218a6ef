"""The server that takes a zone's updates, as one peer talks to it: what it holds of the peer, and
one update. What is to be done, and when, is decided in registration.py beside it."""

from dataclasses import dataclass

import dns.rcode
import dns.tsig

from peers.config import DdnsConfig, HostPort
from peers.dns import client
from peers.dns.events import NOTHING, Followed
from peers.dns.lookup import find_primary
from peers.dns.update import update_message
from protocol.dns_records import RecordSets, parse_zone, peer_name, read_zone_record

__all__ = ["Primary", "Reply"]


@dataclass(frozen=True, slots=True)
class Reply:
    """What a server has said of an update, under its signature."""

    server: HostPort
    code: dns.rcode.Rcode


class Primary:
    """Finds the server when it is needed, and keeps to the address that has answered.

    `clock` is the time by which updates are signed; by default the system's, until a server says
    that it is wrong.
    """

    def __init__(
        self,
        guid: str,
        config: DdnsConfig,
        key: dns.tsig.Key,
        clock: client.Clock | None = None,
    ) -> None:
        self.guid = guid
        self.zone = parse_zone(config.zone)
        self._config = config
        self._key = key
        self._clock = clock or client.Clock()
        self._addresses: tuple[HostPort, ...] = ()
        """Where the server is, the address that has answered first; empty: not known."""

    def forget(self) -> None:
        """Look for the server anew: another one may be the primary now."""
        self._addresses = ()

    async def look(self) -> Followed:
        """Return what the zone holds of this peer.

        Raises:
            NameServerUnavailable: the server cannot be found, or does not answer.
        """
        addresses = await self._found()
        name = peer_name(self.guid, self.zone)
        answered = await client.ask_any(addresses, name, "TXT", self._config.timeout)
        self._addresses = tuple(dict.fromkeys((answered.server, *addresses)))
        for data in answered.answer.data:
            record = read_zone_record(data.strings)
            if record is not None:
                return Followed(record, data.to_text())
        return NOTHING

    async def update(self, followed: Followed, sets: RecordSets) -> Reply:
        """Replace this peer's records by `sets`, if the zone still holds what they follow; return
        what the server says.

        Raises:
            UpdateRefused: it does not take the key, or the message is too large.
            NameServerUnavailable: nobody knows what has become of it.
        """
        message = update_message(self.guid, self.zone, followed, sets)
        server, *others = await self._found()
        code = await client.update(
            server, message, self._key, self._clock, self._config.timeout, others
        )
        return Reply(server, code)

    async def _found(self) -> tuple[HostPort, ...]:
        if not self._addresses:
            server = await find_primary(self._config)
            found = await client.addresses_of(server)
            self._addresses = tuple(HostPort(address, server.port) for address in found)
        return self._addresses
