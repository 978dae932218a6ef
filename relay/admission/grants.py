"""What is asked at the door for peers, and what may be answered.

Pure: values and how they fit together; who answers is elsewhere.
"""

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from protocol.errors import Code
from protocol.invitation import Invitation
from protocol.messages import Mode

__all__ = ["PATIENCE", "Admit", "Applicant", "Grant", "Outcome", "Refusal"]

PATIENCE = 600.0
"""Seconds after which a peer that is refused for where it is, or for now, may ask again: it tries
slowly, and at once after it has moved."""


class Outcome(StrEnum):
    """What came of asking, as the metrics count it."""

    GRANTED = "granted"
    BANNED = "banned"
    NOT_LISTED = "not_listed"
    """No invitation was shown, and the list does not have it."""
    FORGED = "forged"
    """An invitation that no operator of this relay has made for this peer."""
    EXPIRED = "expired"
    USED_UP = "used_up"
    REVOKED = "revoked"
    REFUSED = "refused"
    """By the program."""
    FAILED = "failed"
    """Nobody could decide: the program's function has raised, or the store did not answer."""
    TIMED_OUT = "timed_out"
    BUSY = "busy"
    """Too many wait to be decided."""


@dataclass(frozen=True, slots=True)
class Applicant:
    """Who has proven a key and asks to be admitted."""

    guid: str
    host: str
    """The source address."""
    network: str
    """The network that it is counted for: /32, or /64 of IPv6."""
    wide: str
    """The one around it."""
    invitation: Invitation | None = None
    """It is signed by an operator and was made for nobody else; whether it is still good, is not
    decided yet."""


@dataclass(frozen=True, slots=True)
class Grant:
    """A peer is admitted.

    Raises:
        ValueError: a value cannot be meant.
    """

    lifetime: float | None = None
    """Seconds; then the question is asked again. None: until it is revoked."""
    modes: Collection[Mode | str] | None = None
    """What it may ask for; None: every mode."""
    requests_per_second: float | None = None
    """Its service requests, sustained; the burst is in proportion. None: as everybody's."""

    def __post_init__(self) -> None:
        if self.lifetime is not None and not self.lifetime > 0:
            raise ValueError(f"lifetime: not above 0: {self.lifetime!r}")
        if self.requests_per_second is not None and not self.requests_per_second > 0:
            raise ValueError(f"requests_per_second: not above 0: {self.requests_per_second!r}")
        if self.modes is not None:
            object.__setattr__(self, "modes", frozenset(Mode(mode) for mode in self.modes))

    def allows(self, mode: Mode) -> bool:
        """Whether the peer may ask for a session in a mode."""
        return self.modes is None or mode in self.modes


@dataclass(frozen=True, slots=True)
class Refusal:
    """A peer is not admitted. Without `retry_after` a `NOT_ADMITTED` is for good."""

    reason: str
    """For who is refused."""
    retry_after: float | None = None
    """Seconds after which it may ask again."""
    code: Code = Code.NOT_ADMITTED
    outcome: Outcome = Outcome.REFUSED


Admit: TypeAlias = Callable[[str, str, Invitation | None], Awaitable[Grant | Refusal]]
"""The program's own: a peer's GUID, its network (`192.0.2.7/32`, `2001:db8::/64`) and what it was
invited with. Whatever it raises, and whatever else it returns, admits nobody."""
