"""What may be dialed by another's word: addresses and what is known in, a rule out."""

import ipaddress
from typing import Any

import pytest

from peers.config import Dial
from peers.dialing import Here, Known, Word, refusal, word_of
from peers.dialing.scopes import is_provable, server_refusal
from protocol.endpoint import Endpoint

HOME = Here(
    interfaces=tuple(
        ipaddress.ip_interface(text)
        for text in ("127.0.0.1/8", "::1/128", "192.168.1.5/24", "fd00:1::5/64", "9.9.9.5/24")
    ),
    relays=frozenset({Endpoint("8.8.8.8", 8440)}),
    servers=frozenset({Endpoint("9.9.9.9", 5300)}),
    listening=(("0.0.0.0", "::"), 4000),
)


def at(*hosts: str, port: int = 7000) -> frozenset[Endpoint]:
    return frozenset(Endpoint(host, port) for host in hosts)


def relay_at(host: str) -> Here:
    return Here(
        HOME.interfaces, at(host, port=8440), servers=HOME.servers, listening=HOME.listening
    )


def said(
    host: str, port: int = 7000, here: Here = HOME, dial: Dial = Dial.CAREFUL, **known: Any
) -> str | None:
    return refusal(Endpoint(host, port), Known(**known), here, dial)


@pytest.mark.parametrize(
    "host",
    [
        *("0.0.0.0", "0.1.2.3", "::", "224.0.0.1", "239.1.1.1", "ff02::1", "ff0e::1"),
        *("255.255.255.255", "240.0.0.1", "192.168.1.255", "192.168.1.0", "9.9.9.255"),
        *("::ffff:255.255.255.255", "::ffff:0.0.0.0", "64:ff9b::e000:1", "64:ff9b:1::808:808"),
    ],
)
@pytest.mark.parametrize("dial", Dial)
def test_where_nobody_can_be_is_never_dialed_whoever_says_so(host: str, dial: Dial) -> None:
    assert said(host, dial=dial, disclosed=at(host), listed=at(host)) is not None


@pytest.mark.parametrize(
    ("host", "port", "what"),
    [
        *[(host, 8440, "relay") for host in ("8.8.8.8", "::ffff:8.8.8.8", "64:ff9b::808:808")],
        ("9.9.9.9", 5300, "name server"),
        *[(host, 4000, "itself") for host in ("127.0.0.1", "127.9.9.9", "::1", "192.168.1.5")],
        *[(host, 4000, "itself") for host in ("::ffff:127.0.0.1", "2002:7f00:1::", "::7f00:1")],
    ],
)
@pytest.mark.parametrize("dial", Dial)
def test_nor_are_the_peers_own_services(host: str, port: int, what: str, dial: Dial) -> None:
    reason = said(host, port, dial=dial, disclosed=at(host, port=port))
    assert reason is not None
    assert what in reason


def test_a_proxy_is_nobodys_endpoint_and_nobodys_witness() -> None:
    here = Here(HOME.interfaces, proxies=at("127.0.0.1", port=3000))
    assert "own proxy" in (said("127.0.0.1", 3000, here, disclosed=at("127.0.0.1")) or "")
    assert "this host" in (said("127.0.0.1", 7000, here, disclosed=at("127.0.0.1")) or "")


def test_a_relay_on_this_host_is_at_every_address_of_it() -> None:
    here = relay_at("127.0.0.1")
    for host in ("127.0.0.9", "192.168.1.5", "::1"):
        assert "own relay" in (said(host, 8440, here, disclosed=at(host, port=8440)) or "")
    assert said("9.9.9.77", 8440, here) is None


def test_a_socket_that_is_bound_to_one_address_is_at_that_one() -> None:
    here = Here(HOME.interfaces, at("127.0.0.1", port=8440), listening=(("127.0.0.2",), 4000))
    assert said("127.0.0.2", 4000, here, disclosed=at("127.0.0.2", port=4000)) is not None
    assert said("127.0.0.3", 4000, here, disclosed=at("127.0.0.3", port=4000)) is None


LOOPBACKS = ["127.0.0.1", "127.0.9.3", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "192.168.1.5"]


@pytest.mark.parametrize("host", LOOPBACKS)
def test_this_host_is_dialed_only_where_the_other_side_is_met_on_it(host: str) -> None:
    assert said(host) is not None
    assert said(host, listed=at(host)) is not None
    assert said(host, disclosed=at("5.5.5.5")) is not None
    here = relay_at("127.0.0.1")
    assert said(host, here=here) is not None
    assert said(host, here=here, disclosed=at("127.0.0.1")) is None
    assert said(host, path_host="127.0.0.9") is None


def test_a_relay_elsewhere_does_not_know_this_hosts_loopback() -> None:
    """It has met a peer that runs beside it; here, that address is somebody else's."""
    assert said("127.0.0.1", disclosed=at("127.0.0.1")) is not None
    assert said("::1", here=relay_at("192.168.1.1"), disclosed=at("::1")) is not None


def test_a_zone_on_this_host_names_this_host() -> None:
    served = Here(HOME.interfaces, servers=at("127.0.0.1", port=53))
    assert said("127.0.0.7", here=served, listed=at("127.0.0.7")) is None
    told = Here(HOME.interfaces, advertised=("127.0.0.3",))
    assert said("127.0.0.7", here=told, listed=at("127.0.0.7")) is None
    assert said("127.0.0.7", here=told) is not None


PRIVATE = ["192.168.1.9", "fd00:1::9", "::ffff:192.168.1.9", "64:ff9b::c0a8:109"]


@pytest.mark.parametrize("host", PRIVATE)
def test_a_private_address_needs_an_interface_and_somebody_elses_word(host: str) -> None:
    assert said(host) is not None
    assert said(host, disclosed=at("5.5.5.5")) is not None
    assert said(host, disclosed=at("5.5.5.5"), observed=frozenset({"6.6.6.6"})) is not None
    assert said(host, disclosed=at("5.5.5.5"), observed=frozenset({"5.5.5.5"})) is None
    assert said(host, disclosed=at(host)) is None


@pytest.mark.parametrize("host", ["10.0.0.9", "172.16.3.3", "192.168.2.9", "100.64.0.9", "fd77::9"])
def test_without_an_interface_there_only_a_relay_that_is_met_there_may_say_so(host: str) -> None:
    seen = frozenset({"5.5.5.5"})
    assert said(host, disclosed=at("5.5.5.5"), observed=seen) is not None
    assert said(host, disclosed=at(host)) is not None
    near = {"10": "10.9.0.2", "172": "172.31.0.2", "192": "192.168.3.3", "100": "100.90.0.2"}
    relay = near.get(host.partition(".")[0], "fd12::2")
    assert said(host, here=relay_at(relay), disclosed=at(host)) is None
    assert said(host, here=relay_at("127.0.0.1"), disclosed=at(host)) is None
    assert said(host, here=relay_at(relay)) is not None


def test_a_peer_that_is_seen_in_a_network_may_be_elsewhere_in_it() -> None:
    assert said("192.168.1.77", path_host="192.168.1.9") is None
    assert said("192.168.1.77", path_host="192.168.2.9") is not None
    assert said("192.168.1.77", disclosed=at("192.168.1.9")) is None


def test_a_link_local_address_only_where_the_path_comes_from_there() -> None:
    for host in ("169.254.169.254", "fe80::1", "::ffff:169.254.169.254"):
        assert said(host, disclosed=at(host), listed=at(host)) is not None
        assert said(host, path_host=host) is None


@pytest.mark.parametrize("port", [1, 22, 25, 80, 443, 1023, 2375, 3306, 5432, 6000, 6379, 11211])
def test_a_well_known_port_only_by_the_relays_word_and_at_a_public_address(port: int) -> None:
    assert said("5.5.5.5", port) is not None
    assert said("5.5.5.5", port, listed=at("5.5.5.5", port=port)) is not None
    assert said("5.5.5.5", port, path_host="5.5.5.5") is not None
    assert said("5.5.5.5", port, disclosed=at("5.5.5.5", port=port)) is None
    here = relay_at("127.0.0.1")
    for host in ("127.0.0.1", "192.168.1.9"):
        assert said(host, port, here, disclosed=at(host, port=port)) is not None
        assert said(host, port, here, Dial.OPEN) is None


def provable(host: str, port: int = 7000, here: Here = HOME, dial: Dial = Dial.CAREFUL) -> bool:
    """Whether the relay's word would help, which has said nothing yet; and that it does."""
    endpoint = Endpoint(host, port)
    asked = is_provable(endpoint, Known(may_ask=True), here, dial)
    assert asked is (said(host, port, here, dial, met=at(host, port=port)) is None)
    assert not is_provable(endpoint, Known(), here, dial), "nobody can be asked"
    return asked


def test_what_the_relay_has_met_may_be_private_or_odd_or_all_that_is_dialed() -> None:
    assert provable("192.168.1.9")
    assert provable("5.5.5.5", 443)
    assert provable("5.5.5.5", 6379)
    assert provable("192.168.1.9", 22)
    assert provable("10.0.0.9", here=relay_at("10.1.1.1"))
    assert provable("127.0.0.9", here=relay_at("127.0.0.1"))
    assert provable("5.5.5.5", dial=Dial.PROVEN)


@pytest.mark.parametrize("dial", Dial)
def test_nor_is_it_asked_where_its_word_would_not_help(dial: Dial) -> None:
    for host in ("0.1.2.3", "224.0.0.1", "192.168.1.255", "64:ff9b:1::808:808"):
        assert not provable(host, dial=dial)
    assert not provable("8.8.8.8", 8440, dial=dial), "the relay itself"
    assert not provable("127.0.0.1", 4000, dial=dial), "this peer itself"
    if dial is not Dial.OPEN:
        for host in ("10.0.0.9", "127.0.0.9", "192.168.1.5", "169.254.169.254", "fe80::1"):
            assert not provable(host, dial=dial)


def test_a_well_known_port_that_the_relay_could_be_asked_about_is_asked_about() -> None:
    """What it discloses may be a port on the peer's own word."""
    known = at("5.5.5.5", port=443)
    assert said("5.5.5.5", 443, disclosed=known, may_ask=True) is not None
    assert said("5.5.5.5", 443, disclosed=known, may_ask=True, met=known) is None
    assert said("5.5.5.5", 7000, disclosed=at("5.5.5.5"), may_ask=True) is None


def asked(host: str, *met: str, here: Here = HOME, port: int = 53) -> str | None:
    return server_refusal(Endpoint(host, port), met, here)


def test_a_name_server_that_a_zone_names_is_near_only_where_who_names_it_is() -> None:
    assert asked("5.5.5.5") is None
    assert asked("192.168.1.9") is None, "a network that this host is in"
    assert asked("10.0.0.53") is not None
    assert asked("10.0.0.53", "10.9.9.9") is None
    for host in ("127.0.0.1", "::1", "192.168.1.5", "::ffff:127.0.0.1"):
        assert asked(host) is not None
        assert asked(host, "10.0.0.53") is not None
        assert asked(host, "127.0.0.7") is None
    assert asked("169.254.1.1") is not None
    assert asked("169.254.1.1", "169.254.1.1") is None
    for host in ("224.0.0.1", "0.0.0.0", "192.168.1.255", "64:ff9b:1::808:808"):
        assert asked(host, host) is not None
    assert "own relay" in (asked("8.8.8.8", port=8440) or "")
    assert asked("9.9.9.9", port=5300) is None, "the name server that is configured"
    assert "itself" in (asked("127.0.0.1", "127.0.0.1", port=4000) or "")


@pytest.mark.parametrize("host", ["5.5.5.5", "2a00::5", "198.51.100.7", "2001:db8::7"])
def test_a_public_address_is_for_the_budgets(host: str) -> None:
    assert said(host) is None
    assert said(host, dial=Dial.PROVEN) is not None
    assert said(host, dial=Dial.PROVEN, listed=at(host)) is not None
    assert said(host, dial=Dial.PROVEN, disclosed=at(host)) is None


def test_by_whose_word() -> None:
    one = Endpoint("5.5.5.5", 7000)
    assert word_of(one, Known()) is Word.TOLD
    assert word_of(one, Known(listed=frozenset({one}))) is Word.ZONE
    assert word_of(one, Known(frozenset({one}), frozenset({one}))) is Word.RELAY
    assert word_of(one, Known(disclosed=at("5.5.5.5", port=7001))) is Word.TOLD
    assert word_of(one, Known(path_host="5.5.5.5")) is Word.RELAY


NEIGHBOUR: dict[str, Any] = {"observed": frozenset({"203.0.113.5"})}


def test_what_a_relay_outside_passes_on_is_the_other_sides_word() -> None:
    """Of two that it sees at one address it passes private ones on, and has met nobody there."""
    known = Known(disclosed=at("192.168.1.7", "203.0.113.9"), **NEIGHBOUR)
    assert word_of(Endpoint("192.168.1.7", 7000), known) is Word.TOLD
    assert word_of(Endpoint("203.0.113.9", 7000), known) is Word.RELAY
    met = Known(met=at("192.168.1.7"), **NEIGHBOUR)
    assert word_of(Endpoint("192.168.1.7", 7000), met) is Word.RELAY
    inside = Known(disclosed=at("192.168.1.7"), observed=frozenset({"192.168.1.5"}))
    assert word_of(Endpoint("192.168.1.7", 7000), inside) is Word.RELAY


def test_it_is_dialed_in_a_network_of_this_host_alone() -> None:
    """Two who share the address of a provider's NAT are in different homes of the same numbers:
    but those that this host has no way into are never dialed, nor is a well-known service."""
    near = {"disclosed": at("192.168.1.7"), **NEIGHBOUR}
    assert said("192.168.1.7", **near) is None
    assert said("192.168.1.7", dial=Dial.PROVEN, **near) is not None
    for host in ("192.168.2.7", "10.0.0.7", "100.64.0.7"):
        assert said(host, disclosed=at(host), **NEIGHBOUR) is not None
    for port in (22, 443, 6379):
        known = {"disclosed": at("192.168.1.7", port=port), **NEIGHBOUR}
        assert said("192.168.1.7", port, **known) is not None
    assert said("192.168.1.5", disclosed=at("192.168.1.5"), **NEIGHBOUR) is not None
    for told in ("192.168.1.8", "192.168.1.5", "127.0.0.1"):
        assert said(told, **near) is not None, "it is no witness for another address"
