"""The relay that a peer expects: what it learns, what it keeps, and whom it does not believe."""

import itertools
from pathlib import Path

import msgspec
import pytest

from peers.control.pin import Pin
from protocol.identity import Identity
from protocol.succession import link

A, B, C, D = (Identity.from_seed(bytes([number]) * 32) for number in range(1, 5))


def test_what_is_learned_is_kept(tmp_path: Path) -> None:
    file = str(tmp_path / "alice.key.relay")
    pin = Pin(A.guid, file)
    assert not pin.to_write
    assert pin.learn([link(A, B)])
    assert pin.guid == B.guid
    assert pin.to_write
    pin.write()
    assert not pin.to_write
    assert Path(file).stat().st_mode & 0o777 == 0o600
    again = Pin(A.guid, file)
    assert again.guid == B.guid
    assert again.learn([link(B, C)])
    again.write()
    assert Pin(A.guid, file).guid == C.guid
    # Whoever sets the new one by hand means that, and goes on from there.
    assert Pin(B.guid, file).guid == C.guid
    assert Pin(C.guid, file).guid == C.guid
    assert Pin(D.guid, file).guid == D.guid


def test_a_key_that_was_left_is_not_believed_again(tmp_path: Path) -> None:
    """Its thief proves it, and signs what he likes."""
    file = str(tmp_path / "relay")
    pin = Pin(A.guid, file)
    assert pin.learn([link(A, B)])
    pin.write()
    for one in (pin, Pin(A.guid, file), Pin(B.guid, file)):
        assert not one.learn([link(B, A)])
        assert not one.learn([link(A, D)])
        assert one.guid == B.guid


def test_a_peer_that_believes_any_relay_learns_nothing() -> None:
    pin = Pin()
    assert not pin.learn([link(A, B)])
    assert pin.guid is None
    assert not Pin(A.guid).learn([])


def file_of(first: str, *links: bytes, version: int = 1) -> bytes:
    return msgspec.json.encode({"version": version, "relay_guid": first, "links": links})


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"\xff",
        file_of(A.guid, b"short"),
        file_of(A.guid, link(B, C)),
        file_of("nobody", link(A, B)),
        file_of(A.guid, link(A, B), link(B, A)),
    ],
)
def test_a_file_that_proves_nothing_is_passed_over(
    content: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Who can write there names no relay."""
    file = tmp_path / "relay"
    file.write_bytes(content)
    assert Pin(A.guid, str(file)).guid == A.guid
    assert "is passed over" in caplog.text


def test_a_file_of_another_relay_is_another_relay_s(tmp_path: Path) -> None:
    file = tmp_path / "relay"
    file.write_bytes(file_of(B.guid, link(B, C)))
    assert Pin(A.guid, str(file)).guid == A.guid


@pytest.mark.expected_errors("cannot be written down")
def test_what_cannot_be_written_says_what_to_do(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pin = Pin(A.guid, str(tmp_path / "nowhere" / "relay"))
    assert pin.learn([link(A, B)])
    pin.write()
    assert pin.to_write
    assert f"set relay_guid to {B.guid}" in caplog.text


def test_many_changes_are_kept_and_read_again(tmp_path: Path) -> None:
    keys = [Identity.from_seed(bytes([number]) * 32) for number in range(1, 23)]
    file = str(tmp_path / "relay")
    pin = Pin(keys[0].guid, file)
    for old, new in itertools.pairwise(keys):
        assert pin.learn([link(old, new)])
    pin.write()
    assert Pin(keys[0].guid, file).guid == keys[-1].guid
    assert Pin(keys[9].guid, file).guid == keys[-1].guid
