"""What is kept of conversations, and the statements that read and change it.

Every function runs within one transaction, in the store's thread. What the numbers mean is decided
in numbers.py.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from peers.conversations.numbers import Breach, Break, Line, Received
from peers.mailbox import MIGRATION as _MAILBOX
from protocol.conversation import Item, Letter, Receipt

__all__ = [
    "MIGRATIONS",
    "Entry",
    "MessageState",
    "Row",
    "Waiting",
]

MIGRATIONS: Sequence[str] = (
    """
    CREATE TABLE roam_conversation (
        id INTEGER PRIMARY KEY,
        remote TEXT NOT NULL,
        service TEXT NOT NULL,
        last INTEGER NOT NULL DEFAULT 0,
        settled INTEGER NOT NULL DEFAULT 0,
        gone INTEGER NOT NULL DEFAULT 0,
        current INTEGER NOT NULL DEFAULT 0,
        UNIQUE (remote, service)
    );
    CREATE TABLE roam_line (
        conversation INTEGER NOT NULL,
        base INTEGER NOT NULL,
        id BLOB NOT NULL,
        PRIMARY KEY (conversation, base)
    ) WITHOUT ROWID;
    CREATE TABLE roam_outgoing (
        conversation INTEGER NOT NULL,
        number INTEGER NOT NULL,
        id BLOB NOT NULL,
        state TEXT NOT NULL,
        sent REAL NOT NULL,
        expires REAL,
        payload BLOB,
        reason TEXT NOT NULL DEFAULT '',
        PRIMARY KEY (conversation, number)
    );
    CREATE INDEX roam_outgoing_id ON roam_outgoing (id);
    CREATE INDEX roam_outgoing_expires ON roam_outgoing (expires) WHERE expires IS NOT NULL;
    CREATE TABLE roam_received (
        conversation INTEGER NOT NULL,
        line BLOB NOT NULL,
        received INTEGER NOT NULL,
        before INTEGER,
        used INTEGER NOT NULL,
        PRIMARY KEY (conversation, line)
    ) WITHOUT ROWID;
    CREATE TABLE roam_inbox (
        position INTEGER PRIMARY KEY AUTOINCREMENT,
        conversation INTEGER NOT NULL,
        id BLOB NOT NULL,
        sent REAL NOT NULL,
        payload BLOB NOT NULL
    );
    CREATE INDEX roam_inbox_conversation ON roam_inbox (conversation, position);
    CREATE TABLE roam_breach (
        position INTEGER PRIMARY KEY AUTOINCREMENT,
        conversation INTEGER NOT NULL,
        kind TEXT NOT NULL,
        count INTEGER NOT NULL,
        here INTEGER NOT NULL
    );
    """,
    f"""
    {_MAILBOX};
    ALTER TABLE roam_conversation ADD COLUMN epoch INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE roam_conversation ADD COLUMN posted INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE roam_conversation ADD COLUMN lettered INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE roam_conversation ADD COLUMN void_at REAL;
    ALTER TABLE roam_conversation ADD COLUMN sessioned INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE roam_conversation ADD COLUMN fence INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE roam_conversation ADD COLUMN owes INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE roam_conversation ADD COLUMN answers BLOB;
    ALTER TABLE roam_conversation ADD COLUMN missed INTEGER NOT NULL DEFAULT 0
    """,
)
"""Statements that lead from one version of the tables to the next, the first from an empty file.
None of them is ever changed: what was deployed has been through it."""

FINISHED = 1_000
"""Messages of a conversation whose end is remembered: ids and states, not what was in them."""
_LINES = 1_024
"""Lines of one sender that are remembered. From a copy that is older than this many openings of its
store, it may send again what has arrived."""
_BREACHES = 64
"""Of one conversation; the oldest are forgotten."""


class MessageState(StrEnum):
    """How a message that was sent here stands."""

    QUEUED = "queued"
    """Safe in the store here."""
    STORED = "stored"
    """In the mailbox of the other side's relay."""
    DELIVERED = "delivered"
    """Safe in the other side's store."""
    READ = "read"
    """The other application has said that it was read."""
    EXPIRED = "expired"
    """Its time was over before it was delivered. The other side has not got it."""
    CANCELLED = "cancelled"
    """It was taken back before it left."""
    REFUSED = "refused"
    """The other application refused it; the reason says why."""


_TO_GO = (MessageState.QUEUED, MessageState.STORED)
_TO_GO_SQL = f"state IN {tuple(state.value for state in _TO_GO)}"


@dataclass(frozen=True, slots=True)
class Row:
    """A conversation as it is kept."""

    id: int
    remote: str
    service: str
    last: int
    """The last number that was given here."""
    settled: int
    """All numbers up to this one are settled."""
    gone: int
    """Numbers up to this one may have left."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A message that has come, and is not done."""

    position: int
    id: bytes
    sent: float
    payload: bytes


@dataclass(frozen=True, slots=True)
class Entry:
    """A message that was sent here, as it is kept."""

    number: int
    id: bytes
    state: MessageState
    sent: float
    expires: float | None
    size: int
    reason: str


def find(db: sqlite3.Cursor, remote: str, service: str) -> Row:
    """Return the conversation with this peer and service, which begins where there is none."""
    db.execute(
        "INSERT INTO roam_conversation (remote, service) VALUES (?, ?) ON CONFLICT DO NOTHING",
        (remote, service),
    )
    return _rows(db, "remote = ? AND service = ?", remote, service)[0]


def forget_empty(db: sqlite3.Cursor, conversation: int) -> None:
    """Forget a conversation in which nothing was ever said."""
    db.execute(
        "DELETE FROM roam_conversation WHERE id = ?1 AND last = 0 AND current = 0 AND fence = 0 "
        "AND NOT EXISTS (SELECT 1 FROM roam_received WHERE conversation = ?1)",
        (conversation,),
    )


def unfinished(db: sqlite3.Cursor, service: str) -> list[Row]:
    """Return the conversations in which something is left to be read, or to be sent."""
    return _rows(
        db,
        "service = ? AND (last > settled OR id IN (SELECT conversation FROM roam_inbox))",
        service,
    )


def _rows(db: sqlite3.Cursor, where: str, *values: object) -> list[Row]:
    db.execute(
        f"SELECT id, remote, service, last, settled, gone FROM roam_conversation WHERE {where}",
        values,
    )
    return [Row(*row) for row in db.fetchall()]


# -- what is sent -------------------------------------------------------------------------------


def lines(db: sqlite3.Cursor, row: Row) -> list[Line]:
    """Return the lines of what is not settled."""
    db.execute("SELECT id, base FROM roam_line WHERE conversation = ? ORDER BY base", (row.id,))
    found = db.fetchall()
    ends = [base for _, base in [*found, (b"", row.last)]][1:]
    return [
        Line(line, base, last)
        for (line, base), last in zip(found, ends, strict=True)
        if last > row.settled
    ]


@dataclass(frozen=True, slots=True)
class Given:
    """What is put into the queue."""

    line: bytes
    item: Item
    sent: float
    expires: float | None = None


def put(db: sqlite3.Cursor, conversation: int, given: Given, *, goes: bool) -> int:
    """Put something into the queue; return its number. `goes` says that it may leave at once."""
    db.execute("SELECT last, gone FROM roam_conversation WHERE id = ?", (conversation,))
    last, gone = db.fetchone()
    number: int = last + 1
    db.execute(
        "SELECT id FROM roam_line WHERE conversation = ? ORDER BY base DESC LIMIT 1",
        (conversation,),
    )
    if db.fetchone() != (given.line,):
        db.execute("INSERT INTO roam_line VALUES (?, ?, ?)", (conversation, last, given.line))
    db.execute(
        "UPDATE roam_conversation SET last = ?, gone = ? WHERE id = ?",
        (number, number if goes else gone, conversation),
    )
    if isinstance(given.item, Letter):
        # What a reader of the store sees of a receipt is that it has no state.
        state, payload, reason = MessageState.QUEUED.value, given.item.payload, ""
    else:
        state, payload, reason = "receipt", None, given.item.reason or ""
    db.execute(
        "INSERT INTO roam_outgoing (conversation, number, id, state, sent, expires, payload, "
        "reason) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (conversation, number, given.item.id, state, given.sent, given.expires, payload, reason),
    )
    return number


def load(db: sqlite3.Cursor, conversation: int, first: int, count: int) -> list[Item | None]:
    """Return what is to be sent under these numbers; None under those of which nothing is left."""
    db.execute(
        "SELECT id, state, sent, payload, reason FROM roam_outgoing "
        "WHERE conversation = ? AND number BETWEEN ? AND ? ORDER BY number",
        (conversation, first, first + count - 1),
    )
    items: list[Item | None] = []
    for name, state, sent, payload, reason in db.fetchall():
        if state == "receipt":
            items.append(Receipt(name, reason or None))
        else:
            items.append(Letter(name, sent, payload) if state in _TO_GO else None)
    return items


def leaves(db: sqlite3.Cursor, conversation: int, number: int) -> None:
    """All up to this number may have left from now on."""
    db.execute(
        "UPDATE roam_conversation SET gone = max(gone, ?) WHERE id = ?", (number, conversation)
    )


def settle(db: sqlite3.Cursor, conversation: int, number: int) -> list[tuple[bytes, float]]:
    """The other side's store has all up to this number. Return the ids of the messages among them,
    and when they were sent."""
    db.execute("SELECT settled, last FROM roam_conversation WHERE id = ?", (conversation,))
    settled, last = db.fetchone()
    number = min(number, last)
    if number <= settled:
        return []
    span = (conversation, settled + 1, number)
    db.execute(
        "SELECT id, sent FROM roam_outgoing WHERE conversation = ? AND number BETWEEN ? AND ? "
        f"AND {_TO_GO_SQL} ORDER BY number",
        span,
    )
    delivered = db.fetchall()
    db.execute(
        "DELETE FROM roam_outgoing WHERE conversation = ? AND number BETWEEN ? AND ? "
        "AND state = 'receipt'",
        span,
    )
    db.execute(
        f"UPDATE roam_outgoing SET payload = NULL, expires = NULL, "
        f"state = CASE WHEN {_TO_GO_SQL} THEN 'delivered' ELSE state END "
        "WHERE conversation = ? AND number BETWEEN ? AND ?",
        span,
    )
    db.execute(
        "UPDATE roam_conversation SET settled = ?, gone = max(gone, ?) WHERE id = ?",
        (number, number, conversation),
    )
    db.execute(
        "DELETE FROM roam_outgoing WHERE conversation = ? AND number <= ?",
        (conversation, number - FINISHED),
    )
    # A line is needed as long as one of its numbers is not settled; the last one always.
    db.execute(
        "DELETE FROM roam_line WHERE conversation = ?1 AND base < (SELECT max(base) FROM roam_line "
        "WHERE conversation = ?1 AND base <= ?2)",
        (conversation, number),
    )
    return delivered


def expire(
    db: sqlite3.Cursor, conversation: int, now: float, above: int | None = None, last: int = 2**53
) -> list[bytes]:
    """End the messages whose time is over: those above this number, up to the last, or that have
    not left. Return their ids."""
    if above is None:
        db.execute("SELECT gone FROM roam_conversation WHERE id = ?", (conversation,))
        (above,) = db.fetchone()
    db.execute(
        "UPDATE roam_outgoing SET state = 'expired', payload = NULL, expires = NULL WHERE "
        f"conversation = ? AND number > ? AND number <= ? AND expires <= ? "
        f"AND {_TO_GO_SQL} RETURNING id",
        (conversation, above, last, now),
    )
    return [name for (name,) in db.fetchall()]


def next_expiry(db: sqlite3.Cursor, conversation: int) -> float | None:
    """Return when the next message expires that has not left."""
    db.execute(
        "SELECT min(expires) FROM roam_outgoing WHERE conversation = ?1 AND expires IS NOT NULL "
        "AND number > (SELECT gone FROM roam_conversation WHERE id = ?1)",
        (conversation,),
    )
    found: float | None = db.fetchone()[0]
    return found


def cancel(db: sqlite3.Cursor, conversation: int, name: bytes) -> bool:
    """Take a message back; return whether that was done: not once it may have left."""
    db.execute(
        "UPDATE roam_outgoing SET state = 'cancelled', payload = NULL, expires = NULL "
        "WHERE conversation = ?1 AND id = ?2 AND state = 'queued' "
        "AND number > (SELECT gone FROM roam_conversation WHERE id = ?1)",
        (conversation, name),
    )
    return db.rowcount > 0


_ENTRY = "SELECT number, id, state, sent, expires, length(payload), reason FROM roam_outgoing"


def entries(db: sqlite3.Cursor, conversation: int) -> list[Entry]:
    """Return the messages that are not delivered, and have not ended otherwise."""
    db.execute(f"{_ENTRY} WHERE conversation = ? AND {_TO_GO_SQL} ORDER BY number", (conversation,))
    return [_entry(row) for row in db.fetchall()]


def entry(db: sqlite3.Cursor, conversation: int, name: bytes) -> Entry | None:
    """Return one message; None where nothing is known of it."""
    db.execute(
        f"{_ENTRY} WHERE conversation = ? AND id = ? AND state <> 'receipt'", (conversation, name)
    )
    row = db.fetchone()
    return None if row is None else _entry(row)


def _entry(row: tuple[int, bytes, str, float, float | None, int | None, str]) -> Entry:
    number, name, state, sent, expires, size, reason = row
    return Entry(number, name, MessageState(state), sent, expires, size or 0, reason)


def weight(db: sqlite3.Cursor, conversation: int) -> int:
    """Return the bytes that wait to be sent."""
    db.execute(
        "SELECT coalesce(sum(length(payload)), 0) FROM roam_outgoing WHERE conversation = ?",
        (conversation,),
    )
    return int(db.fetchone()[0])


# -- what comes ---------------------------------------------------------------------------------


def received(db: sqlite3.Cursor, conversation: int, line: bytes) -> Received | None:
    """Return what has arrived of a line; None where it is not known."""
    db.execute(
        "SELECT received, before FROM roam_received WHERE conversation = ? AND line = ?",
        (conversation, line),
    )
    row = db.fetchone()
    return None if row is None else Received(*row)


def current(db: sqlite3.Cursor, conversation: int) -> int:
    """Return the last number that has arrived, of whichever line."""
    db.execute("SELECT current FROM roam_conversation WHERE id = ?", (conversation,))
    return int(db.fetchone()[0])


def keep(db: sqlite3.Cursor, conversation: int, line: bytes, state: Received) -> None:
    """Keep what has arrived of a line, and that it is the last one."""
    db.execute(
        "UPDATE roam_received SET received = ?3, before = ?4 WHERE conversation = ?1 AND line = ?2",
        (conversation, line, state.received, state.before),
    )
    if not db.rowcount:
        db.execute(
            "INSERT INTO roam_received SELECT ?1, ?2, ?3, ?4, coalesce(max(used), 0) + 1 "
            "FROM roam_received WHERE conversation = ?1",
            (conversation, line, state.received, state.before),
        )
        db.execute(
            "DELETE FROM roam_received WHERE conversation = ?1 AND used <= "
            "(SELECT max(used) FROM roam_received WHERE conversation = ?1) - ?2",
            (conversation, _LINES),
        )
    db.execute(
        "UPDATE roam_conversation SET current = ? WHERE id = ?", (state.received, conversation)
    )


def take(
    db: sqlite3.Cursor, conversation: int, items: Iterable[Item | None]
) -> list[tuple[bytes, MessageState, str]]:
    """Put what has come into the inbox; return the receipts among it."""
    receipts = []
    for item in items:
        if isinstance(item, Letter):
            db.execute(
                "INSERT INTO roam_inbox (conversation, id, sent, payload) VALUES (?, ?, ?, ?)",
                (conversation, item.id, item.sent, item.payload),
            )
        elif isinstance(item, Receipt):
            state = MessageState.READ if item.reason is None else MessageState.REFUSED
            db.execute(
                "UPDATE roam_outgoing SET state = ?, reason = ?, payload = NULL, expires = NULL "
                "WHERE conversation = ? AND id = ? AND state IN ('queued', 'stored', 'delivered')",
                (state.value, item.reason or "", conversation, item.id),
            )
            if db.rowcount:
                receipts.append((item.id, state, item.reason or ""))
    return receipts


def inbox(db: sqlite3.Cursor, conversation: int, after: int, limit: int) -> list[Waiting]:
    """Return what is not done, the oldest first, behind this position."""
    db.execute(
        "SELECT position, id, sent, payload FROM roam_inbox "
        "WHERE conversation = ? AND position > ? ORDER BY position LIMIT ?",
        (conversation, after, limit),
    )
    return [Waiting(*row) for row in db.fetchall()]


def held(db: sqlite3.Cursor, conversation: int) -> int:
    """Return how many messages are not done."""
    db.execute("SELECT count(*) FROM roam_inbox WHERE conversation = ?", (conversation,))
    return int(db.fetchone()[0])


def done(db: sqlite3.Cursor, position: int) -> bool:
    """Take a message out of the inbox; return whether it was there."""
    db.execute("DELETE FROM roam_inbox WHERE position = ?", (position,))
    return db.rowcount > 0


# -- what went wrong ----------------------------------------------------------------------------


def note(db: sqlite3.Cursor, conversation: int, breach: Breach, *, here: bool) -> None:
    """Remember that the numbers were out of step. `here` says that it is about what came here."""
    db.execute(
        "INSERT INTO roam_breach (conversation, kind, count, here) VALUES (?, ?, ?, ?)",
        (conversation, breach.kind.value, breach.count, here),
    )
    db.execute(
        "DELETE FROM roam_breach WHERE conversation = ?1 AND position NOT IN (SELECT position FROM "
        "roam_breach WHERE conversation = ?1 ORDER BY position DESC LIMIT ?2)",
        (conversation, _BREACHES),
    )


def breaches(db: sqlite3.Cursor, conversation: int) -> list[tuple[Breach, bool]]:
    """Return what was noted, the oldest first, each with whether it is about what came here."""
    db.execute(
        "SELECT kind, count, here FROM roam_breach WHERE conversation = ? ORDER BY position",
        (conversation,),
    )
    return [(Breach(Break(kind), count), bool(here)) for kind, count, here in db.fetchall()]
