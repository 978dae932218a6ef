"""What a relay's refusal is, and whether it ends the registration: decided here alone.

Rule 1: nothing that is said before `challenge` is final. Whoever stands in the way may have said
it: a captive portal, a proxy that strips the upgrade, another program at the relay's address.
Rule 2: a registration that has worked, or that is to be waited for, ends on what `FINAL` names: a
newer program has the name, or the relay does not admit this peer and does not say when to come
back. Everything else passes: the relay is replaced, the clock is set right, the proxy goes away.
Rule 3: one that has never worked ends on what another attempt cannot mend (`FINAL_AT_FIRST`), so
that a program with a fault of its own hears of it at once.
Rule 4: who is told when to come back waits so long, within a bound; a stranger's word has the bound
of the longest pause there is anyway.

How long a flow pauses is decided in `peers.control.reconnect`.
"""

from dataclasses import dataclass
from enum import Enum

from protocol.errors import Code, RelayUnavailable, RoamRelayError, Superseded, WrongIdentity
from protocol.messages import Error

__all__ = [
    "FINAL",
    "FINAL_AT_FIRST",
    "LONGEST_RETRY",
    "PASSES",
    "REFUSES_RECORD",
    "Judgement",
    "Phase",
    "StaleRecord",
    "judge",
    "refusal",
    "unproven",
]


class Phase(Enum):
    """How far a connection to the relay had come when it ended."""

    UNPROVEN = "before the challenge"
    """Nobody has proven to be the relay."""
    HANDSHAKE = "in the handshake"
    """The relay has, and has not registered this peer yet."""
    REGISTERED = "registered"


_FOR_GOOD = frozenset({Code.SUPERSEDED, Code.NOT_ADMITTED})
_OWN_FAULT = frozenset(
    {
        Code.BAD_MESSAGE,
        Code.MESSAGE_TOO_LARGE,
        Code.UNEXPECTED_MESSAGE,
        Code.VERSION_UNSUPPORTED,
        Code.BAD_GUID,
        Code.BAD_SIGNATURE,
    }
)
FINAL: dict[Phase, frozenset[Code]] = {
    Phase.UNPROVEN: frozenset(),
    Phase.HANDSHAKE: _FOR_GOOD,
    Phase.REGISTERED: _FOR_GOOD,
}
"""Codes that end every registration. `not_admitted` with `retry_after` does not."""
FINAL_AT_FIRST: dict[Phase, frozenset[Code]] = {
    Phase.UNPROVEN: frozenset(),
    Phase.HANDSHAKE: _FOR_GOOD | _OWN_FAULT,
    Phase.REGISTERED: _FOR_GOOD,
}
"""Codes that end a registration that has never worked and is not waited for."""
REFUSES_RECORD = frozenset({Code.BAD_MESSAGE, Code.MESSAGE_TOO_LARGE})
"""What a relay says in the handshake to a record that it cannot take."""
LONGEST_RETRY: dict[Phase, float] = {
    Phase.UNPROVEN: 30.0,
    Phase.HANDSHAKE: 600.0,
    Phase.REGISTERED: 600.0,
}
"""Seconds for which a peer stays away at most because it was told to."""


class StaleRecord(RelayUnavailable):
    """The relay knows a newer record; `known` is its number, None where it does not say."""

    def __init__(self, reason: str, known: int | None) -> None:
        super().__init__(reason, code=Code.STALE_SEQUENCE)
        self.known = known


@dataclass(frozen=True, slots=True)
class Judgement:
    """What comes of an error that ended an attempt or a connection."""

    final: bool = False
    """Whether the registration ends by it."""
    retry_after: float | None = None
    """Seconds to stay away, because the relay has said so."""


PASSES = Judgement()
"""Another attempt may mend it."""


def refusal(said: Error) -> RelayUnavailable:
    """Return the exception for what a relay that has proven itself has said."""
    match said.code:
        case Code.SUPERSEDED:
            return Superseded(said.reason)
        case Code.STALE_SEQUENCE:
            return StaleRecord(said.reason, said.seq)
        case code:
            return RelayUnavailable(said.reason, code=code, retry_after=said.retry_after)


def unproven(error: RoamRelayError) -> RoamRelayError:
    """Return what is told of an error before the challenge: whoever has said it cannot know whether
    this peer is superseded or admitted, and a program may act on such a code."""
    if error.code not in _FOR_GOOD:
        return error
    return RelayUnavailable(f"{error.reason} (from who has not proven to be the relay)")


def judge(error: RoamRelayError, phase: Phase, *, kept: bool) -> Judgement:
    """Judge what ended an attempt or a connection. `kept` says that the registration has worked, or
    is to be waited for."""
    after = error.retry_after if isinstance(error, RelayUnavailable) else None
    if _is_final(error, phase, after, kept=kept):
        return Judgement(final=True)
    return Judgement(retry_after=None if after is None else _bounded(after, phase))


def _is_final(
    error: RoamRelayError, phase: Phase, retry_after: float | None, *, kept: bool
) -> bool:
    if isinstance(error, WrongIdentity):
        # Another relay has proven who it is. That may be a fault of the configuration.
        return not kept
    if error.code is Code.NOT_ADMITTED and retry_after is not None:
        return False
    return error.code in (FINAL if kept else FINAL_AT_FIRST)[phase]


def _bounded(seconds: float, phase: Phase) -> float:
    # In this order, what is no number (NaN) becomes 0.
    return min(max(0.0, seconds), LONGEST_RETRY[phase])
