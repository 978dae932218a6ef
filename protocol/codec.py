"""MessagePack in and out of a byte stream, with limits.

Costs: feeding n bytes in any number of pieces is O(n); at most one message limit and one piece are
ever buffered. Nesting is bounded by the MessagePack library (1,024). What leaves
here is validated; inside, types are trusted.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any, TypeVar, Union

import msgpack
import msgspec

from protocol.errors import Code, ProtocolViolation
from protocol.messages import MAX_MESSAGE_BYTES, LocationRecord, Message

__all__ = [
    "MessageDecoder",
    "UnknownType",
    "ValueReader",
    "decode_location",
    "encode",
    "encode_location",
]

_MAX_STRING = 4096
_MAX_ARRAY = 1024
_MAX_MAP = 64
_MAX_REASON = 512
_BUFFER = 4096
"""Bytes that a stream's buffer has at first; it grows. The library's own choice is a megabyte."""

_SINGLE = 1024
"""Bytes: what comes in a piece of no more is mostly one message, and is decoded as one first."""
_MAX_SKIPPED = MAX_MESSAGE_BYTES + (1 << 20)
"""Bytes of one piece: what a `ValueReader` would take."""
_MAX_SKIPPERS = 4

_skippers: list[Any] = []
"""Parsers that are not in use, for all streams: taking one out is one step, so that threads may
share them."""

_Record = TypeVar("_Record", bound=msgspec.Struct)

_encode = msgspec.msgpack.Encoder().encode
_MAP_16 = 0xDE
_SHORT_MAP, _MOST_OF_SHORT = 0x80, 15
"""Heads of MessagePack maps, and how many keys the short one can count."""


class UnknownType(msgspec.Struct, frozen=True):
    """A well-formed message whose `type` this side does not know."""

    type: str


class ValueReader:
    """A stream of MessagePack values, each of at most `max_bytes` bytes.

    `feed` bytes, then iterate over the values that are whole. After a `ProtocolViolation` the
    stream has no meaning any more.
    """

    def __init__(
        self,
        max_bytes: int = MAX_MESSAGE_BYTES,
        max_piece: int = 1 << 20,
        max_array: int = _MAX_ARRAY,
        max_bin: int | None = None,
    ) -> None:
        self._max_bytes = max_bytes
        self._start = 0
        self._fed = 0
        self._unpacker = msgpack.Unpacker(
            raw=False,
            read_size=min(_BUFFER, max_bytes),
            strict_map_key=True,
            max_buffer_size=max_bytes + max_piece,
            max_str_len=min(_MAX_STRING, max_bytes),
            max_bin_len=max_bytes if max_bin is None else max_bin,
            max_array_len=max_array,
            max_map_len=_MAX_MAP,
            max_ext_len=0,
        )

    def feed(self, data: bytes) -> None:
        """Add bytes as they came from the stream: at most `max_piece` at once."""
        self._fed += len(data)
        try:
            self._unpacker.feed(data)
        except msgpack.exceptions.BufferFull:
            raise self._too_large() from None

    @property
    def pending(self) -> int:
        """How many bytes were fed that belong to no whole value."""
        return self._fed - self._start

    def rest(self) -> bytes:
        """Return the bytes that were fed behind the value read last, and forget them.

        Call it before the iteration goes on: a value that was begun cannot be given back.
        """
        rest = bytes(self._unpacker.read_bytes(self.pending))
        self._start = self._fed
        return rest

    def __iter__(self) -> Iterator[Any]:
        unpack, tell = self._unpacker.unpack, self._unpacker.tell
        while True:
            try:
                value = unpack()
            except msgpack.OutOfData:
                if self.pending > self._max_bytes:
                    raise self._too_large() from None
                return
            except (ValueError, TypeError, RecursionError) as error:
                reason = f"not MessagePack within the limits: {str(error) or type(error).__name__}"
                # Of bytes that are too many for a message it is the message that is too large.
                code = Code.MESSAGE_TOO_LARGE if "max_bin_len" in reason else Code.BAD_MESSAGE
                raise ProtocolViolation(reason, code=code) from None
            end = tell()
            if end - self._start > self._max_bytes:
                raise self._too_large()
            self._start = end
            yield value

    def _too_large(self) -> ProtocolViolation:
        return ProtocolViolation(
            f"a message may have at most {self._max_bytes} bytes", code=Code.MESSAGE_TOO_LARGE
        )


class MessageDecoder:
    """Turns a byte stream into the messages of one table.

    Whole messages are decoded straight into their types, which bound what is built. Where several
    came in one piece their ends are found by skipping, which builds nothing. What is in pieces, not
    known, or at fault goes the slower way through `ValueReader`, which says what is wrong with it;
    and so does what is not written as `encode` writes it: it may hold, under keys that nobody knows
    here, what the straight way does not look at, and a message must mean the same in whatever
    pieces it comes.

    Between messages it holds nothing: either parser has a stack of 40 KiB, and there are as many
    streams as peers. Parsers that skip are shared; a reader is made for a message in pieces, and
    dropped after it.
    """

    __slots__ = ("_at", "_decode", "_max_bytes", "_reader", "_table", "_whole")

    def __init__(
        self, table: Mapping[str, type[Message]], max_bytes: int = MAX_MESSAGE_BYTES
    ) -> None:
        self._table = table
        self._max_bytes = max_bytes
        self._decode = _decoder(tuple(table.values()))
        self._reader: ValueReader | None = None
        self._whole = b""
        self._at = 0

    def receive(self, data: bytes) -> Iterator[Message | UnknownType]:
        """Feed bytes and yield each message that is whole.

        Raises:
            ProtocolViolation: from the iterator, after the messages that came before the fault.
        """
        reader = self._reader
        if reader is None or not reader.pending:
            reader = self._reader = None
            size = len(data)
            self._whole, self._at = data, 0
            if size <= _SINGLE:
                message = self._straight(data)
                if message is not None:
                    self._at = size
                    yield message
            if self._at < size <= _MAX_SKIPPED:
                # As many messages as there are: no generator in a generator, no call for each.
                try:
                    skipper = _skippers.pop()
                except IndexError:  # Not asked before: another thread may take the last one.
                    skipper = msgpack.Unpacker(read_size=_BUFFER)
                skip, tell, decode = skipper.skip, skipper.tell, self._decode
                skipper.feed(data)
                base, most, begin = tell(), self._max_bytes, 0
                is_clean = True
                try:
                    while begin < size:
                        is_clean = False
                        skip()
                        is_clean = True
                        end = tell() - base
                        if end - begin > most:
                            break
                        piece = data[begin:end]
                        message = decode(piece)
                        if encode(message) != piece:
                            break
                        self._at = end
                        yield message
                        begin = self._at
                except (msgpack.OutOfData, ValueError, RecursionError):
                    pass
                finally:
                    # One that stands within a message keeps it, and one that was fed much its
                    # buffer.
                    if is_clean and size <= MAX_MESSAGE_BYTES and len(_skippers) < _MAX_SKIPPERS:
                        skipper.read_bytes(size - (tell() - base))
                        _skippers.append(skipper)
            data = self._whole[self._at :]
            self._whole, self._at = b"", 0
            if not data:
                return
            reader = self._reader = ValueReader(self._max_bytes)
        reader.feed(data)
        table = self._table
        for value in reader:
            yield to_message(value, table)
        if not reader.pending:
            self._reader = None

    def rest(self) -> bytes:
        """Return the bytes that were fed behind the message yielded last, and forget them.

        Call it before the iteration of `receive` goes on.
        """
        if not self._whole:
            return self._reader.rest() if self._reader is not None else b""
        rest, self._at = self._whole[self._at :], len(self._whole)
        return rest

    def _straight(self, piece: bytes) -> Message | None:
        """Decode what may be one whole message, written as `encode` writes it; None where it is
        not."""
        try:
            message = self._decode(piece)
        except (ValueError, RecursionError):
            return None
        return message if encode(message) == piece else None


@cache
def _decoder(classes: tuple[type[Message], ...]) -> Callable[[bytes], Message]:
    return msgspec.msgpack.Decoder(Union[classes]).decode  # noqa: UP007


def to_message(value: object, table: Mapping[str, type[Message]]) -> Message | UnknownType:
    """Validate one decoded value against a table.

    Raises:
        ProtocolViolation: not a map with a `type`, nested too deep, or a field at fault.
    """
    if type(value) is not dict:
        raise ProtocolViolation("a message must be a map")
    kind = value.get("type")
    if type(kind) is not str:
        raise ProtocolViolation("a message must have a type")
    cls = table.get(kind)
    if cls is None:
        return UnknownType(kind[:64])
    try:
        return _convert(value, cls)
    except (msgspec.ValidationError, ValueError) as error:
        raise ProtocolViolation(f"{kind}: {error}"[:_MAX_REASON]) from None


def _convert(value: object, cls: type[_Record]) -> _Record:
    # Without `builtin_types`, a string would pass for bytes if it happened to be base64.
    return msgspec.convert(value, cls, builtin_types=(bytes,))


def encode(value: object) -> bytes:
    """Return the MessagePack bytes of a message, in the shortest form, so that every language can
    write the same."""
    data = _encode(value)
    # msgspec gives a map the head that all fields of the message would need, also those that are
    # left out.
    if data[0] == _MAP_16 and data[1] == 0 and data[2] <= _MOST_OF_SHORT:
        return bytes((_SHORT_MAP | data[2],)) + data[3:]
    return data


def encode_location(record: LocationRecord) -> bytes:
    """Return the bytes of a location record, as `register` and `update` carry and sign them."""
    return encode(record)


_decode_location = msgspec.msgpack.Decoder(LocationRecord).decode


def decode_location(data: bytes) -> LocationRecord:
    """Read the bytes of a location record.

    Raises:
        ProtocolViolation: malformed, or over a limit.
    """
    record: LocationRecord | None
    try:
        record = _decode_location(data)
    except (ValueError, RecursionError):
        record = None
    if record is None or encode(record) != data:
        record = _read_location(data)
    names = [service.service for service in record.services]
    if len(set(names)) != len(names):
        raise ProtocolViolation("location: a service is named twice")
    return record


def _read_location(data: bytes) -> LocationRecord:
    """Read the slower way, which says what is wrong and bounds what nobody knows here, what is not
    written as `encode_location` writes it."""
    reader = ValueReader(max_array=512)
    reader.feed(data)
    values = list(reader)
    if len(values) != 1 or type(values[0]) is not dict or reader.pending:
        raise ProtocolViolation("location: must be one map")
    try:
        return _convert(values[0], LocationRecord)
    except (msgspec.ValidationError, ValueError) as error:
        raise ProtocolViolation(f"location: {error}"[:_MAX_REASON]) from None
