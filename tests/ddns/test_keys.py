"""How a peer gets its key, by the commands and by the library; and what outlives kill -9."""

import asyncio
import base64
import re
import stat
import subprocess
import sys
from pathlib import Path

import dns.message
import dns.query
import pytest

from peers import (
    DdnsConfig,
    DdnsConfigError,
    Identity,
    LimitExceeded,
    Peer,
    PeerConfig,
    Refused,
    UpdateRefused,
)
from protocol.dns_records import peer_name
from protocol.identity import Identity as AnyIdentity
from relay.config import ConfigError, DnsConfig, RelayConfig, load
from relay.server import RelayServer
from tests.support import processes

ZONE = "peers.example.org"


async def test_the_relay_gives_a_peer_its_own_key(tmp_path: Path) -> None:
    config = RelayConfig(
        port=0, dns=DnsConfig(zone=ZONE, port=0), requests_burst=3, requests_per_second=0.5
    )
    async with RelayServer(config) as relay:
        async with Peer(Identity.generate(), relay.url) as alice:
            key = await alice.ddns_key()
            assert relay.dns is not None
            assert key.name == peer_name(alice.guid, ZONE)
            assert key.secret == relay.dns.keys.secret(alice.guid)
            assert key.server == f"127.0.0.1:{relay.dns.port}"
            connection = alice._registration.current
            assert connection is not None
            assert connection.registration is not None
            assert connection.registration.fqdn == key.name
            key.write(tmp_path / "alice.tsig")
            mode = stat.S_IMODE((tmp_path / "alice.tsig").stat().st_mode)
            assert mode == 0o600
            await alice.ddns_key()
            await alice.ddns_key()
            with pytest.raises(LimitExceeded):
                await asyncio.gather(*(alice.ddns_key() for _ in range(9)))
        ddns = DdnsConfig(zone=ZONE, server=key.server, key_file=str(tmp_path / "alice.tsig"))
        async with Peer(alice.identity, config=PeerConfig(ddns=ddns)) as again:
            again.listen("chat")
            await again.published()


async def test_a_relay_without_a_zone_says_so() -> None:
    async with RelayServer(RelayConfig(port=0)) as relay, Peer(Identity.generate(), relay.url) as a:
        with pytest.raises(Refused, match="serves no DNS zone"):
            await a.ddns_key()


async def test_another_peers_key_is_of_no_use() -> None:
    config = RelayConfig(port=0, dns=DnsConfig(zone=ZONE, port=0))
    async with RelayServer(config) as relay:
        async with Peer(Identity.generate(), relay.url) as mallory:
            key = await mallory.ddns_key()
        ddns = DdnsConfig(
            zone=ZONE,
            server=key.server,
            key=base64.b64encode(key.secret).decode(),
            key_name=key.name,
        )
        async with Peer(Identity.generate(), config=PeerConfig(ddns=ddns)) as alice:
            alice.listen("chat")
            with pytest.raises(UpdateRefused, match="REFUSED"):
                await alice.published()


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("nothing", "holds no key"),
        ('key "a" { algorithm hmac-md5; secret "AAAAAAAAAAAAAAAAAAAAAAAA"; };', "hmac-sha256"),
        ('key "a" { algorithm hmac-sha256; secret "AAAA"; };', "shorter than 16"),
        ('key "a..b" { algorithm hmac-sha256; secret "AAAAAAAAAAAAAAAAAAAAAAAA"; };', "not a key"),
    ],
)
def test_key_files_that_cannot_be_used(tmp_path: Path, text: str, match: str) -> None:
    file = tmp_path / "key"
    file.write_text(text)
    file.chmod(0o600)
    config = DdnsConfig(zone=ZONE, key_file=str(file))
    with pytest.raises(DdnsConfigError, match=match):
        config.read_key("a" * 52)
    file.chmod(0o644)
    with pytest.raises(DdnsConfigError, match="chmod 600"):
        config.read_key("a" * 52)
    with pytest.raises(DdnsConfigError, match="cannot read"):
        DdnsConfig(zone=ZONE, key_file=str(tmp_path / "none")).read_key("a" * 52)


@pytest.mark.parametrize(
    "settings",
    [
        {"zone": "not a zone"},
        {"zone": ZONE, "server": "host:port"},
        {"zone": ZONE, "nameservers": ("[::1",)},
        {"zone": ZONE, "key": "AAAA", "key_file": "x"},
    ],
)
def test_configurations_of_peers_that_cannot_be_used(settings: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"."):
        DdnsConfig(**settings)  # type: ignore[arg-type]


def test_the_configuration_of_a_relay(tmp_path: Path) -> None:
    file = tmp_path / "relay.toml"
    file.write_text('[dns]\nzone = "Peers.Example.org"\nport = 5300\n')
    config = load(str(file), {"ROAM_RELAY_DNS_PORT": "5301", "ROAM_RELAY_DNS_STORE": "x"}, {})
    assert config.dns == DnsConfig(zone="Peers.Example.org", port=5301, store="x")
    assert load(None, {}, {}).dns is None
    for text in ('zone = "a b"', 'zone = "a"\nnameserver = ".."', 'zone = "a"\naddresses = "x"'):
        file.write_text(f"[dns]\n{text}\n")
        with pytest.raises(ConfigError, match="dns: "):
            load(str(file), {}, {})
    file.write_text('[dns]\nzone = "a"\nunknown = 1\n')
    with pytest.raises(ConfigError, match="unknown"):
        load(str(file), {}, {})


# -- real processes -------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "relay.key").write_bytes(AnyIdentity.generate().to_pem())
    (tmp_path / "relay.key").chmod(0o600)
    (tmp_path / "relay.toml").write_text(
        f'identity = "{tmp_path}/relay.key"\n[dns]\nzone = "{ZONE}"\nport = 0\n'
        f'store = "{tmp_path}/dns.sqlite"\n'
    )
    return tmp_path


def _relay_dns_key(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "relay", "dns-key", *arguments],
        text=True,
        capture_output=True,
        timeout=60,
        env=processes.environment(),
        check=False,
    )


def test_the_commands_give_the_same_key_and_it_outlives_kill_9(folder: Path) -> None:
    config = ("--config", str(folder / "relay.toml"))
    key, tsig = str(folder / "alice.key"), str(folder / "alice.tsig")
    with processes.relay(folder, *config) as (url, process):
        done = processes.run_peer("--relay", url, "--key", key, "ddns-key", "--out", tsig)
        assert done.returncode == 0, done.stderr
        found = re.search(r'server = "127\.0\.0\.1:(\d+)"', done.stdout)
        assert found is not None
        port = found[1]
        guid = processes.run_peer("--key", key, "id").stdout.strip()
        assert _relay_dns_key(*config, guid).stdout == Path(tsig).read_text()
        zone = ("--zone", ZONE, "--name-server", f"127.0.0.1:{port}")
        with processes.peer(
            *zone, "--dns-key", tsig, "--key", key, "listen", "chat", "--json"
        ) as alice:
            processes.fact(alice)
            located = processes.run_peer(
                *zone, "--key", str(folder / "bob.key"), "locate", guid, "chat", "--json"
            )
            assert '"source":"dns"' in located.stdout, located.stderr
            name = f"{peer_name(guid, ZONE)}."
            before = _ask(int(port), name)
            assert before
            process.kill()
            process.wait(10)
            alice.kill()
            alice.wait(10)
    # As its peer was killed too, nobody withdraws it, and the relay has it from its store.
    with processes.relay(folder, *config, "--log-format", "json") as (url, process):
        port = _port(folder, url, key)
        assert _ask(port, name) == before
        with processes.peer(
            "--zone",
            ZONE,
            "--name-server",
            f"127.0.0.1:{port}",
            "--dns-key",
            tsig,
            "--key",
            key,
            "listen",
            "mail",
            "--json",
        ) as alice:
            processes.fact(alice)
            assert _ask(port, name) != before
        assert _ask(port, name) == [], "withdrawn"


def _port(folder: Path, url: str, key: str) -> int:
    done = processes.run_peer(
        "--relay", url, "--key", key, "ddns-key", "--out", str(folder / "again.tsig"), "--json"
    )
    found = re.search(r'"server":"127\.0\.0\.1:(\d+)"', done.stdout)
    assert found is not None, done.stderr
    return int(found[1])


def _ask(port: int, name: str) -> list[str]:
    answer = dns.query.tcp(dns.message.make_query(name, "TXT"), "127.0.0.1", 5, port)
    return [rdata.to_text() for rrset in answer.answer for rdata in rrset]


def test_commands_that_lack_something_say_what(folder: Path) -> None:
    guid = AnyIdentity.generate().guid
    assert "--identity" in _relay_dns_key("--zone", ZONE, guid).stderr
    identity = ("--identity", str(folder / "relay.key"))
    assert "--zone" in _relay_dns_key(*identity, guid).stderr
    assert "not a GUID" in _relay_dns_key(*identity, "--zone", ZONE, "bob").stderr
    done = processes.run_peer("--name-server", "127.0.0.1", "--key", str(folder / "a"), "id")
    assert done.returncode == 2
    assert "--zone" in done.stderr
