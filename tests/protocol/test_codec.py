"""The codec against hostile bytes: only ProtocolViolation ever leaves, and nothing costs more than
it should."""

import contextlib
import json
import tracemalloc
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import codec
from protocol.codec import (
    MessageDecoder,
    UnknownType,
    ValueReader,
    decode_location,
    encode,
    encode_location,
    to_message,
)
from protocol.errors import Code, ProtocolViolation
from protocol.messages import (
    MAX_MESSAGE_BYTES,
    Error,
    LocationRecord,
    Message,
    Ping,
    Pong,
    ServiceRecord,
)
from protocol.session import frames
from protocol.session.frames import Frame, FrameReader
from protocol.tables import FROM_PEER, FROM_RELAY, ON_PATH
from tests.protocol.strategies import FIELDS, LOCATIONS, any_of

TABLES = (FROM_PEER, FROM_RELAY, ON_PATH)
STREAM = b"".join(
    [
        encode(Ping(7)),
        encode(Error(Code.REFUSED, "no")),
        msgpack.packb({"type": "later", "x": [1]}),
        encode(Pong(2**31)),
    ]
)
MESSAGES = [Ping(7), Error(Code.REFUSED, "no"), UnknownType("later"), Pong(2**31)]


def decode(data: bytes, **limits: int) -> list[Message | UnknownType]:
    return list(MessageDecoder(FROM_PEER, **limits).receive(data))


def code_of(data: bytes) -> Code:
    with pytest.raises(ProtocolViolation) as error:
        decode(data)
    assert error.value.code is not None
    return error.value.code


# -- streams --------------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", range(len(STREAM) + 1))
def test_a_stream_may_be_split_at_every_byte(cut: int) -> None:
    decoder = MessageDecoder(FROM_PEER)
    got = [*decoder.receive(STREAM[:cut]), *decoder.receive(STREAM[cut:])]
    assert got == MESSAGES


def test_a_stream_may_come_byte_by_byte() -> None:
    decoder = MessageDecoder(FROM_PEER)
    got = [message for byte in STREAM for message in decoder.receive(bytes([byte]))]
    assert got == MESSAGES


def test_each_byte_is_parsed_once() -> None:
    """The parser never goes back to the start of a message that is not whole: O(n) in all."""
    data = msgpack.packb([list(range(100))] * 100 + ["x" * 100] * 100)
    reader = ValueReader()
    behind = 0
    for count, byte in enumerate(data[:-1], 1):
        reader.feed(bytes([byte]))
        assert list(reader) == []
        assert reader.pending == count
        # What it has not consumed is at most the one item that it waits for.
        behind = max(behind, count - reader._unpacker.tell())
    assert behind <= 101
    reader.feed(data[-1:])
    assert len(list(reader)) == 1
    assert reader.pending == 0


def test_messages_before_a_fault_are_yielded_first() -> None:
    messages = MessageDecoder(FROM_PEER).receive(STREAM + b"\xc1")
    assert [next(messages) for _ in MESSAGES] == MESSAGES
    with pytest.raises(ProtocolViolation):
        next(messages)


def test_what_follows_the_head_of_a_path_is_given_back() -> None:
    decoder = MessageDecoder(FROM_PEER)
    data = encode(Ping(1)) + b"\xc1 not ours"
    for message in decoder.receive(data):
        assert message == Ping(1)
        assert decoder.rest() == b"\xc1 not ours"
        break
    assert decoder.rest() == b""
    assert list(decoder.receive(encode(Ping(2)))) == [Ping(2)]


def test_a_stream_holds_nothing_between_messages() -> None:
    """As many streams as peers: either parser would take 40 KiB of each."""
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        decoders = [MessageDecoder(FROM_PEER) for _ in range(50)]
        for decoder in decoders:
            pieces = STREAM, STREAM[:30], STREAM[30:]
            assert [one for piece in pieces for one in decoder.receive(piece)] == MESSAGES * 2
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # Of those that skip a few are kept, for all.
    assert (after - before) / len(decoders) < 8192


class Taken(list[Any]):
    """Spare parsers, the last of which another thread takes at the very moment."""

    def __len__(self) -> int:
        return 1


def test_another_thread_may_take_the_last_spare_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "_skippers", Taken())
    pings = encode(Ping(1)) + encode(Ping(2))
    assert list(MessageDecoder(FROM_PEER).receive(pings)) == [Ping(1), Ping(2)]


def test_another_thread_may_take_the_last_spare_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "_SPARE", {True: Taken(), False: Taken()})
    frame: list[object] = [Frame.PING, 7]
    assert list(FrameReader(revised=True).read(msgpack.packb(frame))) == [frame]


def test_streams_that_are_read_by_turns_do_not_meet() -> None:
    """A stream may wait between two messages of one piece, while others are read."""
    streams = [MessageDecoder(FROM_PEER).receive(STREAM * 3) for _ in range(9)]
    for expected in MESSAGES * 3:
        assert [next(stream) for stream in streams] == [expected] * 9
    del streams[4:]  # Some end before all of their piece is read.
    assert [message for stream in streams for message in stream] == []
    assert decode(STREAM) == MESSAGES


# -- sizes ----------------------------------------------------------------------------------------


def sized(size: int) -> bytes:
    """Return a ping of exactly so many bytes."""
    data = msgpack.packb({"type": "ping", "x": bytes(size - 20)})
    data = msgpack.packb({"type": "ping", "x": bytes(size - 20 + size - len(data))})
    assert len(data) == size
    return bytes(data)


@pytest.mark.parametrize("piece", [1, 1000, 1 << 20])
def test_the_size_limit_is_exact(piece: int) -> None:
    def feed(data: bytes) -> list[Message | UnknownType]:
        decoder = MessageDecoder(FROM_PEER)
        return [
            message
            for start in range(0, len(data), piece)
            for message in decoder.receive(data[start : start + piece])
        ]

    whole = sized(MAX_MESSAGE_BYTES)
    assert feed(whole + whole + whole) == [Ping(0)] * 3
    with pytest.raises(ProtocolViolation) as error:
        feed(whole + sized(MAX_MESSAGE_BYTES + 1))
    assert error.value.code is Code.MESSAGE_TOO_LARGE


def test_a_message_that_never_ends_is_refused_at_the_limit() -> None:
    decoder = MessageDecoder(FROM_PEER)
    endless = b"\x81\xa1x\xc6\xff\xff\xff\xff" + bytes(MAX_MESSAGE_BYTES)
    assert list(decoder.receive(endless[:MAX_MESSAGE_BYTES])) == []
    with pytest.raises(ProtocolViolation) as error:
        list(decoder.receive(endless[MAX_MESSAGE_BYTES : MAX_MESSAGE_BYTES + 1]))
    assert error.value.code is Code.MESSAGE_TOO_LARGE


def test_a_piece_larger_than_agreed_is_refused() -> None:
    with pytest.raises(ProtocolViolation) as error:
        decode(bytes(MAX_MESSAGE_BYTES + (1 << 20) + 1))
    assert error.value.code is Code.MESSAGE_TOO_LARGE


BOMBS = {
    "huge array": b"\xdd\xff\xff\xff\xff",
    "huge map": b"\xdf\xff\xff\xff\xff",
    "string over the limit": msgpack.packb({"type": "error", "code": "x" * 5000, "reason": 1}),
    "deep arrays": b"\x91" * 2000,
    "deep maps": b"\x81\xa1x" * 2000,
    "number as key": b"\x81\x01\x02",
    "nil as key": b"\x81\xc0\x02",
    "array as key": b"\x81\x90\x02",
    "map as key": b"\x81\x80\x02",
    "bin as key": msgpack.packb({"type": "ping", b"x": 1}),
    "bin as type": msgpack.packb({"type": b"ping"}),
    "ext": msgpack.packb({"type": "ping", "ping": msgpack.ExtType(5, b"x")}),
    "timestamp": msgpack.packb({"type": "ping", "ping": msgpack.Timestamp(1)}),
    "empty timestamp": b"\x82\xa4type\xa4ping\xa4ping\xc7\x00\xff",
    "ext as key": b"\x81\xd4\x01\x00\xc0",
    "bad utf-8": b"\x82\xa4type\xa5error\xa4code\xa1\xff",
    "surrogate": b"\x82\xa4type\xa5error\xa4code\xa3\xed\xa0\x80",
    "bad utf-8 as key": b"\x81\xa1\xff\xc0",
    "reserved byte": b"\xc1",
    "no map": b"\x93\x01\x02\x03",
    "nil": b"\xc0",
    "no type": b"\x80",
    "number as type": b"\x81\xa4type\x01",
    "nil as type": b"\x81\xa4type\xc0",
}


@pytest.mark.parametrize("name", BOMBS)
def test_hostile_values_are_bad_messages(name: str) -> None:
    assert code_of(BOMBS[name]) is Code.BAD_MESSAGE


UNDER_UNKNOWN_KEYS = {
    "array over the limit": msgpack.packb({"type": "ping", "x": [0] * 1025}),
    "map over the limit": msgpack.packb({"type": "ping", **{str(n): n for n in range(64)}}),
    "string over the limit": msgpack.packb({"type": "ping", "x": "x" * 4097}),
    "ext": msgpack.packb({"type": "ping", "x": msgpack.ExtType(5, b"x")}),
    "empty timestamp": b"\x82\xa4type\xa4ping\xa1x\xc7\x00\xff",
    "bad utf-8": b"\x82\xa4type\xa4ping\xa1x\xa1\xff",
    "key of bad utf-8": b"\x82\xa4type\xa4ping\xa1\xff\xc0",
    "key of bad utf-8, nested": b"\x82\xa4type\xa4ping\xa1x\x81\xa1\xff\xc0",
    "deep arrays": b"\x82\xa4type\xa4ping\xa1x" + b"\x91" * 1100 + b"\xc0",
    "surrogate": b"\x82\xa4type\xa4ping\xa1x\xa3\xed\xa0\x80",
}


@pytest.mark.parametrize("name", UNDER_UNKNOWN_KEYS)
@pytest.mark.parametrize("piece", [1, 7, 1 << 20])
def test_what_unknown_keys_hold_is_refused_in_whatever_pieces_it_comes(
    name: str, piece: int
) -> None:
    decoder = MessageDecoder(FROM_PEER)
    data = encode(Ping(1)) + UNDER_UNKNOWN_KEYS[name]
    pieces = [data[start : start + piece] for start in range(0, len(data), piece)]
    messages = (message for one in pieces for message in decoder.receive(one))
    assert next(messages) == Ping(1)
    with pytest.raises(ProtocolViolation) as error:
        next(messages)
    assert error.value.code is Code.BAD_MESSAGE


@pytest.mark.parametrize("piece", [7, 65_536, 1 << 20])
@pytest.mark.parametrize("size", [MAX_MESSAGE_BYTES, MAX_MESSAGE_BYTES + 1, 100_000])
def test_a_bin_that_takes_a_message_over_its_limit_is_too_large(size: int, piece: int) -> None:
    data = msgpack.packb({"type": "ping", "x": bytes(size)})
    decoder = MessageDecoder(FROM_PEER)
    pieces = [data[start : start + piece] for start in range(0, len(data), piece)]
    with pytest.raises(ProtocolViolation) as error:
        [message for one in pieces for message in decoder.receive(one)]
    assert error.value.code is Code.MESSAGE_TOO_LARGE


def test_values_at_the_limits_are_taken() -> None:
    for value in ([0] * 1024, "x" * 4096, {str(n): n for n in range(64)}, b"x" * 60_000):
        assert decode(msgpack.packb({"type": "ping", "x": value})) == [Ping(0)]
    assert decode(msgpack.packb({"type": "ping", **{str(n): n for n in range(63)}})) == [Ping(0)]


def test_an_empty_extension_is_a_value_like_any_other() -> None:
    assert decode(b"\x82\xa4type\xa4ping\xa1x\xc7\x00\x05") == [Ping(0)]
    with pytest.raises(ProtocolViolation):
        decode(b"\x82\xa4type\xa4ping\xa4ping\xc7\x00\x05")


def test_the_name_of_an_unknown_type_is_shortened() -> None:
    assert decode(msgpack.packb({"type": "x" * 4000})) == [UnknownType("x" * 64)]


def test_the_reader_can_bound_arrays_and_bytes() -> None:
    reader = ValueReader(1000, max_array=2, max_bin=3)
    reader.feed(msgpack.packb([b"123", b""]))
    assert list(reader) == [[b"123", b""]]
    for value in ([1, 2, 3], [b"1234"]):
        reader = ValueReader(1000, max_array=2, max_bin=3)
        reader.feed(msgpack.packb(value))
        with pytest.raises(ProtocolViolation):
            list(reader)


# -- fuzz -----------------------------------------------------------------------------------------


def swallow(table: dict[str, type[Message]], pieces: list[bytes]) -> None:
    decoder = MessageDecoder(table)
    with contextlib.suppress(ProtocolViolation):
        for piece in pieces:
            for message in decoder.receive(piece):
                assert isinstance(message, Message | UnknownType)


@given(st.sampled_from(TABLES), st.lists(st.binary(max_size=200), max_size=5))
def test_random_bytes(table: dict[str, type[Message]], pieces: list[bytes]) -> None:
    swallow(table, pieces)


@given(st.data())
def test_mutated_messages(data: st.DataObject) -> None:
    table = data.draw(st.sampled_from(TABLES))
    cls = data.draw(st.sampled_from(sorted(table.values(), key=lambda cls: cls.__name__)))
    raw = bytearray(encode(data.draw(any_of(cls))))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(raw)))
        match data.draw(st.sampled_from(["set", "insert", "delete"])):
            case "set":
                raw[at : at + 1] = data.draw(st.binary(min_size=1, max_size=1))
            case "insert":
                raw[at:at] = data.draw(st.binary(max_size=5))
            case "delete":
                del raw[at : at + data.draw(st.integers(1, 5))]
    cut = data.draw(st.integers(0, len(raw)))
    swallow(table, [bytes(raw[:cut]), bytes(raw[cut:]), encode(Ping(1))])


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(st.characters(codec="utf-8"), max_size=20)
    | st.binary(max_size=70),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=8,
)


@given(st.data())
def test_well_formed_nonsense_in_any_field(data: st.DataObject) -> None:
    table = data.draw(st.sampled_from(TABLES))
    cls = data.draw(st.sampled_from(sorted(table.values(), key=lambda cls: cls.__name__)))
    fields: dict[str, Any] = msgpack.unpackb(encode(data.draw(any_of(cls))))
    name = data.draw(st.sampled_from(sorted(FIELDS[cls])))
    fields[name] = data.draw(VALUES)
    with contextlib.suppress(ProtocolViolation):
        assert isinstance(to_message(fields, table), cls)


@given(VALUES)
def test_any_value_is_a_message_or_a_violation(value: object) -> None:
    with contextlib.suppress(ProtocolViolation):
        to_message(value, FROM_PEER)


# -- location records -----------------------------------------------------------------------------


@given(LOCATIONS)
def test_a_location_record_round_trip(record: LocationRecord) -> None:
    assert decode_location(encode_location(record)) == record


@given(st.binary(max_size=100))
def test_random_bytes_as_a_location(data: bytes) -> None:
    with contextlib.suppress(ProtocolViolation):
        decode_location(data)


RECORD = encode_location(LocationRecord(1))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        RECORD[:-1],
        RECORD + RECORD,
        RECORD + b"\x01",
        RECORD + b"\x92\x01",  # the beginning of another value
        RECORD + b"\xc4\x05",
        RECORD + b"\xc1",
        b"\x91\x01",
        b"\xc0",
        msgpack.packb({}),
        msgpack.packb({"seq": -1}),
        msgpack.packb({"seq": 2**63}),
        msgpack.packb({"seq": 1, "services": [{"service": "Chat"}]}),
        msgpack.packb({"seq": 1, "services": [{"service": "-chat"}]}),
        msgpack.packb({"seq": 1, "services": [{"service": "a"}] * 2}),
        msgpack.packb({"seq": 1, "services": [{"service": str(n)} for n in range(17)]}),
        msgpack.packb({"seq": 1, "services": [{"service": "a", "disclose": "all"}]}),
        msgpack.packb({"seq": 1, "services": [{"service": "a", "listed": ["a" * 52] * 257}]}),
        msgpack.packb({"seq": 1, "services": [{"service": "a", "listed": ["x"]}]}),
        bytes(2 << 20),
    ],
)
def test_a_malformed_location_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        decode_location(data)


def test_the_largest_disclosure_list_is_accepted() -> None:
    record = LocationRecord(1, (ServiceRecord("a", listed=("a" * 52,) * 256),))
    assert decode_location(encode_location(record)) == record


def test_a_violation_can_be_told() -> None:
    """Reasons are short, and text that any encoder takes."""
    long = {"type": "service_answer", "request": 1, "verdict": "x" * 4000}
    for data in (*BOMBS.values(), msgpack.packb(long)):
        with pytest.raises(ProtocolViolation) as error:
            decode(data)
        json.dumps(error.value.reason).encode()
        assert len(error.value.reason) <= 512
    service = {"service": "chat", "disclose": "x" * 4000}
    with pytest.raises(ProtocolViolation) as error:
        decode_location(msgpack.packb({"seq": 1, "services": [service]}))
    assert len(error.value.reason) <= 512
