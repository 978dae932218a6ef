"""How much is dialed where a key was not met, and who is left alone: time goes in."""

from itertools import pairwise, product

import pytest

from peers.dialing import Word
from peers.dialing.shares import SHARES
from protocol.dialing import Attempt, Budgets, Outcome
from protocol.endpoint import Endpoint

VICTIM = Endpoint("5.5.5.5", 7000)
UNMET = [Outcome.SILENT, Outcome.CALLED_OFF, Outcome.REFUSED, Outcome.WRONG_KEY]


def dials(
    budgets: Budgets,
    attempts: list[Attempt],
    outcome: Outcome = Outcome.SILENT,
    now: float = 0.0,
) -> int:
    """Try them all; return how many were let through."""
    passed = 0
    for attempt in attempts:
        if budgets.refusal(attempt, now) is None:
            budgets.over(attempt, outcome, now)
            passed += 1
    return passed


def told(remote: str, host: str = "5.5.5.5", port: int = 7000) -> Attempt:
    return Attempt(remote, Endpoint(host, port), Word.TOLD)


@pytest.mark.parametrize("outcome", UNMET)
def test_one_remote_has_few_whatever_it_names(outcome: Outcome) -> None:
    budgets = Budgets(SHARES)
    spread = [told("a", f"5.{i}.0.1", 7000 + i) for i in range(100)]
    assert dials(budgets, spread, outcome) == 4
    assert dials(budgets, spread, outcome, now=59.0) == 0
    assert dials(budgets, spread, outcome, now=61.0) == 1


@pytest.mark.parametrize("outcome", UNMET)
def test_a_hundred_keys_have_no_more_at_one_victim(outcome: Outcome) -> None:
    budgets = Budgets(SHARES)
    keys = [str(i) for i in range(100)]
    assert dials(budgets, [told(key) for key in keys], outcome) <= 4
    budgets = Budgets(SHARES)
    ports = [told(key, port=7000 + i) for i, key in enumerate(keys)]
    assert dials(budgets, ports, outcome) == 4
    budgets = Budgets(SHARES)
    network = [told(key, f"5.5.5.{i}") for i, key in enumerate(keys, 1)]
    assert dials(budgets, network, outcome) == 8
    budgets = Budgets(SHARES)
    everywhere = [told(key, f"5.{i}.0.1") for i, key in enumerate(keys)]
    assert dials(budgets, everywhere, outcome) == 64


def test_an_address_in_another_form_is_the_same_victim() -> None:
    forms = ["5.5.5.5", "::ffff:5.5.5.5", "64:ff9b::505:505", "2002:505:505::1"]
    budgets = Budgets(SHARES)
    assert dials(budgets, [told(f"{i}{form}", form) for i in range(9) for form in forms]) == 4


def test_by_the_relays_word_a_whole_race_fits_and_no_second_one_that_meets_nobody() -> None:
    race = [Attempt("a", Endpoint(f"5.{i}.0.1", 7000), Word.RELAY) for i in range(16)]
    budgets = Budgets(SHARES)
    assert dials(budgets, race) == 16
    assert dials(budgets, race) == 0
    assert dials(budgets, [Attempt("b", VICTIM, Word.RELAY)] * 20) == 6


def test_what_the_program_asks_for_is_charged_to_nobody_else() -> None:
    budgets = Budgets(SHARES)
    wish = Attempt("a", VICTIM, Word.RELAY, wished=True)
    assert dials(budgets, [wish] * 50, Outcome.CALLED_OFF) == 50
    assert dials(budgets, [wish] * 500, Outcome.CALLED_OFF) == 206
    assert dials(budgets, [Attempt("a", VICTIM, Word.TOLD, wished=True)] * 50) == 2


@pytest.mark.parametrize("word", Word)
def test_what_is_met_is_free_and_stays_so(word: Word) -> None:
    budgets = Budgets(SHARES)
    attempt = Attempt("a", VICTIM, word)
    assert dials(budgets, [attempt] * 1000, Outcome.MET) == 1000
    # A peer that has moved comes back to a place: neither pauses nor questions.
    assert dials(budgets, [attempt] * 100, Outcome.SILENT) == 100
    assert dials(budgets, [attempt] * 7, Outcome.REFUSED) == 7
    assert budgets.has_met("a", VICTIM)
    assert dials(budgets, [attempt], Outcome.MET) == 1
    # It has nothing to do with anybody else, nor with another port.
    assert not budgets.has_met("b", VICTIM)
    assert not budgets.has_met("a", Endpoint("5.5.5.5", 7001))


def test_a_thousand_peers_behind_one_address_are_met() -> None:
    budgets = Budgets(SHARES)
    crowd = [
        Attempt(str(i), Endpoint("5.5.5.5", 7000 + i), word)
        for i, word in product(range(1000), (Word.RELAY, Word.TOLD))
    ]
    assert dials(budgets, crowd, Outcome.MET) == 2000


def test_a_peer_that_is_not_there_any_more_is_asked_about_again() -> None:
    budgets = Budgets(SHARES)
    assert dials(budgets, [told("a")], Outcome.MET) == 1
    assert dials(budgets, [told("a")] * 50, Outcome.REFUSED) == 8 + 2


def test_what_has_not_left_this_host_is_given_back() -> None:
    budgets = Budgets(SHARES)
    assert dials(budgets, [told("a")] * 100, Outcome.NOT_SENT) == 100


def test_who_has_refused_twice_is_left_alone_by_all_with_growing_pauses() -> None:
    budgets = Budgets(SHARES)
    times = []
    for second in range(0, 12 * 3600, 10):
        attempts = [told(f"{second}-{i}") for i in range(10)]
        if dials(budgets, attempts, Outcome.REFUSED, float(second)):
            times.append(second)
    pauses = [later - earlier for earlier, later in pairwise(times)]
    assert pauses[:6] == [60, 120, 240, 480, 960, 1920]
    assert set(pauses[6:]) == {3600}


def test_nobody_blackens_the_address_of_another() -> None:
    budgets = Budgets(SHARES)
    for i in range(1000):
        dials(budgets, [told(str(i))], Outcome.REFUSED, now=float(i))
    honest = Attempt("honest", VICTIM, Word.RELAY)
    assert budgets.refusal(honest, 1000.0) is None
    # Nor does another peer that is there in its place.
    budgets = Budgets(SHARES)
    dials(budgets, [told("a"), told("a")], Outcome.WRONG_KEY)
    assert budgets.refusal(told("b"), 0.0) is None
    assert budgets.refusal(told("a"), 59.0) is not None


def test_a_host_that_has_moved_forgets_who_did_not_answer_but_not_what_it_has_spent() -> None:
    budgets = Budgets(SHARES)
    dials(budgets, [told("a")] * 2, Outcome.REFUSED)
    budgets.network_changed()
    assert dials(budgets, [told("a")] * 9) == 0
    assert dials(budgets, [told("b")] * 9) == 2


def test_its_memory_has_a_bound() -> None:
    budgets = Budgets(SHARES, limit=8)
    sizes = []
    for i in range(2000):
        attempt = Attempt(str(i // 3), Endpoint(f"5.{i >> 8}.{i & 255}.1", 7000), list(Word)[i % 3])
        dials(budgets, [attempt], list(Outcome)[i % 5], now=10.0 * i)
        sizes.append(len(budgets))
    assert max(sizes[1000:]) == max(sizes[:1000])
    one = Budgets(SHARES)
    for port in range(1, 1000):
        dials(one, [told("a", port=port)], Outcome.MET)
    assert len(one) == 16
