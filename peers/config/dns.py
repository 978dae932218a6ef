"""The configuration of dynamic DNS at a peer: the zone, who serves it, and the key for updates."""

import os
import re
from pathlib import Path
from typing import Annotated

import dns.exception
import dns.name
import dns.tsig
import msgspec

from peers.config.host_port import HostPort
from protocol.dns_records import parse_zone, peer_name
from protocol.errors import ProtocolViolation, RoamRelayError

__all__ = ["DdnsConfig", "DdnsConfigError"]

_KEY = re.compile(
    r'key\s+"?(?P<name>[^\s"{]+)"?\s*\{\s*'
    r'(?=[^}]*algorithm\s+"?(?P<algorithm>[^\s";]+)"?\s*;)'
    r'(?=[^}]*secret\s+"(?P<secret>[^"]+)"\s*;)[^}]*\}'
)
_MAX_KEY_FILE = 65_536

_Seconds = Annotated[float, msgspec.Meta(gt=0, le=86_400)]


class DdnsConfigError(RoamRelayError):
    """The configuration of dynamic DNS cannot be used. The message names the key and the fault."""


class DdnsConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where peers are found by name, and how this one is registered there. Times are seconds.

    Without a key this peer looks others up, and is registered nowhere.
    """

    zone: str
    """The zone in which peers are `<guid>.<zone>`."""
    server: str | None = None
    """The zone's primary server, `HOST` or `HOST:PORT`: it gets the updates, and is asked where a
    cache will not do. None: the one that the zone's SOA record names."""
    nameservers: tuple[str, ...] = ()
    """Who is asked for other peers, `ADDRESS` or `ADDRESS:PORT`. Empty: `server`, else the
    system's resolvers."""
    key_file: str | None = None
    """The TSIG key for this peer's own name, as BIND writes it; `peer ddns-key` gets one."""
    key: str | None = None
    """The secret itself (base64, hmac-sha256) where there is no file; `key_name` goes with it."""
    key_name: str | None = None
    """The key's name where it is not `<guid>.<zone>`."""
    timeout: _Seconds = 5.0
    """For one question, or one update."""
    refresh: _Seconds = 900.0
    """Between updates where nothing has changed."""
    stale: Annotated[float, msgspec.Meta(ge=0, le=604_800)] = 86_400.0
    """For how long an answer that is too old may be used while no server answers (RFC 8767)."""

    def __post_init__(self) -> None:
        try:
            parse_zone(self.zone)
            for text in (*self.nameservers, *([self.server] if self.server else [])):
                HostPort.parse(text)
        except ProtocolViolation as error:
            raise ValueError(error.reason) from None
        if self.key is not None and self.key_file is not None:
            raise ValueError("give key or key_file, not both")

    def read_key(self, guid: str) -> dns.tsig.Key | None:
        """Return the key for updates; None where there is none.

        Raises:
            DdnsConfigError: the file cannot be read, others may read it, or it holds no such key.
        """
        name = self.key_name or peer_name(guid, parse_zone(self.zone))
        if self.key is not None:
            return _key(name, self.key, "hmac-sha256", "key")
        if self.key_file is None:
            return None
        found = _KEY.search(_read(self.key_file))
        if found is None:
            raise DdnsConfigError(
                f'{self.key_file} holds no key: key "NAME" {{ algorithm …; secret "…"; }};'
            )
        return _key(found["name"], found["secret"], found["algorithm"], self.key_file)


def _read(file: str) -> str:
    try:
        with Path(file).open("rb") as source:
            if os.name == "posix" and (mode := os.fstat(source.fileno()).st_mode & 0o777) & 0o007:
                raise DdnsConfigError(
                    f"{file} can be read by everybody (mode {mode:04o}): run 'chmod 600 {file}'"
                )
            return source.read(_MAX_KEY_FILE).decode("utf-8", "replace")
    except OSError as error:
        raise DdnsConfigError(f"cannot read {file}: {error.strerror}") from None


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
