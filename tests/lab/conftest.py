"""Fixtures of the lab, and the table of its results at the end of a run."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.lab.network import LabUnavailable
from tests.lab.results import lines
from tests.lab.stage import RESULTS, Stage, stage

SetStage = Callable[..., Stage]


@pytest.fixture
def set_stage() -> Iterator[SetStage]:
    """Return `stage` as a function, which skips the test where there can be no lab; with
    LAB_REQUIRED in the environment that is a failure."""
    with ExitStack() as stack:

        def enter(**options: Any) -> Stage:
            try:
                return stack.enter_context(stage(**options))
            except LabUnavailable as reason:
                if os.environ.get("LAB_REQUIRED"):
                    raise
                pytest.skip(str(reason))

        yield enter


@pytest.fixture
def on_stage(set_stage: SetStage) -> Stage:
    """Return a stage whose links take no time."""
    return set_stage()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print what was measured."""
    if RESULTS:
        terminalreporter.section("the lab's results")
        for line in lines(RESULTS):
            terminalreporter.write_line(line)
