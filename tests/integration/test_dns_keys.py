"""A peer's key by the commands; and what outlives kill -9.

Each command is a process of its own once; what is asked besides is asked in this one.
"""

import re
import subprocess
import sys
from pathlib import Path

import dns.message
import dns.query
import pytest
from click.testing import CliRunner

from protocol.dns_records import peer_name
from protocol.identity import Identity as AnyIdentity
from relay.cli import main
from tests.peers.cli import commands
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


async def test_the_commands_give_the_same_key_and_it_outlives_kill_9(folder: Path) -> None:
    config = ("--config", str(folder / "relay.toml"))
    key, tsig = str(folder / "alice.key"), str(folder / "alice.tsig")
    with processes.relay(folder, *config) as (url, process):
        done = processes.run_peer("--relay", url, "--key", key, "ddns-key", "--out", tsig)
        assert done.returncode == 0, done.stderr
        found = re.search(r'server = "127\.0\.0\.1:(\d+)"', done.stdout)
        assert found is not None
        port = found[1]
        _, guid, _ = await commands.run_peer("--key", key, "id")
        guid = guid.strip()
        assert _relay_dns_key(*config, guid).stdout == Path(tsig).read_text()
        zone = ("--zone", ZONE, "--name-server", f"127.0.0.1:{port}")
        with processes.peer(
            *zone, "--dns-key", tsig, "--key", key, "listen", "chat", "--json"
        ) as alice:
            processes.fact(alice)
            _, located, err = await commands.run_peer(
                *zone, "--key", str(folder / "bob.key"), "locate", guid, "chat", "--json"
            )
            assert '"source":"dns"' in located, err
            name = f"{peer_name(guid, ZONE)}."
            before = _ask(int(port), name)
            assert before
            process.kill()
            process.wait(60)
            alice.kill()
            alice.wait(10)
    # As its peer was killed too, nobody withdraws it, and the relay has it from its store.
    with processes.relay(folder, *config, "--log-format", "json") as (url, process):
        port = await _port(folder, url, key)
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


async def _port(folder: Path, url: str, key: str) -> int:
    _, out, err = await commands.run_peer(
        "--relay", url, "--key", key, "ddns-key", "--out", str(folder / "again.tsig"), "--json"
    )
    found = re.search(r'"server":"127\.0\.0\.1:(\d+)"', out)
    assert found is not None, err
    return int(found[1])


def _ask(port: int, name: str) -> list[str]:
    answer = dns.query.tcp(dns.message.make_query(name, "TXT"), "127.0.0.1", 5, port)
    return [rdata.to_text() for rrset in answer.answer for rdata in rrset]


async def test_commands_that_lack_something_say_what(folder: Path) -> None:
    guid = AnyIdentity.generate().guid
    identity = ("--identity", str(folder / "relay.key"))
    for words, said in (
        (("--identity", str(folder / "none.key"), "--zone", ZONE, guid), "none.key"),
        ((*identity, guid), "--zone"),
        ((*identity, "--zone", ZONE, "bob"), "not a GUID"),
    ):
        done = CliRunner().invoke(main, ["dns-key", *words])
        assert done.exit_code
        assert said in done.stderr
    code, _, err = await commands.run_peer(
        "--name-server", "127.0.0.1", "--key", str(folder / "a"), "id"
    )
    assert code == 2
    assert "--zone" in err
