"""What of one relay's configuration each of its processes gets.

PURE. Who starts them is `supervisor.py`.
"""

from pathlib import Path

import msgspec
from msgspec import structs

from relay.config import (
    CERTIFICATE,
    RELOADED,
    ClusterConfig,
    ConfigError,
    RelayConfig,
    Siblings,
)

__all__ = [
    "Assignment",
    "Backbone",
    "Place",
    "assignment",
    "check_shared",
    "count_of",
    "names_of",
    "reloaded",
]

MOST = 64
"""Processes of one relay."""
_PREFIX = "roam-relay"


class Backbone(msgspec.Struct, frozen=True):
    """The nats-server between the processes, for a configuration."""

    url: str
    user: str
    password: str
    """A file."""


class Assignment(msgspec.Struct, frozen=True):
    """What one process is told, on its standard input: the first line of it, and another one with
    each reload."""

    config: RelayConfig
    siblings: Siblings


class Place(msgspec.Struct, frozen=True):
    """What the processes have together."""

    folder: str
    """In which each has a folder of its own, by its name."""
    identity: str
    """The key's file."""
    book: str | None
    """The file of what the operator says; None: it is forgotten at the end."""
    port: int
    dns_port: int
    """Of the zone; 0 where there is none."""
    backbone: Backbone


def count_of(text: str, cores: int) -> int:
    """Return how many processes are asked for; `auto` is one for each core.

    Raises:
        ValueError: it is no such number; says what is wanted.
    """
    if text == "auto":
        return min(max(1, cores), MOST)
    if text.isascii() and text.isdecimal() and len(text) <= 4 and 1 <= int(text) <= MOST:
        return int(text)
    raise ValueError(f"a number from 1 to {MOST}, or 'auto' for one a core, not {text[:80]!r}")


def names_of(count: int) -> list[str]:
    """Return the names of the nodes."""
    return [f"node-{number}" for number in range(1, count + 1)]


def check_shared(config: RelayConfig) -> None:
    """Check that processes can be one relay with this configuration.

    Raises:
        ConfigError: they cannot; says which key is in the way, and what to do.
    """
    if config.cluster is not None:
        raise ConfigError(
            "nodes: one machine's processes have a nats-server of their own: with [cluster], give "
            "each process its own port and configuration instead (docs/scaling.md)"
        )


def reloaded(old: RelayConfig, new: RelayConfig) -> tuple[RelayConfig, tuple[str, ...]]:
    """Return what holds after a reload, also for a process that is started anew then; and the keys
    that differ and need a restart of all."""
    keys = {
        name for name in RelayConfig.__struct_fields__ if getattr(new, name) != getattr(old, name)
    }
    taken = {name: getattr(new, name) for name in keys & RELOADED}
    if (old.tls_certificate is None) != (new.tls_certificate is None):
        taken = {name: value for name, value in taken.items() if name not in CERTIFICATE}
    return structs.replace(old, **taken), tuple(sorted(keys - set(taken)))


def assignment(config: RelayConfig, name: str, place: Place) -> Assignment:
    """Return what the node of a name gets of the whole relay's configuration."""
    one = structs.replace(
        config,
        port=place.port,
        dns=None if config.dns is None else structs.replace(config.dns, port=place.dns_port),
        identity=place.identity,
        state=str(Path(place.folder, name)),
        operator_socket="operator.sock",
        # Metrics of one process alone are nobody's: the supervisor gathers those of all.
        admin_host="127.0.0.1",
        admin_port=0,
        mailbox=structs.replace(config.mailbox, enabled=config.keeps_letters),
        admin_token=None if config.admin_token is None else config.in_state(config.admin_token),
        cluster=ClusterConfig(
            node=name,
            servers=place.backbone.url,
            user=place.backbone.user,
            password=place.backbone.password,
            prefix=_PREFIX,
        ),
    )
    return Assignment(one, Siblings(book=place.book, folder=place.folder))
