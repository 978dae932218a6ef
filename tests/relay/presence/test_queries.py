"""What is asked of endpoints: who is answered when, and what may be met for it."""

from dataclasses import dataclass, field

import pytest

from protocol.endpoint import Endpoint, Entry, Phase, Provenance
from protocol.messages import Message
from relay.limits import Cause, cause_of
from relay.presence import queries as module
from relay.presence.queries import ANSWERED_AFTER, Queries, Query

THERE = Endpoint("5.5.5.5", 7000)


@dataclass(eq=False)
class Asker:
    guid: str = "asker"
    observed_host: str = "9.9.9.9"
    sent: list[Message] = field(default_factory=list)

    @property
    def cause(self) -> Cause:
        return cause_of(self.observed_host, self.guid)

    def send(self, message: Message) -> None:
        self.sent.append(message)


def entry(seq: int = 1, port: int = 7000) -> Entry:
    return Entry(seq, "chat", "5.5.5.5", port, Phase.PREFERRED, 60, Provenance.INTERFACE)


def query(asker: Asker, number: int = 1, now: float = 0.0, guid: str = "owner") -> Query:
    return Query(asker, number, guid, THERE, now + ANSWERED_AFTER)


def test_yes_is_said_at_once_and_no_when_the_time_is_over_whatever_came_of_it() -> None:
    queries, one, other = Queries(), Asker("one"), Asker("other")
    first, second = query(one), query(other, now=1.0)
    for waiting in (first, second):
        assert queries.put(waiting) == ()
        assert queries.want("owner", entry(), 0.0)
    # It has refused: nobody hears of it before his time.
    assert queries.settled("owner", THERE, None) == []
    assert queries.wanted("owner") == [], "it is tried once"
    assert queries.expired(2.9) == []
    assert queries.expired(3.0) == [first]
    assert queries.want("owner", entry(), 3.0)
    assert queries.settled("owner", THERE, 600.0) == [second]
    assert queries.expired(100.0) == []
    assert len(queries) == 0


def test_what_was_met_is_kept_as_long_as_a_proof_and_is_met_no_second_time() -> None:
    queries = Queries()
    queries.want("owner", entry(), 0.0)
    queries.settled("owner", THERE, 600.0)
    assert queries.want("owner", entry(), 1.0)
    assert (queries.wanted("owner"), list(queries.kept("owner"))) == ([], [THERE])
    assert queries.forget(599.0) == []
    assert queries.forget(600.0) == ["owner"]
    assert list(queries.kept("owner")) == []


def test_what_never_had_its_turn_is_forgotten() -> None:
    queries = Queries()
    queries.want("owner", entry(), 0.0)
    assert queries.forget(59.0) == []
    assert queries.forget(60.0) == ["owner"]
    assert queries.wanted("owner") == []


def test_old_entries_do_not_keep_new_ones_from_being_met() -> None:
    queries = Queries()
    for number in range(100):
        assert queries.want("owner", entry(seq=number, port=7000 + number), 0.0)
    assert len(queries.wanted("owner")) == 8
    assert not queries.want("owner", entry(seq=3, port=9000), 0.0)
    assert queries.want("owner", entry(seq=1000, port=9000), 0.0)
    assert Endpoint("5.5.5.5", 9000) in queries.wanted("owner")


def test_who_asks_has_a_rate_and_so_has_its_network() -> None:
    queries = Queries()
    one = Asker()
    assert [bool(queries.wait_of(one, 0.0)) for _ in range(17)] == [False] * 16 + [True]
    assert not queries.wait_of(one, 1.0)
    neighbours = [Asker(f"key {number}") for number in range(100)]
    assert sum(not queries.wait_of(asker, 1.0) for asker in neighbours) == 64 - 17 + 4
    assert not queries.wait_of(Asker("another", "8.8.8.8"), 1.0)


def test_one_key_has_few_that_wait_and_a_network_gives_way_to_others() -> None:
    queries, one = Queries(), Asker()
    assert [queries.put(query(one, number)) for number in range(16)] == [()] * 16
    assert queries.put(query(one, 16)) is None
    crowd = [query(Asker(f"key {number}")) for number in range(2000)]
    for waiting in crowd:
        queries.put(waiting)
    assert len(queries) == 512, "half for one network"
    quiet = query(Asker("quiet", "8.8.8.8"))
    assert queries.put(quiet) == ()
    assert quiet in queries.expired(3.0)


def test_nothing_waits_for_a_connection_that_has_ended() -> None:
    queries, one, other = Queries(), Asker("one"), Asker("other")
    kept = query(other)
    for waiting in (query(one), kept, query(one, 2)):
        queries.put(waiting)
    queries.lost(one)
    queries.lost(Asker("third"))
    assert queries.expired(9.0) == [kept]


def test_its_memory_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PEERS", 4)
    queries = Queries()
    for number in range(100):
        queries.want(f"peer {number}", entry(), 0.0)
    assert [guid for guid in (f"peer {n}" for n in range(100)) if queries.kept(guid)] == [
        f"peer {n}" for n in range(96, 100)
    ]
