"""What others say of where a peer is: entries that cannot be believed are left out, and why."""

import dataclasses

import pytest

from peers.location import Found, Located, found_by_name, located
from protocol.endpoint import Endpoint, Phase, Provenance, SignedEntry
from protocol.messages import PeerState, ServiceResponse
from tests.peers.roaming.fakes import HERE, THERE, signed

GOOD = signed("192.0.2.1", seq=3)
FORGED = signed("192.0.2.2", by=HERE)
MAIL = signed("192.0.2.3", service="mail")
CUT = (SignedEntry(GOOD[0].body[:-1], GOOD[0].signature),)
HINT = Endpoint("192.0.2.9", 22)


@pytest.mark.parametrize(
    ("entries", "hosts", "why"),
    [
        ((), [], []),
        (GOOD, ["192.0.2.1"], []),
        (FORGED, [], ["sign"]),
        (MAIL, [], ["is for mail, not chat"]),
        (CUT, [], [""]),
        ((*FORGED, *GOOD, *MAIL), ["192.0.2.1"], ["sign", "is for mail"]),
    ],
)
def test_an_entry_is_the_peer_s_own_and_for_the_service(
    entries: tuple[SignedEntry, ...], hosts: list[str], why: list[str]
) -> None:
    response = ServiceResponse(0, state=PeerState.ONLINE, last_seen=2.0, entries=entries)
    by_relay = located(THERE.guid, "chat", response)
    assert [one.host for one in by_relay.entries] == hosts
    assert len(by_relay.dropped) == len(why)
    assert all(word in reason for word, reason in zip(why, by_relay.dropped, strict=True))
    assert (by_relay.state, by_relay.last_seen, by_relay.source) == (
        PeerState.ONLINE,
        2.0,
        "relay",
    )
    if entries:
        by_name = found_by_name(THERE.guid, "chat", Found(entries, (HINT,), 30.0))
        assert (by_name.entries, by_name.dropped) == (by_relay.entries, by_relay.dropped)
        assert (by_name.state, by_name.last_seen, by_name.source) == (None, None, "dns")


def test_an_answer_that_is_too_old_says_so() -> None:
    found = Found(GOOD, (), 30.0, stale=True)
    assert found_by_name(THERE.guid, "chat", found).source == "dns, too old"


def test_what_nobody_has_signed_counts_where_nothing_is_signed_and_is_told_as_such() -> None:
    found = Found((), (HINT,), 30.0)
    told = found_by_name(THERE.guid, "chat", found)
    assert told.source == "dns, not signed"
    (entry,) = told.entries
    assert (entry.endpoint, entry.phase, entry.provenance, entry.seq) == (
        HINT,
        Phase.NEW,
        Provenance.CONFIGURED,
        0,
    )
    assert found.known == (HINT,)
    assert dataclasses.replace(found, signed=FORGED).known == FORGED, "also where it is a forgery"
    forged = found_by_name(THERE.guid, "chat", dataclasses.replace(found, signed=FORGED))
    assert isinstance(forged, Located)
    assert forged.entries == ()
