"""Whose word is taken for where somebody comes from."""

import pytest
from multidict import CIMultiDict

from relay.config import RelayConfig
from relay.http.forwarded import BadForwarding
from relay.http.origin import Origin, Proxies
from relay.http.proxy_header import ProxyHeader
from relay.server import RelayServer


class Guest:
    def drop(self, reason: str) -> None:
        pass


PROXIES = Proxies(["127.0.0.1", "10.0.0.0/8", "fd00::/8"])
NEAR = Origin("127.0.0.1", 40000)


def of(origin: Origin, *headers: tuple[str, str], proxies: Proxies = PROXIES) -> Origin:
    return proxies.of_request(origin, CIMultiDict(headers))


def test_who_comes_by_itself() -> None:
    stranger = Origin("192.0.2.7", 5)
    assert PROXIES.of_connection("192.0.2.7", 5, None) == stranger
    assert of(stranger) == stranger
    assert of(stranger, ("X-Forwarded-For", "192.0.2.9")) == stranger, "nobody trusts it"
    assert of(stranger, ("Forwarded", "malformed")) == stranger
    assert stranger.charged == stranger.text == "192.0.2.7"


@pytest.mark.parametrize(
    ("headers", "host", "port"),
    [
        ([("X-Forwarded-For", "192.0.2.7")], "192.0.2.7", 0),
        ([("x-forwarded-for", "192.0.2.7:51000")], "192.0.2.7", 51000),
        ([("Forwarded", 'for="[2001:db8::7]:51000"')], "2001:db8::7", 51000),
        ([("X-Forwarded-For", "192.0.2.66, 192.0.2.7, 10.1.1.1, 127.0.0.1")], "192.0.2.7", 0),
        ([("X-Forwarded-For", "x, 192.0.2.7"), ("X-Forwarded-For", "10.1.1.1")], "192.0.2.7", 0),
        ([("X-Forwarded-For", "192.0.2.66, unknown, 10.1.1.1")], "", 0),
        ([("X-Forwarded-For", "10.1.1.2, 10.1.1.1")], "", 0),
        ([("X-Forwarded-For", "::ffff:10.1.1.2")], "", 0),
        ([("X-Forwarded-For", "192.0.2.7"), ("Forwarded", 'for="192.0.2.7:5"')], "192.0.2.7", 5),
        ([("X-Forwarded-For", "unknown"), ("Forwarded", "for=unknown")], "", 0),
        ([("X-Real-IP", "192.0.2.7")], "", 0),
        ([], "", 0),
    ],
)
def test_by_a_trusted_proxy(headers: list[tuple[str, str]], host: str, port: int) -> None:
    found = of(NEAR, *headers)
    assert found == Origin(host, port, "127.0.0.1")
    assert found.charged == (host or "127.0.0.1")
    assert not PROXIES.trusts(found.host)


def test_headers_of_a_trusted_proxy_that_cannot_be_read() -> None:
    for name in ("X-Forwarded-For", "Forwarded"):
        with pytest.raises(BadForwarding):
            of(NEAR, (name, "nobody"))
    with pytest.raises(BadForwarding, match="different clients"):
        of(NEAR, ("X-Forwarded-For", "192.0.2.7"), ("Forwarded", "for=192.0.2.66"))
    with pytest.raises(BadForwarding, match="different clients"):
        of(NEAR, ("X-Forwarded-For", "192.0.2.7"), ("Forwarded", "for=unknown"))


def test_the_proxy_protocol_goes_before_headers() -> None:
    told = PROXIES.of_connection("127.0.0.1", 1, ProxyHeader(1, ("192.0.2.7", 5)))
    assert told == Origin("192.0.2.7", 5, "127.0.0.1")
    assert of(told, ("X-Forwarded-For", "192.0.2.66")) == told, "the client's own words"
    untold = PROXIES.of_connection("127.0.0.1", 1, ProxyHeader(1, None))
    assert untold == Origin("", 0, "127.0.0.1")
    assert of(untold, ("X-Forwarded-For", "192.0.2.66")) == untold
    assert untold.text == "unknown by 127.0.0.1"
    chained = PROXIES.of_connection("127.0.0.1", 1, ProxyHeader(1, ("10.0.0.2", 5)))
    assert of(chained, ("X-Forwarded-For", "192.0.2.7")).host == "192.0.2.7"
    assert of(chained) == Origin("", 0, "10.0.0.2"), "never a proxy's own address"


@pytest.mark.parametrize("host", ["127.0.0.1", "10.9.1.1", "::1", "fe80::1%lo"])
@pytest.mark.parametrize("hint", ["X-Forwarded-For", "Forwarded", "X-Real-IP", "Via"])
def test_a_near_proxy_that_nobody_named_is_not_the_peer(host: str, hint: str) -> None:
    nobody = Proxies(())
    assert of(Origin(host, 5), (hint, "192.0.2.66"), proxies=nobody) == Origin("", 0, host)
    assert of(Origin(host, 5), proxies=nobody) == Origin(host, 5)


def test_a_proxy_on_the_own_host_of_a_relay_that_only_listens_there() -> None:
    proxies = Proxies((), own_host=True)
    near = Origin("127.0.0.1", 4000)
    told = CIMultiDict({"X-Forwarded-For": "127.0.0.1, 203.0.113.9, 127.0.0.1"})
    assert proxies.of_request(near, told) == Origin("203.0.113.9", 0, "127.0.0.1")
    assert proxies.of_request(near, CIMultiDict()) == near, "a program on this host"
    assert proxies.of_request(near, CIMultiDict({"Via": "1.1 x"})) == Origin("", 0, "127.0.0.1")
    nobody = CIMultiDict({"X-Forwarded-For": "127.0.0.1"})
    assert proxies.of_request(near, nobody) == Origin("", 0, "127.0.0.1"), "never this host itself"
    elsewhere = Origin("10.0.0.1", 4000)
    assert proxies.of_request(elsewhere, told) == Origin("", 0, "10.0.0.1")
    assert not proxies.trusts("127.0.0.1"), "no PROXY header is read"


@pytest.mark.parametrize(
    ("host", "listed", "expected"),
    [
        ("127.0.0.1", None, True),
        (("127.0.0.1", "::1"), None, True),
        ("localhost", None, True),
        ("127.0.0.1", (), False),
        ("0.0.0.0", None, False),
        (("127.0.0.1", "192.0.2.1"), None, False),
    ],
)
def test_when_it_is_believed(
    host: str | tuple[str, ...], listed: tuple[str, ...] | None, expected: bool
) -> None:
    relay = RelayServer(RelayConfig(host=host, trusted_proxies=listed))
    origin = Origin("127.0.0.1", 4000)
    headers = CIMultiDict({"X-Forwarded-For": "203.0.113.9"})
    believed = relay.doorkeeper.origin(Guest(), origin, headers)
    assert (believed.host == "203.0.113.9") is expected
