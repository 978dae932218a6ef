"""What the zone shows of a peer, as its node tells the others."""

import pytest

from protocol.endpoint import SignedEntry
from relay.backplane import MAX_NAMED
from relay.presence import read_named
from relay.presence.elsewhere import named


def test_it_is_read_as_it_was_told() -> None:
    shown = {"chat": (SignedEntry(b"entry", bytes(64)),), "mail": ()}
    assert read_named(named(shown)) == shown
    assert named({}) == b""
    assert read_named(b"") == {}


@pytest.mark.parametrize("told", [b"\xc1", b"\x81", b"\x91\x01", b"\x81\xa4chat\x91\x01"])
def test_what_another_version_says_otherwise_is_nothing(told: bytes) -> None:
    assert read_named(told) == {}


def test_of_more_than_there_is_room_for_the_first_services_are_told() -> None:
    entries = tuple(SignedEntry(bytes(250), bytes(64)) for _ in range(16))
    shown = {f"service-{number}": entries for number in range(16)}
    told = named(shown)
    assert len(told) <= MAX_NAMED
    assert list(read_named(told)) == ["service-0"]
