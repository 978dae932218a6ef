"""The codec: only `ProtocolViolation` leaves, and pieces mean what the whole means."""

import contextlib
import json
from collections.abc import Mapping

from protocol.codec import MessageDecoder, UnknownType, ValueReader, decode_location, encode
from protocol.dns_records import parse_zone
from protocol.endpoint import SignedEntry, read_entry
from protocol.errors import ProtocolViolation
from protocol.messages import MAX_MESSAGE_BYTES, Message
from protocol.tables import FROM_PEER, FROM_RELAY, ON_PATH
from tests.fuzz.draws import Draw

__all__ = ["messages", "records", "values"]

_TABLES = (FROM_PEER, FROM_RELAY, ON_PATH)


def messages(data: bytes) -> None:
    """A stream of messages, whole and in pieces."""
    draw = Draw(data)
    table = _TABLES[draw.number(3)]
    size = draw.number()
    stream = draw.rest()[: 2 * MAX_MESSAGE_BYTES]
    whole = _decoded(table, [stream])
    step = size or 1
    pieces = [stream[start : start + step] for start in range(0, len(stream), step)]
    assert _decoded(table, pieces) == whole
    assert _decoded(table, [stream[:size], stream[size:]]) == whole


def values(data: bytes) -> None:
    """A stream of values, whole and in pieces: what sessions read."""
    draw = Draw(data)
    limit = 1 + draw.number(4096)
    size = draw.number() or 1
    stream = draw.rest()
    pieces = [stream[start : start + size] for start in range(0, len(stream), size)]
    assert _read(limit, pieces) == _read(limit, [stream])


def records(data: bytes) -> None:
    """A location record, an entry, the name of a zone: each comes whole."""
    with contextlib.suppress(ProtocolViolation):
        record = decode_location(data)
        assert decode_location(encode(record)) == record
    with contextlib.suppress(ProtocolViolation):
        read_entry(SignedEntry(data[:256], bytes(64)))
    with contextlib.suppress(ProtocolViolation):
        zone = parse_zone(data.decode("utf-8", "surrogateescape"))
        assert parse_zone(zone) == zone


def _decoded(table: Mapping[str, type[Message]], pieces: list[bytes]) -> list[str]:
    decoder = MessageDecoder(table)
    found: list[str] = []
    try:
        for piece in pieces:
            for message in decoder.receive(piece):
                found.append(repr(message))
                assert isinstance(message, UnknownType) or (
                    repr(next(MessageDecoder(table).receive(encode(message)))) == found[-1]
                )
    except ProtocolViolation as violation:
        found.append(_told(violation, short=sum(map(len, pieces)) <= MAX_MESSAGE_BYTES))
    return found


def _read(limit: int, pieces: list[bytes]) -> list[str]:
    reader = ValueReader(limit)
    found: list[str] = []
    try:
        for piece in pieces:
            reader.feed(piece)
            found.extend(repr(value) for value in reader)
    except ProtocolViolation as violation:
        found.append(_told(violation, short=sum(map(len, pieces)) <= limit))
    return found


def _told(violation: ProtocolViolation, *, short: bool) -> str:
    """Return the code of a violation that can be told to the other side. Of what is too long and
    malformed as well, either may be told: pieces show first that it is too long."""
    assert len(violation.reason) <= 512
    json.dumps(violation.reason).encode()
    return repr(violation.code) if short else "violation"
