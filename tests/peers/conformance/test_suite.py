"""The kit: it passes on this library's own peer and relay, and finds what is planted in them."""

import asyncio
import shlex
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from peers.conformance import Outcome, Report, Wanted, check_peer, check_relay, started_relay
from peers.conformance.faults import PATIENCE
from tests.peers.conformance.nursery import PEER_FAULTS, RELAY_FAULTS
from tests.support import scale

HERE = Path(__file__).parent
_SHORT = 4.0
"""Seconds for what a party with a fault does not do."""


@pytest.fixture(scope="module")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The command that starts a party, without its kind and its fault."""
    place = tmp_path_factory.mktemp("nursery") / "door"
    command = [sys.executable, "-m", "tests.peers.conformance.nursery", str(place)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=HERE.parents[2]) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            yield shlex.join([sys.executable, "-I", "-S", str(HERE / "door.py"), str(place)])
        finally:
            process.kill()


def lines_of(report: Report) -> str:
    return "\n".join(line for rule in report.rules for line in rule.lines)


async def of_peer(nursery: str, fault: str, *rules: str, patience: float = PATIENCE) -> Report:
    command = f"{nursery} peer {shlex.quote(fault)}"
    return await check_peer(command, Wanted(rules, slow=scale.NIGHTLY, patience=patience))


async def of_relay(nursery: str, fault: str, *rules: str, patience: float = PATIENCE) -> Report:
    async with started_relay(f"{nursery} relay {shlex.quote(fault)} {{port}}") as url:
        return await check_relay(url, Wanted(rules, slow=scale.NIGHTLY, patience=patience))


async def test_this_library_s_own_peer_keeps_every_rule(nursery: str) -> None:
    report = await of_peer(nursery, "nothing")
    assert not report.failed, lines_of(report)
    assert report.counts["not_tried"] == 0, lines_of(report)
    # It is no page.
    kinds = {one.rule for one in report.results if one.outcome is Outcome.NOT_APPLICABLE}
    assert kinds == {"R18.9", "R18.23", "R18.24", "R18.25", "R18.26", "R18.27"}
    assert report.counts["passed"] >= 175


_ON_PLANES = ("R8", "R9", "R10.12", "R10.35", "R10.36", "R10.40", "R11.17", "R11.53", "R18")
"""By day; the rest is the same over any lock."""


async def test_it_keeps_them_too_where_it_takes_neither_direct_paths_nor_tls(nursery: str) -> None:
    rules = () if scale.NIGHTLY else _ON_PLANES
    report = await of_peer(nursery, "by relays and noise alone", *rules)
    assert not report.failed, lines_of(report)
    assert report.counts["not_tried"] == 0, lines_of(report)
    passed = {rule.rule for rule in report.rules if rule.outcome is Outcome.PASSED}
    assert {"R8.7", "R9.14", "R10.35", "R10.36", "R11.17", "R18.4", "R18.8"} <= passed


async def test_this_library_s_own_relay_keeps_every_rule(nursery: str) -> None:
    report = await of_relay(nursery, "nothing")
    assert not report.failed, lines_of(report)
    assert report.counts["not_tried"] == 0, lines_of(report)
    assert report.counts["passed"] >= 70


def wanted_for(rule: str) -> tuple[str, ...]:
    """Return what is tried to find a fault: by day the checks of its rule, at night all."""
    if scale.NIGHTLY:
        return ()
    # What is acknowledged that never went out is found where acknowledgements are looked at.
    return ("R11.18",) if rule == "R11.29" else (rule,)


Faults = dict[str, tuple[Callable[[], None], str, str]]


async def missed(
    faults: Faults, check: Callable[[str, str, float], Coroutine[Any, Any, Report]]
) -> dict[str, str]:
    """Return the faults that are not found by their rule, in the words that belong to them, and
    what was found in place of that. Several parties are tried at once."""
    at_once = asyncio.Semaphore(6)
    other: dict[str, str] = {}

    async def one(fault: str, rule: str, said: str) -> None:
        # On a busy machine a check may come to its end before the fault shows.
        for patience in (_SHORT, PATIENCE):
            async with at_once:
                report = await check(fault, rule, patience)
            failed = [one for one in report.results if one.outcome is Outcome.FAILED]
            if any(one.rule == rule and said in one.detail for one in failed):
                other.pop(fault, None)
                return
            other[fault] = lines_of(report)

    async with asyncio.TaskGroup() as tasks:
        for fault, (_, rule, said) in faults.items():
            if rule:
                tasks.create_task(one(fault, rule, said))
    return other


async def test_each_fault_of_a_peer_is_found_by_its_rule(nursery: str) -> None:
    assert len(PEER_FAULTS) > 10
    assert not await missed(
        PEER_FAULTS,
        lambda fault, rule, patience: of_peer(nursery, fault, *wanted_for(rule), patience=patience),
    )


async def test_each_fault_of_a_relay_is_found_by_its_rule(nursery: str) -> None:
    assert not await missed(
        RELAY_FAULTS,
        lambda fault, rule, patience: of_relay(
            nursery, fault, *wanted_for(rule), patience=patience
        ),
    )
