"""Reading answers: of honest servers, of hostile ones, and of noise."""

import contextlib
import struct

import dns.message
import dns.name
import dns.rcode
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peers.dns.answer import MAX_RECORDS, Answer, Malformed, Truncated, Unusable, read_answer
from tests.support.calls import calls_of

QUERY = dns.message.make_query("a.example.", "SRV", id=7)
QUESTION = QUERY.question[0].name.to_wire() or b""
MOST = 40_000
"""Calls that an answer may cost: 4 ms or so."""
LONG = b"\x01a" * 120 + b"\0"
"""A name of 241 bytes and 121 labels."""


def response(*sets: str, query: dns.message.QueryMessage = QUERY) -> dns.message.Message:
    """Return a response with these sets, each `NAME TTL TYPE DATA`."""
    made = dns.message.make_response(query)
    for text in sets:
        name, ttl, kind, data = text.split(" ", 3)
        made.answer.append(dns.rrset.from_text(name, int(ttl), "IN", kind, *data.split(";")))
    return made


def read(*sets: str) -> Answer:
    answer = read_answer(response(*sets).to_wire(), QUERY)
    assert answer is not None
    return answer


def hostile(kind: int, data: bytes, count: int) -> bytes:
    """Return an answer of many records with names as long as can be, each a few bytes long."""
    head = struct.pack("!6H", 7, 0x8180, 1, count, 0, 0) + QUESTION + struct.pack("!HH", 33, 1)
    record = struct.pack("!HHIH", kind, 1, 30, len(data)) + data
    wire = head + LONG + record
    pointer = struct.pack("!H", 0xC000 | len(head))
    return wire + (pointer + record) * min(count - 1, (65_535 - len(wire)) // (2 + len(record)))


def test_what_was_asked_for_is_read_and_nothing_else() -> None:
    answer = read(
        "a.example. 30 SRV 0 0 9 b.example.;1 0 9 c.example.",
        'a.example. 20 TXT "x"',
        "z.example. 10 SRV 0 0 9 forged.example.",
    )
    assert {str(one.target) for one in answer.data} == {"b.example.", "c.example."}
    assert answer.exists


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_an_alias_is_followed_in_any_order(order: tuple[int, ...]) -> None:
    sets = (
        "a.example. 30 CNAME b.example.",
        "b.example. 20 CNAME c.example.",
        "c.example. 25 SRV 0 0 9 d.example.",
    )
    answer = read(*(sets[place] for place in order))
    assert [str(one.target) for one in answer.data] == ["d.example."]
    assert answer.ttl == 20


def test_aliases_in_a_circle_end() -> None:
    answer = read("a.example. 30 CNAME b.example.", "b.example. 30 CNAME a.example.")
    assert answer.data == ()


def test_names_are_the_same_in_upper_and_lower_case() -> None:
    wire = response("A.eXample. 30 SRV 0 0 9 b.example.").to_wire()
    answer = read_answer(wire.replace(b"\x01a\x07example", b"\x01A\x07EXAMPLE"), QUERY)
    assert answer is not None
    assert len(answer.data) == 1


def test_there_is_no_such_name_or_nothing_at_it() -> None:
    nobody = response()
    nobody.set_rcode(dns.rcode.NXDOMAIN)
    assert read_answer(nobody.to_wire(), QUERY) == Answer(exists=False)
    assert read() == Answer(exists=True)


def test_what_is_no_answer_to_the_question_is_left_alone() -> None:
    for other in (
        dns.message.make_query("a.example.", "SRV", id=8),
        dns.message.make_query("b.example.", "SRV", id=7),
        dns.message.make_query("a.example.", "TXT", id=7),
        dns.message.make_query("a.example.", "SRV", "CH", id=7),
    ):
        assert read_answer(response(query=other).to_wire(), QUERY) is None
    assert read_answer(QUERY.to_wire(), QUERY) is None, "the question itself, sent back"
    no_question = response()
    no_question.question.clear()
    assert read_answer(no_question.to_wire(), QUERY) is None


def test_other_codes_referrals_and_what_does_not_fit_say_so() -> None:
    failed = response()
    failed.set_rcode(dns.rcode.SERVFAIL)
    with pytest.raises(Unusable, match="SERVFAIL"):
        read_answer(failed.to_wire(), QUERY)
    failed.question.clear()
    with pytest.raises(Unusable, match="SERVFAIL"):
        read_answer(failed.to_wire(), QUERY)
    refers = response()
    refers.authority.append(dns.rrset.from_text("example.", 30, "IN", "NS", "ns.example."))
    with pytest.raises(Unusable, match="refers to others"):
        read_answer(refers.to_wire(), QUERY)
    wire = bytearray(response().to_wire())
    wire[2] |= 0x02
    with pytest.raises(Truncated):
        read_answer(bytes(wire), QUERY)


@pytest.mark.parametrize("kind", [1, 5, 6, 16, 33])
def test_thousands_of_records_with_the_longest_names_take_no_time(kind: int) -> None:
    """Read and compared one by one they would take half a minute, in which nothing else is done."""
    data = {1: b"\x7f\0\0\1", 5: b"\xc0\x1d", 6: b"\xc0\x1d\xc0\x1d" + b"\0" * 20, 16: b"\0"}
    wire = hostile(kind, data.get(kind, b"\0\0\0\0\0\1\xc0\x1d"), 4000)
    assert len(wire) > 50_000

    def read_it() -> None:
        with contextlib.suppress(Unusable):
            read_answer(wire, QUERY)

    calls_of(read_it, MOST)


@given(
    st.sampled_from([1, 5, 6, 16, 33, 46]),
    st.sampled_from([b"", b"\xc0\x1d", b"\0" * 6 + b"\xc0\x1d", b"\xc0\x1d" * 40, b"\0" * 500]),
    st.integers(0, 4000),
)
def test_no_answer_costs_much(kind: int, data: bytes, count: int) -> None:
    wire = hostile(kind, data, count)

    def read_it() -> None:
        with contextlib.suppress(Unusable):
            read_answer(wire, QUERY)

    calls_of(read_it, MOST)


def test_of_many_records_some_are_read() -> None:
    answer = read("a.example. 30 SRV " + ";".join(f"0 0 {n} t.example." for n in range(1000)))
    assert len({one.port for one in answer.data}) == MAX_RECORDS


def test_a_message_that_is_cut_off_is_malformed_wherever_it_is() -> None:
    wire = response("a.example. 30 SRV 0 0 9 b.example.", "b.example. 30 A 192.0.2.1").to_wire()
    whole = wire.index(b"\xc0\x00\x02\x01") - 12  # The last record is none that was asked for.
    for size in range(whole):
        with pytest.raises(Malformed):
            read_answer(wire[:size], QUERY)


@given(st.binary(max_size=600), st.booleans())
def test_noise_is_malformed_or_no_answer(noise: bytes, seems: bool) -> None:
    head = struct.pack("!6H", 7, 0x8180, 1, 9, 9, 9) + QUESTION + struct.pack("!HH", 33, 1)
    with contextlib.suppress(Truncated, Unusable):
        read_answer(head + noise if seems else noise, QUERY)


@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=6))
def test_answers_with_some_bytes_changed_are_no_fault(changes: list[tuple[int, int]]) -> None:
    sets = ("a.example. 30 CNAME b.example.", "b.example. 30 SRV 0 0 9 c.example.;1 0 9 d.example.")
    wire = bytearray(response(*sets).to_wire())
    for place, byte in changes:
        wire[place % len(wire)] = byte
    with contextlib.suppress(Truncated, Unusable):
        read_answer(bytes(wire), QUERY)
