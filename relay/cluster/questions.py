"""What peers of this node have asked of peers at other nodes, and was not answered yet: the table.

What is asked and answered is said in `cluster.py`.
"""

from dataclasses import dataclass
from itertools import count

from relay.backplane import Question

__all__ = ["Questions", "Waiting"]

_NUMBERS = 2**32 - 1


@dataclass(slots=True, eq=False)
class Waiting:
    """One of them."""

    question: Question
    number: int
    node: str
    """The node that it was sent to last."""
    deadline: float
    tries: int = 1
    """Nodes that it was sent to."""


class Questions:
    """All of them. They are numbered from `first` on."""

    def __init__(self, first: int) -> None:
        self._numbers = count(first)
        self._waiting: dict[int, Waiting] = {}
        self._of_peer: dict[str, list[Waiting]] = {}
        self._number_of: dict[Question, int] = {}

    def add(self, question: Question, node: str, deadline: float) -> Waiting:
        """Note one that is sent to a node, under a number that no other one has."""
        number = next(self._numbers) & _NUMBERS
        while number in self._waiting:
            number = next(self._numbers) & _NUMBERS
        waiting = Waiting(question, number, node, deadline)
        self._waiting[number] = waiting
        self._of_peer.setdefault(question.request.guid, []).append(waiting)
        self._number_of[question] = number
        return waiting

    def get(self, number: int) -> Waiting | None:
        """Return the one with a number."""
        return self._waiting.get(number)

    def all(self) -> list[Waiting]:
        """Return all."""
        return list(self._waiting.values())

    def of(self, guid: str) -> list[Waiting]:
        """Return those that a peer is to answer."""
        return list(self._of_peer.get(guid, ()))

    def at(self, node: str) -> list[Waiting]:
        """Return those that were sent to a node."""
        return [one for one in self._waiting.values() if one.node == node]

    def overdue(self, now: float) -> list[Waiting]:
        """Return those whose time is over."""
        return [one for one in self._waiting.values() if one.deadline <= now]

    def drop(self, question: Question) -> None:
        """Nobody waits for the answer any more."""
        number = self._number_of.get(question)
        if number is not None:
            self.remove(self._waiting[number])

    def remove(self, waiting: Waiting) -> bool:
        """It is over; return False where it was before."""
        if self._waiting.pop(waiting.number, None) is None:
            return False
        del self._number_of[waiting.question]
        guid = waiting.question.request.guid
        self._of_peer[guid].remove(waiting)
        if not self._of_peer[guid]:
            del self._of_peer[guid]
        return True
