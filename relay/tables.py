"""The tables `[cluster]` and `[mailbox]` of a relay's configuration, and what all its tables are
checked by. The relay's own keys, and where values come from, are in `relay.config`."""

from typing import Annotated
from urllib.parse import urlsplit

import msgspec

from protocol.checked import check
from protocol.errors import RoamRelayError
from protocol.hosts import is_host

__all__ = [
    "ClusterConfig",
    "ConfigError",
    "MailboxConfig",
    "Siblings",
    "check_fields",
    "check_url",
    "hosts_of",
]


class ConfigError(RoamRelayError, ValueError):
    """The configuration cannot be used. The message names the source, the key and the fault."""


class ClusterConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Many relays as one: the table `[cluster]`, or variables `ROAM_RELAY_CLUSTER_` and a name
    (docs/scaling.md). All have the relay's one key."""

    node: Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$")]
    """This relay's name among them: a-z, 0-9 and inner hyphens. No other one has it."""
    servers: str | tuple[str, ...] = "nats://127.0.0.1:4222"
    """The servers of NATS, `nats://` or `tls://`: an array, or commas. One after the other is tried
    until one answers."""
    urls: str | tuple[str, ...] = ()
    """Where peers reach this relay, and no other one of the cluster: `http://` or `https://`, an
    array, or commas. Empty: where it listens."""
    weight: Annotated[int, msgspec.Meta(ge=0, le=65_535)] = 100
    """How many peers, in proportion to the weights of the others, come to this relay when they
    choose anew; 0: hardly any."""
    prefix: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{1,64}$")] = "roam-relay"
    """What the cluster's subjects begin with: clusters with different ones share NATS."""
    credentials: str | None = None
    """A file of NATS' credentials (`.creds`). A name in `state` unless it begins with `/`."""
    user: str | None = None
    """The name at NATS; needs `password`."""
    password: str | None = None
    """A file with the password, in one line. A name in `state` unless it begins with `/`."""
    tls_ca: str | None = None
    """PEM of the authorities that `tls://` is trusted by; None: those of the system."""
    tls_certificate: str | None = None
    """PEM chain that is shown to NATS; needs `tls_key`."""
    tls_key: str | None = None
    """PEM key of that certificate."""

    @property
    def all_servers(self) -> tuple[str, ...]:
        """`servers` as single ones."""
        return hosts_of(self.servers)

    @property
    def all_urls(self) -> tuple[str, ...]:
        """`urls` as single ones."""
        return hosts_of(self.urls)

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.all_servers:
            raise ConfigError("cluster: servers: one of NATS is needed")
        for key, urls, schemes in (
            ("servers", self.all_servers, ("nats", "tls")),
            ("urls", self.all_urls, ("http", "https")),
        ):
            for url in urls:
                check_url(f"cluster: {key}", url, schemes)
        for one, other in (("user", "password"), ("tls_certificate", "tls_key")):
            if (getattr(self, one) is None) != (getattr(self, other) is None):
                raise ConfigError(f"cluster: {one} and {other} are needed together")


class Siblings(msgspec.Struct, frozen=True, kw_only=True):
    """What a process is told that is a relay with others on this machine (`relay.nodes`): they
    share the port, and what the operator has said."""

    book: str | None
    """The file for that, in the state folder that they share; None: there is none."""
    folder: str | None = None
    """In which each has a folder of its own, by its name as a node; None: there is none."""
    nodes: int = 1
    """How many they are."""
    secret: bytes = b""
    """From which each makes the numbers that it shows in place of networks, so that one network has
    one number; empty: each has its own."""


def check_fields(config: msgspec.Struct) -> None:
    """Check each value by itself.

    Raises:
        ConfigError: one does not fit.
    """
    try:
        check(config)
    except ValueError as error:
        raise ConfigError(str(error)) from None


def hosts_of(host: str | tuple[str, ...] | None) -> tuple[str, ...]:
    """Return single ones: of an array, or between commas."""
    texts = (host,) if isinstance(host, str) else host or ()
    parts = (part.strip() for text in texts for part in text.split(","))
    return tuple(dict.fromkeys(part for part in parts if part))


class MailboxConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Letters for peers who are away: the table `[mailbox]`, or variables `ROAM_RELAY_MAILBOX_` and
    a name. Without a state folder there is none. In a cluster they are in a JetStream stream of its
    NATS, for all nodes; what is configured here is to be the same at each."""

    enabled: bool = True
    """Whether letters are kept."""
    store: str = "mailbox.sqlite"
    """The SQLite file for them. A name in `state` unless it begins with `/`. None in a cluster."""
    replicas: Annotated[int, msgspec.Meta(ge=1, le=5)] = 1
    """In a cluster: servers of NATS that have each letter; 3 where NATS is a cluster itself."""
    lifetime: Annotated[int, msgspec.Meta(ge=60, le=31_536_000)] = 2_592_000
    """Seconds for which a letter is kept at most, whatever its sender asks for: 30 days."""
    max_letters_per_peer: Annotated[int, msgspec.Meta(ge=8)] = 4_096
    """Letters that wait for one peer. One sender has half of them, a stranger an eighth."""
    bytes_per_peer: Annotated[int, msgspec.Meta(ge=1 << 20)] = 64 << 20
    """Their bytes, shared alike."""
    max_letters: Annotated[int, msgspec.Meta(ge=16)] = 200_000
    """Letters that wait. What comes from one network has half of them."""
    bytes_in_all: Annotated[int, msgspec.Meta(ge=1 << 24)] = 2 << 30
    """Their bytes: what the store takes of the disk, and a tenth more."""
    letters_per_second: Annotated[float, msgspec.Meta(gt=0)] = 20.0
    """Letters that one peer leaves, sustained; four times as many from one network."""
    letters_burst: Annotated[int, msgspec.Meta(ge=1)] = 1_000
    """Letters that one peer leaves at once, as after a time without a network."""
    wake_url: str | None = None
    """Where a POST with `{"guid": "..."}` says that a peer has mail and does not fetch it: to be
    put before a push service, which wakes its phone. None: nobody is told."""
    wake_pause: Annotated[float, msgspec.Meta(ge=1, le=86_400)] = 60.0
    """Seconds between two of these about one peer, at least."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.wake_url is not None:
            check_url("mailbox: wake_url", self.wake_url, ("http", "https"), with_path=True)
        if not self.store:
            raise ConfigError("mailbox: store: a file is needed; 'enabled = false' keeps none")


def check_url(key: str, url: str, schemes: tuple[str, ...], *, with_path: bool = False) -> None:
    """Check that a value is a URL of one of the schemes, without what has no place in one.

    Raises:
        ConfigError: it is not.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise ConfigError(f"{key}: not a URL: {url[:80]!r}") from None
    if parts.username is not None or parts.password is not None:
        raise ConfigError(f"{key}: no secret stands in a URL: name a file")
    more = parts.query or parts.fragment or (parts.path not in ("", "/") and not with_path)
    if parts.scheme not in schemes or not is_host(host) or port == 0 or more or len(url) > 512:
        end = "HOST:PORT/PATH" if with_path else "HOST:PORT"
        wanted = " or ".join(f"{scheme}://{end}" for scheme in schemes)
        raise ConfigError(f"{key}: not {wanted}: {url[:80]!r}")
