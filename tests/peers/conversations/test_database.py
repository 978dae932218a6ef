"""The store: what is wrong with it is said by an error of ours, and nothing is lost."""

import asyncio
import sqlite3
import stat
from pathlib import Path

import pytest

from peers import (
    Identity,
    Peer,
    StoreDamaged,
    StoreFailed,
    StoreForeign,
    StoreFull,
    StoreLocked,
    StoreTooNew,
    UsageError,
)
from peers.conversations import tables
from peers.conversations.database import Database
from tests.peers.conversations.test_conversation import PATIENCE, take
from tests.support.full_disk import full_disk

OWNER = Identity.generate().guid


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


async def opened(file: Path | sqlite3.Connection, owner: str = OWNER) -> Database:
    database = Database(file, tables.MIGRATIONS)
    try:
        await database.open(owner)
    except BaseException:
        await database.close()
        raise
    return database


async def test_it_is_for_its_owner_alone(file: Path) -> None:
    database = await opened(file)
    assert {stat.S_IMODE(one.stat().st_mode) for one in file.parent.iterdir()} == {0o600}
    await database.close()
    with pytest.raises(StoreForeign, match=OWNER):
        await opened(file, Identity.generate().guid)
    await (await opened(file)).close()


async def test_two_programs_do_not_have_it_at_once(file: Path) -> None:
    database = await opened(file)
    with pytest.raises(StoreLocked, match="another peer has it open"):
        await opened(file)
    own = sqlite3.connect(file, check_same_thread=False)
    with pytest.raises(StoreLocked, match="another peer has it open"):
        await opened(own)
    own.close()
    await database.close()
    await (await opened(file)).close()


async def test_what_a_newer_version_has_written_is_refused(file: Path) -> None:
    await (await opened(file)).close()
    with sqlite3.connect(file) as newer:
        newer.execute("UPDATE roam_meta SET value = 99 WHERE key = 'version'")
    newer.close()
    before = file.read_bytes()
    with pytest.raises(StoreTooNew, match="of version 99"):
        await opened(file)
    assert file.read_bytes() == before


@pytest.mark.parametrize("image", [b"no database " * 99, b"SQLite format 3\0" + b"\xff" * 5000])
async def test_a_damaged_one_is_left_as_it_is(file: Path, image: bytes) -> None:
    file.write_bytes(image)
    with pytest.raises(StoreDamaged, match="damaged"):
        await opened(file)
    assert file.read_bytes() == image


async def test_a_folder_is_none(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "nowhere" / "store.db"):
        with pytest.raises(StoreFailed):
            await opened(place)


async def test_a_full_disk_takes_nothing_and_loses_nothing(
    alice: Peer, bob: Peer, tmp_path: Path
) -> None:
    async with (
        alice.conversation(bob.guid, "chat", store=tmp_path / "alice.db") as here,
        bob.conversation(alice.guid, "chat", store=tmp_path / "bob.db") as there,
    ):
        await here.send(b"before")
        assert await take(there, 1) == [b"before"]
        with full_disk():
            for _ in range(3):
                with pytest.raises(StoreFull, match="the disk is full"):
                    await here.send(b"no room")
        await here.send(b"after")
        assert await take(there, 1) == [b"after"]


async def test_a_recipient_goes_on_when_there_is_room(
    alice: Peer, bob: Peer, tmp_path: Path
) -> None:
    """Its own disk is full, so that nothing is acknowledged; nor is anything lost."""
    taken = asyncio.Event()
    async with (
        alice.conversation(bob.guid, "chat", store=tmp_path / "alice.db") as here,
        bob.conversation(alice.guid, "chat", store=tmp_path / "bob.db") as there,
    ):
        held = sqlite3.connect(tmp_path / "bob.db", isolation_level=None)
        held.execute("BEGIN IMMEDIATE")  # Another program writes, and does not come to an end.
        name = await here.send(b"waits")
        for _ in range(20):
            await asyncio.sleep(0)
        assert [one.id for one in await here.outgoing()] == [name]
        held.execute("ROLLBACK")
        held.close()
        assert await take(there, 1) == [b"waits"]
        taken.set()


async def test_one_that_fails_does_not_stop_others(file: Path) -> None:
    """Calls that wait together share a transaction; each is undone by itself."""
    database = await opened(file)

    def put(value: int) -> None:
        def work(connection: sqlite3.Connection) -> None:
            connection.execute("INSERT INTO roam_meta VALUES (?, 0)", (f"x{value}",))
            if value % 2:
                raise KeyError(value)

        return work

    async with asyncio.timeout(PATIENCE):
        results = await asyncio.gather(
            *(database.run(put(value)) for value in range(50)), return_exceptions=True
        )
    assert [isinstance(one, KeyError) for one in results] == [bool(n % 2) for n in range(50)]
    count = await database.run(
        lambda db: db.execute("SELECT count(*) FROM roam_meta WHERE key LIKE 'x%'").fetchone()
    )
    assert count == (25,)
    await database.close()


async def test_a_connection_of_the_program(file: Path) -> None:
    own = sqlite3.connect(file)
    with pytest.raises(UsageError, match="check_same_thread=False"):
        await opened(own)
    own.close()
    own = sqlite3.connect(file, check_same_thread=False)
    database = await opened(own)
    own.execute("CREATE TABLE mine (a)")
    own.execute("INSERT INTO mine VALUES (1)")  # Begins a transaction of the program.
    with pytest.raises(UsageError, match="transaction of the program"):
        await database.run(lambda db: db.execute("SELECT 1"))
    own.commit()
    await database.run(lambda db: db.execute("SELECT 1"))
    await database.close()
    assert own.execute("SELECT a FROM mine").fetchall() == [(1,)]
    own.close()
