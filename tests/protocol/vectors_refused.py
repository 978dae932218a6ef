"""What a party refuses, and what it has to take though nobody of today sends it: for the vectors.

Each has the rule of docs/protocol.md that it shows.
"""

import datetime
from typing import Any

import msgpack
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import NameOID

from protocol.codec import encode
from protocol.endpoint import SignedEntry
from protocol.errors import Code
from protocol.identity import CONTEXT_ENDPOINT, Identity
from protocol.messages import Hello, Mode, PathHello, Ping, Registered
from protocol.session.frames import MAX_FRAME, MAX_SMALL_FRAME, Frame
from protocol.session.settings import MAX_PAYLOAD

__all__ = ["certificates", "entries", "frames", "guids", "hellos", "path_hellos", "tolerated"]


def guids(good: str) -> list[dict[str, Any]]:
    """Return texts that are no GUID; `good` is one."""
    return [
        {"rule": rule, "what": what, "text": text}
        for rule, what, text in (
            ("R2.1", "empty", ""),
            ("R2.1", "a character too few", good[:-1]),
            ("R2.1", "a character too many", good + "a"),
            ("R2.1", "padded", good + "===="),
            ("R2.3", "upper case", good.upper()),
            ("R2.3", "one letter in upper case", good[:-2] + good[-2].upper() + good[-1]),
            ("R2.1", "a digit that base32 has not", "1" + good[1:]),
            ("R2.1", "a digit that base32 has not, at the end", good[:-1] + "0"),
            ("R2.2", "a bit behind the key", good[:-1] + chr(ord(good[-1]) + 1)),
            ("R2.1", "no ASCII", good[:-1] + "ａ"),
            ("R2.3", "a space in it", good[:20] + " " + good[21:]),
        )
    ]


def entries(signer: Identity, other: Identity) -> list[dict[str, Any]]:
    """Return signed entries that nobody may use."""
    good = [7, "chat", "192.0.2.1", 4000, "preferred", 120, "interface"]

    def with_(place: int, value: object) -> list[object]:
        return [*good[:place], value, *good[place + 1 :]]

    bodies: list[tuple[str, str, object]] = [
        ("R6.5", "six elements", good[:6]),
        ("R6.5", "a map", dict(enumerate("abcdefg"))),
        ("R6.5", "a number below 0", with_(0, -1)),
        ("R6.5", "a number above 2^63-1", with_(0, 2**63)),
        ("R4.6", "true for a number", with_(0, True)),
        ("R4.6", "a float for a port", with_(3, 4000.0)),
        ("R6.5", "an empty service", with_(1, "")),
        ("R6.5", "a service of 64 characters", with_(1, "x" * 64)),
        ("R6.5", "port 0", with_(3, 0)),
        ("R6.5", "port 65536", with_(3, 65_536)),
        ("R6.5", "a lifetime below 0", with_(5, -1)),
        ("R6.5", "a lifetime above a week", with_(5, 604_801)),
        ("R15.3", "a phase of a later version", with_(4, "later")),
        ("R15.3", "a provenance of a later version", with_(6, "later")),
        ("R6.6", "a name in place of an address", with_(2, "host.example")),
        ("R6.6", "IPv6 that is not in canonical form", with_(2, "2001:DB8::1")),
        ("R6.6", "IPv6 with zeros", with_(2, "2001:db8:0:0:0:0:0:1")),
        ("R6.6", "IPv4 with a leading zero", with_(2, "192.0.2.01")),
        ("R6.7", "IPv4 mapped into IPv6", with_(2, "::ffff:192.0.2.1")),
        ("R6.7", "an address with a zone", with_(2, "fe80::1%eth0")),
        ("R6.8", "multicast", with_(2, "224.0.0.1")),
        ("R6.8", "IPv6 multicast", with_(2, "ff02::1")),
        ("R6.8", "unspecified", with_(2, "0.0.0.0")),
        ("R6.8", "IPv6 unspecified", with_(2, "::")),
        ("R6.8", "broadcast", with_(2, "255.255.255.255")),
        ("R6.5", "nothing", b""),
    ]
    made: list[dict[str, Any]] = []
    for rule, what, content in bodies:
        body = content if isinstance(content, bytes) else msgpack.packb(content)
        signature = signer.sign(CONTEXT_ENDPOINT, signer.public_key, body)
        made.append(_entry(rule, what, signer, body, signature, Code.BAD_MESSAGE))
    body = msgpack.packb(good)
    for rule, what, signature in (
        ("R6.4", "signed by another", other.sign(CONTEXT_ENDPOINT, other.public_key, body)),
        ("R6.4", "signed by another for it", other.sign(CONTEXT_ENDPOINT, signer.public_key, body)),
        ("R2.4", "signed under another context", signer.sign(b"roam-relay/1 plane\0", body)),
        ("R2.4", "the body alone is signed", signer.sign(b"", body)),
        ("R6.4", "no signature", bytes(64)),
    ):
        made.append(_entry(rule, what, signer, body, signature, Code.BAD_SIGNATURE))
    return made


def longer_entry(signer: Identity) -> dict[str, Any]:
    """Return an entry with an element of a later version, which is to be taken."""
    fields = [7, "chat", "192.0.2.1", 4000, "preferred", 120, "interface", ["later", {"x": 1}]]
    body = msgpack.packb(fields)
    signature = signer.sign(CONTEXT_ENDPOINT, signer.public_key, body)
    return {
        "rule": "R6.5",
        "what": "an eighth element",
        "signer": signer.guid,
        "fields": fields[:7],
        "body": body.hex(),
        "signature": signature.hex(),
    }


def _entry(
    rule: str, what: str, signer: Identity, body: bytes, signature: bytes, code: Code
) -> dict[str, Any]:
    return {
        "rule": rule,
        "what": what,
        "signer": signer.guid,
        "body": body.hex(),
        "signature": signature.hex(),
        "code": code.value,
    }


def tolerated(signed: SignedEntry) -> list[tuple[str, str, bytes, bytes]]:
    """Return messages that mean the same as others: rule, what, their bytes, the other's."""
    ping, entry = Ping(42), {"body": signed.body, "signature": signed.signature}
    registered = Registered(7, "192.0.2.1", 51_000, 15.0, 120.0)
    later = {"type": "ping", "ping": 42, "later": {"x": [1, None, b"\0", 1.5, True]}, "nil": None}
    event = {"type": "peer_event", "guid": "a" * 52}
    welcome = {"type": "path_welcome", "entries": [entry]}
    return [
        ("R4.9", "unknown keys", msgpack.packb(later), encode(ping)),
        (
            "R4.4",
            "keys in another order",
            msgpack.packb({"ping": 42, "type": "ping"}),
            encode(ping),
        ),
        (
            "R4.5",
            "a number in a longer form",
            b"\x82\xa4type\xa4ping\xa4ping\xcf" + bytes(7) + b"\x2a",
            encode(ping),
        ),
        ("R4.5", "a string in a longer form", b"\x81\xda\x00\x04type\xd9\x04ping", encode(Ping())),
        (
            "R4.7",
            "a default that is written out",
            msgpack.packb({"type": "ping", "ping": 0}),
            encode(Ping()),
        ),
        (
            "R4.5",
            "integers where floats stand",
            msgpack.packb({**_fields(registered), "heartbeat": 15, "lease": 120}),
            encode(registered),
        ),
        (
            "R4.5",
            "a float of 32 bits",
            msgpack.packb(_fields(registered), use_single_float=True),
            encode(registered),
        ),
        (
            "R4.8",
            "nil where the table says so",
            msgpack.packb({**event, "last_seen": None, "code": None}),
            msgpack.packb(event),
        ),
        (
            "R4.9",
            "an unknown key in a signed entry",
            msgpack.packb({**welcome, "entries": [{**entry, "later": 1}]}),
            msgpack.packb(welcome),
        ),
        (
            "R13.4",
            "a code of a later version",
            msgpack.packb({"type": "error", "code": "of_a_later_version"}),
            msgpack.packb({"type": "error", "code": "internal"}),
        ),
        (
            "R15.7",
            "features of a later version",
            msgpack.packb({"type": "path_welcome", "features": ["of-a-later-version"]}),
            msgpack.packb({"type": "path_welcome", "features": ["of-a-later-version"]}),
        ),
    ]


def _fields(message: Registered) -> dict[str, Any]:
    fields: dict[str, Any] = msgpack.unpackb(encode(message))
    return fields


def hellos(hello: Hello) -> list[tuple[str, str, bytes, Code]]:
    """Return hellos that a relay refuses: rule, what, bytes, code."""
    fields: dict[str, Any] = msgpack.unpackb(encode(hello))

    def with_(**changed: object) -> bytes:
        return msgpack.packb({**fields, **changed})

    def without(name: str) -> bytes:
        return msgpack.packb({key: item for key, item in fields.items() if key != name})

    bad, guid = Code.BAD_MESSAGE, hello.guid
    return [
        ("R7.5", "another version", with_(version=2), Code.VERSION_UNSUPPORTED),
        ("R7.5", "version 0", with_(version=0), Code.VERSION_UNSUPPORTED),
        ("R7.2", "52 characters that are no GUID", with_(guid="1" * 52), Code.BAD_GUID),
        ("R2.2", "a bit behind the key", with_(guid=guid[:-1] + "b"), Code.BAD_GUID),
        ("R2.3", "upper case", with_(guid=guid.upper()), Code.BAD_GUID),
        ("R7.2", "51 characters", with_(guid=guid[:-1]), bad),
        ("R7.1", "no nonce", without("nonce"), bad),
        ("R7.1", "a nonce of 31 bytes", with_(nonce=bytes(31)), bad),
        ("R7.1", "an instance of 17 bytes", with_(instance=bytes(17)), bad),
        ("R7.1", "flow 4", with_(flow=4), bad),
        ("R7.1", "a flow below 0", with_(flow=-1), bad),
        ("R4.6", "a string for a nonce", with_(nonce="x" * 32), bad),
        ("R4.6", "1.0 for a version", with_(version=1.0), bad),
        ("R4.8", "nil for an agent", with_(agent=None), bad),
        ("R7.1", "an agent of 129 characters", with_(agent="x" * 129), bad),
        ("R15.4", "33 features", with_(features=[f"f{n}" for n in range(33)]), bad),
        ("R15.4", "an empty feature", with_(features=[""]), bad),
        ("R15.4", "a feature of 33 characters", with_(features=["x" * 33]), bad),
    ]


def path_hellos(hello: PathHello) -> list[tuple[str, str, bytes, Code | None]]:
    """Return hellos that a callee refuses: rule, what, bytes, the code of its `path_reject`, or
    None where the path is closed without a word. `hello` would be taken."""
    fields: dict[str, Any] = msgpack.unpackb(encode(hello))

    def with_(**changed: object) -> bytes:
        return msgpack.packb({**fields, **changed})

    entry = {"body": b"x" * 257, "signature": bytes(64)}
    return [
        ("R10.19", "another version", with_(version=2), Code.VERSION_UNSUPPORTED),
        ("R10.22", "central on a direct path", with_(mode=Mode.CENTRAL), Code.SESSION_UNKNOWN),
        ("R10.21", "combined unannounced", with_(mode=Mode.COMBINED), Code.SESSION_UNKNOWN),
        ("R10.21", "auto unannounced", with_(mode=Mode.AUTO), Code.SESSION_UNKNOWN),
        ("R10.25", "the next path of no session", with_(resume=True), Code.SESSION_UNKNOWN),
        ("R10.24", "a service that nobody offers", with_(service="none"), Code.UNKNOWN_SERVICE),
        ("R10.15", "a session of 15 bytes", with_(session=bytes(15)), None),
        ("R10.15", "an empty service", with_(service=""), None),
        ("R15.3", "a mode of a later version", with_(mode="later"), None),
        ("R11.71", "a window below the least", with_(window=1023), None),
        ("R10.15", "path 0", with_(path=0), None),
        ("R10.15", "path 2^32", with_(path=2**32), None),
        ("R10.15", "received below 0", with_(received=-1), None),
        ("R10.15", "partial below 0", with_(partial=-1), None),
        ("R4.6", "1 for true", with_(resume=1), None),
        ("R4.6", "a float for a number", with_(received=1.0), None),
        ("R10.15", "17 entries", with_(entries=[{**entry, "body": b"x"}] * 17), None),
        ("R10.15", "an entry of 257 bytes", with_(entries=[entry]), None),
        ("R10.15", "a message of a later version", msgpack.packb({"type": "path_later"}), None),
        ("R10.15", "a welcome", msgpack.packb({"type": "path_welcome"}), None),
        ("R4.13", "65,537 bytes", with_(later=bytes(65_537 - len(encode(hello)))), None),
    ]


def frames() -> list[tuple[str, str, list[int], bytes, Code]]:
    """Return what ends a session in which nothing was sent yet: rule, what, in which revisions, the
    bytes, and the code of the `abort`."""
    pack, bad, large = msgpack.packb, Code.BAD_MESSAGE, Code.MESSAGE_TOO_LARGE
    either, first, second = [1, 2], [1], [2]
    return [
        ("R11.13", "a map", either, pack({}), bad),
        ("R11.13", "a number", either, pack(1), bad),
        ("R11.13", "an empty array", either, pack([]), bad),
        ("R11.13", "a reserved byte", either, b"\xc1", bad),
        ("R11.13", "a frame of a later version", either, pack([99, 1]), bad),
        ("R11.13", "a frame too short", either, pack([Frame.DATA, 1]), bad),
        ("R11.13", "a frame too long", either, pack([Frame.DATA, 1, [], 1]), bad),
        ("R11.13", "a text for a payload", either, pack([Frame.DATA, 1, ["x"]]), bad),
        ("R11.13", "true for a number", either, pack([Frame.DATA, True, [b"x"]]), bad),
        ("R11.13", "1.0 for a number", either, pack([Frame.DATA, 1.0, [b"x"]]), bad),
        ("R11.16", "message 0", either, pack([Frame.DATA, 0, [b"x"]]), bad),
        ("R11.16", "message 2 before 1", either, pack([Frame.DATA, 2, [b"x"]]), bad),
        ("R11.19", "no message 2 before 1", either, pack([Frame.DATA, 2, []]), bad),
        ("R4.14", "1025 messages", either, pack([Frame.DATA, 1, [b""] * 1025]), bad),
        ("R4.14", "an extension", either, pack([msgpack.ExtType(5, b"x"), 1]), bad),
        ("R11.15", "1,048,577 bytes", first, pack([Frame.DATA, 1, [bytes(MAX_PAYLOAD + 1)]]),
         large),
        ("R11.10", "a larger frame", first, b"\xc6" + bytes([0, 0x7F, 0, 0]) + bytes(MAX_FRAME),
         large),
        ("R11.15", "65,537 bytes", second, pack([Frame.DATA, 1, [bytes(65_537)]]), large),
        ("R11.12", "a larger frame", second, pack([Frame.DATA, 1, [bytes(255)] * 300]), large),
        ("R11.12", "a larger frame, not whole", second,
         b"\xc6" + bytes([0, 0x7F, 0, 0]) + bytes(MAX_SMALL_FRAME), large),
        ("R11.15", "a part of 1,048,577 bytes", second,
         pack([Frame.PART, 1, 0, MAX_PAYLOAD + 1, b"x"]), large),
        ("R11.22", "a part of message 2", second, pack([Frame.PART, 2, 0, 2, b"x"]), bad),
        ("R11.22", "a part of message 0", second, pack([Frame.PART, 0, 0, 2, b"x"]), bad),
        ("R11.22", "a part behind a gap", second, pack([Frame.PART, 1, 1, 2, b"x"]), bad),
        ("R11.22", "an empty part", second, pack([Frame.PART, 1, 0, 2, b""]), bad),
        ("R11.22", "more than its total", second, pack([Frame.PART, 1, 0, 2, b"xyz"]), bad),
        ("R11.22", "another total", second,
         pack([Frame.PART, 1, 0, 4, b"x"]) + pack([Frame.PART, 1, 1, 3, b"x"]), bad),
        ("R11.5", "a part in the first revision", first, pack([Frame.PART, 1, 0, 2, b"x"]), bad),
        ("R11.5", "finish in the first revision", first, pack([Frame.FINISH, 0]), bad),
        ("R11.5", "switch in the first revision", first, pack([Frame.SWITCH, 2]), bad),
        ("R11.5", "an ack of the second revision", first, pack([Frame.ACK, 0, 0, 0]), bad),
        ("R11.5", "an ack of the first revision", second, pack([Frame.ACK, 0, 0]), bad),
        ("R11.29", "what was never sent", first, pack([Frame.ACK, 1, 0]), bad),
        ("R11.29", "what was never sent", second, pack([Frame.ACK, 1, 0, 0]), bad),
        ("R11.29", "a part of what was never sent", second, pack([Frame.ACK, 0, 0, 1]), bad),
        ("R11.29", "weight of what was never sent", first, pack([Frame.ACK, 0, 1]), bad),
        ("R11.29", "weight of what was never sent", second, pack([Frame.ACK, 0, 1, 0]), bad),
        ("R11.29", "a number below 0", first, pack([Frame.ACK, -1, 0]), bad),
        ("R11.29", "a number below 0", second, pack([Frame.ACK, -1, 0, 0]), bad),
        ("R11.59", "a close of another count", either, pack([Frame.CLOSE, 1]), bad),
        ("R11.59", "a finish of another count", second, pack([Frame.FINISH, 1]), bad),
        ("R11.59", "a close in the middle of a message", second,
         pack([Frame.PART, 1, 0, 2, b"x"]) + pack([Frame.CLOSE, 0]), bad),
        ("R11.59", "a message behind a close", either,
         pack([Frame.CLOSE, 0]) + pack([Frame.DATA, 1, [b"x"]]), bad),
        ("R11.59", "a message behind a finish", second,
         pack([Frame.FINISH, 0]) + pack([Frame.DATA, 1, [b"x"]]), bad),
        ("R11.59", "another count behind a finish", second,
         pack([Frame.FINISH, 0]) + pack([Frame.FINISH, 1]), bad),
        ("R11.60", "closed, which nobody has asked for", either, pack([Frame.CLOSED, 0]), bad),
        ("R11.60", "closed of another number", either, pack([Frame.CLOSED, 1]), bad),
        ("R11.7", "a ping above 2^32-1", either, pack([Frame.PING, 2**32]), bad),
        ("R11.7", "a ping below 0", either, pack([Frame.PING, -1]), bad),
        ("R11.8", "17 entries", either, pack([Frame.LOCATION, [[b"x", bytes(64)]] * 17]), bad),
        ("R11.8", "an entry that is none", either, pack([Frame.LOCATION, [[b"x"]]]), bad),
        ("R11.8", "a short signature", either, pack([Frame.LOCATION, [[b"", bytes(63)]]]), bad),
        ("R11.9", "switch to path 0", second, pack([Frame.SWITCH, 0]), bad),
        ("R11.37", "1,025 frames at once that bring nothing", either,
         pack([Frame.PING, 1]) * 1025, Code.LIMIT_EXCEEDED),
    ]  # fmt: skip


# -- certificates ---------------------------------------------------------------------------------

_WHEN = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)


def certificates(own: Identity, other: Identity) -> list[dict[str, Any]]:
    """Return certificates as a path shows them, and whose each is: nobody's where it is refused."""
    key = own.private_key
    ed448 = Ed448PrivateKey.from_private_bytes(bytes(range(57)))
    p256 = ec.derive_private_key(12_345, ec.SECP256R1())
    made: list[tuple[str, str, x509.Certificate, str | None]] = [
        ("R10.3", "as this project makes it", own.certificate, own.guid),
        (
            "R10.8",
            "of another name, over since 1970, signed by another",
            _certificate(
                key.public_key(),
                other.private_key,
                datetime.datetime(1970, 1, 2, tzinfo=datetime.UTC),
            ),
            own.guid,
        ),
        ("R10.6", "an Ed448 key", _certificate(ed448.public_key(), ed448), None),
        ("R10.6", "a P-256 key", _certificate(p256.public_key(), p256), None),
    ]
    return [
        {
            "rule": rule,
            "what": what,
            "der": certificate.public_bytes(serialization.Encoding.DER).hex(),
            "guid": guid,
        }
        for rule, what, certificate, guid in made
    ]


def _certificate(
    public: Any, signer: Ed25519PrivateKey | Ed448PrivateKey | ec.EllipticCurvePrivateKey,
    until: datetime.datetime = _WHEN + datetime.timedelta(days=36_500),
) -> x509.Certificate:  # fmt: skip
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "somebody else")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(public)
        .serial_number(2)
        .not_valid_before(min(_WHEN, until - datetime.timedelta(days=1)))
        .not_valid_after(until)
    )
    if isinstance(signer, ec.EllipticCurvePrivateKey):
        return builder.sign(signer, hashes.SHA256(), ecdsa_deterministic=True)
    return builder.sign(signer, None)
