"""Chaos: nothing lost, nothing twice, nothing out of order."""

import random
from pathlib import Path

from tests.chaos.run import Chaos

SECONDS = 45.0


async def test_chaos(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"replay with: python -m tests.chaos --seed {seed} --seconds {SECONDS:g}")
    report = await Chaos(seed, tmp_path).run(SECONDS)
    print(report)
    assert not report.faults, str(report)
    assert report.received == report.sent
    assert report.sent > 1000
    assert report.paths > 2 * report.sessions, "paths were cut and replaced"
    assert report.troubles["kill relay"] + report.troubles["move"] > 0


async def test_some_chaos_by_names_alone(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"replay with: python -m tests.chaos --seed {seed} --seconds 18 --by-name")
    report = await Chaos(seed, tmp_path, by_name=True).run(18.0)
    print(report)
    assert not report.faults, str(report)
    assert report.received == report.sent
    assert report.sent > 300
