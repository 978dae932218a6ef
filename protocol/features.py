"""Features: what a party knows beyond the first words of version 1, each under a name.

A party names its features in `hello` and `challenge`, hop by hop, and in `path_hello` and
`path_welcome`, end to end. What a feature brings goes only to who has named it (docs/protocol.md
§15); a name that is not known here is passed over, and nobody keeps it.
"""

from collections.abc import Iterable
from functools import lru_cache

__all__ = [
    "CONTROL_FEATURES",
    "CONVERSATION",
    "EARLY_DATA",
    "ENDPOINT_QUERY",
    "FIRST_FLIGHT",
    "IDLE",
    "MAILBOX",
    "OFFER",
    "RELAY_FALLBACK",
    "RELAY_FEATURES",
    "SESSION_2",
    "SESSION_FEATURES",
    "STANDBY",
    "SUCCESSION",
    "shared",
]

ENDPOINT_QUERY = "endpoint-query"
"""A peer may ask its relay whether another one's key was met at an endpoint."""

MAILBOX = "mailbox"
"""The relay keeps letters for peers who are away (protocol/mail.py); of relays, only those name it
that have a mailbox."""

RELAY_FALLBACK = "relay-fallback"
"""A session in `combined` may go on over the relay while nothing direct is found."""
EARLY_DATA = "early-data"
"""Behind the hello of a resumed session, data may stand that nobody has asked for yet."""
SESSION_2 = "session-2"
"""The second revision of the session's frames: fragments, acknowledged bytes, `finish`."""
FIRST_FLIGHT = "first-flight"
"""The next path of a session may begin with a sealed flight (protocol/first_flight.py)."""
STANDBY = "standby"
"""A second path may stand ready beside the session's own, and the session go on over it."""
IDLE = "idle"
"""A path that is quiet may be pinged less often, where one of both sides wishes that."""

CONVERSATION = "conversation"
"""The session carries a conversation (protocol/conversation.py), and no messages of its own."""

SUCCESSION = "succession"
"""A relay that has changed its key says so, by the old one (protocol/succession.py)."""

OFFER = "offer"
"""The relay passes offers on, with requests and their answers (protocol/offer.py). A peer names it
that can use one."""

CONTROL_FEATURES: tuple[str, ...] = (ENDPOINT_QUERY, SUCCESSION, MAILBOX, OFFER)
"""What this version names on a control connection, relay and peer alike."""
RELAY_FEATURES: tuple[str, ...] = CONTROL_FEATURES
"""What a relay of this version names."""
SESSION_FEATURES: tuple[str, ...] = (SESSION_2, EARLY_DATA, FIRST_FLIGHT, IDLE)
"""What this version names at the head of every path, whatever the terms of the session."""


def shared(here: Iterable[str], there: Iterable[str]) -> frozenset[str]:
    """Return what both have named: only of that may either make use."""
    return _one_of_each(frozenset(here).intersection(there))


@lru_cache(maxsize=64)
def _one_of_each(features: frozenset[str]) -> frozenset[str]:
    """Return what is equal to it, the same object each time: every session has such a set, of 0.7
    KiB, and what one has named beside us are a few names, all of them ours."""
    return features
