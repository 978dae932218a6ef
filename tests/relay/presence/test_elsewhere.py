"""What the zone shows of a peer, as its node tells the others."""

import pytest

from protocol.endpoint import SignedEntry
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
