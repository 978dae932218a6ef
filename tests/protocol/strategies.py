"""Hypothesis strategies for messages and session numbers, shared by the tests."""

from typing import Any

from hypothesis import strategies as st

from protocol import mail, messages
from protocol.endpoint import SignedEntry
from protocol.errors import Code
from protocol.letters import MAX_LETTER
from protocol.messages import Disclosure, LocationRecord, Message, Mode, PeerState, Verdict
from protocol.offer import MAX_OFFER
from protocol.prekeys import MAX_PREKEY, SignedPrekey
from protocol.succession import LINK_BYTES, MAX_LINKS

GUIDS = st.text(alphabet="abcdefghijklmnopqrstuvwxyz234567", min_size=52, max_size=52)
NONCES = st.binary(min_size=32, max_size=32)
SIGNATURES = st.binary(min_size=64, max_size=64)
IDS = st.binary(min_size=16, max_size=16)
REQUESTS = st.integers(0, 2**32 - 1)
SECONDS = st.floats(0, 31_536_000)
REASONS = st.text(st.characters(codec="utf-8"), max_size=100)
SERVICES = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True)
TICKETS = st.text(alphabet="0123456789abcdef", min_size=32, max_size=32)
COUNTS = st.integers(0, 2**63 - 1)
WINDOWS = st.integers(1024, 2**40)
SIGNED = st.builds(SignedEntry, st.binary(max_size=256), SIGNATURES)
ENTRIES = st.lists(SIGNED, max_size=messages.MAX_ENTRIES).map(tuple)
OBSERVED = st.sampled_from(["", "192.0.2.1", "2001:db8::1"])
OFFERS = st.binary(max_size=100) | st.just(bytes(MAX_OFFER))
PREKEYS = st.builds(SignedPrekey, st.binary(max_size=MAX_PREKEY), SIGNATURES)
LETTERS = st.binary(max_size=500) | st.just(bytes(MAX_LETTER))
LETTER_NUMBERS = st.integers(1, 2**53 - 1)
ANSWER: dict[str, st.SearchStrategy[Any]] = {
    "request": REQUESTS,
    "code": st.none() | st.sampled_from(Code),
    "reason": REASONS,
    "retry_after": st.none() | SECONDS,
}
"""What stands in every answer of the mailbox."""
FEATURES = st.lists(
    st.text(min_size=1, max_size=messages.MAX_FEATURE_NAME), max_size=messages.MAX_FEATURES
).map(tuple)
LIMITS = st.builds(
    messages.Limits,
    message_bytes=COUNTS,
    request_timeout=st.floats(0, 60),
    heartbeat=st.floats(0, 1000),
)

FIELDS: dict[type[Message], dict[str, st.SearchStrategy[Any]]] = {
    messages.Hello: {
        "guid": GUIDS,
        "instance": IDS,
        "nonce": NONCES,
        "version": st.integers(0, 99),
        "flow": st.integers(0, 3),
        "agent": st.text(max_size=128),
        "features": FEATURES,
        "relay": st.none() | GUIDS,
    },
    messages.Register: {
        "location": st.binary(max_size=500),
        "signature": SIGNATURES,
        "invitation": st.binary(max_size=1024),
    },
    messages.Update: {"location": st.binary(max_size=500)},
    messages.ServiceRequestTo: {
        "request": REQUESTS,
        "guid": GUIDS,
        "service": SERVICES,
        "mode": st.sampled_from(Mode),
        "session": IDS,
        "entries": ENTRIES,
        "timeout": st.floats(0.001, 60),
        "resume": st.booleans(),
        "offer": OFFERS,
    },
    messages.ServiceAnswer: {
        "request": REQUESTS,
        "verdict": st.sampled_from(Verdict),
        "reason": REASONS,
        "entries": ENTRIES,
        "code": st.none() | st.sampled_from(Code),
        "offer": OFFERS,
    },
    messages.Watch: {"guid": GUIDS, "watching": st.booleans()},
    messages.PeerEvent: {
        "guid": GUIDS,
        "state": st.sampled_from(PeerState),
        "last_seen": st.none() | SECONDS,
        "seq": COUNTS,
        "code": st.none() | st.sampled_from(Code),
    },
    messages.Challenge: {
        "guid": GUIDS,
        "nonce": NONCES,
        "signature": SIGNATURES,
        "limits": LIMITS,
        "features": FEATURES,
        "invitation": st.booleans(),
        "succession": st.lists(
            st.binary(min_size=LINK_BYTES, max_size=LINK_BYTES), max_size=MAX_LINKS
        ).map(tuple),
    },
    messages.Registered: {
        "seq": COUNTS,
        "observed_host": st.sampled_from(["192.0.2.1", "2001:db8::1"]),
        "observed_port": st.integers(1, 65535),
        "heartbeat": SECONDS,
        "lease": SECONDS,
        "relays": st.lists(st.text(max_size=50), max_size=5).map(tuple),
        "fqdn": st.text(max_size=100),
        "nodes": st.lists(
            st.builds(messages.RelayNode, st.text(max_size=50), st.integers(0, 65_535)), max_size=4
        ).map(tuple),
        "observe_port": st.integers(0, 65535),
    },
    messages.ServiceRequestFrom: {
        "request": REQUESTS,
        "guid": GUIDS,
        "service": SERVICES,
        "mode": st.sampled_from(Mode),
        "session": IDS,
        "entries": ENTRIES,
        "timeout": st.floats(0.001, 60),
        "ticket": st.none() | TICKETS,
        "resume": st.booleans(),
        "url": st.text(max_size=512),
        "offer": OFFERS,
        "observed_host": OBSERVED,
        "observed_port": st.integers(0, 65535),
    },
    messages.ServiceResponse: {
        "request": REQUESTS,
        "code": st.none() | st.sampled_from(Code),
        "reason": REASONS,
        "state": st.none() | st.sampled_from(PeerState),
        "last_seen": st.none() | SECONDS,
        "retry_after": st.none() | SECONDS,
        "entries": ENTRIES,
        "ticket": st.none() | TICKETS,
        "url": st.text(max_size=512),
        "offer": OFFERS,
        "observed_host": OBSERVED,
        "observed_port": st.integers(0, 65535),
    },
    messages.EndpointQuery: {"request": REQUESTS, "guid": GUIDS, "entry": SIGNED},
    messages.EndpointResponse: {
        "request": REQUESTS,
        "met": st.booleans(),
        "code": st.none() | st.sampled_from(Code),
        "reason": REASONS,
        "retry_after": st.none() | SECONDS,
    },
    messages.DnsKeyRequest: {"request": REQUESTS, "public": NONCES, "signature": SIGNATURES},
    messages.DnsKeyResponse: {
        "request": REQUESTS,
        "code": st.none() | st.sampled_from(Code),
        "reason": REASONS,
        "zone": st.text(max_size=100),
        "port": st.integers(0, 65535),
        "sealed": st.binary(max_size=128),
    },
    mail.MailboxUpdate: {
        "request": REQUESTS,
        "services": st.lists(
            st.builds(
                mail.LetterService,
                SERVICES,
                st.sampled_from(Disclosure),
                st.lists(GUIDS, max_size=3).map(tuple),
            ),
            max_size=4,
        ).map(tuple),
        "prekey": st.none() | PREKEYS,
        "one_time": st.lists(PREKEYS, max_size=3).map(tuple),
    },
    mail.MailboxState: {**ANSWER, "one_time": COUNTS, "letters": COUNTS},
    mail.PrekeyRequest: {"request": REQUESTS, "guid": GUIDS, "service": SERVICES},
    mail.PrekeyResponse: {**ANSWER, "prekey": st.none() | PREKEYS},
    mail.LetterLeave: {
        "request": REQUESTS,
        "guid": GUIDS,
        "service": SERVICES,
        "id": IDS,
        "sealed": LETTERS,
        "lifetime": st.integers(1, 31_536_000),
    },
    mail.LetterResponse: {**ANSWER, "lifetime": COUNTS},
    mail.LetterWindow: {"letters": st.integers(0, mail.MAX_WINDOW)},
    mail.Letter: {
        "number": LETTER_NUMBERS,
        "guid": GUIDS,
        "service": SERVICES,
        "id": IDS,
        "sealed": LETTERS,
        "age": SECONDS,
    },
    mail.LetterDone: {
        "numbers": st.lists(LETTER_NUMBERS, min_size=1, max_size=mail.MAX_DONE).map(tuple)
    },
    messages.Restarting: {
        "delay": SECONDS,
        "spread": SECONDS,
        "urls": st.lists(st.text(max_size=50), max_size=16).map(tuple),
    },
    messages.Ping: {"ping": REQUESTS},
    messages.Pong: {"ping": REQUESTS},
    messages.Error: {
        "code": st.sampled_from(Code),
        "reason": REASONS,
        "retry_after": st.none() | SECONDS,
        "seq": st.none() | COUNTS,
    },
    messages.PathHello: {
        "session": IDS,
        "service": SERVICES,
        "mode": st.sampled_from(Mode),
        "version": st.integers(0, 99),
        "resume": st.booleans(),
        "received": COUNTS,
        "consumed": COUNTS,
        "window": WINDOWS,
        "path": st.integers(1, 2**32 - 1),
        "entries": ENTRIES,
        "features": FEATURES,
        "partial": COUNTS,
        "idle": SECONDS,
        "standby": st.booleans(),
        "metadata": st.binary(max_size=1024),
    },
    messages.PathWelcome: {
        "received": COUNTS,
        "consumed": COUNTS,
        "window": WINDOWS,
        "entries": ENTRIES,
        "features": FEATURES,
        "partial": COUNTS,
        "idle": SECONDS,
        "metadata": st.binary(max_size=1024),
    },
    messages.PathReject: {"code": st.sampled_from(Code), "reason": REASONS},
}
"""Every message, and what each of its fields may be."""

LOCATIONS = st.builds(
    LocationRecord,
    COUNTS,
    st.lists(
        st.builds(
            messages.ServiceRecord,
            SERVICES,
            ENTRIES,
            st.sampled_from(Disclosure),
            st.lists(GUIDS, max_size=3).map(tuple),
        ),
        max_size=4,
        unique_by=lambda service: service.service,
    ).map(tuple),
)


def any_of(cls: type[Message]) -> st.SearchStrategy[Message]:
    """Return any message of a class; each optional field may be left at its default."""
    required = {name: FIELDS[cls][name] for name in required_fields(cls)}
    optional = {name: FIELDS[cls][name] for name in FIELDS[cls] if name not in required}
    return st.fixed_dictionaries(required, optional=optional).map(lambda fields: cls(**fields))


def required_fields(cls: type[Message]) -> list[str]:
    """Return the names of the fields that have no default."""
    names = cls.__struct_fields__
    return list(names[: len(names) - len(cls.__struct_defaults__)])
