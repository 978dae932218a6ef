"""The vectors of what is refused and tolerated, and of whole conversations: against the code, read
from the file alone."""

import base64
from typing import Any

import msgpack
import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from peers.config import PathKind
from peers.roaming.incoming import judge_path
from peers.session import SessionEnd, Terms, Trace
from protocol.codec import MessageDecoder
from protocol.endpoint import SignedEntry, open_entry
from protocol.errors import Code, IdentityError, ProtocolViolation
from protocol.identity import (
    CONTEXT_CHALLENGE,
    CONTEXT_PLANE,
    CONTEXT_REGISTER,
    guid_of,
    public_key_of,
    verify,
)
from protocol.messages import Challenge, Hello, Limits, Mode, PathHello, PathWelcome, Register
from protocol.session import SessionMachine, SessionSettings
from protocol.tables import FROM_PEER, FROM_RELAY, ON_PATH
from relay.control.handshake import challenge
from tests.protocol.test_documentation import TEXT
from tests.protocol.test_vectors import FILE, TABLES, identity_of, value, whole
from tests.support.fake_path import FakePath

Vector = dict[str, Any]


def what(vector: Vector) -> str:
    return str(vector["what"])


def test_every_rule_that_a_vector_names_is_on_the_page() -> None:
    for vectors in FILE.values():
        for vector in vectors if isinstance(vectors, list) else [vectors]:
            if isinstance(vector, dict) and "rule" in vector:
                assert f"**{vector['rule']}**" in TEXT, vector


@pytest.mark.parametrize("vector", FILE["refused_guids"], ids=what)
def test_texts_that_are_no_guid(vector: Vector) -> None:
    with pytest.raises(IdentityError):
        public_key_of(vector["text"])


@pytest.mark.parametrize("vector", FILE["refused_entries"], ids=what)
def test_entries_that_nobody_may_use(vector: Vector) -> None:
    signed = SignedEntry(bytes.fromhex(vector["body"]), bytes.fromhex(vector["signature"]))
    with pytest.raises(ProtocolViolation) as error:
        open_entry(vector["signer"], signed)
    assert error.value.code == vector["code"]


def test_an_entry_of_a_later_version_is_taken() -> None:
    vector = FILE["entry_of_a_later_version"]
    signed = SignedEntry(bytes.fromhex(vector["body"]), bytes.fromhex(vector["signature"]))
    entry = open_entry(vector["signer"], signed)
    assert msgspec.to_builtins(entry) == vector["fields"]


@pytest.mark.parametrize("vector", FILE["tolerated_messages"], ids=what)
def test_messages_that_mean_the_same(vector: Vector) -> None:
    given, meant = bytes.fromhex(vector["bytes"]), bytes.fromhex(vector["means"])
    [read] = MessageDecoder(TABLES).receive(given)
    assert [read] == list(MessageDecoder(TABLES).receive(meant))
    decoder = MessageDecoder(TABLES)
    assert [read] == [one for byte in given for one in decoder.receive(bytes([byte]))]


@pytest.mark.parametrize("vector", FILE["refused_hellos"], ids=what)
def test_hellos_that_a_relay_refuses(vector: Vector) -> None:
    relay = identity_of(FILE["plane_request"]["relay"])

    def receive() -> None:
        for message in MessageDecoder(FROM_PEER).receive(whole(vector)):
            assert isinstance(message, Hello)
            challenge(relay, Limits(), message, bytes(32))

    with pytest.raises(ProtocolViolation) as error:
        receive()
    assert error.value.code == vector["code"]


@pytest.mark.parametrize("vector", FILE["refused_path_hellos"], ids=what)
def test_path_hellos_that_a_callee_refuses(vector: Vector) -> None:
    """As much of it as `judge_path` and the decoder decide; tests/peers/conformance shows the rest
    between two parties."""
    code: Code | None = None
    try:
        [hello] = MessageDecoder(ON_PATH).receive(whole(vector))
    except ProtocolViolation:
        assert vector["code"] is None
        return
    if isinstance(hello, PathHello):
        refusal = judge_path(hello, PathKind.DIRECT, "a" * 52, None, None)
        assert refusal is not None, "nobody listens here"
        code = refusal.code
    assert code == vector["code"]


@pytest.mark.parametrize("vector", FILE["refused_frames"], ids=what)
@pytest.mark.parametrize("piece", [7, 1 << 20])
def test_frames_that_end_a_session(vector: Vector, piece: int) -> None:
    if "at once" in vector["what"] and piece < 1 << 20:
        return
    for revision in vector["revisions"]:
        machine = SessionMachine(SessionSettings(), 0.0)
        machine.attach(0, 0, 8 << 20, 0.0, revised=revision == 2)
        machine.data_to_send(0.0)
        data = whole(vector)
        pieces = [data[start : start + piece] for start in range(0, len(data), piece)]
        with pytest.raises(ProtocolViolation):
            feed(machine, pieces)
        unpacker = msgpack.Unpacker(raw=False)
        unpacker.feed(machine.data_to_send(0.0))
        assert [list(frame)[:2] for frame in unpacker if frame[0] == 6] == [[6, vector["code"]]]


def feed(machine: SessionMachine, pieces: list[bytes]) -> None:
    for piece in pieces:
        machine.receive(piece, 0.0)


@pytest.mark.parametrize("vector", FILE["certificates"], ids=what)
def test_certificates(vector: Vector) -> None:
    key = x509.load_der_x509_certificate(bytes.fromhex(vector["der"])).public_key()
    guid = guid_of(key.public_bytes_raw()) if isinstance(key, Ed25519PublicKey) else None
    assert guid == vector["guid"]


def test_a_whole_request_for_a_leg() -> None:
    vector = FILE["plane_request"]
    line, *headers, empty, rest = vector["request"].split("\r\n")
    assert (empty, rest) == ("", "")
    method, target, version = line.split(" ")
    assert (method, version) == ("GET", "HTTP/1.1")
    start, _, query = target.partition("?")
    assert start == f"/v1/plane/{vector['ticket']}"
    guid, signature = (part.partition("=")[2] for part in query.split("&"))
    assert guid == vector["bearer"]
    assert len(signature) == 86
    given = base64.urlsafe_b64decode(signature + "==")
    relay, ticket = public_key_of(vector["relay"]), vector["ticket"].encode()
    verify(guid, given, CONTEXT_PLANE, relay, ticket)
    early = dict(header.split(": ") for header in headers)["Roam-Relay-Early"]
    assert base64.b64decode(early, validate=True).hex() == vector["early"]


@pytest.mark.parametrize("vector", FILE["windows"], ids=lambda vector: str(vector["weight"]))
def test_sums_of_weights_and_windows(vector: Vector) -> None:
    here, there = vector["windows"]
    sender = SessionMachine(SessionSettings(window=here), 0.0)
    receiver = SessionMachine(SessionSettings(window=there), 0.0)
    sender.attach(0, 0, there, 0.0)
    receiver.attach(0, 0, here, 0.0)
    for length in vector["lengths"]:
        assert sender.writable
        sender.send(bytes(length))
    while data := sender.data_to_send(0.0):
        receiver.receive(data, 0.0)
    for _ in range(vector["taken"]):
        receiver.take()
    assert receiver.consumed == vector["consumed"]
    assert sum(vector["lengths"]) + 32 * len(vector["lengths"]) == vector["weight"]
    sender.receive(msgpack.packb([1, receiver.received, receiver.consumed]), 0.0)
    assert sender.writable == vector["may_begin"]


@pytest.mark.parametrize("vector", FILE["path_numbers"], ids=str)
async def test_which_of_two_paths_is_newer(vector: Vector) -> None:
    """At both sides, which judge alike."""
    taken, offered = vector["taken"], vector["offered"]
    for side in ("caller", "callee"):
        terms = Terms("a" * 52, "chat", Mode.P2P, side == "caller", discloses=False)
        trace = Trace(lambda: 0.0)
        end = SessionEnd(bytes(16), terms, SessionSettings(), trace, lambda news: None)
        path = FakePath()
        dialed_here = taken["dialed_by"] == side
        end.take_path(path.path, taken["path"], PathWelcome(), dialed_here=dialed_here)
        dialed_here = offered["dialed_by"] == side
        assert end.would_take(offered["path"], dialed_here=dialed_here) == vector["newer"]
        end.abort()


def test_the_control_transcript() -> None:
    """Every signature in it holds, and every message is one of its table."""
    steps = FILE["control_transcript"]
    assert [step["from"] for step in steps[:2] if "text" in step] == ["peer", "relay"]
    said: list[Any] = []
    for step in steps[2:]:
        table = FROM_PEER if step["from"] == "peer" else FROM_RELAY
        [message] = MessageDecoder(table).receive(bytes.fromhex(step["bytes"]))
        said.append(message)
    hello, challenged, register = said[:3]
    assert isinstance(hello, Hello)
    assert isinstance(challenged, Challenge)
    assert isinstance(register, Register)
    key, relay = public_key_of(hello.guid), public_key_of(challenged.guid)
    nonces = hello.nonce, challenged.nonce
    verify(challenged.guid, challenged.signature, CONTEXT_CHALLENGE, key, *nonces)
    parts = relay, challenged.nonce, key, hello.instance, register.location
    verify(hello.guid, register.signature, CONTEXT_REGISTER, *parts)


@pytest.mark.parametrize(
    "vector", FILE["session_transcripts"], ids=lambda vector: f"revision {vector['revision']}"
)
def test_a_session_is_replayed_from_its_transcript(vector: Vector) -> None:
    revised = vector["revision"] == 2
    settings = SessionSettings(window=vector["window"])
    sides = {side: SessionMachine(settings, 0.0) for side in ("caller", "callee")}
    for step in vector["steps"]:
        match step:
            case {"head": True, "from": side}:
                [head] = MessageDecoder(ON_PATH).receive(bytes.fromhex(step["bytes"]))
                assert isinstance(head, PathHello | PathWelcome)
                machine = sides[side]
                assert (head.received, head.consumed) == (machine.received, machine.consumed)
                assert head.partial == (machine.partial if revised else 0)
                other(sides, side).attach(
                    head.received,
                    head.consumed,
                    head.window,
                    0.0,
                    partial=head.partial,
                    revised=revised,
                )
            case {"from": side}:
                data = sides[side].data_to_send(0.0)
                while len(data) < len(step["bytes"]) // 2 and (
                    more := sides[side].data_to_send(0.0)
                ):
                    data += more
                assert data.hex() == step["bytes"]
                if step["arrives"]:
                    other(sides, side).receive(data, 0.0)
            case {"side": side, "does": "send"}:
                sides[side].send(bytes.fromhex(step["message"]))
            case {"side": side, "does": "take"}:
                assert sides[side].take().hex() == step["message"]
            case {"side": side, "does": "finish"}:
                sides[side].finish(0.0)
            case {"side": side, "does": "close"}:
                sides[side].close(0.0)
            case {"cut": True}:
                for machine in sides.values():
                    machine.detach(0.0)
            case {"now": states}:
                for side, state in states.items():
                    machine = sides[side]
                    assert machine.state.value == state["state"]
                    assert machine.received == state["received"]
                    assert machine.consumed == state["consumed"]
                    assert machine.acknowledged == state["acknowledged"]
            case _:
                pytest.fail(f"a step of no kind: {step}")
    assert {machine.state.value for machine in sides.values()} == {"closed"}


def other(sides: dict[str, SessionMachine], side: str) -> SessionMachine:
    return sides["callee" if side == "caller" else "caller"]


def test_a_language_with_one_kind_of_number_can_write_the_same_bytes() -> None:
    """No float and no integer of 2^53 or more stands in the file without a mark."""

    def bare(plain: Any) -> list[Any]:
        if isinstance(plain, dict):
            return [] if set(plain) == {"float"} else bare(list(plain.values()))
        if isinstance(plain, list):
            return [number for item in plain for number in bare(item)]
        wrong = isinstance(plain, float) or (isinstance(plain, int) and abs(plain) >= 2**53)
        return [plain] if wrong else []

    assert not bare(FILE)
    for vector in FILE["messages"]:
        assert msgpack.packb(value(vector["fields"])).hex() == vector["bytes"]
