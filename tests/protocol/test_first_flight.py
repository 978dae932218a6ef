"""The sealed first flight: who can open it, and how often."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.first_bytes import FLIGHT_HEAD, MAX_SEALED
from protocol.first_flight import EXPORTED_BYTES, FlightKeys, key_id_in

SECRETS = [bytes([number]) * EXPORTED_BYTES for number in range(5)]


def random(number: int) -> bytes:
    return number.to_bytes(32, "big")


def both(*secrets: bytes) -> tuple[FlightKeys, FlightKeys]:
    """Two sides of one session; the first has dialed its paths."""
    here, there = FlightKeys(), FlightKeys()
    for secret in secrets or (SECRETS[0],):
        here.add(secret, dialed_here=True)
        there.add(secret, dialed_here=False)
    return here, there


def sealed(keys: FlightKeys, plain: bytes = b"oldest", number: int = 1) -> bytes:
    flight = keys.seal(random(number), plain)
    assert flight is not None
    return flight.data


@pytest.mark.parametrize("side", [0, 1])
def test_the_other_side_opens_it_once(side: int) -> None:
    sides = both()
    data = sealed(sides[side])
    opened = sides[1 - side].open(data)
    assert opened is not None
    assert opened.plain == b"oldest"
    assert sides[1 - side].open(data) is None, "replayed"


@pytest.mark.parametrize("side", [0, 1])
def test_nobody_can_show_a_side_its_own(side: int) -> None:
    keys = both()[side]
    flight = keys.seal(random(1), b"oldest")
    assert flight is not None
    assert keys.open(flight.data) is None
    assert flight.open_answer(flight.data) is None


def test_no_other_session_opens_it_nor_one_that_does_not_know_the_secret() -> None:
    data = sealed(both(SECRETS[0])[0])
    assert both(SECRETS[1])[1].open(data) is None
    liar = FlightKeys()
    liar.add(SECRETS[0][:16] + SECRETS[1][16:], dialed_here=False)
    assert liar.open(data) is None
    assert FlightKeys().open(data) is None


def test_the_answer_is_for_one_flight_alone() -> None:
    here, there = both()
    flights = [here.seal(random(number), b"oldest") for number in (1, 2)]
    assert flights[0] is not None
    assert flights[1] is not None
    opened = there.open(flights[0].data)
    assert opened is not None
    answer = opened.answer(random(3), b"yours")
    assert flights[0].open_answer(answer) == b"yours"
    assert flights[1].open_answer(answer) is None
    assert there.open(answer) is None
    assert here.open(answer) is None


@given(st.data())
def test_a_flight_that_was_changed_or_cut_anywhere_opens_for_nobody(data: st.DataObject) -> None:
    here, there = both()
    flight = sealed(here)
    at = data.draw(st.integers(0, len(flight) - 1))
    if data.draw(st.booleans()):
        changed = flight[:at]
    else:
        other = flight[at] ^ data.draw(st.integers(1, 255))
        changed = flight[:at] + bytes((other,)) + flight[at + 1 :]
    assert there.open(changed) is None
    # And it has used nothing up.
    opened = there.open(flight)
    assert opened is not None


def test_the_last_two_secrets_are_kept() -> None:
    here, there = both(SECRETS[0])
    first, second = sealed(here, number=1), sealed(here, number=2)
    there.add(SECRETS[1], dialed_here=True)
    assert there.open(first) is not None, "its welcome was lost"
    there.add(SECRETS[2], dialed_here=True)
    assert there.open(second) is None
    assert len(there.ids) == 2
    there.clear()
    assert there.ids == ()


def test_the_newest_secret_seals() -> None:
    here, there = both(SECRETS[0], SECRETS[1])
    data = sealed(here)
    assert key_id_in(data) == here.ids[-1] == there.ids[-1] != here.ids[0]
    assert there.open(data) is not None


def test_two_flights_have_nothing_in_common_but_the_id() -> None:
    here, _ = both()
    one, two = (sealed(here, b"\0" * 64, number) for number in (1, 2))
    assert one[:20] == two[:20]
    assert one[FLIGHT_HEAD:] != two[FLIGHT_HEAD:]
    assert b"\0" * 8 not in one[FLIGHT_HEAD:]


def test_none_is_too_large_and_none_leaves_without_a_secret() -> None:
    here, _ = both()
    assert here.seal(random(1), bytes(MAX_SEALED - 16)) is not None
    assert here.seal(random(2), bytes(MAX_SEALED - 15)) is None
    assert FlightKeys().seal(random(1), b"") is None


def test_both_bounds_are_for_one_secret() -> None:
    """So no flight that was taken is ever forgotten while its secret is kept."""
    here, there = both()
    sent = 0
    while here.seal(random(sent + 1), b"") is not None:
        sent += 1
    assert sent == 64
    again, _ = both()
    flights = []
    for number in range(1, 100):
        more = again.seal(random(number), b"")
        if more is None:
            again, _ = both()
            more = again.seal(random(number), b"")
        assert more is not None
        flights.append(more.data)
    taken = [flight for flight in flights if there.open(flight) is not None]
    assert len(taken) == 64
    assert not any(there.open(flight) for flight in taken)


def test_what_does_not_open_uses_nothing_up() -> None:
    here, there = both()
    flight = sealed(here)
    for number in range(500):
        assert there.open(flight[:20] + random(number + 9) + flight[52:]) is None
    assert there.open(flight) is not None
