"""Small messages from one application to another, one way, each side a process of its own.

Ours: `session.send` and `session.receive` with TLS between the peers and acknowledgements on, on a
direct path and through a plane. Rivals: nats-py through nats-server, and the aiohttp WebSocket
relay that most teams would write: no encryption between the applications, nothing acknowledged,
nothing resumed. The clock runs in the receiver, from the first message to the last.
"""

import asyncio
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable

import aiohttp
import nats
import uvloop

from benchmarks.measure import Row, Server, nats_in_step
from peers import Identity, Peer

__all__ = ["SIZE", "measure_nats", "measure_sessions", "measure_websocket"]

SIZE = 256
"""Bytes of a message."""
_SERVICE = "messages"


def measure_sessions(server: Server, count: int, mode: str) -> list[Row]:
    """Through sessions in a mode."""
    rate = _both_sides(f"sessions-{mode}", server, count)
    name = "roam-relay, direct path" if mode == "p2p" else "roam-relay, through the relay"
    return [Row(name, f"{SIZE}-byte messages, application to application", rate, "messages/s")]


def measure_nats(server: Server, count: int) -> list[Row]:
    """Through nats-server, with the client library in Python."""
    rate = _both_sides("nats", server, count)
    return [Row("nats-py", f"{SIZE}-byte messages, application to application", rate, "messages/s")]


def measure_websocket(server: Server, count: int) -> list[Row]:
    """Through an aiohttp server that passes messages on."""
    rate = _both_sides("websocket", server, count)
    return [
        Row(
            "aiohttp WebSocket relay",
            f"{SIZE}-byte messages, application to application",
            rate,
            "messages/s",
        )
    ]


def _both_sides(kind: str, server: Server, count: int) -> float:
    """Run receiver and sender; return the messages a second that the receiver has counted."""
    command = [sys.executable, "-m", "benchmarks.messages", kind, str(server.port), str(count)]
    receiver = subprocess.Popen([*command, "receive"], stdout=subprocess.PIPE, text=True)
    assert receiver.stdout is not None
    try:
        target = receiver.stdout.readline().strip()
        sender = subprocess.run([*command, "send", target], timeout=300, check=False)
        if sender.returncode:
            raise RuntimeError(f"the sender of {kind} failed")
        rate = float(receiver.stdout.readline())
        receiver.wait(30)
        return rate
    finally:
        receiver.kill()
        receiver.wait()
        receiver.stdout.close()


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


class _Count:
    """Counts messages, and times them from the first to the last."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.done = asyncio.Event()
        self._count = 0
        self._began = 0.0

    def message(self) -> None:
        """One has arrived."""
        if not self._count:
            self._began = time.perf_counter()
        self._count += 1
        if self._count == self.total:
            _say(str(self.total / (time.perf_counter() - self._began)))
            self.done.set()


async def _sessions_receive(port: int, count: int) -> None:
    async with Peer(Identity.generate(), f"http://127.0.0.1:{port}") as peer:
        listener = peer.listen(_SERVICE)
        await peer.published()
        _say(peer.guid)
        session = await anext(listener)
        counter = _Count(count)
        async for _ in session:
            counter.message()


async def _sessions_send(port: int, count: int, target: str, mode: str) -> None:
    message = bytes(SIZE)
    async with (
        Peer(Identity.generate(), f"http://127.0.0.1:{port}") as peer,
        await peer.connect(target, _SERVICE, mode=mode) as session,
    ):
        for _ in range(count):
            await session.send(message)


async def _nats_receive(port: int, count: int) -> None:
    client = await nats.connect(f"nats://127.0.0.1:{port}")
    counter = _Count(count)

    async def take(message: object) -> None:
        counter.message()

    await client.subscribe(_SERVICE, cb=take, pending_msgs_limit=-1, pending_bytes_limit=-1)
    await nats_in_step(client)
    _say("ready")
    await counter.done.wait()
    await client.close()


async def _nats_send(port: int, count: int) -> None:
    client = await nats.connect(f"nats://127.0.0.1:{port}")
    message = bytes(SIZE)
    for number in range(count):
        await client.publish(_SERVICE, message)
        if number % 1000 == 999:
            await client.flush(
                30
            )  # Else the server drops the connection that it cannot keep up with.
    await client.flush(60)
    await client.close()


async def _websocket_receive(port: int, count: int) -> None:
    counter = _Count(count)
    async with (
        aiohttp.ClientSession() as client,
        client.ws_connect(f"http://127.0.0.1:{port}/receive", compress=0) as websocket,
    ):
        _say("ready")
        async for _ in websocket:
            counter.message()
            if counter.done.is_set():
                return


async def _websocket_send(port: int, count: int) -> None:
    message = bytes(SIZE)
    async with (
        aiohttp.ClientSession() as client,
        client.ws_connect(f"http://127.0.0.1:{port}/send", compress=0) as websocket,
    ):
        for _ in range(count):
            await websocket.send_bytes(message)


def _main(kind: str, port: int, count: int, side: str, target: str) -> None:
    mode = kind.partition("-")[2]
    sides: dict[tuple[str, str], Callable[[], Awaitable[None]]] = {
        ("sessions", "receive"): lambda: _sessions_receive(port, count),
        ("sessions", "send"): lambda: _sessions_send(port, count, target, mode),
        ("nats", "receive"): lambda: _nats_receive(port, count),
        ("nats", "send"): lambda: _nats_send(port, count),
        ("websocket", "receive"): lambda: _websocket_receive(port, count),
        ("websocket", "send"): lambda: _websocket_send(port, count),
    }

    async def run() -> None:
        await sides[kind.partition("-")[0], side]()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


if __name__ == "__main__":
    _main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], (sys.argv + [""])[5])
