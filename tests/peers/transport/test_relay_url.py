"""The URL of a relay, and what is remembered of the way there."""

import ssl

import pytest

from peers.transport.relay_url import RelayAddress, RelayTrips
from protocol.errors import RelayUnavailable


def test_host_port_and_tls() -> None:
    plain, tls = RelayAddress("http://relay.example:81"), RelayAddress("https://[2001:db8::1]:443")
    assert (plain.host, plain.port, plain.ssl, str(plain)) == (
        "relay.example",
        81,
        None,
        "http://relay.example:81",
    )
    assert (tls.host, tls.port) == ("2001:db8::1", 443)
    assert isinstance(tls.ssl, ssl.SSLContext)
    named = RelayAddress("https://192.0.2.1:9", certificate_name="example.org")
    assert named.certificate_name == "example.org"


@pytest.mark.parametrize(
    "url", ["", "relay.example", "ftp://a", "http://", "http://a?b", "http://["]
)
def test_what_is_no_relays_url_is_said(url: str) -> None:
    with pytest.raises(RelayUnavailable, match="not a relay's URL"):
        RelayAddress(url)


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
