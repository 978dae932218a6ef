"""What a stream of a path can begin with: TLS, or what is ours, and then TLS."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import ProtocolViolation
from protocol.first_bytes import (
    FIRST_BYTES_VERSION,
    FLIGHT_HEAD,
    MAGIC,
    MAX_SEALED,
    TLS_HANDSHAKE,
    FirstBytes,
    FirstKind,
    flight_head,
)

TLS = bytes((TLS_HANDSHAKE, 3, 1, 0, 200)) + bytes(200)


def flight(sealed: bytes = b"s" * 99) -> bytes:
    return flight_head(b"k" * 16, b"r" * 32, len(sealed)) + sealed


def read(*pieces: bytes) -> tuple[bytes, FirstBytes]:
    first = FirstBytes()
    return b"".join([first.receive(piece) for piece in pieces]), first


def test_the_head_of_a_flight() -> None:
    assert flight(b"abc") == (b"\x52\x52\x01\x01" + b"k" * 16 + b"r" * 32 + b"\x00\x03" + b"abc")
    assert len(flight(b"")) == FLIGHT_HEAD == 54
    assert (FIRST_BYTES_VERSION, FirstKind.SEALED_FLIGHT, FirstKind.NOISE) == (1, 1, 2)


@given(st.binary(max_size=300), st.booleans(), st.lists(st.integers(0, 400), max_size=6))
def test_in_whatever_pieces_it_comes(sealed: bytes, has_flight: bool, cuts: list[int]) -> None:
    data = (flight(sealed) if has_flight else b"") + TLS
    ends = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    pieces = [data[begin:end] for begin, end in pairwise(ends)]
    rest, first = read(*pieces)
    assert rest == TLS
    assert first.done
    assert first.flight == (flight(sealed) if has_flight else None)


def test_cut_at_every_byte_nothing_is_taken() -> None:
    whole = flight()
    for cut in range(len(whole)):
        rest, first = read(whole[:cut])
        assert (rest, first.flight, first.done) == (b"", None, False)


@pytest.mark.parametrize("begin", [b"\x16", b"\x15", b"G", b"\x00", b"\xff"])
def test_all_else_is_left_to_tls(begin: bytes) -> None:
    assert read(begin + b"x" * 10)[0] == begin + b"x" * 10


def test_a_second_flight_is_left_to_tls_which_refuses_it() -> None:
    assert read(flight() + flight(b"other"))[0] == flight(b"other")


@pytest.mark.parametrize(
    "begin",
    [
        MAGIC[:1] + b"\x16",
        MAGIC + b"\x02\x01",
        MAGIC + b"\x01\x02",
        MAGIC + b"\x01\x00",
        flight_head(b"k" * 16, b"r" * 32, MAX_SEALED + 1),
    ],
)
def test_what_is_ours_and_not_known_here_is_refused(begin: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        read(begin)


def test_what_waits_here_has_a_bound() -> None:
    whole = flight(bytes(MAX_SEALED))
    rest, first = read(*(whole[at : at + 1000] for at in range(0, len(whole), 1000)), TLS)
    assert (rest, first.flight) == (TLS, whole)
