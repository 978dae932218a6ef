"""A short soak: nothing is left of peers that have come, talked, moved and gone in every way."""

from pathlib import Path

from tests.soak.run import Soak
from tests.support.scale import of


async def test_nothing_is_left(tmp_path: Path) -> None:
    report = await Soak(tmp_path, peers=of(60, 300), seed=1).run(of(1, 300), laps=of(2, 6))
    print(report)
    assert not report.faults, str(report)
    assert report.deeds.total() >= 2 * 3 * 60
    assert report.failures.total() < report.deeds.total() / 2, "most of it came about"
