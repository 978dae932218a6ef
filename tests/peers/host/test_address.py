"""An address of this host: which of them a peer may use, and in what order."""

import pytest

from peers.host.address import MAX_USABLE
from peers.host.source import (
    Addresses,
    LocalAddress,
    usable,
)


def at(host: str, interface: str = "eth0", index: int = 2, **flags: bool) -> LocalAddress:
    return LocalAddress(host, interface, index, 6 if ":" in host else 4, 64, **flags)


def hosts(found: Addresses) -> list[str]:
    return [address.host for address in found]


@pytest.mark.parametrize(
    "address",
    [
        at("fe80::1"),
        at("169.254.7.7"),
        at("127.0.0.1", "lo"),
        at("::1", "lo"),
        at("2a00::1", tentative=True),
        at("224.0.0.9"),
        at("ff02::1"),
        at("0.0.0.0"),
        at("::"),
    ],
    ids=str,
)
def test_what_nobody_can_dial_is_not_usable(address: LocalAddress) -> None:
    assert usable([address]) == ()


@pytest.mark.parametrize(
    "name",
    ["docker0", "br-0123456789ab", "virbr0", "veth12ab", "cni0", "cni-podman0", "flannel.1"]
    + ["kube-ipvs0", "lxcbr0", "lxdbr0", "podman1", "vmnet8", "vboxnet0", "cali1a2b"],
)
def test_interfaces_that_lead_nowhere_are_not_usable(name: str) -> None:
    assert usable([at("172.17.0.1", name)]) == ()


@pytest.mark.parametrize("name", ["eth0", "wlan0", "br-lan", "br-ex", "br0", "tun0", "wg0", "en0"])
def test_interfaces_that_lead_somewhere_are_usable(name: str) -> None:
    assert hosts(usable([at("10.0.0.1", name)])) == ["10.0.0.1"]


BEST_FIRST = (
    at("2a00::1"),
    at("2a00::2", "wlan0", 3),
    at("2a00::3", temporary=True),
    at("9.9.9.9"),
    at("10.0.0.1"),
    at("10.0.0.2"),
    at("10.0.0.1", "wlan0", 3),
    at("2002:909:909::1"),
    at("2001:0:1::1"),
    at("fd00::1"),
    at("2a00::4", deprecated=True),
    at("10.0.0.3", deprecated=True),
)


def test_the_order_is_the_same_whatever_order_the_system_has() -> None:
    expected = list(dict.fromkeys(hosts(BEST_FIRST)))
    assert hosts(usable(BEST_FIRST)) == expected
    assert hosts(usable(reversed(BEST_FIRST))) == expected
    assert usable(usable(BEST_FIRST)) == usable(BEST_FIRST)
    assert {address.index for address in usable(BEST_FIRST) if address.host == "10.0.0.1"} == {2}


def test_loopback_is_usable_when_asked_for_and_comes_behind_what_leads_further() -> None:
    mixed = [at("::1", "lo", 1), at("127.0.0.1", "lo", 1), at("fd00::1"), at("fe80::1")]
    assert hosts(usable(mixed, loopback=True)) == ["fd00::1", "::1", "127.0.0.1"]
    assert hosts(usable(mixed)) == ["fd00::1"]


def test_there_are_never_more_than_a_registration_holds() -> None:
    many = [at(f"10.0.0.{last}") for last in range(1, 100)]
    assert usable(many) == tuple(many[:MAX_USABLE])


def test_an_address_knows_what_it_is() -> None:
    assert at("fe80::1").link_local
    assert at("169.254.0.1").link_local
    assert at("127.3.2.1").loopback
    assert at("::1").loopback
    assert not at("10.0.0.1").loopback
    assert not at("10.0.0.1").link_local
