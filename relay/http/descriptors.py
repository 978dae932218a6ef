"""The process's file descriptors: how many there are, and which of them connections may take.

A relay that has none left can neither take a connection nor join a plane, and says nothing: the
last ones are kept for peers that are known, and the very last for what is no connection.
"""

import sys
from dataclasses import dataclass

import msgspec

from relay.config import DnsConfig, RelayConfig
from relay.limits import plane_budget
from relay.log import log

__all__ = ["Descriptors", "hard_limit", "raise_limit", "tell_of_limits"]

if sys.platform != "win32":
    import resource

_MOST = 1 << 20
"""What a process may have on Linux unless its `fs.nr_open` was changed: a hard limit without an end
is this."""


@dataclass(frozen=True, slots=True)
class Descriptors:
    """What connections may take. The kernel hands out the lowest free number: the number of a new
    descriptor says how many are in use at least."""

    limit: int

    @property
    def for_known(self) -> int:
        """The first number that no connection gets: the rest is for files, pipes and probes."""
        return self.limit - min(256, max(16, self.limit // 32))

    @property
    def for_strangers(self) -> int:
        """The first number that is kept for networks of which a peer has registered."""
        return self.for_known - min(4_096, self.limit // 8)

    @property
    def connections(self) -> int:
        """Control connections that there may be at most: the rest is for planes, and for who has
        just come."""
        return max(1, self.for_strangers * 3 // 4)

    @property
    def share(self) -> int:
        """What one network may have of these, and what all who have just come may have."""
        return max(1, self.for_strangers // 2)

    @classmethod
    def of_process(cls) -> "Descriptors":
        """Return those that the process may have now."""
        if sys.platform == "win32":
            return cls(_MOST)
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return cls(_MOST if soft == resource.RLIM_INFINITY else min(soft, _MOST))


def tell_of_limits(config: RelayConfig, descriptors: Descriptors) -> None:
    """Say which of the limits that somebody has chosen are above what the file descriptors allow,
    and what holds in their place. Of a default nobody has to be told that it is less."""
    planes = plane_budget(config.max_pending_planes, config.max_planes, descriptors.limit)
    wanted = {
        "max_connections": (config.max_connections, descriptors.connections),
        "max_connections_per_address": (config.max_connections_per_address, descriptors.share),
        "max_newcomers": (config.max_newcomers, descriptors.share),
        "max_planes": (config.max_planes, planes.joined.in_all),
        "max_pending_planes": (config.max_pending_planes, planes.waiting.in_all),
    }
    usual = {field.name: field.default for field in msgspec.structs.fields(RelayConfig)}
    if config.dns is not None:
        wanted["dns.max_connections"] = config.dns.max_connections, descriptors.share
        usual["dns.max_connections"] = DnsConfig(zone=config.dns.zone).max_connections
    above = {
        name: f"{chosen}, allowed {allowed}"
        for name, (chosen, allowed) in wanted.items()
        if chosen > allowed and chosen != usual[name]
    }
    if above:
        log.warning(
            "limits are above what the file descriptors allow: raise the hard limit (ulimit -Hn, "
            "LimitNOFILE=), or lower these",
            descriptors=descriptors.limit,
            limits=above,
        )


def hard_limit() -> int:
    """Return how many descriptors this process may raise its limit to."""
    if sys.platform == "win32":
        return _MOST
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST if hard == resource.RLIM_INFINITY else min(hard, _MOST)


def raise_limit() -> tuple[int, int]:
    """Raise the soft limit of this process to the hard one; return both, as they were and as it is
    now. The limit is the process's: only a program that is nothing but a relay does this."""
    before = Descriptors.of_process().limit
    if sys.platform != "win32":
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = hard_limit()
        if wanted > before:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return before, Descriptors.of_process().limit
