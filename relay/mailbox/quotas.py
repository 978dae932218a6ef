"""How much of the mailbox whose letters may take: by recipient, by sender, by network, in all.

PURE: letters that come and go are told, and what there is no room for is refused. Nothing that was
taken gives way to another letter: what a sender was told is stored stays so.

What is done since `commit` can be undone by `rollback`, as a transaction of the store is.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from protocol.errors import Code
from relay.config import MailboxConfig

__all__ = ["Bound", "Ledger", "NoRoom", "Quotas", "Waiting"]

OVERHEAD = 512
"""Bytes that a letter counts for beside its own: its row, and its place in the indexes."""


class Bound(NamedTuple):
    """So much at most."""

    letters: int
    size: int
    """Bytes."""

    def part(self, numerator: int, denominator: int) -> "Bound":
        """Return a share of it, one letter of any size at least."""
        return Bound(
            max(1, self.letters * numerator // denominator),
            max(65_536, self.size * numerator // denominator),
        )


@dataclass(frozen=True, slots=True)
class Quotas:
    """What the operator allows."""

    recipient: Bound
    """What may wait for one peer."""
    in_all: Bound
    boxes: int = 100_000
    """Peers that letters may be left for; one network has half of them."""

    @classmethod
    def of(cls, config: MailboxConfig) -> "Quotas":
        """Return those that are configured."""
        return cls(
            Bound(config.max_letters_per_peer, config.bytes_per_peer),
            Bound(config.max_letters, config.bytes_in_all),
        )

    @property
    def sender(self) -> Bound:
        """What one peer may have waiting, for all recipients together: as much as one recipient
        may have twice, and no more than a sixteenth of all."""
        most, all_ = self.recipient, self.in_all.part(1, 16)
        return Bound(min(2 * most.letters, all_.letters), min(2 * most.size, all_.size))


class Waiting(NamedTuple):
    """A letter that waits, or wants to."""

    recipient: str
    sender: str
    wide: str
    network: str
    """Where the sender came from, as in `relay.limits.Cause`."""
    size: int
    """Bytes, sealed."""
    is_stranger: bool
    """Whether the recipient takes it from anyone, and has not named the sender."""


class NoRoom(NamedTuple):
    """Why a letter is not taken."""

    code: Code
    reason: str
    what: str
    """Whose share is used up: a metric's label."""


_Key = tuple[str, ...]


class _Used:
    __slots__ = ("letters", "size")

    def __init__(self) -> None:
        self.letters = self.size = 0


class Ledger:
    """All letters of one mailbox, counted. It holds one entry for each sender, recipient and
    network that has a letter waiting, and so no more than there are letters."""

    def __init__(self, quotas: Quotas) -> None:
        self._quotas = quotas
        self._used: dict[_Key, _Used] = {}
        self._boxes: dict[str, int] = {}
        self._journal: list[tuple[Waiting, int]] = []
        self._journal_of_boxes: list[tuple[str, int]] = []

    @property
    def letters(self) -> int:
        """How many wait."""
        return self._of(("all",)).letters

    @property
    def size(self) -> int:
        """Their bytes, with what each takes beside them."""
        return self._of(("all",)).size

    @property
    def boxes(self) -> int:
        """Peers that letters may be left for."""
        return self._boxes.get("", 0)

    def waiting(self, recipient: str) -> int:
        """Return how many letters wait for a peer."""
        return self._of(("to", recipient)).letters

    def is_empty(self) -> bool:
        """Whether nothing is counted any more: all that was taken was given back."""
        return not self._used and not self._boxes

    def refusal(self, letter: Waiting) -> NoRoom | None:
        """Return why there is no room for a letter; None where there is."""
        for key, bound, room in self._bounds(letter):
            used = self._of(key)
            if used.letters + 1 > bound.letters or used.size + _weight(letter) > bound.size:
                return room
        return None

    def load(self, alike: Waiting, letters: int, size: int) -> None:
        """So many letters of one sender to one recipient have waited before: their bytes are told,
        not each of them."""
        self._count(alike, letters, size + letters * OVERHEAD)

    def add(self, letter: Waiting) -> None:
        """A letter waits from now on."""
        self._count(letter, 1, _weight(letter))
        self._journal.append((letter, 1))

    def remove(self, letter: Waiting) -> None:
        """A letter waits no more."""
        self._count(letter, -1, -_weight(letter))
        self._journal.append((letter, -1))

    def has_room_for_box(self, network: str) -> bool:
        """Whether a peer more of a network may take letters."""
        most = self._quotas.boxes
        return self.boxes < most and self._boxes.get(network or "?", 0) < max(1, most // 2)

    def add_box(self, network: str) -> bool:
        """A peer of a network takes letters from now on; False where there are too many."""
        if not self.has_room_for_box(network):
            return False
        self.count_box(network, 1)
        self._journal_of_boxes.append((network, 1))
        return True

    def remove_box(self, network: str) -> None:
        """It takes none any more."""
        self.count_box(network, -1)
        self._journal_of_boxes.append((network, -1))

    def commit(self) -> None:
        """What was done holds."""
        self._journal.clear()
        self._journal_of_boxes.clear()

    def rollback(self) -> None:
        """Undo what was done since `commit`."""
        for letter, change in self._journal:
            self._count(letter, -change, -change * _weight(letter))
        for network, change in self._journal_of_boxes:
            self.count_box(network, -change)
        self.commit()

    def _bounds(self, letter: Waiting) -> Iterator[tuple[_Key, Bound, NoRoom]]:
        """Every bound that a letter is under, the narrowest first, and what is said at it."""
        quotas, (recipient, sender, wide, network, _, is_stranger) = self._quotas, letter
        box = quotas.recipient
        full = NoRoom(Code.MAILBOX_FULL, "the recipient's mailbox is full", "letters_recipient")
        own = "too many letters of this peer wait for that recipient"
        pair = NoRoom(Code.MAILBOX_FULL, own, "letters_pair")
        yield ("from", sender, recipient), box.part(1, 8 if is_stranger else 2), pair
        if is_stranger:
            yield ("near", network, recipient), box.part(1, 4), full
            yield ("strangers", recipient), box.part(1, 2), full
        yield ("to", recipient), box, full
        waits = "too many letters of this peer wait"
        yield ("from", sender), quotas.sender, NoRoom(Code.LIMIT_EXCEEDED, waits, "letters_sender")
        waits = "too many letters wait that have come from this peer's network"
        share = NoRoom(Code.LIMIT_EXCEEDED, waits, "letters_network")
        yield ("network", network), quotas.in_all.part(1, 2), share
        yield ("wide", wide), quotas.in_all.part(3, 4), share
        said = "the relay keeps no more letters now"
        yield ("all",), quotas.in_all, NoRoom(Code.MAILBOX_FULL, said, "letters_all")

    def _count(self, letter: Waiting, letters: int, size: int) -> None:
        keys: list[_Key] = [
            ("from", letter.sender, letter.recipient),
            ("to", letter.recipient),
            ("from", letter.sender),
            ("network", letter.network),
            ("wide", letter.wide),
            ("all",),
        ]
        if letter.is_stranger:
            keys += [("near", letter.network, letter.recipient), ("strangers", letter.recipient)]
        for key in keys:
            used = self._used.setdefault(key, _Used())
            used.letters += letters
            used.size += size
            if not used.letters:
                del self._used[key]

    def count_box(self, network: str, change: int) -> None:
        """So many peers more of a network take letters, and others have decided so: for good."""
        for key in ("", network or "?"):
            self._boxes[key] = self._boxes.get(key, 0) + change
            if not self._boxes[key]:
                del self._boxes[key]

    def _of(self, key: _Key) -> _Used:
        return self._used.get(key, _NOTHING)


_NOTHING = _Used()


def _weight(letter: Waiting) -> int:
    return letter.size + OVERHEAD
