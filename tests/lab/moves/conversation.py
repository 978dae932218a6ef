"""One end of a measured conversation, the same for ours and for every rival: numbered messages of
one size at fixed times, and what came of them in lines of output.

Lines of input: `go` begins to send, `changed` says that the network is another one now, `stop` ends
sending. Lines of output: `ready …` of who can be called, `up` of who has the other one, `+ TIME
NUMBER` for each message that came, `sent COUNT` when sending has ended. It ends with its input.
"""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable

from tests.lab.moves.cells import INTERVAL, SIZE

__all__ = ["Conversation", "Splitter", "say"]

_NUMBER_BYTES = 8
_LAST = 1.0
"""Seconds for the last message to be taken after `stop`."""


def say(line: str) -> None:
    """Write a line of output."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


class Splitter:
    """Cuts a stream of bytes into messages."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Return the messages that are whole now."""
        data = self._rest + data
        whole = len(data) // SIZE * SIZE
        self._rest = data[whole:]
        return [data[at : at + SIZE] for at in range(0, whole, SIZE)]


class Conversation:
    """What is sent, and what came."""

    def __init__(self) -> None:
        self.changed = asyncio.Event()
        """The network is another one. Who acts on it clears it."""
        self.over = asyncio.Event()
        """The input has ended."""
        self._go, self._stop = asyncio.Event(), asyncio.Event()
        self._begun = 0
        """Messages that were sent, the one that is being sent among them."""

    async def listen_to_orders(self) -> None:
        """Do as the lines of input say, until they end."""
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
        )
        orders = {"go": self._go, "stop": self._stop, "changed": self.changed}
        while line := await reader.readline():
            orders[line.decode().strip()].set()
        self.over.set()

    def received(self, message: bytes) -> int:
        """Tell of a message, and return its number."""
        number = int.from_bytes(message[:_NUMBER_BYTES], "big")
        say(f"+ {time.monotonic():.6f} {number}")
        return number

    async def send_by(self, send: Callable[[bytes], Awaitable[object]]) -> None:
        """Send from `go` to `stop`. What could not be sent in time is sent as soon as it can be;
        what is being sent for long after `stop` counts as sent."""
        await self._go.wait()
        sending = asyncio.create_task(self._send_by(send))
        await self._stop.wait()
        await asyncio.wait((sending,), timeout=_LAST)
        sending.cancel()
        say(f"sent {self._begun}")

    async def _send_by(self, send: Callable[[bytes], Awaitable[object]]) -> None:
        began = time.monotonic()
        while not self._stop.is_set():
            self._begun += 1
            await send((self._begun - 1).to_bytes(_NUMBER_BYTES, "big").ljust(SIZE, b"."))
            wait = began + self._begun * INTERVAL - time.monotonic()
            if wait > 0:
                await asyncio.sleep(wait)

    async def over_streams(
        self, read: Callable[[int], Awaitable[bytes]], send: Callable[[bytes], Awaitable[object]]
    ) -> None:
        """Take what a stream brings, and send, until both are over."""
        splitter = Splitter()

        async def receive() -> None:
            while data := await read(65_536):
                for message in splitter.feed(data):
                    self.received(message)

        say("up")
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(receive())
            tasks.create_task(self.send_by(send))

    async def run(self, work: Callable[[], Awaitable[object]]) -> None:
        """Work until the input ends."""
        async with asyncio.TaskGroup() as tasks:
            working = tasks.create_task(_awaited(work()))
            listening = tasks.create_task(self.listen_to_orders())
            await self.over.wait()
            working.cancel()
            listening.cancel()


async def _awaited(work: Awaitable[object]) -> None:
    await work
