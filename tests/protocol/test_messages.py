"""Every message of the three tables."""

from typing import Any

import msgpack
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.codec import MessageDecoder, UnknownType, encode
from protocol.errors import ProtocolViolation
from protocol.messages import Limits, Message, ServiceResponse
from protocol.tables import FROM_PEER, FROM_RELAY, ON_PATH
from tests.protocol.strategies import FIELDS, any_of, required_fields
from tests.support.scale import of

TABLES = (FROM_PEER, FROM_RELAY, ON_PATH)
EVERY = [(table, cls) for table in TABLES for cls in table.values()]
IDS = [cls.__name__ for _, cls in EVERY]
ALL = pytest.mark.parametrize(("table", "cls"), EVERY, ids=IDS)
SOME = settings(max_examples=of(15, 1000))
"""For each message; any bytes at all are for the fuzz target `codec`."""


def decode(table: dict[str, type[Message]], data: bytes) -> list[Message | UnknownType]:
    return list(MessageDecoder(table).receive(data))


def fields_of(message: Message) -> dict[str, Any]:
    fields: dict[str, Any] = msgpack.unpackb(encode(message))
    return fields


def test_the_tables_name_every_message_by_its_type() -> None:
    assert {cls for table in TABLES for cls in table.values()} == set(Message.__subclasses__())
    assert set(FIELDS) == set(Message.__subclasses__())
    for table in TABLES:
        for name, cls in table.items():
            assert cls.__struct_config__.tag == name
            assert cls.__struct_config__.tag_field == "type"
            assert set(FIELDS[cls]) == set(cls.__struct_fields__)
    assert set(FROM_PEER) & set(FROM_RELAY) == {"ping", "pong", "error"}
    assert not set(ON_PATH) & (set(FROM_PEER) | set(FROM_RELAY))


@ALL
@SOME
@given(data=st.data())
def test_what_is_encoded_is_decoded(
    table: dict[str, type[Message]], cls: type[Message], data: st.DataObject
) -> None:
    message = data.draw(any_of(cls))
    assert decode(table, encode(message)) == [message]
    assert fields_of(message)["type"] == cls.__struct_config__.tag


@ALL
@SOME
@given(data=st.data())
def test_keys_that_are_not_known_are_ignored(
    table: dict[str, type[Message]], cls: type[Message], data: st.DataObject
) -> None:
    message = data.draw(any_of(cls))
    more = fields_of(message) | {"later": [{"deep": b"x"}, None, 1.5], "x": {}}
    assert decode(table, msgpack.packb(more)) == [message]


@ALL
@SOME
@given(data=st.data())
def test_a_required_key_that_is_missing_is_refused(
    table: dict[str, type[Message]], cls: type[Message], data: st.DataObject
) -> None:
    message = data.draw(any_of(cls))
    for name in required_fields(cls):
        fields = fields_of(message)
        del fields[name]
        with pytest.raises(ProtocolViolation, match=name):
            decode(table, msgpack.packb(fields))


@ALL
@SOME
@given(data=st.data())
def test_a_field_of_another_type_is_refused(
    table: dict[str, type[Message]], cls: type[Message], data: st.DataObject
) -> None:
    message = data.draw(any_of(cls))
    fields = fields_of(message)
    for name in cls.__struct_fields__:
        with pytest.raises(ProtocolViolation, match=name):
            decode(table, msgpack.packb(fields | {name: {"no": "such"} if name != "limits" else 1}))


@ALL
def test_a_message_of_the_other_table_is_not_known(
    table: dict[str, type[Message]], cls: type[Message]
) -> None:
    for other in TABLES:
        for name in set(other) - set(table):
            assert decode(table, msgpack.packb({"type": name})) == [UnknownType(name)]


HELLO = {"type": "hello", "guid": "a" * 52, "instance": b"i" * 16, "nonce": b"n" * 32}
REQUEST = {
    "type": "service_request_to",
    "request": 1,
    "guid": "a" * 52,
    "service": "chat",
    "mode": "p2p",
    "session": b"s" * 16,
}
PATH = {"type": "path_hello", "session": b"s" * 16, "service": "chat", "mode": "p2p"}
SIGNED = {"body": b"x", "signature": b"s" * 64}


@pytest.mark.parametrize(
    ("table", "good", "bad"),
    [
        (FROM_PEER, HELLO, {"guid": "a" * 51}),
        (FROM_PEER, HELLO, {"guid": b"a" * 52}),
        (FROM_PEER, HELLO, {"instance": b"i" * 15}),
        (FROM_PEER, HELLO, {"instance": "i" * 16}),
        (FROM_PEER, HELLO, {"instance": "A" * 22 + "=="}),  # base64 of 16 bytes
        (FROM_PEER, HELLO, {"nonce": b""}),
        (FROM_PEER, HELLO, {"flow": 4}),
        (FROM_PEER, HELLO, {"flow": -1}),
        (FROM_PEER, HELLO, {"flow": True}),
        (FROM_PEER, HELLO, {"flow": 1.0}),
        (FROM_PEER, HELLO, {"version": "1"}),
        (FROM_PEER, HELLO, {"agent": "x" * 129}),
        (FROM_PEER, HELLO, {"features": ["x"] * 33}),
        (FROM_PEER, HELLO, {"features": ["x" * 33]}),
        (FROM_PEER, HELLO, {"features": [""]}),
        (FROM_PEER, HELLO, {"features": [b"x"]}),
        (ON_PATH, PATH, {"features": ["x"] * 33}),
        (ON_PATH, PATH, {"features": "session-2"}),
        (ON_PATH, PATH, {"partial": -1}),
        (ON_PATH, PATH, {"idle": -1.0}),
        (ON_PATH, PATH, {"metadata": b"x" * 1025}),
        (ON_PATH, PATH, {"metadata": "text"}),
        (ON_PATH, {"type": "path_welcome"}, {"metadata": b"x" * 1025}),
        (FROM_PEER, REQUEST, {"request": 2**32}),
        (FROM_PEER, REQUEST, {"request": 2**64 - 1}),
        (FROM_PEER, REQUEST, {"mode": "direct"}),
        (FROM_PEER, REQUEST, {"service": ""}),
        (FROM_PEER, REQUEST, {"service": "x" * 64}),
        (FROM_PEER, REQUEST, {"entries": [SIGNED] * 17}),
        (FROM_PEER, REQUEST, {"entries": [SIGNED | {"body": b"x" * 257}]}),
        (FROM_PEER, REQUEST, {"entries": [SIGNED | {"signature": b"s" * 63}]}),
        (FROM_PEER, REQUEST, {"entries": [b"x"]}),
        (FROM_PEER, REQUEST, {"entries": None}),
        (FROM_PEER, REQUEST, {"timeout": 0}),
        (FROM_PEER, REQUEST, {"timeout": 60.1}),
        (FROM_PEER, REQUEST, {"timeout": float("nan")}),
        (FROM_PEER, REQUEST, {"timeout": float("inf")}),
        (FROM_RELAY, {"type": "restarting", "delay": 0, "spread": 0}, {"delay": float("nan")}),
        (FROM_RELAY, {"type": "restarting", "delay": 0, "spread": 0}, {"delay": -0.1}),
        (FROM_RELAY, {"type": "service_response", "request": 1}, {"ticket": "A" * 32}),
        (FROM_RELAY, {"type": "service_response", "request": 1}, {"ticket": "a" * 31}),
        (FROM_RELAY, {"type": "service_response", "request": 1}, {"reason": "x" * 513}),
        (ON_PATH, PATH, {"received": -1}),
        (ON_PATH, PATH, {"window": 1023}),
        (ON_PATH, PATH, {"resume": 1}),
        (ON_PATH, PATH, {"path": 0}),
        (ON_PATH, PATH, {"path": 2**32}),
        (ON_PATH, PATH, {"entries": [SIGNED] * 17}),
        (FROM_PEER, REQUEST, {"resume": 1}),
        (FROM_PEER, {"type": "watch", "guid": "a" * 52}, {"guid": "a" * 51}),
        (FROM_PEER, {"type": "watch", "guid": "a" * 52}, {"watching": None}),
        (FROM_RELAY, {"type": "peer_event", "guid": "a" * 52}, {"state": "away"}),
        (FROM_RELAY, {"type": "peer_event", "guid": "a" * 52}, {"seq": -1}),
    ],
)
def test_limits_of_fields(
    table: dict[str, type[Message]], good: dict[str, Any], bad: dict[str, Any]
) -> None:
    assert len(decode(table, msgpack.packb(good))) == 1
    with pytest.raises(ProtocolViolation):
        decode(table, msgpack.packb(good | bad))


def test_a_code_of_a_later_version_does_not_end_the_connection() -> None:
    data = msgpack.packb({"type": "service_response", "request": 1, "code": "from_the_future"})
    [message] = decode(FROM_RELAY, data)
    assert isinstance(message, ServiceResponse)
    assert message.code == "internal"


def test_defaults_are_left_out_on_the_wire() -> None:
    assert fields_of(FROM_PEER["ping"]()) == {"type": "ping"}
    assert msgspec.to_builtins(Limits())["message_bytes"] == 65_536
