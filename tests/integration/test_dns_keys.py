"""A peer's key by the commands; and what outlives kill -9."""

import re
import subprocess
import sys
from pathlib import Path

import dns.message
import dns.query
import pytest

from protocol.dns_records import peer_name
from protocol.identity import Identity as AnyIdentity
from tests.support import processes

ZONE = "peers.example.org"


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
            alice.terminate()
            assert alice.wait(30) == 143
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
    nowhere = ("--identity", str(folder / "none.key"))
    assert "none.key" in _relay_dns_key(*nowhere, "--zone", ZONE, guid).stderr
    identity = ("--identity", str(folder / "relay.key"))
    assert "--zone" in _relay_dns_key(*identity, guid).stderr
    assert "not a GUID" in _relay_dns_key(*identity, "--zone", ZONE, "bob").stderr
    done = processes.run_peer("--name-server", "127.0.0.1", "--key", str(folder / "a"), "id")
    assert done.returncode == 2
    assert "--zone" in done.stderr
