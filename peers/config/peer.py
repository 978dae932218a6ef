"""The configuration of a peer: one frozen class, and how it is read from TOML."""

import os
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from peers.config.arguments import ServiceNameError, checked_guid, checked_service
from peers.config.dns import DdnsConfig
from peers.config.kinds import CarrierKind, Dial, StandbyWord
from peers.config.policy import Policy
from protocol.checked import check
from protocol.errors import IdentityError, RoamRelayError
from protocol.hosts import is_address
from protocol.identity import GUID_LENGTH
from protocol.invitation import BadInvitation, Token
from protocol.lock import Lock
from protocol.messages import Guid, Mode, Service
from protocol.session import SessionSettings

__all__ = ["ConfigError", "PeerConfig", "policy_for"]

_Seconds = Annotated[float, msgspec.Meta(gt=0, le=86_400)]


class ConfigError(RoamRelayError, ValueError):
    """A configuration cannot be used. The message names the file, if there is one, the key and the
    fault."""


class PeerConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that can be configured. Times are seconds.

    Raises:
        ConfigError: a value does not fit, also where the program makes it.
        PolicyError: a policy cannot be read.
    """

    relay: str | None = None
    """`http://HOST:PORT` or `https://HOST:PORT` (without a port 80 or 443, as in every URL);
    several with commas, up to 8, where they are one relay (docs/scaling.md): one that cannot be
    reached is passed over; or `dns:DOMAIN`, whose SRV records name it."""
    ddns: DdnsConfig | None = None
    """Registration and lookup by dynamic DNS, beside the relay or in its place (docs/ddns.md)."""
    lookup: Literal["relay", "dns"] = "relay"
    """Who is asked first in mode `p2p`; the other one is the fallback."""
    relay_guid: Guid | None = None
    """The relay's GUID where only that relay will do: else any relay at the URL is believed."""
    relay_pin_file: str | None = None
    """A file in which this peer writes down what `relay_guid` has become, when the relay has
    changed its key and the old one has signed the new one. Of the `peer` command it is the key file
    and `.relay`; without one a program keeps `Status.relay_guid` itself."""
    wait_for_relay: bool = False
    """Whether a peer that starts before its network or its relay does waits, without end, until it
    is registered, in place of raising after `connect_timeout`. `peer listen`, `receive` and
    `expose` do. Put `asyncio.timeout` round it where there is an end."""
    relay_ca: str | None = None
    """A file of CA certificates (PEM) for `https://`, in place of the system's. It is read again
    for the next connection when it has changed."""
    invitation: str | None = None
    """What the relay's operator has made by `relay invite`: a secret. It is shown to a relay that
    asks for one, in a form that nobody else can use; the token itself is sent to nobody."""
    carrier: CarrierKind | None = None
    """What carries bytes to the relay: `raw` or `websocket` and nothing else. None: raw, and
    `websocket` by itself where the upgrade is refused, as by a proxy that passes nothing else."""
    identity: str | None = None
    """The key file of the `peer` command."""
    mode: Mode = Mode.COMBINED
    """For sessions that neither `guids` nor `services` names. Combined: the callee's own latest
    address, asked for at call time, and no load on the relay."""
    services: dict[Service, Mode] = {}
    """The mode for a service."""
    guids: dict[Guid, Mode] = {}
    """The mode for a peer; goes before the service's."""
    blocked: tuple[Guid, ...] = ()
    """GUIDs of peers to have nothing to do with: no service is offered to them (`Peer.block`)."""
    policy: str = ""
    """Which paths sessions may take (policy.py); for those that `policies` does not name."""
    policies: dict[str, str] = {}
    """The policy for a service or for a peer's GUID; the peer's goes before the service's."""
    select: Literal["fastest", "latest"] = "fastest"
    """Which endpoint is dialed: the one with the least delay, or the callee's latest (the draft's
    order)."""
    selects: dict[str, Literal["fastest", "latest"]] = {}
    """The same for a service or for a peer's GUID."""
    probe_interval: Annotated[float, msgspec.Meta(ge=0, le=86_400)] = 30.0
    """Between probes for a better direct path while a session lives; 0 does not look. Up to sixteen
    times as long where the session carries nothing."""
    fallback: bool = True
    """Whether a session in `combined` that finds no direct path is opened in `auto` instead, and
    one that loses its direct path goes on over the relay until there is one again."""
    dial: Dial = Dial.CAREFUL
    """Which endpoints are dialed by another's word where its key was not met before: `careful`,
    `proven` for servers that strangers call, `open` for laboratories (docs/addresses.md). A policy
    may say otherwise for a service or a peer."""
    standby: StandbyWord = StandbyWord.AUTO
    """Whether a session keeps a second direct path ready while another network of either side leads
    to the other: `auto`, but over no interface that `metered` names; `metered`, over those too; or
    `never`. A quiet one costs a ping a minute. A path by the relay follows this host's routes to
    another network by the same word. A policy may say otherwise for a service or for a peer."""
    locks: Annotated[tuple[Lock, ...], msgspec.Meta(min_length=1, max_length=2)] = tuple(Lock)
    """What a path by the relay may be locked by: `tls`, or `noise`, which pages in browsers have;
    where both sides have both it is TLS. Direct paths are under TLS always. A policy may say
    otherwise for a service or for a peer."""
    metered: tuple[str, ...] = ()
    """Interfaces that cost money, as patterns, for policies and for `standby`: `wwan*`."""
    listen_hosts: tuple[str, ...] = ("0.0.0.0", "::")
    """Where direct paths are accepted."""
    listen_port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 0
    """The port of direct paths; 0 is any free one."""
    map_port: str = ""
    """The router that is asked to pass `listen_port` on, so that others can dial this host behind
    it (PCP, NAT-PMP; IPv4): its address, or `auto` for that of the default route, which only Linux
    tells. Empty asks nobody."""
    advertise: tuple[str, ...] = ()
    """Addresses to register beside the one that leads to the relay."""
    sources: tuple[str, ...] = ()
    """Local addresses to use and no others, as far as the host has them; empty: as the routes lead,
    and a flow for every further interface."""
    lifetime: Annotated[int, msgspec.Meta(ge=1, le=604_800)] = 120
    """For how long a registered endpoint may be used by who has learned it."""
    connect_timeout: _Seconds = 10.0
    """For one attempt at the relay, handshake included."""
    request_timeout: Annotated[float, msgspec.Meta(gt=0, le=60)] = 10.0
    """For the callee's answer to a service request."""
    path_timeout: _Seconds = 10.0
    """For one path, from the first packet to the answer to its hello."""
    close_timeout: _Seconds = 1.5
    """At the end of a peer, for its sessions to be closed cleanly: what was sent has arrived. What
    is left then is dropped."""
    stagger: _Seconds = 0.25
    """Between the starts of attempts at two endpoints (RFC 8305 §5)."""
    sessions_per_peer: Annotated[int, msgspec.Meta(ge=1)] = 128
    """Sessions that one other peer may have opened with this one, those that have no path now
    included: one more is refused with `limit_exceeded`."""
    held_per_peer: Annotated[int, msgspec.Meta(ge=65_536)] = 64 << 20
    """Bytes that the sessions which one other peer has opened may make this one hold, beside one
    message each: their windows are smaller the more there are, down to 64 KiB."""
    max_sessions: Annotated[int, msgspec.Meta(ge=1)] = 4_096
    """Sessions that others may have opened, in all. Where there are as many, one that has no path
    makes room: of who has most."""
    session: SessionSettings = SessionSettings()
    """What sessions hold and how long they wait: the table `[session]`."""

    def __post_init__(self) -> None:
        try:
            check(self)
        except ValueError as error:
            raise ConfigError(str(error)) from None
        for key in ("listen_hosts", "advertise", "sources"):
            for text in getattr(self, key):
                if not is_address(text):
                    raise ConfigError(f"{key}: not an IP address: {text[:80]!r}")
        if self.map_port not in ("", "auto") and (
            not is_address(self.map_port) or ":" in self.map_port
        ):
            raise ConfigError(f"map_port: 'auto' or an IPv4 address, not {self.map_port[:80]!r}")
        for text in (self.policy, *self.policies.values()):
            Policy.parse(text)
        if self.invitation is not None:
            try:
                Token.parse(self.invitation)
            except BadInvitation as error:
                raise ConfigError(f"invitation: {error}") from None
        for key in ("guids", "blocked"):
            for guid in getattr(self, key):
                _check_guid(key, guid)
        if self.relay_guid is not None:
            _check_guid("relay_guid", self.relay_guid)
        for key in ("policies", "selects"):
            for name in getattr(self, key):
                _check_guid_or_service(key, name)

    def __repr__(self) -> str:
        """All but the invitation, which is a secret and may end in a log."""
        shown = (
            f"{name}={getattr(self, name)!r}"
            for name in self.__struct_fields__
            if name != "invitation"
        )
        return f"PeerConfig({', '.join(shown)})"

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "PeerConfig":
        """Read a TOML file.

        Raises:
            ConfigError: it cannot be read, is no TOML, or has a key or value that does not fit.
        """
        try:
            return msgspec.toml.decode(Path(path).read_bytes(), type=cls)
        except OSError as error:
            raise ConfigError(f"cannot read {path}: {error.strerror}") from None
        except (msgspec.DecodeError, ValueError) as error:
            raise ConfigError(f"{path!s:.200}: {error}") from None

    def unused(self, used: Collection[str]) -> list[str]:
        """Return the services that are named here and are none of those that were used."""
        named = {*self.services, *self.policies, *self.selects}
        return sorted(name for name in named - set(used) if len(name) != GUID_LENGTH)

    def mode_for(self, guid: str, service: str) -> Mode:
        """Return the configured mode of a session: the peer's, else the service's, else `mode`."""
        return self.guids.get(guid) or self.services.get(service) or self.mode

    def select_for(self, guid: str, service: str) -> str:
        """Return the configured selector of a session."""
        return self.selects.get(guid) or self.selects.get(service) or self.select


def policy_for(config: PeerConfig, guid: str, service: str) -> Policy:
    """Return the configured policy of a session: the peer's, else the service's, else `policy`."""
    return Policy.parse(config.policies.get(guid) or config.policies.get(service) or config.policy)


def _check_guid(key: str, text: str) -> None:
    try:
        checked_guid(text, key)
    except IdentityError as error:
        raise ConfigError(error.reason) from None


def _check_guid_or_service(key: str, text: str) -> None:
    """What has the length of a GUID is one: a service of that many letters is a GUID with a slip of
    the pen."""
    try:
        if len(text) == GUID_LENGTH:
            raise ServiceNameError(text)
        checked_service(text)
    except ServiceNameError:
        try:
            checked_guid(text)
        except IdentityError:
            raise ConfigError(f"{key}: {text[:80]!r} is neither a service nor a GUID") from None
