"""Socket addresses as text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.hosts import describe, host_in, host_of, is_address, is_host


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


@pytest.mark.parametrize(
    "text", ["192.0.2.1", "2001:db8::1", "fe80::1%eth0", "fe80::1%3", "::ffff:192.0.2.1"]
)
def test_what_is_an_address(text: str) -> None:
    assert is_address(text)
    assert is_host(text)


@pytest.mark.parametrize(
    "text",
    [
        "relay.example",
        "relay.example.",
        "münchen.example",
        "_x",
        "a" * 63,
        "localhost",
        "1.2.3.4.5",
    ],
)
def test_what_a_resolver_may_take(text: str) -> None:
    assert is_host(text)
    assert not is_address(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "..",
        "a..b",
        "a" * 70,
        "a." + "b" * 64 + ".example",
        "a." * 130,
        "a b",
        "a\0b",
        "a\nb",
    ]
    + [
        "é" * 70,
        "\ud800.org",
        "a@b",
        "a/b",
        "a:b",
        "[::1]",
        "::1::2",
        "fe80::1%",
        "::1%\0",
        "::1%a b",
        "::1%a..b",  # The same: a label of no letter.
        "::1%a:1",  # No interface is called so.
        "::1%\u067f",  # The resolver takes it through IDNA, and raises.
    ]
    + ["192.0.2.1%eth0", "::1%" + "x" * 16, "a%2f", "\u202egro.a"],
)
def test_what_is_no_host(text: str) -> None:
    assert not is_host(text)
    assert not is_address(text)


@given(st.text(max_size=80))
def test_the_system_takes_what_is_a_host_without_an_exception_of_its_own(text: str) -> None:
    if is_host(text):
        text.encode("idna")
