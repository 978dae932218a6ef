"""The `relay` command, in this process."""

import base64
import contextlib
import errno
import gc
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from protocol.identity import Identity
from relay.cli import main
from relay.config import RelayConfig
from relay.dns import DnsKeys
from relay.server import RelayServer
from tests.support.full_disk import full_disk


def run(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(main, words)
    return done.exit_code, done.output


def test_a_key_is_made_once(tmp_path: Path) -> None:
    file = tmp_path / "relay.key"
    status, guid = run("key", str(file))
    assert (status, len(guid.strip())) == (0, 52)
    assert file.stat().st_mode & 0o777 == 0o600
    assert run("key", str(file)) == (0, guid)


def test_shells_are_told_how_to_complete() -> None:
    for shell, says in (("zsh", "#compdef relay"), ("fish", "complete --no-files --command relay")):
        status, said = run("completion", shell)
        assert status == 0
        assert says in said
    assert run("completion", "csh")[0] == 2


def test_facts_for_programs(tmp_path: Path) -> None:
    """Each command has `--json`: what it would say to people, as one object."""
    state = ("--state", str(tmp_path / "state"))
    guid = json.loads(run("key", *state, "--json")[1])["guid"]
    goal = str(tmp_path / "a.backup")
    made = json.loads(run("backup", goal, *state, "--json")[1])
    assert made == {"file": goal, "holds": ["relay.key"]}
    changed = json.loads(run("rotate", *state, "--for", "1d", "--json")[1])
    assert changed["former"] == guid != changed["guid"]
    assert changed["until"] > 0
    assert json.loads(run("rotate", *state, "--end", "--json")[1])["guid"] == changed["guid"]
    shutil.move(tmp_path / "state", tmp_path / "away")
    back = json.loads(run("restore", goal, *state, "--json")[1])
    assert back == {"guid": guid, "restored": ["relay.key"]}
    words = ("dns-key", guid, "--zone", "a.example", "--identity", "x", "--json")
    assert run(*words)[0] == 1
    told = json.loads(
        run(
            *("dns-key", guid, "--zone", "a.example", "--json"),
            *("--identity", str(tmp_path / "state" / "relay.key")),
        )[1]
    )
    assert told["name"] == f"{guid}.a.example"
    assert told["algorithm"] == "hmac-sha256"
    assert len(base64.b64decode(told["secret"])) == 32


def test_the_key_of_a_peer_s_own_name(tmp_path: Path) -> None:
    identity, peer = Identity.generate(), Identity.generate()
    file = tmp_path / "relay.key"
    file.write_bytes(identity.to_pem())
    file.chmod(0o600)
    status, text = run("dns-key", peer.guid, "--identity", str(file), "--zone", "a.example")
    assert status == 0
    key = DnsKeys(identity, "a.example").key(peer.guid)
    assert f'key "{peer.guid}.a.example"' in text
    assert key.name.to_text() == f"{peer.guid}.a.example."


def test_a_full_disk_leaves_no_half_key(tmp_path: Path) -> None:
    file = tmp_path / "relay.key"
    said = (1, f"Error: cannot make the key {file}: File too large\n")
    for _ in range(2):
        with full_disk():
            done = run("key", str(file))
        assert done == said
    assert run("key", str(file))[0] == 0


def test_places_that_hold_no_key_are_one_line_each(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    for name, says in (
        ("pipe", "it is not a file"),
        ("", "Is a directory"),
        ("none/key", "cannot make the key"),
        ("/proc/key", "cannot make the key"),
        ("\udce9\x1b[31m/key", r"\udce9\x1b[31m/key: No such file"),
    ):
        status, text = run("key", str(tmp_path / name))
        assert (status, len(text.splitlines())) == (1, 1), text
        assert says in text
    assert os.listdir(tmp_path) == ["pipe"]
    (tmp_path / "half").write_bytes(Identity.generate().to_pem()[:60])
    (tmp_path / "half").chmod(0o600)
    for words in (("key", str(tmp_path / "half")), ("serve", "--identity", str(tmp_path / "half"))):
        status, text = run(*words)
        assert status == 1
        assert "move it away" in text


class Full(io.StringIO):
    """Standard output on a full disk."""

    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("words", [("-h",), ("key", "KEY")])
def test_what_cannot_be_printed_is_one_line(
    words: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with contextlib.redirect_stdout(Full()), pytest.raises(SystemExit) as ended:
        main([str(tmp_path / "key") if word == "KEY" else word for word in words])
    assert ended.value.code == 1
    assert capsys.readouterr().err == "Error: cannot write: No space left on device\n"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("serve", "--config", "/nowhere.toml"), "cannot read /nowhere.toml"),
        (("serve", "--identity", "/nowhere.key"), "cannot read the key /nowhere.key"),
        (("serve", "--tls-key", "x"), "needed together"),
        (("serve", "--trusted-proxy", "::1", "--trusted-proxy", "x"), "trusted_proxies: 'x'"),
        (("dns-key", "a" * 52), "no zone: give --zone"),
        (
            ("dns-key", "a" * 52, "--zone", "a.example", "--identity", "/nowhere.key"),
            "cannot read the key",
        ),
        (("key", "/nowhere/relay.key"), "nowhere"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(words: tuple[str, ...], says: str) -> None:
    status, text = run(*words)
    assert status == 1
    assert text.startswith("Error: ")
    assert says in text
    assert len(text.splitlines()) == 1


def test_a_relay_without_a_zone_imports_none() -> None:
    """What a relay needs only when it is asked is imported then: it serves the sooner."""
    program = (
        "import sys, relay.cli\n"
        "late = {'dns.message', 'prometheus_client', 'relay.dns.server'}\n"
        "print(*sorted(late & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == []


async def test_an_embedded_relay_leaves_the_collector_alone() -> None:
    before = gc.get_threshold(), gc.isenabled()
    async with RelayServer(RelayConfig(port=0)):
        assert (gc.get_threshold(), gc.isenabled()) == before
