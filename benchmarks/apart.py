"""Conversations whose two sides are never there at the same time: all goes by sealed letters.

One side sends and goes; then the other one comes, and takes what is there. Both ends and their
stores are in this process, the relay in its own. How long a letter waits for its recipient is not
ours to measure: what is, is from `send` until the relay has it on its disk, and from the
recipient's coming until its loop has the first message.
"""

import asyncio
import contextlib
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

from benchmarks.letters import LIMITS
from benchmarks.measure import Row, cpu_seconds
from peers import Conversation, Identity, MessageState, Peer
from tests.support import processes

__all__ = ["measure_apart"]

SIZE = 256
"""Bytes of a message."""
_MOST = 900
"""Messages in one go: with those that are sent alone no more than may be in letters at once."""
_ALONE = 50
"""Messages that are sent one at a time, for how long each takes."""
_TASKS = 64


async def measure_apart(count: int) -> list[Row]:
    """Return messages a second, stored and done, and how long one takes."""
    goes = [min(_MOST, count - first) for first in range(0, count, _MOST)]
    stored, done, alone, first = 0.0, 0.0, list[float](), list[float]()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "relay.toml").write_text(LIMITS)
        words = ("--config", str(folder / "relay.toml"), "--state", str(folder / "state"))
        with processes.relay(folder, *words) as (url, process):
            cpu = cpu_seconds(process.pid)
            for number, many in enumerate(goes):
                pair = _Pair(url, folder / f"{number}-a.db", folder / f"{number}-b.db")
                await pair.meet()
                stored += await pair.send(many, alone)
                done += await pair.take(many + _ALONE, first)
            cpu = cpu_seconds(process.pid) - cpu
    name, what = "roam-relay, conversation by letter", f"{SIZE}-byte messages"
    messages = count + _ALONE * len(goes)
    return [
        Row(name, f"{what}, sent and stored, {_TASKS} tasks", count / stored, "messages/s"),
        Row(name, f"{what}, fetched and done one by one", messages / done, "messages/s"),
        Row(name, "relay CPU for a message, stored and fetched", cpu / messages * 1e6, "µs"),
        Row(name, "one alone, from send to stored, median", statistics.median(alone), "ms"),
        Row(
            name,
            "one alone, from send to stored, 99th percentile",
            statistics.quantiles(alone, n=100)[98],
            "ms",
        ),
        Row(name, "from coming to the first message in the loop", statistics.median(first), "ms"),
    ]


class _Pair:
    """Two peers with stores, of whom one is there at a time."""

    def __init__(self, url: str, alice: Path, bob: Path) -> None:
        self._url = url
        self._alice, self._bob = Identity.generate(), Identity.generate()
        self._stores = alice, bob

    @contextlib.asynccontextmanager
    async def _there(self, *, bob: bool) -> AsyncIterator[Conversation]:
        one, other = (self._bob, self._alice) if bob else (self._alice, self._bob)
        async with (
            Peer(one, self._url) as peer,
            peer.conversation(other.guid, "letters", store=self._stores[bob]) as chat,
        ):
            yield chat

    async def meet(self) -> None:
        """Have Bob's relay know that Alice may leave him letters: his first message says so."""
        async with self._there(bob=True) as chat:
            await chat.send(b"")
            while chat.mailbox_error is None:  # She has never been there.
                await asyncio.sleep(0.01)

    async def send(self, count: int, alone: list[float]) -> float:
        """Send so many, first some one at a time; return the seconds for the others."""
        async with self._there(bob=False) as chat:
            for _ in range(_ALONE):
                began = time.perf_counter()
                await _stored(chat, await chat.send(bytes(SIZE)))
                alone.append((time.perf_counter() - began) * 1e3)
            began, names = time.perf_counter(), list[str]()

            async def send(many: int) -> None:
                for _ in range(many):
                    names.append(await chat.send(bytes(SIZE)))

            shares = [count // _TASKS + (one < count % _TASKS) for one in range(_TASKS)]
            await asyncio.gather(*map(send, shares))
            for name in names:
                await _stored(chat, name)
            return time.perf_counter() - began

    async def take(self, count: int, first: list[float]) -> float:
        """Take so many, each done before the next; return the seconds."""
        began, left = time.perf_counter(), count
        async with self._there(bob=True) as chat:
            async for message in chat:
                if left == count:
                    first.append((time.perf_counter() - began) * 1e3)
                await message.done()
                left -= 1
                if not left:
                    break
            return time.perf_counter() - began


async def _stored(chat: Conversation, message_id: str) -> None:
    async for now in chat.follow(message_id):
        if now.state is MessageState.STORED:
            return
