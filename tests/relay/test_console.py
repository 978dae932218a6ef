"""The operator's commands: a relay that runs, and what is said where none does."""

import json
import re
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from protocol.identity import Identity, public_key_of
from protocol.invitation import Token
from relay.cli import main
from tests.support import processes

GUID = Identity.from_seed(bytes([1]) * 32).guid


def run(*words: str) -> Result:
    return CliRunner().invoke(main, words, catch_exceptions=False)


def said(*words: str) -> str:
    done = run(*words)
    assert done.exit_code == 0, done.output
    return done.stdout


def configured(folder: Path, text: str = "") -> str:
    """Write a configuration and the relay's key."""
    assert run("key", str(folder / "relay.key")).exit_code == 0
    file = folder / "relay.toml"
    state = folder / "state"
    file.write_text(f'state = "{state}"\nidentity = "{folder}/relay.key"\n{text}')
    return str(file)


def test_an_operator_s_day(tmp_path: Path) -> None:
    config = configured(tmp_path, 'admission = "invited"\n')
    with processes.relay(tmp_path, "--config", config) as (url, _):
        made = run("invite", "--config", config, "--uses", "2", "--note", "for \x1b[1mBob")
        text = made.stdout.strip()
        name = Token.parse(text).invitation.id
        assert f"'relay revoke {name}'" in made.stderr
        assert "not 'invited'" not in made.stderr
        assert re.search(
            rf"{name}\s+0/2 .* good\s+for \\x1b\[1mBob", said("invitations", "--config", config)
        )
        peer = ["--relay", url, "--key", str(tmp_path / "alice.key"), "--invite", text]
        with processes.peer(*peer, "listen", "chat", "--json") as listening:
            guid = processes.fact(listening)["guid"]
            shown = json.loads(said("peers", "--config", config, "--json"))
            assert [one["guid"] for one in shown["peers"]] == [guid]
            assert shown["peers"][0]["invitation"] == name
            assert guid in said("peers", "--config", config)
            assert "1 connections ended" in said("ban", guid, "--config", config, "--for", "2d")
            assert re.search(rf"{guid} .*Z\s+-", said("bans", "--config", config))
        assert "its ban is lifted" in said("allow", guid, "--state", str(tmp_path / "state"))
        assert json.loads(said("revoke", name, "--config", config, "--json"))["said"] == "revoked"
        assert " revoked " in said("invitations", "--config", config)
        done = run("allow", "192.0.2.0/24", "--config", config)
        assert done.exit_code == 1
        assert "is not banned" in done.output
    done = run("peers", "--config", config)
    assert done.exit_code == 1
    assert "no relay runs here" in done.output
    assert "relay serve" in done.output


def test_an_invitation_is_made_without_a_relay(tmp_path: Path) -> None:
    config = configured(tmp_path)
    made = run(
        *("invite", "--config", config, "--expires", "2h", "--lifetime", "30d", "--rate", "5"),
        *("--mode", "p2p", "--mode", "auto", "--json"),
    )
    shown = json.loads(made.stdout)
    invitation = Token.parse(shown["token"]).invitation
    assert 7100 < invitation.expires - time.time() <= 7200
    assert (invitation.lifetime, invitation.requests_per_second) == (30 * 86_400, 5.0)
    assert invitation.modes == ("p2p", "auto")
    assert shown["id"] == invitation.id
    assert "does not ask for it yet" in run("invite", "--config", config).stderr


def test_an_operator_s_own_key_signs(tmp_path: Path) -> None:
    assert run("key", str(tmp_path / "operator.key")).exit_code == 0
    guid = said("key", str(tmp_path / "operator.key")).strip()
    text = said("invite", "--key", str(tmp_path / "operator.key")).strip()
    assert public_key_of(guid).startswith(Token.parse(text).invitation.operator)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("peers", "--state", ""), "Name its state folder with --state"),
        (("ban", GUID, "--state", ""), "Name its state folder with --state"),
        (("invite", "--state", ""), "whose invitation?"),
        (("invite", "--state", "/nowhere"), "cannot read the key /nowhere/relay.key"),
        (("invite", "--key", "/nowhere.key"), "cannot read the key /nowhere.key"),
        (("peers", "--state", "/nowhere"), "no relay runs here: nobody listens at /nowhere/oper"),
        (("ban", GUID, "--for", "soon"), "12h or 7d"),
        (("ban", GUID, "--for", "0"), "12h or 7d"),
        (("ban", GUID, "--for", "999999999w"), "at most ten years"),
        (("invite", "--uses", "0"), "--uses"),
        (("invite", "--rate", "nan"), "--rate"),
        (("ban",), "Missing argument"),
    ],
)
def test_what_is_wrong_says_the_next_step(words: tuple[str, ...], says: str) -> None:
    done = run(*words)
    assert done.exit_code in (1, 2)
    assert says in done.output
    assert "Traceback" not in done.output


def test_a_long_note_is_refused(tmp_path: Path) -> None:
    config = configured(tmp_path)
    done = run("invite", "--config", config, "--note", "x" * 65)
    assert done.exit_code == 1
    assert "at most 64" in done.output


@pytest.mark.parametrize("command", ["invite", "ban", "allow", "revoke"])
def test_help_teaches_by_an_example(command: str) -> None:
    assert f"  relay {command} --config relay.toml" in said(command, "--help")
