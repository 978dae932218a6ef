"""`peer --control PATH`, and `peer status`: who may ask, what is said, and what is left."""

import asyncio
import contextlib
import json
import os
import socket
import stat
from pathlib import Path

import pytest

from peers import Identity, Peer, PeerFigures
from peers.cli.control import NotControlled, ask
from peers.cli.standing import standing
from relay.server import RelayServer
from tests.peers.cli.commands import peer, run_peer

THERE = Identity.generate().guid


@pytest.fixture
def words(relay: RelayServer, tmp_path: Path) -> tuple[str, ...]:
    return ("--relay", relay.url, "--key", str(tmp_path / "a.key"), "--control", control(tmp_path))


def control(tmp_path: Path) -> str:
    return str(tmp_path / "control")


async def test_a_status_tells_of_the_relay_the_addresses_and_the_sessions(
    bob: Peer, words: tuple[str, ...], relay: RelayServer, tmp_path: Path
) -> None:
    async with peer(*words, "listen", "chat", "--echo", "--json") as running:
        guid = str((await running.fact())["guid"])
        here = await bob.connect(guid, "chat", mode="central")
        await here.send(b"hello")
        assert await here.receive() == b"hello"
        code, out, err = await run_peer("--control", control(tmp_path), "status", "--json")
        assert (code, err) == (0, "")
        said = json.loads(out)
        assert (said["guid"], said["pid"], said["state"]) == (guid, os.getpid(), "registered")
        assert (said["relay"], said["relay_guid"]) == (relay.url, bob.relay_guid)
        assert said["services"] == ["chat"]
        assert {one["provenance"] for one in said["addresses"]} <= {"interface", "observed"}
        (session,) = said["sessions"]
        assert (session["remote"], session["service"]) == (bob.guid, "chat")
        assert (session["mode"], session["state"]) == ("central", "open")
        assert (session["sent"], session["taken"], session["taken_bytes"]) == (1, 1, 5)
        assert session["path"]["kind"] == "relayed"
        assert session["why"]
        code, out, err = await run_peer("--control", control(tmp_path), "status")
        assert (code, err) == (0, "")
        for one in (guid, "registered", relay.url, bob.guid, "relayed, ", "why  ", "standby  "):
            assert one in out, one
        await here.close()
    assert not os.path.exists(control(tmp_path))


async def test_the_socket_is_its_owner_s_alone_and_another_command_does_not_take_it(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    async with peer(*words, "listen", "chat", "--json") as running:
        await running.fact()
        mode = os.stat(control(tmp_path)).st_mode
        assert (stat.S_ISSOCK(mode), stat.S_IMODE(mode)) == (True, 0o600)
        code, _, err = await run_peer(*words, "listen", "other")
        assert code == 2
        assert "another command listens" in err
        assert (await ask(control(tmp_path))).services == ("chat",)


async def test_what_a_killed_command_has_left_is_taken_and_a_file_is_not(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as left:
        left.bind(control(tmp_path))
    async with peer(*words, "listen", "chat", "--json") as running:
        await running.fact()
        assert (await ask(control(tmp_path))).state == "registered"
    Path(control(tmp_path)).write_text("somebody's own")
    code, _, err = await run_peer(*words, "listen", "chat")
    assert code == 2
    assert "no socket" in err
    assert Path(control(tmp_path)).read_text() == "somebody's own"


async def test_a_command_that_waits_for_its_relay_says_so(tmp_path: Path) -> None:
    words = ("--relay", "http://127.0.0.1:1", "--key", str(tmp_path / "a.key"))
    async with peer(*words, "--control", control(tmp_path), "listen", "chat"):
        async with asyncio.timeout(60):
            while True:
                try:
                    said = await ask(control(tmp_path))
                except NotControlled:
                    await asyncio.sleep(0.01)
                    continue
                if said.cause is not None:
                    break
                await asyncio.sleep(0.01)
        assert said.state in ("connecting", "lost")
        assert said.sessions == ()
        assert any("link" in line and said.cause in line for line in said.lines())


async def test_nobody_there_and_no_path_are_told_in_one_line(tmp_path: Path) -> None:
    code, out, err = await run_peer("--control", control(tmp_path), "status")
    assert (code, out) == (1, "")
    assert err == (
        f"peer: nobody listens at {control(tmp_path)}: start a command with "
        f"'peer --control {control(tmp_path)} listen …'\n"
    )
    code, _, err = await run_peer("status")
    assert code == 2
    assert "--control PATH" in err
    code, _, err = await run_peer(
        "--relay", "http://127.0.0.1:1", "--control", "x" * 200, "listen", "chat"
    )
    assert (code, "a UNIX socket's name" in err) == (2, True)


async def test_what_is_asked_wrongly_is_refused_and_too_many_are_turned_away(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    async with peer(*words, "listen", "chat", "--json") as running:
        await running.fact()
        for line, says in (
            (b"nonsense\n", "does not understand"),
            (b'{"ask": "stop"}\n', "does not know 'stop'"),
        ):
            reader, writer = await asyncio.open_unix_connection(control(tmp_path))
            writer.write(line)
            answer = json.loads(await reader.readline())
            assert answer["answer"] == "failed"
            assert says in answer["reason"]
            assert await reader.read() == b"", "one question, one answer"
            writer.close()
        reader, writer = await asyncio.open_unix_connection(control(tmp_path))
        writer.write(b"x" * 10_000)
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        writer.transport.abort()
        silent = [await asyncio.open_unix_connection(control(tmp_path)) for _ in range(9)]
        async with asyncio.timeout(60):
            ended = [asyncio.ensure_future(reader.read()) for reader, _ in silent]
            await asyncio.wait(ended, return_when=asyncio.FIRST_COMPLETED)
        for _, writer in silent:
            writer.transport.abort()
        await asyncio.gather(*ended, return_exceptions=True)
        async with asyncio.timeout(60):
            while True:
                try:
                    assert (await ask(control(tmp_path))).services == ("chat",)
                    break
                except NotControlled:
                    await asyncio.sleep(0.01)


async def test_a_peer_can_be_looked_at_before_it_is_open_and_afterwards(
    relay: RelayServer, tmp_path: Path
) -> None:
    one = Peer(Identity.generate(), relay.url)
    before = standing(one)
    assert (before.state, before.services, before.port) == ("connecting", (), None)
    async with one:
        one.listen("chat")
        assert (standing(one).state, standing(one).services) == ("registered", ("chat",))
        async with contextlib.aclosing(one.watch(THERE)) as presences:
            await anext(presences)
            async with one.conversation(THERE, "notes", store=str(tmp_path / "store")):
                shown = standing(one)
        assert (shown.watches, shown.conversations) == ((THERE,), ((THERE, "notes"),))
        assert f"watches    {THERE}" in shown.lines()
        assert f"converses  {THERE} notes" in shown.lines()
        assert one.figures() == PeerFigures(("chat",), (), ())
    assert standing(one).state == "closed"
