"""Identities on disk. The rules for a key file are `protocol.identity`'s; here is its I/O."""

import os
from typing import Self

from peers.disk import make, read
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
            data, mode = read(path)
        except OSError as error:
            raise IdentityError(f"cannot read the key {path}: {error.strerror}") from None
        return cls.from_pem(data, file_mode=mode, name=str(path))

    @classmethod
    def load_or_create(cls, path: str | os.PathLike[str]) -> Self:
        """Read the identity in a file; make a new one (mode 0600) where there is no file. Programs
        that do so at once get the same.

        Raises:
            IdentityError: the file cannot be used or made.
        """
        _check_path(path)
        created = cls.generate()
        try:
            if not os.path.exists(path):
                make(path, created.to_pem())
                return created
        except FileExistsError:
            pass  # Somebody was faster: theirs is everybody's.
        except OSError as error:
            raise IdentityError(f"cannot make the key {path}: {error.strerror}") from None
        return cls.load(path)


def _check_path(path: str | os.PathLike[str]) -> None:
    """Refuse what names no file: a number would be somebody's descriptor."""
    if "\0" in os.fsdecode(path):
        raise IdentityError(f"cannot use the key {path!r}: no name of a file holds a NUL")
