"""Which letters are in the cluster's stream, and for whom, as one node has heard of it.

PURE: what is said in the stream goes in, in its order. Every node hears the same, so that all count
the same; the letters themselves stay in the stream. Numbers are those of the stream, times are Unix
time by the clock of NATS.
"""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from relay.mailbox import Ledger, Quotas, Waiting

__all__ = ["BOX_LASTS", "Box", "Index", "InStream", "Name"]

BOX_LASTS = 90 * 86_400
"""Seconds after which it is forgotten who may leave letters for a peer that has not said it again:
peers do so with each connection, and each week."""


class Name(NamedTuple):
    """What a letter is known by."""

    recipient: str
    sender: str
    id: bytes


@dataclass(frozen=True, slots=True)
class InStream:
    """A letter that waits."""

    number: int
    name: Name
    service: str
    came: float
    expires: float
    digest: bytes
    """Of what is in the stream under that number."""
    counted: Waiting


@dataclass(frozen=True, slots=True)
class Box:
    """A peer takes letters, or has said that it takes none."""

    number: int
    """What it has said is in the stream under this number."""
    network: str
    digest: bytes
    expires: float


class Index:
    """All that one stream has. What is heard of it must come in its order."""

    def __init__(self, quotas: Quotas) -> None:
        self.ledger = Ledger(quotas)
        self.boxes: dict[str, Box] = {}
        self.expired: list[str] = []
        """The recipients of letters that were dropped as their time was over."""
        self._letters: dict[str, dict[int, InStream]] = {}
        self._numbers: dict[Name, int] = {}
        self._ends: list[tuple[float, str, int]] = []
        """When which letter of whom ends; number 0: the box."""

    @property
    def ends(self) -> int:
        """How many ends are remembered, those of what has gone before its time too."""
        return len(self._ends)

    def put(self, letter: InStream) -> None:
        """A letter is in the stream; another one of its name is not any more."""
        self.drop(letter.name)
        recipient = letter.name.recipient
        self._letters.setdefault(recipient, {})[letter.number] = letter
        self._numbers[letter.name] = letter.number
        self._end(letter.expires, recipient, letter.number)
        self.ledger.add(letter.counted)
        self.ledger.commit()

    def drop(self, name: Name, before: int | None = None) -> InStream | None:
        """A letter is not in the stream any more; `before`: where its number is below."""
        number = self._numbers.get(name)
        if number is None or (before is not None and number >= before):
            return None
        del self._numbers[name]
        of_recipient = self._letters[name.recipient]
        letter = of_recipient.pop(number)
        if not of_recipient:
            del self._letters[name.recipient]
        self.ledger.remove(letter.counted)
        self.ledger.commit()
        return letter

    def put_box(self, guid: str, box: Box) -> None:
        """A peer has said who may leave it letters."""
        self.drop_box(guid)
        self.boxes[guid] = box
        self._end(box.expires, guid, 0)
        self.ledger.count_box(box.network, 1)

    def drop_box(self, guid: str) -> None:
        """Nothing is known of that any more."""
        box = self.boxes.pop(guid, None)
        if box is not None:
            self.ledger.count_box(box.network, -1)

    def find(self, name: Name) -> InStream | None:
        """Return a letter by its name."""
        number = self._numbers.get(name)
        return None if number is None else self._letters[name.recipient][number]

    def get(self, guid: str, number: int) -> InStream | None:
        """Return a letter of a recipient."""
        return self._letters.get(guid, {}).get(number)

    def after(self, guid: str, number: int, now: float) -> Iterator[InStream]:
        """Return the letters of a peer behind a number, in order."""
        for letter in list(self._letters.get(guid, {}).values()):
            if letter.number > number and letter.expires > now:
                yield letter

    def of(self, guid: str) -> list[InStream]:
        """Return all letters to a peer, and from it."""
        to = list(self._letters.get(guid, {}).values())
        return to + [
            one
            for letters in self._letters.values()
            for one in letters.values()
            if one.name.sender == guid and one.name.recipient != guid
        ]

    def _end(self, when: float, guid: str, number: int) -> None:
        heapq.heappush(self._ends, (when, guid, number))
        if len(self._ends) > 2 * (len(self._numbers) + len(self.boxes)) + 64:
            # Most of it is of what has gone before its time.
            self._ends = [
                (one.expires, guid, one.number)
                for guid, letters in self._letters.items()
                for one in letters.values()
            ] + [(box.expires, guid, 0) for guid, box in self.boxes.items()]
            heapq.heapify(self._ends)

    def time(self, now: float) -> None:
        """Drop what has expired: in the stream it is gone by itself."""
        while self._ends and self._ends[0][0] <= now:
            _, guid, number = heapq.heappop(self._ends)
            if number:
                letter = self.get(guid, number)
                if letter is not None:
                    self.drop(letter.name)
                    self.expired.append(guid)
            elif (box := self.boxes.get(guid)) is not None and box.expires <= now:
                self.drop_box(guid)
