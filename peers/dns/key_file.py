"""The TSIG key of a peer's own name: read from the configuration or a file, and written to one.

A key file is what BIND's tools write and read. It is its owner's alone, and never half a one.
"""

import contextlib
import os
import re
import stat
import tempfile

import dns.exception
import dns.name
import dns.tsig

from peers.config import DdnsConfig, DdnsConfigError
from protocol.dns_records import key_file_text, parse_zone, peer_name

__all__ = ["read_key", "write_key"]

_KEY = re.compile(
    r'key\s+"?(?P<name>[^\s"{]+)"?\s*\{\s*'
    r'(?=[^}]*algorithm\s+"?(?P<algorithm>[^\s";]+)"?\s*;)'
    r'(?=[^}]*secret\s+"(?P<secret>[^"]+)"\s*;)[^}]*\}'
)
_MAX_KEY_FILE = 65_536


def read_key(config: DdnsConfig, guid: str) -> dns.tsig.Key | None:
    """Return the key for a peer's updates; None where none is configured.

    Raises:
        DdnsConfigError: the file cannot be read, others may read it, or it holds no such key.
    """
    name = config.key_name or peer_name(guid, parse_zone(config.zone))
    if config.key is not None:
        return _key(name, config.key, "hmac-sha256", "key")
    if config.key_file is None:
        return None
    found = _KEY.search(_read(config.key_file))
    if found is None:
        raise DdnsConfigError(
            f'{config.key_file} holds no key: key "NAME" {{ algorithm …; secret "…"; }};'
        )
    return _key(found["name"], found["secret"], found["algorithm"], config.key_file)


def write_key(file: str | os.PathLike[str], name: str, secret: bytes) -> None:
    """Write a key (hmac-sha256) for its owner's eyes alone, and see that it is on the disk. An
    older file is replaced in one step; where the name is a link, the file that it leads to.

    Raises:
        DdnsConfigError: the file cannot be written. What was there is there still, and nothing
            else is.
    """
    shown = os.fspath(file)
    try:
        where = os.path.realpath(shown)
        if os.path.lexists(where) and not os.path.isfile(where):
            raise DdnsConfigError(f"cannot write {shown!r}: it is not a file")
        _replace(where, key_file_text(name, secret).encode())
    except (OSError, ValueError) as error:
        raise DdnsConfigError(f"cannot write {shown!r}: {_reason(error)}") from None


def _replace(where: str, data: bytes) -> None:
    folder = os.path.dirname(where)
    # Its mode is 0600, and its name one that nobody can have made before.
    descriptor, part = tempfile.mkstemp(dir=folder, prefix=".", suffix=".part")
    try:
        with os.fdopen(descriptor, "wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        os.replace(part, where)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(part)
        raise
    # The new name is on the disk too, where folders can be opened and the file system can do it.
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _read(file: str) -> str:
    try:
        # Opening a pipe would wait for somebody to write.
        descriptor = os.open(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        with os.fdopen(descriptor, "rb") as source:
            mode = os.fstat(descriptor).st_mode
            if not stat.S_ISREG(mode):
                raise DdnsConfigError(f"cannot read {file!r}: it is not a file")
            if os.name == "posix" and mode & 0o007:
                raise DdnsConfigError(
                    f"{file} can be read by everybody (mode {mode & 0o777:04o}): "
                    f"run 'chmod 600 {file}'"
                )
            return source.read(_MAX_KEY_FILE).decode("utf-8", "replace")
    except (OSError, ValueError) as error:
        raise DdnsConfigError(f"cannot read {file!r}: {_reason(error)}") from None


def _reason(error: OSError | ValueError) -> str:
    """A `ValueError` is about a path that no system takes."""
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)


def _key(name: str, secret: str, algorithm: str, source: str) -> dns.tsig.Key:
    if algorithm.rstrip(".").lower() not in ("hmac-sha256", "hmac-sha384", "hmac-sha512"):
        raise DdnsConfigError(f"{source}: algorithm {algorithm} is not hmac-sha256 or better")
    try:
        key = dns.tsig.Key(
            dns.name.from_text(name), secret, dns.name.from_text(algorithm.rstrip(".").lower())
        )
    except (ValueError, dns.exception.DNSException) as error:
        raise DdnsConfigError(f"{source}: not a key: {error}") from None
    if len(key.secret) < 16:
        raise DdnsConfigError(f"{source}: the secret is shorter than 16 bytes")
    return key
