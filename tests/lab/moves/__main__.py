"""Measures moves, ours and on demand those of rivals in the same run.

    python -m tests.lab.moves --row hard --rtt 50 --moves 5 --rivals --json moves.json --write

says what came of each cell as it is measured. Each has a network of its own; nothing of it is left
afterwards, nor after Ctrl-C.
"""

import datetime
import json
import os
import platform
import shlex
import sys
import time
from dataclasses import replace
from pathlib import Path

import click

from peers import disk
from tests.lab.links import ROOT
from tests.lab.moves.cells import (
    LOSSES,
    MODES,
    ROUND_TRIPS,
    Cell,
    Chosen,
    Mover,
    Row,
    cells,
    rival_cells,
)
from tests.lab.moves.counting import Tally
from tests.lab.moves.play import Measured, NotPlayed, play
from tests.lab.moves.rivals.catalog import RIVALS
from tests.lab.moves.tables import Run, from_json, markdown, put_into, summary, to_json
from tests.lab.network import LabUnavailable

__all__ = ["main"]

_PAGE = ROOT / "docs" / "lab.md"
_UNAVAILABLE = 3
_SECONDS = {Row.HARD: 1.8, Row.SOFT: 2.8, Row.ABSENCE: 6.8, Row.RESTART: 3.0}
"""About how long a move takes in each row, and how long a cell takes besides."""
_BESIDES = 4.0


def _machine() -> str:
    with open("/proc/meminfo") as memory:
        gib = int(memory.readline().split()[1]) / 2**20
    return (
        f"{os.cpu_count()} cores, {gib:.0f} GiB, Linux {platform.release().partition('-')[0]},"
        f" Python {platform.python_version()}"
    )


def _command(words: list[str]) -> str:
    """Return what was asked for, without where the results go."""
    told = []
    ahead = iter(words)
    for word in ahead:
        if word in ("--json", "--take"):
            next(ahead)
        elif word not in ("--go-on", "--write", "--table") and not word.startswith("--json="):
            told.append(word)
    return shlex.join(["python", "-m", "tests.lab.moves", *told])


class _Results:
    """What was measured in this run, and in the one that it goes on with; kept after each cell."""

    def __init__(self, run: Run, file: Path | None, go_on: bool) -> None:
        self._run, self._own, self._file = run, run, file
        self.results: list[Measured] = []
        self.missing: dict[str, str] = {}
        if go_on and file is not None and file.exists():
            self._run, self.results, self.missing = from_json(json.loads(file.read_text()))

    def take(self, file: Path) -> None:
        """Take over what another run has kept, where it is not here yet."""
        run, results, missing = from_json(json.loads(file.read_text()))
        self.results += [one for one in results if not self.has(one.cell)]
        self.missing = missing | self.missing
        for command in run.command.split("`, `"):
            self._run = replace(self._run, command=_joined(self._run.command, command))

    def has(self, cell: Cell) -> bool:
        return any(one.cell == cell and one.silences for one in self.results)

    def add(self, measured: Measured) -> None:
        self.results = [one for one in self.results if one.cell != measured.cell]
        self.results.append(measured)
        commands = _joined(self._run.command, self._own.command)
        self._run = Run(self._own.machine, commands, self._own.date)
        self.keep()

    def keep(self) -> None:
        """Write down what is there."""
        if self._file is not None:
            told = to_json(self._run, self.results, self.missing)
            # Hours of measuring: a kill leaves the one before.
            disk.replace(self._file, f"{json.dumps(told, indent=1)}\n".encode())

    def table(self) -> str:
        titles = {one.name: one.title.split()[0].rstrip(",") for one in RIVALS}
        text = markdown(self._run, self.results, titles)
        measured = {one.cell.subject for one in self.results}
        helped = [f"- {one.title}: {one.helped}." for one in RIVALS if one.name in measured]
        absent = [f"- {titles[name]}: not measured, {why}." for name, why in self.missing.items()]
        if helped or absent:
            text += "\n".join(["", "What the others had to be helped with:", "", *helped, *absent])
            text += "\n"
        return text


def _joined(earlier: str, command: str) -> str:
    if not earlier:
        return command
    return earlier if command in earlier.split("`, `") else f"{earlier}`, `{command}"


def _measure(asked: list[Cell], moves: int, nightly: bool, results: _Results) -> bool:
    """Measure all; return whether none of ours has lost, doubled or reordered anything."""
    left = sum(_SECONDS[cell.row] * cell.moves(moves, nightly) + _BESIDES for cell in asked)
    print(f"{len(asked)} cells, about {left / 60:.0f} min", flush=True)
    whole = True
    for number, cell in enumerate(asked, 1):
        began = time.monotonic()
        print(f"[{number}/{len(asked)}] {cell.title}: ", end="", flush=True)
        try:
            measured = play(cell, cell.moves(moves, nightly))
        except NotPlayed as reason:
            print(f"NOT MEASURED: {reason}", flush=True)
            results.add(Measured(cell, (), Tally(0, 0, 0, 0)))
            whole = whole and cell.is_rival
            continue
        results.add(measured)
        is_whole = cell.is_rival or measured.counts.whole
        whole = whole and is_whole
        wrong = "" if is_whole else "  WRONG"
        print(f"{summary(measured)} ({time.monotonic() - began:.0f} s){wrong}", flush=True)
    return whole


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--row",
    "rows",
    type=click.Choice([row.value for row in Row]),
    multiple=True,
    help="Only this row.",
)
@click.option("--mode", "modes", type=click.Choice(MODES), multiple=True, help="Only this mode.")
@click.option(
    "--mover",
    "movers",
    type=click.Choice([mover.value for mover in Mover]),
    multiple=True,
    help="Who moves.",
)
@click.option(
    "--rtt", "round_trips", type=click.IntRange(1, 2000), multiple=True, help="Round trip in ms."
)
@click.option(
    "--loss", "losses", type=click.IntRange(0, 50), multiple=True, help="Packets of a hundred."
)
@click.option(
    "--moves", type=click.IntRange(1, 1000), default=20, show_default=True, help="Moves in a cell."
)
@click.option("--nightly", is_flag=True, help="100 hard moves at RTT 50 ms with 0 and 2 % lost.")
@click.option("--rivals", is_flag=True, help="Measure what others use beside ours.")
@click.option("--only-rivals", is_flag=True, help="Measure those alone.")
@click.option("--rival", "names", type=click.Choice([one.name for one in RIVALS]), multiple=True)
@click.option("--json", "file", type=click.Path(path_type=Path), help="Keep all results here.")
@click.option("--go-on", is_flag=True, help="Measure only what that file does not have yet.")
@click.option(
    "--take",
    "taken",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    multiple=True,
    help="Take over what another run has kept: labs may run side by side.",
)
@click.option("--table", is_flag=True, help="Measure nothing: say what the files have.")
@click.option("--write", is_flag=True, help="Put the table into docs/lab.md.")
def main(  # Each argument is an option of the command.
    rows: tuple[str, ...],
    modes: tuple[str, ...],
    movers: tuple[str, ...],
    round_trips: tuple[int, ...],
    losses: tuple[int, ...],
    moves: int,
    nightly: bool,
    rivals: bool,
    only_rivals: bool,
    names: tuple[str, ...],
    file: Path | None,
    go_on: bool,
    taken: tuple[Path, ...],
    table: bool,
    write: bool,
) -> None:
    """Measure how long moves take: rows, modes, who moves, round trips and losses as chosen; all of
    them by default, which takes hours. Options that choose may be repeated.

    Exits with 1 where anything of ours was lost, doubled or reordered.
    """
    chosen = Chosen(
        tuple(Row(row) for row in rows) or tuple(Row),
        modes or MODES,
        tuple(Mover(mover) for mover in movers) or tuple(Mover),
        round_trips or ROUND_TRIPS,
        losses or LOSSES,
    )
    # What only tells of others' results has measured nothing.
    own = "" if table else _command(sys.argv[1:])
    run = Run(_machine(), own, datetime.date.today().isoformat())
    results = _Results(run, file, go_on)
    for one in taken:
        results.take(one)
    results.keep()
    asked = [] if only_rivals or table else cells(chosen)
    if (rivals or only_rivals or names) and not table:
        wanted = [one for one in RIVALS if not names or one.name in names]
        results.missing |= {one.name: one.missing for one in wanted if one.missing}
        for name, why in results.missing.items():
            print(f"{name}: not measured, {why}")
        there = [one for one in wanted if not one.missing]
        served = [one.name for one in there if one.is_served]
        asked += rival_cells(chosen, [one.name for one in there], served)
    try:
        left = [cell for cell in asked if not results.has(cell)]
        whole = _measure(left, moves, nightly, results)
    except LabUnavailable as reason:
        print(f"lab: {reason}", file=sys.stderr)
        sys.exit(_UNAVAILABLE)
    except KeyboardInterrupt:
        print()
        sys.exit(130)
    if write:
        _PAGE.write_text(put_into(_PAGE.read_text(), results.table()))
    else:
        print("\n" + results.table())
    sys.exit(0 if whole else 1)


if __name__ == "__main__":
    main()
