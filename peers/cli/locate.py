"""What `peer locate`, `peer locate --mine`, `peer expose` and `peer ddns-key` do."""

import asyncio
import contextlib
import sys
from collections.abc import Callable
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from peers.config import Identity, PeerConfig
from peers.peer import Peer
from peers.roaming import age_of
from protocol.errors import RoamRelayError

__all__ = ["ddns_key", "expose", "locate", "locate_mine"]

_PROOF_WAIT = 6.0
"""Seconds for the relay's proofs: one probe takes 5 at most."""
_OWN_SERVICE = "locate-mine"

MakeIdentity = Callable[[], Identity]


def _print(facts: dict[str, Any]) -> None:
    sys.stdout.write(msgspec.json.encode(facts).decode() + "\n")
    sys.stdout.flush()


def _table(title: str, columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    table = Table(title=title)
    for column in columns:
        table.add_column(column)
    for row in rows:
        table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else 120).print(table)


async def locate(
    config: PeerConfig, identity: MakeIdentity, guid: str, service: str, as_json: bool
) -> None:
    """Print where a service is, what each endpoint answers, and which one would be taken."""
    async with Peer(identity(), config=config) as peer:
        found = await peer.locate(guid, service)
        surveyed = await peer.survey(found)
    if as_json:
        endpoints = [
            {
                "host": one.entry.host,
                "port": one.entry.port,
                "phase": one.entry.phase,
                "provenance": one.entry.provenance,
                "seq": one.entry.seq,
                "age": age_of(one.entry),
                "lifetime": one.entry.lifetime,
                "round_trip": one.round_trip,
                "chosen": one.chosen,
                "reason": one.reason,
            }
            for one in surveyed
        ]
        facts = {"guid": guid, "service": service, "state": found.state, "source": found.source}
        _print({**facts, "last_seen": found.last_seen, "endpoints": endpoints})
        return
    _table(
        f"{service} of {guid[:8]}…: {found.state or found.source}",
        ("endpoint", "phase", "provenance", "age", "round trip", "", "why"),
        [
            (
                str(one.entry.endpoint),
                one.entry.phase,
                one.entry.provenance,
                _seconds(age_of(one.entry)),
                "" if one.round_trip is None else f"{one.round_trip * 1e3:.1f} ms",
                "chosen" if one.chosen else "",
                one.reason,
            )
            for one in surveyed
        ],
    )


async def locate_mine(config: PeerConfig, as_json: bool) -> None:
    """Print this host's own addresses, and at which of them the relay has met us.

    A key of its own for the moment: the program that runs with the user's key is not disturbed.
    """
    async with Peer(Identity.generate(), config=config) as peer:
        peer.listen(_OWN_SERVICE)
        await peer.published()
        places = peer.places
        proven: set[str] = set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PROOF_WAIT):
                while proven != set(places):
                    with contextlib.suppress(RoamRelayError):
                        found = await peer.locate(peer.guid, _OWN_SERVICE)
                        proven = {entry.host for entry in found.entries}
                    await asyncio.sleep(0.2)
    if as_json:
        for host, (provenance, phase) in places.items():
            facts = {"host": host, "provenance": provenance, "phase": phase}
            _print({**facts, "proven": host in proven})
        return
    _table(
        "this host, as others can find it",
        ("address", "provenance", "phase", "proven"),
        [
            (host, provenance, phase, "yes" if host in proven else "no: not disclosed")
            for host, (provenance, phase) in places.items()
        ],
    )


async def expose(
    config: PeerConfig, identity: MakeIdentity, service: str, port: int, as_json: bool
) -> None:
    """Keep another program's service registered until Ctrl-C."""
    async with Peer(identity(), config=config) as peer:
        peer.expose(service, port)
        await peer.published()
        if as_json:
            _print({"event": "exposed", "guid": peer.guid, "service": service, "port": port})
        else:
            Console(stderr=True).print(
                f"{service} on port {port} can be located as {peer.guid}", highlight=False
            )
        await asyncio.get_running_loop().create_future()  # Until Ctrl-C.


async def ddns_key(config: PeerConfig, identity: MakeIdentity, out: str, as_json: bool) -> None:
    """Fetch the key for the relay's zone, and say how to use it."""
    async with Peer(identity(), config=config) as peer:
        key = await peer.ddns_key()
    key.write(out)
    if as_json:
        _print({"zone": key.zone, "name": key.name, "server": key.server, "file": out})
    else:
        sys.stdout.write(
            f'# the key is in {out}; in the configuration:\n[ddns]\nzone = "{key.zone}"\n'
            f'server = "{key.server}"\nkey_file = "{out}"\n'
        )


def _seconds(age: float | None) -> str:
    return "" if age is None else f"{age:.0f} s"
