"""DNS messages of up to 64 KiB: at the relay's zone, and as answers to a peer. What one costs is
counted in calls; too many are a finding as an exception is."""

import contextlib
import hashlib
import hmac
import struct
import time

import dns.message
import dns.tsig

from peers.dns.answer import Malformed, Truncated, Unusable, read_answer
from protocol.dns_weight import question_end, weigh
from protocol.errors import ProtocolViolation
from relay.dns.signed import SignedMessage
from tests.fuzz.draws import Draw
from tests.fuzz.findings import nothing_logged
from tests.fuzz.relay_in_memory import the_relay
from tests.relay.dns.asking import NAME, ZONE, update
from tests.support.calls import calls_of

__all__ = ["answers", "questions", "updates"]

_LONGEST = 65_535
_MOST = 20_000
"""Calls that a stranger's message may cost: 2 ms or so."""
_MOST_OF_AN_UPDATE = 400_000
"""Calls for the largest one that a key signs; it is made in pieces."""


def _stretched(data: bytes) -> bytes:
    """Say the end of a message again and again: a fuzzer makes no long ones by itself."""
    draw = Draw(data)
    times, length = draw.number(), draw.number()
    wire = draw.rest()
    return (wire + wire[-length:] * (times * times) if length and times else wire)[:_LONGEST]


def questions(data: bytes) -> None:
    """A stranger's message to the zone."""
    wire = _stretched(data)
    server = the_relay().server
    assert server.dns is not None
    answerer = server.dns.messages
    found: list[object] = []
    with nothing_logged():
        for udp in (True, False):
            calls_of(lambda udp=udp: found.append(answerer.respond(wire, udp=udp)), _MOST)  # type: ignore[misc]
        calls_of(lambda: found.append(answerer.truncated(wire)), _MOST)
    for answer in found:
        if isinstance(answer, bytes):
            assert 12 <= len(answer) <= _LONGEST
            assert answer[:2] == wire[:2]
            # As that to a question: of one to an update dnspython wants more than RFC 2136.
            plain = answer[:2] + bytes((answer[2] & 0x87,)) + answer[3:]
            dns.message.from_wire(
                plain, ignore_trailing=False, keyring=None, raise_on_truncation=False
            )
    try:
        weight = weigh(wire, 1 << 20)
    except ProtocolViolation:
        return
    assert weight.counts.questions == 0 or question_end(wire) == weight.question_end


def updates(data: bytes) -> None:
    """What a peer's own key signs: any bytes as the sections of an update for the zone."""
    relay = the_relay()
    server = relay.server
    assert server.dns is not None
    answerer = server.dns.messages
    made = update(server)
    made.add(NAME, 30, "TXT", "x")
    head = made.to_wire()[:12]
    bare = dns.message.make_query(f"{ZONE}.", "SOA").to_wire()[12:]
    draw = Draw(data)
    counts = [draw.number(), draw.number(), 0]
    body = _stretched(draw.rest())[:60_000]
    wire = head[:4] + b"\0\1" + b"".join(n.to_bytes(2, "big") for n in counts) + bare + body
    key = made.keyring
    signed = _signed(wire, key)
    with nothing_logged():
        found = answerer.respond(signed, udp=False)
        if isinstance(found, SignedMessage):

            def make() -> None:
                relay.loop.run_until_complete(answerer.update(found, "127.0.0.1", udp=False))

            calls_of(make, _MOST_OF_AN_UPDATE)


def _signed(wire: bytes, key: dns.tsig.Key) -> bytes:
    """Append a TSIG record that holds (RFC 8945 §4.2), whatever the message is."""
    name, algorithm = key.name.to_wire(), key.algorithm.to_wire()
    when = int(time.time())
    times = struct.pack("!HIH", when >> 32, when & 0xFFFFFFFF, 300)
    variables = name + struct.pack("!HI", 255, 0) + algorithm + times + struct.pack("!HH", 0, 0)
    mac = hmac.new(key.secret, wire + variables, hashlib.sha256).digest()
    data = algorithm + times + struct.pack("!H", len(mac)) + mac + wire[:2] + b"\0\0\0\0"
    record = name + struct.pack("!HHIH", 250, 255, 0, len(data)) + data
    return wire[:10] + b"\0\1" + wire[12:] + record


_QUERIES = {
    kind: dns.message.make_query(NAME, kind, id=4711) for kind in ("A", "AAAA", "SRV", "TXT")
}


def answers(data: bytes) -> None:
    """What a name server says to a peer that has asked."""
    draw = Draw(data)
    query = _QUERIES[("A", "AAAA", "SRV", "TXT")[draw.number(4)]]
    own = draw.number(2)
    wire = _stretched(draw.rest())
    if own:
        # The number and the question of the query: what is behind them is read.
        question = query.to_wire()[12:]
        wire = b"\x12\x67\x81\x80\0\1" + wire[:6] + question + wire[6:]

    def read() -> None:
        with contextlib.suppress(Malformed, Truncated, Unusable):
            read_answer(wire[:_LONGEST], query)

    calls_of(read, _MOST)
