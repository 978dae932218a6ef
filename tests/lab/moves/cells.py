"""The cells of the table: what happens, to whom, in which mode, how far away, with what loss."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from itertools import product
from typing import Any

__all__ = [
    "INTERVAL",
    "LOSSES",
    "MODES",
    "ROUND_TRIPS",
    "SIZE",
    "Cell",
    "Chosen",
    "Mover",
    "Row",
    "cells",
    "rival_cells",
]

INTERVAL = 0.01
"""Seconds between two messages, each way."""
SIZE = 200
"""Bytes of a message."""
MODES = ("p2p", "central", "combined", "auto")
ROUND_TRIPS = (10, 50, 150)
"""Milliseconds between the one that moves and everybody else, the relay among them."""
LOSSES = (0, 2, 5)
"""Packets of a hundred that vanish, in each direction, on both of its networks."""
_NIGHTLY = 100
_NIGHTLY_ROUND_TRIP, _NIGHTLY_LOSSES = 50, (0, 2)


class Row(StrEnum):
    """What happens."""

    HARD = "hard"
    """The old network goes in the moment when the new one comes."""
    SOFT = "soft"
    """A second with both networks, the new one with the default route; then the old one goes."""
    ABSENCE = "absence"
    """5 s without any network, then another one."""
    RESTART = "restart"
    """The relay is killed and started again; nobody moves."""

    @property
    def title(self) -> str:
        """What it is called in the table."""
        return {
            Row.HARD: "hard move",
            Row.SOFT: "soft move",
            Row.ABSENCE: "after 5 s without network",
            Row.RESTART: "relay killed and restarted",
        }[self]


class Mover(StrEnum):
    """Who moves: who was called, or who called."""

    CALLEE = "callee"
    CALLER = "caller"


@dataclass(frozen=True)
class Cell:
    """One cell: so many moves of one conversation."""

    subject: str
    """`ours`, or the name of a rival."""
    row: Row
    mode: str
    """One of `MODES`; of a rival empty."""
    mover: Mover
    round_trip_ms: int
    loss: int

    @property
    def title(self) -> str:
        """Its name in one line."""
        who = f"{self.subject} {self.mode}".strip()
        where = f"RTT {self.round_trip_ms} ms, {self.loss} % lost"
        return f"{self.row}, {who}, {self.mover} moves, {where}"

    def moves(self, asked: int, nightly: bool) -> int:
        """Return how many moves it has: of a night more where the goals are counted most."""
        counted_most = (
            self.row is Row.HARD
            and self.round_trip_ms == _NIGHTLY_ROUND_TRIP
            and self.loss in _NIGHTLY_LOSSES
        )
        return max(asked, _NIGHTLY) if nightly and counted_most and not self.is_rival else asked

    @property
    def goal(self) -> float | None:
        """What half of the moves of ours are to be within, in seconds; None where none was set."""
        round_trip = self.round_trip_ms / 1e3
        if self.row is Row.HARD:
            return {0: 2 * round_trip + 0.01, 2: 2.5 * round_trip}.get(self.loss)
        return {Row.SOFT: round_trip, Row.ABSENCE: 2 * round_trip + 0.03, Row.RESTART: 1.0}[
            self.row
        ]

    @property
    def is_rival(self) -> bool:
        """Whether it is not ours that is measured."""
        return self.subject != "ours"

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, given: dict[str, Any]) -> "Cell":
        """Return what `as_dict` was made from."""
        return cls(**{**given, "row": Row(given["row"]), "mover": Mover(given["mover"])})


@dataclass(frozen=True)
class Chosen:
    """What of everything is to be measured; each of them not empty."""

    rows: Sequence[Row] = tuple(Row)
    modes: Sequence[str] = MODES
    movers: Sequence[Mover] = tuple(Mover)
    round_trips: Sequence[int] = ROUND_TRIPS
    losses: Sequence[int] = LOSSES


def cells(chosen: Chosen) -> list[Cell]:
    """Return ours. Loss is for hard moves, and the relay is missed in `central` alone."""
    return [
        Cell("ours", row, mode, mover, round_trip, loss)
        for row, round_trip, loss, mode, mover in product(
            chosen.rows, chosen.round_trips, chosen.losses, chosen.modes, chosen.movers
        )
        if _is_told(row, loss) and (row is not Row.RESTART or mode == "central")
    ]


def rival_cells(chosen: Chosen, names: Sequence[str], served: Sequence[str]) -> list[Cell]:
    """Return those of rivals; a restart is for those that are `served` by a server between."""
    return [
        Cell(name, row, "", mover, round_trip, loss)
        for row, round_trip, loss, name, mover in product(
            chosen.rows, chosen.round_trips, chosen.losses, names, chosen.movers
        )
        if _is_told(row, loss) and (row is not Row.RESTART or name in served)
    ]


def _is_told(row: Row, loss: int) -> bool:
    return row is Row.HARD or not loss
