"""The frames of a session, and how large they may be.

Frames are MessagePack arrays, after the path's hello:

    [0, first, [payload, ...]]   messages first, first+1, ... (the first of a session is 1)
    [1, received, consumed]      all messages up to `received` have arrived; the application has
                                 taken `consumed` bytes in all (each message weighs its length
                                 plus MESSAGE_WEIGHT)
    [2, count]                   nothing follows message `count`
    [3, received]                the close was understood, and all up to `received` has arrived
    [4, number] [5, number]      ping and its answer
    [6, code, reason]            the session ends now, without regard for what is under way
    [7, [[body, signature], …]]  where the sender of this can be dialed from now on: its signed
                                 entries for the session's service

The second revision, where both sides have named `session-2` (protocol/features.py):

    [1, received, consumed, partial]       also `partial` bytes of message `received` + 1
    [8, message, offset, total, payload]   bytes of one message of `total` bytes, from `offset` on
    [9, count]                             nothing follows message `count`, and the session goes on
    [10, path]                             a change to the path that it stands on (standby.py)
"""

from collections.abc import Callable, Iterator
from enum import IntEnum
from typing import Any

import msgpack
import msgspec

from protocol.codec import ValueReader
from protocol.endpoint import SignedEntry
from protocol.errors import ProtocolViolation
from protocol.messages import MAX_ENTRIES
from protocol.session.settings import MAX_PAYLOAD

__all__ = [
    "FRAME_BYTES",
    "FRAME_MESSAGES",
    "SLOWEST_LINK",
    "WRITE_BYTES",
    "Frame",
    "FrameReader",
    "check_frame",
    "pack",
    "read_location",
]

FRAME_BYTES = 65_536
"""Payload that is put into one frame, unless a single message is larger: a frame counts as
arrived only when all of it has, so that a large one would hold the acknowledgement of what stands
before it."""
FRAME_MESSAGES = 1024
"""Messages in one frame."""
WRITE_BYTES = 262_144
"""Payload that is written at once, about: what is sent meanwhile has its turn behind it."""
MAX_FRAME = MAX_PAYLOAD + 65_536
MAX_SMALL_FRAME = FRAME_BYTES + 8192
"""The second revision's: the payload of a frame is FRAME_BYTES at most, in whatever pieces."""
_NO_NUMBERS = frozenset({bool, float})
SLOWEST_LINK = 16_384
"""Bytes a second. A large message may be on its way for as long as this link would need."""


class Frame(IntEnum):
    """The first element of a frame."""

    DATA = 0
    ACK = 1
    CLOSE = 2
    CLOSED = 3
    PING = 4
    PONG = 5
    ABORT = 6
    LOCATION = 7
    PART = 8
    FINISH = 9
    SWITCH = 10


pack: Callable[[Any], bytes] = msgpack.Packer().pack
"""Writes a frame. One for all sessions: each packer reserves 256 KiB."""

_SPARE: dict[bool, list[ValueReader]] = {True: [], False: []}
"""Readers that hold nothing, by whether they are for the second revision."""
_MAX_SPARE = 4


class FrameReader:
    """The frames of one path, of the second revision or of the first.

    A reader of values costs 44 KiB, and has nothing to hold between two frames: those are shared by
    all sessions, and only what has arrived in part keeps one.
    """

    __slots__ = ("_holding", "_revised")

    def __init__(self, *, revised: bool) -> None:
        self._revised = revised
        self._holding: ValueReader | None = None
        """The reader of a frame of which a part has arrived."""

    def read(self, data: bytes) -> Iterator[list[Any]]:
        """Add bytes as they came from the path; yield each frame that is whole.

        Raises:
            ProtocolViolation: from the iterator; the path has no meaning any more.
        """
        spare = _SPARE[self._revised]
        reader = self._holding
        if reader is None:
            try:
                reader = spare.pop()
            except IndexError:  # Not asked before: another thread may take the last one.
                reader = _reader(self._revised)
        # Whoever stops before the end, or meets a fault, leaves one that nobody can go on with.
        self._holding = None
        reader.feed(data)
        for value in reader:
            yield check_frame(value)
        if reader.pending:
            self._holding = reader
        elif len(spare) < _MAX_SPARE:
            spare.append(reader)


def _reader(revised: bool) -> ValueReader:
    if revised:
        return ValueReader(MAX_SMALL_FRAME, max_array=FRAME_MESSAGES, max_bin=FRAME_BYTES)
    return ValueReader(MAX_FRAME, max_array=FRAME_MESSAGES, max_bin=MAX_PAYLOAD)


def check_frame(value: object) -> list[Any]:
    """Return what may be a frame.

    Raises:
        ProtocolViolation: it cannot be one.
    """
    # A bool or a float would pass for the integer that it is equal to.
    if type(value) is not list or not _NO_NUMBERS.isdisjoint(map(type, value)):
        raise ProtocolViolation("not a session frame")
    return value


def read_location(fields: list[Any]) -> tuple[SignedEntry, ...]:
    """Return the entries of a location frame; their signatures are for the receiver to check.

    Raises:
        ProtocolViolation: not entries, or too many of them.
    """
    try:
        if len(fields) > MAX_ENTRIES:
            raise ValueError(f"more than {MAX_ENTRIES} entries")
        return tuple(
            msgspec.convert(
                {"body": body, "signature": signature}, SignedEntry, builtin_types=(bytes,)
            )
            for body, signature in fields
        )
    except (TypeError, ValueError) as error:
        raise ProtocolViolation(f"not a location: {error}"[:200]) from None
