"""What a program says where it makes a peer, in place of what its configuration says."""

from types import NoneType
from typing import TypedDict

import msgspec

from peers.config.arguments import DialWord, checked_dial, checked_kind
from peers.config.dns import DdnsConfig
from peers.config.peer import PeerConfig

__all__ = ["Settings", "settled"]


class Settings(TypedDict, total=False):
    """Each goes before the configuration; None says nothing."""

    ddns: DdnsConfig | None
    """Registration and lookup in a zone (docs/ddns.md)."""
    dial: DialWord | None
    """Which endpoints are dialed by another's word (docs/addresses.md)."""


def settled(config: PeerConfig | None, relay: str | None, settings: Settings) -> PeerConfig:
    """Return the configuration that a peer is made of.

    Raises:
        TypeError: something is of another kind, or no setting.
        ValueError: `dial` is no such word.
    """
    for name in settings:
        if name not in Settings.__annotations__:
            raise TypeError(f"Peer() takes no argument {name!r}")
    ddns, dial = settings.get("ddns"), settings.get("dial")
    checked_kind("relay", relay, (str, NoneType), "a URL")
    checked_kind("ddns", ddns, (DdnsConfig, NoneType), "a DdnsConfig")
    checked_kind("config", config, (PeerConfig, NoneType), "a PeerConfig")
    config = config or PeerConfig()
    changes = {
        "relay": relay or None,
        "ddns": ddns,
        "dial": checked_dial(dial) if dial is not None else None,
    }
    return msgspec.structs.replace(
        config, **{name: value for name, value in changes.items() if value is not None}
    )
