"""Results as a table: rows of words, which a terminal, a test run and the documentation print."""

from collections.abc import Iterable, Sequence

from tests.lab.stage import Row

__all__ = ["COLUMNS", "cells", "goal", "lines"]

COLUMNS = (
    "scene",
    "mode",
    "messages",
    "lost",
    "doubled",
    "reordered",
    "gap p50",
    "longest",
    "in RTTs",
    "goal",
    "addresses",
)


def goal(round_trip: float) -> float:
    """Return the gap that a hard move may have in the middle, in seconds: 3 RTT + 50 ms."""
    return 3 * round_trip + 0.05


def cells(row: Row) -> tuple[str, ...]:
    """Return one row. Gaps are milliseconds; RTTs are those of the median gap."""
    result, trip = row.result, row.round_trip
    return (
        row.scene,
        row.mode,
        str(result.messages),
        str(result.lost),
        str(result.doubled),
        str(result.disordered),
        f"{result.median * 1e3:.0f} ms",
        f"{result.longest * 1e3:.0f} ms",
        f"{result.median / trip:.1f}" if trip else "",
        "" if not trip else "met" if result.median <= goal(trip) else "missed",
        ", ".join(result.addresses),
    )


def lines(rows: Iterable[Row]) -> list[str]:
    """Return a table of plain text."""
    table: list[Sequence[str]] = [COLUMNS, *map(cells, rows)]
    widths = [max(len(row[column]) for row in table) for column in range(len(COLUMNS))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    ]
