"""The tables of the mailbox, and what is done in them, each in a transaction of the store's thread.

Letters are kept with what the quotas need to count them again after a restart. Times are Unix time.
What runs here may change the ledger: whoever runs it commits or rolls back both.
"""

import sqlite3
from collections.abc import Sequence

import msgspec

from protocol.errors import Code
from protocol.mail import Letter, LetterLeave, LetterService, MailboxUpdate
from protocol.prekeys import SignedPrekey
from relay.limits import Cause
from relay.mailbox.quotas import Ledger, NoRoom, Waiting
from relay.mailbox.stores import REFUSED, Kept, takes

__all__ = ["MIGRATIONS", "VERSION", "Tables"]

MIGRATIONS = (
    """
    CREATE TABLE boxes (
        guid TEXT PRIMARY KEY, network TEXT NOT NULL, next INTEGER NOT NULL, changed REAL NOT NULL,
        services BLOB NOT NULL, prekey BLOB NOT NULL, signature BLOB NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE one_time (
        number INTEGER PRIMARY KEY, guid TEXT NOT NULL, body BLOB NOT NULL, signature BLOB NOT NULL,
        UNIQUE (guid, body)
    );
    CREATE TABLE letters (
        recipient TEXT NOT NULL, number INTEGER NOT NULL, sender TEXT NOT NULL, id BLOB NOT NULL,
        service TEXT NOT NULL, came REAL NOT NULL, expires REAL NOT NULL, wide TEXT NOT NULL,
        network TEXT NOT NULL, size INTEGER NOT NULL, stranger INTEGER NOT NULL,
        sealed BLOB NOT NULL, PRIMARY KEY (recipient, number), UNIQUE (recipient, sender, id)
    );
    CREATE INDEX letters_by_end ON letters (expires);
    CREATE INDEX letters_counted ON letters (sender, recipient, wide, network, stranger, size)
    """,
)
VERSION = len(MIGRATIONS)
"""Of these tables: a newer program has written what is above."""

MAX_ONE_TIME = 64
"""Prekeys for one letter each that are kept of a peer."""
_UNUSED = 90 * 86_400.0
"""Seconds after which it is forgotten who may leave letters for a peer that has not said it again:
peers do so with each connection, and each week."""
_NO_PREKEY = SignedPrekey(b"", bytes(64))
_AT_ONCE = 250
"""Letters that have expired and are dropped in one go."""
_COUNTED = "recipient, sender, wide, network, size, stranger"

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[LetterService, ...]).decode


class Tables:
    """What is done in the tables; `now` is Unix time."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def load(self, tables: sqlite3.Connection) -> None:
        """Count what there is, at the start."""
        # From an index alone: the letters themselves are not read.
        for recipient, sender, wide, network, stranger, count, size in tables.execute(
            "SELECT recipient, sender, wide, network, stranger, COUNT(*), SUM(size) FROM letters "
            "GROUP BY sender, recipient, wide, network, stranger"
        ):
            alike = Waiting(recipient, sender, wide, network, 0, bool(stranger))
            self._ledger.load(alike, count, size)
        for (network,) in tables.execute("SELECT network FROM boxes"):
            self._ledger.add_box(network)

    def update(
        self, tables: sqlite3.Connection, guid: str, network: str, said: MailboxUpdate, now: float
    ) -> tuple[int, int] | NoRoom:
        """Take what a recipient says; return how many prekeys for one letter are left, and how many
        letters wait."""
        known = tables.execute("SELECT next FROM boxes WHERE guid = ?", (guid,)).fetchone()
        if known is None and said.prekey is None:
            return 0, self._ledger.waiting(guid)
        if known is None and not self._ledger.add_box(network):
            return NoRoom(Code.LIMIT_EXCEEDED, "too many peers take letters here", "letters_boxes")
        services = said.services if said.prekey is not None else ()
        prekey = said.prekey or _NO_PREKEY
        # Where it is taken back the row stays: the numbers of letters go on from there.
        tables.execute(
            "INSERT INTO boxes VALUES (?, ?, 1, ?, ?, ?, ?) ON CONFLICT (guid) DO UPDATE SET "
            "changed = excluded.changed, services = excluded.services, "
            "prekey = excluded.prekey, signature = excluded.signature",
            (guid, network, now, _encode(services), prekey.body, prekey.signature),
        )
        if said.prekey is None:
            tables.execute("DELETE FROM one_time WHERE guid = ?", (guid,))
            return 0, self._ledger.waiting(guid)
        left = self._one_time(tables, guid)
        for prekey in said.one_time[: max(0, MAX_ONE_TIME - left)]:
            tables.execute(
                "INSERT OR IGNORE INTO one_time (guid, body, signature) VALUES (?, ?, ?)",
                (guid, prekey.body, prekey.signature),
            )
        return self._one_time(tables, guid), self._ledger.waiting(guid)

    def prekey(
        self,
        tables: sqlite3.Connection,
        sender: str,
        recipient: str,
        service: str,
        *,
        one_time: bool,
    ) -> SignedPrekey | NoRoom:
        """Return what a letter is to be sealed for; `one_time` says whether the sender may have a
        prekey that is for one letter."""
        box = tables.execute(
            "SELECT services, prekey, signature FROM boxes WHERE guid = ?", (recipient,)
        ).fetchone()
        if box is None or takes(_decode(box[0]), sender, service) is None:
            return REFUSED
        row = None
        if one_time:
            row = tables.execute(
                "DELETE FROM one_time WHERE number = "
                "(SELECT MIN(number) FROM one_time WHERE guid = ?) RETURNING body, signature",
                (recipient,),
            ).fetchone()
        return SignedPrekey(*(row or box[1:]))

    def leave(
        self,
        tables: sqlite3.Connection,
        sender: Cause,
        said: LetterLeave,
        lifetime: int,
        now: float,
    ) -> Kept | NoRoom:
        """Keep a letter, for so many seconds at most."""
        box = tables.execute(
            "SELECT services, next FROM boxes WHERE guid = ?", (said.guid,)
        ).fetchone()
        is_stranger = None if box is None else takes(_decode(box[0]), sender.key, said.service)
        if is_stranger is None:
            return REFUSED
        there = tables.execute(
            "SELECT expires FROM letters WHERE recipient = ? AND sender = ? AND id = ?",
            (said.guid, sender.key, said.id),
        ).fetchone()
        if there is not None and there[0] > now:
            return Kept(int(there[0] - now), is_new=False)
        letter = Waiting(
            said.guid, sender.key, sender.wide, sender.network, len(said.sealed), is_stranger
        )
        if there is not None:
            self._drop(
                tables.execute(
                    "DELETE FROM letters WHERE recipient = ? AND sender = ? AND id = ? "
                    f"RETURNING {_COUNTED}",
                    (said.guid, sender.key, said.id),
                )
            )
        if self._ledger.refusal(letter) is not None:
            self.drop_expired(tables, now, said.guid)
        if (refusal := self._ledger.refusal(letter)) is not None:
            return refusal
        self._ledger.add(letter)
        tables.execute("UPDATE boxes SET next = next + 1 WHERE guid = ?", (said.guid,))
        tables.execute(
            "INSERT INTO letters VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                said.guid,
                box[1],
                sender.key,
                said.id,
                said.service,
                now,
                now + lifetime,
                sender.wide,
                sender.network,
                len(said.sealed),
                is_stranger,
                said.sealed,
            ),
        )
        return Kept(lifetime, is_new=True)

    def after(
        self, tables: sqlite3.Connection, guid: str, number: int, most: int, now: float
    ) -> list[Letter]:
        """Return the letters of a peer behind a number, in order, so many at most."""
        rows = tables.execute(
            "SELECT number, sender, service, id, sealed, came FROM letters WHERE recipient = ? "
            "AND number > ? AND expires > ? ORDER BY number LIMIT ?",
            (guid, number, now, most),
        )
        return [
            Letter(place, sender, service, name, sealed, min(max(now - came, 0.0), 31_536_000.0))
            for place, sender, service, name, sealed, came in rows
        ]

    def done(self, tables: sqlite3.Connection, guid: str, numbers: Sequence[int]) -> int:
        """Forget letters that are safe with their recipient; return how many there were."""
        found = 0
        for number in numbers:
            found += self._drop(
                tables.execute(
                    f"DELETE FROM letters WHERE recipient = ? AND number = ? RETURNING {_COUNTED}",
                    (guid, number),
                )
            )
        return found

    def drop_expired(self, tables: sqlite3.Connection, now: float, guid: str | None = None) -> int:
        """Drop letters whose time is over, those of one recipient or of all; return how many."""
        where, values = ("recipient = ? AND ", (guid,)) if guid is not None else ("", ())
        return self._drop(
            tables.execute(
                "DELETE FROM letters WHERE rowid IN (SELECT rowid FROM letters WHERE "
                f"{where}expires <= ? ORDER BY expires LIMIT {_AT_ONCE}) RETURNING {_COUNTED}",
                (*values, now),
            )
        )

    def drop_unused(self, tables: sqlite3.Connection, now: float) -> None:
        """Drop what peers have said long ago, for whom no letter waits."""
        for guid, network in tables.execute(
            f"DELETE FROM boxes WHERE changed < ? AND guid IN (SELECT guid FROM boxes WHERE "
            f"changed < ? AND guid NOT IN (SELECT recipient FROM letters) LIMIT {_AT_ONCE}) "
            "RETURNING guid, network",
            (now - _UNUSED, now - _UNUSED),
        ).fetchall():
            self._ledger.remove_box(network)
            tables.execute("DELETE FROM one_time WHERE guid = ?", (guid,))

    def forget(self, tables: sqlite3.Connection, guid: str) -> int:
        """Remove all that is kept of a peer: letters to it and from it, who may leave it some, and
        its prekeys. Return how many things there were."""
        found = self._drop(
            tables.execute(
                f"DELETE FROM letters WHERE recipient = ? OR sender = ? RETURNING {_COUNTED}",
                (guid, guid),
            )
        )
        found += tables.execute("DELETE FROM one_time WHERE guid = ?", (guid,)).rowcount
        for (network,) in tables.execute(
            "DELETE FROM boxes WHERE guid = ? RETURNING network", (guid,)
        ).fetchall():
            self._ledger.remove_box(network)
            found += 1
        return found

    def _drop(self, rows: sqlite3.Cursor) -> int:
        gone = [_waiting(row) for row in rows.fetchall()]
        for letter in gone:
            self._ledger.remove(letter)
        return len(gone)

    @staticmethod
    def _one_time(tables: sqlite3.Connection, guid: str) -> int:
        (count,) = tables.execute(
            "SELECT COUNT(*) FROM one_time WHERE guid = ?", (guid,)
        ).fetchone()
        return int(count)


def _waiting(row: tuple[str, str, str, str, int, int]) -> Waiting:
    recipient, sender, wide, network, size, stranger = row
    return Waiting(recipient, sender, wide, network, size, bool(stranger))
