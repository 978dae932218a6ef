"""Identities on disk. The rules for a key file are `protocol.identity`'s; here is its I/O."""

import os
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
        try:
            with Path(path).open("rb") as file:
                mode = os.fstat(file.fileno()).st_mode if os.name == "posix" else 0
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
        created = cls.generate()
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        except FileExistsError:
            return cls.load(path)
        except OSError as error:
            raise IdentityError(f"cannot make the key {path}: {error.strerror}") from None
        with os.fdopen(descriptor, "wb") as file:
            file.write(created.to_pem())
            file.flush()
            os.fsync(file.fileno())
        return created
