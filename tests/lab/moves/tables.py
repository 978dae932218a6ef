"""Results as JSON and as a table of Markdown, and the page that the table is put into. No I/O."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tests.lab.moves.cells import INTERVAL, SIZE, Cell
from tests.lab.moves.counting import Tally, percentile
from tests.lab.moves.play import Measured

__all__ = ["Run", "from_json", "markdown", "put_into", "summary", "to_json"]

_BEGIN, _END = "<!-- moves: begin -->\n", "<!-- moves: end -->"
_HEAD = (
    "RTT",
    "lost on the way",
    "moves",
    "who",
    "who moves",
    "p50",
    "p95",
    "longest",
    "messages",
    "lost / doubled / reordered",
)


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
    """Return one table for each row of the goals; `titles` are names of rivals."""
    lines = [f"{run.machine}; {_loads(results)}; {run.date}. `{run.command}`"]
    for row in dict.fromkeys(one.cell.row for one in results):
        lines += ["", f"**{row.title[0].upper()}{row.title[1:]}**", ""]
        told = sorted(
            (one for one in results if one.cell.row is row),
            key=lambda one: (one.cell.round_trip_ms, one.cell.loss, one.cell.is_rival),
        )
        lines += [_line(_HEAD), _line(["---"] * len(_HEAD))]
        lines += [_line(_cells(one, titles)) for one in told]
        starts = [start for one in told if not one.cell.is_rival for start in one.starts]
        if starts:
            lines += [
                "",
                f"Our relay served {_ms(percentile(starts, 0.5))} after its start in the middle,"
                f" {_ms(max(starts))} at most ({len(starts)} starts).",
            ]
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


def _cells(measured: Measured, titles: dict[str, str]) -> list[str]:
    cell, counts = measured.cell, measured.counts
    who = titles.get(cell.subject, cell.subject) if cell.is_rival else f"ours, `{cell.mode}`"
    return [
        f"{cell.round_trip_ms} ms",
        f"{cell.loss} %",
        str(len(measured.silences)),
        who,
        str(cell.mover) if cell.row != "restart" else "nobody",
        *_shares(measured),
        f"{counts.messages:,}",
        f"{counts.lost} / {counts.doubled} / {counts.reordered}",
    ]


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
