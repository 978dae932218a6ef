"""Messages that are on the disk at both ends before they count, each side a process of its own.

Ours: a conversation, with a store in SQLite at either end. `send` returns when a message is on the
disk; many tasks send at once, and share the waits for it. The receiver takes them one by one in its
loop, each done, on its disk, before the next.

The rival: nats-py with JetStream and file storage, each publish acknowledged, as many at once, each
message acknowledged by the consumer, and that too; with `sync always`, where nats-server
waits for the disk as we do, and as it comes, where it does so every two minutes. Beside both, a
session: in memory.
"""

import asyncio
import statistics
import subprocess
import sys
import tempfile
import time

import nats
import uvloop
from nats.js.api import StorageType, StreamConfig

from benchmarks.measure import Row, Server
from peers import Identity, Peer

__all__ = ["measure_jetstream", "measure_ours"]

SIZE = 256
"""Bytes of a message."""
_TASKS = 64
"""Tasks that send at once."""
_ALONE = 50
"""Messages that are sent one at a time, for how long each takes."""
_SERVICE = "letters"


def measure_ours(server: Server, count: int) -> list[Row]:
    """By conversations."""
    return _rows("roam-relay, conversation", "ours", server, count)


def measure_jetstream(server: Server, count: int, *, synced: bool) -> list[Row]:
    """By JetStream."""
    name = "nats-py, JetStream, sync always" if synced else "nats-py, JetStream as it comes"
    return _rows(name, "jetstream", server, count)


def _rows(name: str, kind: str, server: Server, count: int) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "benchmarks.conversations", kind, str(server.port)]
        command += [str(count), folder]
        receiver = subprocess.Popen([*command, "receive"], stdout=subprocess.PIPE, text=True)
        assert receiver.stdout is not None
        try:
            target = receiver.stdout.readline().strip()
            sender = subprocess.run(
                [*command, "send", target],
                stdout=subprocess.PIPE,
                text=True,
                timeout=600,
                check=True,
            )
            times = [float(word) for word in receiver.stdout.readline().split()]
            receiver.wait(30)
        finally:
            receiver.kill()
            receiver.wait()
            receiver.stdout.close()
    rate, median, late = times
    what = f"{SIZE}-byte messages"
    return [
        Row(name, f"{what}, sent and safe, {_TASKS} tasks", float(sender.stdout), "messages/s"),
        Row(name, f"{what}, done one by one at the other side", rate, "messages/s"),
        Row(name, "from send to the other's loop, median", median, "ms"),
        Row(name, "from send to the other's loop, 99th percentile", late, "ms"),
    ]


def _say(*words: object) -> None:
    print(*words, flush=True)


class _Times:
    """Counts messages: first those that come one at a time, and then the many."""

    def __init__(self, count: int) -> None:
        self._left = _ALONE + count
        self._count = count
        self._took: list[float] = []
        self._began = 0.0

    def message(self, sent: float) -> bool:
        """One has come; return whether it was the last."""
        self._left -= 1
        if len(self._took) < _ALONE:
            self._took.append((time.time() - sent) * 1e3)
            self._began = time.perf_counter()
        if self._left:
            return False
        rate = self._count / (time.perf_counter() - self._began)
        centiles = statistics.quantiles(self._took, n=100)
        _say(rate, statistics.median(self._took), centiles[98])
        return True


async def _ours_receive(port: int, count: int, folder: str) -> None:
    times = _Times(count)
    async with Peer(Identity.generate(), f"http://127.0.0.1:{port}") as peer:
        begun = peer.conversations(_SERVICE, store=f"{folder}/receiver.db")
        taking = asyncio.ensure_future(anext(begun))
        await asyncio.sleep(0)
        await peer.published()
        _say(peer.guid)
        async for message in await taking:
            if times.message(message.sent):
                await message.done()
                return


async def _ours_send(port: int, count: int, folder: str, target: str) -> None:
    payload = bytes(SIZE)
    async with (
        Peer(Identity.generate(), f"http://127.0.0.1:{port}") as peer,
        peer.conversation(target, _SERVICE, store=f"{folder}/sender.db") as chat,
    ):
        while not chat.is_connected:
            await asyncio.sleep(0.01)
        for _ in range(_ALONE):
            await chat.send(payload)
            while await chat.outgoing():
                await asyncio.sleep(0.002)

        async def send(many: int) -> None:
            for _ in range(many):
                await chat.send(payload)

        began = time.perf_counter()
        await asyncio.gather(*(send(one) for one in _shares(count)))
        _say(count / (time.perf_counter() - began))
        while await chat.outgoing():
            await asyncio.sleep(0.05)


async def _jetstream_receive(port: int, count: int, folder: str) -> None:
    times = _Times(count)
    client = await nats.connect(f"nats://127.0.0.1:{port}")
    stream = client.jetstream()
    await stream.add_stream(
        StreamConfig(name=_SERVICE, subjects=[_SERVICE], storage=StorageType.FILE)
    )
    pulling = await stream.pull_subscribe(_SERVICE, durable="receiver")
    _say("ready")
    while True:
        try:
            messages = await pulling.fetch(64, timeout=1)
        except nats.errors.TimeoutError:
            continue
        for message in messages:
            is_last = times.message(float(message.headers["sent"]))
            await message.ack_sync(timeout=30)
            if is_last:
                await client.close()
                return


async def _jetstream_send(port: int, count: int, folder: str, target: str) -> None:
    client = await nats.connect(f"nats://127.0.0.1:{port}")
    stream = client.jetstream()
    payload = bytes(SIZE)

    async def publish() -> None:
        await stream.publish(_SERVICE, payload, timeout=30, headers={"sent": str(time.time())})

    for _ in range(_ALONE):
        await publish()
        await asyncio.sleep(0.01)

    async def send(many: int) -> None:
        for _ in range(many):
            await publish()

    began = time.perf_counter()
    await asyncio.gather(*(send(one) for one in _shares(count)))
    _say(count / (time.perf_counter() - began))
    await client.close()


def _shares(count: int) -> list[int]:
    """Return how many messages each task sends."""
    return [count // _TASKS + (number < count % _TASKS) for number in range(_TASKS)]


def main() -> None:
    kind, port, count, folder, side, *target = sys.argv[1:]
    work = {
        ("ours", "receive"): _ours_receive,
        ("ours", "send"): _ours_send,
        ("jetstream", "receive"): _jetstream_receive,
        ("jetstream", "send"): _jetstream_send,
    }[kind, side]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work(int(port), int(count), folder, *target))  # type: ignore[operator]


if __name__ == "__main__":
    main()
