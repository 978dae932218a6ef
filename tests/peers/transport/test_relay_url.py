"""The URL of a relay, and what is remembered of the way there."""

import contextlib
import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peers import Identity, Peer
from peers.transport.relay_url import RelayAddress, RelayTrips
from protocol.errors import RelayUnavailable
from protocol.hosts import is_host


def test_host_port_and_tls() -> None:
    plain, tls = RelayAddress("http://relay.example:81"), RelayAddress("https://[2001:db8::1]:443")
    assert (plain.host, plain.port, plain.tls(), str(plain)) == (
        "relay.example",
        81,
        None,
        "http://relay.example:81",
    )
    assert (tls.host, tls.port) == ("2001:db8::1", 443)
    assert isinstance(tls.tls(), ssl.SSLContext)
    assert tls.tls() is tls.tls(), "read once"
    named = RelayAddress("https://192.0.2.1:9", certificate_name="example.org")
    assert named.certificate_name == "example.org"


@pytest.mark.parametrize(
    "url", ["", "relay.example", "ftp://a", "http://", "http://a?b", "http://["]
)
def test_what_is_no_relays_url_is_said(url: str) -> None:
    with pytest.raises(RelayUnavailable, match="not a relay's URL"):
        RelayAddress(url)


@pytest.mark.parametrize(
    ("url", "port", "authority"),
    [
        ("http://relay.example", 80, "relay.example"),
        ("https://relay.example/", 443, "relay.example"),
        ("https://relay.example:8440", 8440, "relay.example:8440"),
        ("http://[2001:db8::1]:8440", 8440, "[2001:db8::1]:8440"),
        ("http://m\u00fcnchen.example:81", 81, "xn--mnchen-3ya.example:81"),
        (" http://relay.example:8440\n", 8440, "relay.example:8440"),
        ("http://relay.example:", 80, "relay.example"),
    ],
)
def test_a_port_that_is_not_said_is_the_schemes(url: str, port: int, authority: str) -> None:
    relay = RelayAddress(url)
    assert (relay.port, relay.authority) == (port, authority)


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("http://alice:s3cret@relay.example:8440", "user part"),
        ("alice:s3cret@relay.example:8440", "user part"),
        ("http://s3cret@[::1", "user part"),
        ("http://[s3cret]@", "user part"),
        ("http://relay.example:8440/s3cret/control", "path"),
        ("http://relay.example:8440//s3cret", "path"),
        ("http://relay.example:8440?token=s3cret", "query"),
        ("http://relay.example:8440/?", "query"),
        ("http://relay.example:8440#s3cret", "fragment"),
        ("relay.example?s3cret", "no http://"),
        ("http://relay.exa\nmple:8440/s3cret", "control character"),
        ("http://relay.example: 8440/s3cret", "blank"),
        ("http://relay.example:+8440/s3cret", "port"),
        ("http://relay.example:\uff18\uff14/s3cret", "port"),
    ],
)
def test_what_is_more_than_a_host_and_a_port_is_refused_and_no_secret_shown(
    url: str, problem: str
) -> None:
    with pytest.raises(RelayUnavailable, match=f"not a relay's URL.*{problem}") as refused:
        RelayAddress(url)
    assert "s3cret" not in str(refused.value)
    with pytest.raises(RelayUnavailable, match=problem):
        Peer(Identity.generate(), url)


@pytest.mark.parametrize(
    "host",
    [
        "a..b",
        "..",
        "xn--a",
        "a.xn--ab\u00fc",
        "x" * 70,
        "a." + "b" * 64 + ".example",
        "a b",
        "a%2f",
        "a\0b",
        "-\u202ea:1",
    ],
)
def test_a_host_that_no_resolver_takes_is_refused_where_it_is_handed_over(host: str) -> None:
    with pytest.raises(RelayUnavailable, match="not a relay's URL"):
        RelayAddress(f"http://{host}:8440")
    with pytest.raises(RelayUnavailable, match="not a relay's URL"):
        RelayAddress(f"https://{host}")


@given(st.text(max_size=60))
def test_other_texts_are_refused_or_a_host_and_a_port(text: str) -> None:
    for url in (text, f"http://{text}", f"https://relay.example{text}"):
        with contextlib.suppress(RelayUnavailable):
            relay = RelayAddress(url)
            assert is_host(relay.host)
            assert 0 < relay.port < 65536
            relay.authority.encode("ascii")


def test_round_trips_are_by_address_and_own_address() -> None:
    trips = RelayTrips()
    assert trips.get("a", None) is None
    trips.put("a", "192.0.2.1", 0.02)
    trips.put("a", "192.0.2.2", 0.05)
    trips.put("b", "192.0.2.1", 0.9)
    assert trips.get("a", "192.0.2.1") == 0.02
    assert trips.get("a", "192.0.2.3") == 0.05, "from a new address: the longest that is known"
    trips.put("a", "192.0.2.1", 0.01)
    assert trips.get("a", "192.0.2.1") == 0.01


def test_round_trips_have_a_bound() -> None:
    trips = RelayTrips(limit=2)
    for number, host in enumerate("abcd"):
        trips.put(host, None, number)
    assert [trips.get(host, None) for host in "abcd"] == [None, None, 2, 3]


def test_addresses_of_one_peer_share_what_is_known() -> None:
    trips = RelayTrips()
    one, other = (RelayAddress(url, trips=trips) for url in ("http://a", "http://b"))
    one.trips.put("192.0.2.1", None, 0.02)
    assert other.trips.get("192.0.2.1", None) == 0.02
    assert RelayAddress("http://a").trips.get("192.0.2.1", None) is None
