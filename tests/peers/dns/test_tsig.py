"""Signatures of updates and of their answers."""

import struct
import time

import dns.message
import dns.rcode
import dns.tsig
import dns.update
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peers.dns.tsig import ClockIsWrong, Signed, open_answer, sign
from protocol.errors import NameServerUnavailable, UpdateRefused
from tests.support.calls import calls_of

KEY = dns.tsig.Key("key.example.", b"0" * 32, "hmac-sha256")
NOW = 1_700_000_000


def update() -> dns.update.UpdateMessage:
    message = dns.update.UpdateMessage("example.")
    message.delete("a.example.", "TXT")
    message.add("a.example.", 30, "TXT", '"x"')
    return message


def answered(
    signed: Signed, *, key: dns.tsig.Key = KEY, code: dns.rcode.Rcode = dns.rcode.NOERROR
) -> bytes:
    """Return what a server answers that has the key."""
    query = dns.message.from_wire(signed.wire, keyring={KEY.name: KEY})
    response = dns.message.make_response(query)
    response.set_rcode(code)
    response.use_tsig(key)
    response.request_hmac = signed.mac  # type: ignore[attr-defined]
    return response.to_wire(tsig_ctx=None)


@pytest.fixture
def signed() -> Signed:
    return sign(update(), KEY, time.time())


def test_a_servers_answer_is_opened(signed: Signed) -> None:
    for code in (dns.rcode.NOERROR, dns.rcode.NXRRSET, dns.rcode.REFUSED):
        wire = answered(signed, code=code)
        assert open_answer(wire, signed, KEY, time.time()) == code


def test_an_answer_that_sends_everything_back_is_opened(signed: Signed) -> None:
    query = dns.message.from_wire(signed.wire, keyring={KEY.name: KEY})
    response = dns.message.make_response(query)
    response.sections[2] = query.sections[2]
    wire = response.to_wire()
    assert open_answer(wire, signed, KEY, time.time()) == dns.rcode.NOERROR


def test_an_answer_that_another_key_has_signed_counts_for_nothing(signed: Signed) -> None:
    other = dns.tsig.Key("key.example.", b"1" * 32, "hmac-sha256")
    with pytest.raises(NameServerUnavailable, match="cannot be used"):
        open_answer(answered(signed, key=other), signed, KEY, time.time())


def test_an_answer_to_another_message_or_unsigned_counts_for_nothing(signed: Signed) -> None:
    other = sign(update(), KEY, time.time())
    with pytest.raises(NameServerUnavailable, match="something else"):
        open_answer(answered(other), signed, KEY, time.time())
    renumbered = signed.wire[:2] + answered(other)[2:]
    with pytest.raises(NameServerUnavailable, match="cannot be used"):
        open_answer(renumbered, signed, KEY, time.time())
    with pytest.raises(NameServerUnavailable, match="something else"):
        open_answer(signed.wire, signed, KEY, time.time())
    bare = struct.pack("!6H", signed.number, 0xA800, 0, 0, 0, 0)
    with pytest.raises(NameServerUnavailable, match=r"\(NOERROR\) is not signed"):
        open_answer(bare, signed, KEY, time.time())


def with_error(signed: Signed, error: int, other: bytes = b"", seconds: int = NOW) -> bytes:
    """Return an unsigned answer with an error in its TSIG record."""
    head = struct.pack("!6H", signed.number, 0xA800 | 9, 0, 0, 0, 1)
    data = KEY.algorithm.to_wire() + struct.pack("!HIH", seconds >> 32, seconds & 2**32 - 1, 300)
    data += struct.pack("!H", 0) + struct.pack("!HHH", signed.number, error, len(other)) + other
    return head + KEY.name.to_wire() + struct.pack("!HHIH", 250, 255, 0, len(data)) + data


def test_errors_of_the_signature_say_what_to_do(signed: Signed) -> None:
    with pytest.raises(UpdateRefused, match=r"BADKEY.*does not know"):
        open_answer(with_error(signed, 17), signed, KEY, NOW)
    with pytest.raises(UpdateRefused, match=r"BADSIG.*anew"):
        open_answer(with_error(signed, 16), signed, KEY, NOW)


@pytest.mark.parametrize("other", [b"", b"\0" * 6, b"\xff" * 6, b"\0" * 5, b"\0" * 600])
def test_nobody_without_the_key_sets_our_clock(signed: Signed, other: bytes) -> None:
    with pytest.raises(NameServerUnavailable) as raised:
        open_answer(with_error(signed, 18, other), signed, KEY, NOW)
    assert not isinstance(raised.value, ClockIsWrong)


@pytest.mark.parametrize("now", [-1.0, 0.0, 2.0**48, 2.0**60])
def test_a_clock_that_a_server_has_set_to_any_time_can_be_signed_by(now: float) -> None:
    signed = sign(update(), KEY, now)
    with pytest.raises(NameServerUnavailable):
        open_answer(with_error(signed, 0), signed, KEY, now)


@given(
    st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=6),
    st.integers(0, 400),
)
def test_whatever_comes_back_is_our_error_or_the_answer(
    changes: list[tuple[int, int]], cut: int
) -> None:
    signed = sign(update(), KEY, time.time())
    whole = answered(signed)
    wire = bytearray(whole)
    for place, byte in changes:
        wire[place % len(wire)] = byte
    for one in (bytes(wire), bytes(wire[:cut]), whole[:2] + bytes(wire[2:])):
        try:
            code = open_answer(one, signed, KEY, time.time())
        except (NameServerUnavailable, UpdateRefused):
            continue
        assert code == dns.rcode.NOERROR
        assert one.lower() == whole.lower(), "names are the same in upper case"


@given(st.binary(max_size=400))
def test_noise_is_our_error(noise: bytes) -> None:
    signed = sign(update(), KEY, NOW)
    for wire in (noise, signed.wire[:2] + b"\xa8\0" + noise):
        with pytest.raises(NameServerUnavailable):
            open_answer(wire, signed, KEY, NOW)


def test_thousands_of_records_before_the_signature_take_no_time(signed: Signed) -> None:
    name = b"\x01a" * 120 + b"\0"
    record = struct.pack("!HHIH", 5, 1, 30, 2) + b"\xc0\x0c"
    count = 4000
    wire = struct.pack("!6H", signed.number, 0xA800, 0, count, 0, 0) + name + record
    wire += (b"\xc0\x0c" + record) * (count - 1)

    def open_it() -> None:
        with pytest.raises(NameServerUnavailable):
            open_answer(wire, signed, KEY, NOW)

    calls_of(open_it, 50_000)
