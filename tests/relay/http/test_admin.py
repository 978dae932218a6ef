"""Metrics and health for operators: at an address of their own, or for this host, or by a token."""

import asyncio
import os
import ssl
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from msgspec import structs

from relay.config import ConfigError, RelayConfig, load
from relay.server import RelayServer
from tests.relay.certificates import certificate
from tests.support.ports import free_port

TOKEN = "a-token-of-enough-characters"
WRONG = (
    {},
    {"Authorization": "Bearer wrong"},
    {"Authorization": f"Basic {TOKEN}"},
    {"Authorization": "Bearer"},
    {"Authorization": f"Bearer {TOKEN}x"},
    {"Authorization": "Bearer \udcc3\udca9"},
)
RIGHT = {"Authorization": f"Bearer {TOKEN}"}


def token_file(folder: Path, text: str = f"{TOKEN}\n", mode: int = 0o600) -> str:
    file = folder / "token"
    file.write_text(text)
    file.chmod(mode)
    return str(file)


async def get(
    url: str, headers: dict[str, str] | None = None, trust: ssl.SSLContext | None = None
) -> tuple[int, str]:
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as http,
        http.get(url, headers=headers, ssl=trust or False) as answer,
    ):
        return answer.status, await answer.text()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "relay.example", "127.0.0.1,::"])
def test_an_address_that_others_reach_wants_a_token(host: str, tmp_path: Path) -> None:
    outside = host.rpartition(",")[2]
    with pytest.raises(ConfigError) as caught:
        RelayConfig(admin_host=host)
    assert str(caught.value) == (
        f"admin_host: other machines reach {outside}, and the metrics are not for everybody: name "
        "a file with a token as 'admin_token', or listen on 127.0.0.1 or ::1"
    )
    RelayConfig(admin_host=host, admin_token=token_file(tmp_path))
    with pytest.raises(ConfigError, match="admin_host: other machines reach"):
        load(None, {"ROAM_RELAY_ADMIN_HOST": host}, {})


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost", "127.0.0.1,::1"])
def test_one_of_this_host_does_not(host: str) -> None:
    assert RelayConfig(admin_host=host).admin_hosts == tuple(host.split(","))


@pytest.mark.parametrize("host", ["", ",", "a..b"])
def test_what_is_no_address_is_said(host: str) -> None:
    with pytest.raises(ConfigError, match="admin_host: "):
        RelayConfig(admin_host=host)


async def test_metrics_are_at_the_address_of_their_own_and_nowhere_else() -> None:
    async with RelayServer(RelayConfig(port=0, admin_host="127.0.0.1", admin_port=0)) as relay:
        (admin,) = relay.admin_urls
        assert admin != relay.url
        assert "roam_relay_registrations_total" in (await get(f"{admin}/metrics"))[1]
        assert (await get(f"{relay.url}/metrics"))[0] == 404
        for url in (admin, relay.url):
            for path in ("/healthz", "/readyz"):
                assert (await get(url + path))[0] == 200
        for path in ("/v1/control", f"/v1/plane/{'0' * 32}", "/v1/peers/a/services/b"):
            assert (await get(admin + path))[0] == 404
    with pytest.raises(aiohttp.ClientError):
        await get(f"{admin}/healthz")


@pytest.mark.parametrize("own_address", [True, False])
async def test_a_token_is_asked_for_where_there_is_one(tmp_path: Path, own_address: bool) -> None:
    settings: dict[str, Any] = {"admin_host": "127.0.0.1"} if own_address else {}
    config = RelayConfig(port=0, admin_port=0, admin_token=token_file(tmp_path), **settings)
    async with RelayServer(config) as relay:
        url = relay.admin_urls[0] if own_address else relay.url
        for headers in WRONG:
            code, text = await get(f"{url}/metrics", headers)
            assert code == 401
            assert "Authorization: Bearer" in text
            assert "roam_relay_" not in text
        assert relay.metrics.refusals["bad_token"] == len(WRONG)
        code, text = await get(f"{url}/metrics", RIGHT)
        assert (code, "roam_relay_" in text) == (200, True)
        for path in ("/healthz", "/readyz"):
            assert (await get(url + path))[0] == 200, "who looks after it has no token"


async def test_without_one_the_metrics_are_for_this_host_alone() -> None:
    """By whatever address it comes; not for whom a proxy brings, or another host sends."""
    config = RelayConfig(host="127.0.0.1,::1", port=0, trusted_proxies=("127.0.0.7",))
    async with RelayServer(config) as relay:
        for url in relay.urls:
            assert (await get(f"{url}/metrics"))[0] == 200
        # As a proxy on this host passes it on, named or not.
        brought = {"X-Forwarded-For": "203.0.113.9"}
        code, text = await get(f"{relay.url}/metrics", brought)
        assert code == 403
        assert "admin_token" in text
        assert "admin_host" in text
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", int(relay.url.rpartition(":")[2]), local_addr=("127.0.0.7", 0)
        )
        writer.write(
            b"PROXY TCP4 203.0.113.9 127.0.0.1 5 6\r\nGET /metrics HTTP/1.0\r\nHost: r\r\n\r\n"
        )
        assert b" 403 " in await asyncio.wait_for(reader.readline(), 60)
        writer.close()
        assert relay.metrics.refusals["not_for_others"] == 2


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "cannot be read"),
        ("", "at least 16"),
        ("short", "at least 16"),
        ("x" * 16 + " y", "no spaces"),
        ("\xe9" * 20, "no spaces"),
        ("x" * 5_000, "at most"),
    ],
)
async def test_a_token_that_is_none_is_said(tmp_path: Path, text: str | None, says: str) -> None:
    file = str(tmp_path / "none") if text is None else token_file(tmp_path, text)
    with pytest.raises(ConfigError, match=f"admin_token: .*{says}"):
        async with RelayServer(RelayConfig(port=0, admin_token=file)):
            pass


async def test_a_new_token_is_read_with_a_reload_and_a_bad_one_is_not_taken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = RelayConfig(port=0, admin_token=token_file(tmp_path, mode=0o644))
    async with RelayServer(config) as relay:
        assert "others may read" in caplog.text
        token_file(tmp_path, "another-token-of-enough-characters")
        assert (await get(f"{relay.url}/metrics", RIGHT))[0] == 200
        assert relay.reload(config) == ()
        assert (await get(f"{relay.url}/metrics", RIGHT))[0] == 401
        token_file(tmp_path, "short")
        with pytest.raises(ConfigError, match="at least 16"):
            relay.reload(config)
        new = {"Authorization": "Bearer another-token-of-enough-characters"}
        assert (await get(f"{relay.url}/metrics", new))[0] == 200
        moved = structs.replace(config, admin_host="127.0.0.1", admin_token=None)
        assert relay.reload(moved) == ("admin_host",)
        assert (await get(f"{relay.url}/metrics"))[0] == 200, "this host, without a token"


async def test_off_loopback_it_is_as_encrypted_as_the_relay(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    chain, key = certificate(tmp_path)
    config = RelayConfig(
        port=0, admin_host="0.0.0.0", admin_port=0, admin_token=token_file(tmp_path)
    )
    async with RelayServer(config) as relay:
        port = relay.admin_urls[0].rpartition(":")[2]
        assert (await get(f"http://127.0.0.1:{port}/metrics", RIGHT))[0] == 200
        assert "admin_token is sent unencrypted" in caplog.text
    caplog.clear()
    with_tls = structs.replace(config, tls_certificate=chain, tls_key=key)
    async with RelayServer(with_tls) as relay:
        (admin,) = relay.admin_urls
        assert admin.startswith("https://0.0.0.0:")
        trust = ssl.create_default_context(cafile=chain)
        url = admin.replace("0.0.0.0", "127.0.0.1")
        assert (await get(f"{url}/metrics", RIGHT, trust))[0] == 200
        assert "unencrypted" not in caplog.text
    here = structs.replace(with_tls, admin_host="127.0.0.1")
    async with RelayServer(here) as relay:
        assert relay.admin_urls[0].startswith("http://"), "nobody is on the way"


async def test_its_port_is_given_to_the_next_relay_as_the_others_are() -> None:
    config = RelayConfig(port=0, admin_host="127.0.0.1", admin_port=free_port())
    async with RelayServer(config) as last:
        with pytest.raises(ConfigError, match=r"admin: cannot listen on 127\.0\.0\.1 port"):
            async with RelayServer(config):
                pass
        await last.drain()
        assert (await get(f"{last.admin_urls[0]}/readyz"))[0] == 503
        assert (await get(f"{last.admin_urls[0]}/healthz"))[0] == 200
        async with RelayServer(config) as following:
            assert following.admin_urls == last.admin_urls
            assert (await get(f"{following.admin_urls[0]}/readyz"))[0] == 200


async def test_whoever_comes_there_has_the_same_deadlines(tmp_path: Path) -> None:
    config = RelayConfig(
        port=0,
        handshake_timeout=0.1,
        admin_host="0.0.0.0",
        admin_port=0,
        admin_token=token_file(tmp_path),
    )
    async with RelayServer(config) as relay:
        before = len(os.listdir("/proc/self/fd"))
        port = int(relay.admin_urls[0].rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await asyncio.wait_for(reader.read(), 60) == b""
        writer.close()
        await writer.wait_closed()
        assert relay.metrics.refusals == {"silent": 1}
        assert len(os.listdir("/proc/self/fd")) == before
