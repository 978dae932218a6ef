"""Whether the address and port that others see depend on whom this host talks to (RFC 4787 §4.1).

PURE: what was observed goes in, a word comes out. Who asks, and when, is elsewhere.

Rule 1: observations are compared only where they are of one local address and port, and of one
time: a NAT forgets.
Rule 2: two observations at one address of a relay and two of its ports tell what depends on the
port; whether a mapping depends on the address only shows at another address. Where that is not
known, what does not depend on the port counts as `endpoint-independent`: NATs that look at the
address alone are rare, and a meeting with one is tried in vain.
"""

from collections.abc import Collection
from dataclasses import dataclass

from protocol.endpoint import Endpoint
from protocol.meeting import Mapping

__all__ = ["Mapping", "Observation", "mapping_of"]


@dataclass(frozen=True, slots=True)
class Observation:
    """How somebody at `by` saw a connection that left from `local`."""

    local: Endpoint
    by: Endpoint
    """Address and port that were dialed."""
    seen: Endpoint


def mapping_of(observations: Collection[Observation]) -> Mapping:
    """Return the mapping of the network that these were made in, at one time and from one local
    address and port."""
    if not observations:
        return Mapping.UNKNOWN
    if all(one.seen == one.local for one in observations):
        return Mapping.NONE
    if len({one.by for one in observations}) < 2:
        return Mapping.UNKNOWN
    if len({one.seen for one in observations}) == 1:
        return Mapping.ENDPOINT_INDEPENDENT
    by_host: dict[str, set[Endpoint]] = {}
    for one in observations:
        by_host.setdefault(one.by.host, set()).add(one.seen)
    ports_matter = any(len(seen) > 1 for seen in by_host.values())
    both_known = any(
        len({one.by for one in observations if one.by.host == host}) > 1 for host in by_host
    )
    if ports_matter or not both_known:
        # Where no address was asked at two ports, the stricter one is assumed.
        return Mapping.ADDRESS_AND_PORT_DEPENDENT
    return Mapping.ADDRESS_DEPENDENT
