"""What peers and relays of earlier releases have said is understood, word by word, by this tree.

The streams are in `recorded/`, one for each release from 0.1.0 on: `python -m tests.compat.record`
writes the next one.
"""

import asyncio
import json
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from protocol.errors import Code
from protocol.identity import Identity
from protocol.messages import Challenge, Error, Ping, Pong, Registered
from relay.config import RelayConfig
from relay.control import reception
from relay.server import RelayServer
from tests.compat.record import RECORDED, body, read
from tests.relay.client import TIMEOUT, Client, upgrade

FILES = sorted(RECORDED.glob("*.json"))
FIRST = pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)


def test_the_release_of_this_tree_is_recorded() -> None:
    assert f"{version('roam-relay')}.json" in {file.name for file in FILES}, (
        "python -m tests.compat.record"
    )


@FIRST
@pytest.mark.parametrize("who", ["peer", "relay"])
def test_each_message_is_read(file: Path, who: str) -> None:
    recorded = json.loads(file.read_text())
    names = [type(one).__name__ for one in read(recorded["said"], who)]
    assert names == recorded["messages"][who]
    assert {"peer": "Register", "relay": "Registered"}[who] in names


@FIRST
async def test_the_relay_registers_a_peer_of_then_and_hears_all_it_says(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its signature is for the nonce of then, and for the key that the relay has again."""
    recorded: dict[str, Any] = json.loads(file.read_text())
    seeds = {name: bytes.fromhex(seed) for name, seed in recorded["seeds"].items()}
    (then,) = (one for one in read(recorded["said"], "relay") if isinstance(one, Challenge))
    monkeypatch.setattr(reception, "os", SimpleNamespace(urandom=lambda count: then.nonce))
    async with RelayServer(RelayConfig(port=0), Identity.from_seed(seeds["relay"])) as relay:
        reader, writer, status, _ = await upgrade(relay.url, "/v1/control")
        assert status == 101
        peer = Client(Identity.from_seed(seeds["peer"]), reader, writer)
        peer.send_bytes(body(recorded["said"], "peer"))
        challenge = await peer.expect(Challenge)
        assert (challenge.guid, challenge.signature) == (then.guid, then.signature)
        await peer.expect(Registered)
        peer.send(Ping(4_711))
        async with asyncio.timeout(TIMEOUT):
            while True:
                if not peer.messages:
                    data = await peer.reader.read(65_536)
                    assert data, "it is not heard to its end"
                    peer.messages += peer.decoder.receive(data)
                said = peer.messages.pop(0)
                # Who asked it then does not ask now.
                assert not isinstance(said, Error) or said.code is Code.UNKNOWN_REQUEST
                if isinstance(said, Pong) and said.ping == 4_711:
                    break
        writer.close()
