"""Features: what a party knows beyond the first words of version 1, each under a name.

A party names its features in `path_hello` and `path_welcome`, end to end. What a feature brings
goes only to who has named it (docs/protocol.md §15); a name that is not known here is passed over,
and nobody keeps it.
"""

from collections.abc import Iterable

__all__ = ["RELAY_FALLBACK", "shared"]

RELAY_FALLBACK = "relay-fallback"
"""A session in `combined` may go on over the relay while nothing direct is found."""


def shared(here: Iterable[str], there: Iterable[str]) -> frozenset[str]:
    """Return what both have named: only of that may either make use."""
    return frozenset(here) & frozenset(there)
