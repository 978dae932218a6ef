"""How a relay is, and its end, asked for over the operator's socket."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import msgspec
from click.testing import CliRunner

from relay.cli import main
from relay.operator import Done, Drain, Status, StatusShown, ask
from relay.server import RelayServer
from tests.relay.admission.doors import door
from tests.relay.client import registered
from tests.support import processes


def path_of(server: RelayServer) -> str:
    return server.config.in_state(server.config.operator_socket)


async def test_how_it_is(tmp_path: Path) -> None:
    async with door(tmp_path) as server, registered(server.url, "chat"):
        shown = await ask(path_of(server), Status())
        assert isinstance(shown, StatusShown)
        assert (shown.guid, shown.urls, shown.former) == (server.guid, server.urls, ())
        assert (shown.registered, shown.connections, shown.planes) == (1, 1, 0)
        assert (shown.draining, shown.state) == (False, server.config.state)
        server.doorkeeper.draining = True
        again = await ask(path_of(server), Status())
        assert isinstance(again, StatusShown)
        assert again.draining


async def test_an_embedded_relay_is_asked_and_its_program_decides(tmp_path: Path) -> None:
    async with door(tmp_path) as server:
        assert await ask(path_of(server), Drain()) == Done(server.guid, "drains", 0)
        assert server.drain_asked.is_set()
        assert await ask(path_of(server), Drain()) == Done(server.guid, "drains already", 0)
        assert not server.draining


def test_the_commands(tmp_path: Path) -> None:
    state = str(tmp_path / "state")
    with processes.relay(tmp_path, "--state", state, "--log-format", "json") as (url, process):
        done = subprocess.run(
            [sys.executable, "-m", "relay", "status", "--json", "--state", state],
            text=True,
            capture_output=True,
            timeout=60,
            env=processes.environment(),
            check=True,
        )
        told = json.loads(done.stdout)
        assert (told["urls"], told["state"]) == ([url], state)
        assert msgspec.convert(told, StatusShown).draining is False
        said = CliRunner().invoke(main, ["drain", "--state", state])
        assert (said.exit_code, said.stderr) == (0, "")
        assert "drains" in said.stdout
        assert process.wait(processes.DEADLINE) == 0
    none = CliRunner().invoke(main, ["status", "--state", state])
    assert none.exit_code == 1
    assert "no relay runs here" in none.stderr


def test_people_are_told_in_lines(tmp_path: Path) -> None:
    async def ask_once() -> str:
        async with door(tmp_path) as server:
            words = ["status", "--state", server.config.state or ""]
            done = await asyncio.to_thread(CliRunner().invoke, main, words)
            assert done.exit_code == 0
            return done.output

    said = asyncio.run(ask_once())
    assert "is            serving" in said
    assert "here          0 peers, 0 planes" in said
