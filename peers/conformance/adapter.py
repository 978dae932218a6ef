"""The foreign peer, as the kit drives it: a process with lines of JSON on both sides.

What the lines say is in docs/conformance.md. Commands are answered in any order, by their `id`.
"""

import asyncio
import contextlib
import itertools
import json
import shlex
from collections import deque
from typing import Any

from peers.conformance.faults import PATIENCE, Fault, NotTried, within

__all__ = ["Adapter", "Said"]

_LONGEST_LINE = 1 << 23
"""Bytes: a message of 1 MiB in hexadecimal, and the rest of its line."""


class Said(Exception):
    """The peer says that a command has failed; `word` is its code, or another word."""

    def __init__(self, word: str) -> None:
        super().__init__(word)
        self.word = word


class Adapter:
    """One such process. Use it in an `async with`."""

    def __init__(self, command: str) -> None:
        self._arguments = shlex.split(command)
        self._process: asyncio.subprocess.Process | None = None
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._numbers = itertools.count(1)
        self._reading: asyncio.Task[None] | None = None
        self.said: deque[str] = deque(maxlen=20)
        """Its last lines that were no answers."""

    async def __aenter__(self) -> "Adapter":
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._arguments,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=_LONGEST_LINE,
            )
        except OSError as error:
            raise Fault(f"cannot start {self._arguments[0]!r}: {error.strerror}") from None
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        process, reading = self._process, self._reading
        try:
            if process is not None and process.stdin is not None:
                process.stdin.close()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(PATIENCE):
                        await process.wait()
        finally:
            if process is not None and process.returncode is None:
                process.kill()
                await process.wait()
            if reading is not None:
                reading.cancel()
                await asyncio.wait({reading})

    @property
    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.returncode is None

    async def ask(self, do: str, seconds: float | None = None, **more: Any) -> dict[str, Any]:
        """Have it do something; return what it says of that.

        Raises:
            Said: it says that this has failed.
            NotTried: it does not know this command.
            Fault: it does not answer in time, or has ended.
        """
        process = self._process
        if process is None or process.stdin is None or process.returncode is not None:
            raise Fault("the peer's process has ended")
        number = next(self._numbers)
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            process.stdin.write(json.dumps({"id": number, "do": do, **more}).encode() + b"\n")
            async with within(f"answer of the adapter to {do!r}", seconds):
                with contextlib.suppress(ConnectionError):
                    await process.stdin.drain()
                said = await answer
        finally:
            del self._waiting[number]
        if said.get("unsupported"):
            of = f" ({more['carrier']})" if "carrier" in more else ""
            raise NotTried(f"the adapter does not support {do!r}{of}")
        if "failed" in said:
            raise Said(str(said["failed"]))
        done = said.get("done")
        return done if isinstance(done, dict) else {}

    async def _read(self) -> None:
        process = self._process
        if process is None or process.stdout is None:
            return
        while line := await process.stdout.readline():
            try:
                said = json.loads(line)
                answer = self._waiting.get(said["id"])
            except (ValueError, LookupError, TypeError):
                self.said.append(line.decode(errors="replace").rstrip())
                continue
            if answer is not None and not answer.done():
                answer.set_result(said)
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(Fault("the peer's process has ended"))
