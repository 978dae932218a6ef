"""The relay's key file, and those of its operators."""

from protocol.errors import IdentityError
from protocol.identity import Identity
from relay import disk

__all__ = ["read_key"]


def read_key(file: str) -> Identity:
    """Read a key.

    Raises:
        IdentityError: it cannot be read, or not be used.
    """
    try:
        data, mode = disk.read(file)
    except FileNotFoundError as error:
        raise IdentityError(
            f"cannot read the key {file}: {error.strerror} ('relay key {file}' makes one)"
        ) from None
    except OSError as error:
        raise IdentityError(f"cannot read the key {file}: {error.strerror}") from None
    return Identity.from_pem(data, file_mode=mode, name=file)
