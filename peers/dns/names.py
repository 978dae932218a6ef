"""This peer and the DNS: its own registration, and where others are. Nothing here dials."""

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import dns.tsig

from peers.config import DdnsConfig, log
from peers.dns.client import Through
from peers.dns.keeper import Keeper
from peers.dns.lookup import NameLookup
from peers.dns.primary import Primary
from peers.dns.registration import Registration
from peers.location import Offered, OwnLocation
from peers.tasks import Spawn
from protocol.dns_records import can_be_named
from protocol.endpoint import SignedEntry
from protocol.messages import Disclosure

__all__ = ["Names", "Zone"]


@dataclass(frozen=True, slots=True)
class Zone:
    """A zone, and this peer's way into it."""

    config: DdnsConfig
    key: dns.tsig.Key | None = None
    """Of the peer's own name (key_file.py); None where it is not registered."""
    through: Through | None = None
    """What servers have to pass that the zone itself names."""


class Names:
    """Dynamic DNS for one peer, which is registered where it has a key."""

    def __init__(
        self,
        guid: str,
        zone: Zone,
        own: OwnLocation,
        offered: Callable[[], Iterable[Offered]],
    ) -> None:
        config, key = zone.config, zone.key
        self._own = own
        self._offered = offered
        self._timeout = config.timeout
        self.lookup = NameLookup(config, zone.through)
        self._keeper = (
            Keeper(
                Primary(guid, config, key, through=zone.through),
                Registration(own.instance.hex(), refresh=config.refresh, random=random.random),
                self._location,
            )
            if key is not None
            else None
        )

    def start(self, spawn: Spawn) -> None:
        """Keep this peer registered from now on, if there is a key for it."""
        if self._keeper is not None:
            spawn(self._keeper.run())

    def changed(self) -> None:
        """What this peer says of itself may be different now."""
        if self._keeper is not None:
            self._keeper.changed()

    async def published(self) -> None:
        """Wait until the zone holds what is offered now; without a key, for nothing.

        Raises:
            UpdateRefused, NameServerUnavailable: it does not.
        """
        if self._keeper is not None:
            # Looking up the server, the record that it holds, and the update: each has one timeout.
            await self._keeper.published(3 * self._timeout)

    async def withdraw(self) -> None:
        """Take this peer's records back."""
        if self._keeper is not None:
            await self._keeper.withdraw()

    # -- inside ---------------------------------------------------------------------------------

    def _location(self, above: int) -> tuple[int, Mapping[str, Sequence[SignedEntry]]]:
        """Everybody may read the DNS: only what is disclosed to anyone is told there."""
        self._own.advance(above)
        record = self._own.record(
            one for one in self._offered() if one.disclosure is Disclosure.ANYONE
        )
        services = {one.service: one.entries for one in record.services}
        for service in [one for one in services if not can_be_named(one)]:
            log.warning("not in the DNS: a name may have 62 characters", service=service)
            del services[service]
        # The zone's number is followed there, however far ahead somebody has put it; not elsewhere.
        return max(record.seq, above + 1), services
