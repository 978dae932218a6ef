"""`peer doctor`: what it says of a network, with relays and what stands in their place as they are.

What each fact means is in tests/peers/reach/test_diagnosis.py; firewalls and NATs of the kernel are
in tests/lab/test_doctor.py.
"""

import asyncio
import json
from email.utils import formatdate
from pathlib import Path
from time import time
from typing import Any

import pytest

from peers import Identity, Peer, PeerConfig
from peers.cli import examination
from relay.config import RelayConfig
from relay.server import RelayServer
from tests.peers.cli.commands import peer, run_peer
from tests.relay.certificates import certificate
from tests.support.picky_proxy import picky_proxy
from tests.support.ports import free_port
from tests.support.servers import serving


async def findings(*arguments: str) -> tuple[int, dict[str, list[dict[str, Any]]], str]:
    """Run `peer … doctor --json`; return the exit code, the findings by what they are about, and
    what was said on standard error."""
    code, out, err = await run_peer(*arguments, "doctor", "--json")
    found: dict[str, list[dict[str, Any]]] = {}
    for one in map(json.loads, out.splitlines()):
        found.setdefault(one["about"], []).append(one)
    return code, found, err


def levels(found: dict[str, list[dict[str, Any]]], about: str) -> list[str]:
    return [one["level"] for one in found[about]]


@pytest.fixture
def base(relay: RelayServer, tmp_path: Path) -> tuple[str, ...]:
    return ("--relay", relay.url, "--key", str(tmp_path / "a.key"))


async def test_an_open_network_in_words(base: tuple[str, ...], tmp_path: Path) -> None:
    code, out, err = await run_peer(*base, "doctor")
    assert code == 0
    assert "raw passes" in out
    assert "websocket passes" in out
    assert "others reach this host at 127.0.0.1" in out
    assert out.splitlines()[-1].startswith("0 errors")
    assert "kind: IPv4: open" in out
    assert "looking at this host's addresses" in err, "long work says what it is at"
    assert not list(tmp_path.iterdir()), "with a key of the moment"


async def test_the_same_for_programs_while_the_peer_runs(
    base: tuple[str, ...], relay: RelayServer
) -> None:
    config = PeerConfig(listen_port=free_port())
    async with Peer(Identity.generate(), relay.url, config=config) as running:
        code, found, err = await findings(*base)
        assert code == 0
        assert running.status.is_registered
    assert err == ""
    assert [one["carrier"] for one in found["way"]] == ["raw", "websocket"]
    assert found["reachable"][0]["reachable"] is True
    assert found["mapping"][0]["mapping"] == "none"
    assert found["registration"][0]["relay_guid"] == relay.guid
    assert found["kind"][0]["networks"] == {"IPv4": "open"}
    assert found["clock"][0]["clock_ahead"] == 0
    assert not relay.registry.get(running.guid) or not relay.connections, "nothing is left of it"


async def test_both_families_each_by_itself(tmp_path: Path) -> None:
    async with RelayServer(RelayConfig(host=("127.0.0.1", "::1"), port=0)) as server:
        urls = ",".join(server.urls)
        code, found, _ = await findings("--relay", urls, "--key", str(tmp_path / "a.key"))
    assert code == 0
    assert found["kind"][0]["direct"] == {"IPv4": True, "IPv6": True}


async def test_a_relay_that_is_down_is_what_it_is_for(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    code, found, err = await findings("--relay", url, "--key", str(tmp_path / "a.key"))
    assert code == 3
    assert levels(found, "relay") == ["error"]
    assert "is it running" in found["relay"][0]["next_step"]
    assert "cannot connect" in err


async def test_without_any_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Nothing:
        async def read(self) -> tuple[()]:
            return ()

    monkeypatch.setattr(examination, "system_addresses", Nothing)
    url = f"http://127.0.0.1:{free_port()}"
    code, found, err = await findings("--relay", url, "--key", str(tmp_path / "a.key"))
    assert (code, levels(found, "network")) == (3, ["error"])
    assert "no network" in err


async def test_a_name_that_leads_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def resolve(host: str, port: int) -> list[Any]:
        raise OSError("no such name")

    monkeypatch.setattr(examination, "resolve", resolve)
    url = "http://relay.example:8440"
    code, found, _ = await findings("--relay", url, "--key", str(tmp_path / "a.key"))
    assert (code, levels(found, "DNS")) == (3, ["error"])
    assert "way" not in found


async def test_certificates_that_are_good_for_days_and_that_nobody_believes(
    tmp_path: Path,
) -> None:
    chain, secret = certificate(tmp_path, days=3)
    config = RelayConfig(port=0, tls_certificate=chain, tls_key=secret)
    file = tmp_path / "peer.toml"
    file.write_text(f'relay_ca = "{chain}"\n')
    async with RelayServer(config) as server:
        base = ("--relay", server.url, "--key", str(tmp_path / "a.key"))
        code, found, _ = await findings("--config", str(file), *base)
        assert code == 0
        assert levels(found, "certificate") == ["warning"]
        assert 2 < found["certificate"][0]["certificate_days"] < 3
        code, found, err = await findings(*base)
        assert code == 3
        assert "mend what it says" in found["relay"][0]["next_step"]
        assert "relay_ca" in err


async def test_http_where_tls_is_and_the_other_way_round(
    relay: RelayServer, tmp_path: Path
) -> None:
    url = relay.url.replace("http://", "https://")
    code, found, err = await findings("--relay", url, "--key", str(tmp_path / "a.key"))
    assert code == 3
    assert "does not speak TLS" in err
    assert "mend" in found["relay"][0]["next_step"]


async def test_a_page_to_log_in_at(tmp_path: Path) -> None:
    page = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nlogin"
    async with picky_proxy("http://127.0.0.1:1", lambda head: False, page) as proxy:
        url = f"http://127.0.0.1:{proxy.port}"
        code, found, _ = await findings("--relay", url, "--key", str(tmp_path / "a.key"))
    assert code == 3
    assert levels(found, "relay") == ["error"]
    assert levels(found, "who answers") == ["warning"]
    assert "log in" in found["who answers"][0]["next_step"]


async def test_a_network_that_passes_websocket_alone_and_a_clock_that_is_wrong(
    relay: RelayServer, tmp_path: Path
) -> None:
    date = formatdate(time() - 3600, usegmt=True)
    health = (
        f"HTTP/1.1 200 OK\r\nDate: {date}\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n"
    )

    def passes(head: bytes) -> bool:
        return b"websocket" in head.lower()

    async with picky_proxy(relay.url, passes, health.encode()) as proxy:
        url = f"http://127.0.0.1:{proxy.port}"
        code, found, _ = await findings("--relay", url, "--key", str(tmp_path / "a.key"))
    assert code == 0
    assert levels(found, "carrier") == ["warning"]
    assert levels(found, "clock") == ["warning"]
    assert 3590 < found["clock"][0]["clock_ahead"] < 3700


async def test_a_relay_that_admits_whom_it_knows(tmp_path: Path) -> None:
    own = str(tmp_path / "a.key")
    _, guid, _ = await run_peer("--key", own, "id")
    config = RelayConfig(port=0, admission="listed", listed=guid.strip())
    async with RelayServer(config) as server:
        base = ("--relay", server.url, "--key", own)
        code, found, _ = await findings(*base)
        assert code == 3
        assert "--own-key" in found["registration"][0]["next_step"]
        code, out, _ = await run_peer(*base, "doctor", "--own-key")
        assert code == 0, out
        assert "kind: IPv4: open" in out


async def test_a_zone_that_nobody_answers_for(tmp_path: Path) -> None:
    server = f"127.0.0.1:{free_port()}"
    base = ("--zone", "peers.example", "--name-server", server, "--key", str(tmp_path / "a.key"))
    file = tmp_path / "peer.toml"
    file.write_text('[ddns]\nzone = "peers.example"\ntimeout = 0.3\n')
    code, found, _ = await findings("--config", str(file), *base)
    assert code == 0, "nothing else is configured, and nothing else is wrong"
    assert levels(found, "zone") == ["warning"]


async def test_without_relay_and_zone_there_is_nothing_to_look_at(tmp_path: Path) -> None:
    code, out, err = await run_peer("--key", str(tmp_path / "a.key"), "doctor")
    assert (code, out) == (3, "")
    assert "which relay" in err


async def test_it_ends_at_once_when_it_is_told_to(tmp_path: Path) -> None:
    """As at Ctrl-C: nothing is left, whatever it waits for."""
    reached = asyncio.Event()

    async def says_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reached.set()
        await reader.read()

    async with asyncio.timeout(60), serving(says_nothing) as port:
        url = f"http://127.0.0.1:{port}"
        async with peer("--relay", url, "--key", str(tmp_path / "a.key"), "doctor") as running:
            await reached.wait()
            await running.stop()
            assert running.task.cancelled()


async def test_one_of_several_relays_that_is_down(relay: RelayServer, tmp_path: Path) -> None:
    urls = f"http://127.0.0.1:{free_port()},{relay.url}"
    code, found, _ = await findings("--relay", urls, "--key", str(tmp_path / "a.key"))
    assert code == 0
    assert levels(found, "relay") == ["warning"]
    assert found["kind"][0]["networks"] == {"IPv4": "open"}


async def test_another_relay_than_the_one_that_is_expected(
    base: tuple[str, ...], tmp_path: Path
) -> None:
    file = tmp_path / "peer.toml"
    file.write_text(f'relay_guid = "{Identity.generate().guid}"\n')
    code, found, _ = await findings("--config", str(file), *base)
    assert (code, levels(found, "registration")) == (10, ["error"])


async def test_behind_a_proxy_nobody_is_asked_to_dial_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    chain, secret = certificate(tmp_path)
    file = tmp_path / "peer.toml"
    file.write_text(f'relay_ca = "{chain}"\n')
    async with (
        RelayServer(RelayConfig(port=0, tls_certificate=chain, tls_key=secret)) as server,
        picky_proxy(server.url, lambda head: True, None) as proxy,
    ):
        monkeypatch.setenv("https_proxy", f"http://u:s3cret@127.0.0.1:{proxy.port}")
        base = ("--relay", server.url, "--key", str(tmp_path / "a.key"))
        code, found, _ = await findings("--config", str(file), *base)
        assert proxy.count(b"connect 127.0.0.1:") == len(proxy.heads) == 3
    assert code == 0
    assert found["reachable"][0]["reachable"] is None
    assert "behind a proxy" in found["kind"][0]["said"]
    assert "clock" not in found, "what answers would be the proxy"
    assert "s3cret" not in json.dumps(found)
