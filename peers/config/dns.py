"""The configuration of dynamic DNS at a peer: the zone, who serves it, where the key for it is.

The key itself is read where it is used.
"""

from typing import Annotated

import msgspec

from peers.config.host_port import HostPort
from protocol.checked import check
from protocol.dns_records import parse_zone
from protocol.errors import ProtocolViolation, RoamRelayError

__all__ = ["DdnsConfig", "DdnsConfigError"]

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
        check(self)
        try:
            parse_zone(self.zone)
            for text in (*self.nameservers, *([self.server] if self.server else [])):
                HostPort.parse(text)
        except ProtocolViolation as error:
            raise ValueError(error.reason) from None
        if self.key is not None and self.key_file is not None:
            raise ValueError("give key or key_file, not both")
