"""The frames of a conversation: what stands in the messages of a session that carries one.

Each message of such a session is one MessagePack array:

    [0, line, first, epoch]              what follows comes from this line, from number `first` on
    [1, line, first, [item, …]]          numbers first, first+1, …
    [2, line, received, room, before]    all up to `received` is safe in the store here

and each item nil, where nothing was left to be sent under its number, or an array:

    [0, id, sent, payload]               a message
    [1, id, reason]                      that message was read here (nil), or refused

A line is what one opening of a sender's store has numbered; numbers go on from line to line. So a
store that was restored from an old copy never gives a number of a line twice.

Where no session can be had, the same items go in letters (docs/protocol.md §7), each payload one

    [epoch, fence, answer, part]

with `answer` nil or [line, received, missed], `part` nil or [line, begins, follows, first, items].
"""

from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta, Struct

from protocol.errors import Code, ProtocolViolation

__all__ = [
    "MAX_FRAME",
    "MAX_ITEMS",
    "MAX_LETTER",
    "Acknowledged",
    "Announced",
    "Answer",
    "Enclosed",
    "Frame",
    "Item",
    "Letter",
    "Messages",
    "Part",
    "Receipt",
    "pack_enclosed",
    "pack_frame",
    "pack_item",
    "read_enclosed",
    "read_frame",
    "read_item",
]

MAX_LETTER = 57_344
"""Bytes of one message's payload: sealed and padded it fits into a mailbox too."""
MAX_FRAME = 131_072
"""Bytes of one frame."""
MAX_ITEMS = 256
"""Items in one frame."""
_KNOWN = 3
"""Frames that are known; a later version may have more, and they are passed over."""

Name = Annotated[bytes, Meta(min_length=16, max_length=16)]
"""Of a line, or of a message."""
Number = Annotated[int, Meta(ge=0, lt=2**53)]


class Announced(Struct, frozen=True, array_like=True, tag=0):
    """The sender goes on with this line."""

    line: Name
    first: Annotated[int, Meta(ge=1, lt=2**53)]
    """The lowest number that the sender can still send: all below it is settled."""
    epoch: Number = 0
    """Letters of an earlier epoch of this sender are void from now on. Left out where it is 0."""


class Messages(Struct, frozen=True, array_like=True, tag=1):
    """What stands under the numbers from `first` on."""

    line: Name
    first: Annotated[int, Meta(ge=1, lt=2**53)]
    items: Annotated[tuple[msgspec.Raw, ...], Meta(min_length=1, max_length=MAX_ITEMS)]


class Acknowledged(Struct, frozen=True, array_like=True, tag=2):
    """The other side's store has it."""

    line: Name
    received: Number
    room: Number
    """How many more numbers are taken before the application has read."""
    before: Number
    """The highest number that was known here before the line was announced, where it has come out
    of step with that; else as `received`."""


class Letter(Struct, frozen=True, array_like=True, tag=0):
    """One message of an application."""

    id: Name
    sent: Annotated[float, Meta(ge=0, le=253_402_300_799)]
    """When, in seconds since 1970, by the sender's clock."""
    payload: Annotated[bytes, Meta(max_length=MAX_LETTER)]


class Receipt(Struct, frozen=True, array_like=True, tag=1):
    """What the other application says of a message."""

    id: Name
    reason: Annotated[str, Meta(max_length=512)] | None = None
    """Why it was refused; None: it was read."""


class Answer(Struct, frozen=True, array_like=True):
    """What the writer of a letter has of the messages of its recipient."""

    line: Name
    """The one that it has heard of last."""
    received: Number
    """All up to this number is safe in the store here."""
    missed: Annotated[int, Meta(gt=-(2**53), lt=2**53)] = 0
    """How many numbers the stores were out of step by, found when letters came: above 0 they were
    lost here, below 0 they were forgotten there."""


class Part(Struct, frozen=True, array_like=True):
    """Messages of one line."""

    line: Name
    begins: Number
    """The number before the first of this line that is not settled."""
    follows: Name | None
    """The line whose last number that is, where not all up to it is settled."""
    first: Annotated[int, Meta(ge=1, lt=2**53)]
    """The number of the first item."""
    items: Annotated[tuple[msgspec.Raw, ...], Meta(max_length=MAX_ITEMS)] = ()
    """None of them: the answer alone is asked for."""


class Enclosed(Struct, frozen=True, array_like=True):
    """What stands in a letter."""

    epoch: Number
    """It is void where its recipient has heard of a later epoch."""
    fence: Number
    """Letters of its recipient, of an epoch below this one, are not taken any more."""
    answer: Answer | None = None
    part: Part | None = None


Frame: TypeAlias = Announced | Messages | Acknowledged
Item: TypeAlias = Letter | Receipt

_frames = msgspec.msgpack.Decoder(Announced | Messages | Acknowledged)
_enclosed = msgspec.msgpack.Decoder(Enclosed)
_items = msgspec.msgpack.Decoder(Letter | Receipt | None)
_heads = msgspec.msgpack.Decoder(list[msgspec.Raw])
_integer = msgspec.msgpack.Decoder(int)
_encoder = msgspec.msgpack.Encoder()


def pack_frame(frame: Frame) -> bytes:
    """Return the bytes of a frame."""
    if isinstance(frame, Announced) and not frame.epoch:
        return _encoder.encode((0, frame.line, frame.first))
    return _encoder.encode(frame)


def pack_enclosed(enclosed: Enclosed) -> bytes:
    """Return the payload of a letter."""
    return _encoder.encode(enclosed)


def read_enclosed(data: bytes) -> Enclosed:
    """Read the payload of a letter.

    Raises:
        ProtocolViolation: it is none of a conversation.
    """
    try:
        return _enclosed.decode(data)
    except (ValueError, RecursionError) as error:
        raise ProtocolViolation(f"not a letter of a conversation: {error}"[:200]) from None


def pack_item(item: Item | None) -> msgspec.Raw:
    """Return one item, to be put into a frame."""
    return msgspec.Raw(_encoder.encode(item))


def read_frame(data: bytes) -> Frame | None:
    """Read one frame; None is one of a later version, to be passed over.

    Raises:
        ProtocolViolation: it is none.
    """
    if len(data) > MAX_FRAME:
        raise ProtocolViolation(
            f"a frame of a conversation has at most {MAX_FRAME} bytes", code=Code.MESSAGE_TOO_LARGE
        )
    try:
        frame: Frame = _frames.decode(data)
    except (ValueError, RecursionError) as error:
        if _is_later(data, _KNOWN):
            return None
        raise ProtocolViolation(f"not a frame of a conversation: {error}"[:200]) from None
    return frame


def read_item(data: msgspec.Raw) -> Item | None:
    """Read one item; None where nothing is left of it, or it is of a later version.

    Raises:
        ProtocolViolation: it is none.
    """
    try:
        item: Item | None = _items.decode(data)
        if isinstance(item, Letter) and item.sent != item.sent:
            raise ValueError("no time is NaN")
    except (ValueError, RecursionError) as error:
        if _is_later(bytes(data), 2):
            return None
        raise ProtocolViolation(f"not an item of a conversation: {error}"[:200]) from None
    return item


def _is_later(data: bytes, known: int) -> bool:
    try:
        head = _heads.decode(data)
        return bool(head) and _integer.decode(head[0]) >= known
    except (ValueError, RecursionError):
        return False
