"""`python -m tests.compat.record`: the control stream of a peer of this version, for later ones.

It is written once for each release, and never again: test_recorded.py plays each of them to the
relay of this tree, and reads what both sides have said.
"""

import asyncio
import base64
import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from peers import Identity, Mode, Peer, PeerConfig
from protocol.codec import MessageDecoder
from protocol.tables import FROM_PEER, FROM_RELAY
from relay.config import RelayConfig
from relay.server import RelayServer

__all__ = ["RECORDED", "body", "read", "record"]

RECORDED = Path(__file__).parent / "recorded"
_SEEDS = {"relay": b"\x01" * 32, "peer": b"\x02" * 32, "other": b"\x03" * 32}
"""Of keys that are everybody's: nobody is known by them."""
_TABLES: dict[str, Any] = {"peer": FROM_PEER, "relay": FROM_RELAY}


class Recorder:
    """Passes connections on to a relay, and keeps what the first one has said."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._connections = 0
        self.said: list[dict[str, str]] = []

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass one connection on until both ends of it are over."""
        self._connections += 1
        is_kept = self._connections == 1
        there, onward = await asyncio.open_connection("127.0.0.1", self._port)

        async def carry(who: str, source: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
            while data := await source.read(65_536):
                if is_kept:
                    self.said.append({"by": who, "data": base64.b64encode(data).decode()})
                to.write(data)
                await to.drain()
            to.close()

        await asyncio.gather(
            carry("peer", reader, onward), carry("relay", there, writer), return_exceptions=True
        )


async def record() -> dict[str, Any]:
    """Have a peer register, offer, be asked, answer, watch, look up, and go."""
    keys = {name: Identity.from_seed(seed) for name, seed in _SEEDS.items()}
    async with RelayServer(RelayConfig(port=0), keys["relay"]) as relay:
        recorder = Recorder(int(relay.url.rpartition(":")[2]))
        server = await asyncio.start_server(recorder.accept, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        config = PeerConfig(carrier="raw", listen_hosts=("127.0.0.1",), sources=("127.0.0.1",))
        async with (
            Peer(keys["peer"], f"http://{host}:{port}", config=config) as peer,
            Peer(keys["other"], relay.url, config=config) as other,
        ):
            listener, offered = peer.listen("chat"), other.listen("mail")
            await peer.published()
            await other.published()
            for mode in (Mode.CENTRAL, Mode.COMBINED):
                async with (
                    await other.connect(peer.guid, "chat", mode=mode) as session,
                    await anext(listener) as there,
                ):
                    await session.send(b"hello")
                    await there.receive()
            async with (
                await peer.connect(other.guid, "mail", mode=Mode.P2P) as session,
                await anext(offered),
            ):
                await session.send(b"hello")
            async for _ in peer.watch(other.guid):
                break
            await peer.locate(other.guid, "mail")
        server.close()
        await server.wait_closed()
    said = recorder.said
    return {
        "version": version("roam-relay"),
        "seeds": {name: seed.hex() for name, seed in _SEEDS.items()},
        "messages": {who: [type(one).__name__ for one in read(said, who)] for who in _TABLES},
        "said": said,
    }


def body(said: list[dict[str, str]], who: str) -> bytes:
    """Return what one side has said behind the head of its HTTP message."""
    data = b"".join(base64.b64decode(one["data"]) for one in said if one["by"] == who)
    return data.partition(b"\r\n\r\n")[2]


def read(said: list[dict[str, str]], who: str) -> list[Any]:
    """Return the messages of one side, as this tree reads them."""
    return list(MessageDecoder(_TABLES[who]).receive(body(said, who)))


def main() -> int:
    """Write the stream of this version, where there is none."""
    said = asyncio.run(record())
    file = RECORDED / f"{said['version']}.json"
    if file.exists():
        print(f"{file.name} is there: what was recorded once is never changed", file=sys.stderr)
        return 1
    RECORDED.mkdir(exist_ok=True)
    file.write_text(json.dumps(said, indent=1) + "\n")
    print(f"{file.name}: {len(said['said'])} pieces")
    return 0


if __name__ == "__main__":
    sys.exit(main())
