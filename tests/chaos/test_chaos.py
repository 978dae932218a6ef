"""Chaos: nothing lost, nothing twice, nothing out of order."""

import random
from pathlib import Path

import pytest

from tests.chaos import conversations
from tests.chaos.cluster import ClusterChaos
from tests.chaos.run import Chaos
from tests.support.scale import of

SECONDS = of(15, 600)
BY_NAME = of(12, 120)
RUNS = pytest.mark.parametrize("run", range(of(1, 3)))
"""Each with a seed of its own."""


@RUNS
async def test_chaos(tmp_path: Path, run: int) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"replay with: python -m tests.chaos --seed {seed} --seconds {SECONDS:g}")
    report = await Chaos.one_relay(seed, tmp_path).run(SECONDS)
    print(report)
    assert not report.faults, str(report)
    assert report.received == report.sent
    assert report.sent > 1000
    assert report.paths > of(1, 2) * report.sessions, "paths were cut and replaced"
    assert report.troubles.total() > 5
    assert report.flights.total() > 0, "paths were resumed with a sealed flight"


@RUNS
async def test_some_chaos_by_names_alone(tmp_path: Path, run: int) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"replay with: python -m tests.chaos --seed {seed} --seconds {BY_NAME:g} --by-name")
    report = await Chaos.one_relay(seed, tmp_path, by_name=True).run(BY_NAME)
    print(report)
    assert not report.faults, str(report)
    assert report.received == report.sent
    assert report.sent > 300


@RUNS
def test_conversations_outlive_their_programs(tmp_path: Path, run: int) -> None:
    seed = random.SystemRandom().randrange(2**32)
    kills = of(1, 40)
    print(f"replay with: python -m tests.chaos --conversations --seed {seed} --kills {kills}")
    conversations.run(tmp_path, seed=seed, kills=kills, count=of(25, 300))


@pytest.mark.nightly
def test_conversations_outlive_their_programs_in_a_cluster(tmp_path: Path) -> None:
    seed, kills = random.SystemRandom().randrange(2**32), 40
    print(f"replay: python -m tests.chaos --conversations --cluster --seed {seed} --kills {kills}")
    conversations.run(tmp_path, seed=seed, kills=kills, count=300, cluster=True)


@pytest.mark.nightly
@pytest.mark.parametrize("run", range(3))
async def test_chaos_of_a_cluster(tmp_path: Path, run: int) -> None:
    seed, seconds = random.SystemRandom().randrange(2**32), 120
    print(f"replay with: python -m tests.chaos --cluster --seed {seed} --seconds {seconds}")
    report = await ClusterChaos(seed, tmp_path).run(seconds)
    print(report)
    assert not report.faults, str(report)
    assert report.received == report.sent
    assert report.sent > 1000
    assert report.paths > report.sessions, "paths were cut and replaced"
