"""What leaves in letters, and what they bring: the statements for it, within one transaction each.

A letter has the messages of one line, and says where they begin. All letters of an *epoch* can be
taken; when a session begins, or the other side misses something, they are void and another epoch
begins: what is not settled leaves again. So no message is taken any more of which its sender was
told that it had not come (docs/protocol.md, R17.24 to R17.33).
"""

import hashlib
import math
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from peers.conversations import tables
from peers.conversations.numbers import Breach, Break, Line, Received, fits, later, new_items
from peers.conversations.tables import MessageState
from protocol.conversation import (
    Answer,
    Enclosed,
    Item,
    Letter,
    Part,
    Receipt,
    pack_enclosed,
    pack_item,
)

__all__ = ["AHEAD", "Brought", "Leaving", "bring", "compose", "heard", "left", "owed", "stamp"]

AHEAD = 1_000
"""Numbers that may be in letters before the other side has said that it has any of them."""
_LINES = 512
"""Lines that may be in letters: fewer than a recipient remembers."""
_BYTES = 60_000
"""Of the items in one letter: with all around them they fit into it."""
_ITEMS = 256
_LIFETIME = 30 * 86_400.0
"""Seconds for which a letter is to be kept, where nothing in it expires."""


@dataclass(frozen=True, slots=True)
class Leaving:
    """A letter that is to be left."""

    id: bytes
    """The same for the same letter: left twice, it is one."""
    payload: bytes
    lifetime: float
    """Seconds."""
    epoch: int
    last: int
    """The last number in it; 0 where it has none."""
    answers: int
    """How many letters it answers."""
    missed: int
    question: int
    """The number that is asked about, where it brings none; else 0."""


@dataclass(slots=True)
class Brought:
    """What a letter has changed."""

    came: int = 0
    """Messages in the inbox."""
    settled: int = 0
    """All numbers up to this one, of what was sent here, are settled."""
    owes: int = 0
    """Letters that are not answered."""
    weight: int = 0
    """Bytes that wait to be sent."""
    changed: list[bytes] = field(default_factory=list)
    """Messages that were sent here."""
    breaches: list[Breach] = field(default_factory=list)
    is_newer: bool = False
    """Whether it is the first of another epoch."""


@dataclass(slots=True)
class _Post:
    """What is kept of the letters of a conversation."""

    settled: int
    last: int
    gone: int
    current: int
    epoch: int
    posted: int
    """Numbers up to this one may be in a letter of the epoch."""
    lettered: int
    """Numbers up to this one are in letters that the relay has taken."""
    void_at: float | None
    """When the first of them is not kept any more, in seconds since 1970."""
    sessioned: bool
    """Whether a session has carried something since the epoch began."""
    fence: int
    """Letters of the other side of an earlier epoch are void."""
    owes: int
    """Letters that are not answered."""
    missed: int


def _post(db: sqlite3.Cursor, conversation: int) -> _Post:
    db.execute(
        "SELECT settled, last, gone, current, epoch, posted, lettered, void_at, sessioned, "
        "fence, owes, missed FROM roam_conversation WHERE id = ?",
        (conversation,),
    )
    return _Post(*db.fetchone())


def _begin(db: sqlite3.Cursor, conversation: int, post: _Post, epoch: int) -> None:
    """Another epoch: what is in letters leaves again."""
    post.epoch, post.posted, post.lettered, post.void_at = epoch, 0, 0, None
    db.execute(
        "UPDATE roam_conversation SET epoch = ?, posted = 0, lettered = 0, void_at = NULL "
        "WHERE id = ?",
        (epoch, conversation),
    )
    db.execute(
        "UPDATE roam_outgoing SET state = 'queued' WHERE conversation = ? AND state = 'stored'",
        (conversation,),
    )


# -- what leaves --------------------------------------------------------------------------------


def owed(db: sqlite3.Cursor, conversation: int) -> int:
    """Return how many letters are not answered."""
    return _post(db, conversation).owes


def stamp(db: sqlite3.Cursor, conversation: int) -> int:
    """A session begins: return the epoch that its first line names. What may have left before,
    and is not settled, comes by no letter any more once the other side has heard of that."""
    post = _post(db, conversation)
    if post.posted > post.settled:
        _begin(db, conversation, post, later(post.epoch))
    db.execute("UPDATE roam_conversation SET sessioned = 1 WHERE id = ?", (conversation,))
    return post.epoch


def compose(
    db: sqlite3.Cursor, conversation: int, now: float, *, answers: bool, leaves: bool
) -> tuple[Leaving | None, float | None]:
    """Return the next letter, if there is any, and when those that were left are void. `answers`
    says that what came may be acknowledged; `leaves` that this may have left from now on."""
    tables.expire(db, conversation, now)
    post = _post(db, conversation)
    if post.sessioned or (post.void_at is not None and post.void_at <= now):
        # Who answers a letter of this epoch has taken all that a session before it has brought.
        _begin(db, conversation, post, later(post.epoch))
        db.execute("UPDATE roam_conversation SET sessioned = 0 WHERE id = ?", (conversation,))
    part, packed, last, lifetime = _part(db, conversation, post, now)
    if part is not None and not packed and post.posted >= part.first:
        # It may be in a letter still: that one is to be void where the question is answered.
        _begin(db, conversation, post, later(post.epoch))
        part, packed, last, lifetime = _part(db, conversation, post, now)
    answer = _answer(db, conversation, post) if answers else None
    if part is None and not (answers and post.owes):
        return None, post.void_at
    if last and leaves:
        tables.leaves(db, conversation, last)
        db.execute(
            "UPDATE roam_conversation SET posted = max(posted, ?) WHERE id = ?",
            (last, conversation),
        )
    payload = pack_enclosed(Enclosed(post.epoch, post.fence, answer, part))
    leaving = Leaving(
        hashlib.sha256(b"roam-relay letter of a conversation\0" + payload).digest()[:16],
        payload,
        lifetime,
        post.epoch,
        last,
        post.owes if answers else 0,
        post.missed if answers else 0,
        0 if part is None or packed else part.first,
    )
    return leaving, post.void_at


def _answer(db: sqlite3.Cursor, conversation: int, post: _Post) -> Answer | None:
    db.execute(
        "SELECT line, received FROM roam_received JOIN roam_conversation "
        "ON id = conversation AND line = answers WHERE conversation = ?",
        (conversation,),
    )
    row = db.fetchone()
    return None if row is None else Answer(row[0], row[1], post.missed)


def _part(
    db: sqlite3.Cursor, conversation: int, post: _Post, now: float
) -> tuple[Part | None, int, int, float]:
    """Return what is next in a letter, how many items that are, the last number, and seconds."""
    first = max(post.lettered, post.settled) + 1
    row = tables.Row(conversation, "", "", post.last, post.settled, post.gone)
    lines = tables.lines(db, row)[:_LINES]
    at = next((at for at, line in enumerate(lines) if line.last >= first), None)
    if at is None or first > post.settled + AHEAD:
        return None, 0, 0, _LIFETIME
    line = lines[at]
    db.execute(
        "SELECT number, id, state, sent, expires, payload, reason FROM roam_outgoing "
        "WHERE conversation = ? AND number BETWEEN ? AND ? ORDER BY number",
        (conversation, first, min(line.last, post.settled + AHEAD, first + _ITEMS - 1)),
    )
    packed: list[msgspec.Raw] = []
    size, lifetime, last = 0, _LIFETIME, first
    for number, name, state, sent, expires, payload, reason in db:
        item: Item | None = None
        if state == "receipt":
            item = Receipt(name, reason or None)
        elif state in (MessageState.QUEUED, MessageState.STORED):
            item = Letter(name, sent, payload)
            if expires is not None and (packed or expires <= now):
                break  # One that expires is alone; of one that has, the other side is asked.
        raw = pack_item(item)
        if packed and size + len(raw) > _BYTES:
            break
        packed.append(raw)
        size, last = size + len(raw), number
        if item is not None and expires is not None:
            lifetime = math.ceil(expires - now)
            break
    part = Part(
        line.id,
        max(line.base, post.settled),
        lines[at - 1].id if at and line.base > post.settled else None,
        first,
        tuple(packed),
    )
    return part, len(packed), last if packed else 0, lifetime


def left(db: sqlite3.Cursor, conversation: int, leaving: Leaving, until: float) -> list[bytes]:
    """The relay has a letter, and keeps it until then. Return the messages that are stored by that:
    none where another epoch has begun meanwhile."""
    db.execute(
        "UPDATE roam_conversation SET owes = max(owes - ?, 0), missed = missed - ? WHERE id = ?",
        (leaving.answers, leaving.missed, conversation),
    )
    post = _post(db, conversation)
    if post.epoch != leaving.epoch or leaving.last <= max(post.settled, post.lettered):
        return []
    first = max(post.settled, post.lettered) + 1
    is_first = post.lettered <= post.settled or post.void_at is None
    until = until if is_first else min(until, post.void_at or until)
    db.execute(
        "UPDATE roam_conversation SET lettered = ?, void_at = ? WHERE id = ?",
        (leaving.last, until, conversation),
    )
    db.execute(
        "UPDATE roam_outgoing SET state = 'stored' WHERE conversation = ? "
        "AND number BETWEEN ? AND ? AND state = 'queued' RETURNING id",
        (conversation, first, leaving.last),
    )
    return [name for (name,) in db.fetchall()]


# -- what comes ---------------------------------------------------------------------------------


def heard(db: sqlite3.Cursor, conversation: int, epoch: int) -> None:
    """A session of the other side begins: letters of an earlier epoch are void, and what came is
    answered there."""
    db.execute(
        "UPDATE roam_conversation SET fence = max(fence, ?), owes = 0, missed = 0 WHERE id = ?",
        (epoch, conversation),
    )


def bring(
    db: sqlite3.Cursor,
    conversation: int,
    enclosed: Enclosed,
    items: Sequence[Item | None],
    moment: tuple[float, int],
) -> Brought:
    """Take what is in a letter. `moment` is the time, and how many messages the inbox may have."""
    now, most = moment
    brought = Brought()
    _hear_answer(db, conversation, enclosed, now, brought)
    part = enclosed.part
    if part is not None:
        db.execute(
            "UPDATE roam_conversation SET owes = owes + 1, answers = ? WHERE id = ?",
            (part.line, conversation),
        )
        post = _post(db, conversation)
        if enclosed.epoch >= post.fence:
            fence = enclosed.epoch
            brought.is_newer = fence > post.fence
            if not _take(db, conversation, post, (part, items, most), brought):
                fence = later(fence) - 1
            db.execute(
                "UPDATE roam_conversation SET fence = max(fence, ?) WHERE id = ?",
                (fence, conversation),
            )
    post = _post(db, conversation)
    brought.settled, brought.owes = post.settled, post.owes
    brought.weight = tables.weight(db, conversation)
    return brought


def _hear_answer(
    db: sqlite3.Cursor, conversation: int, enclosed: Enclosed, now: float, brought: Brought
) -> None:
    post, answer = _post(db, conversation), enclosed.answer
    of_line: list[Line] = []
    if answer is not None:
        row = tables.Row(conversation, "", "", post.last, post.settled, post.gone)
        of_line = [line for line in tables.lines(db, row) if line.id == answer.line]
        for line in of_line:
            delivered = tables.settle(db, conversation, min(answer.received, line.last))
            brought.changed += [name for name, _ in delivered]
        if answer.missed:
            kind = Break.LOST if answer.missed > 0 else Break.BEGAN_AGAIN
            breach = Breach(kind, abs(answer.missed))
            tables.note(db, conversation, breach, here=False)
            brought.breaches.append(breach)
        post = _post(db, conversation)
    is_fresh = enclosed.fence >= post.epoch and not post.sessioned
    if enclosed.fence > post.epoch:
        _begin(db, conversation, post, later(enclosed.fence))
    if is_fresh and of_line:
        # It has heard of this epoch: what it has not got of those before, nobody brings any more.
        above, last = max(post.settled, post.posted), of_line[0].last
        brought.changed += tables.expire(db, conversation, now, above, last)


def _take(
    db: sqlite3.Cursor,
    conversation: int,
    post: _Post,
    what: tuple[Part, Sequence[Item | None], int],
    brought: Brought,
) -> bool:
    """Take the messages of a letter; return whether they fit to what came before."""
    part, items, most = what
    known = tables.received(db, conversation, part.line)
    before = None
    if part.follows is not None:
        before = tables.received(db, conversation, part.follows)
    fit = fits(known, before, post.current, part)
    if fit is None:
        return False
    state, breach = fit
    skipped = new_items(state, part.first, len(items)) if items else 0
    fresh = items[skipped:]
    came = sum(isinstance(item, Letter) for item in fresh)
    if came and tables.held(db, conversation) + came > most:
        return False
    if breach is not None:
        tables.note(db, conversation, breach, here=True)
        brought.breaches.append(breach)
        by = breach.count if breach.kind is Break.LOST else -breach.count
        db.execute("UPDATE roam_conversation SET missed = ? WHERE id = ?", (by, conversation))
    if fresh:
        brought.changed += [name for name, _, _ in tables.take(db, conversation, fresh)]
        state = Received(part.first + len(items) - 1)
    if state != known:
        tables.keep(db, conversation, part.line, state)
    brought.came = came
    return True
