"""Where a peer's key is when nobody says."""

import os
import stat
from pathlib import Path

import pytest

from peers.cli.key import default_key
from peers.config import ConfigError, Identity
from tests.peers.cli import commands


async def test_a_folder_that_is_named_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    code, first, _ = await commands.run_peer("--state", str(folder), "id")
    assert code == 0
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert Identity.load(folder / "peer.key").guid == first.strip()
    # A key that is named goes before it.
    other = str(tmp_path / "other.key")
    code, second, _ = await commands.run_peer("--state", str(folder), "--key", other, "id")
    assert second.strip() == Identity.load(other).guid != first.strip()


def test_systemd_names_one(tmp_path: Path) -> None:
    found = default_key(None, {"STATE_DIRECTORY": f"{tmp_path}/a:{tmp_path}/b", "HOME": "/none"})
    assert found == f"{tmp_path}/a/peer.key"


def test_a_key_of_before_stays_the_peer_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    new = str(tmp_path / "data" / "roam-relay" / "peer" / "peer.key")
    assert default_key(None, os.environ) == new
    before = tmp_path / ".config" / "roam-relay" / "peer.key"
    before.parent.mkdir(parents=True)
    Identity.load_or_create(before)
    assert default_key(None, os.environ) == str(before)


def test_no_place_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="give --key or --state: cannot make"):
        default_key(str(tmp_path / "file" / "x"), {})
    with pytest.raises(ConfigError, match="HOME is empty"):
        default_key(None, {"HOME": ""})
