"""Who is charged: the key, its network and the wider one."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.limits import Cause, cause_of


@pytest.mark.parametrize(
    ("host", "wide", "network"),
    [
        ("192.0.2.7", "192.0.2.0/24", "192.0.2.7/32"),
        ("::ffff:192.0.2.7", "192.0.2.0/24", "192.0.2.7/32"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1::/48", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/48", "fe80::/64"),
        ("not an address", "not an address", "not an address"),
    ],
)
def test_a_host_has_a_network_and_a_wider_one(host: str, wide: str, network: str) -> None:
    assert cause_of(host, "alice") == Cause(wide, network, "alice")
    assert cause_of(host).key == ""


@given(st.lists(st.integers(0, 300), min_size=3, max_size=5), st.sampled_from(["", "0", "%x", " "]))
def test_an_ipv4_address_has_the_networks_that_ipaddress_says(parts: list[int], more: str) -> None:
    host = ".".join(map(str, parts)) + more
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        assert cause_of(host) == Cause(host, host, "")
        return
    networks = (str(ipaddress.ip_network((address, size), strict=False)) for size in (24, 32))
    assert cause_of(host) == Cause(*networks, "")
