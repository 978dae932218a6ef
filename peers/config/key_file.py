"""Identities on disk. The rules for a key file are `protocol.identity`'s; here is its I/O."""

import contextlib
import os
import stat
import tempfile
from pathlib import Path
from typing import Self

from protocol import identity
from protocol.errors import IdentityError

__all__ = ["Identity"]


class Identity(identity.Identity):
    """An Ed25519 key pair that may live in a file."""

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read an identity from a PEM file that only its owner may read.

        Raises:
            IdentityError: no such file, others may read it, or it holds no Ed25519 key.
        """
        _check_path(path)
        try:
            # Not waiting for somebody to write, where it is a pipe.
            with open(path, "rb", opener=_open_at_once) as file:
                there = os.fstat(file.fileno())
                if not stat.S_ISREG(there.st_mode):
                    raise IdentityError(f"cannot read the key {path}: it is no file")
                mode = there.st_mode if os.name == "posix" else 0
                data = file.read(65_536)
        except OSError as error:
            raise IdentityError(f"cannot read the key {path}: {error.strerror}") from None
        return cls.from_pem(data, file_mode=mode & 0o777, name=str(path))

    @classmethod
    def load_or_create(cls, path: str | os.PathLike[str]) -> Self:
        """Read the identity in a file; make a new one (mode 0600) where there is no file.

        Raises:
            IdentityError: the file cannot be used or made.
        """
        _check_path(path)
        if os.path.lexists(path):
            return cls.load(path)
        created = cls.generate()
        try:
            _write_once(Path(path), created.to_pem())
        except FileExistsError:
            return cls.load(path)
        except OSError as error:
            raise IdentityError(f"cannot make the key {path}: {error.strerror}") from None
        return created


def _check_path(path: str | os.PathLike[str]) -> None:
    """Refuse what names no file: a number would be somebody's descriptor."""
    if "\0" in os.fsdecode(path):
        raise IdentityError(f"cannot use the key {path!r}: no name of a file holds a NUL")


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _write_once(path: Path, data: bytes) -> None:
    """Make a file (mode 0600) that is there whole or not at all.

    Raises:
        FileExistsError: somebody else was faster; theirs is left.
        OSError: it cannot be made; nothing is left.
    """
    descriptor, part = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(part, path)
        except FileExistsError:
            raise
        except OSError:  # A file system without hard links.
            os.rename(part, path)
    finally:
        with contextlib.suppress(OSError):
            os.unlink(part)
