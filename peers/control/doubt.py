"""When it is doubted that a connection still carries anything: what is known of it in, a time out.
Nothing is done here.

A router that has a new address forgets what belongs to a flow, and tells neither end. What tells a
dead flow from a slow link is not how long it is silent, but that the relay answers on a new
connection meanwhile (`peers.control.flow`): a doubt costs one connection and ends nothing, so that
it may come early.
"""

from dataclasses import dataclass

__all__ = [
    "answer_due",
    "LONGEST_REST",
    "PONG_DUE",
    "PROBES",
    "SHORTEST_REST",
    "Signs",
    "doubted_at",
    "pong_due",
]

PROBES = 7
"""Signs of life that the kernel wants in one heartbeat: an idle peer is asked for in vain until it
has missed two."""
PONG_DUE = 12.0
"""Seconds for a relay to say anything after the ping of a heartbeat, at least: a link that is full
of other bytes may need many for a round trip, and it is not known before."""
_ROUND_TRIPS = 3
"""That an answer may take, where they are known to be long."""
_SECOND_PROBE = 1.25
"""Seconds from the kernel's first probe until its second one, a second later, could have been
acknowledged too: one packet may be lost."""
_PONG_DOUBTED = 4.0
"""Seconds after which a ping is missed: a packet may be lost, and the one that replaces it; or the
relay is busy, and would only be more so by new connections."""
SHORTEST_REST, LONGEST_REST = 2.0, 16.0
"""Seconds from one doubt that led to nothing until the next, at least; more each time, as long as
nothing is heard."""


@dataclass(frozen=True, slots=True)
class Signs:
    """What is known of a connection; times are seconds of the owner's clock."""

    heard: float
    """When the last bytes came."""
    acknowledged: float | None
    """When the kernel has heard of the other end last; None where it does not tell."""
    pinged: float | None
    """When the ping was sent that has no answer yet."""
    round_trip: float
    """Seconds that a message and its answer take, as far as it is known; else 0."""
    on_the_way: float
    """Seconds of it, as the kernel has measured: without what the relay was busy with."""


def doubted_at(signs: Signs, heartbeat: float, idle: float) -> float:
    """Return when to doubt a connection unless there is a new sign of life. A ping is sent after
    `heartbeat` seconds of silence, and the kernel's probe after `idle`."""
    pinged = signs.heard + heartbeat if signs.pinged is None else signs.pinged
    missed = pinged + answer_due(_PONG_DOUBTED, signs.round_trip)
    if signs.acknowledged is None:
        return missed
    probed = signs.acknowledged + idle
    return min(missed, probed + answer_due(_SECOND_PROBE, signs.on_the_way))


def pong_due(heartbeat: float, round_trip: float) -> float:
    """Return the seconds after a ping for which nothing may come before the connection is given up;
    at most another heartbeat, unless a round trip is known to take long."""
    return answer_due(min(heartbeat, PONG_DUE), round_trip)


def answer_due(usual: float, round_trip: float) -> float:
    """Return the seconds to wait for an answer that usually takes no longer than `usual`."""
    return max(usual, _ROUND_TRIPS * round_trip)
