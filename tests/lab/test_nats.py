"""Two peers behind routers of every kind: all pairs talk in `auto`, and go direct where one of the
two can be dialed, or where both can meet."""

import os
from pathlib import Path

import pytest

from tests.lab.nat_table import cells, talk
from tests.lab.nats import MEETS, REACHABLE
from tests.lab.network import LabUnavailable
from tests.lab.programs import DEADLINE

BY_DAY = [
    ("open", "double NAT"),
    ("stateful firewall", "symmetric"),
    ("port-restricted", "double NAT"),
]
"""One where the callee has to dial the caller, one where neither can reach the other, and one where
both must dial at once."""
AT_NIGHT = [pair for pair in cells() if pair not in BY_DAY]


def judge(alice: str, bob: str, folder: Path) -> None:
    goes_direct = bool({alice, bob} & REACHABLE) or {alice, bob} <= MEETS
    try:
        talked = talk(alice, bob, folder, DEADLINE if goes_direct else 0.5)
    except LabUnavailable as reason:
        if os.environ.get("LAB_REQUIRED"):
            raise
        pytest.skip(str(reason))
    if goes_direct:
        assert talked.direct is not None, "one of the two can be dialed, or both can meet"


@pytest.mark.parametrize(("alice", "bob"), BY_DAY)
def test_two_sites_talk_and_directly_where_one_can_be_dialed(
    alice: str, bob: str, tmp_path: Path
) -> None:
    judge(alice, bob, tmp_path)


@pytest.mark.nightly
@pytest.mark.parametrize(("alice", "bob"), AT_NIGHT)
def test_so_do_those_behind_all_other_kinds(alice: str, bob: str, tmp_path: Path) -> None:
    judge(alice, bob, tmp_path)
