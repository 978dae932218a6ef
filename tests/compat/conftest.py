"""One world for all tests of this folder, and what its programs say when something goes wrong."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.compat.past import NEW, PAST, ROOT, PastMissing, Tree, extract
from tests.compat.world import World

_worlds: list[World] = []


@pytest.fixture(scope="session")
def old(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    try:
        return extract(PAST, tmp_path_factory.mktemp("past"))
    except PastMissing as missing:
        pytest.fail(str(missing), pytrace=False)


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def world(old: Tree, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    world = World(old, Tree(NEW, ROOT), tmp_path_factory.mktemp("compat"))
    # What is tested runs elsewhere: this loop only passes lines on, and should be out of the way.
    asyncio.get_running_loop().set_debug(False)
    _worlds.append(world)
    try:
        async with world.running(*world.relays.values(), *world.parties.values()):
            yield world
        # What they have said while they ended counts too.
        _check_troubles()
    finally:
        _worlds.remove(world)


@pytest.fixture(autouse=True)
def _no_program_complains() -> Iterator[None]:
    yield
    _check_troubles()


def _check_troubles() -> None:
    for world in _worlds:
        troubles = [trouble for child in world.children for trouble in child.troubles()]
        if troubles:
            said = "\n\n".join(child.written() for child in world.children)
            raise AssertionError("\n".join([*troubles, "", said]))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report = yield
    if report.failed and Path(__file__).parent in item.path.parents:
        for world in _worlds:
            for child in world.children:
                report.sections.append((f"standard error of {child.name}", child.written()))
    return report
