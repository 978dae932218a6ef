"""`make lab-nats`: which pairs of sites behind NATs and firewalls talk, by which way, how soon.

`ARGS=--write` puts the table into docs/nat.md.
"""

import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from tests.lab.links import ROOT
from tests.lab.nats import KINDS, RELAY, sites
from tests.lab.programs import Commands, Program

__all__ = ["Talked", "cells", "talk"]

PAGE = ROOT / "docs" / "nat.md"
_MARK = "<!-- make lab-nats ARGS=--write -->\n"
_LOOKS_FOR = 5.0
"""Seconds in which a direct path may come that is not expected."""
_DIRECT = ("connected: auto, direct", "now: direct")


class Talked(NamedTuple):
    """What became of one pair."""

    first: float
    """Seconds from the start of `peer connect` until its first line was there."""
    direct: float | None
    """Seconds from then until a direct path was taken; None where none was."""


def cells() -> list[tuple[str, str]]:
    """Return all pairs, the caller's kind first."""
    return [(alice, bob) for alice in KINDS for bob in KINDS]


def talk(alice: str, bob: str, folder: Path, patience: float) -> Talked:
    """Let a caller behind one kind talk with a callee behind another, in `auto`, for at most so
    many seconds after its first line, or until its path is direct: no line may be lost."""
    with sites(alice, bob) as net:
        commands = Commands(folder, RELAY)
        with commands.relay(net["relay"]), commands.listen(net["bob"]) as (guid, callee):
            caller = commands.connect(net["alice"], guid, "auto")
            try:
                caller.write("line 0")
                callee.until('"line 0"', callee.out)
                first = time.monotonic() - caller.began
                return Talked(first, _direct(caller, callee, patience))
            finally:
                caller.close()


def _direct(caller: Program, callee: Program, patience: float) -> float | None:
    """Write line after line, and expect each; return when the caller said that its path is
    direct."""
    began = time.monotonic()
    number, found = 0, None
    while found is None and time.monotonic() < began + patience:
        number += 1
        caller.write(f"line {number}")
        callee.until(f'"line {number}"', callee.out)
        said = caller.said()
        if any(word in said for word in _DIRECT):
            found = time.monotonic() - began
    # What was written before the path changed has come; so does what is written afterwards.
    caller.write("the last line")
    callee.until('"the last line"', callee.out)
    return found


def _cell(talked: Talked) -> str:
    way = "relayed" if talked.direct is None else f"direct after {1000 * talked.direct:.0f} ms"
    return f"{way} ({1000 * talked.first:.0f} ms)"


def main(arguments: list[str]) -> None:
    """Print the table, or put it into the page."""
    lines = ["| caller, callee: | " + " | ".join(KINDS) + " |", "| --- " * (len(KINDS) + 1) + "|"]
    for alice in KINDS:
        row = []
        for bob in KINDS:
            with tempfile.TemporaryDirectory() as folder:
                row.append(_cell(talk(alice, bob, Path(folder), _LOOKS_FOR)))
        lines.append(f"| {alice} | " + " | ".join(row) + " |")
    table = "\n".join(lines) + "\n"
    if "--write" not in arguments:
        sys.stdout.write(table)
        return
    before, mark, _ = PAGE.read_text().partition(_MARK)
    PAGE.write_text(f"{before}{mark}\n{table}")


if __name__ == "__main__":
    main(sys.argv[1:])
