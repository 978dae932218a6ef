"""Who is kept out."""

import pytest

from protocol.identity import Identity
from relay.admission import Ban, Bans, subject_of

ALICE, BOB = (Identity.from_seed(bytes([number]) * 32).guid for number in (1, 2))


def bans(*subjects: str, expires: float | None = None) -> Bans:
    made = Bans()
    for subject in subjects:
        made.put(Ban(subject_of(subject), 0.0, expires))
    return made


@pytest.mark.parametrize(
    ("subject", "host", "banned"),
    [
        ("192.0.2.0/24", "192.0.2.7", True),
        ("192.0.2.0/24", "192.0.3.7", False),
        ("192.0.2.7", "192.0.2.7", True),
        ("192.0.2.7", "192.0.2.8", False),
        ("192.0.2.0/24", "::ffff:192.0.2.7", True),
        ("::ffff:192.0.2.0/120", "192.0.2.7", True),
        ("2001:db8::/32", "2001:db8:1::1", True),
        ("2001:db8::/32", "2001:db9::1", False),
        ("fe80::/10", "fe80::1%eth0", True),
        ("0.0.0.0/0", "2001:db8::1", False),
        ("0.0.0.0/0", "198.51.100.1", True),
        ("192.0.2.0/24", "", False),
    ],
)
def test_a_network(subject: str, host: str, banned: bool) -> None:
    assert (bans(subject).of(ALICE, host, 1.0) is not None) is banned


def test_a_key_goes_before_its_network() -> None:
    both = bans(ALICE, "192.0.2.0/24", "192.0.0.0/16")
    found = both.of(ALICE, "192.0.2.1", 1.0)
    assert found is not None
    assert found.subject == ALICE
    assert both.of(BOB, "198.51.100.1", 1.0) is None


def test_what_is_lifted_or_over_bans_no_more() -> None:
    some = bans(ALICE, "192.0.2.0/24", "198.51.100.0/24", expires=10.0)
    assert some.of(ALICE, "", 9.9) is not None
    assert some.of(ALICE, "", 10.0) is None
    assert some.of(BOB, "192.0.2.1", 10.0) is None
    assert some.lift("192.0.2.0/24") is not None
    assert some.lift("192.0.2.0/24") is None
    assert some.of(BOB, "192.0.2.1", 1.0) is None
    assert some.of(BOB, "198.51.100.1", 1.0) is not None
    assert sorted(some.expired(10.0)) == sorted([ALICE, "198.51.100.0/24"])
    assert len(some) == 0


def test_a_ban_is_replaced() -> None:
    some = bans("192.0.2.0/24")
    some.put(Ban("192.0.2.0/24", 0.0, 5.0))
    assert len(some) == 1
    assert some.of(BOB, "192.0.2.1", 6.0) is None
    some.lift("192.0.2.0/24")
    assert some.of(BOB, "192.0.2.1", 1.0) is None


@pytest.mark.parametrize(
    ("text", "subject"),
    [
        (f" {ALICE}\n", ALICE),
        ("192.0.2.7/24", "192.0.2.0/24"),
        ("192.0.2.7", "192.0.2.7/32"),
        ("2001:DB8::1", "2001:db8::1/128"),
    ],
)
def test_a_subject_has_one_form(text: str, subject: str) -> None:
    assert subject_of(text) == subject


@pytest.mark.parametrize("text", ["", "alice", "192.0.2", "192.0.2.0/33", ALICE[:-1], "*"])
def test_what_is_no_subject(text: str) -> None:
    with pytest.raises(ValueError, match="neither a GUID"):
        subject_of(text)
