"""What a store keeps through a kill, a full disk and another version of the program."""

import asyncio
import os
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from relay.config import ConfigError
from relay.store import Database, Migrations, StoreFailed
from tests.relay.store.tables import LATER, TABLES


async def opened(file: Path | None, migrations: Migrations = TABLES) -> Database:
    database = Database(str(file) if file else None, migrations, "test")
    try:
        await database.open()
    except BaseException:
        await database.close()
        raise
    return database


def numbers(tables: sqlite3.Connection) -> list[int]:
    return [number for (number,) in tables.execute("SELECT number FROM rows ORDER BY number")]


async def test_tables_go_up_and_never_down(tmp_path: Path) -> None:
    file = tmp_path / "store.sqlite"
    first = await opened(file)
    await first.run(lambda tables: tables.execute("INSERT INTO rows VALUES (7)"))
    await first.close()
    second = await opened(file, LATER)
    rows = await second.run(lambda tables: tables.execute("SELECT * FROM rows").fetchall())
    assert rows == [(7, "old")]
    await second.close()
    again = await opened(file, LATER)
    await again.close()
    before = file.read_bytes()
    with pytest.raises(
        ConfigError, match=r"test: .*newer version .*version 2, and 1 is the newest"
    ):
        await opened(file)
    assert file.read_bytes() == before


async def test_a_step_that_fails_leaves_the_version_before(tmp_path: Path) -> None:
    file = tmp_path / "store.sqlite"
    await (await opened(file)).close()
    broken = (*TABLES, "CREATE TABLE more (x); INSERT INTO nowhere VALUES (1)")
    with pytest.raises(ConfigError, match="no such table"):
        await opened(file, broken)
    database = await opened(file, LATER)
    tables = await database.run(
        lambda tables: tables.execute("SELECT name FROM sqlite_master").fetchall()
    )
    assert tables == [("rows",)]
    await database.close()


async def test_the_file_is_its_owner_s(tmp_path: Path) -> None:
    file = tmp_path / "store.sqlite"
    file.touch(0o644)
    database = await opened(file)
    await database.run(lambda tables: tables.execute("INSERT INTO rows VALUES (1)"))
    modes = {found.name: found.stat().st_mode & 0o777 for found in tmp_path.iterdir()}
    assert set(modes) >= {"store.sqlite", "store.sqlite-wal"}
    assert set(modes.values()) == {0o600}
    await database.close()


async def test_work_that_fails_half_way_changes_nothing() -> None:
    database = await opened(None)

    def half(tables: sqlite3.Connection) -> None:
        tables.execute("INSERT INTO rows VALUES (1)")
        raise LookupError

    with pytest.raises(LookupError):
        await database.run(half)
    with pytest.raises(StoreFailed, match="no such table"):
        await database.run(lambda tables: tables.execute("INSERT INTO nowhere VALUES (1)"))
    assert await database.run(numbers) == []
    await database.close()
    with pytest.raises(StoreFailed, match="not open"):
        await database.run(numbers)


async def test_a_full_disk_keeps_what_was_there(tmp_path: Path) -> None:
    database = await opened(tmp_path / "store.sqlite")

    def fill(tables: sqlite3.Connection) -> None:
        tables.executemany("INSERT INTO rows VALUES (?)", ((row,) for row in range(10, 100_000)))

    def no_more(tables: sqlite3.Connection) -> None:
        (pages,) = tables.execute("PRAGMA page_count").fetchone()
        tables.execute(f"PRAGMA max_page_count = {pages}")

    await database.run(lambda tables: tables.execute("INSERT INTO rows VALUES (1)"))
    await database.run(no_more)
    with pytest.raises(StoreFailed, match="full"):
        await database.run(fill)
    await database.run(lambda tables: tables.execute("INSERT INTO rows VALUES (2)"))
    assert await database.run(numbers) == [1, 2]
    await database.close()


async def test_a_kill_loses_nothing_that_was_said_to_be_done(tmp_path: Path) -> None:
    file = tmp_path / "store.sqlite"
    program = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.relay.store.writer",
        str(file),
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[3],
        env=os.environ | {"PYTHONWARNINGS": "ignore"},
    )
    assert program.stdout is not None
    said = 0
    async with asyncio.timeout(60):
        while said < 20:
            said = int(await program.stdout.readline())
        program.kill()
        for line in (await program.stdout.read()).split():
            said = int(line)
        await program.wait()
    database = await opened(file)
    assert (await database.run(numbers))[:said] == list(range(1, said + 1))
    await database.close()


async def test_a_file_that_others_could_read_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "store.sqlite"
    file.touch(0o600)
    await (await opened(file)).close()
    assert not caplog.records
    file.chmod(0o640)
    await (await opened(file)).close()
    assert file.stat().st_mode & 0o777 == 0o600
    (record,) = caplog.records
    assert "others could read or write the store" in record.getMessage()
    assert "mode='0640'" in record.getMessage()


async def test_a_folder_in_which_others_may_write_is_no_place_for_a_store(tmp_path: Path) -> None:
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(ConfigError, match=r"test: .*others may write into .*shared.*chmod 700"):
        await opened(folder / "store.sqlite")
    assert list(folder.iterdir()) == []
    folder.chmod(0o1777)  # As /tmp is: nobody replaces what is another's.
    await (await opened(folder / "store.sqlite")).close()


async def test_of_two_programs_that_open_a_new_file_at_once_one_makes_the_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one has looked at the version before."""
    file = tmp_path / "store.sqlite"
    right = sqlite3.connect
    others: list[str] = []

    def connect(name: str, **settings: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = right(name, **settings)
        if len(others) < 2:
            connection.set_trace_callback(overtake)
        return connection

    def overtake(statement: str) -> None:
        """Before either step is begun, another program makes it."""
        if statement.startswith("BEGIN IMMEDIATE") and len(others) < 2:
            others.append(statement)
            with closing(right(file, isolation_level=None)) as other:
                number = len(others)
                other.executescript(
                    f"BEGIN; {LATER[number - 1]}; PRAGMA user_version = {number}; END"
                )

    monkeypatch.setattr(sqlite3, "connect", connect)
    database = await opened(file, LATER)
    assert len(others) == 2
    await database.run(lambda tables: tables.execute("INSERT INTO rows VALUES (1, 'new')"))
    await database.close()
