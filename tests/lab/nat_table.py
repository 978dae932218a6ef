"""`make lab-nats`: which pairs of sites behind NATs and firewalls talk, by which way, how soon.

`ARGS=--write` puts the tables into docs/nat.md; `ARGS='--mode combined --version 6'` makes one, and
`ARGS=--ice` that beside ICE, which needs the extra `rivals`.
"""

import argparse
import json
import re
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from tests.lab.links import ROOT
from tests.lab.nats import KINDS_OF, MEETS, REACHABLE, RELAYS, sites
from tests.lab.programs import DEADLINE, Commands, Program

__all__ = ["MODES", "Talked", "cells", "goes_direct", "talk"]

MODES = ("auto", "combined")
PAGE = ROOT / "docs" / "nat.md"
_LOOKS_FOR = 5.0
"""Seconds in which a direct path may come that is not expected."""
_BESIDE_ICE = (
    (4, "open", "open"),
    (4, "open", "stateful firewall"),
    (4, "symmetric", "open"),
    (4, "stateful firewall", "stateful firewall"),
    (4, "port-restricted", "port-restricted"),
    (4, "port-restricted", "double NAT"),
    (4, "double NAT", "double NAT"),
    (4, "symmetric", "symmetric"),
    (6, "open", "open"),
    (6, "stateful firewall", "stateful firewall"),
)
"""The version of IP, the caller's kind and the callee's: of each way one or two."""
_TURNS = 3
"""Calls of each kind beside ICE, of which the median is told."""
_LINE = re.compile(r'"line (\d+)"')


class Talked(NamedTuple):
    """What became of one pair. Times are seconds from `connect()` on."""

    connected: float
    """Until it returned."""
    direct: float | None
    """Until a direct path was taken; None where none was."""
    way: str
    """How that was made: `dialed`, `dialed back` or `met`; empty where none was."""

    def __str__(self) -> str:
        if self.direct is None:
            return f"relayed, {1000 * self.connected:.0f} ms"
        return f"{self.way}, {1000 * self.direct:.0f} ms"


def cells(version: int = 4) -> list[tuple[str, str]]:
    """Return all pairs that there are of a version of IP, the caller's kind first."""
    return [(alice, bob) for alice in KINDS_OF[version] for bob in KINDS_OF[version]]


def goes_direct(alice: str, bob: str) -> bool:
    """Whether a pair can have a direct path at all: one of the two can be dialed, or both can
    meet."""
    return bool({alice, bob} & REACHABLE) or {alice, bob} <= MEETS


def talk(
    pair: tuple[str, str], folder: Path, mode: str, patience: float, version: int = 4
) -> Talked:
    """Let a caller behind one kind talk with a callee behind another until its path is direct, or
    for so many seconds; no line may be lost, doubled, or come before another one."""
    relay = RELAYS[version]
    with sites(*pair, version) as net:
        commands = Commands(folder, relay)
        with commands.relay(net["relay"]), commands.listen(net["bob"]) as (guid, callee):
            said = commands.nat_call(net["alice"], guid, mode, patience)
            lines = list(range(said["sent"]))
            assert _received(callee, len(lines)) == lines
            return Talked(said["connected"], said["direct"], said["way"])


def ice(pair: tuple[str, str], version: int = 4) -> float | None:
    """Return the seconds from a call until ICE (tests/lab/nat_ice.py) has brought something there
    and back; None where it found no way."""
    relay, program = RELAYS[version], "tests.lab.nat_ice"
    with sites(*pair, version) as net, ExitStack() as stack:
        for role, host in (("server", "relay"), ("callee", "bob")):
            running = Program(net[host], program, role, relay)
            stack.callback(running.close)
            running.until("ready", running.out)
        calling = Program(net["alice"], program, "caller", relay)
        stack.callback(calling.close)
        said = json.loads(calling.until("direct", calling.out))
        return None if said["direct"] is None else float(said["direct"])


def _received(callee: Program, count: int) -> list[int]:
    """Return the numbers of so many lines that came, as they came."""
    numbers: list[int] = []
    end = time.monotonic() + DEADLINE
    while len(numbers) < count and time.monotonic() < end:
        taken = callee.taken(0.2)
        numbers += [int(found[1]) for _, line in taken if (found := _LINE.search(line))]
    return numbers


def _table(mode: str, version: int) -> str:
    kinds = KINDS_OF[version]
    lines = ["| caller, callee: | " + " | ".join(kinds) + " |", "| --- " * (len(kinds) + 1) + "|"]
    first: list[float] = []
    shortfalls: list[str] = []
    for alice in kinds:
        row = []
        for bob in kinds:
            with tempfile.TemporaryDirectory() as folder:
                talked = talk((alice, bob), Path(folder), mode, _LOOKS_FOR, version)
            row.append(str(talked))
            first.append(1000 * talked.connected)
            if talked.direct is None and goes_direct(alice, bob):
                shortfalls.append(f"{alice} to {bob}")
        lines.append(f"| {alice} | " + " | ".join(row) + " |")
    said = f"`connect()` returned after {min(first):.0f} to {max(first):.0f} ms."
    missing = "; ".join(shortfalls) or "none"
    return "\n".join(lines) + f"\n\n{said} Cells that could be direct and were not: {missing}.\n"


def _beside_ice() -> str:
    """Return a table of one row for each pair."""
    lines = ["| version | caller, callee | ours | ICE |", "| --- | --- | --- | --- |"]
    for version, alice, bob in _BESIDE_ICE:
        ours, theirs = _in_turn((alice, bob), version)
        lines.append(f"| IPv{version} | {alice}, {bob} | {ours} | {theirs} |")
    return "\n".join(lines) + "\n"


def _in_turn(pair: tuple[str, str], version: int) -> tuple[str, str]:
    """Return the medians of both, measured one after the other so many times."""
    ours: list[Talked] = []
    theirs: list[float] = []
    for _ in range(_TURNS):
        with tempfile.TemporaryDirectory() as folder:
            ours.append(talk(pair, Path(folder), "auto", _LOOKS_FOR, version))
        if (took := ice(pair, version)) is not None:
            theirs.append(took)
    direct = sorted(
        (one for one in ours if one.direct is not None), key=lambda one: one.direct or 0
    )
    middle = direct[len(direct) // 2] if direct else ours[0]
    shown = f"{1000 * statistics.median(theirs):.0f} ms" if theirs else "none"
    short = "" if len(direct) in (0, _TURNS) else f" ({len(direct)} of {_TURNS})"
    missed = "" if len(theirs) in (0, _TURNS) else f" ({len(theirs)} of {_TURNS})"
    return f"{middle}{short}", f"{shown}{missed}"


def _tell(name: str, text: str, *, write: bool) -> None:
    """Print what was measured, or put it into the page between its marks."""
    if not write:
        sys.stdout.write(f"{name}\n\n{text}\n")
        return
    begin, end = f"<!-- {name} -->\n", "<!-- measured -->"
    before, mark, rest = PAGE.read_text().partition(begin)
    if not mark:
        raise SystemExit(f"{PAGE}: no line {begin!r}")
    _, mark_after, after = rest.partition(end)
    PAGE.write_text(f"{before}{begin}\n{text}\n{mark_after}{after}")


def main(arguments: list[str]) -> None:
    """Print the tables, or put them into the page."""
    parser = argparse.ArgumentParser(prog="make lab-nats")
    parser.add_argument("--mode", choices=MODES, action="append")
    parser.add_argument("--version", type=int, choices=sorted(KINDS_OF), action="append")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--ice", action="store_true", help="beside ICE, and nothing else")
    told = parser.parse_args(arguments)
    if told.ice:
        _tell("beside ICE", _beside_ice(), write=told.write)
        return
    for mode in told.mode or MODES:
        for version in told.version or sorted(KINDS_OF):
            _tell(f"{mode}, IPv{version}", _table(mode, version), write=told.write)


if __name__ == "__main__":
    main(sys.argv[1:])
