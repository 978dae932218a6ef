"""`peer write` and `peer mail`: messages that outlive the commands."""

import asyncio
import sqlite3
from pathlib import Path

import pytest

from peers import Identity
from relay.config import RelayConfig
from relay.server import RelayServer
from tests.peers.cli.commands import peer, run_peer


async def test_what_is_written_while_nobody_reads_is_read_once(
    tmp_path: Path, relay: RelayServer
) -> None:
    alice = ("--relay", relay.url, "--key", str(tmp_path / "alice.key"))
    bob = ("--relay", relay.url, "--key", str(tmp_path / "bob.key"))
    guid = Identity.load_or_create(tmp_path / "alice.key").guid
    code, out, err = await run_peer(*bob, "write", guid, "letters", "one", "--leave", "--json")
    assert code == 0, err
    assert '"event":"queued"' in out.replace(" ", "")
    async with (
        peer(*alice, "mail", "letters") as reading,
        peer(*bob, "write", guid, "letters") as writing,
    ):
        writing.say("two")
        writing.say("three")
        writing.end_input()
        assert [await reading.line() for _ in range(3)] == ["one", "two", "three"]
        assert await writing.ended() == 0
    code, out, err = await run_peer(*alice, "mail", "letters", "--wait", "0.05")
    assert (code, out) == (0, ""), err


@pytest.mark.expected_errors("registration ended")  # Two commands have one key.
async def test_what_is_wrong_with_a_store_is_one_line(tmp_path: Path, relay: RelayServer) -> None:
    alice = ("--relay", relay.url, "--key", str(tmp_path / "alice.key"))
    store = tmp_path / "alice.key.letters"
    store.write_bytes(b"no database " * 99)
    guid = Identity.generate().guid
    for words in (("write", guid, "letters", "hello"), ("mail", "letters")):
        code, out, err = await run_peer(*alice, *words)
        assert (code, out) == (1, "")
        assert "damaged" in err.splitlines()[-1], err
    store.unlink()
    async with peer(*alice, "mail", "letters", "--json") as reading:
        await reading.fact()
        code, _, err = await run_peer(*alice, "write", guid, "letters", "hello")
        assert code == 1
        assert "another peer has it open" in err
    with sqlite3.connect(store) as db:
        assert db.execute("SELECT count(*) FROM roam_outgoing").fetchone() == (0,)
    db.close()


async def test_what_is_written_to_who_is_away_is_stored_and_read_later(tmp_path: Path) -> None:
    async with RelayServer(RelayConfig(port=0, state=str(tmp_path / "state"))) as server:
        alice = ("--relay", server.url, "--key", str(tmp_path / "alice.key"))
        bob = ("--relay", server.url, "--key", str(tmp_path / "bob.key"))
        guid = Identity.load_or_create(tmp_path / "alice.key").guid
        assert server.mailbox is not None
        async with peer(*alice, "mail", "letters"), asyncio.timeout(60):
            while not server.mailbox.ledger.boxes:
                await asyncio.sleep(0.01)
        code, out, err = await run_peer(*bob, "write", guid, "letters", "hello", "--json")
        assert code == 0, err
        assert '"event":"stored"' in out.replace(" ", "")
        async with peer(*alice, "mail", "letters") as reading:
            assert await reading.line() == "hello"
