"""Whose letters take how much of the mailbox: shares, and that all is given back."""

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import Code
from relay.mailbox import Bound, Ledger, Quotas, Waiting

BIG = 61_440
QUOTAS = Quotas(recipient=Bound(64, 8 << 20), in_all=Bound(1024, 64 << 20), boxes=4)


def letter(
    sender: str = "eve",
    recipient: str = "bob",
    *,
    network: str = "192.0.2.1/32",
    size: int = 512,
    stranger: bool = True,
) -> Waiting:
    wide = network.rpartition(".")[0] + ".0/24"
    return Waiting(recipient, sender, wide, network, size, stranger)


def filled(ledger: Ledger, letters: Iterable[Waiting]) -> tuple[int, Code | None, str]:
    """Leave letters until one is refused; return how many were taken, and what was said."""
    count = 0
    for one in letters:
        if refusal := ledger.refusal(one):
            return count, refusal.code, refusal.what
        ledger.add(one)
        count += 1
    return count, None, ""


def test_a_stranger_has_an_eighth_of_a_mailbox_and_somebody_named_a_half() -> None:
    ledger = Ledger(QUOTAS)
    assert filled(ledger, [letter()] * 99) == (8, Code.MAILBOX_FULL, "letters_pair")
    assert filled(ledger, [letter("alice", stranger=False)] * 99) == (
        32,
        Code.MAILBOX_FULL,
        "letters_pair",
    )


def test_a_network_of_strangers_has_a_quarter_and_all_strangers_a_half() -> None:
    ledger = Ledger(QUOTAS)
    one_network = [letter(f"eve{number}") for number in range(99)]
    assert filled(ledger, one_network) == (16, Code.MAILBOX_FULL, "letters_recipient")
    many = [letter(f"e{number}", network=f"198.51.{number}.1/32") for number in range(99)]
    assert filled(ledger, many) == (16, Code.MAILBOX_FULL, "letters_recipient")
    named = [letter(f"a{number}", stranger=False) for number in range(99)]
    assert filled(ledger, named) == (32, Code.MAILBOX_FULL, "letters_recipient")


def test_large_letters_are_counted_by_their_bytes() -> None:
    ledger = Ledger(QUOTAS)
    count, code, what = filled(ledger, [letter(size=BIG)] * 99)
    assert (code, what) == (
        Code.MAILBOX_FULL,
        "letters_recipient" if count > 16 else "letters_pair",
    )
    assert count * BIG <= QUOTAS.recipient.size // 8


def test_one_sender_has_a_sixteenth_of_all_and_its_network_a_half() -> None:
    ledger = Ledger(QUOTAS)
    to_many = [letter(recipient=f"b{number % 400}") for number in range(999)]
    assert filled(ledger, to_many) == (64, Code.LIMIT_EXCEEDED, "letters_sender")
    by_many = [letter(f"e{number}", f"b{number}") for number in range(9999)]
    assert filled(ledger, by_many) == (512 - 64, Code.LIMIT_EXCEEDED, "letters_network")
    near = [
        letter(f"n{number}", f"b{number}", network=f"192.0.2.{number % 200 + 2}/32")
        for number in range(9999)
    ]
    assert filled(ledger, near) == (256, Code.LIMIT_EXCEEDED, "letters_network")
    far = [
        letter(f"f{number}", f"b{number}", network=f"203.0.{number}.1/32") for number in range(999)
    ]
    assert filled(ledger, far) == (256, Code.MAILBOX_FULL, "letters_all")


def test_who_takes_letters_has_a_share_by_network_too() -> None:
    ledger = Ledger(QUOTAS)
    assert [ledger.add_box("a"), ledger.add_box("a"), ledger.add_box("a")] == [True, True, False]
    assert [ledger.add_box("b"), ledger.add_box("c"), ledger.add_box("d")] == [True, True, False]
    for network in "aabc":
        ledger.remove_box(network)
    assert ledger.is_empty()


NAMES = st.sampled_from(["a", "b", "c"])
STEPS = st.tuples(st.sampled_from(["add", "remove", "commit", "rollback"]), NAMES, NAMES)


@given(st.lists(STEPS, max_size=60))
def test_what_is_undone_is_as_before_and_what_was_taken_is_given_back(
    steps: list[tuple[str, str, str]],
) -> None:
    ledger = Ledger(QUOTAS)
    there: list[Waiting] = []
    committed: list[Waiting] = []
    for step, sender, recipient in steps:
        one = letter(sender, recipient, stranger=sender == "a")
        if step == "add" and ledger.refusal(one) is None:
            ledger.add(one)
            there.append(one)
        elif step == "remove" and there:
            ledger.remove(there.pop())
        elif step == "commit":
            ledger.commit()
            committed = list(there)
        elif step == "rollback":
            ledger.rollback()
            there = list(committed)
        assert ledger.letters == len(there)
        assert ledger.waiting("b") == sum(one.recipient == "b" for one in there)
    for one in there:
        ledger.remove(one)
    assert ledger.is_empty()
