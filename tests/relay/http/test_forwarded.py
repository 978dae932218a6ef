"""`X-Forwarded-For` and `Forwarded`."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.http.forwarded import (
    BadForwarding,
    clients_in_forwarded,
    clients_in_x_forwarded_for,
)


@pytest.mark.parametrize(
    ("lines", "clients"),
    [
        (["192.0.2.7"], [("192.0.2.7", 0)]),
        (["192.0.2.7:51000"], [("192.0.2.7", 51000)]),
        (["2001:db8::7"], [("2001:db8::7", 0)]),
        (["[2001:db8::7]"], [("2001:db8::7", 0)]),
        (["[2001:DB8::7]:51000"], [("2001:db8::7", 51000)]),
        (["::ffff:192.0.2.7"], [("192.0.2.7", 0)]),
        (["[::ffff:192.0.2.7]:5"], [("192.0.2.7", 5)]),
        (["unknown"], [None]),
        (["192.0.2.1, 192.0.2.2 ,192.0.2.3"], [(f"192.0.2.{n}", 0) for n in (3, 2, 1)]),
        (["192.0.2.1", "192.0.2.2"], [("192.0.2.2", 0), ("192.0.2.1", 0)]),
        (["192.0.2.1,, "], [("192.0.2.1", 0)]),
        ([""], []),
        (["0.0.0.0"], [None]),
    ],
)
def test_x_forwarded_for(lines: list[str], clients: list[tuple[str, int] | None]) -> None:
    assert list(clients_in_x_forwarded_for(lines)) == clients


@pytest.mark.parametrize(
    ("lines", "clients"),
    [
        (["for=192.0.2.7"], [("192.0.2.7", 0)]),
        (['For="192.0.2.7:51000"'], [("192.0.2.7", 51000)]),
        (["for=192.0.2.7:51000"], [("192.0.2.7", 51000)]),
        (['for="[2001:db8::7]:51000"; proto=https ;by=203.0.113.1'], [("2001:db8::7", 51000)]),
        (["for=unknown"], [None]),
        (['for="_secret:_port"'], [None]),
        (["proto=https"], [None]),
        (["for=192.0.2.1, for=192.0.2.2"], [("192.0.2.2", 0), ("192.0.2.1", 0)]),
        (["for=192.0.2.1", "for=192.0.2.2"], [("192.0.2.2", 0), ("192.0.2.1", 0)]),
        (['for=192.0.2.1;host="a, for=192.0.2.9"'], [("192.0.2.1", 0)]),
        (['for="192.0.2.\\7"'], [("192.0.2.7", 0)]),
        (['for="192.0.2.7:_x"'], [("192.0.2.7", 0)]),
    ],
)
def test_forwarded(lines: list[str], clients: list[tuple[str, int] | None]) -> None:
    assert list(clients_in_forwarded(lines)) == clients


@pytest.mark.parametrize(
    "node",
    ["nobody", "192.0.2", "192.0.2.7:x", "192.0.2.7:70000", "[2001:db8::7", "fe80::1%eth0", "[]"],
)
def test_what_is_no_address_is_refused(node: str) -> None:
    with pytest.raises(BadForwarding):
        list(clients_in_x_forwarded_for([node]))
    with pytest.raises(BadForwarding):
        list(clients_in_forwarded([f'for="{node}"']))


@pytest.mark.parametrize(
    "line",
    [
        "for",
        "for=",
        'for="192.0.2.7',
        'for="192.0.2.7"x',
        "for=192.0.2.7,",
        "for=192.0.2.7;",
        "for=192.0.2.7;for=192.0.2.8",
        "for=192.0.2.7 192.0.2.8",
    ],
)
def test_malformed_lines_are_refused(line: str) -> None:
    with pytest.raises(BadForwarding):
        list(clients_in_forwarded([line]))


def test_a_quote_that_a_client_leaves_open_does_not_hide_what_the_proxy_appends() -> None:
    """It is refused: who went on behind it would believe the client's own `for`."""
    line = 'for=192.0.2.66;x=", for="[2001:db8::7]:1"'
    with pytest.raises(BadForwarding):
        next(clients_in_forwarded([line]))
    assert next(clients_in_forwarded([line.rpartition(", ")[0], "for=192.0.2.7"])) == (
        "192.0.2.7",
        0,
    ), "a line of the proxy's own is read before it"


def test_a_clients_own_words_before_the_last_are_not_looked_at() -> None:
    clients = clients_in_x_forwarded_for(["<script>, 192.0.2.7"])
    assert next(clients) == ("192.0.2.7", 0)
    with pytest.raises(BadForwarding):
        next(clients)


@given(st.lists(st.text(max_size=40), max_size=3))
def test_any_text(lines: list[str]) -> None:
    for read in (clients_in_forwarded, clients_in_x_forwarded_for):
        try:
            for client in itertools.islice(read(lines), 100):
                assert client is None or client[0]
        except BadForwarding:
            pass
