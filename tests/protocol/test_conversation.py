"""The frames of conversations, by the vectors and by whatever bytes."""

import contextlib
import json
from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.conversation import (
    MAX_FRAME,
    Enclosed,
    Letter,
    Messages,
    Receipt,
    pack_enclosed,
    pack_frame,
    pack_item,
    read_enclosed,
    read_frame,
    read_item,
)
from protocol.errors import Code, ProtocolViolation

FILE = json.loads((Path(__file__).parents[2] / "docs" / "protocol-vectors.json").read_text())


@pytest.mark.parametrize("vector", FILE["conversation_frames"], ids=lambda one: str(one["frame"]))
def test_frames_are_read_and_written(vector: dict[str, Any]) -> None:
    data = bytes.fromhex(vector["bytes"])
    frame = read_frame(data)
    assert frame is not None
    if isinstance(frame, Messages):
        items = [read_item(item) for item in frame.items]
        frame = Messages(frame.line, frame.first, tuple(map(pack_item, items)))
    assert pack_frame(frame) == data


@pytest.mark.parametrize("vector", FILE["conversation_letters"], ids=range(4))
def test_letters_are_read_and_written(vector: dict[str, Any]) -> None:
    data = bytes.fromhex(vector["bytes"])
    assert pack_enclosed(read_letter(data)) == data


@pytest.mark.parametrize(
    "vector",
    FILE["refused_conversation_letters"],
    ids=lambda one: one["what"].replace(" ", "-"),
)
def test_what_is_no_letter_is_refused(vector: dict[str, Any]) -> None:
    with pytest.raises(ProtocolViolation):
        read_letter(bytes.fromhex(vector["bytes"]))


def read_letter(data: bytes) -> Enclosed:
    enclosed = read_enclosed(data)
    for item in enclosed.part.items if enclosed.part is not None else ():
        read_item(item)
    return enclosed


def test_what_a_later_version_adds_is_passed_over() -> None:
    assert read_frame(msgpack.packb([3, "anything"])) is None
    assert read_frame(msgpack.packb([0, b"l" * 16, 1, 0, "more"])) is not None
    assert read_item(msgpack.packb([2])) is None
    assert read_enclosed(msgpack.packb([0, 0, None, None, "more"])).part is None


def test_a_frame_that_is_too_large_says_so() -> None:
    with pytest.raises(ProtocolViolation) as refused:
        read_frame(bytes(MAX_FRAME + 1))
    assert refused.value.code is Code.MESSAGE_TOO_LARGE


@pytest.mark.parametrize("sent", [float("nan"), float("inf"), -1.0])
def test_a_time_is_one(sent: float) -> None:
    with pytest.raises(ProtocolViolation):
        read_item(msgpack.packb([0, b"i" * 16, sent, b""]))


@given(st.binary(max_size=200))
def test_whatever_comes_is_read_or_refused(data: bytes) -> None:
    for read in (read_frame, read_item, read_enclosed):
        with contextlib.suppress(ProtocolViolation):
            read(data)


@given(st.binary(min_size=16, max_size=16), st.binary(max_size=300), st.text(max_size=512))
def test_items_come_back_as_they_were(name: bytes, payload: bytes, reason: str) -> None:
    for item in (Letter(name, 1.5, payload), Receipt(name, reason), Receipt(name), None):
        assert read_item(pack_item(item)) == item
