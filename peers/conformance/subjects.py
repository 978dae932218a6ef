"""How a check of a session is written: the session is opened before it, in one revision of the
frames or in each, and ended behind it.
"""

import contextlib
from collections.abc import Awaitable, Callable

from peers.conformance.end import ABORT, PING, PONG
from peers.conformance.faults import Fault
from peers.conformance.peer_stage import PEER, Called, PeerStage

__all__ = ["came_back", "came_back_once", "in_both", "in_second", "over"]

_FAREWELL = 1.0
"""Seconds for the other side to close a path whose session is over."""

Made = Callable[[Called], Awaitable[None]]


def in_both(rule: str, what: str) -> Callable[[Made], Made]:
    """Note a check of a session, in each revision; what it leaves is cut."""

    def noted(make: Made) -> Made:
        for revised in (False, True):
            _session_check(rule, f"{what} (revision {2 if revised else 1})", make, revised)
        return make

    return noted


def in_second(rule: str, what: str) -> Callable[[Made], Made]:
    """The same, in the second revision only."""

    def noted(make: Made) -> Made:
        _session_check(rule, what, make, revised=True)
        return make

    return noted


def _session_check(rule: str, what: str, make: Made, revised: bool) -> None:
    @PEER(rule, what)
    async def in_session(stage: PeerStage) -> None:
        end = await (await stage.standing()).session(revised=revised)
        try:
            await make(end)
        finally:
            await over(end)


async def came_back_once(end: Called, count: int) -> None:
    """The same where messages were sent more than once.

    Raises:
        Fault: they did not; whatever it shows in, as in what is acknowledged.
    """
    try:
        await came_back(end, count)
        end.put([PING, 17])
        await end.until(PONG, "`pong`")
    except Fault as fault:
        told = str(fault).partition(" (R")[0]
        raise Fault(f"what comes twice is not taken once: {told}") from None
    if end.received > count:
        raise Fault(f"what comes twice is taken twice: {end.received} messages of {count} are back")


async def over(end: Called) -> None:
    """End a session, so that nobody looks for its next path; a side that does not hear of it has
    failed already."""
    if not end.path.over:
        end.put([ABORT, "refused", "the check is over"])
        with contextlib.suppress(Fault):
            await end.path.closed("behind an abort", _FAREWELL)


async def came_back(end: Called, count: int) -> None:
    """So many messages must have come back, each once and in order.

    Raises:
        Fault: they did not.
    """
    if await end.messages(count) != end.sent[:count]:
        raise Fault("what came back is not what was sent, in its order")
