"""PURE. The numbers of a conversation: what is to be sent, what has arrived, what is missing.

Both directions are alike, and neither knows of the other. A sender's numbers go on for as long as
its store lives; each time the store is opened they go on in another *line*, so that a number of a
line is given once even where a store comes back from an old copy. Here is what both sides decide by
their numbers; what is kept, and how, is in the store.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from protocol.conversation import Acknowledged, Announced, Part
from protocol.errors import ProtocolViolation

__all__ = [
    "BATCH",
    "Announce",
    "Break",
    "Breach",
    "Line",
    "Queue",
    "Received",
    "Sender",
    "Transmit",
    "adopt",
    "fits",
    "later",
    "missed",
    "new_items",
]

BATCH = 64
"""Numbers that are taken out of the store at once."""

_LAST_EPOCH = 2**53 - 2
"""One that a forger has named; from then on what expires in letters is told less surely."""


class Break(StrEnum):
    """How the numbers of both sides can be out of step."""

    LOST = "lost"
    """Messages that were safe in the recipient's store are not there any more: it is a new one, or
    an old copy."""
    BEGAN_AGAIN = "began_again"
    """The recipient has numbers that the sender's store has never given: that one is new, or an old
    copy."""


@dataclass(frozen=True, slots=True)
class Breach:
    """The numbers were out of step, and go on all the same; both sides notice."""

    kind: Break
    count: int
    """How many numbers it is about."""


# -- the recipient ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Received:
    """What a recipient has of one line."""

    received: int
    before: int | None = None
    """What it had when the line came out of step with that; None where it did not, and once the
    sender has said anything after it."""


def adopt(current: int, known: Received | None, line: Announced) -> tuple[Received, Breach | None]:
    """Return what a recipient has of a line that is announced, and in what way that is out of step.

    `current` is the last number that has arrived, of whichever line; `known` what it has of this
    one, None where it has never heard of it.
    """
    if known is not None:
        if known.received >= line.first - 1:
            return known, None
        breach = Breach(Break.LOST, line.first - 1 - known.received)
        return Received(line.first - 1, known.received), breach
    begins = line.first - 1
    if begins > current:
        return Received(begins, current), Breach(Break.LOST, begins - current)
    if begins < current:
        return Received(begins, current), Breach(Break.BEGAN_AGAIN, current - begins)
    return Received(begins), None


def new_items(known: Received | None, first: int, count: int) -> int:
    """Return how many of `count` items, numbered from `first` on, have arrived before.

    Raises:
        ProtocolViolation: the line was not announced, or numbers are missing.
    """
    if known is None:
        raise ProtocolViolation("messages of a line that was not announced")
    if first > known.received + 1:
        raise ProtocolViolation(f"number {known.received + 1} is missing before {first}")
    return min(known.received + 1 - first, count)


def fits(
    known: Received | None, follows: Received | None, current: int, part: Part
) -> tuple[Received, Breach | None] | None:
    """Return what a recipient has of the line of a letter before it takes what is in it, and in
    what way that is out of step; None where something before it is missing, and may come yet.

    `known` is what it has of that line, `follows` of the one before, `current` the last number that
    has arrived, of whichever line.
    """
    if known is None and part.follows is not None:
        if follows is None or follows.received < part.begins:
            return None
        state, breach = Received(part.begins), None
    else:
        state, breach = adopt(current, known, Announced(part.line, part.begins + 1))
    if part.items and part.first > state.received + 1:
        return None
    return state, breach


# -- the sender ---------------------------------------------------------------------------------


@dataclass(slots=True)
class Line:
    """The numbers that one opening of the sender's store has given."""

    id: bytes
    base: int
    """The number before its first one."""
    last: int
    """Its last one."""


class Queue:
    """The numbers that are not settled, oldest line first: each is to be sent until the other side
    says that it is safe there, or has nothing to be sent any more, which is said too."""

    def __init__(self, lines: Iterable[Line] = (), settled: int = 0) -> None:
        self._lines = [line for line in lines if line.last > settled]
        self.settled = settled
        """All numbers up to this one are settled."""

    def __len__(self) -> int:
        return self._lines[-1].last - self.settled if self._lines else 0

    @property
    def last(self) -> int:
        """The last number that was given."""
        return self._lines[-1].last if self._lines else self.settled

    @property
    def oldest(self) -> Line | None:
        """The line to go on with; None where nothing is left."""
        return self._lines[0] if self._lines else None

    def line(self, name: bytes) -> Line | None:
        """Return the line of this name; None where nothing of it is left."""
        return next((line for line in self._lines if line.id == name), None)

    def add(self, line: bytes, number: int) -> None:
        """A number was given, in this line; of several it may be told of a later one first."""
        if self._lines and (newest := self._lines[-1]).id == line:
            newest.base, newest.last = min(newest.base, number - 1), max(newest.last, number)
        elif number > self.settled:
            self._lines.append(Line(line, number - 1, number))

    def settle(self, number: int) -> None:
        """All numbers up to this one are settled."""
        self.settled = max(self.settled, number)
        self._lines = [line for line in self._lines if line.last > self.settled]


@dataclass(frozen=True, slots=True)
class Announce:
    """Say that this line follows, and wait for the answer."""

    frame: Announced


@dataclass(frozen=True, slots=True)
class Transmit:
    """Send these numbers."""

    line: bytes
    first: int
    count: int


def later(epoch: int) -> int:
    """Return the epoch after this one. A sender's are even, so that a recipient can name one after
    what it has heard of: all letters up to that are void, and those of the next epoch are not."""
    return min(epoch + 2 - epoch % 2, _LAST_EPOCH)


class Sender:
    """What leaves on one session. It asks what the other side has of a line before anything of that
    line leaves, as nothing else says what was lost with the session before."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._asked: Announced | None = None
        """The line that was announced last on this session."""
        self._is_answered = False
        self._next = 0
        """The next number to be sent."""
        self._most = 0
        """The last one for which the other side has room."""

    def next(self) -> Announce | Transmit | None:
        """Return what is to be done next, once; None where nothing can be done."""
        line = self._queue.oldest
        if line is None:
            return None
        if self._asked is None or self._asked.line != line.id:
            first = max(line.base, self._queue.settled) + 1
            self._asked, self._is_answered = Announced(line.id, first), False
            return Announce(self._asked)
        count = min(line.last, self._most, self._next + BATCH - 1) - self._next + 1
        if not self._is_answered or count < 1:
            return None
        self._next += count
        return Transmit(line.id, self._next - count, count)

    def acknowledged(self, frame: Acknowledged) -> int | None:
        """Take the other side's word; return the number up to which all is settled by it, None
        where it says nothing of what goes on here."""
        if self._asked is None or frame.line != self._asked.line:
            return None
        line = self._queue.oldest
        ours = line is not None and line.id == frame.line
        # More than the last one: it is from before an old copy of this store was made.
        received = min(frame.received, line.last if line is not None and ours else frame.received)
        if not self._is_answered:
            self._is_answered, self._next = True, self._asked.first
        self._next = max(self._next, received + 1)
        self._most = max(self._most, frame.received + frame.room)
        return received if ours else None

    @property
    def is_free(self) -> bool:
        """Whether the next number would leave at once."""
        return self._is_answered and self._queue.last < self._next <= self._most

    @property
    def asked(self) -> Announced | None:
        """The line that was announced last, while its answer is to come."""
        return None if self._is_answered else self._asked


def missed(asked: Announced, frame: Acknowledged) -> Breach | None:
    """Return how a recipient is out of step with a line that was announced to it, by its answer."""
    if frame.before < asked.first - 1:
        return Breach(Break.LOST, asked.first - 1 - frame.before)
    if frame.before > frame.received:
        return Breach(Break.BEGAN_AGAIN, frame.before - frame.received)
    return None
