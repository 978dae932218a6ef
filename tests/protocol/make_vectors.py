"""Writes docs/protocol-vectors.json: `python -m tests.protocol.make_vectors`.

Everything is computed from fixed keys and nonces. Bytes are written as {"hex": "..."} where they
stand for a value, and as plain hexadecimal under the keys `bytes`, `signed`, `signature` and the
like. Floats are {"float": ...} and integers that a double does not hold are {"int": "..."}, so that
a program whose language has one kind of number can write the same bytes. The file stands twice, in
docs and in the kit that is installed with the library.
"""

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import msgpack
import msgspec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from protocol.codec import encode, encode_location
from protocol.endpoint import Entry, Phase, Provenance, sign_entry
from protocol.errors import Code
from protocol.features import RELAY_FALLBACK, SESSION_FEATURES, STANDBY, SUCCESSION
from protocol.first_bytes import flight_head
from protocol.first_flight import EXPORTED_BYTES, FlightKeys
from protocol.identity import (
    CONTEXT_CHALLENGE,
    CONTEXT_DNS_KEY,
    CONTEXT_ENDPOINT,
    CONTEXT_PLANE,
    CONTEXT_REGISTER,
    Identity,
)
from protocol.invitation import Token
from protocol.letters import open_letter
from protocol.mail import (
    Letter,
    LetterDone,
    LetterLeave,
    LetterResponse,
    LetterService,
    LetterWindow,
    MailboxState,
    MailboxUpdate,
    PrekeyRequest,
    PrekeyResponse,
)
from protocol.messages import (
    MAX_MESSAGE_BYTES,
    Challenge,
    Disclosure,
    DnsKeyRequest,
    DnsKeyResponse,
    EndpointQuery,
    EndpointResponse,
    Error,
    Hello,
    Limits,
    LocationRecord,
    Message,
    Mode,
    PathHello,
    PathReject,
    PathWelcome,
    PeerEvent,
    PeerState,
    Ping,
    Pong,
    Register,
    Registered,
    RelayNode,
    Restarting,
    ServiceAnswer,
    ServiceRecord,
    ServiceRequestFrom,
    ServiceRequestTo,
    ServiceResponse,
    Update,
    Verdict,
    Watch,
)
from protocol.observation import answer_to, question
from protocol.offer import CONTEXT_OFFER, CONTEXT_OFFER_ANSWER, answer_offer, make_offer
from protocol.prekeys import CONTEXT_PREKEY, make_prekey, sign_prekey
from protocol.sealing import Receiver, seal
from protocol.session.frames import Frame
from protocol.succession import link
from tests.protocol import sealed_letters, transcripts, vectors_refused
from tests.protocol import vectors_conversation as conversation
from tests.protocol import vectors_locks as locks

ROOT = Path(__file__).parents[2]
PATH = ROOT / "docs" / "protocol-vectors.json"
INSTALLED = ROOT / "peers" / "conformance" / "vectors.json"

SEEDS = {
    "relay": bytes(range(32)),
    "alice": bytes(range(32, 64)),
    "bob": bytes(range(64, 96)),
}
RELAY, ALICE, BOB = (Identity.from_seed(seed) for seed in SEEDS.values())
INSTANCE = bytes.fromhex("a0a1a2a3a4a5a6a7a8a9aaabacadaeaf")
PEER_NONCE = bytes([0x11]) * 32
RELAY_NONCE = bytes([0x22]) * 32
SESSION = bytes.fromhex("5e551017000000000000000000000001")
INVITATION_SEED = bytes(range(96, 128))
INVITED = Token.make(
    RELAY,
    INVITATION_SEED,
    expires=2_000_000_000,
    uses=3,
    lifetime=86_400,
    requests_per_second=5.0,
    modes=("p2p", "combined"),
    note="for Alice",
)
CALLER_TICKET = "0123456789abcdef0123456789abcdef"
CALLEE_TICKET = "fedcba9876543210fedcba9876543210"

ENTRIES = (
    Entry(7, "chat", "192.0.2.1", 4000, Phase.PREFERRED, 120, Provenance.INTERFACE),
    Entry(7, "chat", "2001:db8::1", 4000, Phase.NEW, 120, Provenance.OBSERVED),
    Entry(2**40, "files", "198.51.100.7", 65535, Phase.LEAVING, 604800, Provenance.CONFIGURED),
)
SIGNED = tuple(sign_entry(ALICE, entry) for entry in ENTRIES)
BOBS = sign_entry(
    BOB, Entry(3, "chat", "203.0.113.9", 50000, Phase.PREFERRED, 120, Provenance.INTERFACE)
)

RECORD = LocationRecord(
    7,
    (
        ServiceRecord("chat", SIGNED[:2]),
        ServiceRecord("files", (), Disclosure.LISTED, (BOB.guid,)),
    ),
)
LOCATION = encode_location(RECORD)
RECEIVER_KEY = X25519PrivateKey.from_private_bytes(bytes(range(64, 96)))
RECEIVER = Receiver(RECEIVER_KEY)
SECRET = bytes(range(128, 160))
SEALING_CONTEXT = CONTEXT_DNS_KEY + RELAY.public_key + ALICE.public_key
SEALED = seal(
    RECEIVER.public,
    SECRET,
    SEALING_CONTEXT,
    X25519PrivateKey.from_private_bytes(bytes(range(96, 128))),
)
PREKEY_HALVES = (bytes(range(1, 33)), bytes(range(33, 65)))
PREKEYS = tuple(
    make_prekey(number, half, one_time=number > 1)
    for number, half in zip((1, 2**40), PREKEY_HALVES, strict=True)
)
SIGNED_PREKEYS = tuple(sign_prekey(BOB, prekey) for prekey in PREKEYS)
CHALLENGE_PARTS = (ALICE.public_key, PEER_NONCE, RELAY_NONCE)
DNS_KEY_PARTS = (RELAY.public_key, RECEIVER.public)
REGISTER_PARTS = (RELAY.public_key, RELAY_NONCE, ALICE.public_key, INSTANCE, LOCATION)


ASKED_WHERE = question(bytes(range(20)))
ASKED = msgpack.packb({"example": ["one", "two"]})
ANSWERED = msgpack.packb({"example": "two"})
ASKED_OFFER = make_offer(BOB, ALICE.guid, SESSION, ASKED)
ANSWERED_OFFER = answer_offer(ALICE, BOB.guid, SESSION, ASKED_OFFER, ANSWERED)

LETTER_ID = bytes.fromhex("1e77e400000000000000000000000001")
SEALED_LETTER = bytes.fromhex(sealed_letters.LETTERS[0][2])
LINKS = (link(RELAY, ALICE), link(ALICE, BOB))


def messages() -> list[Message]:
    """Return at least one message of every type."""
    return [
        Hello(ALICE.guid, INSTANCE, PEER_NONCE),
        Hello(ALICE.guid, INSTANCE, PEER_NONCE, flow=3, agent="example/1.0"),
        Hello(ALICE.guid, INSTANCE, PEER_NONCE, features=("example-feature", "another")),
        Challenge(
            RELAY.guid,
            RELAY_NONCE,
            RELAY.sign(CONTEXT_CHALLENGE, *CHALLENGE_PARTS),
            Limits(heartbeat=20.0),
        ),
        Challenge(
            RELAY.guid,
            RELAY_NONCE,
            RELAY.sign(CONTEXT_CHALLENGE, *CHALLENGE_PARTS),
            features=("example-feature",),
        ),
        Hello(ALICE.guid, INSTANCE, PEER_NONCE, features=(SUCCESSION,), relay=RELAY.guid),
        Challenge(
            RELAY.guid,
            RELAY_NONCE,
            RELAY.sign(CONTEXT_CHALLENGE, *CHALLENGE_PARTS),
            features=(SUCCESSION,),
            succession=LINKS,
        ),
        Register(LOCATION, ALICE.sign(CONTEXT_REGISTER, *REGISTER_PARTS)),
        Registered(7, "192.0.2.1", 51000, 15.0, 120.0),
        Registered(7, "2001:db8::1", 51000, 15.0, 120.0, ("http://198.51.100.1:8440",), "a.test"),
        Registered(
            *(7, "192.0.2.1", 51000, 15.0, 120.0),
            nodes=(
                RelayNode("http://198.51.100.1:8440"),
                RelayNode("http://198.51.100.2:8440", 50),
            ),
        ),
        Update(encode_location(LocationRecord(8))),
        ServiceRequestTo(1, ALICE.guid, "chat", Mode.P2P, SESSION),
        ServiceRequestTo(2, ALICE.guid, "chat", Mode.CENTRAL, SESSION, (), 2.5),
        ServiceRequestTo(3, ALICE.guid, "chat", Mode.COMBINED, SESSION, (BOBS,)),
        ServiceRequestFrom(
            900, BOB.guid, "chat", Mode.CENTRAL, SESSION, timeout=2.5, ticket=CALLEE_TICKET
        ),
        ServiceRequestFrom(901, BOB.guid, "chat", Mode.COMBINED, SESSION, (BOBS,)),
        ServiceRequestTo(4, ALICE.guid, "chat", Mode.AUTO, SESSION, (BOBS,), resume=True),
        ServiceRequestFrom(
            902,
            BOB.guid,
            "chat",
            Mode.AUTO,
            SESSION,
            (BOBS,),
            ticket=CALLEE_TICKET,
            resume=True,
        ),
        ServiceRequestTo(5, ALICE.guid, "chat", Mode.COMBINED, SESSION, offer=ASKED_OFFER),
        ServiceRequestFrom(903, BOB.guid, "chat", Mode.COMBINED, SESSION, offer=ASKED_OFFER),
        ServiceAnswer(903, Verdict.ACCEPTED, entries=SIGNED[:1], offer=ANSWERED_OFFER),
        ServiceResponse(
            5,
            state=PeerState.ONLINE,
            last_seen=0.5,
            entries=SIGNED[:1],
            offer=ANSWERED_OFFER,
        ),
        ServiceAnswer(900, Verdict.ACCEPTED),
        ServiceAnswer(901, Verdict.ACCEPTED, entries=SIGNED[:1]),
        ServiceAnswer(901, Verdict.REFUSED, "not now", code=Code.REFUSED),
        ServiceResponse(1, state=PeerState.ONLINE, last_seen=0.5, entries=SIGNED[:2]),
        ServiceResponse(2, state=PeerState.ONLINE, last_seen=0.0, ticket=CALLER_TICKET),
        ServiceResponse(
            3, Code.PEER_OFFLINE, "the peer is offline", PeerState.OFFLINE, last_seen=3600.0
        ),
        ServiceResponse(4, Code.LIMIT_EXCEEDED, "too many requests", retry_after=1.5),
        ServiceResponse(
            5,
            state=PeerState.ONLINE,
            last_seen=0.0,
            ticket=CALLER_TICKET,
            url="https://node-b.example.org",
        ),
        ServiceResponse(6, Code.CLUSTER_UNAVAILABLE, "not now", retry_after=1.0),
        Watch(ALICE.guid),
        Watch(ALICE.guid, watching=False),
        PeerEvent(ALICE.guid),
        PeerEvent(ALICE.guid, PeerState.ONLINE, 0.5, 7),
        PeerEvent(ALICE.guid, code=Code.REFUSED),
        EndpointQuery(6, ALICE.guid, SIGNED[0]),
        EndpointResponse(6),
        EndpointResponse(6, True),
        EndpointResponse(7, code=Code.LIMIT_EXCEEDED, reason="too many", retry_after=0.5),
        DnsKeyRequest(5, RECEIVER.public, ALICE.sign(CONTEXT_DNS_KEY, *DNS_KEY_PARTS)),
        DnsKeyResponse(5, zone="peers.test", port=8453, sealed=SEALED),
        DnsKeyResponse(5, Code.REFUSED, "this relay serves no DNS zone"),
        MailboxUpdate(8),
        MailboxUpdate(
            9,
            (
                LetterService("chat", Disclosure.ANYONE, (ALICE.guid,)),
                LetterService("files", listed=(ALICE.guid,)),
            ),
            SIGNED_PREKEYS[0],
            SIGNED_PREKEYS[1:],
        ),
        MailboxState(9, one_time=1, letters=3),
        MailboxState(10, Code.LIMIT_EXCEEDED, "too many requests", 1.5),
        PrekeyRequest(11, BOB.guid, "chat"),
        PrekeyResponse(11, prekey=SIGNED_PREKEYS[1]),
        PrekeyResponse(11, Code.LETTER_REFUSED, "no letters are taken there"),
        LetterLeave(12, BOB.guid, "chat", LETTER_ID, SEALED_LETTER, 86_400),
        LetterResponse(12, lifetime=86_400),
        LetterResponse(12, Code.MAILBOX_FULL, "the mailbox is full", 60.0),
        LetterWindow(1),
        Letter(70_000, ALICE.guid, "chat", LETTER_ID, SEALED_LETTER, 3600.5),
        LetterDone((1, 70_000)),
        Restarting(2.0, 8.0),
        Restarting(0.0, 0.0, ("http://198.51.100.2:8440", "https://relay-b.example")),
        Ping(),
        Ping(42),
        Pong(42),
        Error(Code.UNKNOWN_TYPE, "unknown type 'x'"),
        Error(Code.LIMIT_EXCEEDED, "too many", 2.0),
        Error(Code.STALE_SEQUENCE, "not newer", seq=2**61),
        PathHello(SESSION, "chat", Mode.CENTRAL),
        PathHello(
            SESSION,
            "chat",
            Mode.COMBINED,
            resume=True,
            received=1000,
            consumed=300_000,
            window=1 << 20,
            path=70_000,
            entries=(BOBS,),
            features=(RELAY_FALLBACK, "another"),
        ),
        PathHello(
            SESSION,
            "chat",
            Mode.P2P,
            resume=True,
            received=3,
            consumed=96,
            path=2,
            features=SESSION_FEATURES,
            partial=70_000,
            idle=30.0,
        ),
        PathHello(
            SESSION,
            "chat",
            Mode.COMBINED,
            resume=True,
            received=3,
            path=2,
            features=(RELAY_FALLBACK, STANDBY, *SESSION_FEATURES),
            standby=True,
        ),
        PathHello(SESSION, "chat", Mode.P2P, metadata=b"room 7"),
        PathWelcome(),
        PathWelcome(3, 96, features=SESSION_FEATURES, partial=4096, idle=2.0),
        PathWelcome(5, 160, 1024, SIGNED[:1], (RELAY_FALLBACK,)),
        PathWelcome(features=SESSION_FEATURES, metadata=b"room 7"),
        PathReject(Code.SESSION_UNKNOWN, "no session can be resumed here"),
    ]


FRAMES: list[tuple[str, list[Any]]] = [
    ("data", [Frame.DATA, 1, [b"hello"]]),
    ("data", [Frame.DATA, 70_000, [b"", b"\x00\xff", bytes(300)]]),
    ("ack", [Frame.ACK, 0, 0]),
    ("ack", [Frame.ACK, 70_002, 2_242_302]),
    ("ack", [Frame.ACK, 0, 0, 0]),
    ("ack", [Frame.ACK, 70_002, 2_242_302, 65_536]),
    ("close", [Frame.CLOSE, 70_002]),
    ("closed", [Frame.CLOSED, 70_002]),
    ("ping", [Frame.PING, 1]),
    ("pong", [Frame.PONG, 1]),
    ("abort", [Frame.ABORT, "refused", "the user went away"]),
    ("location", [Frame.LOCATION, []]),
    ("location", [Frame.LOCATION, [[SIGNED[0].body, SIGNED[0].signature]]]),
    ("part", [Frame.PART, 1, 0, 1_048_576, b"hello"]),
    ("part", [Frame.PART, 70_003, 70_000, 70_300, bytes(300)]),
    ("finish", [Frame.FINISH, 0]),
    ("finish", [Frame.FINISH, 70_003]),
    ("switch", [Frame.SWITCH, 2]),
]
SECOND = (Frame.PART, Frame.FINISH, Frame.SWITCH)


def revisions(value: list[Any]) -> list[int]:
    """Return the revisions in which a frame may stand."""
    if value[0] == Frame.ACK:
        return [len(value) - 2]
    return [2] if value[0] in SECOND else [1, 2]


REFUSALS: list[tuple[str, bytes, Code]] = [
    ("a reserved byte", b"\xc1", Code.BAD_MESSAGE),
    ("not a map", msgpack.packb([1]), Code.BAD_MESSAGE),
    ("no type", msgpack.packb({}), Code.BAD_MESSAGE),
    ("a type that is no string", msgpack.packb({"type": 1}), Code.BAD_MESSAGE),
    ("a key that is no string", b"\x81\x01\x02", Code.BAD_MESSAGE),
    ("a string that is no UTF-8", b"\x81\xa4type\xa1\xff", Code.BAD_MESSAGE),
    ("an extension type", b"\x82\xa4type\xa4ping\xa4ping\xd4\x05\x00", Code.BAD_MESSAGE),
    ("a declared array of 2^32-1", b"\xdd\xff\xff\xff\xff", Code.BAD_MESSAGE),
    ("a declared map of 2^32-1", b"\xdf\xff\xff\xff\xff", Code.BAD_MESSAGE),
    ("2000 nested arrays", b"\x91" * 2000, Code.BAD_MESSAGE),
    ("a string where bytes belong", b"\x82\xa4type\xa8register\xa8location\xa0", Code.BAD_MESSAGE),
    ("a missing key", msgpack.packb({"type": "update"}), Code.BAD_MESSAGE),
    ("a GUID that is too short", encode(Hello("a" * 51, INSTANCE, PEER_NONCE)), Code.BAD_MESSAGE),
    ("a number over its limit", encode(Ping(2**32)), Code.BAD_MESSAGE),
    ("true for a number", msgpack.packb({"type": "ping", "ping": True}), Code.BAD_MESSAGE),
    (
        "65,537 bytes and not whole",
        b"\x82\xa4type\xa4ping\xa1x\xc6\x00\x02\x00\x00" + bytes(MAX_MESSAGE_BYTES + 1 - 18),
        Code.MESSAGE_TOO_LARGE,
    ),
]


def plain(value: Any) -> Any:
    """Return a value as JSON can hold it: bytes become {"hex": ...}."""
    if isinstance(value, bytes):
        return {"hex": value.hex()}
    if isinstance(value, float):
        return {"float": value}
    if isinstance(value, int) and abs(value) >= 2**53:
        return {"int": str(value)}
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def shortened(data: bytes) -> dict[str, Any]:
    """Return bytes as hex, or, where they end in many equal pieces, as a beginning and a repeat."""
    best: dict[str, Any] = {"bytes": data.hex()}
    saved = 64
    for size in (1, 2, 257):
        piece, times = data[-size:], 0
        while piece and data.endswith(piece, 0, len(data) - times * size):
            times += 1
        if (times - 1) * size > saved:
            saved = (times - 1) * size
            head = data[: len(data) - times * size]
            best = {
                "bytes": head.hex(),
                "then_repeat": {"bytes": piece.hex(), "times": times},
            }
    return best


def signature(identity: Identity, context: bytes, **parts: bytes) -> dict[str, Any]:
    """Return a signature with all that it covers, in order."""
    return {
        "signer": identity.guid,
        "context": context.hex(),
        "parts": {name: part.hex() for name, part in parts.items()},
        "signed": (context + b"".join(parts.values())).hex(),
        "signature": identity.sign(context, *parts.values()).hex(),
    }


def letter(what: str, prekey: int, sealed: str, fault: str) -> dict[str, Any]:
    """Return a sealed letter to Bob and what is in it, or why that is nothing."""
    half = PREKEY_HALVES[prekey]
    told: dict[str, Any] = {"what": what, "recipient": BOB.guid, "private_key": half.hex()}
    told["sealed"] = sealed
    if fault:
        return told | {"fault": fault}
    opened = open_letter(BOB.guid, bytes.fromhex(sealed), half)
    return told | {
        "sender": opened.sender,
        "service": opened.service,
        "id": opened.id.hex(),
        "payload": opened.payload.hex(),
    }


def vectors() -> dict[str, Any]:
    """Return all vectors."""
    return {
        "about": "Test vectors of the roam-relay/1 protocol; docs/protocol.md says what they mean. "
        'Bytes are hexadecimal; {"hex": ...} is a MessagePack bin, {"float": ...} a float, '
        '{"int": "..."} an integer of 2^53 or more. Keys of maps may be in any '
        "order on the wire, and a field at its default may be sent or left out: a decoder must "
        "take the bytes given here, an encoder need not produce them.",
        "identities": [
            {
                "name": name,
                "seed": seed.hex(),
                "public_key": Identity.from_seed(seed).public_key.hex(),
                "guid": Identity.from_seed(seed).guid,
            }
            for name, seed in SEEDS.items()
        ],
        "endpoint_entries": [
            {
                "signer": ALICE.guid,
                "fields": msgspec.to_builtins(entry),
                "body": signed.body.hex(),
                "signed": (CONTEXT_ENDPOINT + ALICE.public_key + signed.body).hex(),
                "signature": signed.signature.hex(),
            }
            for entry, signed in zip(ENTRIES, SIGNED, strict=True)
        ],
        "location_record": {
            "fields": plain(msgpack.unpackb(LOCATION)),
            "bytes": LOCATION.hex(),
        },
        "signatures": {
            "challenge": signature(
                RELAY,
                CONTEXT_CHALLENGE,
                peer_key=ALICE.public_key,
                peer_nonce=PEER_NONCE,
                relay_nonce=RELAY_NONCE,
            ),
            "register": signature(
                ALICE,
                CONTEXT_REGISTER,
                relay_key=RELAY.public_key,
                relay_nonce=RELAY_NONCE,
                peer_key=ALICE.public_key,
                instance=INSTANCE,
                location=LOCATION,
            ),
            "plane": signature(
                BOB,
                CONTEXT_PLANE,
                relay_key=RELAY.public_key,
                ticket=CALLER_TICKET.encode(),
            ),
            "dns key": signature(
                ALICE,
                CONTEXT_DNS_KEY,
                relay_key=RELAY.public_key,
                public=RECEIVER.public,
            ),
        },
        "sealed": {
            "receiver_private_key": RECEIVER_KEY.private_bytes_raw().hex(),
            "context": SEALING_CONTEXT.hex(),
            "sealed": SEALED.hex(),
            "secret": SECRET.hex(),
        },
        "invitation": {
            "operator": RELAY.guid,
            "seed": INVITATION_SEED.hex(),
            "fields": plain(msgspec.to_builtins(INVITED.invitation, builtin_types=(bytes,))),
            "id": INVITED.invitation.id,
            "token": INVITED.text,
            "relay": RELAY.guid,
            "relay_nonce": RELAY_NONCE.hex(),
            "peer": ALICE.guid,
            "presented": INVITED.present(RELAY.guid, RELAY_NONCE, ALICE.guid).hex(),
        },
        "prekeys": [
            {
                "signer": BOB.guid,
                "private_key": half.hex(),
                "fields": plain(msgspec.to_builtins(prekey, builtin_types=(bytes,))),
                "body": signed.body.hex(),
                "signed": (CONTEXT_PREKEY + BOB.public_key + signed.body).hex(),
                "signature": signed.signature.hex(),
            }
            for half, prekey, signed in zip(PREKEY_HALVES, PREKEYS, SIGNED_PREKEYS, strict=True)
        ],
        "letters": [letter(*one) for one in sealed_letters.LETTERS],
        "succession": {
            "relay": RELAY.guid,
            "next": [ALICE.guid, BOB.guid],
            "links": [link.hex() for link in LINKS],
        },
        "offers": {
            "caller": BOB.guid,
            "callee": ALICE.guid,
            "session": SESSION.hex(),
            "request": {
                "body": ASKED.hex(),
                "signed": (
                    CONTEXT_OFFER + BOB.public_key + ALICE.public_key + SESSION + ASKED
                ).hex(),
                "offer": ASKED_OFFER.hex(),
            },
            "answer": {
                "body": ANSWERED.hex(),
                "signed": (
                    CONTEXT_OFFER_ANSWER
                    + ALICE.public_key
                    + BOB.public_key
                    + SESSION
                    + hashlib.sha256(ASKED_OFFER).digest()
                    + ANSWERED
                ).hex(),
                "offer": ANSWERED_OFFER.hex(),
            },
        },
        "observations": [
            {"host": host, "port": port, "question": ASKED_WHERE.hex(), "answer": answer.hex()}
            for host, port in (("198.51.100.7", 4000), ("2001:db8::7", 65_535))
            if (answer := answer_to(ASKED_WHERE, host, port)) is not None
        ],
        "messages": [
            {
                "type": type(message).__struct_config__.tag,
                "fields": plain(msgpack.unpackb(encode(message))),
                "bytes": encode(message).hex(),
            }
            for message in messages()
        ],
        "session_frames": [
            {
                "frame": name,
                "revisions": revisions(value),
                "value": plain(value),
                "bytes": msgpack.packb(value).hex(),
            }
            for name, value in FRAMES
        ],
        "refusals": [
            {"what": what, **shortened(data), "code": code.value} for what, data, code in REFUSALS
        ],
        "conversation_frames": [
            {"frame": name, "value": plain(value), "bytes": conversation.packed(value).hex()}
            for name, value in conversation.FRAMES
        ],
        "refused_conversation_frames": [
            {"rule": rule, "what": what, **shortened(conversation.packed(value))}
            for rule, what, value in conversation.REFUSED
        ],
        "passed_over_conversation_frames": [
            {"rule": rule, "what": what, **shortened(conversation.packed(value))}
            for rule, what, value in conversation.PASSED_OVER
        ],
        "conversation_lines": conversation.LINES,
        "conversation_letters": [
            {"rule": "R17.25", "value": plain(value), "bytes": conversation.packed(value).hex()}
            for value in conversation.LETTERS
        ],
        "refused_conversation_letters": [
            {"rule": rule, "what": what, **shortened(conversation.packed(value))}
            for rule, what, value in conversation.REFUSED_LETTERS
        ],
        "conversation_parts": conversation.PARTS,
        **locks.vectors(RELAY, BOB, ALICE, SESSION),
        "first_bytes": first_bytes(),
        "first_flights": first_flights(),
        **more_vectors(),
    }


def first_bytes() -> list[dict[str, Any]]:
    """Return what a path's stream can begin with."""
    head = flight_head(bytes(range(16)), bytes(range(32)), 3)
    given = [
        ("R10.50", "TLS", b"\x16\x03\x01\x00\x05hello", "tls"),
        ("R10.50", "a sealed flight, and then TLS", head + b"abc\x16", "flight"),
        ("R10.50", "a part of one", head + b"ab", "more"),
        (
            "R10.50",
            "a path that is locked by Noise, where TLS was agreed on",
            b"\x52\x52\x01\x02",
            "refused",
        ),
        ("R10.51", "another kind", b"\x52\x52\x01\x03", "refused"),
        ("R10.51", "another version", b"\x52\x52\x02\x01", "refused"),
        ("R10.51", "neither ours nor TLS", b"\x52\x16", "refused"),
        ("R10.51", "a flight that is too large", head[:-2] + b"\x40\x01", "refused"),
    ]
    return [
        {"rule": rule, "what": what, "bytes": data.hex(), "means": means}
        for rule, what, data, means in given
    ]


def first_flights() -> list[dict[str, Any]]:
    """Return a sealed flight from either side, and its answer."""
    exported = bytes(range(EXPORTED_BYTES))
    told = []
    for by in ("dialer", "dialed"):
        here, there = FlightKeys(), FlightKeys()
        here.add(exported, dialed_here=by == "dialer")
        there.add(exported, dialed_here=by != "dialer")
        hello = PathHello(SESSION, "chat", Mode.P2P, resume=True, received=3, path=2)
        plain = encode(hello) + bytes.fromhex("940103000093000491c403") + b"old"
        sealed = here.seal(bytes([7]) * 32, plain)
        opened = there.open(sealed.data) if sealed is not None else None
        assert sealed is not None
        assert opened is not None
        answer = bytes.fromhex("9401040000")
        told.append(
            {
                "exported": exported.hex(),
                "by": by,
                "random": (bytes([7]) * 32).hex(),
                "plain": plain.hex(),
                "flight": sealed.data.hex(),
                "answer_random": (bytes([9]) * 32).hex(),
                "answer_plain": answer.hex(),
                "answer": opened.answer(bytes([9]) * 32, answer).hex(),
            }
        )
    return told


def more_vectors() -> dict[str, Any]:
    """Return what is refused or tolerated, and whole conversations."""
    refused = vectors_refused
    hello = PathHello(SESSION, "chat", Mode.P2P)
    return {
        "refused_guids": refused.guids(ALICE.guid),
        "refused_entries": refused.entries(ALICE, BOB),
        "entry_of_a_later_version": refused.longer_entry(ALICE),
        "tolerated_messages": [
            {"rule": rule, "what": what, "bytes": given.hex(), "means": meant.hex()}
            for rule, what, given, meant in refused.tolerated(SIGNED[0])
        ],
        "refused_hellos": [
            {"rule": rule, "what": what, "bytes": data.hex(), "code": code.value}
            for rule, what, data, code in refused.hellos(messages_hello())
        ],
        "refused_path_hellos": [
            {"rule": rule, "what": what, **shortened(data), "code": code and code.value}
            for rule, what, data, code in refused.path_hellos(hello)
        ],
        "refused_frames": [
            {
                "rule": rule,
                "what": what,
                "revisions": revisions,
                **shortened(data),
                "code": code.value,
            }
            for rule, what, revisions, data, code in refused.frames()
        ],
        "certificates": refused.certificates(ALICE, BOB),
        "plane_request": transcripts.plane_request(RELAY, BOB, CALLER_TICKET, b"\x16\x03\xfb\xff"),
        "path_numbers": transcripts.path_numbers(),
        "windows": transcripts.windows(),
        "control_transcript": transcripts.control(
            RELAY, ALICE, INSTANCE, (PEER_NONCE, RELAY_NONCE)
        ),
        "session_transcripts": [
            transcripts.session(SESSION, revised=revised) for revised in (False, True)
        ],
    }


def messages_hello() -> Hello:
    """Return a hello that a relay takes."""
    return Hello(ALICE.guid, INSTANCE, PEER_NONCE)


def text() -> str:
    """Return the file as it must be."""
    return json.dumps(vectors(), indent=1) + "\n"


def main() -> None:
    """Write the file."""
    for path in (PATH, INSTALLED):
        path.write_text(text())
        sys.stdout.write(f"wrote {path.relative_to(ROOT)}\n")


if __name__ == "__main__":
    main()
