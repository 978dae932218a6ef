"""`disk`, the same file in `peers` and in `relay`: whole or not at all, whatever the disk does."""

import errno
import fcntl
import os
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from peers import disk as of_peers
from relay import disk as of_relay
from tests.support.full_disk import full_disk

BOTH = pytest.mark.parametrize("disk", [of_peers, of_relay], ids=["peers", "relay"])


def no_links(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", refuse)


def failed(work: Callable[..., object], *arguments: object) -> str:
    """Return what an `OSError` says; empty where there is none."""
    try:
        work(*arguments)
    except OSError as error:
        return str(error.strerror)
    return ""


def test_it_is_one_file_in_two_packages() -> None:
    """As `namesake` is, for the same reason: neither package may import the other, and `protocol`
    has no I/O."""
    mine, other = Path(str(of_peers.__file__)), Path(str(of_relay.__file__))
    for name in ("disk.py", "namesake.py"):
        assert mine.with_name(name).read_text() == other.with_name(name).read_text()


@BOTH
@pytest.mark.parametrize("number", [0, errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK])
def test_of_many_who_make_a_file_at_once_one_does(
    disk: ModuleType, tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if number:
        no_links(monkeypatch, number)
    begin = threading.Barrier(8)
    made: list[bytes] = []
    late: list[bytes] = []

    def program(data: bytes) -> None:
        begin.wait()
        try:
            disk.make(tmp_path / "key", data)
            made.append(data)
        except FileExistsError:
            late.append(disk.read(tmp_path / "key")[0])

    threads = [threading.Thread(target=program, args=(b"%d" % one,)) for one in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made * 7 == late
    assert disk.read(tmp_path / "key") == (made[0], 0o600)
    assert os.listdir(tmp_path) == ["key"]


@BOTH
def test_a_full_disk_leaves_nothing(disk: ModuleType, tmp_path: Path) -> None:
    for work in (disk.make, disk.replace):
        with full_disk(), pytest.raises(OSError, match="File too large"):
            work(tmp_path / "key", b"data")
    assert os.listdir(tmp_path) == []


@BOTH
def test_what_is_no_file_is_refused_at_once(disk: ModuleType, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    for name in ("pipe", ".", "loop", "none", "a\0b", "\ud800", "/dev/zero", "k" * 300):
        assert failed(disk.read, tmp_path / name), name
    for name in ("none/key", "a\0b", "\ud800", "/proc/key", "loop", "k" * 300):
        assert failed(disk.make, tmp_path / name, b""), name
    assert sorted(os.listdir(tmp_path)) == ["loop", "pipe"]


@BOTH
def test_a_link_to_nothing_is_followed(disk: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "key").symlink_to("keys/alice")
    disk.make(tmp_path / "key", b"alice")
    assert (tmp_path / "keys" / "alice").read_bytes() == b"alice"
    with pytest.raises(FileExistsError):
        disk.make(tmp_path / "key", b"bob")


@BOTH
def test_a_folder_that_somebody_keeps_locked_is_not_waited_for_without_end(
    disk: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_links(monkeypatch, errno.EPERM)
    monkeypatch.setattr(disk, "_PATIENCE", 0.05)
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        with pytest.raises(OSError, match="locked"):
            disk.make(tmp_path / "key", b"data")
        assert os.listdir(tmp_path) == []
    finally:
        os.close(folder)


@BOTH
def test_file_systems_without_locks_will_do(
    disk: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*arguments: object) -> None:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    no_links(monkeypatch, errno.EPERM)
    monkeypatch.setattr(fcntl, "flock", none)
    disk.make(tmp_path / "key", b"data")
    with pytest.raises(FileExistsError):
        disk.make(tmp_path / "key", b"other")
    assert disk.read(tmp_path / "key")[0] == b"data"
