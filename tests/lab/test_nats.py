"""Two peers behind routers of every kind: all pairs talk, and go direct where one of the two can be
dialed, or where both can meet. Not a line is lost on the way there."""

import os
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.lab.nat_table import MODES, cells, goes_direct, talk
from tests.lab.nats import KINDS_OF
from tests.lab.network import LabUnavailable
from tests.lab.programs import DEADLINE


class Cell(NamedTuple):
    alice: str
    bob: str
    mode: str = "auto"
    version: int = 4

    @property
    def name(self) -> str:
        return f"{self.alice}, {self.bob}, {self.mode}, IPv{self.version}"


BY_DAY = [
    Cell("open", "double NAT"),
    Cell("stateful firewall", "symmetric"),
    Cell("port-restricted", "double NAT"),
    Cell("stateful firewall", "stateful firewall", version=6),
]
"""One where the callee has to dial the caller, one where neither can reach the other, and two where
both must dial at once: with ports that a router may change, and with such that nobody does."""
AT_NIGHT = [
    cell
    for version in KINDS_OF
    for mode in MODES
    for pair in cells(version)
    if (cell := Cell(*pair, mode, version)) not in BY_DAY
]


def judge(cell: Cell, folder: Path) -> None:
    direct = goes_direct(cell.alice, cell.bob)
    patience = DEADLINE if direct else 0.5
    try:
        talked = talk((cell.alice, cell.bob), folder, cell.mode, patience, cell.version)
    except LabUnavailable as reason:
        if os.environ.get("LAB_REQUIRED"):
            raise
        pytest.skip(str(reason))
    if direct:
        assert talked.direct is not None, "one of the two can be dialed, or both can meet"


@pytest.mark.parametrize("cell", BY_DAY, ids=lambda cell: cell.name)
def test_two_sites_talk_and_directly_where_they_can(cell: Cell, tmp_path: Path) -> None:
    judge(cell, tmp_path)


@pytest.mark.nightly
@pytest.mark.parametrize("cell", AT_NIGHT, ids=lambda cell: cell.name)
def test_so_do_those_behind_all_other_kinds(cell: Cell, tmp_path: Path) -> None:
    judge(cell, tmp_path)
