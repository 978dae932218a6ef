"""Authorities that are read again, and what is said of a certificate that none has signed."""

import logging
import os
import ssl
from pathlib import Path

import pytest

from peers.transport.trust import Trust, in_words
from protocol.errors import RelayUnavailable
from tests.relay.certificates import certificate


@pytest.fixture
def chain(tmp_path: Path) -> Path:
    return Path(certificate(tmp_path)[0])


def test_a_file_that_has_changed_is_read_again(chain: Path, tmp_path: Path) -> None:
    trust = Trust(str(chain))
    first = trust.context()
    assert trust.context() is first
    (tmp_path / "other").mkdir()
    other, _ = certificate(tmp_path / "other")
    os.replace(other, chain)
    assert trust.context() is not first
    assert trust.context().get_ca_certs(True) != first.get_ca_certs(True)


@pytest.mark.parametrize("what", [None, b"", b"no PEM", b"-----BEGIN CERTIFICATE-----\n"])
def test_what_cannot_be_read_now_leaves_what_was_read(
    chain: Path, what: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    trust, good = Trust(str(chain)), chain.read_bytes()
    first = trust.context()
    if what is None:
        chain.unlink()
    else:
        chain.write_bytes(what)
    with caplog.at_level(logging.WARNING, "peers"):
        assert [trust.context() for _ in range(3)] == [first] * 3
    told = [one for one in caplog.messages if "cannot use" in one]
    assert len(told) == 1, "once for a change"
    chain.write_bytes(good)
    assert trust.context() is not first


@pytest.mark.parametrize("file", ["/nonexistent", "/", "a\0b"])
def test_what_was_never_read_is_said(file: str) -> None:
    for _ in range(2):
        with pytest.raises(RelayUnavailable, match="cannot use"):
            Trust(file).context()


@pytest.mark.parametrize(
    ("code", "step"), [(18, "relay_ca"), (20, "relay_ca"), (10, "clock"), (9, "clock"), (62, "yet")]
)
def test_a_certificate_that_is_not_accepted_is_told_with_the_next_step(
    code: int, step: str
) -> None:
    error = ssl.SSLCertVerificationError()
    error.verify_code, error.verify_message = code, "not yet"
    told = in_words("https://relay.example", error)
    assert told.startswith("the certificate of https://relay.example is not accepted: not yet")
    assert step in told


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(RelayUnavailable, match="it is not a file"):
        Trust(str(tmp_path / "pipe")).context()
