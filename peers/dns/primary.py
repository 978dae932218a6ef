"""The server that takes a zone's updates, as one peer talks to it: what it holds of the peer, and
one update. What is to be done, and when, is decided in registration.py beside it."""

import contextlib
from dataclasses import dataclass

import dns.rcode
import dns.tsig

from peers.config import DdnsConfig, HostPort
from peers.dns import client
from peers.dns.answer import Answer
from peers.dns.events import NOTHING, Followed
from peers.dns.lookup import ask_all, find_primary
from peers.dns.update import update_message
from protocol.dns_records import (
    MAX_ADDRESSES,
    RecordSets,
    parse_zone,
    peer_name,
    read_entry_text,
    read_zone_record,
    service_name,
)
from protocol.endpoint import open_entry
from protocol.errors import NameServerUnavailable, RoamRelayError, UpdateRefused

__all__ = ["Primary", "Reply"]

_MAX_CONFIRMED = 4
"""Names that are asked for under a signature, one after the other."""
_MAX_ASKED = 40
"""Names of an update that are asked for, to find what is in its way."""
_SHOWN = 80


@dataclass(frozen=True, slots=True)
class Reply:
    """What a server has said of an update, under its signature."""

    server: HostPort
    code: dns.rcode.Rcode
    obstacle: str = ""
    """What stands in the way of the update, in one sentence; empty: nothing is known of."""


class Primary:
    """Finds the server when it is needed, and keeps to the address that has answered.

    `clock` is the time by which updates are signed; by default the system's, until a server says
    that it is wrong. `through` is what a server has to pass that the zone itself names.
    """

    def __init__(
        self,
        guid: str,
        config: DdnsConfig,
        key: dns.tsig.Key,
        clock: client.Clock | None = None,
        through: client.Through | None = None,
    ) -> None:
        self.guid = guid
        self.zone = parse_zone(config.zone)
        self._config = config
        self._key = key
        self._through = through
        self._clock = clock or client.Clock()
        self._addresses: tuple[HostPort, ...] = ()
        """Where the server is, the address that has answered first; empty: not known."""
        self._is_proven = False
        """Whether what this server has acknowledged was seen to be there."""

    def forget(self) -> None:
        """Look for the server anew: another one may be the primary now."""
        self._addresses = ()
        self._is_proven = False

    async def look(self) -> Followed:
        """Return what the zone holds of this peer.

        Raises:
            NameServerUnavailable: the server cannot be found, or does not answer.
        """
        addresses = await self._found()
        name = peer_name(self.guid, self.zone)
        answered = await client.ask_any(addresses, name, "TXT", self._config.timeout)
        self._addresses = tuple(dict.fromkeys((answered.server, *addresses)))
        return self._read(answered.answer)

    async def confirm(self, above: int) -> tuple[Followed, bool]:
        """Return what the zone holds of this peer, and whether something of it is signed by this
        peer's key under a number above the given one: both under the server's signature.

        Raises:
            UpdateRefused: the server does not take the key.
            NameServerUnavailable: as `look`.
        """
        followed = self._read(await self._ask_signed(peer_name(self.guid, self.zone), "TXT"))
        for service in followed.record.services[:_MAX_CONFIRMED]:
            name = service_name(service, self.guid, self.zone)
            for data in (await self._ask_signed(name, "TXT")).data[:MAX_ADDRESSES]:
                signed = read_entry_text(data.strings)
                with contextlib.suppress(RoamRelayError):
                    if signed is not None and open_entry(self.guid, signed).seq > above:
                        return followed, True
        return followed, False

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
        obstacle = ""
        if code == dns.rcode.YXRRSET:
            obstacle = await self._alias_among(sets)
        elif code == dns.rcode.NOERROR and sets and not self._is_proven:
            obstacle = await self._missing(sets)
            self._is_proven = not obstacle
        return Reply(server, code, obstacle)

    # -- inside ---------------------------------------------------------------------------------

    def _read(self, answer: Answer) -> Followed:
        """Read what stands at the peer's own name."""
        own = peer_name(self.guid, self.zone)
        if answer.alias:
            return Followed(NOTHING.record, "", obstacle=_alias(own, answer.alias))
        found, others = NOTHING, []
        for data in answer.data:
            record = read_zone_record(data.strings)
            if record is not None and found is NOTHING:
                found = Followed(record, data.to_text())
            else:
                others.append(data.to_text())
        if not others:
            return found
        obstacle = (
            f"{own} has a TXT record of another program in the way: {others[0][:_SHOWN]}; "
            "take it out of the zone"
        )
        return Followed(found.record, found.text, tuple(others), obstacle)

    async def _alias_among(self, sets: RecordSets) -> str:
        """Say which of the names in `sets` is an alias; empty where none is found."""
        names = list(dict.fromkeys(name for name, _ in sets))[:_MAX_ASKED]
        with contextlib.suppress(NameServerUnavailable):
            answers = await ask_all(*(self._ask(name, "CNAME") for name in names))
            for name, answer in zip(names, answers, strict=True):
                for data in answer.data:
                    return _alias(name, data.target.to_text())
        return ""

    async def _missing(self, sets: RecordSets) -> str:
        """Say what of an update that the server has acknowledged is not there, by what the server
        says under its signature; empty where nothing is missing, or nobody knows."""
        wanted = [(name, kind) for name, kind in sets if kind in ("TXT", "SRV")][-_MAX_CONFIRMED:]
        with contextlib.suppress(NameServerUnavailable, UpdateRefused):
            for name, kind in wanted:
                answer = await self._ask_signed(name, kind)
                if answer.alias:
                    return _alias(name, answer.alias)
                if not answer.data:
                    return f"the server has acknowledged {name} {kind}, and does not have it"
        return ""

    async def _ask(self, name: str, kind: str) -> Answer:
        return await client.ask(await self._found(), name, kind, self._config.timeout)

    async def _ask_signed(self, name: str, kind: str) -> Answer:
        return await client.ask_signed(
            await self._found(), (name, kind), self._key, self._clock, self._config.timeout
        )

    async def _found(self) -> tuple[HostPort, ...]:
        if not self._addresses:
            server = await find_primary(self._config, self._through)
            found = await client.addresses_of(server)
            self._addresses = tuple(client.at(server, address) for address in found)
        return self._addresses


def _alias(name: str, target: str) -> str:
    return (
        f"{name} is an alias (CNAME {target[:_SHOWN]}), beside which nothing can be registered; "
        "take it out of the zone"
    )
