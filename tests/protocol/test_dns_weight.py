"""What reading a DNS message will cost, before anybody reads it."""

import contextlib

import dns.exception
import dns.message
import dns.rdata
import dns.tsig
import dns.update
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from protocol.dns_weight import TooCostly, question_end, weigh
from protocol.errors import ProtocolViolation
from tests.support.calls import calls_of
from tests.support.dns_wire import DEEP, POINTER, message, record

ZONE = "peers.example.org"

# dnspython keeps a blank class for whatever type it meets before it has loaded the true one.
dns.rdata.load_all_types(disable_dynamic_load=False)


def update() -> dns.update.UpdateMessage:
    made = dns.update.UpdateMessage(ZONE)
    made.present(f"a.{ZONE}.", "TXT", '"x" "y"')
    made.add(f"a.{ZONE}.", 30, "SRV", f"0 0 1 e0.a.{ZONE}.")
    made.delete(f"b.a.{ZONE}.", "A")
    return made


def test_labels_records_strings_and_options_are_counted() -> None:
    query = dns.message.make_query(ZONE, "TXT", use_edns=0, payload=1232, pad=128)
    weight = weigh(query.to_wire(), 100)
    assert weight.steps == 4 + (4 + 1 + 2), "a name; a record, its name, one option"
    assert weight.question_labels == 4
    assert weight.question_end == 12 + 19 + 4
    assert (weight.payload, weight.signature) == (1232, None)
    assert weigh(update().to_wire(), 100).steps == 4 + (4 + 5 + 2) + (4 + 5 + 6) + (4 + 6)


def test_a_signature_is_the_last_record() -> None:
    made = update()
    unsigned = made.to_wire()
    made.use_tsig(dns.tsig.Key(f"a.{ZONE}.", "MDEy", "hmac-sha256"))
    weight = weigh(made.to_wire(), 100)
    assert weight.signature == len(unsigned)
    assert (
        weigh(message([[], [], [record(250, b"\0"), record(1, b"abcd")]]), 2000).signature is None
    )


def test_pointers_cost_what_they_point_to() -> None:
    most = 4000
    for kind, data in ((16, b"\x01x"), (15, b"\0\1" + POINTER), (33, b"\0" * 6 + POINTER)):
        for section in range(3):
            sections: list[list[bytes]] = [[], [], []]
            sections[section] = [record(kind, data)] * 4000
            wire = message(sections)
            with pytest.raises(TooCostly):
                weigh(wire, most)
            assert calls_of(lambda wire=wire: _tried(wire, most), 20_000)  # type: ignore[misc]
    with pytest.raises(TooCostly):
        weigh(message([[record(16, b"\0" * 60_000)], [], []]), most)
    with pytest.raises(TooCostly):
        weigh(message([[], [], [record(41, b"\0" * 60_000)]]), most)


def _tried(wire: bytes, most: int) -> None:
    with contextlib.suppress(ProtocolViolation):
        weigh(wire, most)


@pytest.mark.parametrize(
    "wire",
    [
        b"\0" * 11,
        message([[], [], []])[:-1],
        message([[], [], []]) + b"\0",
        message([[], [], []], question=POINTER),
        message([[], [], []], question=b"\xc0\x04"),
        message([[], [], []], question=b"\x40a\0"),
        message([[], [], []], question=b"\x3f" + b"a" * 63 + DEEP),
        message([[record(16, b"\x05abc")], [], []]),
        message([[record(16, b"")[:-1] + b"\x09"], [], []]),
    ],
)
def test_what_is_malformed_is_no_message(wire: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        weigh(wire, 1000)


def test_where_a_question_ends() -> None:
    assert question_end(dns.message.make_query(ZONE, "A").to_wire()) == 12 + 19 + 4
    assert question_end(b"\0" * 12) is None
    assert question_end(message([[], [], []], question=POINTER)) is None
    assert question_end(message([[], [], []])[:-1]) is None


@given(
    st.lists(st.tuples(st.integers(0, 300), st.integers(0, 255)), max_size=5), st.integers(0, 300)
)
@example([(86, 1), (158, 1)], 0)
def test_what_dnspython_reads_of_a_changed_message_can_be_weighed(
    changes: list[tuple[int, int]], cut: int
) -> None:
    """And the other way round: what it can read has a weight, pointers into the header apart."""
    whole = bytearray(update().to_wire())
    whole[2] = 0
    for place, byte in changes:
        whole[4 + place % (len(whole) - 4)] = byte
    for wire in (bytes(whole), bytes(whole[: cut + 4])):
        try:
            dns.message.from_wire(wire, keyring=False)
        except (dns.exception.DNSException, ValueError):
            continue
        said = ""
        try:
            weigh(wire, 10**6)
        except ProtocolViolation as error:
            said = error.reason
        assert said in ("", "a DNS name that leads forward")


@given(st.binary(max_size=200))
@example(update().to_wire()[4:])
def test_dnspython_reads_nothing_that_is_no_message_here(rest: bytes) -> None:
    """What is taken for malformed here is so there: nothing is refused that could have been read.
    But for a pointer into the header, and what is behind the last record's own end."""
    wire = b"\0\7\0\0" + rest
    try:
        weigh(wire, 10**6)
    except ProtocolViolation:
        with pytest.raises((dns.exception.DNSException, ValueError)):
            dns.message.from_wire(wire, keyring=False)
