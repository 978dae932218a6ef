"""A relay's state, copied while it serves and put back: all of it, or nothing, and a sentence."""

import asyncio
import io
import json
import os
import sqlite3
import tarfile
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from protocol.identity import Identity
from relay.backup import back_up, restore
from relay.cli import main
from relay.config import ConfigError, RelayConfig, load
from relay.key_file import read_key
from relay.operator import Allow, Ban, Bans, BansShown, Invitations, InvitationsShown, ask
from relay.rotation import read_former, rotate
from relay.server import RelayServer
from tests.relay.admission.doors import OPERATOR, token
from tests.relay.client import client
from tests.relay.dns import asking
from tests.support.full_disk import full_disk

CONFIG = """
state = "{state}"
identity = "relay.key"
port = 0
admission = "invited"
operators = "{operator}"

[dns]
zone = "peers.example.org"
port = 0
store = "zone.sqlite"
"""


def run(*words: str) -> Result:
    return CliRunner().invoke(main, words, catch_exceptions=False)


def configured(folder: Path, state: str) -> str:
    """Write a configuration whose state is in a folder."""
    file = folder / f"{state}.toml"
    file.write_text(CONFIG.format(state=folder / state, operator=OPERATOR.guid))
    return str(file)


def made(folder: Path, state: str = "state") -> tuple[RelayConfig, Identity]:
    """Return a configuration with its key."""
    file = configured(folder, state)
    (folder / state).mkdir(0o700)
    assert run("key", str(folder / state / "relay.key")).exit_code == 0
    config = load(file, {}, {})
    return config, read_key(config.in_state("relay.key"))


def socket_of(config: RelayConfig) -> str:
    return config.in_state(config.operator_socket)


def networks(shown: object) -> set[str]:
    assert isinstance(shown, BansShown)
    return {ban.subject for ban in shown.bans}


async def test_a_relay_is_restored_from_a_backup_under_traffic(tmp_path: Path) -> None:
    config, identity = made(tmp_path)
    some, file = token(uses=2, note="for Bob"), tmp_path / "backup"
    async with RelayServer(config, identity) as server, client(server.url) as one:
        await one.register(token=some)
        await ask(socket_of(config), Allow(asking.ALICE.guid))
        record = asking.update(server)
        record.add(asking.NAME, 60, "A", "192.0.2.1")
        assert await asking.sent(server, record) == 0
        before = [f"192.0.2.{number}/32" for number in range(20)]
        for network in before:
            await ask(socket_of(config), Ban(network))

        copied = asyncio.Event()

        async def traffic() -> None:
            number = 0
            while not copied.is_set():
                number += 1
                await ask(socket_of(config), Ban(f"198.51.100.{number % 256}/32"))

        busy = asyncio.create_task(traffic())
        done = await asyncio.to_thread(
            run, "backup", str(file), "--config", configured(tmp_path, "state")
        )
        assert not busy.done()
        copied.set()
        await busy
        assert done.exit_code == 0, done.output
        assert "relay.sqlite, zone.sqlite, relay.key" in done.stdout
        assert "keep it as you keep that" in done.stderr
    assert file.stat().st_mode & 0o777 == 0o600
    assert {one.name for one in tmp_path.iterdir()} == {"state", "state.toml", "backup"}
    # Everything of the relay is gone, but for its configuration and the backup.
    other = configured(tmp_path, "new")
    done = run("restore", str(file), "--config", other)
    assert done.exit_code == 0, done.output
    assert identity.guid in done.stdout
    config = load(other, {}, {})
    async with RelayServer(config, read_key(config.in_state("relay.key"))) as server:
        assert server.guid == identity.guid
        assert networks(await ask(socket_of(config), Bans())) >= set(before)
        shown = await ask(socket_of(config), Invitations())
        assert isinstance(shown, InvitationsShown)
        assert [(one.id, one.used) for one in shown.invitations] == [(some.invitation.id, 1)]
        assert asking.texts(await asking.ask(server, asking.NAME)) == ["192.0.2.1"]
        # And the peer is a member, without its token.
        async with client(server.url, identity=one.identity) as again:
            await again.register()
    modes = {one.stat().st_mode & 0o777 for one in (tmp_path / "new").iterdir()}
    assert modes == {0o600}


def test_the_archive_is_read_by_tar_too(tmp_path: Path) -> None:
    config, identity = made(tmp_path)
    assert back_up(config, str(tmp_path / "backup")) == ("relay.key",)
    with tarfile.open(tmp_path / "backup") as archive:
        assert archive.getnames() == ["roam-relay-backup.json", "relay.key"]
        page = archive.extractfile("roam-relay-backup.json")
        assert page is not None
        assert json.load(page)["relay"] == identity.guid


def refused(*words: str) -> str:
    done = run(*words)
    assert done.exit_code == 1, done.output
    assert done.output.startswith("Error: ")
    assert done.output.count("\n") == 1
    return done.output


def names(folder: Path) -> set[str]:
    return {one.name for one in folder.iterdir()}


def test_a_backup_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    config, _ = made(tmp_path)
    file = configured(tmp_path, "state")
    database = sqlite3.connect(config.in_state("relay.sqlite"))
    database.execute("CREATE TABLE bans (subject)")
    database.close()
    goal = tmp_path / "backup"
    with full_disk():
        done = run("backup", str(goal), "--config", file)
    assert done.exit_code == 1
    assert "cannot" in done.output
    assert names(tmp_path) == {"state", "state.toml"}
    goal.write_text("mine")
    assert "is there already" in refused("backup", str(goal), "--config", file)
    assert goal.read_text() == "mine"
    assert "No such file" in refused("backup", "/nowhere/backup", "--config", file)
    Path(config.in_state("relay.sqlite")).write_bytes(b"SQLite format 3\0" + bytes(4096))
    assert "cannot be copied" in refused("backup", str(tmp_path / "b"), "--config", file)
    assert names(tmp_path) == {"state", "state.toml", "backup"}
    (tmp_path / "file").touch()
    assert "run it as the user who runs the relay" in refused(
        "backup", str(tmp_path / "b"), "--state", str(tmp_path / "file")
    )
    assert "there is nothing to copy" in refused(
        "backup", str(tmp_path / "b"), "--state", str(tmp_path / "none")
    )


async def test_what_is_there_is_never_replaced(tmp_path: Path) -> None:
    config, identity = made(tmp_path)
    file, goal = configured(tmp_path, "state"), str(tmp_path / "backup")
    back_up(config, goal)
    assert "is there already, and would be lost" in refused("restore", goal, "--config", file)
    os.unlink(config.in_state("relay.key"))
    async with RelayServer(config, identity):
        with pytest.raises(ConfigError, match="another relay uses"):
            restore(goal, config)
    assert restore(goal, config) == (identity.guid, ("relay.key",))
    # What names no place for a thing does not lose it in silence.
    assert "set 'identity'" in refused("restore", goal, "--state", "")


def linked(whole: bytes) -> bytes:
    """The same archive, with a link to somewhere else in the place of the key."""
    made = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(whole)) as old,
        tarfile.open(fileobj=made, mode="w") as new,
    ):
        page, key = old.getmembers()
        new.addfile(page, old.extractfile(page))
        key.type, key.linkname, key.size = tarfile.SYMTYPE, "/etc/hostname", 0
        new.addfile(key)
    return made.getvalue()


def test_a_backup_that_is_not_whole_restores_nothing(tmp_path: Path) -> None:
    config, _ = made(tmp_path)
    goal = tmp_path / "backup"
    back_up(config, str(goal))
    whole, new = goal.read_bytes(), configured(tmp_path, "new")
    key = whole.index(b"BEGIN PRIVATE KEY")
    for broken, says in (
        (b"", "no whole backup"),
        (b"text", "no whole backup"),
        (whole[:600], "no whole backup"),
        (whole[:key], "no whole backup"),
        (whole[:key] + b"X" + whole[key + 1 :], "relay.key is not what was put into it"),
        (whole.replace(b'"version":1', b'"version":2'), "a newer version"),
        (whole.replace(b'"relay.key"', b'"../../key"'), "a newer version"),
        (whole[:1024] + bytes(1024), "relay.key is not what was put into it"),
        (linked(whole), "relay.key is not what was put into it"),
    ):
        goal.write_bytes(broken)
        assert says in refused("restore", str(goal), "--config", new)
        assert names(tmp_path / "new") <= {"lock"} if (tmp_path / "new").exists() else True
    assert "No such file" in refused("restore", "/nowhere", "--config", new)


async def test_whatever_a_relay_keeps_is_in_its_backup(tmp_path: Path) -> None:
    """A store that is added is red here until it is copied."""
    config, _ = made(tmp_path)
    rotate(config.in_state("relay.key"), 3600)
    identity = read_key(config.in_state("relay.key"))
    former = read_former(config.in_state("relay.key"), identity)
    async with RelayServer(config, identity, former=former) as server:
        async with client(server.url) as one:
            await one.register("chat", token=token())
        passing = ("-wal", "-shm", "lock", config.operator_socket)
        kept = {name for name in names(tmp_path / "state") if not name.endswith(passing)}
        assert set(back_up(config, str(tmp_path / "backup"))) == kept
        assert len(kept) >= 4
