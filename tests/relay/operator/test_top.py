"""Who uses most of the relay, read over the operator's socket."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from protocol.identity import Identity
from protocol.messages import Mode, ServiceRequestTo, ServiceResponse
from relay.cli import main
from relay.operator import Peers, PeersShown, Top, TopShown, ask
from relay.server import RelayServer
from relay.tally import Account, Figures
from tests.relay.admission.doors import door
from tests.relay.client import Client, registered
from tests.relay.planes import SESSION, close, leg, tickets
from tests.support.processes import environment

ALICE, BOB = (Identity.from_seed(bytes([number]) * 32) for number in (1, 2))


def path_of(server: RelayServer) -> str:
    return server.config.in_state(server.config.operator_socket)


async def top(server: RelayServer, **asked: Any) -> TopShown:
    shown = await ask(path_of(server), Top(**asked))
    assert isinstance(shown, TopShown)
    return shown


async def ask_in_vain(peer: Client, guid: str) -> None:
    peer.send(ServiceRequestTo(9, guid, "chat", Mode.P2P, SESSION))
    await peer.expect(ServiceResponse)


async def test_who_has_most_is_shown_while_it_lasts_and_when_it_is_over(tmp_path: Path) -> None:
    async with door(tmp_path, requests_per_second=0.001, requests_burst=3) as server:
        async with (
            registered(server.url, identity=ALICE) as alice,
            registered(server.url, "chat", identity=BOB) as bob,
        ):
            first, second = await tickets(alice, bob)
            (reader, writer), _ = await leg(server, alice, first)
            (other, back), _ = await leg(server, bob, second)
            writer.write(b"x" * 100_000)
            await asyncio.wait_for(other.readexactly(100_000), 60)
            for _ in range(4):
                await ask_in_vain(alice, BOB.guid)
            shown = await top(server)
            rows = {row.guid: row for row in shown.peers}
            one = rows[ALICE.guid]
            assert (one.here, one.planes, one.requests, one.refusals) == (True, 1, 5, 2)
            assert 100_000 <= one.sent < 110_000
            assert 100_000 <= rows[BOB.guid].received < 110_000
            assert (shown.registered, shown.planes, shown.plane_bytes) == (2, 1, 100_000)
            assert shown.requests == 5
            assert shown.process.descriptors
            assert shown.process.resident_bytes
            assert shown.build["version"]
            # More of it, a moment later: nothing is counted twice.
            back.write(b"y" * 50_000)
            await asyncio.wait_for(reader.readexactly(50_000), 60)
            server.operator.forget_figures()
            rows = {row.guid: row for row in (await top(server)).peers}
            assert 150_000 <= rows[ALICE.guid].sent + rows[ALICE.guid].received < 160_000
            await close((reader, writer), (other, back))
            listed = await ask(path_of(server), Peers())
            assert isinstance(listed, PeersShown)
            (peer,) = [peer for peer in listed.peers if peer.guid == ALICE.guid]
            assert peer.requests == 5
            assert peer.sent >= 100_000
        async with asyncio.timeout(60):
            while server.connections or server.planes.live:
                await asyncio.sleep(0.01)
        server.operator.forget_figures()
        shown = await top(server, by="requests", limit=1)
        (row,) = shown.peers
        assert (row.guid, row.here, row.planes, row.requests) == (ALICE.guid, False, 1, 5)
        assert row.sent >= 100_000


async def test_who_looks_every_moment_costs_no_more_than_once_a_second(tmp_path: Path) -> None:
    async with door(tmp_path) as server, registered(server.url, identity=ALICE):
        (one,) = server.connections
        looks = []

        class Watched(Account):
            def take(self) -> Figures:
                looks.append(1)
                return Figures(sent=1)

        one.had = Watched(sent=1)
        began = asyncio.get_running_loop().time()
        for _ in range(20):
            await top(server)
        assert len(looks) <= 1 + asyncio.get_running_loop().time() - began


@pytest.mark.parametrize("words", [("--by", "nothing"), ("--limit", "0"), ("--interval", "0")])
def test_wrong_use(words: tuple[str, str]) -> None:
    done = CliRunner().invoke(main, ["top", *words])
    assert done.exit_code == 2


async def run(*words: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "relay", *words),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_the_command_prints_once_for_a_pipe_and_lines_of_json(tmp_path: Path) -> None:
    state = str(tmp_path / "state")
    async with (
        door(tmp_path) as server,
        registered(server.url, identity=ALICE) as alice,
        registered(server.url, "chat", identity=BOB),
    ):
        await ask_in_vain(alice, BOB.guid)
        code, out, err = await run("top", "--state", state, "--by", "requests")
        assert (code, err) == (0, "")
        assert ALICE.guid in out
        assert "requests" in out
        code, out, err = await run(
            *("top", "--state", state, "--json", "--count", "2", "--interval", "0.1")
        )
        assert (code, err) == (0, "")
        first, second = map(json.loads, out.splitlines())
        assert {row["guid"] for row in first["peers"]} == {ALICE.guid, BOB.guid}
        assert first["per_second"] is None, "there is nothing to compare it with"
        assert set(second["per_second"]) == {
            *("messages_in", "messages_out", "requests", "refusals", "plane_bytes"),
            "cpu_seconds",
        }
    code, out, err = await run("top", "--state", state)
    assert code == 1
    assert "no relay runs here" in err


async def test_a_live_view_ends_with_a_signal_and_leaves_the_terminal_as_it_was(
    tmp_path: Path,
) -> None:
    state = str(tmp_path / "state")
    async with door(tmp_path) as server, registered(server.url, identity=ALICE):
        ours, theirs = os.openpty()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "relay", "top", "--state", state),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=environment() | {"TERM": "xterm", "COLUMNS": "160", "LINES": "40"},
        )
        os.close(theirs)
        seen, stopped = b"", False
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(60):
            # The terminal's end is an error on Linux: nobody has it open any more.
            with contextlib.suppress(OSError):
                while True:
                    seen += await loop.run_in_executor(None, os.read, ours, 65536)
                    if ALICE.guid.encode() in seen and not stopped:
                        stopped = True
                        process.send_signal(signal.SIGTERM)
            assert await process.wait() == 0
        os.close(ours)
        assert b"\x1b[?1049h" in seen, "on the other screen"
        assert seen.rindex(b"\x1b[?1049l") > seen.rindex(ALICE.guid.encode())
