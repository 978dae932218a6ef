"""Which tests are measured by coverage, and how the others are not.

On Python 3.11 a process that is measured computes twice as long, and so does whatever it starts.
Tests of whole programs that others cover line by line are not measured; they run all the same.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from coverage import Coverage

__all__ = ["UNMEASURED", "unmeasured"]

UNMEASURED = (
    "tests/attacks/",
    "tests/chaos/",
    "tests/compat/",
    "tests/integration/",
    "tests/lab/",
    "tests/peers/test_cancellation.py",
    "tests/soak/",
    "tests/test_architecture.py",
    "tests/test_benchmarks.py",
)
"""The beginnings of the names of tests that are not measured."""

CHILDREN = "COVERAGE_PROCESS_CONFIG"
"""The variable by which coverage's `patch = ["subprocess"]` reaches what a process starts."""


@contextmanager
def unmeasured() -> Iterator[None]:
    """Measure neither this process nor what it starts, for so long."""
    measuring = Coverage.current()
    if measuring is None:
        yield
        return
    children = os.environ.pop(CHILDREN, None)
    measuring.stop()
    try:
        yield
    finally:
        measuring.start()
        if children is not None:
            os.environ[CHILDREN] = children
