"""Socket addresses as text."""

import pytest

from protocol.hosts import describe, host_in, host_of


@pytest.mark.parametrize(
    ("address", "host"),
    [
        (("127.0.0.1", 9), "127.0.0.1"),
        (("::ffff:192.0.2.1", 9, 0, 0), "192.0.2.1"),
        (("2001:db8::1", 9, 0, 0), "2001:db8::1"),
        (None, ""),
        ("a path", ""),
    ],
)
def test_a_mapped_address_counts_as_what_it_is(address: object, host: str) -> None:
    assert host_of(address) == host


@pytest.mark.parametrize(
    ("address", "text", "host"),
    [
        (("127.0.0.1", 9), "127.0.0.1:9", "127.0.0.1"),
        (("::ffff:192.0.2.1", 9, 0, 0), "192.0.2.1:9", "192.0.2.1"),
        (("2001:db8::1", 9, 0, 0), "[2001:db8::1]:9", "2001:db8::1"),
        (("::ffff:0:1", 9, 0, 0), "[::ffff:0:1]:9", "::ffff:0:1"),
    ],
)
def test_an_address_in_words_and_its_host(address: object, text: str, host: str) -> None:
    assert describe(address) == text
    assert host_in(text) == host


def test_what_is_no_address_is_said_as_it_is() -> None:
    assert describe(None) == "None"
    assert describe("a path") == "a path"
