"""Plain questions: their answers from wire form are, to the byte, what dnspython would make."""

import itertools
from collections.abc import Callable

import dns.message
import dns.rcode
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peers import Peer
from relay.config import DnsConfig
from relay.dns.messages import DnsMessages
from relay.dns.plain import answer_of, read_plain, spell
from relay.dns.store import DnsStore
from relay.metrics import Metrics
from relay.server import RelayServer
from tests.relay.dns.asking import ALICE, NAME, ZONE

ASKED = [
    (NAME, "A"),
    (NAME, "TXT"),
    (NAME, "ANY"),
    (f"e0.{NAME}", "A"),
    (f"_chat._tcp.{NAME}", "SRV"),
    (f"_chat._tcp.{NAME}", "TXT"),
]
COOKIE = b"\0\x0a\0\x08" + bytes(range(8))


def wire(name: str, kind: str, *, edns: int | None = None, options: bytes = b"") -> bytes:
    query = dns.message.make_query(name, kind, id=7)
    if edns is not None:
        query.use_edns(0, payload=edns)
    data = query.to_wire()
    if options:
        data = data[:-2] + len(options).to_bytes(2, "big") + options
    return data


def spelled(data: bytes, spelling: int) -> bytes:
    """Return a question in upper and lower case by turns."""
    plain = read_plain(data)
    assert plain is not None
    name = bytes(
        byte - 32 if 97 <= byte <= 122 and (spelling >> at % 8) & 1 else byte
        for at, byte in enumerate(data[12 : plain.end - 4])
    )
    return data[:12] + name + data[plain.end - 4 :]


def by_itself(server: RelayServer) -> Callable[..., object]:
    """Return who answers without anything kept."""
    zone = server.dns
    assert zone is not None

    def respond(data: bytes, *, udp: bool) -> object:
        config = DnsConfig(zone=ZONE)
        messages = DnsMessages(config, zone.zone, zone.keys, DnsStore(None), Metrics())
        return messages.respond(data, udp=udp)

    return respond


async def test_a_kept_answer_is_what_would_be_made(server: RelayServer) -> None:
    assert server.dns is not None
    anew = by_itself(server)
    async with Peer(ALICE, server.url) as alice:
        alice.listen("chat")
        await alice.published()
        for (name, kind), udp in itertools.product(ASKED, (True, False)):
            for edns, options, spelling in itertools.product(
                (None, 512, 1232, 4096), (b"", COOKIE), (0, 0b10110101, 0xFF)
            ):
                if options and edns is None:
                    continue
                data = spelled(wire(name, kind, edns=edns, options=options), spelling)
                assert server.dns.messages.respond(data, udp=udp) == anew(data, udp=udp)


async def test_a_kept_answer_goes_with_its_record(server: RelayServer) -> None:
    assert server.dns is not None
    data = wire(NAME, "TXT")
    async with Peer(ALICE, server.url) as alice:
        alice.listen("chat")
        await alice.published()
        first = server.dns.messages.respond(data, udp=True)
        assert server.dns.messages.respond(spelled(data, 0xFF), udp=True) != first
        alice.listen("mail")
        await alice.published()
        second = server.dns.messages.respond(data, udp=True)
        assert second != first
        assert second == by_itself(server)(data, udp=True)
    after = server.dns.messages.respond(data, udp=True)
    assert isinstance(after, bytes)
    assert dns.message.from_wire(after).rcode() == dns.rcode.NXDOMAIN


QUESTION = wire(NAME, "A", edns=1232)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        QUESTION[:11],
        QUESTION[:-1],
        QUESTION + b"\0",
        wire(NAME, "A") + b"\0",
        QUESTION[:2] + b"\x28\0" + QUESTION[4:],  # an update
        QUESTION[:2] + b"\x80\0" + QUESTION[4:],  # a response
        QUESTION[:2] + b"\x02\0" + QUESTION[4:],  # cut
        QUESTION[:4] + b"\0\2" + QUESTION[6:],
        QUESTION[:6] + b"\0\1" + QUESTION[8:],
        QUESTION[:12] + b"\xc0\x0c" + QUESTION[14:],  # a pointer
        QUESTION[:12] + b"\x40" + QUESTION[13:],  # a label of an unknown kind
        QUESTION[:-6] + b"\0\1" + QUESTION[-4:],  # another version of EDNS
        QUESTION[:-2] + b"\0\3\0\1\2",  # an option that ends too early
        QUESTION[:-2] + b"\0\6\0\x0a\0\3\1\2",
        wire("x" * 60 + "." + ".".join(["y" * 60] * 3) + ".z.", "A")[:12] + b"\x3f" * 400,
    ],
)
def test_what_is_not_plain_is_left_to_others(data: bytes) -> None:
    assert read_plain(data) is None


@given(st.binary(max_size=600), st.integers(0, 40), st.binary(max_size=40))
def test_whatever_comes_is_plain_or_not(noise: bytes, cut: int, more: bytes) -> None:
    for data in (noise, QUESTION[:cut] + more, QUESTION[:4] + noise):
        plain = read_plain(data)
        if plain is not None:
            assert 17 <= plain.end <= len(data)
            query = dns.message.from_wire(data)
            assert len(query.question) == 1


def test_an_answer_that_is_cut_or_empty_is_not_kept() -> None:
    plain = read_plain(QUESTION)
    assert plain is not None
    response = dns.message.make_response(dns.message.from_wire(QUESTION))
    assert answer_of(plain, response.to_wire()) is None
    response.answer.append(dns.rrset.from_text(NAME, 30, "IN", "A", "192.0.2.1"))
    whole = response.to_wire()
    answer = answer_of(plain, whole)
    assert answer is not None
    assert spell(QUESTION, plain, answer, len(whole), 1232) is not None
    assert spell(QUESTION, plain, answer, len(whole) - 1, 1232) is None
    response.flags |= dns.flags.TC
    assert answer_of(plain, response.to_wire()) is None
