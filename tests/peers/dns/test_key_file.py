"""Key files: read, and written so that nothing half-made is ever found."""

import os
import resource
import stat
from collections.abc import Callable
from pathlib import Path

import dns.tsig
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peers import DdnsConfig, DdnsConfigError
from peers.dns.key_file import read_key, write_key

ZONE = "peers.example.org"
GUID = "a" * 52
NAME = f"{GUID}.{ZONE}"
SECRET = b"0123456789abcdef0123456789abcdef"


def read(file: Path) -> dns.tsig.Key | None:
    return read_key(DdnsConfig(zone=ZONE, key_file=str(file)), GUID)


# -- reading ---------------------------------------------------------------------------------------


def test_what_was_written_is_read(tmp_path: Path) -> None:
    file = tmp_path / "alice.tsig"
    write_key(file, NAME, SECRET)
    assert read(file) == dns.tsig.Key(NAME, SECRET, "hmac-sha256")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    write_key(str(file), NAME, SECRET[::-1])
    assert read(file) == dns.tsig.Key(NAME, SECRET[::-1], "hmac-sha256")
    assert os.listdir(tmp_path) == ["alice.tsig"]


def test_the_secret_itself_may_be_configured() -> None:
    config = DdnsConfig(zone=ZONE, key="MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=")
    assert read_key(config, GUID) == dns.tsig.Key(NAME, SECRET, "hmac-sha256")
    assert read_key(DdnsConfig(zone=ZONE), GUID) is None


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
    with pytest.raises(DdnsConfigError, match=match):
        read(file)
    file.chmod(0o644)
    with pytest.raises(DdnsConfigError, match="chmod 600"):
        read(file)
    with pytest.raises(DdnsConfigError, match="cannot read"):
        read(tmp_path / "none")


@given(st.text(max_size=80), st.text(max_size=80))
def test_keys_that_cannot_be_used_are_our_error(name: str, secret: str) -> None:
    try:
        settings = DdnsConfig(zone=ZONE, key=secret, key_name=name)
    except ValueError:
        assert "\0" in name + secret
        return
    try:
        key = read_key(settings, GUID)
    except DdnsConfigError:
        return
    assert key is not None


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    for file in (tmp_path / "pipe", tmp_path, Path("/dev/null"), Path("\ud800")):
        with pytest.raises(DdnsConfigError, match="cannot read"):
            read(file)
    with pytest.raises(ValueError, match="NUL"):
        read(Path("a\0b"))


# -- writing ---------------------------------------------------------------------------------------


def folder(where: Path) -> Path:
    (where / "key").mkdir()
    return where / "key"


def full_folder(where: Path) -> Path:
    (folder(where) / "something").touch()
    return where / "key"


def pipe(where: Path) -> Path:
    os.mkfifo(where / "key")
    return where / "key"


def link_to_a_device(where: Path) -> Path:
    (where / "key").symlink_to("/dev/null")
    return where / "key"


def link_to_itself(where: Path) -> Path:
    (where / "key").symlink_to("key")
    return where / "key"


def below_a_file(where: Path) -> Path:
    (where / "key").touch()
    return where / "key" / "key"


@pytest.mark.parametrize(
    "place",
    [
        folder,
        full_folder,
        pipe,
        link_to_a_device,
        link_to_itself,
        below_a_file,
        lambda where: where / "none" / "key",
        lambda where: Path("/proc/key"),
        lambda where: where / ("k" * 300),
        lambda where: where / "a\0b",
        lambda where: where / "\ud800",
    ],
)
def test_places_that_cannot_be_written_are_our_error_and_stay_as_they_are(
    tmp_path: Path, place: Callable[[Path], Path]
) -> None:
    file = place(tmp_path)
    before = sorted((one, one.lstat().st_mode) for one in tmp_path.rglob("*"))
    with pytest.raises(DdnsConfigError, match="cannot write"):
        write_key(file, NAME, SECRET)
    assert sorted((one, one.lstat().st_mode) for one in tmp_path.rglob("*")) == before


@pytest.mark.parametrize("size", [0, 10])
def test_a_disk_that_is_full_leaves_the_old_key_and_nothing_else(tmp_path: Path, size: int) -> None:
    file = tmp_path / "alice.tsig"
    write_key(file, NAME, SECRET)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        with pytest.raises(DdnsConfigError, match="cannot write"):
            write_key(file, NAME, SECRET[::-1])
        with pytest.raises(DdnsConfigError, match="cannot write"):
            write_key(tmp_path / "bob.tsig", NAME, SECRET)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert os.listdir(tmp_path) == ["alice.tsig"]
    assert read(file) == dns.tsig.Key(NAME, SECRET, "hmac-sha256")


def test_an_interruption_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_key(tmp_path / "key", NAME, SECRET)
    assert os.listdir(tmp_path) == []


def test_what_others_have_put_there_is_not_followed(tmp_path: Path) -> None:
    """A name that could be guessed might be a link to a file of its owner's, or be open already."""
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "key.part").symlink_to("victim")
    write_key(tmp_path / "key", NAME, SECRET)
    assert (tmp_path / "victim").read_text() == "precious"
    assert read(tmp_path / "key") is not None


def test_a_link_stays_one_and_leads_to_the_new_key(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "key").symlink_to("keys/alice")
    for _ in range(2):  # It may lead to nothing yet.
        write_key(tmp_path / "key", NAME, SECRET)
        assert (tmp_path / "key").is_symlink()
        assert read(tmp_path / "keys" / "alice") is not None
    assert os.listdir(tmp_path / "keys") == ["alice"]


def test_a_relative_name_is_in_this_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_key("alice.tsig", NAME, SECRET)
    assert read(tmp_path / "alice.tsig") is not None


def test_nobody_else_can_read_it_whatever_the_umask(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        write_key(tmp_path / "key", NAME, SECRET)
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
