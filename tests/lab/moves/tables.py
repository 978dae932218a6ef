"""Results as JSON and as a table of Markdown, and the page that the table is put into. No I/O."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tests.lab.moves.cells import INTERVAL, MODES, SIZE, Cell, Row
from tests.lab.moves.counting import Tally, percentile
from tests.lab.moves.play import Measured

__all__ = ["Run", "from_json", "markdown", "put_into", "summary", "to_json"]

_BEGIN, _END = "<!-- moves: begin -->\n", "<!-- moves: end -->"
_HEAD = ("RTT", "lost on the way", "who moves", "goal")


@dataclass(frozen=True)
class Run:
    """Where and when something was measured."""

    machine: str
    command: str
    date: str


def to_json(run: Run, results: Iterable[Measured], missing: dict[str, str]) -> dict[str, Any]:
    """Return what JSON can hold; an infinite silence is null."""
    return {
        **asdict(run),
        "interval": INTERVAL,
        "size": SIZE,
        "missing": missing,
        "cells": [
            {
                **one.cell.as_dict(),
                "silences": [
                    None if math.isinf(value) else round(value, 6) for value in one.silences
                ],
                **asdict(one.counts),
                "starts": [round(value, 6) for value in one.starts],
                "load": round(one.load, 2),
            }
            for one in results
        ],
    }


def from_json(given: dict[str, Any]) -> tuple[Run, list[Measured], dict[str, str]]:
    """Return what `to_json` was made from."""
    names = list(Cell.__dataclass_fields__), list(Tally.__dataclass_fields__)
    results = [
        Measured(
            Cell.from_dict({name: one[name] for name in names[0]}),
            tuple(math.inf if value is None else value for value in one["silences"]),
            Tally(**{name: one[name] for name in names[1]}),
            tuple(one["starts"]),
            one["load"],
        )
        for one in given["cells"]
    ]
    run = Run(given["machine"], given["command"], given["date"])
    return run, results, dict(given["missing"])


def summary(measured: Measured) -> str:
    """Return what came of a cell in one line."""
    counts = measured.counts
    p50, p95, longest = _shares(measured)
    return (
        f"p50 {p50}, p95 {p95}, longest {longest}; of {counts.messages:,} messages"
        f" {counts.lost} lost, {counts.doubled} doubled, {counts.reordered} reordered"
    )


def markdown(run: Run, results: Sequence[Measured], titles: dict[str, str]) -> str:
    """Return one table for each row of the goals, with a column for each of our modes and each
    rival that has been measured there; `titles` are names of rivals."""
    lines = [f"{run.machine}; {_loads(results)}; {run.date}. `{run.command}`"]
    for row in (one for one in Row if any(measured.cell.row is one for measured in results)):
        told = [one for one in results if one.cell.row is row]
        usual = Counter(len(one.silences) for one in told).most_common(1)[0][0]
        columns = sorted({_column(one.cell) for one in told}, key=_place)
        heads = [f"`{mode}`" if mode else titles.get(name, name) for name, mode in columns]
        lines += [
            "",
            f"**{row.title[0].upper()}{row.title[1:]}**: p50 / p95 / longest in ms, of"
            f" {usual} each where no other number stands behind; bold where the p50 is above the"
            " goal.",
            "",
            _line((*_HEAD, *heads)),
            _line(["---"] * (len(_HEAD) + len(columns))),
        ]
        places = {(one.cell.round_trip_ms, one.cell.loss, one.cell.mover) for one in told}
        for place in sorted(places):
            here = {
                _column(one.cell): one
                for one in told
                if (one.cell.round_trip_ms, one.cell.loss, one.cell.mover) == place
            }
            first = next(iter(here.values())).cell
            # In a restart it is the one that is so far from the relay.
            who = f"nobody; {first.mover}" if row is Row.RESTART else str(first.mover)
            found = [_found(here[column], usual) if column in here else "" for column in columns]
            lines.append(
                _line([f"{place[0]} ms", f"{place[1]} %", who, _goal(first), *found]),
            )
        lines += ["", _counts([one for one in told if not one.cell.is_rival])]
        starts = [start for one in told if not one.cell.is_rival for start in one.starts]
        if starts:
            lines.append(
                f"Our relay served {_ms(percentile(starts, 0.5))} after its start in the middle,"
                f" {_ms(max(starts))} at most ({len(starts)} starts)."
            )
    return "\n".join([*lines, ""])


def put_into(page: str, table: str) -> str:
    """Return a page with another table between the marks.

    Raises:
        ValueError: the page has no marks.
    """
    before, begin, rest = page.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not end:
        raise ValueError("the page has no place for the table")
    return before + begin + table + end + after


def _column(cell: Cell) -> tuple[str, str]:
    return cell.subject, cell.mode


def _place(column: tuple[str, str]) -> tuple[bool, int, str]:
    """Ours first, in the order of the modes."""
    name, mode = column
    return not mode, MODES.index(mode) if mode else 0, name


def _found(measured: Measured, usual: int) -> str:
    """Return what a field of the table says."""
    values, counts = measured.silences, measured.counts
    if not values:
        return "did not begin"
    shares = " / ".join(share.removesuffix(" ms") for share in _shares(measured))
    goal = measured.cell.goal
    told = f"**{shares}**" if goal is not None and percentile(values, 0.5) > goal else shares
    if len(values) != usual:
        told += f" ({len(values)})"
    wrong = {"lost": counts.lost, "doubled": counts.doubled, "reordered": counts.reordered}
    return ", ".join([told, *(f"{count} {what}" for what, count in wrong.items() if count)])


def _goal(cell: Cell) -> str:
    return "" if cell.goal is None else _ms(cell.goal).removesuffix(" ms")


def _counts(ours: Sequence[Measured]) -> str:
    if not ours:
        return "Of ours nothing has been measured here."
    counts = sum((one.counts for one in ours), Tally(0, 0, 0, 0))
    return (
        f"Ours: {sum(len(one.silences) for one in ours):,} in {len(ours)} conversations with"
        f" {counts.messages:,} messages; {counts.lost} lost, {counts.doubled} doubled,"
        f" {counts.reordered} reordered."
    )


def _shares(measured: Measured) -> tuple[str, str, str]:
    values = measured.silences
    if not values:
        return ("did not begin",) * 3
    return _ms(percentile(values, 0.5)), _ms(percentile(values, 0.95)), _ms(max(values))


def _ms(seconds: float) -> str:
    return "no end" if math.isinf(seconds) else f"{seconds * 1e3:,.0f} ms"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _loads(results: Sequence[Measured]) -> str:
    loads = [one.load for one in results]
    if not loads:
        return "nothing measured"
    return f"load {min(loads):.1f} to {max(loads):.1f} at the beginning of a cell"
