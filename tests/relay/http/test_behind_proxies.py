"""The relay behind real proxies, as docs/deploy.md sets them up: whose address is whose."""

import asyncio
import base64
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
from msgspec import structs

from peers import Peer, PeerConfig, RelayUnavailable
from peers.config import CarrierKind
from protocol.codec import encode_location
from protocol.endpoint import read_entry
from protocol.identity import Identity
from protocol.messages import (
    WEBSOCKET_PROTOCOL,
    LocationRecord,
    Mode,
    Registered,
    ServiceAnswer,
    ServiceRecord,
    ServiceRequestFrom,
    ServiceRequestTo,
    ServiceResponse,
    Verdict,
)
from relay.config import RelayConfig
from relay.server import RelayServer
from tests.relay.certificates import certificate
from tests.relay.client import Client
from tests.support.ports import free_port
from tests.support.proxies import changed, configuration, proxy

BOB, ALICE, PROXY = "127.0.0.5", "127.0.0.6", "127.0.0.1"


@dataclass(frozen=True)
class Way:
    """How a proxy is set up, and what is known behind it."""

    kind: str
    piece: str
    changes: dict[str, str]
    tells_port: bool = False
    relay_has_tls: bool = False


WAYS = {
    "nginx": Way("nginx", "nginx", {"listen 443": "listen 127.0.0.1:{port}"}),
    "caddy": Way(
        "caddy",
        "caddy",
        {"relay.example.org {": "https://127.0.0.1:{port} {\n tls {chain} {key}"},
    ),
    "haproxy-http": Way("haproxy", "haproxy-http", {":443": "127.0.0.1:{port}"}),
    "proxy-v1": Way(
        "haproxy",
        "haproxy",
        {":443": "127.0.0.1:{port}", "send-proxy-v2 check": "send-proxy check inter 200"},
        tells_port=True,
    ),
    "proxy-v2": Way(
        "haproxy",
        "haproxy",
        {":443": "127.0.0.1:{port}", "check": "check inter 200"},
        tells_port=True,
    ),
    "proxy-before-tls": Way(
        "haproxy",
        "haproxy",
        {
            ":443 ssl crt /etc/ssl/relay.both.pem": "127.0.0.1:{port}",
            " check": " check inter 200 check-ssl verify none",
        },
        tells_port=True,
        relay_has_tls=True,
    ),
}


@dataclass(frozen=True)
class Behind:
    """A relay and the proxy in front of it."""

    relay: RelayServer
    way: Way
    port: int
    trust: ssl.SSLContext

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    async def ask(self, source: str, target: str, headers: str) -> tuple[Client, bytes]:
        """Send a request by TLS; return the streams in a client, and the answer's head."""
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.port, ssl=self.trust, local_addr=(source, 0)
        )
        writer.write(f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\n{headers}\r\n".encode())
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
        return Client(Identity.generate(), reader, writer), head


@asynccontextmanager
async def behind(way: Way, folder: Path, **more: str) -> AsyncIterator[Behind]:
    chain, key = certificate(folder)
    (folder / "both.pem").write_bytes(Path(chain).read_bytes() + Path(key).read_bytes())
    config = RelayConfig(
        port=0,
        trusted_proxies=(PROXY,),
        tls_certificate=chain if way.relay_has_tls else None,
        tls_key=key if way.relay_has_tls else None,
    )
    async with RelayServer(config) as relay:
        port = free_port()
        text = configuration(way.piece)
        names = {"{port}": str(port), "{chain}": chain, "{key}": key}
        for old, new in way.changes.items():
            for name, value in names.items():
                new = new.replace(name, value)
            text = changed(text, {old: new})
        text = changed(text, {"127.0.0.1:8440": f"127.0.0.1:{relay.url.rpartition(':')[2]}"} | more)
        text = text.replace("/etc/ssl/relay.both.pem", str(folder / "both.pem"))
        text = text.replace("/etc/ssl/relay.pem", chain).replace("/etc/ssl/relay.key", key)
        async with proxy(way.kind, text, port, folder):
            yield Behind(relay, way, port, ssl.create_default_context(cafile=chain))


RAW = "Connection: Upgrade\r\nUpgrade: roam-relay/1\r\n"
FORGED = "X-Forwarded-For: 192.0.2.66\r\nForwarded: for=192.0.2.66\r\nX-Real-IP: 192.0.2.66\r\n"


class WebSocketStreams:
    """A WebSocket, as a `Client` takes streams."""

    def __init__(self, websocket: aiohttp.ClientWebSocketResponse) -> None:
        self._websocket = websocket
        self._waiting: list[bytes] = []
        self._task: asyncio.Task[None] | None = None

    async def read(self, size: int) -> bytes:
        message = await self._websocket.receive()
        return bytes(message.data) if message.type is aiohttp.WSMsgType.BINARY else b""

    def write(self, data: bytes) -> None:
        self._waiting.append(data)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._send())

    async def _send(self) -> None:
        while self._waiting:
            await self._websocket.send_bytes(self._waiting.pop(0))


@pytest.mark.parametrize("name", WAYS)
async def test_who_is_who(name: str, tmp_path: Path) -> None:
    async with (
        behind(WAYS[name], tmp_path) as there,
        aiohttp.ClientSession(
            there.url,
            connector=aiohttp.TCPConnector(ssl=there.trust, local_addr=(ALICE, 0)),
            headers={"X-Forwarded-For": "192.0.2.66", "Forwarded": "for=192.0.2.66"},
        ) as http,
        http.ws_connect("/v1/control", protocols=(WEBSOCKET_PROTOCOL,)) as websocket,
    ):
        bob, head = await there.ask(BOB, "/v1/control", RAW + FORGED)
        assert b" 101 " in head.split(b"\r\n")[0]
        streams = WebSocketStreams(websocket)
        alice = Client(Identity.generate(), streams, streams)  # type: ignore[arg-type]
        assert (await alice.register()).observed_host == ALICE

        # Bob says that he is where he is, and at the proxy, which the relay serves on.
        await bob.hello()
        seq = 1
        entries = tuple(bob.entry("chat", seq, host, 4000) for host in (BOB, PROXY))
        record = LocationRecord(seq, (ServiceRecord("chat", entries),))
        bob.send(bob.signed_register(encode_location(record)))
        registered = await bob.expect(Registered)
        assert registered.observed_host == BOB
        own_port = bob.writer.get_extra_info("sockname")[1]
        assert registered.observed_port == (own_port if there.way.tells_port else 0)

        alice.send(ServiceRequestTo(1, bob.identity.guid, "chat", Mode.P2P, b"s" * 16))
        answer = await alice.expect(ServiceResponse)
        assert [read_entry(entry).host for entry in answer.entries] == [BOB]
        async with http.get(f"/v1/peers/{bob.identity.guid}/services/chat") as response:
            told = await response.json()
            assert [endpoint["host"] for endpoint in told["endpoints"]] == [BOB]
        assert not there.relay.proofs.working, "the relay dials nothing on its own host"

        await by_plane(there, http, alice, bob)
        bob.writer.close()
        assert there.relay.metrics.refusals == {}


async def by_plane(there: Behind, http: aiohttp.ClientSession, alice: Client, bob: Client) -> None:
    """Join a plane, one leg on each carrier, and pass bytes both ways."""
    alice.send(ServiceRequestTo(2, bob.identity.guid, "chat", Mode.CENTRAL, b"t" * 16))
    asked = await bob.expect(ServiceRequestFrom)
    bob.send(ServiceAnswer(asked.request, Verdict.ACCEPTED))
    answer = await alice.expect(ServiceResponse)
    assert answer.ticket is not None
    assert asked.ticket is not None
    target = alice.plane_target(answer.ticket, there.relay.guid)
    async with http.ws_connect(target, protocols=(WEBSOCKET_PROTOCOL,)) as first:
        early = base64.b64encode(b"early").decode()
        leg, head = await there.ask(
            BOB,
            bob.plane_target(asked.ticket, there.relay.guid),
            f"{RAW}Roam-Relay-Early: {early}\r\n",
        )
        assert b" 101 " in head.split(b"\r\n")[0]
        assert b"roam-relay-resume:" in head.lower()
        assert (await first.receive_bytes(timeout=30)) == b"early"
        await first.send_bytes(b"there")
        assert await asyncio.wait_for(leg.reader.readexactly(5), 60) == b"there"
        leg.writer.write(b"back")
        assert (await first.receive_bytes(timeout=30)) == b"back"
        leg.writer.close()


async def test_a_proxy_that_drops_the_upgrade_is_told_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    drops = {"        proxy_set_header Upgrade $http_upgrade;\n": ""}
    async with behind(WAYS["nginx"], tmp_path, **drops) as there:
        for target in ("/v1/control", f"/v1/plane/{'0' * 32}"):
            client, head = await there.ask(BOB, target, RAW)
            assert b" 426 " in head.split(b"\r\n")[0]
            length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            reason = json.loads(await client.reader.readexactly(length))["reason"]
            assert "the proxy at 127.0.0.1 drops the Upgrade header" in reason
            client.writer.close()
        assert there.relay.metrics.refusals["stripped_upgrade"] == 2
    assert "drops the Upgrade header" in caplog.text


async def test_a_peer_behind_it_is_told_the_same(tmp_path: Path) -> None:
    """Also by a proxy that says nothing of itself, as nginx does that is told nothing."""
    lines = configuration("nginx").splitlines(keepends=True)
    drops = {line: "" for line in lines if "proxy_set_header" in line and "Host" not in line}
    async with behind(WAYS["nginx"], tmp_path, **drops) as there:
        trust = PeerConfig(relay_ca=str(tmp_path / "chain.pem"), connect_timeout=5.0)
        for carrier in CarrierKind:
            config = structs.replace(trust, carrier=carrier)
            with pytest.raises(RelayUnavailable, match="drops the Upgrade header"):
                async with Peer(Identity.generate(), there.url, config=config):
                    pass
        assert there.relay.metrics.refusals["stripped_upgrade"] >= 1


WEBSOCKET = (
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    f"Sec-WebSocket-Protocol: {WEBSOCKET_PROTOCOL}\r\n"
)


@pytest.mark.parametrize(
    ("headers", "says", "reason"),
    [
        (WEBSOCKET, "a proxy on the way drops the Upgrade header", "stripped_upgrade"),
        (
            WEBSOCKET + "Upgrade: websocket\r\nConnection: close\r\n",
            "a proxy on the way drops 'Connection: upgrade'",
            "stripped_upgrade",
        ),
        (
            "Via: 1.1 a\r\nUpgrade: roam-relay/1\r\nConnection: close\r\n",
            "the proxy at 127.0.0.1 drops 'Connection: upgrade'",
            "stripped_upgrade",
        ),
        ("Via: 1.1 a\r\n", "the proxy at 127.0.0.1 drops the Upgrade header", "stripped_upgrade"),
        ("Upgrade: h2c\r\nConnection: upgrade\r\n", "ask for an upgrade to", "upgrade_required"),
        ("", "a proxy on the way drops the Upgrade header", "upgrade_required"),
    ],
    ids=["websocket", "connection", "raw-connection", "raw", "other", "nothing"],
)
@pytest.mark.parametrize("path", ["/v1/control", f"/v1/plane/{'0' * 32}"])
async def test_what_a_proxy_has_dropped_is_said(
    relay: RelayServer, headers: str, says: str, reason: str, path: str
) -> None:
    """Where nothing shows whether there is one, it may have been somebody's browser."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(relay.url.rpartition(":")[2]))
    writer.write(f"GET {path} HTTP/1.1\r\nHost: r\r\n{headers}\r\n".encode())
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
    length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
    said = json.loads(await reader.readexactly(length))["reason"]
    writer.close()
    assert b" 426 " in head.split(b"\r\n")[0]
    assert says in said
    assert relay.metrics.refusals == {reason: 1}


async def test_a_proxy_that_nobody_named_is_not_the_peer(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The relay does not believe it; but it knows that its peers are not on its own host."""
    async with RelayServer(RelayConfig(port=0, trusted_proxies=())) as relay:
        port = free_port()
        chain, key = certificate(tmp_path)
        text = changed(
            configuration("nginx"),
            {
                "listen 443": f"listen 127.0.0.1:{port}",
                "/etc/ssl/relay.pem": chain,
                "/etc/ssl/relay.key": key,
                "127.0.0.1:8440": f"127.0.0.1:{relay.url.rpartition(':')[2]}",
            },
        )
        async with proxy("nginx", text, port, tmp_path):
            there = Behind(relay, WAYS["nginx"], port, ssl.create_default_context(cafile=chain))
            for _ in range(2):
                bob, _ = await there.ask(BOB, "/v1/control", RAW)
                registered = await bob.register("chat")
                assert (registered.observed_host, registered.observed_port) == ("", 0)
                assert not relay.proofs.working
                bob.writer.close()
    assert caplog.text.count('trusted_proxies = ["127.0.0.1"]') == 1


@pytest.mark.parametrize("carrier", list(CarrierKind))
@pytest.mark.parametrize("name", ["nginx", "proxy-v2"])
async def test_peers_whose_address_nobody_knows(
    name: str, carrier: CarrierKind, tmp_path: Path
) -> None:
    """They come from the proxy's own address: nothing is observed, and the relay joins them."""
    async with behind(WAYS[name], tmp_path) as there:
        config = PeerConfig(carrier=carrier, relay_ca=str(tmp_path / "chain.pem"))
        async with (
            Peer(Identity.generate(), there.url, config=config) as bob,
            Peer(Identity.generate(), there.url, config=config) as alice,
        ):
            listener = bob.listen("chat")
            await bob.published()
            for mode in (Mode.CENTRAL, Mode.COMBINED):
                here = await alice.connect(bob.guid, "chat", mode=mode)
                beyond = await anext(listener)
                await here.send(b"hello")
                assert await beyond.receive() == b"hello"
                await here.close()
        assert there.relay.metrics.refusals == {}
