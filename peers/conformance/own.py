"""This library's own peer as the kit drives it: `peer conformance adapter`.

A line of JSON on standard input is a command, its answer a line on standard output
(docs/conformance.md). It is an example too: an adapter of another peer does the same.
"""

import asyncio
import contextlib
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from peers import Carrier, Dial, Identity, Peer, PeerConfig, Session
from peers.config import ModeWord
from protocol.errors import RoamRelayError, SessionClosed, SessionLost

__all__ = ["serve"]

_PATIENCE = 10.0
"""Seconds for a session to close."""


class _Adapter:
    """The peers and sessions that the kit has named."""

    def __init__(self) -> None:
        self._peers: dict[str, tuple[Peer, asyncio.Task[None]]] = {}
        self._sessions: dict[str, Session] = {}

    async def do(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Carry a command out; return what is said of it."""
        commands: dict[str, Callable[..., Awaitable[dict[str, Any] | None]]] = {
            "open": self._open,
            "shut": self._shut,
            "connect": self._connect,
            "send": self._send,
            "receive": self._receive,
            "finish": self._finish,
            "close": self._close,
            "abort": self._abort,
        }
        command = commands.get(asked.pop("do", ""))
        if command is None:
            return {"unsupported": True}
        try:
            return {"done": await command(**asked) or {}}
        except RoamRelayError as error:
            return {"failed": error.code.value if error.code else type(error).__name__}

    async def close(self) -> None:
        """Close all peers."""
        for name in list(self._peers):
            await self._shut(name)

    async def _open(
        self, peer: str, relay: str, key: str, carrier: str, service: str, **more: str
    ) -> dict[str, Any]:
        identity = Identity.from_seed(bytes.fromhex(key))
        config = PeerConfig(
            relay=relay,
            carrier=Carrier(carrier),
            wait_for_relay=True,
            dial=Dial.OPEN,
            fallback=False,
            sources=("127.0.0.1",),
            close_timeout=0.2,
            invitation=more.get("invitation"),
            relay_guid=more.get("relay_guid"),
        )
        opened = Peer(identity, config=config)
        self._peers[peer] = opened, asyncio.create_task(self._run(opened, service))
        return {"guid": identity.guid}

    async def _run(self, peer: Peer, service: str) -> None:
        async def echo(session: Session) -> None:
            with contextlib.suppress(SessionClosed, SessionLost):
                async for message in session:
                    await session.send(message)
                await session.close(_PATIENCE)

        # How the peer stands with its relay is what the kit looks at by itself.
        with contextlib.suppress(RoamRelayError):
            await peer.start()
            await peer.serve(service, echo)

    async def _shut(self, peer: str) -> None:
        opened, running = self._peers.pop(peer)
        running.cancel()
        await asyncio.wait({running})
        await opened.close()

    async def _connect(
        self, peer: str, session: str, guid: str, service: str, mode: ModeWord, metadata: str = ""
    ) -> dict[str, Any]:
        opened, _ = self._peers[peer]
        word = bytes.fromhex(metadata)
        made = self._sessions[session] = await opened.connect(
            guid, service, mode=mode, metadata=word
        )
        return {"session": made.id.hex()}

    async def _send(self, session: str, message: str) -> None:
        await self._sessions[session].send(bytes.fromhex(message))

    async def _receive(self, session: str) -> dict[str, Any]:
        try:
            return {"message": (await self._sessions[session].receive()).hex()}
        except SessionClosed:
            return {"message": None}

    async def _finish(self, session: str) -> None:
        await self._sessions[session].finish()

    async def _close(self, session: str) -> None:
        await self._sessions[session].close(_PATIENCE)

    async def _abort(self, session: str) -> None:
        self._sessions[session].abort()


async def serve() -> None:
    """Do what comes on standard input until that ends."""
    adapter, running = _Adapter(), set[asyncio.Task[None]]()
    reader = asyncio.StreamReader(limit=1 << 23)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)

    async def answer(line: bytes) -> None:
        asked = json.loads(line)
        said = {"id": asked.pop("id"), **await adapter.do(asked)}
        sys.stdout.write(json.dumps(said) + "\n")
        sys.stdout.flush()

    try:
        while line := await reader.readline():
            task = asyncio.create_task(answer(line))
            running.add(task)
            task.add_done_callback(running.discard)
    finally:
        for task in list(running):
            task.cancel()
        await adapter.close()
