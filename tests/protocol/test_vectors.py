"""The code against docs/protocol-vectors.json, recomputed from what stands in the file.

The first test says whether the file is the one that the code makes; the others read the file only,
as a program in another language would.
"""

import json
from typing import Any

import msgpack
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from protocol.codec import MessageDecoder, decode_location, encode, encode_location
from protocol.endpoint import Endpoint, Entry, SignedEntry, open_entry, sign_entry
from protocol.errors import ProtocolViolation
from protocol.first_bytes import FirstBytes
from protocol.first_flight import FlightKeys
from protocol.identity import Identity, guid_of, public_key_of, verify
from protocol.invitation import Token, opened
from protocol.letters import LetterFault, open_letter, read_head
from protocol.observation import answer_to, read_answer
from protocol.offer import answer_offer, make_offer, open_answer, open_offer
from protocol.prekeys import Prekey, SignedPrekey, make_prekey, open_prekey, sign_prekey
from protocol.sealing import Receiver, seal
from protocol.session.frames import Frame
from protocol.session.machine import SessionMachine
from protocol.session.settings import SessionSettings
from protocol.succession import follow
from protocol.tables import FROM_PEER, FROM_RELAY, ON_PATH
from tests.protocol import make_vectors

FILE: dict[str, Any] = json.loads(make_vectors.PATH.read_text())
TABLES = {**FROM_PEER, **FROM_RELAY, **ON_PATH}


def value(plain: Any) -> Any:
    """Return what a value of the file stands for."""
    if isinstance(plain, dict):
        if set(plain) == {"hex"}:
            return bytes.fromhex(plain["hex"])
        if set(plain) == {"float"}:
            return float(plain["float"])
        if set(plain) == {"int"}:
            return int(plain["int"])
        return {key: value(item) for key, item in plain.items()}
    return [value(item) for item in plain] if isinstance(plain, list) else plain


def whole(vector: dict[str, Any]) -> bytes:
    """Return the bytes of a vector, with those that it repeats."""
    data = bytes.fromhex(vector["bytes"])
    if "then_repeat" in vector:
        repeat = vector["then_repeat"]
        data += bytes.fromhex(repeat["bytes"]) * repeat["times"]
    return data


def test_the_file_is_what_the_code_makes_in_both_places() -> None:
    text = make_vectors.text()
    for path in (make_vectors.PATH, make_vectors.INSTALLED):
        assert path.read_text() == text, (
            "run python -m tests.protocol.make_vectors, and say in the changelog what changed"
        )


@pytest.mark.parametrize("vector", FILE["identities"], ids=lambda vector: str(vector["name"]))
def test_identities(vector: dict[str, str]) -> None:
    identity = Identity.from_seed(bytes.fromhex(vector["seed"]))
    assert identity.public_key.hex() == vector["public_key"]
    assert identity.guid == guid_of(bytes.fromhex(vector["public_key"])) == vector["guid"]
    assert public_key_of(vector["guid"]).hex() == vector["public_key"]


def identity_of(guid: str) -> Identity:
    [seed] = [vector["seed"] for vector in FILE["identities"] if vector["guid"] == guid]
    return Identity.from_seed(bytes.fromhex(seed))


@pytest.mark.parametrize("vector", FILE["endpoint_entries"])
def test_endpoint_entries(vector: dict[str, Any]) -> None:
    entry = msgspec.convert(vector["fields"], Entry)
    signed = sign_entry(identity_of(vector["signer"]), entry)
    assert signed.body.hex() == vector["body"] == msgpack.packb(vector["fields"]).hex()
    assert signed.signature.hex() == vector["signature"]
    context = b"roam-relay/1 endpoint\0"
    assert vector["signed"] == (context + public_key_of(vector["signer"]) + signed.body).hex()
    again = SignedEntry(bytes.fromhex(vector["body"]), bytes.fromhex(vector["signature"]))
    assert open_entry(vector["signer"], again) == entry


def test_the_location_record() -> None:
    vector = FILE["location_record"]
    data = bytes.fromhex(vector["bytes"])
    assert msgpack.unpackb(data) == value(vector["fields"])
    assert encode_location(decode_location(data)) == data


@pytest.mark.parametrize("name", FILE["signatures"])
def test_signatures(name: str) -> None:
    vector = FILE["signatures"][name]
    context = bytes.fromhex(vector["context"])
    assert context == f"roam-relay/1 {name}\0".encode()
    parts = [bytes.fromhex(part) for part in vector["parts"].values()]
    assert vector["signed"] == (context + b"".join(parts)).hex()
    assert identity_of(vector["signer"]).sign(context, *parts).hex() == vector["signature"]
    verify(vector["signer"], bytes.fromhex(vector["signature"]), context, *parts)


def test_the_sealed_secret_opens() -> None:
    vector = FILE["sealed"]
    key = X25519PrivateKey.from_private_bytes(bytes.fromhex(vector["receiver_private_key"]))
    sealed, context = bytes.fromhex(vector["sealed"]), bytes.fromhex(vector["context"])
    assert Receiver(key).open(sealed, context).hex() == vector["secret"]
    for wrong in (sealed[:-1], sealed[:31], b"", sealed[:-1] + bytes([sealed[-1] ^ 1])):
        with pytest.raises(ProtocolViolation):
            Receiver(key).open(wrong, context)
    with pytest.raises(ProtocolViolation):
        Receiver(key).open(sealed, context + b"x")
    with pytest.raises(ProtocolViolation):
        Receiver().open(sealed, context)
    with pytest.raises(ProtocolViolation):
        seal(bytes(32), b"a key that makes every shared secret zero", context)


@pytest.mark.parametrize("vector", FILE["first_bytes"], ids=lambda vector: str(vector["what"]))
def test_first_bytes(vector: dict[str, Any]) -> None:
    first, data = FirstBytes(), bytes.fromhex(vector["bytes"])
    match vector["means"]:
        case "refused":
            with pytest.raises(ProtocolViolation):
                first.receive(data)
        case "more":
            assert (first.receive(data), first.done) == (b"", False)
        case "tls":
            assert (first.receive(data), first.flight) == (data, None)
        case "flight":
            rest = first.receive(data)
            assert first.flight is not None
            assert first.flight + rest == data


@pytest.mark.parametrize("vector", FILE["first_flights"], ids=lambda vector: str(vector["by"]))
def test_first_flights(vector: dict[str, Any]) -> None:
    """By hand from the page, and by the code."""
    told = {key: bytes.fromhex(text) for key, text in vector.items() if key != "by"}
    key_id, secret = told["exported"][:16], told["exported"][16:]

    def opened(data: bytes, salt: bytes, part: int) -> bytes:
        info = b"roam-relay/1 first flight\0" + bytes([part])
        key = HKDF(SHA256(), 32, salt, info).derive(secret)
        assert data[:4] == b"\x52\x52\x01\x01"
        assert data[4:20] == key_id
        assert int.from_bytes(data[52:54], "big") == len(data) - 54
        return ChaCha20Poly1305(key).decrypt(bytes(12), data[54:], data[:54])

    by_dialer = vector["by"] == "dialer"
    random, answer_random = told["random"], told["answer_random"]
    assert told["flight"][20:52] == random
    assert told["answer"][20:52] == answer_random
    assert opened(told["flight"], random, 1 if by_dialer else 2) == told["plain"]
    both = random + answer_random
    assert opened(told["answer"], both, 4 if by_dialer else 3) == told["answer_plain"]
    here, there = FlightKeys(), FlightKeys()
    here.add(told["exported"], dialed_here=by_dialer)
    there.add(told["exported"], dialed_here=not by_dialer)
    sealed, taken = here.seal(random, told["plain"]), there.open(told["flight"])
    assert sealed is not None
    assert taken is not None
    assert (sealed.data, taken.plain) == (told["flight"], told["plain"])
    assert taken.answer(answer_random, told["answer_plain"]) == told["answer"]
    assert sealed.open_answer(told["answer"]) == told["answer_plain"]


@pytest.mark.parametrize("vector", FILE["prekeys"])
def test_prekeys(vector: dict[str, Any]) -> None:
    fields, half = value(vector["fields"]), bytes.fromhex(vector["private_key"])
    prekey = make_prekey(fields[1], half, one_time=fields[3])
    assert prekey == Prekey(*fields)
    signed = sign_prekey(identity_of(vector["signer"]), prekey)
    assert signed.body.hex() == vector["body"] == msgpack.packb(fields).hex()
    assert signed.signature.hex() == vector["signature"]
    context = b"roam-relay/1 prekey\0" + public_key_of(vector["signer"])
    assert vector["signed"] == (context + signed.body).hex()
    assert open_prekey(vector["signer"], SignedPrekey(signed.body, signed.signature)) == prekey


@pytest.mark.parametrize("vector", FILE["letters"], ids=lambda vector: str(vector["what"]))
def test_letters(vector: dict[str, Any]) -> None:
    sealed, half = bytes.fromhex(vector["sealed"]), bytes.fromhex(vector["private_key"])
    if "fault" in vector:
        with pytest.raises(LetterFault) as fault:
            open_letter(vector["recipient"], sealed, half)
        assert fault.value.fault == vector["fault"]
        return
    [prekey] = [one for one in FILE["prekeys"] if one["private_key"] == vector["private_key"]]
    head = read_head(sealed)
    assert [head.suite, head.number] == value(prekey["fields"])[:2]
    letter = open_letter(vector["recipient"], sealed, half)
    assert (letter.sender, letter.service) == (vector["sender"], vector["service"])
    assert (letter.id.hex(), letter.payload.hex()) == (vector["id"], vector["payload"])


def test_the_signatures_are_those_in_the_messages() -> None:
    for name in ("challenge", "register"):
        messages = [vector for vector in FILE["messages"] if vector["type"] == name]
        told = {message["fields"]["signature"]["hex"] for message in messages}
        assert told == {FILE["signatures"][name]["signature"]}


@pytest.mark.parametrize("vector", FILE["messages"], ids=lambda vector: str(vector["type"]))
def test_messages(vector: dict[str, Any]) -> None:
    data = bytes.fromhex(vector["bytes"])
    fields = value(vector["fields"])
    assert msgpack.unpackb(data) == fields
    assert fields["type"] == vector["type"]
    for given in (data, msgpack.packb(dict(reversed(fields.items())))):
        [message] = MessageDecoder(TABLES).receive(given)
        assert encode(message) == data


def test_every_message_and_frame_has_a_vector() -> None:
    assert {vector["type"] for vector in FILE["messages"]} == set(TABLES)
    frames = {vector["frame"] for vector in FILE["session_frames"]}
    assert frames == {frame.name.lower() for frame in Frame}


@pytest.mark.parametrize("vector", FILE["session_frames"], ids=lambda vector: str(vector["frame"]))
def test_session_frames(vector: dict[str, Any]) -> None:
    data = bytes.fromhex(vector["bytes"])
    assert msgpack.unpackb(data) == value(vector["value"])
    assert vector["value"][0] == Frame[vector["frame"].upper()]


@pytest.mark.parametrize("revision", [1, 2])
def test_the_machine_reads_the_frames_of_its_revision_alone(revision: int) -> None:
    for vector in FILE["session_frames"]:
        machine = SessionMachine(SessionSettings(), 0.0)
        machine.attach(0, 0, 8 << 20, 0.0, revised=revision == 2)
        refused = ""
        try:
            machine.receive(bytes.fromhex(vector["bytes"]), 0.0)
        except ProtocolViolation as violation:
            refused = violation.reason  # What it says may be wrong in this session.
        read = refused != "not a session frame"
        assert read == (revision in vector["revisions"]), vector


@pytest.mark.parametrize("revision", [1, 2])
def test_the_machine_writes_the_frames_of_the_file(revision: int) -> None:
    by_name = {
        vector["frame"]: vector["bytes"]
        for vector in reversed(FILE["session_frames"])
        if revision in vector["revisions"]
    }
    machine = SessionMachine(SessionSettings(), 0.0)
    machine.attach(0, 0, 8 << 20, 0.0, revised=revision == 2)
    machine.send(b"hello")
    assert machine.data_to_send(0.0).hex() == by_name["ack"] + by_name["data"]
    machine.handle_timeout(2.0)
    assert machine.data_to_send(2.0).hex() == by_name["ping"]
    machine.receive(bytes.fromhex(by_name["ping"]), 2.0)
    assert machine.data_to_send(2.0).hex() == by_name["pong"]


@pytest.mark.parametrize("vector", FILE["refusals"], ids=lambda vector: str(vector["what"]))
def test_refusals(vector: dict[str, Any]) -> None:
    with pytest.raises(ProtocolViolation) as error:
        list(MessageDecoder(FROM_PEER).receive(whole(vector)))
    assert error.value.code == vector["code"]


def test_the_succession() -> None:
    vector = FILE["succession"]
    links = [bytes.fromhex(one) for one in vector["links"]]
    assert follow(vector["relay"], links) == tuple(vector["next"])


def test_the_offers() -> None:
    vector = FILE["offers"]
    caller, callee, session = vector["caller"], vector["callee"], bytes.fromhex(vector["session"])
    ask, reply = (
        {name: bytes.fromhex(text) for name, text in vector[which].items()}
        for which in ("request", "answer")
    )
    keys = {Identity.from_seed(bytes.fromhex(one["seed"])) for one in FILE["identities"]}
    by_guid = {one.guid: one for one in keys}
    asked, answered = ask["offer"], reply["offer"]
    verify(caller, asked[:64], ask["signed"])
    verify(callee, answered[:64], reply["signed"])
    assert open_offer(asked, caller, callee, session) == ask["body"]
    assert open_answer(answered, callee, caller, session, asked) == reply["body"]
    assert make_offer(by_guid[caller], callee, session, ask["body"]) == asked
    assert answer_offer(by_guid[callee], caller, session, asked, reply["body"]) == answered


@pytest.mark.parametrize("vector", FILE["observations"], ids=lambda one: str(one["host"]))
def test_where_somebody_is_seen(vector: dict[str, Any]) -> None:
    asked, answer = bytes.fromhex(vector["question"]), bytes.fromhex(vector["answer"])
    assert answer_to(asked, vector["host"], vector["port"]) == answer
    assert read_answer(asked, answer) == Endpoint(vector["host"], vector["port"])


def test_the_invitation() -> None:
    vector = FILE["invitation"]
    token = Token.parse(vector["token"])
    fields = msgspec.to_builtins(token.invitation, builtin_types=(bytes,))
    assert [*fields] == [tuple(v) if isinstance(v, list) else v for v in value(vector["fields"])]
    assert token.invitation.id == vector["id"]
    nonce = bytes.fromhex(vector["relay_nonce"])
    presented = token.present(vector["relay"], nonce, vector["peer"])
    assert presented.hex() == vector["presented"]
    operator = public_key_of(vector["operator"])
    found = opened(presented, (operator,), public_key_of(vector["relay"]), nonce, vector["peer"])
    assert found == token.invitation
