"""Results as a table: rows of words, which a terminal, a test run and the documentation print."""

from collections.abc import Iterable, Sequence

from tests.lab.stage import Row

__all__ = ["goal", "lines", "table"]

_COLUMNS = (
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


def _cells(row: Row) -> tuple[str, ...]:
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


def table(rows: Iterable[Row]) -> list[Sequence[str]]:
    """Return the names of the columns, then the rows; without columns that are empty."""
    told = [_cells(row) for row in rows]
    shown = [number for number in range(len(_COLUMNS)) if any(row[number] for row in told)]
    return [[row[number] for number in shown] for row in (_COLUMNS, *told)]


def lines(rows: Iterable[Row]) -> list[str]:
    """Return a table of plain text."""
    told = table(rows)
    widths = [max(map(len, column)) for column in zip(*told, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in told
    ]
