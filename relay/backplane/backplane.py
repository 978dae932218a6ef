"""What a relay needs of the others of its cluster, in the relay's own words: at which of them a
peer is, that one has come or gone, and asking there. Where it is alone there is nobody else.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from protocol.messages import RelayNode, ServiceRequestTo, ServiceResponse
from relay.backplane.events import CameElsewhere, Outranked, PeerHere, WentElsewhere
from relay.backplane.messages import Asked, Claim

__all__ = ["ALONE", "Alone", "AskedHere", "Backplane", "News", "Question"]


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """A service request to a peer that may be at another node."""

    caller: str
    host: str
    """Where the caller is observed; empty where that is not known."""
    request: ServiceRequestTo
    answered: Callable[[ServiceResponse], None]
    """Called once with what came of it, with whatever number; not where it was dropped."""
    ticket: str | None = None
    """Of a plane that is made here already: the leg of the peer that is asked."""
    port: int = 0
    """At which the caller is observed; 0 where that is not known."""
    offers: bool = False
    """Whether the caller knows of offers."""


@dataclass(frozen=True, slots=True)
class AskedHere:
    """Another node has a request to a peer of this one."""

    asked: Asked
    answer: Callable[[ServiceResponse], None]
    """To be called once."""


News: TypeAlias = Outranked | CameElsewhere | WentElsewhere | AskedHere


class Backplane(Protocol):
    """What joins this relay to the others of its cluster."""

    @property
    def names(self) -> bool:
        """Whether others are told what the zone shows of a peer."""

    def home(self, guid: str) -> Claim | None:
        """Return where a peer is registered, if that is at another node."""

    def url_of(self, node: str) -> str:
        """Return where peers reach another node; empty where that is not known."""

    def nodes(self) -> tuple[RelayNode, ...]:
        """Return where peers reach each node that they may come to, this one first where it is one
        of them; none where nodes have no address of their own."""

    def refusal(self, now: float) -> str | None:
        """Return why nothing can be said of peers at other nodes now; None where it can be."""

    def came(self, peer: PeerHere) -> None:
        """A peer is registered here, or its record here has changed: announce it."""

    def went(self, gone: WentElsewhere) -> None:
        """A peer is not registered here any more: withdraw it."""

    def ask(self, question: Question, now: float) -> bool:
        """Ask the home of a peer that is not here. False where it has none: nobody is asked, and
        this relay says what it knows."""

    def drop(self, question: Question) -> None:
        """Nobody waits for the answer any more; nothing happens where it has come."""


class Alone:
    """A relay without a cluster: nobody is anywhere else."""

    names = False

    def home(self, guid: str) -> Claim | None:
        return None

    def url_of(self, node: str) -> str:
        return ""

    def nodes(self) -> tuple[RelayNode, ...]:
        return ()

    def refusal(self, now: float) -> str | None:
        return None

    def came(self, peer: PeerHere) -> None:
        return

    def went(self, gone: WentElsewhere) -> None:
        return

    def ask(self, question: Question, now: float) -> bool:
        return False

    def drop(self, question: Question) -> None:
        return


ALONE = Alone()
