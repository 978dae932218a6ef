"""The past itself: that it is the old version which runs, and that nothing about it goes unseen."""

import shutil
from pathlib import Path

import pytest

from tests.compat.children import Failed, Party, Said
from tests.compat.past import NEW, OLD, PAST, PastMissing, Tree, extract
from tests.compat.world import World

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_each_program_runs_its_own_version(world: World, old: Tree) -> None:
    """Each child tells where its packages were loaded from; here the tellers are told apart."""
    for version, party in world.parties.items():
        for file in (await party("where")).values():
            assert world.trees[version].holds(file)
            assert old.holds(file) == (version == OLD)
    assert not old.holds(str(world.trees[NEW].folder / "peers" / "__init__.py"))


async def test_a_wrong_version_and_a_traceback_are_seen(world: World, tmp_path: Path) -> None:
    shutil.copytree(world.trees[NEW].folder / "protocol", tmp_path / "protocol")
    party = Party(Tree(OLD, tmp_path))
    try:
        # The installed packages are found in place of those that are missing.
        with pytest.raises(AssertionError, match="has loaded peers from"):
            await party.start()
        await party("crash")
    finally:
        await party.stop()
    assert party.troubles() == ["old party: Traceback (most recent call last):"]
    assert "ZeroDivisionError" in party.written()
    assert party.troubles() == []


async def test_a_commit_that_is_missing_is_told_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(PastMissing, match="'git fetch --unshallow'"):
        extract("0" * 40, tmp_path)
    with pytest.raises(PastMissing, match=f"needs commit {PAST[:7]}"):
        extract(PAST, tmp_path, repository=tmp_path)
    assert not list(tmp_path.iterdir())


async def test_a_party_that_fails_says_why(world: World) -> None:
    party = world.parties[OLD]
    with pytest.raises(Failed, match="KeyError: 'nobody'"):
        await party("locate", peer="nobody", guid="", service="talk")
    with pytest.raises(Failed, match="no answer to told"):
        await party("told", guid="nobody", word="online", deadline=0.0)
    with pytest.raises(Said, match="RelayUnavailable"):
        await world.open(OLD, "http://127.0.0.1:9", connect_timeout=0.2)
