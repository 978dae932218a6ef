"""The configuration of a relay: one frozen class, and where its values come from.

Flags go before the environment (`ROAM_RELAY_…`), which goes before the file. Times are seconds.
"""

import ipaddress
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from protocol.dns_records import parse_zone
from protocol.endpoint import Endpoint
from protocol.errors import IdentityError, ProtocolViolation
from protocol.hosts import is_host
from protocol.identity import public_key_of
from relay.tables import (
    ClusterConfig,
    ConfigError,
    MailboxConfig,
    Siblings,
    check_fields,
    check_url,
    hosts_of,
)

__all__ = [
    "CERTIFICATE",
    "KEY",
    "LIVE",
    "PACE",
    "RELOADED",
    "ClusterConfig",
    "ConfigError",
    "DnsConfig",
    "MailboxConfig",
    "RelayConfig",
    "Siblings",
    "load",
]

ENVIRONMENT_PREFIX = "ROAM_RELAY_"
KEY, ZONE = "relay.key", "zone.sqlite"
"""What the relay's key and the store of its zone are called in the state folder, where nobody gives
them another name."""

_Seconds = Annotated[float, msgspec.Meta(gt=0, le=86_400)]
_Share = Annotated[float, msgspec.Meta(gt=0, le=1)]
_Count = Annotated[int, msgspec.Meta(ge=1)]
_Bytes = Annotated[int, msgspec.Meta(ge=1 << 14)]

_DOOR = {"connects_burst", "connects_per_second", "max_connections", "max_connections_per_address"}
PACE = {"bytes_per_second_in_all", "bytes_per_second_per_peer"}
_REQUESTS = {"requests_burst", "requests_per_second"}
_LOG = {"log_format", "log_level"}
LIVE = _DOOR | PACE | _REQUESTS | _LOG | {"admin_token", "drain_timeout"}
"""Of `RELOADED`, what is more than files to be read again."""
CERTIFICATE = {"tls_certificate", "tls_key"}
RELOADED = LIVE | CERTIFICATE
"""Keys that `RelayServer.reload` takes over; the others need a restart."""


class DnsConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The relay's own DNS zone: the table `[dns]`, or variables `ROAM_RELAY_DNS_` and a name."""

    zone: str
    """The zone that is served: peers are `<guid>.<zone>`."""
    host: str | tuple[str, ...] | None = None
    """The address to listen on, or several; the relay's where there is none."""
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 8453
    """UDP and TCP; 0 takes any free port. Resolvers find only 53."""
    nameserver: str | None = None
    """This server's name in the NS and SOA records; `ns.<zone>` where there is none."""
    addresses: str = ""
    """The addresses (comma-separated) that resolvers reach this server and the relay at: A and AAAA
    of the nameserver where its name is in the zone, and the relay of `dns:<zone>`."""
    store: str | None = None
    """The SQLite file for what peers have registered by updates. None, or an empty name, forgets it
    at the end; `relay serve` takes `zone.sqlite` in its state folder where there is none. Not used
    in a cluster, nor with `--nodes`: there it is in NATS (docs/scaling.md)."""
    remember: _Seconds = 86_400.0
    """What no update has renewed for so long is dropped: peers renew theirs every 15 minutes."""
    max_peers: _Count = 100_000
    """Peers that updates may register."""
    max_records: _Count = 256
    """Records of one peer."""
    max_bytes: _Count = 32_768
    """Bytes of one peer's records, as text."""
    updates_per_second: Annotated[float, msgspec.Meta(gt=0)] = 5.0
    """Of one key, sustained; above it an update is refused. A long one counts as several."""
    updates_burst: _Count = 20
    """Updates of one key at once, as after a time without a network."""
    answers_per_second: Annotated[float, msgspec.Meta(gt=0)] = 50.0
    """To one source network (/24 or /48): over UDP what is above it is dropped, or told to come by
    TCP; over TCP it is not read for so long."""
    answers_burst: _Count = 200
    """Answers to one source network at once."""
    made_per_second: Annotated[float, msgspec.Meta(gt=0)] = 500.0
    """Answers over UDP that are not at hand and have to be made, for everybody: one takes some
    0.3 ms of the relay's time. What is above it is told to come by TCP."""
    max_connections: _Count = 256
    """TCP connections in all, a quarter of them for one network. When all are taken, a newcomer
    gets the one that is quiet longest in the network that holds most."""
    max_connections_per_address: _Count = 32
    """Of IPv6: for one /64."""

    @property
    def hosts(self) -> tuple[str, ...]:
        """`host` as single ones."""
        return hosts_of(self.host)

    @property
    def own_addresses(self) -> tuple[str, ...]:
        """`addresses` as single ones."""
        return tuple(text for part in self.addresses.split(",") if (text := part.strip()))

    def __post_init__(self) -> None:
        check_fields(self)
        _check_hosts("dns: host", self.host)
        _check_names(self)


class RelayConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that can be configured; each key is also a variable, `ROAM_RELAY_` and its name."""

    host: str | tuple[str, ...] = "127.0.0.1"
    """The address to listen on, or several: an array in TOML, commas in the environment. `::` is
    every address of this machine, of both families, and `0.0.0.0` those of IPv4: a choice to make
    knowingly."""
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 8440
    """0 takes any free port."""
    observe_port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 0
    """A second port at the same addresses, for TCP: peers learn there whether their NAT shows them
    at one port to everybody, and spare themselves meetings that cannot be (docs/nat.md). 0: none,
    as it has to be open in the firewall too, and peers do without: they try."""
    tls_certificate: str | None = None
    """PEM chain for `https://`; needs `tls_key`."""
    tls_key: str | None = None
    """PEM key of the certificate, without a password; for its owner, and its group at most."""
    state: str | None = None
    """The folder for what outlives the relay: bans, the list, invitations, the operator's socket.
    Made where there is none, for its owner alone. `identity` and `[dns] store` are names in it
    unless they begin with `/`. None: all that is forgotten at the end, and there is no socket; the
    `relay` command then takes STATE_DIRECTORY, or the place that this system has for a user's files
    (docs/state.md). Empty: none there either."""
    operator_socket: str = "operator.sock"
    """Where `relay ban` and its like reach the running relay: a UNIX socket in `state`, for its
    owner alone; empty: none."""
    admin_host: str | tuple[str, ...] | None = None
    """The address, or several, where `/metrics` is served in place of where peers come; `/healthz`
    and `/readyz` are answered at both. Off loopback `admin_token` is needed. None: where peers
    come."""
    admin_port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 8441
    """Of `admin_host`; 0 takes any free port."""
    admin_token: str | None = None
    """A file with the token that `/metrics` wants (`Authorization: Bearer TOKEN`): one line of at
    least 16 characters, read again with a reload. Without one, metrics are for requests from this
    host alone. A name in `state` unless it begins with `/`."""
    dashboard_addresses: bool = False
    """Whether the dashboard shows where peers come from; else a network has a number that says
    nothing, and changes with each start."""
    admission: Literal["open", "listed", "invited"] = "open"
    """Who may register: everybody; who is on the list (`relay allow`, `listed`); or these and who
    has an invitation of an operator. Bans go before all three."""
    listed: str | tuple[str, ...] = ()
    """GUIDs on the list, beside those of `relay allow`: an array, or commas."""
    operators: str | tuple[str, ...] = ()
    """GUIDs whose keys may sign invitations, beside the relay's own: an array, or commas."""
    admission_timeout: Annotated[float, msgspec.Meta(gt=0, le=60)] = 5.0
    """For the function of a program that embeds the relay; after it the peer is refused for now."""
    identity: str | None = None
    """The relay's own key file. None makes a new identity at each start: peers that pin the
    relay's GUID need a file. `relay serve` takes `relay.key` in its state folder where there is
    none, and makes it."""
    heartbeat: _Seconds = 15.0
    """A control connection that is silent for twice this long is dropped. At most half of `lease`:
    one that is lost must not end a registration."""
    lease: _Seconds = 120.0
    """Told to peers: how long a registration outlives the last byte from its peer at most."""
    suspect_grace: _Seconds = 30.0
    """How long a peer whose last connection was lost is `suspect` before it is `offline`."""
    remember_offline: _Seconds = 86_400.0
    """How long a peer that is offline is remembered with its last-seen time."""
    max_offline: _Count = 100_000
    """Offline peers that are remembered; beyond it the oldest are forgotten."""
    handshake_timeout: _Seconds = 10.0
    """From the connection to its first byte and through TLS; for each request; and from the upgrade
    to the registration."""
    write_deadline: _Seconds = 10.0
    """How long a peer may leave what it was sent unread before its connection is aborted."""
    outbox_bytes: _Count = 1 << 20
    """What may wait for one control connection; beyond it the connection is aborted."""
    pending_requests: _Count = 64
    """Service requests of one connection that may wait for an answer at once."""
    max_connections: _Count = 50_000
    """Control connections in all."""
    max_connections_per_address: _Count = 1_000
    """Control connections from one source network, an IPv4 address or an IPv6 /64: many peers may
    share a NAT. An IPv6 /48 may have four times as many."""
    max_newcomers: _Count = 4_096
    """Connections that have not proven yet whose they are: before the upgrade, or not registered.
    Beyond it the network that has most of them loses its oldest."""
    page_origins: str | tuple[str, ...] = ()
    """Origins (`https://chat.example`) of the pages in browsers that are served, beside those of
    the relay's own host, whatever their scheme and port, where that is an address, `localhost`, or
    a name under TLS or behind a proxy: an array, or commas; `*` is every one. What names another
    origin in a WebSocket's request is refused, and cannot read the look-up. What is no page names
    none, and is served as ever."""
    trusted_proxies: tuple[str, ...] | None = None
    """Networks (CIDR, or addresses) of the reverse proxies whose word is taken for where a peer
    comes from: by the PROXY protocol, or X-Forwarded-For or Forwarded. In the environment separated
    by commas. None believes such headers of requests that come by a proxy on this host, where the
    relay listens on loopback addresses alone; an empty list believes nobody."""
    max_pending_planes: _Count = 4_096
    """Planes whose two legs have not both come; fewer where the process may open fewer files than 8
    for each. One peer has a sixteenth of them, one network half."""
    max_planes: _Count = 16_384
    """Planes that are joined; fewer where the process may not open that many files: half of those
    are for planes. One peer has a quarter of them, one network half."""
    ticket_lifetime: _Seconds = 30.0
    """From the making of a plane to the coming of its second leg."""
    plane_idle: _Seconds = 120.0
    """A plane that moves no byte for this long is closed: peers ping every 2 s."""
    work_per_peer: _Share = 0.2
    """Of one core's time: what one peer may have done for it, sustained, and for a second at once.
    Above it its connection is not read for a while. A signature takes some 0.15 ms."""
    work_per_network: _Share = 0.5
    """The same of all peers of one address (IPv6: /64), registered or not."""
    work_in_all: _Share = 0.8
    """Of all. Where this, or a network's, is used up, who has used little of its own goes on."""
    requests_per_second: Annotated[float, msgspec.Meta(gt=0)] = 200.0
    """Service requests of one peer, sustained."""
    requests_burst: _Count = 1_000
    """Service requests of one peer at once."""
    connects_per_second: Annotated[float, msgspec.Meta(gt=0)] = 200.0
    """New control connections from one source address, sustained."""
    connects_burst: _Count = 2_000
    """New control connections from one source address at once, as when a link comes back."""
    bytes_per_second_per_peer: _Bytes | None = None
    """What one peer may send, sustained, and for a second at once: through planes, and in messages.
    Above it its planes are slowed, and its control connections are not read for up to a second at a
    time; nothing is cut. None: no limit. At least 16 KiB, one TLS record a second: what moves more
    slowly is taken for dead by peers."""
    bytes_per_second_in_all: _Bytes | None = None
    """The same of all peers together. Where it is used up, networks take turns, and in each its
    peers. None: no limit."""
    proof_networks: str = ""
    """Networks (CIDR, comma-separated) into which the relay may dial to prove a peer's endpoint,
    beside all global addresses and, without trusted proxies, the kind that it serves on itself.
    Multicast, link-local and its own listeners are never dialed."""
    proof_timeout: _Seconds = 5.0
    """For one such probe."""
    proof_lifetime: _Seconds = 600.0
    """After this a proven endpoint is probed again."""
    dns: DnsConfig | None = None
    """The embedded zone (docs/ddns.md); off where there is no such table."""
    mailbox: MailboxConfig = MailboxConfig()
    """Letters for peers who are away; kept where there is a state folder."""
    cluster: ClusterConfig | None = None
    """Many relays as one (docs/scaling.md); this one is alone where there is no such table."""
    drain_timeout: Annotated[float, msgspec.Meta(ge=0, le=3600)] = 5.0
    """How long planes may go on after SIGTERM or SIGINT."""
    log_format: Literal["auto", "console", "json"] = "auto"
    """`auto`: console on a terminal, JSON otherwise."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The lowest level that is logged."""

    @property
    def hosts(self) -> tuple[str, ...]:
        """`host` as single ones."""
        return hosts_of(self.host)

    @property
    def admin_hosts(self) -> tuple[str, ...]:
        """`admin_host` as single ones."""
        return hosts_of(self.admin_host)

    @property
    def listed_guids(self) -> tuple[str, ...]:
        """`listed` as single ones."""
        return hosts_of(self.listed)

    @property
    def operator_guids(self) -> tuple[str, ...]:
        """`operators` as single ones."""
        return hosts_of(self.operators)

    @property
    def pages(self) -> tuple[str, ...]:
        """`page_origins` as single ones."""
        return hosts_of(self.page_origins)

    def in_state(self, name: str) -> str:
        """Return the path of a file: in the state folder, where there is one and it is no absolute
        path."""
        return name if self.state is None else str(Path(self.state, name))

    @property
    def keeps_letters(self) -> bool:
        """Whether the relay has a mailbox."""
        return self.state is not None and self.mailbox.enabled

    @property
    def only_on_loopback(self) -> bool:
        """Whether nobody reaches the relay but from its own host."""
        return all(_is_loopback(host) for host in self.hosts)

    @property
    def admin_is_on_loopback(self) -> bool:
        """Whether nobody reaches `admin_host` but from this host."""
        return all(_is_loopback(host) for host in self.admin_hosts)

    @property
    def networks(self) -> tuple[str, ...]:
        """`proof_networks` as single ones."""
        return _parts(self.proof_networks)

    def __post_init__(self) -> None:
        check_fields(self)
        _check_hosts("host", self.host)
        _check_hosts("admin_host", self.admin_host)
        outside = [host for host in self.admin_hosts if not _is_loopback(host)]
        if outside and self.admin_token is None:
            raise ConfigError(
                f"admin_host: other machines reach {outside[0]}, and the metrics are not for "
                "everybody: name a file with a token as 'admin_token', or listen on 127.0.0.1 or "
                "::1"
            )
        for origin in self.pages:
            if origin != "*":
                check_url("page_origins", origin, ("http", "https"))
        for key, guids in (("listed", self.listed_guids), ("operators", self.operator_guids)):
            for guid in guids:
                try:
                    public_key_of(guid)
                except IdentityError as error:
                    raise ConfigError(f"{key}: {error}") from None
        if self.admission == "invited" and self.state is None:
            raise ConfigError(
                "admission: who has used an invitation is kept in the state folder: name one as "
                "'state'"
            )
        for key, networks in (
            ("proof_networks", self.networks),
            ("trusted_proxies", self.trusted_proxies or ()),
        ):
            for text in networks:
                try:
                    ipaddress.ip_network(text)
                except ValueError as error:
                    raise ConfigError(f"{key}: {error}") from None
        if self.observe_port in {self.port, self.admin_host and self.admin_port} - {0, None}:
            raise ConfigError("observe_port: another service of this relay has that port")
        if self.heartbeat > self.lease / 2:
            raise ConfigError(
                f"heartbeat: {self.heartbeat:g} s is more than half of the lease of "
                f"{self.lease:g} s: one that is lost would end a registration"
            )
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ConfigError("tls_certificate and tls_key are needed together")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _parts(text: str) -> tuple[str, ...]:
    """Return what stands between commas."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _check_hosts(key: str, host: str | tuple[str, ...] | None) -> None:
    hosts = hosts_of(host)
    if host is not None and not hosts:
        raise ConfigError(f"{key}: an address to listen on is needed")
    for host in hosts:
        if not is_host(host):
            raise ConfigError(f"{key}: not an address or a name: {host[:80]!r}")


def load(
    file: str | None,
    environment: Mapping[str, str],
    flags: Mapping[str, Any],
    *,
    place: str | None = None,
) -> RelayConfig:
    """Merge a TOML file, the environment and flags (those that are not None). `place` is the state
    folder where none of them names one; with it, the key and the zone's store have names too.

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
        _check_each(values, file)
    variables: dict[str, Any] = {
        name.removeprefix(ENVIRONMENT_PREFIX).lower(): value
        for name, value in environment.items()
        if name.startswith(ENVIRONMENT_PREFIX)
    }
    for table in ("dns", "cluster", "mailbox"):
        prefix = f"{table}_"
        names = [name for name in variables if name.startswith(prefix)]
        if names:
            own = {name.removeprefix(prefix): variables.pop(name) for name in names}
            variables[table] = {**values.get(table, {}), **own}
    if "trusted_proxies" in variables:
        variables["trusted_proxies"] = _parts(variables["trusted_proxies"])
    _check_each(variables, "the environment", strict=False)
    values |= variables
    values |= {name: value for name, value in flags.items() if value is not None}
    if place is not None:
        _place(values, place)
    if values.get("state") == "":
        values["state"] = None
    _check_each(values, "the configuration", strict=False)
    try:
        config = msgspec.convert(values, RelayConfig, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(str(error)) from None
    return config


def _place(values: dict[str, Any], place: str) -> None:
    """Name what nobody has named. In a state folder that nobody has chosen, the names of others
    stay what they were without one: names from the working folder."""
    dns = values.get("dns")
    dns = dict(dns) if isinstance(dns, dict) else None
    if values.get("state") is None:
        values["state"] = place
        for one, key in ((values, "identity"), (values, "admin_token"), (dns or {}, "store")):
            if isinstance(one.get(key), str) and one[key]:
                one[key] = os.path.abspath(one[key])
    if values["state"] != "":
        if values.get("identity") is None:
            values["identity"] = KEY
        if dns is not None:
            dns.setdefault("store", ZONE)
    if dns is not None:
        values["dns"] = dns


def _check_names(dns: DnsConfig) -> None:
    try:
        parse_zone(dns.zone)
        if dns.nameserver is not None:
            parse_zone(dns.nameserver)
        for text in dns.own_addresses:
            Endpoint.parse(text, 1)
    except ProtocolViolation as error:
        raise ConfigError(f"dns: {error}") from None


def _check_each(values: Mapping[str, Any], source: str, *, strict: bool = True) -> None:
    """Check each value by itself: how they fit together is seen when all sources are merged."""
    unknown = sorted(set(values) - set(RelayConfig.__struct_fields__))
    if unknown:
        known = ", ".join(RelayConfig.__struct_fields__)
        raise ConfigError(f"{source}: unknown key {unknown[0]!r} (known: {known})")
    for field in msgspec.structs.fields(RelayConfig):
        try:
            msgspec.convert(values.get(field.name, field.default), field.type, strict=strict)
        except UnicodeError:
            raise ConfigError(f"{source}: {field.name}: it is no text in UTF-8") from None
        except msgspec.ValidationError as error:
            raise ConfigError(f"{source}: {field.name}: {error}") from None
