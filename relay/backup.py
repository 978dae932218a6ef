"""A relay's state as one file, taken while it serves, and put back.

The file is a tar archive of what outlives the relay: the stores, each as it was at one moment, the
relay's key, and a page that says what is in it. It is as secret as the key.
"""

import contextlib
import hashlib
import io
import os
import re
import sqlite3
import tarfile
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Annotated
from urllib.parse import quote

import msgspec

from protocol.errors import RoamRelayError
from relay import disk
from relay.config import RelayConfig
from relay.key_file import read_key
from relay.rotation import former_file
from relay.store import state_folder

__all__ = ["BackupFailed", "back_up", "restore"]

_VERSION = 1
"""Of the archive. One that is higher is not read."""
_PAGE = "roam-relay-backup.json"
_LONGEST_PAGE = 65_536
_BUSY = 30.0
"""Seconds for a relay that writes: each of its transactions takes milliseconds."""
_PIECE = 1 << 20
"""Bytes that are copied at once."""
_ZONE, _KEY, _FORMER = "zone.sqlite", "relay.key", "relay.key.former"
"""What these are called in an archive, whatever they are called where they are."""
_STORE = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}\.sqlite")
"""Names of stores in the state folder, in an archive too."""
_AS_WHOM = " (run it as the user who runs the relay)"


class BackupFailed(RoamRelayError):
    """There is no backup, or nothing was restored. Says why, and the next step."""


class _Member(msgspec.Struct, frozen=True):
    name: str
    size: Annotated[int, msgspec.Meta(ge=0)]
    sha256: str


class _Page(msgspec.Struct, frozen=True):
    """What an archive says of itself."""

    version: int
    made: float
    """Unix time."""
    relay: str
    """The relay's GUID; empty where it has no key file."""
    members: tuple[_Member, ...] = ()


@dataclass(frozen=True, slots=True)
class _Part:
    """One file of the state: its name in the archive, and where it is."""

    name: str
    path: str
    is_store: bool
    """Whether SQLite has written it."""


def _parts(config: RelayConfig) -> tuple[_Part, ...]:
    """Return what outlives a relay with this configuration, where it is there: all stores of the
    state folder, the zone's wherever it is, and the keys."""
    parts = []
    zone = config.in_state(config.dns.store) if config.dns is not None and config.dns.store else ""
    if config.state is not None:
        parts += [
            _Part(name, config.in_state(name), True)
            for name in _stores_in(config.state)
            if name != _ZONE and config.in_state(name) != zone
        ]
    if zone:
        parts.append(_Part(_ZONE, zone, True))
    if config.identity is not None:
        key = config.in_state(config.identity)
        parts += [_Part(_KEY, key, False), _Part(_FORMER, former_file(key), False)]
    return tuple(part for part in parts if _is_there(part.path))


def _stores_in(folder: str) -> list[str]:
    try:
        return sorted(name for name in os.listdir(folder) if _STORE.fullmatch(name))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise BackupFailed(f"cannot read {folder}: {error.strerror}{_AS_WHOM}") from None


def _goal(config: RelayConfig, name: str) -> str:
    """Return where a thing of an archive belongs.

    Raises:
        BackupFailed: the configuration does not say.
    """
    key, goal = "state", None
    if name == _ZONE:
        key = "[dns] store"
        if config.dns is not None and config.dns.store:
            goal = config.in_state(config.dns.store)
    elif name in (_KEY, _FORMER):
        key = "identity"
        if config.identity is not None:
            file = config.in_state(config.identity)
            goal = file if name == _KEY else former_file(file)
    elif config.state is not None:
        goal = config.in_state(name)
    if goal is None:
        raise BackupFailed(
            f"the backup holds {name}, and the configuration does not say where it belongs: set "
            f"{key!r}"
        )
    return goal


def back_up(config: RelayConfig, file: str) -> tuple[str, ...]:
    """Write a backup, of a relay that runs or does not; return the names of what is in it.

    The file is for its owner alone, and whole: nothing has its name before it is on the disk.

    Raises:
        BackupFailed: nothing was written.
        IdentityError: the relay's key cannot be used.
    """
    there = _parts(config)
    if not there:
        raise BackupFailed(
            "there is nothing to copy: the relay of this configuration has written no state yet "
            "('state', 'identity' and '[dns] store' say where)"
        )
    guid = read_key(config.in_state(config.identity)).guid if config.identity else ""
    where = os.path.realpath(file)
    if os.path.lexists(where):
        raise BackupFailed(f"{file} is there already: give the backup another name")
    try:
        with _folder(os.path.dirname(where)) as folder, _temporary(where) as (part, archive):
            copies = [(one.name, _copied(one, folder)) for one in there]
            _write(archive, guid, copies)
            disk.place(part, where)
    except FileExistsError:
        raise BackupFailed(f"{file} is there already: give the backup another name") from None
    except OSError as error:
        raise BackupFailed(f"cannot write {file}: {error.strerror or error}") from None
    return tuple(one.name for one in there)


def restore(file: str, config: RelayConfig) -> tuple[str, tuple[str, ...]]:
    """Put a backup where the configuration says, for a relay that does not run; return its GUID and
    the names of what was put there. Nothing that is there already is replaced.

    Raises:
        BackupFailed: nothing was changed.
        ConfigError: the state folder cannot be used, or a relay runs there.
    """
    try:
        with contextlib.ExitStack() as stack:
            archive = stack.enter_context(tarfile.open(file, "r:"))
            page = _page(archive, file)
            goals = _goals(config, page)
            if config.state is not None:
                stack.enter_context(state_folder(config.state))
            ready = [
                (_extracted(archive, member, goals[member.name], stack), goals[member.name])
                for member in page.members
            ]
            _place_all(ready)
    except (tarfile.TarError, EOFError) as error:
        raise BackupFailed(f"{file} is no whole backup: {error}") from None
    except OSError as error:
        what = error.filename if isinstance(error.filename, str) else file
        raise BackupFailed(f"cannot restore: {what}: {error.strerror or error}") from None
    return page.relay, tuple(member.name for member in page.members)


def _is_there(path: str) -> bool:
    try:
        os.stat(path)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise BackupFailed(f"cannot read {path}: {error.strerror}{_AS_WHOM}") from None
    return True


# -- making one ----------------------------------------------------------------------------------


@contextlib.contextmanager
def _folder(near: str) -> Iterator[str]:
    """A folder for copies, which are secret: for its owner alone, on the same disk."""
    with tempfile.TemporaryDirectory(dir=near, prefix=".backup-") as folder:
        yield folder


@contextlib.contextmanager
def _temporary(where: str) -> Iterator[tuple[str, IO[bytes]]]:
    """A new file beside `where`, mode 0600; its name is gone afterwards."""
    descriptor, part = tempfile.mkstemp(dir=os.path.dirname(where), prefix=".", suffix=".part")
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield part, file
    finally:
        with contextlib.suppress(OSError):
            os.unlink(part)


def _copied(part: _Part, folder: str) -> str:
    if not part.is_store:
        return part.path
    copy = os.path.join(folder, part.name)
    _copy_store(part.path, copy)
    return copy


def _copy_store(source: str, copy: str) -> None:
    """Copy a store as it is at one moment, while others write: SQLite's own backup, in one step, so
    that a relay that writes all the time cannot make it begin anew without end.

    Raises:
        BackupFailed: it cannot be read, is damaged, or the disk is full.
    """
    os.close(os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        with (
            contextlib.closing(_opened(source)) as there,
            contextlib.closing(_opened(copy)) as here,
        ):
            there.backup(here)
            (found,) = here.execute("PRAGMA quick_check").fetchone()
    except sqlite3.Error as error:
        raise BackupFailed(f"{source} cannot be copied: {error}") from None
    if found != "ok":
        raise BackupFailed(f"{source} is damaged: {found}")


def _opened(path: str) -> sqlite3.Connection:
    """Open a file that is there: nobody's is made by a copy."""
    return sqlite3.connect(f"file:{quote(path)}?mode=rw", uri=True, timeout=_BUSY)


def _write(archive: IO[bytes], guid: str, copies: list[tuple[str, str]]) -> None:
    members = []
    for name, path in copies:
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256")
            members.append(_Member(name, file.tell(), digest.hexdigest()))
    page = msgspec.json.encode(_Page(_VERSION, time.time(), guid, tuple(members)))
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.addfile(_header(_PAGE, len(page)), io.BytesIO(page))
        for (_, path), member in zip(copies, members, strict=True):
            with open(path, "rb") as file:
                tar.addfile(_header(member.name, member.size), file)
    archive.flush()
    os.fsync(archive.fileno())


def _header(name: str, size: int) -> tarfile.TarInfo:
    """No owner and no time: what unpacks it by hand gets files of its own."""
    header = tarfile.TarInfo(name)
    header.size, header.mode = size, 0o600
    return header


# -- putting one back ----------------------------------------------------------------------------


def _page(archive: tarfile.TarFile, file: str) -> _Page:
    """Read what an archive says of itself: it is the first in it."""
    first = archive.next()
    if first is None or first.name != _PAGE or first.size > _LONGEST_PAGE:
        raise BackupFailed(f"{file} is no backup: 'relay backup' makes one")
    read = archive.extractfile(first)
    try:
        page = msgspec.json.decode(read.read() if read else b"", type=_Page)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BackupFailed(f"{file} is no whole backup: {error}") from None
    names = [member.name for member in page.members]
    known = (name in (_KEY, _FORMER) or _STORE.fullmatch(name) for name in names)
    if page.version > _VERSION or not all(known):
        raise BackupFailed(f"a newer version of this program has made {file}: restore it by that")
    if len(set(names)) < len(names):
        raise BackupFailed(f"{file} is no whole backup: it names the same twice")
    return page


def _goals(config: RelayConfig, page: _Page) -> dict[str, str]:
    """Return where each thing belongs, which must be nowhere yet."""
    goals = {member.name: _goal(config, member.name) for member in page.members}
    for goal in goals.values():
        for path in (goal, f"{goal}-wal") if goal.endswith(".sqlite") else (goal,):
            if os.path.lexists(path):
                raise BackupFailed(
                    f"{path} is there already, and would be lost: move it away, or restore into "
                    "another folder"
                )
    return goals


def _extracted(
    archive: tarfile.TarFile, member: _Member, goal: str, stack: contextlib.ExitStack
) -> str:
    """Take one thing out, beside where it belongs, and check it; return its temporary name."""
    Path(goal).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    part, file = stack.enter_context(_temporary(goal))
    try:
        header = archive.getmember(member.name)
        source = archive.extractfile(header) if header.isreg() else None
    except KeyError:
        source = None
    digest, left = hashlib.sha256(), member.size
    while source is not None and left and (data := source.read(min(_PIECE, left))):
        digest.update(data)
        file.write(data)
        left -= len(data)
    file.flush()
    os.fsync(file.fileno())
    disk.give(part, os.stat(os.path.dirname(part)))
    if source is None or left or digest.hexdigest() != member.sha256:
        raise BackupFailed(f"the backup is damaged: {member.name} is not what was put into it")
    return part


def _place_all(ready: list[tuple[str, str]]) -> None:
    placed: list[str] = []
    try:
        for part, goal in ready:
            disk.place(part, goal)
            placed.append(goal)
    except OSError as error:
        for goal in placed:
            with contextlib.suppress(OSError):
                os.unlink(goal)
        raise BackupFailed(f"nothing was restored: {goal}: {error.strerror or error}") from None
