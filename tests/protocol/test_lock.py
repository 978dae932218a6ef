"""The lock by Noise: what both sides find, and every way in which they find nothing."""

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import ProtocolViolation
from protocol.identity import CONTEXT_REGISTER, Identity
from protocol.lock import (
    LOCK_HEAD,
    MAX_LOCK_RECORD,
    MAX_PLAIN,
    Agreed,
    Lock,
    LockSide,
    NoiseLock,
    chosen_of,
    read_lock,
    read_locks,
)
from protocol.noise import Cipher

FILE = json.loads((Path(__file__).parents[2] / "docs" / "protocol-vectors.json").read_text())
A, B, C = (Identity.from_seed(bytes([number]) * 32) for number in (1, 2, 3))
SESSION = b"s" * 16
AGREED = Agreed(b"r" * 32, ("tls", "noise"), "noise")
CALLER = LockSide(A, B.public_key, SESSION, AGREED, is_caller=True)
CALLEE = LockSide(B, A.public_key, SESSION, AGREED, is_caller=False)
IDENTITIES = {
    identity.guid: identity
    for identity in (Identity.from_seed(bytes.fromhex(one["seed"])) for one in FILE["identities"])
}


def both(
    caller: LockSide = CALLER, callee: LockSide = CALLEE, records: int = 1 << 20
) -> tuple[NoiseLock, NoiseLock]:
    return (
        NoiseLock(caller, b"c" * 32, records_per_key=records),
        NoiseLock(callee, b"d" * 32, records_per_key=records),
    )


def opened(
    caller: LockSide = CALLER, callee: LockSide = CALLEE, records: int = 1 << 20
) -> tuple[NoiseLock, NoiseLock]:
    """Return both ends of a lock that is open."""
    here, there = both(caller, callee, records)
    here.start()
    there.receive(here.to_send())
    here.receive(there.to_send())
    there.receive(here.to_send())
    assert (here.remote_guid, there.remote_guid) == (B.guid, A.guid)
    return here, there


def records(data: bytes) -> list[bytes]:
    """Return the records that bytes are, each with its length."""
    found = []
    while data:
        size = 2 + int.from_bytes(data[:2], "big")
        found.append(data[:size])
        data = data[size:]
    return found


@pytest.mark.parametrize("vector", FILE["chosen_locks"])
def test_which_lock_is_chosen(vector: dict[str, Any]) -> None:
    taken = [Lock(word) for word in vector["taken"]]
    assert chosen_of(vector["offered"], taken) == vector["chosen"]


@pytest.mark.parametrize("vector", FILE["locks"], ids=lambda vector: str(vector["rule"]))
def test_a_path_by_its_vectors(vector: dict[str, Any]) -> None:
    caller, callee = IDENTITIES[vector["caller"]], IDENTITIES[vector["callee"]]
    session, relay = bytes.fromhex(vector["session"]), bytes.fromhex(vector["relay"])
    agreed = Agreed(relay, tuple(vector["offered"]), vector["chosen"])
    asking = LockSide(caller, callee.public_key, session, agreed, is_caller=True)
    asked = LockSide(callee, caller.public_key, session, agreed, is_caller=False)
    assert asking.prologue.hex() == asked.prologue.hex() == vector["prologue"]
    ends = {
        "caller": NoiseLock(asking, bytes.fromhex(vector["caller_ephemeral"])),
        "callee": NoiseLock(asked, bytes.fromhex(vector["callee_ephemeral"])),
    }
    ends["caller"].start()
    assert ends["caller"].to_send().hex() == vector["first"]
    assert ends["callee"].receive(bytes.fromhex(vector["first"])) == b""
    assert ends["callee"].to_send().hex() == vector["second"] + vector["callee_proof"]
    ends["caller"].receive(bytes.fromhex(vector["second"] + vector["callee_proof"]))
    assert ends["caller"].to_send().hex() == vector["caller_proof"]
    ends["callee"].receive(bytes.fromhex(vector["caller_proof"]))
    assert {end.handshake_hash.hex() for end in ends.values()} == {vector["handshake_hash"]}
    for record in vector["records"]:
        other = "callee" if record["by"] == "caller" else "caller"
        assert ends[other].receive(bytes.fromhex(record["bytes"])).hex() == record["plain"]
        ends[record["by"]].send(bytes.fromhex(record["plain"]))
        if not record["plain"]:
            ends[record["by"]].end()
        assert ends[record["by"]].to_send().hex() == record["bytes"]
    assert all(end.ended for end in ends.values())


@pytest.mark.parametrize("vector", FILE["lock_keys"])
def test_the_key_that_follows_a_key(vector: dict[str, Any]) -> None:
    here, there = Cipher(bytes.fromhex(vector["key"])), Cipher(bytes.fromhex(vector["next"]))
    here.renew()
    assert here.seal(b"what follows") == there.seal(b"what follows")


@given(st.binary(max_size=40_000), st.lists(st.integers(0, 50_000), max_size=6))
def test_in_whatever_pieces_it_comes(said: bytes, cuts: list[int]) -> None:
    here, there = opened()
    here.send(said)
    here.end()
    data = here.to_send()
    ends = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    heard = b"".join([there.receive(data[begin:end]) for begin, end in pairwise(ends)])
    assert heard == said
    assert there.ended


def test_the_handshake_byte_by_byte_with_the_hello_right_behind_it() -> None:
    here, there = both()
    here.start()
    heard = b""
    for byte in here.to_send():
        there.receive(bytes((byte,)))
    for byte in there.to_send():
        assert here.receive(bytes((byte,))) == b""
    here.send(b"hello")
    for byte in here.to_send():
        heard += there.receive(bytes((byte,)))
    assert heard == b"hello"


def test_records_have_a_bound() -> None:
    here, there = opened()
    here.send(bytes(MAX_PLAIN + 1))
    sizes = [len(record) for record in records(here.to_send())]
    assert sizes == [2 + MAX_LOCK_RECORD, 2 + 17]
    for size in (0, 15, MAX_LOCK_RECORD + 1, 65_535):
        with pytest.raises(ProtocolViolation, match="length"):
            opened()[1].receive(size.to_bytes(2, "big"))
    here, there = opened()
    there.receive(MAX_LOCK_RECORD.to_bytes(2, "big"))


def test_nothing_is_sent_of_nothing_and_a_close_is_said_once() -> None:
    here, _ = opened()
    here.send(b"")
    assert here.to_send() == b""
    here.end()
    here.end()
    assert len(records(here.to_send())) == 1


def test_no_close_is_said_before_the_other_side_has_proven_itself() -> None:
    here, _ = both()
    here.end()
    assert here.to_send() == b""


def test_a_cut_is_told_from_a_close() -> None:
    here, there = opened()
    here.send(b"all of it")
    said = here.to_send()
    here.end()
    close = here.to_send()
    assert there.receive(said + close[:-1]) == b"all of it"
    assert not there.ended
    assert there.receive(close[-1:]) == b""
    assert there.ended
    assert there.receive(b"whatever follows") == b""


def test_keys_are_renewed_on_both_sides_at_the_same_record() -> None:
    here, there = opened(records=3)
    for number in range(10):
        for one, other in ((here, there), (there, here)):
            one.send(bytes([number]))
            assert other.receive(one.to_send()) == bytes([number])
    other = opened(records=4)[1]
    here, _ = opened(records=3)
    for _ in range(3):
        here.send(b"x")
    with pytest.raises(ProtocolViolation):
        other.receive(here.to_send())


# -- who is on the way ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param(replace(CALLEE, remote=C.public_key), id="another caller"),
        pytest.param(replace(CALLEE, identity=C), id="another callee"),
        pytest.param(replace(CALLEE, session=b"t" * 16), id="another session"),
        pytest.param(replace(CALLEE, agreed=replace(AGREED, relay=b"q" * 32)), id="another relay"),
        pytest.param(replace(CALLEE, agreed=replace(AGREED, offered=("noise",))), id="fewer locks"),
        pytest.param(
            replace(CALLEE, agreed=replace(AGREED, offered=("noise", "tls"))), id="another order"
        ),
        pytest.param(replace(CALLEE, agreed=replace(AGREED, chosen="tls")), id="another choice"),
        pytest.param(replace(CALLEE, agreed=AGREED.by_ticket()), id="by a ticket"),
        pytest.param(replace(CALLEE, is_caller=True), id="the same role"),
    ],
)
def test_who_expects_something_else_gets_no_key(asked: LockSide) -> None:
    here, there = both(callee=replace(asked, is_caller=False))
    if asked.is_caller:
        # Its own keys the other way round: as if it had called.
        there = NoiseLock(replace(CALLEE, identity=A, remote=B.public_key), b"d" * 32)
    here.start()
    there.receive(here.to_send())
    with pytest.raises(ProtocolViolation):
        here.receive(there.to_send())
    assert not here.established
    assert here.to_send() == b""


class Forged(Identity):
    """Signs by another key than it says."""

    signer = C
    context = b""

    def sign(self, context: bytes, *parts: bytes) -> bytes:
        return self.signer.sign(self.context or context, *parts)


class OtherRole(Identity):
    """Signs as the other role."""

    def sign(self, context: bytes, *parts: bytes) -> bytes:
        role, digest = parts
        return super().sign(context, bytes((3 - role[0],)), digest)


class OtherContext(Identity):
    """Signs for something else."""

    def sign(self, context: bytes, *parts: bytes) -> bytes:
        return super().sign(CONTEXT_REGISTER, *parts)


@pytest.mark.parametrize("kind", [Forged, OtherRole, OtherContext])
def test_who_does_not_sign_for_this_is_nobody(kind: type[Identity]) -> None:
    # A relay in the middle has both ephemeral keys its own, but no identity.
    here, there = both(callee=replace(CALLEE, identity=kind.from_seed(bytes([2]) * 32)))
    here.start()
    there.receive(here.to_send())
    with pytest.raises(ProtocolViolation, match="signature"):
        here.receive(there.to_send())
    here, there = both(caller=replace(CALLER, identity=kind.from_seed(bytes([1]) * 32)))
    here.start()
    there.receive(here.to_send())
    here.receive(there.to_send())
    here.send(b"hello")
    with pytest.raises(ProtocolViolation, match="signature"):
        there.receive(here.to_send())
    assert not there.established


def test_the_relay_swaps_a_key_in_either_message() -> None:
    here, there = both()
    mallory = NoiseLock(CALLER, b"m" * 32)
    here.start()
    mallory.start()
    here.to_send()
    there.receive(mallory.to_send())
    answer = there.to_send()
    with pytest.raises(ProtocolViolation):
        here.receive(answer)
    here, there = both()
    here.start()
    there.receive(here.to_send())
    answer = there.to_send()
    other = NoiseLock(CALLEE, b"m" * 32)
    first = NoiseLock(CALLER, b"c" * 32)
    first.start()
    other.receive(first.to_send())
    own = other.to_send()
    with pytest.raises(ProtocolViolation):
        here.receive(own[:52] + answer[52:])


def test_two_handshakes_are_spliced() -> None:
    """Of two sessions of the same two peers, the proof of one is shown in the other."""
    here, there = both()
    other = replace(CALLER, session=b"t" * 16), replace(CALLEE, session=b"t" * 16)
    further, beyond = both(*other)
    for one, two in ((here, there), (further, beyond)):
        one.start()
        two.receive(one.to_send())
    mine, others = there.to_send(), beyond.to_send()
    with pytest.raises(ProtocolViolation):
        here.receive(mine[:52] + others[52:])
    further.receive(others)
    with pytest.raises(ProtocolViolation):
        there.receive(further.to_send())


def test_a_proof_is_not_shown_back() -> None:
    """The callee's own signature comes back as the caller's."""
    here, there = both()
    here.start()
    there.receive(here.to_send())
    with pytest.raises(ProtocolViolation):
        there.receive(there.to_send()[52:])


def spoiled(data: list[bytes]) -> list[tuple[str, list[bytes]]]:
    first, second, third = data
    changed = bytearray(second)
    changed[-1] ^= 1
    return [
        ("the order", [second, first, third]),
        ("one left out", [first, third]),
        ("one twice", [first, first, second]),
        ("one changed", [first, bytes(changed), third]),
        ("one shortened", [first, (len(second) - 3).to_bytes(2, "big") + second[2:-1], third]),
        ("two joined", [first, (len(second) + 14).to_bytes(2, "big") + second[2:] + third[2:]]),
    ]


def test_a_relay_reorders_replays_drops_and_changes_records() -> None:
    for what, _ in spoiled([b"\0\0" * 20] * 3):
        here, there = opened()
        for said in (b"first", b"second", b"third"):
            here.send(said)
        data = dict(spoiled(records(here.to_send())))[what]
        with pytest.raises(ProtocolViolation):
            there.receive(b"".join(data))


def test_a_relay_sends_back_what_it_has_got() -> None:
    here, there = opened()
    here.send(b"yours")
    with pytest.raises(ProtocolViolation):
        here.receive(here.to_send())
    assert not there.ended


@pytest.mark.parametrize("data", [b"\x16\x03\x01", b"GET ", LOCK_HEAD[:3] + b"\x01", b"\0" * 4])
def test_what_begins_otherwise_is_another_lock(data: bytes) -> None:
    for end in both():
        end.start()
        with pytest.raises(ProtocolViolation, match="another lock"):
            end.receive(data)


def test_a_stranger_waits_with_a_part_and_holds_little() -> None:
    here, there = both()
    here.start()
    first = here.to_send()
    for cut in range(len(first)):
        assert both()[1].receive(first[:cut]) == b""
    there.receive(first)
    with pytest.raises(ProtocolViolation, match=r"length|next message"):
        there.receive(bytes(100))


# -- what is said of locks ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("82a56c6f636b7391a36e6f69a572656c6179c4" + "20" + "72" * 32, (("noi",), b"r" * 32)),
        ("81a56c6f636b7391a3746c73", None),
        ("82a56c6f636b7390a572656c6179c420" + "72" * 32, None),
        ("82a56c6f636b7391a0a572656c6179c420" + "72" * 32, None),
        ("82a56c6f636b7391a22020a572656c6179c420" + "72" * 32, None),
        ("82a56c6f636b7399" + "a178" * 9 + "a572656c6179c420" + "72" * 32, None),
        ("82a56c6f636b7391a3746c73a572656c6179c41f" + "72" * 31, None),
        ("a3746c73", None),
        ("80", None),
        ("", None),
        ("91" * 500, None),
    ],
)
def test_what_a_request_says(body: str, said: object) -> None:
    assert read_locks(bytes.fromhex(body)) == said


@pytest.mark.parametrize(
    ("body", "said"),
    [("81a46c6f636ba3746c73", "tls"), ("81a46c6f636b05", None), ("80", None), ("", None)],
)
def test_what_an_answer_says(body: str, said: object) -> None:
    assert read_lock(bytes.fromhex(body)) == said
