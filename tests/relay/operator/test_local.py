"""The operator's socket: who gets in, what is asked and answered, and what is written down."""

import asyncio
import contextlib
import os
import socket
import sqlite3
from pathlib import Path

import pytest

from protocol.identity import Identity
from relay.config import ConfigError
from relay.operator import (
    Allow,
    Ban,
    Bans,
    BansShown,
    Done,
    Failed,
    Invitations,
    InvitationsShown,
    OperatorError,
    Peers,
    PeersShown,
    Revoke,
    ask,
)
from relay.server import RelayServer
from tests.relay.admission.doors import door, invited, token
from tests.relay.client import client, registered

ALICE = Identity.from_seed(bytes([1]) * 32)


def path_of(server: RelayServer) -> str:
    return server.config.in_state(server.config.operator_socket)


async def test_what_is_asked_is_done_and_written_down(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "relay")
    async with door(tmp_path) as server, registered(server.url, "chat", identity=ALICE) as one:
        path = path_of(server)
        listed = await ask(path, Peers())
        assert isinstance(listed, PeersShown)
        assert listed.total == 1
        (peer,) = listed.peers
        assert (peer.guid, peer.services) == (ALICE.guid, ("chat",))
        assert peer.sources == ("127.0.0.1",)
        done = await ask(path, Ban(ALICE.guid, 3600, "spam"))
        assert done == Done(ALICE.guid, "banned", 1)
        assert await ask(path, Peers()) == PeersShown(0, ())
        bans = await ask(path, Bans())
        assert isinstance(bans, BansShown)
        assert [(ban.subject, ban.reason) for ban in bans.bans] == [(ALICE.guid, "spam")]
        assert isinstance(await ask(path, Ban("nonsense")), Failed)
        del one
    lines = [
        record.getMessage() for record in caplog.records if "'operator'" in record.getMessage()
    ]
    for line in lines:
        assert f"uid={os.getuid()}" in line
        assert f"pid={os.getpid()}" in line
    (banned,) = [line for line in lines if ALICE.guid in line and "command='ban'" in line]
    assert "reason='spam'" in banned
    assert "outcome='done'" in banned
    assert any("outcome='failed'" in line and "neither a GUID" in line for line in lines)


async def test_invitations_are_listed(tmp_path: Path) -> None:
    some = token(uses=2, note="for Bob")
    async with invited(tmp_path) as server, client(server.url) as one:
        await one.register(token=some)
        found = await ask(path_of(server), Invitations())
        assert isinstance(found, InvitationsShown)
        (shown,) = found.invitations
        assert (shown.id, shown.used, shown.uses, shown.note) == (
            some.invitation.id,
            1,
            2,
            "for Bob",
        )
        listed = await ask(path_of(server), Peers())
        assert isinstance(listed, PeersShown)
        assert listed.peers[0].invitation == some.invitation.id


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (Revoke(ALICE.guid), "neither here nor on the list"),
        (Revoke("192.0.2.0/24"), "'relay ban 192.0.2.0/24'"),
        (Revoke("nobody"), "neither a GUID"),
        (Allow("192.0.2.0/24"), "is not banned"),
    ],
)
async def test_what_cannot_be_done_says_the_next_step(
    tmp_path: Path, asked: Revoke | Allow, says: str
) -> None:
    async with door(tmp_path) as server:
        answer = await ask(path_of(server), asked)
        assert isinstance(answer, Failed)
        assert says in answer.reason


async def test_the_socket_is_its_owner_s(tmp_path: Path) -> None:
    async with door(tmp_path) as server:
        path = path_of(server)
        assert os.stat(path).st_mode & 0o777 == 0o600
        assert os.stat(tmp_path / "state").st_mode & 0o777 == 0o700
    assert not os.path.exists(path)
    with pytest.raises(OperatorError, match="no relay runs here"):
        await ask(path, Peers())


async def test_what_a_kill_has_left_is_in_nobody_s_way(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir(mode=0o700)
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(tmp_path / "state" / "operator.sock"))
    left.close()
    with pytest.raises(OperatorError, match="no relay runs here"):
        await ask(str(tmp_path / "state" / "operator.sock"), Peers())
    async with door(tmp_path) as server:
        assert await ask(path_of(server), Peers()) == PeersShown(0, ())


async def test_one_relay_has_a_state_folder(tmp_path: Path) -> None:
    async with door(tmp_path) as server:
        with pytest.raises(ConfigError, match="another relay uses"):
            async with door(tmp_path):
                pass
        # The first one's socket is as it was.
        assert await ask(path_of(server), Peers()) == PeersShown(0, ())
    async with door(tmp_path):
        pass


async def test_a_book_of_a_newer_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    async with door(tmp_path):
        pass
    file = tmp_path / "state" / "relay.sqlite"
    with contextlib.closing(sqlite3.connect(file)) as newer:
        newer.execute("PRAGMA user_version = 99")
    for _ in range(2):  # The folder is nobody's after the first.
        with pytest.raises(ConfigError, match=r"state: .*newer version"):
            async with door(tmp_path):
                pass


async def test_a_state_folder_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir(mode=0o700)
    (tmp_path / "state").chmod(0o777)
    with pytest.raises(ConfigError, match=r"others may write .*chmod 700"):
        async with door(tmp_path):
            pass
    (tmp_path / "state").rmdir()
    (tmp_path / "state").write_text("")
    with pytest.raises(ConfigError, match="state: cannot use the folder"):
        async with door(tmp_path):
            pass
    with pytest.raises(ConfigError, match="longer than the 107 bytes"):
        async with door(tmp_path / ("x" * 120)):
            pass
    with pytest.raises(ConfigError, match=r"operator_socket: cannot listen at .*No such file"):
        async with door(tmp_path / "b", operator_socket="no/such/folder"):
            pass


LINES = [
    b"\n",
    b"hello\n",
    b"{}\n",
    b'{"command":"shutdown"}\n',
    b'{"command":"ban"}\n',
    b'{"command":"ban","subject":"x","uid":0}\n',
    b'{"command":"peers","limit":1000000}\n',
    b'{"command":"ban","subject":"' + b"x" * 100 + b'"}\n',
    b'{"command":"announce","statement":"AAAA"}\n',
    b"[" * 5000 + b"\n",
    b"\xff\xfe\n",
]


async def test_what_is_not_understood_is_answered(tmp_path: Path) -> None:
    async with door(tmp_path) as server:
        for line in LINES:
            reader, writer = await asyncio.open_unix_connection(path_of(server))
            writer.write(line)
            async with asyncio.timeout(60):
                answer = await reader.readline()
            assert b'"answer":"failed"' in answer, line
            writer.close()
        assert await ask(path_of(server), Peers()) == PeersShown(0, ())


async def test_who_says_too_much_or_comes_too_often_is_dropped(tmp_path: Path) -> None:
    async with door(tmp_path) as server:
        path = path_of(server)
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"x" * 100_000)
        async with asyncio.timeout(60):
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
        writer.close()
        others = [await asyncio.open_unix_connection(path) for _ in range(17)]
        async with asyncio.timeout(60):
            done, waiting = await asyncio.wait(
                [asyncio.ensure_future(one.read()) for one, _ in others],
                return_when=asyncio.FIRST_COMPLETED,
            )
        assert len(done) == 1
        assert server.metrics.refusals["operators"] == 1
        for _, one in others:
            one.transport.abort()
        await asyncio.wait(waiting)
        for task in (*done, *waiting):
            task.exception()
