"""Whether a node would be in its cluster, and what it could keep there, tried before it is one: it
listens, and says nothing."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import nats.errors
from nats.aio.client import Client
from nats.js import JetStreamContext, api
from nats.js.errors import NoStreamResponseError, NotFoundError, ServiceUnavailableError

from protocol.dns_records import parse_zone
from protocol.identity import Identity
from relay.backplane import Beat, Foreign, Seal
from relay.cluster.bucket import bucket_name
from relay.cluster.jetstream import JetStreamMissing, check_version
from relay.cluster.link import Link, LinkLost
from relay.cluster.servers import CONNECTING, Servers, close, in_words
from relay.cluster.stream import stream_name
from relay.cluster.zone import ZONE
from relay.config import ClusterConfig, RelayConfig

__all__ = ["Look", "Trial", "look_at_jetstream", "look_at_zones", "try_out"]

_ROOM = 4096
"""Bytes of a stream that count as none."""
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


class Look(NamedTuple):
    """What is found of something that a node keeps in JetStream."""

    level: Literal["good", "warning", "error"]
    said: str
    next_step: str = ""


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


def look_at_zones(config: RelayConfig, trial: Trial) -> list[Look]:
    """Say which nodes do not serve the zone that this one would."""
    own = "" if config.dns is None else parse_zone(config.dns.zone)
    here = "" if config.cluster is None else config.cluster.node
    return [
        Look(
            "warning",
            f"node {node} serves {zone or 'no zone'}, and this one {own or 'none'}: the peers of "
            "a node without a zone are in none",
            "give every node the same [dns]",
        )
        for node, zone in sorted(trial.zones.items())
        if zone != own and node != here
    ]


async def look_at_jetstream(config: RelayConfig) -> list[Look]:
    """Look at what a node would keep in JetStream: what the operator says, what updates register
    in the zone, and letters. Nothing is made."""
    lost = "bans, the list and invitations are of this node alone"
    if config.dns is not None:
        lost += ", the zone takes no updates"
    if config.keeps_letters:
        lost += ", and letters are not kept"
    try:
        return await _try_jetstream(config)
    except JetStreamMissing as error:
        step = "run nats-server 2.11 or later with 'jetstream {}', and let this user use it"
        return [Look("warning", f"{error.reason}: {lost}", step)]
    except LinkLost as error:
        step = "see the log of nats-server: without JetStream no change of them is taken"
        return [Look("error", error.reason, step)]


async def _try_jetstream(config: RelayConfig) -> list[Look]:
    if config.cluster is None:
        raise ValueError("a cluster has a configuration")
    client, why = Client(), ""

    async def closed() -> None:
        return

    async def failed(error: Exception) -> None:
        nonlocal why
        why = in_words(error)

    prefix = config.cluster.prefix
    names = {"operator": f"KV_{bucket_name(prefix)}"}
    if config.dns is not None:
        names["zone"] = f"KV_{bucket_name(prefix, ZONE)}"
    if config.keeps_letters:
        names["letters"] = stream_name(prefix)
    try:
        async with asyncio.timeout(CONNECTING):
            await Servers(config.cluster, config.in_state).connect(client, closed, failed)
            check_version(client, "letters and what the operator says")
            stream = client.jetstream(timeout=CONNECTING)
            account = await stream.account_info()
            return [await _stream(stream, account, what, name) for what, name in names.items()]
    except TimeoutError:
        if "permissions violation" in why.lower():
            raise JetStreamMissing(f"this node may not use JetStream ({why})") from None
        raise LinkLost("JetStream did not answer in time") from None
    except (NoStreamResponseError, ServiceUnavailableError):
        raise JetStreamMissing("NATS has no JetStream") from None
    except (nats.errors.Error, OSError, ValueError) as error:
        raise LinkLost(in_words(error)) from None
    finally:
        await close(client)


async def _stream(stream: JetStreamContext, account: api.AccountInfo, what: str, name: str) -> Look:
    most, used = account.limits.max_storage or -1, account.storage
    is_full, where = 0 <= most <= used + _ROOM, "made at the first start"
    try:
        info = await stream.stream_info(name)
    except NotFoundError:
        pass
    else:
        own = info.config.max_bytes or -1
        is_full = is_full or 0 < own <= info.state.bytes + _ROOM
        where = f"on {info.config.num_replicas} of its servers"
    if is_full:
        said = f"{what}: stream {name}: there is no room in it: no change is taken"
        return Look("error", said, "raise its bound, or that of JetStream")
    return Look("good", f"{what}: stream {name}, {where}")
