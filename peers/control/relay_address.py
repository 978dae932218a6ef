"""Where the relay is: a URL, several of one relay, or a domain whose SRV records name its relays.

Several are tried in one order, made by chance once and kept: peers are spread over the nodes of a
relay, and all connections of one peer come to the same node, the first that can be reached.

`dns:example.org` stands for the SRV records of `_roam-relay._tcp.example.org` (RFC 2782) and plain
HTTP, `dns+https:example.org` for the same and TLS, with a certificate for `example.org`: what the
DNS says of other names is not proven (RFC 6125 §1.8).
"""

import asyncio
import random
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

from peers.config import HostPort, PeerConfig
from peers.transport import RelayAddress, RelayTrips, Trust
from protocol.dns_records import parse_zone
from protocol.errors import (
    NameServerUnavailable,
    ProtocolViolation,
    RelayUnavailable,
)
from protocol.extras import needed

__all__ = ["RelayAddresses"]

_MAX_RELAYS = 8
"""Relays that the configuration names, each tried at all its addresses."""
_MAX_TARGETS = 4
"""Targets of SRV records that one attempt tries, each at all its addresses."""


class RelayAddresses:
    """Raises `RelayUnavailable` where the text is neither a domain nor URLs, with commas between
    them, and `MissingExtra` where a domain cannot be asked for."""

    def __init__(
        self,
        text: str,
        *,
        trust: Trust | None = None,
        nameservers: Sequence[HostPort] = (),
        timeout: float = 5.0,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self._text = text
        self._trust = trust or Trust()
        self._nameservers = tuple(nameservers)
        self._timeout = timeout
        self._rng = rng
        self._last: tuple[RelayAddress, ...] = ()
        self._trips = RelayTrips()
        self._draws: dict[tuple[str, int], float] = {}
        """What chance has said of each target of SRV records, by name and port."""
        self._domain: str | None = None
        scheme, _, rest = text.partition(":")
        if scheme in ("dns", "dns+https"):
            try:
                self._domain = parse_zone(rest)
            except ProtocolViolation:
                raise RelayUnavailable(
                    f"not a relay: {text!r} (dns:DOMAIN or dns+https:DOMAIN is needed)"
                ) from None
            _dns()  # Missed here, and not when it is asked.
            self._scheme = "http" if scheme == "dns" else "https"
            return
        urls = [part for part in text.split(",") if part.strip()] or [text]
        if len(urls) > _MAX_RELAYS:
            raise RelayUnavailable(f"{len(urls)} relays are named: {_MAX_RELAYS} are enough")
        found = [RelayAddress(url, trust=self._trust, trips=self._trips) for url in urls]
        self._last = tuple(sorted(found, key=lambda _: rng()))

    @classmethod
    def of(cls, text: str, config: PeerConfig) -> "RelayAddresses":
        """Return what a peer's configuration names, with the authorities and the name servers of
        the same.

        Raises:
            RelayUnavailable: it cannot be used, or the file of authorities cannot.
        """
        trust = Trust(config.relay_ca)
        if config.relay_ca is not None:
            trust.context()
        named = config.ddns.nameservers if config.ddns else ()
        servers = [HostPort.parse(one) for one in named]
        return cls(text, trust=trust, nameservers=servers, timeout=config.connect_timeout)

    @property
    def host(self) -> str:
        """The relay's host, as far as it is known; empty where it is not."""
        return self._last[0].host if self._last else ""

    @property
    def known(self) -> tuple[RelayAddress, ...]:
        """Where it is, as far as it was found."""
        return self._last

    def __str__(self) -> str:
        return self._text if self._domain else " or ".join(map(str, self._last))

    async def find(self) -> tuple[RelayAddress, ...]:
        """Return where to try, in order. A domain is asked for anew each time; what it said last
        is used while no name server answers.

        Raises:
            RelayUnavailable: nobody says where the relay is.
        """
        if self._domain is None:
            return self._last
        try:
            async with asyncio.timeout(self._timeout):
                found = await self._ask(self._domain)
        except (NameServerUnavailable, TimeoutError) as error:
            if self._last:
                return self._last
            raise RelayUnavailable(f"cannot find the relay of {self._text}: {error}") from None
        if not found:
            raise RelayUnavailable(
                f"{self._domain} names no relay: it has no SRV records at "
                f"_roam-relay._tcp.{self._domain}"
            )
        self._last = found
        return found

    async def _ask(self, domain: str) -> tuple[RelayAddress, ...]:
        names = _dns()
        ask = names.ask
        servers = self._nameservers or await names.system_servers()
        name = f"_roam-relay._tcp.{domain}"
        answer = await ask(servers, name, "SRV", self._timeout)
        relays: list[RelayAddress] = []
        records = list(names.answer_data(answer, "SRV"))
        self._draws = {
            key: self._draws[key] if key in self._draws else self._rng()
            for key in map(_key, records)
        }
        ordered = in_srv_order(records, lambda record: self._draws[_key(record)])
        for record in ordered[:_MAX_TARGETS]:
            target = record.target.to_text(omit_final_dot=True)
            if target in ("", ".") or not record.port:
                continue
            try:
                both = await names.ask_all(
                    ask(servers, target, "AAAA", self._timeout),
                    ask(servers, target, "A", self._timeout),
                )
            except NameServerUnavailable:
                continue  # Another target may have an address.
            hosts = [
                data.address
                for kind, found in zip(("AAAA", "A"), both, strict=True)
                for data in names.answer_data(found, kind)
            ]
            if hosts:
                relays.append(self._relay_at(hosts, record.port, domain))
        return tuple(relays)

    def _relay_at(self, hosts: Sequence[str], port: int, domain: str) -> RelayAddress:
        host = f"[{hosts[0]}]" if ":" in hosts[0] else hosts[0]
        return RelayAddress(
            f"{self._scheme}://{host}:{port}",
            trust=self._trust,
            certificate_name=domain,
            addresses=hosts,
            trips=self._trips,
        )


def _dns() -> ModuleType:
    with needed("dns", "a relay that the DNS names"):
        import peers.dns

    return peers.dns


def _key(record: Any) -> tuple[str, int]:
    return record.target.to_text(), record.port


def in_srv_order(records: Sequence[Any], draw: Callable[[Any], float]) -> list[Any]:
    """Put SRV records in the order in which they are tried: by priority, and at random by weight
    within one (RFC 2782). `draw` says what chance has said of a record."""

    def key(record: Any) -> tuple[int, float]:
        # The largest of random numbers to the power 1/weight comes from each in proportion to it.
        return record.priority, -(max(draw(record), 1e-12) ** (1 / max(record.weight, 1e-3)))

    return sorted(records, key=key)
