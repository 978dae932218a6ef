"""Candidates: what is kept of what is known, and in which order."""

import dataclasses

import pytest

from peers import Identity, Phase
from peers.choice.candidate import Candidate, clearly_better, in_order, newest, open_candidates
from protocol.endpoint import Endpoint, Entry, Provenance, SignedEntry, sign_entry

ALICE = Identity.from_seed(bytes(32))


def entry(host: str, phase: Phase, seq: int = 1, service: str = "chat"):  # type: ignore[no-untyped-def]
    return sign_entry(ALICE, Entry(seq, service, host, 9, phase, 120, Provenance.INTERFACE))


def test_what_is_leaving_is_for_old_sessions_only() -> None:
    signed = [
        entry("192.0.2.1", Phase.LEAVING, 9),
        entry("192.0.2.2", Phase.NEW, 8),
        entry("192.0.2.3", Phase.PREFERRED, 1),
        entry("192.0.2.4", Phase.PREFERRED, 7),
        entry("192.0.2.5", Phase.PREFERRED, service="mail"),
    ]
    fresh, dropped = open_candidates(ALICE.guid, "chat", signed, established=False)
    assert [c.endpoint.host[-1] for c in fresh] == ["4", "3", "2"]
    assert len(dropped) == 2
    old, _ = open_candidates(ALICE.guid, "chat", signed, established=True)
    assert [c.endpoint.host[-1] for c in old] == ["4", "3", "2", "1"]


def test_known_round_trips_order_candidates_in_steps_of_the_margin() -> None:
    made = [
        Candidate(Endpoint(f"192.0.2.{n}", 9), round_trip=trip)
        for n, trip in enumerate((None, 0.0301, 0.0299, 0.010, 0.2))
    ]
    ordered = in_order(made, lambda candidate: ())
    assert [c.endpoint.host[-1] for c in ordered] == ["3", "1", "2", "4", "0"]
    leaving = dataclasses.replace(made[3], phase=Phase.LEAVING)
    assert in_order([leaving, *made[:2]], lambda candidate: ())[-1] is leaving


@pytest.mark.parametrize(
    ("one", "other", "better"),
    [(0.010, 0.016, True), (0.010, 0.0149, False), (0.100, 0.109, False), (0.1, 0.12, True)],
)
def test_better_is_both_a_tenth_and_five_milliseconds(
    one: float, other: float, better: bool
) -> None:
    assert clearly_better(one, other) is better
    assert not clearly_better(other, one)


def test_the_newest_of_what_is_known() -> None:
    signed = [entry("192.0.2.1", Phase.NEW, 9), entry("192.0.2.2", Phase.NEW, 12)]
    assert newest(signed) == 12
    assert newest([*signed, Endpoint("192.0.2.3", 9)]) == 12
    assert newest([Endpoint("192.0.2.3", 9)]) == newest([]) == 0
    assert newest([SignedEntry(b"garbage", bytes(64))]) == 0
