"""What updates have registered is kept, whatever happens to the disk."""

import contextlib
import sqlite3
from pathlib import Path

import dns.asyncquery
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.query
import dns.rcode
import dns.rdatatype
import dns.rrset
import dns.tsig
import dns.update
import pytest

from relay.backplane import ZoneUpdate
from relay.config import ConfigError, DnsConfig
from relay.dns import DnsKeys, DnsStore, ZonePeers
from relay.dns.messages import DnsMessages
from relay.dns.store import StoreFailed, StoreUnsure, read_records, write_records
from relay.dns.zone import Zone
from relay.metrics import Metrics
from relay.presence import Registry
from tests.relay.dns.asking import ALICE, MALLORY, NAME, ZONE, ask, sent, serving, texts, update


def no_more_pages(database: sqlite3.Connection) -> None:
    (pages,) = database.execute("PRAGMA page_count").fetchone()
    database.execute(f"PRAGMA max_page_count = {pages}")


@pytest.mark.expected_errors("cannot be stored")
async def test_a_full_disk_changes_nothing(tmp_path: Path) -> None:
    async with serving(store=str(tmp_path / "dns.sqlite")) as server:
        message = update(server)
        message.add(NAME, 30, "A", "192.0.2.1")
        assert await sent(server, message) == dns.rcode.NOERROR
        assert server.dns is not None
        await server.dns._store._database.run(no_more_pages)
        message = update(server)
        for number in range(150):
            message.add(f"n{number}.{NAME}", 30, "TXT", '"' + "x" * 150 + '"')
        message.delete(NAME, "A")
        assert await sent(server, message) == dns.rcode.SERVFAIL
        assert texts(await ask(server, NAME)) == ["192.0.2.1"]
        assert (await ask(server, f"n1.{NAME}", "TXT")).rcode() == dns.rcode.NXDOMAIN
    async with serving(store=str(tmp_path / "dns.sqlite")) as server:
        assert texts(await ask(server, NAME)) == ["192.0.2.1"]


RECORDS = write_records({("x", "A"): (30, ("192.0.2.1",))})


async def test_what_is_old_is_dropped(tmp_path: Path) -> None:
    now = 1000.0
    told: list[ZoneUpdate] = []
    store = DnsStore(str(tmp_path / "dns.sqlite"), clock=lambda: now)
    await store.open(60.0, told.append)
    await store.change("a", b"signed", lambda: RECORDS)
    now = 1050.0
    await store.change("b", b"", lambda: RECORDS)
    now = 1065.0
    await store.drop_old(60.0)
    assert told == [
        ZoneUpdate("a", RECORDS, b"signed"),
        ZoneUpdate("b", RECORDS),
        ZoneUpdate("a", b""),
    ]
    await store.close()
    again = DnsStore(str(tmp_path / "dns.sqlite"), clock=lambda: now)
    told.clear()
    await again.open(60.0, told.append)
    assert told == [ZoneUpdate("b", RECORDS)]
    await again.close()


async def test_a_store_that_is_not_open_says_so() -> None:
    store = DnsStore(None)
    with pytest.raises(StoreFailed, match="not open"):
        await store.change("a", b"", bytes)
    await store.open(60.0, lambda update: None)
    await store.close()
    unused = DnsStore(None)
    await unused.close()


async def test_a_store_that_cannot_be_used_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "dns.sqlite").write_bytes(b"no database at all" * 100)
    with pytest.raises(ConfigError, match=r"cannot use the store .*dns\.sqlite"):
        async with serving(store=str(tmp_path / "dns.sqlite")):
            pass
    with pytest.raises(ConfigError, match="cannot use the store"):
        async with serving(store=str(tmp_path / "no" / "folder")):
            pass


async def test_a_store_without_a_number_goes_up(tmp_path: Path) -> None:
    file = tmp_path / "dns.sqlite"
    with contextlib.closing(sqlite3.connect(file)) as old:
        old.execute(
            "CREATE TABLE peers (guid TEXT PRIMARY KEY, updated REAL NOT NULL, "
            "records BLOB NOT NULL) WITHOUT ROWID"
        )
        old.execute('INSERT INTO peers VALUES (\'a\', 1000.0, \'[["x","A",30,["192.0.2.1"]]]\')')
        old.commit()
    store = DnsStore(str(file), clock=lambda: 1001.0)
    told: list[ZoneUpdate] = []
    await store.open(60.0, told.append)
    assert [(one.guid, read_records(one.records)) for one in told] == [
        ("a", {("x", "A"): (30, ("192.0.2.1",))})
    ]
    await store.close()
    with contextlib.closing(sqlite3.connect(file)) as now:
        assert now.execute("PRAGMA user_version").fetchone() == (1,)


class Away:
    """A store that cannot be asked, until it can."""

    has_learned = True

    def __init__(self) -> None:
        self.is_away = True
        self.forgotten: list[str] = []

    async def open(self, remember: float, told: object) -> None: ...

    async def change(self, guid: str, mac: bytes, make: object) -> None: ...

    async def drop_old(self, remember: float) -> None: ...

    async def close(self) -> None: ...

    async def forget(self, guid: str) -> None:
        if self.is_away:
            raise StoreUnsure("there is no connection to NATS")
        self.forgotten.append(guid)


async def test_who_has_to_go_is_out_of_the_zone_as_soon_as_that_can_be() -> None:
    config, store, banned = DnsConfig(zone=ZONE), Away(), {ALICE.guid, MALLORY.guid}
    registry = Registry(grace=30.0, remember=100.0, max_offline=10)
    zone = Zone(config, ZonePeers(registry, lambda guid, host: guid not in banned))
    messages = DnsMessages(config, zone, DnsKeys(ALICE, ZONE), store, Metrics())
    for one in (ALICE, MALLORY):
        await messages.drop(one.guid)
    await messages.drop_old()
    assert not store.forgotten
    store.is_away = False
    banned.discard(MALLORY.guid)  # Who may come again meanwhile may have registered anew.
    for _ in range(2):
        await messages.drop_old()
    assert store.forgotten == [ALICE.guid]
