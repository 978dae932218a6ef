"""The programs and commands of docs/howto.md, run as they stand there."""

import asyncio
import base64
import contextlib
import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from textual.app import App, ComposeResult
from textual.content import Content
from textual.widgets import Input, Static

from peers import DdnsConfig, Identity, Peer, PeerConfig, Session, UnknownPeer, UnknownService
from peers.cli.main import parse
from relay.config import DnsConfig, RelayConfig
from relay.server import RelayServer
from tests.chat.world import eventually
from tests.integration.test_first_steps import Home, says
from tests.integration.test_first_steps import home as home  # A fixture.
from tests.support.processes import relay

PAGE = Path(__file__).parents[2] / "docs" / "howto.md"
LOOPBACK = PeerConfig(listen_hosts=("127.0.0.1",), sources=("127.0.0.1",))


def blocks(language: str, containing: str) -> str:
    """Return the block of the page that has these words."""
    found = re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (block,) = [block for block in found if containing in block]
    return str(block)


async def echo(session: Session) -> None:
    async for message in session:
        await session.send(b"echo " + message)


async def test_a_peer_in_a_textual_application() -> None:
    names: dict[str, Any] = {
        "App": App,
        "ComposeResult": ComposeResult,
        "Content": Content,
        "Input": Input,
        "Static": Static,
        "Peer": Peer,
        "PeerConfig": PeerConfig,
        "identity": Identity.generate(),
    }
    exec(blocks("python", "class Chat"), names)
    async with (
        RelayServer(RelayConfig(port=0)) as server,
        Peer(Identity.generate(), server.url, config=LOOPBACK) as contact,
    ):
        serving = asyncio.create_task(contact.serve("chat", echo))
        app = names["Chat"](PeerConfig(relay=server.url, listen_hosts=("127.0.0.1",)), contact.guid)
        async with app.run_test() as pilot:
            await eventually(lambda: hasattr(app, "session"))
            await pilot.press(*"[b]", "enter")
            await eventually(lambda: "echo [b]" in str(app.query_one(Static).content))
            assert app.query_one(Input).value == ""
        await eventually(lambda: app.peer.status.state == "closed")
        serving.cancel()


async def test_two_peers_that_have_no_relay(tmp_path: Path) -> None:
    alice, bob = Identity.generate(), Identity.generate()
    dns = DnsConfig(zone="peers.example.org", port=0)
    async with RelayServer(RelayConfig(port=0, dns=dns)) as server:
        assert server.dns is not None
        secret = base64.b64encode(server.dns.keys.secret(alice.guid)).decode()
        (tmp_path / "zone.key").write_text(
            f'key "{alice.guid}.{dns.zone}" {{ algorithm hmac-sha256; secret "{secret}"; }};'
        )
        (tmp_path / "zone.key").chmod(0o600)
        names: dict[str, Any] = {
            "DdnsConfig": DdnsConfig,
            "Peer": partial(Peer, config=LOOPBACK),
            "identity": alice,
            "bob_identity": bob,
            "server": f"127.0.0.1:{server.dns.port}",
            "key_file": str(tmp_path / "zone.key"),
            "echo": echo,
        }
        exec(blocks("python", "bob_identity"), names)
        answering = asyncio.create_task(names["answer"]())
        async with asyncio.timeout(60):
            while not answering.done():
                with contextlib.suppress(UnknownPeer, UnknownService):  # Until it is in the zone.
                    assert await names["ask"](alice.guid) == b"echo hello"
                    break
            else:
                await answering
        answering.cancel()
        await asyncio.gather(answering, return_exceptions=True)


@pytest.mark.nightly
def test_who_was_invited_is_let_in(home: Home) -> None:
    (home.folder / "relay.toml").write_text(
        f"state = '{home.folder}/state'\n" + blocks("toml", "admission")
    )
    invite, listen = blocks("sh", "relay invite").splitlines()
    with relay(home.folder, "--config", str(home.folder / "relay.toml")) as (url, _):
        with home.types(invite) as inviting:
            assert inviting.wait(60) == 0
        stranger = listen.partition(" peer ")[2]
        at = ("http://127.0.0.1:8440", url)
        with home.types(f"env {listen.replace(*at)}") as listening:
            says(listening, "listening")
        with home.types("peer " + stranger.replace(*at).replace("bob.key", "eve.key")) as refused:
            _, errors = refused.communicate(timeout=60)
            assert refused.returncode == 3
            assert "invitation" in errors


def test_the_commands_behind_a_proxy_are_such() -> None:
    export, listen = blocks("sh", "HTTPS_PROXY").splitlines()
    assert export.startswith("export ")
    assert not isinstance(parse(tuple(listen.split()[1:])), int)
