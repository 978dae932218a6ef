"""`relay forget`: nothing is kept of a GUID afterwards, in memory or on the disk."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from protocol.errors import Code
from protocol.identity import Identity
from protocol.messages import Error
from relay.config import DnsConfig
from relay.operator import Allow, Ban, Done, Failed, Forget
from relay.server import RelayServer
from tests.relay.admission.doors import invited, token
from tests.relay.client import client
from tests.relay.dns import asking

ALICE, BOB = asking.ALICE, asking.MALLORY


def on_disk(folder: Path, guid: str) -> set[str]:
    """Return the tables of all stores in which a GUID stands."""
    found = set()
    for file in folder.glob("*.sqlite"):
        database = sqlite3.connect(file)
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master")]
        for table in tables:
            try:
                rows = database.execute(f"SELECT * FROM {table}").fetchall()
            except sqlite3.OperationalError:
                continue
            if guid in str(rows):
                found.add(f"{file.name}:{table}")
        database.close()
    return found


async def do(server: RelayServer, asked: Any) -> Done:
    answer = await server.operator.do(asked)
    assert isinstance(answer, Done), answer
    return answer


async def test_nothing_is_left_of_a_peer_and_all_of_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dns = DnsConfig(zone=asking.ZONE, port=0, store="zone.sqlite", addresses="127.0.0.1")
    state = tmp_path / "state"
    async with invited(tmp_path, dns=dns) as server:
        for identity in (ALICE, BOB):
            await do(server, Allow(identity.guid))
            update = asking.update(server, identity)
            update.add(f"{identity.guid}.{asking.ZONE}.", 60, "A", "192.0.2.1")
            assert await asking.sent(server, update) == 0
        async with client(server.url, identity=BOB) as other:
            await other.register("chat")
        async with client(server.url, identity=ALICE) as one:
            await one.register("chat", token=token())
            before = on_disk(state, ALICE.guid)
            assert before >= {"relay.sqlite:members", "zone.sqlite:peers"}
            done = await do(server, Forget(ALICE.guid))
            assert done.ended == 1
            for what in ("when it was here", "its admissions", "its records in the zone"):
                assert what in done.said
            said = await one.expect(Error)
            assert (said.code, said.retry_after) == (Code.NOT_ADMITTED, 600.0)
        assert on_disk(state, ALICE.guid) == set()
        # Nor in what is free in the files, nor in the logs beside them.
        for file in state.iterdir():
            assert not file.is_file() or ALICE.guid.encode() not in file.read_bytes(), file
        assert on_disk(state, BOB.guid) == before
        assert server.registry.get(ALICE.guid) is None
        assert server.registry.gone(ALICE.guid) is None
        assert server.admission.book.member(ALICE.guid) is None
        assert asking.texts(await asking.ask(server, asking.NAME)) == []
        # Again, it is nobody's.
        assert (await do(server, Forget(ALICE.guid))).said == "nothing was kept of it"
        assert server.admission.book.member(BOB.guid) is not None


async def test_a_ban_is_the_operator_s_and_stays(tmp_path: Path) -> None:
    async with invited(tmp_path) as server:
        await do(server, Ban(ALICE.guid))
        done = await do(server, Forget(ALICE.guid))
        assert "its ban stays" in done.said
        assert isinstance(await server.operator.do(Forget("192.0.2.0/24")), Failed)
        assert isinstance(await server.operator.do(Forget("nobody")), Failed)


async def test_who_is_forgotten_may_come_again(tmp_path: Path) -> None:
    some, alice = token(uses=1), Identity.generate()
    async with invited(tmp_path) as server:
        for _ in range(2):
            async with client(server.url, identity=alice) as one:
                await one.register(token=some)
            await do(server, Forget(alice.guid))
