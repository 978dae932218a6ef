"""What the other side says in a conversation: a few frames, one after the other, at a store."""

import contextlib
import sqlite3

from peers.conversations import tables
from peers.conversations.numbers import Queue, Received, Sender, adopt, missed, new_items
from protocol.conversation import Acknowledged, Announced, Messages, read_frame, read_item
from protocol.errors import ProtocolViolation
from tests.fuzz.draws import Draw

__all__ = ["frames"]

_OURS = bytes(range(16))


def frames(data: bytes) -> None:
    """Up to four frames: each is taken or refused, and the numbers stay in step with the tables."""
    draw = Draw(data)
    sizes = [draw.number(256) for _ in range(draw.number(4))]
    data = draw.rest()
    pieces = []
    for size in sizes:
        pieces.append(data[:size])
        data = data[size:]
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.executescript(";".join(tables.MIGRATIONS))
        db = connection.cursor()
        row = tables.find(db, "x" * 52, "chat")
        queue = Queue()
        queue.add(_OURS, 1)
        sender = Sender(queue)
        sender.next()
        with contextlib.suppress(ProtocolViolation):
            for piece in (*pieces, data):
                _one(db, row.id, sender, piece)


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
