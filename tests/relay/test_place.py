"""Where a relay keeps what outlives it when nobody says."""

import json
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from relay.cli import main
from relay.config import ConfigError, load
from relay.place import configured, default_state, make_key, may_keep_nothing, own_key
from tests.support import processes


def test_the_place_is_the_system_s_or_the_user_s() -> None:
    assert default_state({"STATE_DIRECTORY": "/var/lib/roam-relay"}) == "/var/lib/roam-relay"
    assert default_state({"STATE_DIRECTORY": "/a:/b"}) == "/a"
    assert default_state({}).endswith("/roam-relay/relay")
    # Never the home of who runs the tests.
    assert not default_state({}).startswith(f"{Path.home()}/")


def test_what_nobody_names_has_a_name_there(tmp_path: Path) -> None:
    file = tmp_path / "relay.toml"
    file.write_text('[dns]\nzone = "a.example"\n')
    config = load(str(file), {}, {}, place="/srv/relay")
    assert (config.state, config.identity) == ("/srv/relay", "relay.key")
    assert config.dns is not None
    assert config.dns.store == "zone.sqlite"
    chosen = load(str(file), {}, {"state": "/else", "identity": "own.key"}, place="/srv/relay")
    assert (chosen.state, chosen.identity) == ("/else", "own.key")
    # A library's configuration is what it says and nothing more.
    assert load(str(file), {}, {}).state is None


def test_names_stay_where_they_were_without_a_state_folder(tmp_path: Path) -> None:
    """`relay serve --identity relay.key` goes on meaning the file in the working folder."""
    file = tmp_path / "relay.toml"
    file.write_text('admin_token = "/etc/token"\n[dns]\nzone = "a.example"\nstore = "dns.sqlite"\n')
    config = load(str(file), {}, {"identity": "relay.key"}, place="/srv/relay")
    assert config.in_state(config.identity or "") == os.path.abspath("relay.key")
    assert config.admin_token == "/etc/token"
    assert config.dns is not None
    assert config.dns.store == os.path.abspath("dns.sqlite")


@pytest.mark.parametrize(
    ("text", "environment", "flags"),
    [
        ('identity = "relay.key"\n', {}, {}),
        ("", {"ROAM_RELAY_IDENTITY": "relay.key"}, {}),
        ("", {}, {"identity": "relay.key"}),
        ('state = "/srv/relay"\n', {}, {}),
        ('[dns]\nzone = "a.example"\nstore = "zone.sqlite"\n', {}, {}),
        ("", {"ROAM_RELAY_MAILBOX_STORE": "letters.sqlite"}, {}),
    ],
)
def test_who_has_named_what_is_kept_wants_it_kept(
    tmp_path: Path, text: str, environment: dict[str, str], flags: dict[str, str]
) -> None:
    file = tmp_path / "relay.toml"
    file.write_text(text)
    assert not may_keep_nothing(str(file), environment, flags)
    file.write_text('[dns]\nzone = "a.example"\n')
    assert may_keep_nothing(str(file), {}, {"log_level": "info", "state": None})


def test_a_second_relay_with_a_key_of_its_own_is_told_of_the_first(home: Path) -> None:
    with processes.plain_relay(home):
        key = str(home / "second.key")
        make_key(key)
        ended = processes.run_relay(home, "serve", "--port", "0", "--identity", key)
    assert ended.returncode == 1
    (line,) = (one for one in ended.stderr.splitlines() if one.startswith("Error: "))
    assert "give each a folder of its own" in line


@pytest.mark.parametrize("said", [{"ROAM_RELAY_STATE": ""}, {}])
def test_who_wants_nothing_kept_says_so(said: dict[str, str]) -> None:
    flags = {} if said else {"state": ""}
    config = load(None, said, flags, place="/srv/relay")
    assert (config.state, config.identity) == (None, None)
    with pytest.raises(ConfigError, match="admission"):
        load(None, said, flags | {"admission": "invited"}, place="/srv/relay")
    assert load(None, {}, {"admission": "invited"}, place="/srv/relay").state == "/srv/relay"


def test_the_key_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "state"
    config = load(None, {}, {}, place=str(folder))
    guid = own_key(config).guid
    assert own_key(config).guid == guid
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "relay.key").stat().st_mode) == 0o600


def test_no_place_is_one_line_with_the_next_step(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    config = load(None, {}, {}, place=str(tmp_path / "file" / "state"))
    with pytest.raises(ConfigError, match="Name another with --state; with --state '' nothing"):
        own_key(config)


def test_commands_know_the_place_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    assert configured(None, os.environ, {}).state == str(tmp_path / "state")
    run = CliRunner().invoke
    guid = run(main, ["key"]).output.strip()
    assert len(guid) == 52
    assert run(main, ["key"]).output.strip() == guid
    assert run(main, ["key", str(tmp_path / "state" / "relay.key")]).output.strip() == guid
    asked = run(main, ["peers"])
    assert asked.exit_code == 1
    assert f"nobody listens at {tmp_path}/state/operator.sock" in asked.output
    assert run(main, ["key", "--state", ""]).exit_code == 1


@pytest.fixture
def home() -> Iterator[Path]:
    """A place with a name as short as people's are: a UNIX socket is in it."""
    with tempfile.TemporaryDirectory(prefix="rr-") as folder:
        yield Path(folder)


def test_the_plainest_command_is_right(home: Path) -> None:
    """The same relay after a restart; it says where it keeps that, and what to do next."""
    said = []
    for _ in range(2):
        with processes.plain_relay(home, "--log-format", "json") as (url, process):
            peers = processes.run_relay(home, "peers", "--json")
            assert json.loads(peers.stdout)["total"] == 0
            processes.end(process)
            assert process.stderr is not None
            lines = [json.loads(line) for line in process.stderr.read().splitlines()]
        by_event = {line["event"]: line for line in lines}
        assert by_event["serving"]["url"] == url
        assert url in by_event["what to do next"]["first_peer"]
        assert by_event["what to do next"]["dashboard"] == f"{url}/"
        said.append(by_event["serving"])
    assert said[0]["relay"] == said[1]["relay"]
    folder = Path(said[0]["state"])
    assert folder.is_relative_to(home)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {"relay.key", "relay.sqlite", "known.sqlite"} <= set(os.listdir(folder))


def test_what_is_insecure_is_said_at_the_start(tmp_path: Path) -> None:
    words = ("--log-format", "json", "--host", "0.0.0.0")
    with processes.relay(tmp_path, *words) as (_, process):
        processes.end(process)
        assert process.stderr is not None
        lines = [json.loads(line) for line in process.stderr.read().splitlines()]
    warned = {one["about"]: one for one in lines if one["event"] == "not as it should be"}
    assert "plain text" in warned["reach"]["said"]
    assert "tls_certificate" in warned["reach"]["next_step"]
    assert "forgotten" in warned["state"]["said"]
    assert "new GUID" in warned["identity"]["said"]


def test_a_second_relay_of_the_same_user_serves_and_keeps_nothing(home: Path) -> None:
    """It did before there was a place. Who has named one is told that it is taken."""
    log = ("--log-format", "json")
    with processes.plain_relay(home, *log) as (first, one):
        with processes.plain_relay(home, *log) as (second, other):
            assert first != second
            other.terminate()
            _, said = other.communicate(timeout=60)
        lines = [json.loads(line) for line in said.splitlines()]
        (told,) = [line for line in lines if line["event"].startswith("another relay of this user")]
        assert told["level"] == "warning"
        assert told["taken"] == str(home / "data" / "roam-relay" / "relay")
        (served,) = [line for line in lines if line["event"] == "serving"]
        assert other.returncode == 0
        for words in (("--state", told["taken"]), ("--admission", "invited")):
            if words[0] == "--admission":
                (home / "relay.toml").write_text('admission = "invited"\n')
                words = ("--config", str(home / "relay.toml"))
            ended = processes.run_relay(home, "serve", "--port", "0", *words)
            assert ended.returncode == 1
            assert "another relay uses" in ended.stderr
        one.terminate()
        _, said = one.communicate(timeout=60)
        assert served["relay"] not in said
