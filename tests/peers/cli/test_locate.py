"""`peer locate` and `peer expose`: what they print, in words and as JSON."""

import asyncio
import json
from pathlib import Path

import pytest

from peers import Identity, Peer, PeerConfig, Session
from peers.cli import locate
from relay.config import RelayConfig
from relay.server import RelayServer
from tests.peers.cli.commands import peer, run_peer


@pytest.fixture
def base(relay: RelayServer, tmp_path: Path) -> tuple[str, ...]:
    return ("--relay", relay.url, "--key", str(tmp_path / "b.key"))


async def test_a_service_is_located_and_its_endpoints_are_tried(
    base: tuple[str, ...], alice: Peer
) -> None:
    alice.listen("chat")
    await alice.published()
    code, text, _ = await run_peer(*base, "locate", alice.guid, "chat")
    assert code == 0
    assert "chosen" in text
    assert "least delay" in text
    _, out, _ = await run_peer(*base, "locate", alice.guid, "chat", "--json")
    told = json.loads(out)
    assert [one["port"] for one in told["endpoints"]] == [alice.port]
    assert told["endpoints"][0]["chosen"]


async def test_addresses_of_ipv6_are_whole_and_nothing_but_a_terminal_is_coloured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Brackets are markup for some: of `[::1]:4000` nothing was left."""
    for name in ("FORCE_COLOR", "CLICOLOR_FORCE", "TTY_COMPATIBLE"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("COLUMNS", "40")
    config = PeerConfig(listen_hosts=("::1",), advertise=("::1",))
    async with (
        RelayServer(RelayConfig(host="::1", port=0)) as server,
        Peer(Identity.generate(), server.url, config=config) as alice,
    ):
        serving = asyncio.create_task(alice.serve("chat", echo))
        while server.registry.get(alice.guid) is None:
            await asyncio.sleep(0)
        await alice.published()
        base = ("--relay", server.url, "--key", str(tmp_path / "b.key"))
        _, located, err = await run_peer(*base, "locate", alice.guid, "chat")
        assert f"[::1]:{alice.port} " in located
        assert any("chosen" in line and "::1" in line for line in located.splitlines())
        async with peer(*base, "connect", "--mode", "p2p", alice.guid, "chat") as talking:
            connected = await talking.news()
            assert connected.endswith(f"to [::1]:{alice.port}"), "in one line, and whole"
            talking.say("hello")
            said = await talking.line()
        assert said == "hello"
        assert "\x1b" not in located + err + connected + said
        serving.cancel()
        await asyncio.wait({serving})


async def echo(session: Session) -> None:
    async for message in session:
        await session.send(message)


async def test_another_program_s_service_is_exposed(
    base: tuple[str, ...], relay: RelayServer, tmp_path: Path
) -> None:
    theirs = ("--relay", relay.url, "--key", str(tmp_path / "c.key"))
    async with peer(*theirs, "expose", "ssh", "--port", "22", "--json") as exposing:
        guid = (await exposing.fact())["guid"]
        _, out, _ = await run_peer(*base, "locate", guid, "ssh", "--json")
        assert '"port":22' in out


async def test_this_host_s_own_addresses_and_whether_the_relay_has_met_it_there(
    base: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    # What else this machine has, the relay of a test may not be able to dial.
    monkeypatch.setattr(locate, "_PROOF_WAIT", 1.0)
    _, out, _ = await run_peer(*base, "locate", "--mine")
    assert "127.0.0.1" in out
    assert "proven" in out
    _, out, _ = await run_peer(*base, "locate", "--mine", "--json")
    told = {one["host"]: one for one in map(json.loads, out.splitlines())}
    assert told["127.0.0.1"]["proven"]


async def test_without_a_peer_and_a_service_the_usage_is_told(base: tuple[str, ...]) -> None:
    assert (await run_peer(*base, "locate"))[0] == 2


async def test_a_policy_that_cannot_be_read_is_pointed_at(
    base: tuple[str, ...], alice: Peer
) -> None:
    code, _, errors = await run_peer(*base, "connect", alice.guid, "chat", "--policy", "only dirct")
    assert code == 2
    assert "'dirct' at position 6" in errors
    assert "Traceback" not in errors
