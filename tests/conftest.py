"""What holds for every test: which run beside one another, how much is tried, in which of them
asyncio looks closer, and that no error is logged that the test does not expect.
"""

import asyncio.constants
import gc
import logging
import os
import signal
import tempfile
import traceback
from collections.abc import Generator, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from tests.support import scale
from tests.support.errors import ErrorLog
from tests.support.groups import Groups, rank_of
from tests.support.measured import UNMEASURED, unmeasured

TESTS = Path(__file__).parent
UNITS = ("protocol", "relay", "peers")
"""Folders whose tests run in asyncio's debug mode, which adds a quarter to their CPU time."""

ERRORS = ErrorLog()


def pytest_configure(config: pytest.Config) -> None:
    scale.load_profile()
    # What the commands keep where nobody says is never kept in the home of who runs the tests.
    home = tempfile.TemporaryDirectory(prefix="roam-tests-", ignore_cleanup_errors=True)
    config.add_cleanup(home.cleanup)
    for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME"):
        os.environ[name] = home.name
    # In debug mode each callback, future and task remembers the frames that it was made in: ten of
    # them, or all. That is a third of what such a test computes, and the last ones tell as much.
    asyncio.constants.DEBUG_STACK_DEPTH = 2
    # asyncio's futures in C ask this function, which they keep, for no number of frames.
    traceback.extract_stack.__defaults__ = (None, 4)
    ERRORS.install()
    # Said in asyncio's debug mode of a callback that took 0.1 s: on a busy machine any may.
    logging.getLogger("asyncio").addFilter(lambda record: not record.msg.startswith("Executing"))
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # As a shell leaves it for what it starts in the background: our programs would inherit it,
        # and could not be interrupted.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # The same for what `nohup` starts.


def folder_of(item: pytest.Item) -> str:
    """Return the first folder below this one that a test is in."""
    return item.path.relative_to(TESTS).parts[0]


def worker_of(config: pytest.Config) -> str:
    """Return the name of this worker of pytest-xdist's; of the process that deals out, none."""
    return str(getattr(config, "workerinput", {}).get("workerid", ""))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Groups:
    return Groups(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the long ones to the night; what takes long begins first."""
    if not scale.NIGHTLY:
        long = [item for item in items if item.get_closest_marker("nightly")]
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if item not in long]
    items.sort(key=lambda item: rank_of(item.nodeid))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Take what was imported out of every later collection: a test that collects to see what was
    left looks at what tests made, in a tenth of the time."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    item.config.option.asyncio_debug = folder_of(item) in UNITS


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    """Every worker imports the same: the first one is measured meanwhile."""
    with nullcontext() if worker_of(session.config) in ("", "gw0") else unmeasured():
        return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """What a test's fixtures of wider scope start is measured as the test that asked first is."""
    with unmeasured() if item.nodeid.startswith(UNMEASURED) else nullcontext():
        return (yield)


@pytest.fixture(autouse=True)
def no_unexpected_error(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail where `peers`, `relay` or asyncio logged an error, unless the test is marked with
    `expected_errors` and a regular expression for it."""
    yield
    expected = [
        pattern for mark in request.node.iter_markers("expected_errors") for pattern in mark.args
    ]
    if errors := ERRORS.take(expected):
        pytest.fail("an error was logged:\n" + "\n".join(errors), pytrace=False)


@pytest.fixture(autouse=True, scope="module")
def no_error_in_what_is_left() -> Iterator[None]:
    """The same for what asyncio says when a task or a future that nobody asked is collected, which
    may be long after the test that left it."""
    yield
    gc.collect()
    if errors := ERRORS.take():
        pytest.fail("an error was logged by what a test left:\n" + "\n".join(errors), pytrace=False)
