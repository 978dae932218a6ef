"""What `peer locate`, `peer locate --mine`, `peer expose` and `peer ddns-key` do."""

import asyncio
import contextlib

from peers.cli.sessions import MakePeer, registered
from peers.cli.terminal import Terminal
from protocol.errors import RoamRelayError

__all__ = ["ddns_key", "expose", "locate", "locate_mine"]

_PROOF_WAIT = 6.0
"""Seconds for the relay's proofs: one probe takes 5 at most."""
_OWN_SERVICE = "locate-mine"


async def locate(terminal: Terminal, make_peer: MakePeer, guid: str, service: str) -> None:
    """Print where a service is, what each endpoint answers, and which one would be taken."""
    async with make_peer() as peer:
        found = await peer.locate(guid, service)
        surveyed = await peer.survey(found)
    if terminal.as_json:
        endpoints = [
            {
                "host": one.entry.host,
                "port": one.entry.port,
                "phase": one.entry.phase,
                "provenance": one.entry.provenance,
                "seq": one.entry.seq,
                "age": one.age,
                "lifetime": one.entry.lifetime,
                "round_trip": one.round_trip,
                "chosen": one.chosen,
                "reason": one.reason,
            }
            for one in surveyed
        ]
        await terminal.answer(
            "",
            guid=guid,
            service=service,
            state=found.state,
            source=found.source,
            last_seen=found.last_seen,
            endpoints=endpoints,
        )
        return
    await terminal.table(
        f"{service} of {guid[:8]}…: {found.state or found.source}",
        ("endpoint", "phase", "provenance", "age", "round trip", "", "why"),
        [
            (
                str(one.entry.endpoint),
                one.entry.phase,
                one.entry.provenance,
                _seconds(one.age),
                "" if one.round_trip is None else f"{one.round_trip * 1e3:.1f} ms",
                "chosen" if one.chosen else "",
                one.reason,
            )
            for one in surveyed
        ],
    )


async def locate_mine(terminal: Terminal, make_peer: MakePeer) -> None:
    """Print this host's own addresses, and at which of them the relay has met us.

    With a key of its own for the moment: the program that runs with the user's key is not
    disturbed.
    """
    async with make_peer() as peer:
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
    if terminal.as_json:
        for host, (provenance, phase) in places.items():
            await terminal.answer(
                "", host=host, provenance=provenance, phase=phase, proven=host in proven
            )
        return
    await terminal.table(
        "this host, as others can find it",
        ("address", "provenance", "phase", "proven"),
        [
            (host, provenance, phase, "yes" if host in proven else "no: not disclosed")
            for host, (provenance, phase) in places.items()
        ],
    )


async def expose(terminal: Terminal, make_peer: MakePeer, service: str, port: int) -> None:
    """Keep another program's service registered until Ctrl-C."""
    async with registered(terminal, make_peer, lambda peer: peer.expose(service, port)) as (
        peer,
        _,
    ):
        await terminal.tell(
            f"{service} on port {port} can be located as {peer.guid}",
            event="exposed",
            guid=peer.guid,
            service=service,
            port=port,
        )
        if terminal.as_json:
            terminal.ends_unread()
        await asyncio.get_running_loop().create_future()  # Until Ctrl-C.


async def ddns_key(terminal: Terminal, make_peer: MakePeer, out: str) -> None:
    """Fetch the key for the relay's zone, and say how to use it."""
    async with make_peer() as peer:
        key = await peer.ddns_key()
    key.write(out)
    await terminal.answer(
        f'# the key is in {out}; in the configuration:\n[ddns]\nzone = "{key.zone}"\n'
        f'server = "{key.server}"\nkey_file = "{out}"',
        zone=key.zone,
        name=key.name,
        server=key.server,
        file=out,
    )


def _seconds(age: float | None) -> str:
    return "" if age is None else f"{age:.0f} s"
