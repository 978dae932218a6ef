"""The TSIG key of a peer's own name: read from the configuration or a file, and written to one.

A key file is what BIND's tools write and read. It is its owner's alone, and never half a one.
"""

import os
import re

import dns.exception
import dns.name
import dns.tsig

from peers.config import DdnsConfig, DdnsConfigError
from peers.disk import read, replace
from protocol.dns_records import key_file_text, parse_zone, peer_name

__all__ = ["read_key", "write_key"]

_KEY = re.compile(
    r'key\s+"?(?P<name>[^\s"{]+)"?\s*\{\s*'
    r'(?=[^}]*algorithm\s+"?(?P<algorithm>[^\s";]+)"?\s*;)'
    r'(?=[^}]*secret\s+"(?P<secret>[^"]+)"\s*;)[^}]*\}'
)


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
    try:
        replace(file, key_file_text(name, secret).encode())
    except OSError as error:
        raise DdnsConfigError(f"cannot write {os.fspath(file)!r}: {error.strerror}") from None


def _read(file: str) -> str:
    try:
        data, mode = read(file)
    except OSError as error:
        raise DdnsConfigError(f"cannot read {file!r}: {error.strerror}") from None
    if mode & 0o007:
        raise DdnsConfigError(
            f"{file} can be read by everybody (mode {mode:04o}): run 'chmod 600 {file}'"
        )
    return data.decode("utf-8", "replace")


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
