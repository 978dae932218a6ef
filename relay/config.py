"""The configuration of a relay: one frozen class, and where its values come from.

Flags go before the environment (`ROAM_RELAY_…`), which goes before the file. Times are seconds.
"""

import ipaddress
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from protocol.errors import RoamRelayError

__all__ = ["ConfigError", "RelayConfig", "load"]

ENVIRONMENT_PREFIX = "ROAM_RELAY_"

_Seconds = Annotated[float, msgspec.Meta(gt=0, le=86_400)]
_Count = Annotated[int, msgspec.Meta(ge=1)]


class ConfigError(RoamRelayError):
    """The configuration cannot be used. The message names the source, the key and the fault."""


class RelayConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that can be configured; each key is also a variable, `ROAM_RELAY_` and its name."""

    host: str = "127.0.0.1"
    """The address to listen on. `::` or `0.0.0.0` serves everybody: a choice to make knowingly."""
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 8440
    """0 takes any free port."""
    tls_certificate: str | None = None
    """PEM chain for `https://`; needs `tls_key`."""
    tls_key: str | None = None
    identity: str | None = None
    """The relay's own key file. None makes a new identity at each start: peers that pin the
    relay's GUID need a file."""
    heartbeat: _Seconds = 15.0
    """A control connection that is silent for twice this long is dropped."""
    lease: _Seconds = 120.0
    """Told to peers: how long a registration outlives the last byte from its peer at most."""
    suspect_grace: _Seconds = 30.0
    """How long a peer whose last connection was lost is `suspect` before it is `offline`."""
    remember_offline: _Seconds = 86_400.0
    """How long a peer that is offline is remembered with its last-seen time."""
    max_offline: _Count = 100_000
    """Offline peers that are remembered; beyond it the oldest are forgotten."""
    handshake_timeout: _Seconds = 10.0
    """From the upgrade to the registration."""
    write_deadline: _Seconds = 10.0
    """How long a peer may leave what it was sent unread before its connection is aborted."""
    outbox_bytes: _Count = 1 << 20
    """What may wait for one control connection; beyond it the connection is aborted."""
    pending_requests: _Count = 64
    """Service requests of one connection that may wait for an answer at once."""
    max_connections: _Count = 50_000
    """Control connections in all."""
    max_connections_per_address: _Count = 1_000
    """Control connections from one source address: many peers may share a NAT."""
    max_pending_planes: _Count = 4_096
    """Planes whose two legs have not both come."""
    ticket_lifetime: _Seconds = 30.0
    """From the making of a plane to the coming of its second leg."""
    plane_idle: _Seconds = 120.0
    """A plane that moves no byte for this long is closed: peers ping every 2 s."""
    requests_per_second: Annotated[float, msgspec.Meta(gt=0)] = 200.0
    """Service requests of one peer, sustained."""
    requests_burst: _Count = 1_000
    """Service requests of one peer at once."""
    connects_per_second: Annotated[float, msgspec.Meta(gt=0)] = 200.0
    """New control connections from one source address, sustained."""
    connects_burst: _Count = 2_000
    proof_networks: str = ""
    """Networks (CIDR, comma-separated) into which the relay may dial to prove a peer's endpoint,
    beside all global addresses and the kind that it serves on itself."""
    proof_timeout: _Seconds = 5.0
    """For one such probe."""
    proof_lifetime: _Seconds = 600.0
    """After this a proven endpoint is probed again."""
    drain_timeout: Annotated[float, msgspec.Meta(ge=0, le=3600)] = 5.0
    """How long planes may go on after SIGTERM or SIGINT."""
    log_format: Literal["auto", "console", "json"] = "auto"
    """`auto`: console on a terminal, JSON otherwise."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @property
    def networks(self) -> tuple[str, ...]:
        """`proof_networks` as single ones."""
        return tuple(text for part in self.proof_networks.split(",") if (text := part.strip()))


def load(file: str | None, environment: Mapping[str, str], flags: Mapping[str, Any]) -> RelayConfig:
    """Merge a TOML file, the environment and flags (those that are not None).

    Raises:
        ConfigError: a source cannot be read, or a key or a value does not fit.
    """
    values: dict[str, Any] = {}
    if file is not None:
        try:
            values |= msgspec.toml.decode(Path(file).read_bytes(), type=dict[str, Any])
        except OSError as error:
            raise ConfigError(f"cannot read {file}: {error.strerror}") from None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{file}: {error}") from None
        _convert(values, file)
    variables = {
        name.removeprefix(ENVIRONMENT_PREFIX).lower(): value
        for name, value in environment.items()
        if name.startswith(ENVIRONMENT_PREFIX)
    }
    _convert(variables, "the environment", strict=False)
    values |= variables
    values |= {name: value for name, value in flags.items() if value is not None}
    config = _convert(values, "the configuration", strict=False)
    if (config.tls_certificate is None) != (config.tls_key is None):
        raise ConfigError("tls_certificate and tls_key are needed together")
    for text in config.networks:
        try:
            ipaddress.ip_network(text)
        except ValueError as error:
            raise ConfigError(f"proof_networks: {error}") from None
    return config


def _convert(values: Mapping[str, Any], source: str, *, strict: bool = True) -> RelayConfig:
    unknown = sorted(set(values) - set(RelayConfig.__struct_fields__))
    if unknown:
        known = ", ".join(RelayConfig.__struct_fields__)
        raise ConfigError(f"{source}: unknown key {unknown[0]!r} (known: {known})")
    try:
        return msgspec.convert(dict(values), RelayConfig, strict=strict)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{source}: {error}") from None
