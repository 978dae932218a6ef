"""What passes through a proxy: learned where nobody names it, asked for where somebody does."""

import contextlib
import errno
import logging
import socket
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from peers import Carrier, Identity, Mode, Peer, PeerConfig, RelayUnavailable
from peers.tasks import Tasks
from peers.transport import RelayAddress, Trust, open_upgraded
from peers.transport.proxies import ConnectRequest, KnownCarriers, proxy_for
from peers.transport.websocket import WebSocketStream
from protocol.errors import Code
from relay.config import RelayConfig
from relay.server import RelayServer
from tests.relay.certificates import certificate
from tests.support.picky_proxy import PickyProxy, picky_proxy

RAW_FIRST = (Carrier.RAW, Carrier.WEBSOCKET)
_REFUSAL = b'{"code":"bad_message","reason":"ask for an upgrade"}'
ANSWERS = {
    "a page": b"HTTP/1.1 403 Forbidden\r\nContent-Length: 4\r\n\r\nno!\n",
    "the relay's 426": b"HTTP/1.1 426 Upgrade Required\r\nContent-Length: %d\r\n\r\n%b"
    % (len(_REFUSAL), _REFUSAL),
    "no HTTP": b"\x15\x03\x01\x00\x02\x02\x28",
    "the end": b"",
    "a reset": None,
}


# -- what is remembered ---------------------------------------------------------------------------


def test_what_passes_is_remembered_by_relay_and_network_for_a_while() -> None:
    known = KnownCarriers()
    assert known.in_order("relay.example:80", "192.0.2.1", 0.0) == RAW_FIRST
    known.put("relay.example:80", "192.0.2.1", Carrier.WEBSOCKET, 0.0)
    assert known.in_order("relay.example:80", "192.0.2.1", 3599.0) == RAW_FIRST[::-1]
    assert known.in_order("relay.example:80", "192.0.2.1", 3600.0) == RAW_FIRST
    assert known.in_order("relay.example:80", "192.0.2.2", 1.0) == RAW_FIRST, "another network"
    assert known.in_order("other.example:80", "192.0.2.1", 1.0) == RAW_FIRST, "another relay"
    known.put("relay.example:80", "192.0.2.1", Carrier.RAW, 1.0)
    assert known.in_order("relay.example:80", "192.0.2.1", 2.0) == RAW_FIRST


def test_networks_that_are_remembered_have_a_bound() -> None:
    known = KnownCarriers(limit=2)
    for host in "abc":
        known.put("relay", host, Carrier.WEBSOCKET, 0.0)
    assert [known.in_order("relay", host, 1.0)[0] for host in "abc"] == [
        Carrier.RAW,
        Carrier.WEBSOCKET,
        Carrier.WEBSOCKET,
    ]


# -- what the environment names -------------------------------------------------------------------


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return monkeypatch


def test_the_environment_names_a_proxy_for_each_scheme(environment: pytest.MonkeyPatch) -> None:
    relay = URL("https://relay.example:8440")
    assert proxy_for(relay) is None
    environment.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    assert proxy_for(relay) == URL("http://proxy.example:3128")
    assert proxy_for(URL("http://relay.example")) is None
    environment.setenv("no_proxy", "relay.example")
    assert proxy_for(relay) is None
    environment.setenv("no_proxy", "")
    environment.setenv("https_proxy", "proxy.example:3128")
    assert proxy_for(relay) == URL("http://proxy.example:3128")


@pytest.mark.parametrize(
    "text",
    [
        "http://a..b:1",
        "http://xn--a:1",
        "http://s3cret@:1",
        "http://" + "x" * 70,
        "::",
        "socks5://127.0.0.1:9",
    ],
)
def test_what_is_no_proxy_is_passed_over_and_its_password_not_shown(
    environment: pytest.MonkeyPatch, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    environment.setenv("https_proxy", text)
    with caplog.at_level(logging.INFO, "peers"):
        assert proxy_for(URL("https://relay.example")) is None
    assert "https_proxy" in caplog.text
    assert "s3cret" not in caplog.text


def test_a_proxy_is_asked_by_connect() -> None:
    request = ConnectRequest(URL("http://u:p@proxy.example:3128"), "relay.example:443")
    assert request.to_send() == (
        b"CONNECT relay.example:443 HTTP/1.1\r\nHost: relay.example:443\r\n"
        b"Proxy-Authorization: Basic dTpw\r\n\r\n"
    )
    answer = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 200 Connection established\r\n\r\n"
    assert [request.receive(answer[at : at + 1]) for at in range(len(answer))][-1]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "407"),
        (b"", "hung up|speak"),
        (b"SSH-2.0-x\r\n\r\n", "does not speak HTTP"),
    ],
)
def test_a_proxy_that_refuses_is_said(answer: bytes, reason: str) -> None:
    request = ConnectRequest(URL("http://proxy.example"), "relay.example:443")
    request.to_send()
    with pytest.raises(RelayUnavailable, match=reason):
        request.receive(answer)


@given(st.binary(max_size=200))
def test_any_bytes_from_a_proxy_are_an_answer_or_our_error(data: bytes) -> None:
    request = ConnectRequest(URL("http://proxy.example"), "relay.example:443")
    request.to_send()
    with contextlib.suppress(RelayUnavailable):
        request.receive(b"HTTP/1.1 " + data)


# -- with a relay behind one ----------------------------------------------------------------------


def is_websocket(head: bytes) -> bool:
    return b"upgrade: websocket" in head.lower()


def answers(always: bool, head: bytes) -> bool:
    return always


async def talks(alice: Peer, bob: Peer, service: str = "chat") -> None:
    listener = alice.listen(service)
    await alice.published()
    session = await bob.connect(alice.guid, service, mode=Mode.CENTRAL)
    there = await anext(listener)
    await session.send(b"hello")
    assert await there.receive() == b"hello"
    await session.close()


@pytest.mark.parametrize("answer", list(ANSWERS.values()), ids=list(ANSWERS))
async def test_where_only_websockets_pass_they_are_taken_by_itself_and_remembered(
    relay: RelayServer, answer: bytes | None
) -> None:
    async with picky_proxy(relay.url, is_websocket, answer) as proxy:
        url = f"http://127.0.0.1:{proxy.port}"
        async with Peer(Identity.generate(), url) as alice, Peer(Identity.generate(), url) as bob:
            assert proxy.count(b"upgrade: roam-relay") == 2, "each has tried once"
            await talks(alice, bob)
            assert proxy.count(b"upgrade: roam-relay") == 2, "the legs know"
            assert proxy.count(b"get /v1/plane") == 2
            proxy.passes = lambda head: not is_websocket(head)
            for connection in list(relay.connections):
                connection.abort("cut by the test")
            async with Peer(Identity.generate(), url):
                pass
            await talks(alice, bob, "later")
            assert proxy.count(b"upgrade: roam-relay") > 2, "and back, where they pass no more"


@pytest.mark.parametrize("carrier", list(Carrier))
async def test_a_carrier_that_is_configured_is_a_demand_and_the_error_names_it(
    relay: RelayServer, carrier: Carrier
) -> None:
    async with picky_proxy(relay.url, lambda head: False, ANSWERS["a page"]) as proxy:
        there = RelayAddress(f"http://127.0.0.1:{proxy.port}")
        with pytest.raises(RelayUnavailable, match=f"'carrier' demands {carrier}"):
            await open_upgraded(there, "/v1/control", carrier, spawn=Tasks().spawn, timeout=30)
        assert [is_websocket(head) for head in proxy.heads] == [carrier is Carrier.WEBSOCKET]
        with pytest.raises(RelayUnavailable, match=r"403.*403.*neither carrier passes"):
            await open_upgraded(there, "/v1/control", None, spawn=Tasks().spawn, timeout=30)
        assert [is_websocket(head) for head in proxy.heads[1:]] == [False, True]


async def test_what_the_relay_says_by_a_code_of_its_own_is_asked_once(relay: RelayServer) -> None:
    async with picky_proxy(relay.url, lambda head: True, None) as proxy:
        there = RelayAddress(f"http://127.0.0.1:{proxy.port}")
        with pytest.raises(RelayUnavailable) as refused:
            await open_upgraded(there, "/v1/plane/x", None, spawn=Tasks().spawn, timeout=30)
        assert refused.value.code is Code.TICKET_UNKNOWN
        assert len(proxy.heads) == 1


@pytest.fixture
async def secure(tmp_path: Path) -> AsyncIterator[tuple[RelayServer, PeerConfig]]:
    chain, secret = certificate(tmp_path)
    config = RelayConfig(port=0, tls_certificate=chain, tls_key=secret)
    async with RelayServer(config) as server:
        yield server, PeerConfig(relay_ca=chain, connect_timeout=30.0)


def of_environment(proxy: PickyProxy, environment: pytest.MonkeyPatch) -> None:
    environment.setenv("https_proxy", f"http://u:p@127.0.0.1:{proxy.port}")


async def test_https_goes_through_the_proxy_that_the_environment_names(
    secure: tuple[RelayServer, PeerConfig], environment: pytest.MonkeyPatch
) -> None:
    relay, config = secure
    async with picky_proxy(relay.url, lambda head: True, None) as proxy:
        of_environment(proxy, environment)
        async with (
            Peer(Identity.generate(), relay.url, config=config) as alice,
            Peer(Identity.generate(), relay.url, config=config) as bob,
        ):
            await talks(alice, bob)
        assert len(proxy.heads) == 4, "two flows and two legs"
        assert all(head.startswith(b"CONNECT 127.0.0.1:") for head in proxy.heads)
        assert proxy.count(b"proxy-authorization: basic dtpw") == 4


@pytest.mark.parametrize("named", ["socks5://127.0.0.1:9", "s3cret@", "http://a..b:1"])
async def test_a_proxy_that_cannot_be_asked_leaves_the_direct_way(
    secure: tuple[RelayServer, PeerConfig], environment: pytest.MonkeyPatch, named: str
) -> None:
    relay, config = secure
    environment.setenv("https_proxy", named)
    async with Peer(Identity.generate(), relay.url, config=config) as peer:
        assert peer.relay_guid == relay.guid


async def test_where_a_plain_relay_is_reached_by_the_proxy_alone_a_websocket_is_taken(
    relay: RelayServer, environment: pytest.MonkeyPatch
) -> None:
    async with picky_proxy(relay.url, is_websocket, None) as proxy:
        environment.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
        environment.setattr("peers.transport.upgrade.dial_relay", unreachable)
        async with Peer(Identity.generate(), "http://relay.invalid:8440") as peer:
            assert peer.relay_guid == relay.guid
        assert proxy.heads[0].startswith(b"GET http://relay.invalid:8440/v1/control ")


async def unreachable(*arguments: object) -> None:
    raise OSError(errno.ENETUNREACH, "Network is unreachable")


@pytest.mark.parametrize("answer", [ANSWERS["a page"], None], ids=["403", "reset"])
async def test_a_proxy_that_does_not_let_through_leaves_the_direct_way(
    secure: tuple[RelayServer, PeerConfig],
    environment: pytest.MonkeyPatch,
    answer: bytes | None,
) -> None:
    relay, config = secure
    async with picky_proxy(relay.url, lambda head: False, answer) as proxy:
        of_environment(proxy, environment)
        async with Peer(Identity.generate(), relay.url, config=config) as peer:
            assert peer.relay_guid == relay.guid
        assert proxy.heads


async def test_a_proxy_that_says_nothing_leaves_the_direct_way_too(
    secure: tuple[RelayServer, PeerConfig], environment: pytest.MonkeyPatch
) -> None:
    relay, config = secure
    there = RelayAddress(relay.url, trust=Trust(config.relay_ca))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        environment.setenv("https_proxy", "http://127.0.0.1:{1}".format(*silent.getsockname()))
        opened = await open_upgraded(there, "/v1/control", None, spawn=Tasks().spawn, timeout=1.0)
        opened.stream.abort()


async def test_a_websocket_goes_the_way_that_was_found_for_the_raw_carrier(
    secure: tuple[RelayServer, PeerConfig], environment: pytest.MonkeyPatch
) -> None:
    """By the tunnel, or directly where the proxy refuses that: no other is tried for it."""
    relay, config = secure
    there = RelayAddress(relay.url, trust=Trust(config.relay_ca))
    there.trips.carriers.put(there.authority, "127.0.0.1", Carrier.WEBSOCKET, 1e9)
    tasks = Tasks()
    for passes in (True, False):
        async with picky_proxy(relay.url, partial(answers, passes), None) as proxy:
            of_environment(proxy, environment)
            opened = await open_upgraded(there, "/v1/control", None, spawn=tasks.spawn, timeout=60)
            assert isinstance(opened.stream, WebSocketStream)
            assert len(proxy.heads) == 1
            opened.stream.abort()
    await tasks.close()
