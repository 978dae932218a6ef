"""What the other side says in a conversation, in frames or in letters: a few of them, one after the
other, at a store."""

import contextlib
import sqlite3

from peers.conversations import letters, tables
from peers.conversations.numbers import Queue, Received, Sender, adopt, missed, new_items
from protocol.conversation import (
    Acknowledged,
    Announced,
    Letter,
    Messages,
    read_enclosed,
    read_frame,
    read_item,
)
from protocol.errors import ProtocolViolation
from tests.fuzz.draws import Draw

__all__ = ["enclosed", "frames"]

_OURS = bytes(range(16))
_ROOM = 8
"""Messages that the inbox may have."""


def frames(data: bytes) -> None:
    """Up to four frames: each is taken or refused, and the numbers stay in step with the tables."""
    pieces = _pieces(data)
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.executescript(";".join(tables.MIGRATIONS))
        db = connection.cursor()
        row = tables.find(db, "x" * 52, "chat")
        queue = Queue()
        queue.add(_OURS, 1)
        sender = Sender(queue)
        sender.next()
        with contextlib.suppress(ProtocolViolation):
            for piece in pieces:
                _one(db, row.id, sender, piece)


def enclosed(data: bytes) -> None:
    """Up to four letters of one sender, at a side that has two messages in letters of its own: each
    is taken whole or not at all, nothing is settled that was not sent, and the inbox has its bound.
    """
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.executescript(";".join(tables.MIGRATIONS))
        db = connection.cursor()
        row = tables.find(db, "x" * 52, "chat")
        for number in (1, 2):
            ours = Letter(bytes([number]) * 16, 1.0, b"ours")
            tables.put(db, row.id, tables.Given(_OURS, ours, 1.0), goes=False)
        leaving, _ = letters.compose(db, row.id, 2.0, answers=True, leaves=True)
        assert leaving is not None
        letters.left(db, row.id, leaving, 1e9)
        settled = epoch = fence = 0
        for piece in _pieces(data):
            try:
                said = read_enclosed(piece)
                items = [] if said.part is None else [read_item(one) for one in said.part.items]
            except ProtocolViolation:
                continue
            before = tables.held(db, row.id)
            brought = letters.bring(db, row.id, said, items, (3.0, _ROOM))
            assert tables.held(db, row.id) == before + brought.came <= _ROOM
            db.execute("SELECT settled, epoch, fence FROM roam_conversation")
            now = db.fetchone()
            assert settled <= now[0] == brought.settled <= 2
            assert now[1] >= epoch
            assert now[2] >= fence
            settled, epoch, fence = now
            # What it has made of that leaves, and is stored.
            leaving, _ = letters.compose(db, row.id, 4.0, answers=True, leaves=True)
            if leaving is not None:
                assert read_enclosed(leaving.payload).epoch == leaving.epoch
                letters.left(db, row.id, leaving, 1e9)


def _pieces(data: bytes) -> list[bytes]:
    draw = Draw(data)
    sizes = [draw.number(256) for _ in range(draw.number(4))]
    data = draw.rest()
    pieces = []
    for size in sizes:
        pieces.append(data[:size])
        data = data[size:]
    return [*pieces, data]


def _one(db: sqlite3.Cursor, conversation: int, sender: Sender, data: bytes) -> None:
    frame = read_frame(data)
    match frame:
        case Announced():
            known = tables.received(db, conversation, frame.line)
            state, _ = adopt(tables.current(db, conversation), known, frame)
            tables.keep(db, conversation, frame.line, state)
            assert tables.received(db, conversation, frame.line) == state
        case Messages():
            items = [read_item(item) for item in frame.items]
            known = tables.received(db, conversation, frame.line)
            skipped = new_items(known, frame.first, len(items))
            if skipped < len(items):
                tables.take(db, conversation, items[skipped:])
                received = frame.first + len(items) - 1
                tables.keep(db, conversation, frame.line, Received(received))
        case Acknowledged():
            if sender.asked is not None:
                missed(sender.asked, frame)
            settled = sender.acknowledged(frame)
            assert settled is None or settled <= 1
