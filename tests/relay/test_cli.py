"""The `relay` command, in this process."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from protocol.identity import Identity
from relay.cli import main
from relay.dns import DnsKeys


def run(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(main, words)
    return done.exit_code, done.output


def test_a_key_is_made_once(tmp_path: Path) -> None:
    file = tmp_path / "relay.key"
    status, guid = run("key", str(file))
    assert (status, len(guid.strip())) == (0, 52)
    assert file.stat().st_mode & 0o777 == 0o600
    assert run("key", str(file)) == (0, guid)


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


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("serve", "--config", "/nowhere.toml"), "cannot read /nowhere.toml"),
        (("serve", "--identity", "/nowhere.key"), "cannot read the key /nowhere.key"),
        (("serve", "--tls-key", "x"), "needed together"),
        (("serve", "--trusted-proxy", "::1", "--trusted-proxy", "x"), "trusted_proxies: 'x'"),
        (("dns-key", "a" * 52), "name its file with --identity"),
        (("key", "/nowhere/relay.key"), "nowhere"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(words: tuple[str, ...], says: str) -> None:
    status, text = run(*words)
    assert status == 1
    assert text.startswith("Error: ")
    assert says in text
    assert len(text.splitlines()) == 1
