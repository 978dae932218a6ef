"""Key files: there whole or not at all, whatever the disk and other programs do."""

import errno
import os
import threading
from pathlib import Path

import pytest

from peers import Identity, IdentityError
from tests.support.full_disk import full_disk


def test_a_key_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    file = tmp_path / "a.key"
    made = Identity.load_or_create(file)
    assert file.stat().st_mode & 0o777 == 0o600
    assert Identity.load_or_create(file).guid == Identity.load(file).guid == made.guid
    assert os.listdir(tmp_path) == ["a.key"]


def test_a_full_disk_leaves_no_half_key(tmp_path: Path) -> None:
    with full_disk(), pytest.raises(IdentityError, match="cannot make the key"):
        Identity.load_or_create(tmp_path / "a.key")
    assert os.listdir(tmp_path) == []


def test_programs_that_begin_together_have_one_key(tmp_path: Path) -> None:
    guids: list[str] = []
    begin = threading.Barrier(8)

    def program() -> None:
        begin.wait()
        guids.append(Identity.load_or_create(tmp_path / "a.key").guid)

    threads = [threading.Thread(target=program) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(guids) == 8
    assert len(set(guids)) == 1
    assert os.listdir(tmp_path) == ["a.key"]


def test_a_file_system_without_hard_links_will_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    made = Identity.load_or_create(tmp_path / "a.key")
    assert Identity.load(tmp_path / "a.key").guid == made.guid
    assert os.listdir(tmp_path) == ["a.key"]


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    for name in (tmp_path / "pipe", tmp_path):
        with pytest.raises(IdentityError, match="cannot read the key"):
            Identity.load_or_create(name)
    with pytest.raises(IdentityError, match="cannot make the key"):
        Identity.load_or_create(tmp_path / "none" / "a.key")
