"""Who is kept out, by GUID and by network.

Pure: `now` is Unix time and is handed in. Looking up costs one step for each length of prefix that
there is, however many bans there are.
"""

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass

from protocol.errors import IdentityError
from protocol.identity import public_key_of

__all__ = ["Ban", "Bans", "subject_of"]

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Ban:
    """One ban."""

    subject: str
    """A GUID, or a network in CIDR."""
    since: float
    """Unix time, as `expires`."""
    expires: float | None = None
    """None: until it is lifted."""
    reason: str = ""
    """For the operator alone."""

    @property
    def is_network(self) -> bool:
        """Whether it is of a network."""
        return "/" in self.subject


def subject_of(text: str) -> str:
    """Return the GUID or the network that a text names, in its one form: an address is a network.

    Raises:
        ValueError: it is neither; says what is wanted.
    """
    text = text.strip()
    try:
        public_key_of(text)
        return text
    except IdentityError:
        pass
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(
            f"neither a GUID (52 characters) nor an address or network: {text[:80]!r}"
        ) from None
    return str(_unmapped(network))


class Bans:
    """All bans of one relay."""

    def __init__(self) -> None:
        self._bans: dict[str, Ban] = {}
        self._lengths: dict[tuple[int, int], int] = {}
        """How many networks have this version and length of prefix."""

    def __len__(self) -> int:
        return len(self._bans)

    def __iter__(self) -> Iterator[Ban]:
        return iter(list(self._bans.values()))

    def put(self, ban: Ban) -> None:
        """Add a ban, or replace the one of the same subject."""
        self.lift(ban.subject)
        self._bans[ban.subject] = ban
        if ban.is_network:
            key = _length(ban.subject)
            self._lengths[key] = self._lengths.get(key, 0) + 1

    def lift(self, subject: str) -> Ban | None:
        """Take a ban back; return it, None where there was none."""
        ban = self._bans.pop(subject, None)
        if ban is not None and ban.is_network:
            key = _length(subject)
            self._lengths[key] -= 1
            if not self._lengths[key]:
                del self._lengths[key]
        return ban

    def of(self, guid: str, host: str, now: float) -> Ban | None:
        """Return the ban that keeps a peer out; that of its key goes before that of its network."""
        if not self._bans:
            return None
        ban = self._in_force(guid, now)
        if ban is not None or not self._lengths:
            return ban
        try:
            address = ipaddress.ip_address(host.partition("%")[0])
        except ValueError:
            return None
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        for version, length in self._lengths:
            if version == address.version:
                network = str(ipaddress.ip_network((address, length), strict=False))
                ban = self._in_force(network, now)
                if ban is not None:
                    return ban
        return None

    def expired(self, now: float) -> list[str]:
        """Drop what is over; return whose it was."""
        over = [ban.subject for ban in self if ban.expires is not None and ban.expires <= now]
        for subject in over:
            self.lift(subject)
        return over

    def _in_force(self, subject: str, now: float) -> Ban | None:
        ban = self._bans.get(subject)
        if ban is None or (ban.expires is not None and ban.expires <= now):
            return None
        return ban


def _length(network: str) -> tuple[int, int]:
    parsed = ipaddress.ip_network(network)
    return parsed.version, parsed.prefixlen


def _unmapped(network: _Network) -> _Network:
    """Return a network of IPv4 that was written as a part of IPv6 in the form in which its peers
    are seen."""
    if network.version == 6 and network.prefixlen >= 96:
        mapped = ipaddress.IPv6Address(network.network_address.packed).ipv4_mapped
        if mapped is not None:
            return ipaddress.IPv4Network((mapped, network.prefixlen - 96))
    return network
