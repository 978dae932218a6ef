"""Round trips that were measured: by peer, endpoint and own address, for a while."""

from peers.choice.candidate import Candidate
from peers.choice.round_trips import RoundTrips
from protocol.endpoint import Endpoint


def test_round_trips_age_out_and_have_a_bound() -> None:
    now = 0.0
    known = RoundTrips(lambda: now, lifetime=10.0, limit=2)
    one, two, three = (Candidate(Endpoint(f"192.0.2.{n}", 9), "10.0.0.1") for n in (1, 2, 3))
    for candidate in (one, two, three):
        known.put("a", candidate, 0.1)
    assert known.get("a", one.endpoint, "10.0.0.1") is None
    assert known.get("a", two.endpoint, "10.0.0.1") == 0.1
    assert known.get("a", two.endpoint, "10.0.0.2") is None
    assert known.get("b", two.endpoint, "10.0.0.1") is None
    known.forget("10.0.0.1")
    assert known.get("a", two.endpoint, "10.0.0.1") is None
    known.put("a", one, 0.1)
    now = 11.0
    assert known.get("a", one.endpoint, "10.0.0.1") is None
