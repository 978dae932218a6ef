"""`python -m tests.fuzz.make_corpus`: write the inputs that a fuzzer begins with.

Findings are not made here: their files stand beside these and stay.
"""

from itertools import pairwise

import dns.message

from protocol.codec import encode, encode_location
from protocol.endpoint import Entry, Phase, Provenance, sign_entry
from protocol.errors import Code
from protocol.first_bytes import flight_head
from protocol.identity import Identity
from protocol.lock import (
    LOCK_HEAD,
    Agreed,
    LockSide,
    NoiseLock,
    lock_part,
    locks_part,
)
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
    Challenge,
    DnsKeyRequest,
    DnsKeyResponse,
    EndpointQuery,
    EndpointResponse,
    Error,
    Hello,
    LocationRecord,
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
from protocol.offer import body_with
from protocol.prekeys import SignedPrekey
from tests.fuzz.gateways import NONCE
from tests.fuzz.targets import CORPUS, TARGETS
from tests.peers.host.test_rtnetlink import DONE, address, link, message
from tests.protocol import vectors_conversation as vectors
from tests.protocol.vectors_conversation import packed
from tests.relay.dns.asking import NAME

ONE = Identity.from_seed(b"1" * 32)
AGREED = Agreed(bytes(32), ("tls", "noise"), "noise")
ENTRY = sign_entry(ONE, Entry(1, "chat", "192.0.2.1", 9, Phase.NEW, 120, Provenance.INTERFACE))
RECORD = encode_location(LocationRecord(1 << 40, (ServiceRecord("chat", (ENTRY,)),)))
SESSION = b"s" * 16
PREKEY = SignedPrekey(b"\x94\x01\x07\xc4\x20" + bytes(32) + b"\xc2", bytes(64))
FROM_PEER = [
    Hello(ONE.guid, SESSION, bytes(32)),
    Register(RECORD, bytes(64)),
    Update(RECORD),
    *(ServiceRequestTo(1, ONE.guid, "chat", mode, SESSION, (ENTRY,), 5.0) for mode in Mode),
    ServiceAnswer(1, Verdict.ACCEPTED, entries=(ENTRY,)),
    Watch(ONE.guid, True),
    DnsKeyRequest(1, bytes(32), bytes(64)),
    Ping(1),
    Pong(1),
    Error(Code.REFUSED, "no"),
    EndpointQuery(1, ONE.guid, ENTRY),
    MailboxUpdate(1, (LetterService("chat", listed=(ONE.guid,)),), PREKEY, (PREKEY,)),
    PrekeyRequest(1, ONE.guid, "chat"),
    LetterLeave(1, ONE.guid, "chat", SESSION, bytes(64), 60),
    LetterWindow(4),
    LetterDone((1, 2)),
]
FROM_RELAY = [
    Challenge(ONE.guid, bytes(32), bytes(64)),
    Registered(7, "192.0.2.1", 1, 15.0, 120.0),
    ServiceRequestFrom(1, ONE.guid, "chat", Mode.AUTO, SESSION, (ENTRY,), 5.0, "192.0.2.2"),
    ServiceResponse(0),
    DnsKeyResponse(0, zone="example.org", port=53, sealed=bytes(80)),
    PeerEvent(ONE.guid, PeerState.ONLINE),
    Restarting(1.0, 2.0),
    Error(Code.STALE_SEQUENCE, "old"),
    EndpointResponse(0, True),
    MailboxState(0, one_time=3, letters=1),
    PrekeyResponse(0, prekey=PREKEY),
    LetterResponse(0, Code.MAILBOX_FULL, "full", 60.0),
    Letter(1, ONE.guid, "chat", SESSION, bytes(64), 1.5),
]
ON_PATH = [
    PathHello(SESSION, "chat", Mode.P2P, 1),
    PathWelcome(0, 0, 8 << 20),
    PathReject(Code.REFUSED, "no"),
]
FRAMES = [
    b"\x93\x00\x01\x91\xc4\x01x",
    b"\x93\x01\x01\x01",
    b"\x92\x02\x00\x92\x03\x01",
    b"\x92\x04\x07\x92\x05\x01",
    b"\x93\x06\xa8internal\xa0",
    b"\x92\x07\x91\x92\xc4\x00\xc4\x40" + bytes(64),
]
FRAMES_2 = [
    b"\x94\x01\x01\x01\x00",
    b"\x95\x08\x01\x14\x28\xc4\x14of which this is all",
    b"\x95\x08\x01\x00\x02\xc4\x01x\x95\x08\x01\x01\x02\xc4\x01y",
    b"\x92\x09\x00",
    b"\x92\x0a\x01",
]
TOML = {
    "relay-files": b'host = ["127.0.0.1", "::1"]\nport = 8440\nlease = 120.0\nheartbeat = 15\n'
    b'[dns]\nzone = "example.org"\naddresses = "192.0.2.1"\n',
    "peer-files": b'relay = "dns:example.org"\nmode = "auto"\npolicy = "only ipv6, within 5"\n'
    b'[services]\nchat = "p2p"\n[session]\nwindow = 4096\n[ddns]\nzone = "example.org"\n',
    "environments": b"HOST=::1,127.0.0.1\nPORT=0\nLEASE=60\nHEARTBEAT=1e1\nDNS_ZONE=example.org\n",
}
TEXTS = {
    "urls": (b"http://relay.example:8440", b"[2001:db8::1]:443", b"user:word@proxy", b"xn--a"),
    "places": (b"\0\x35192.0.2.1:53", b"\1\1[2001:db8::1]:53", b"\0\1fe80::1%eth0", b"\0\1a.b."),
    "policies": (b"only ipv6, not interface wwan*, prefer public, within 5",),
    "forwarded": (
        b'for=192.0.2.1;proto=http, for="[2001:db8::1]:4711"',
        b"192.0.2.1, 2001:db8::1, unknown",
    ),
    "raw-requests": (
        b"GET /v1/control HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\n"
        b"Upgrade: roam-relay/1\r\n\r\n",
        b"GET /v1/plane/0aF?guid=b2&signature=x_-Y HTTP/1.1\r\nHost: a\r\nUpgrade: Roam-Relay/1\r\n"
        b"Connection: keep-alive, Upgrade\r\nX-Forwarded-For:  192.0.2.1 \r\n\r\n",
        b"GET /v1/control HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
        b"Sec-WebSocket-Protocol: chat, roam-relay.1\r\n\r\n",
    ),
    "proxy-headers": (
        b"\1TCP4 192.0.2.1 192.0.2.2 4711 80\r\nGET",
        b"\2\x21\x11\0\x0c" + bytes(12),
        b"\2\x21\x21\0\x27" + bytes(39),
    ),
    "netlink": (
        b"\0\0" + link(2, "eth0") + address("fd09::1", word=0x20) + message(DONE, bytes(4)),
        b"\0\x40" + link(3, "wlan0") + address("10.8.0.1", index=3, local="10.8.0.2"),
    ),
    "observations": (
        question(bytes(range(20))),
        question(bytes(20)) + (answer_to(question(bytes(20)), "192.0.2.1", 9) or b""),
    ),
    "upgrade-answers": (
        b"\0HTTP/1.1 101 S\r\nUpgrade: roam-relay/1\r\nConnection: Upgrade\r\n\r\n\x81",
        b'\7HTTP/1.1 404 N\r\nContent-Length: 40\r\n\r\n{"code":"ticket_unknown","reason":"none"}',
        b"\7HTTP/1.1 200 N\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
    ),
    "proxy-answers": (b"\3HTTP/1.1 200 OK\r\n\r\n", b"\3HTTP/1.0 407 N\r\n\r\n"),
    "http-requests": (
        b"\1\0Connection: Upgrade\r\nUpgrade: roam-relay/1",
        b"\2\0Connection: Upgrade\r\nUpgrade: roam-relay/1\r\nRoam-Relay-Early: AAAA",
        b"\1\0Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n\x82\x80\0\0\0\0",
        b"\3\0eers/x/services/y HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\0\7GET /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
        b"GET / HTTP/1.0\r\n\r\n",
    ),
    "session-2-pairs": (
        bytes(range(200)),
        b"\0\0\xff\0\2\x23\x28\0\3\xff\xff\0\7\0\1\5" * 9,
        b"\0\0\xff\0\2\x03\xe8\1\3\x01\xf4\0\7\0\1\7\3\0\2\3\3" * 9,
    ),
    "session-pairs": (bytes(range(200)), b"\0\0\xff\0\2\x23\x28\0\3\xff\xff\0\7\0\1\5" * 9),
}


def main() -> None:
    """Write them all."""
    made: dict[str, list[bytes]] = {name: [] for name in TARGETS}
    for number, messages in enumerate((FROM_PEER, FROM_RELAY, ON_PATH)):
        made["codec"] += [bytes((number, 7)) + encode(message) for message in messages]
    stream = b"".join(encode(message) for message in FROM_PEER[2:])
    made["control-relay"] += [bytes((state, state, 0)) + stream for state in (2, 3, 4, 5, 6)]
    made["control-relay"] += [bytes((n, 0, 9)) + encode(FROM_PEER[n]) for n in (0, 1)]
    made["control-relay"] += [b"\5\0\0" + encode(message) for message in FROM_PEER[2:]]
    made["control-peer"] += [b"\2\0" + encode(message) for message in FROM_RELAY]
    made["control-peer"] += [bytes((n, 9)) + encode(FROM_RELAY[n]) for n in (0, 1)]
    made["values"] = [b"\x0f\xff\3" + frame for frame in FRAMES]
    made["records"] = [RECORD, ENTRY.body, b"peers.example.org"]
    made["session-frames"] = [bytes((3, 0)) + frame for frame in FRAMES]
    made["session-2-frames"] = [bytes((6, 0)) + frame for frame in FRAMES + FRAMES_2]
    made["session-2-frames"].append(b"\7\3" + b"".join(FRAMES_2))
    made["session-frames"].append(b"\0\3" + b"".join(FRAMES[:4]))
    query = dns.message.make_query(NAME, "TXT", id=1, use_edns=0).to_wire()
    made["dns-questions"] = [b"\0\0" + query, b"\x40\x02" + query + b"\xc0\x0c"]
    record = b"\xc0\x0c\0\x10\0\xff\0\0\0\0\0\2\1x"
    made["dns-updates"] = [b"\0\1\0\0" + record, b"\0\xff\x0f\x0e" + record]
    answer = b"\0\1\0\0\0\0" + b"\xc0\x0c\0\x10\0\1\0\0\0\1\0\2\1x"
    made["dns-answers"] = [bytes((3, 1, 0, 0)) + answer, bytes((0, 1, 9, 14)) + answer]
    body = b"\x93\xa4chat\xc4\x10" + SESSION + b"\xc4\x02hi"
    made["letters"] = [
        b"\0" + b"\0\1" + bytes(510),
        b"\1" + bytes(96) + b"\0\0\0\x1e" + body,
        b"\2" + body,
        b"\3" + PREKEY.body,
    ]
    said = [
        packed(value)
        for _, value in (*vectors.FRAMES, *(one[1:] for one in (*vectors.PASSED_OVER,)))
    ]
    said += [packed([2, bytes(range(16)), 1, 5, 0]), packed([1, bytes(range(16)), 1, [None, None]])]
    made["conversations"] = [b"\0" + one for one in said]
    made["conversations"].append(bytes((1, len(said[0]))) + said[0] + said[2])
    line, message, most = bytes(range(1, 17)), [0, SESSION, 1.0, b"hi"], 2**53 - 1
    posted = [
        packed([0, 0, None, [line, 0, None, 1, [message, message]]]),
        packed([0, 0, [bytes(range(16)), 1], None]),
        packed([2, 1, [bytes(range(16)), 2, -1], [line, 2, bytes(range(16)), 3, [None, message]]]),
        packed([2, 3, None, [line, 0, None, 1, []]]),
        packed([most, most, None, [line, most - 1, None, most, [[1, SESSION, ""]]]]),
    ]
    made["conversation-letters"] = [b"\0" + one for one in posted]
    made["conversation-letters"] += [
        bytes((1, len(one))) + one + other for one, other in pairwise(posted)
    ]
    flight = flight_head(bytes(16), bytes(32), 20) + bytes(20)
    hello = encode(PathHello(SESSION, "chat", Mode.P2P, resume=True, path=2))
    made["flights"] = [
        b"\0\7" + flight + b"\x16\3\1",
        b"\0\0\x16\3\1",
        b"\0\1\x52\x52\1\2",
        b"\1" + hello + b"\x94\1\1\0\0" + b"".join(FRAMES[:1]) + b"\x95\x08\2\0\5\xc4\2xx",
        b"\1" + hello + b"".join(FRAMES[2:]),
    ]
    lock = NoiseLock(LockSide(ONE, bytes(32), SESSION, AGREED, is_caller=True), b"e" * 32)
    lock.start()
    offered = body_with(locks_part(("tls", "noise"), bytes(32)) | lock_part("noise"))
    made["locks"] = [
        b"\0\0\7" + lock.to_send(),
        b"\0\1\0" + LOCK_HEAD + bytes(range(130)),
        *(bytes((1, 90, change, 3)) for change in range(4)),
        b"\1\0\2" + bytes((0, 16)) + bytes(16),
        b"\2" + offered,
    ]
    pcp = bytes((2, 129, 0, 0)) + bytes((0, 0, 0, 120)) + bytes(16) + NONCE + b"\6\0\0\0"
    pcp += b"\x9c\x40\x9c\x40" + bytes(10) + b"\xff\xff\xc6\x33\x64\7"
    older = b"\0\x81\0\1\0\0\0\0"
    address = b"\0\x80\0\0\0\0\0\0\xc6\x33\x64\7"
    mapped = b"\0\x82\0\0\0\0\0\0\x9c\x40\x9c\x40\0\0\0\x78"
    made["gateway-answers"] = [
        b"".join(bytes((len(one),)) + one for one in said)
        for said in (
            (pcp, pcp),
            (older, mapped, address, address, mapped),
            (pcp[:7] + b"\1" + pcp[8:], b"", b""),
        )
    ]
    for name, data in TOML.items():
        made[name].append(data)
    for name, texts in TEXTS.items():
        made[name] += texts
    for name, inputs in made.items():
        folder = CORPUS / name
        folder.mkdir(parents=True, exist_ok=True)
        for number, data in enumerate(inputs):
            (folder / f"made-{number:02}").write_bytes(data)


if __name__ == "__main__":
    main()
