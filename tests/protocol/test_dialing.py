"""Where nobody is, what an address is, and what an error says, for peers and relays alike."""

import errno
import ipaddress

import pytest

from protocol.dialing import (
    Outcome,
    block_of,
    is_public,
    is_well_known,
    network_of,
    nobody_at,
    outcome_of,
    unwrapped,
)

HOME = [ipaddress.ip_interface("192.168.1.5/24"), ipaddress.ip_interface("fd00:1::5/64")]


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("64:ff9b::192.0.2.1", "192.0.2.1"),
        ("2002:c000:201::1", "192.0.2.1"),
        ("2001:db8::5efe:192.0.2.1", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::1"),
        ("2001:db8::1", "2001:db8::1"),
        ("::1", "::1"),
        ("64:ff9b:1::192.0.2.1", None),
    ],
)
def test_an_address_is_what_a_packet_to_it_ends_at(host: str, address: str | None) -> None:
    assert unwrapped(host) == (ipaddress.ip_address(address) if address else None)


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "0.1.2.3", "::", "224.0.0.1", "ff02::1", "255.255.255.255", "192.168.1.255"]
)
def test_nobody_is_at_some(host: str) -> None:
    assert nobody_at(ipaddress.ip_address(host), HOME) is not None


def test_a_broadcast_address_is_known_where_the_prefix_is() -> None:
    address = ipaddress.ip_address("192.168.1.255")
    assert nobody_at(address) is None
    assert nobody_at(address, HOME) is not None
    assert nobody_at(ipaddress.ip_address("192.168.1.9"), HOME) is None


def test_networks_blocks_and_what_means_the_same_everywhere() -> None:
    assert network_of(ipaddress.ip_address("192.0.2.1")) == "192.0.2.0/24"
    assert network_of(ipaddress.ip_address("2001:db8:1:2::1")) == "2001:db8:1::/48"
    for host in ("10.1.1.1", "100.64.0.1", "fd00::1"):
        assert block_of(ipaddress.ip_address(host)) is not None
        assert not is_public(ipaddress.ip_address(host))
    for host in ("5.5.5.5", "192.0.2.1", "2001:db8::1", "2a00::1"):
        assert block_of(ipaddress.ip_address(host)) is None
        assert is_public(ipaddress.ip_address(host))
    assert not is_public(ipaddress.ip_address("127.0.0.1"))


def test_well_known_are_the_lowest_ports_and_some_above() -> None:
    assert all(map(is_well_known, (1, 22, 443, 1023, 3306, 6379, 10080)))
    assert not any(map(is_well_known, (1024, 7000, 8440, 40_000, 65_535)))


@pytest.mark.parametrize(
    ("number", "outcome"),
    [
        (errno.ECONNREFUSED, Outcome.REFUSED),
        (errno.ECONNRESET, Outcome.REFUSED),
        (errno.ETIMEDOUT, Outcome.SILENT),
        (errno.EHOSTUNREACH, Outcome.SILENT),
        (errno.EPROTO, Outcome.SILENT),
        (errno.ENETUNREACH, Outcome.NOT_SENT),
        (errno.EMFILE, Outcome.NOT_SENT),
        (errno.EADDRNOTAVAIL, Outcome.NOT_SENT),
    ],
)
def test_what_an_error_says_of_who_is_there(number: int, outcome: Outcome) -> None:
    assert outcome_of(OSError(number, "")) is outcome
