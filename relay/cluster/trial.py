"""Whether a node would be in its cluster, tried before it is one: it listens, and says nothing."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from protocol.identity import Identity
from relay.backplane import Beat, Foreign, Seal
from relay.cluster.link import Link, LinkLost
from relay.config import ClusterConfig

__all__ = ["Trial", "try_out"]

_LISTENING = 1.5
"""Seconds in which every node says that it is there."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What was heard."""

    nodes: tuple[str, ...]
    """Of this cluster, by name; this node's own too, where it runs."""
    foreign: int
    """Messages on the cluster's subjects that no relay of this key has said."""
    zones: dict[str, str]
    """The zone that each serves; empty: none."""


async def try_out(config: ClusterConfig, place: Callable[[str], str], identity: Identity) -> Trial:
    """Connect to NATS and listen for a moment.

    Raises:
        LinkLost: there is no connection; says why.
    """
    link, seal = Link(config, place), Seal(identity)
    zones: dict[str, str] = {}
    foreign = 0
    subject = f"{config.prefix}.1.all"
    heard = asyncio.Event()

    def receive(_: str, data: bytes, nobody: bool) -> None:
        nonlocal foreign
        try:
            message = seal.open(subject, data)
        except Foreign:
            foreign += 1
            return
        zones.setdefault(message.node, "")
        if isinstance(message, Beat):
            zones[message.node] = message.zone

    def opened() -> None:
        asyncio.get_running_loop().call_later(_LISTENING, heard.set)

    running = asyncio.create_task(link.run((subject,), receive, opened))
    waiting = asyncio.create_task(heard.wait())
    try:
        await asyncio.wait((running, waiting), return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            await running
            raise LinkLost("NATS has ended the connection")
    finally:
        for task in (running, waiting):
            task.cancel()
        await asyncio.gather(running, waiting, return_exceptions=True)
    return Trial(tuple(sorted(zones)), foreign, zones)
