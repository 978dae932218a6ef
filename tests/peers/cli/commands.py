"""The `peer` command in the test's own process; its standard streams are pipes, or what is given.

Signals, /dev/null in place of closed descriptors and the interpreter's end are the real command's
alone: tests/integration/test_commands.py.
"""

import asyncio
import contextlib
import io
import json
import os
from collections.abc import AsyncIterator
from typing import Any, Self

from peers.cli.main import parse, perform
from peers.cli.terminal import Terminal

DEADLINE = 60.0
PIPE = -1


class Running:
    """One command, from its start until it is left."""

    def __init__(self, arguments: tuple[str, ...], streams: tuple[int | None, ...]) -> None:
        self._arguments = arguments
        self._ends: list[int] = []
        self._readers: list[asyncio.ReadTransport] = []
        self._stdin, self._stdout, self._stderr = streams
        self._hand: int | None = None
        self._parsed_error = ""

    async def start(self) -> Self:
        stdin, stdout, stderr = self._stdin, self._stdout, self._stderr
        if stdin == PIPE:
            stdin, self._hand = os.pipe()
            self._ends.append(stdin)
        self.stdout = asyncio.StreamReader(limit=4 << 20)
        self.stderr = asyncio.StreamReader(limit=4 << 20)
        if stdout == PIPE:
            stdout = await self._reader(self.stdout)
        else:
            self.stdout.feed_eof()
        if stderr == PIPE:
            stderr = await self._reader(self.stderr)
        else:
            self.stderr.feed_eof()
        self.task = asyncio.ensure_future(self._run(stdin, stdout, stderr))
        return self

    async def _reader(self, reader: asyncio.StreamReader) -> int:
        there, here = os.pipe()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(there, "rb")
        )
        self._readers.append(transport)
        self._ends.append(here)
        return here

    async def _run(self, stdin: int | None, stdout: int | None, stderr: int | None) -> int:
        try:
            with contextlib.redirect_stderr(io.StringIO()) as refused:
                invocation = parse(self._arguments)
            if isinstance(invocation, int):
                self._parsed_error = refused.getvalue()
                return invocation
            return await perform(
                invocation, Terminal(stdin, stdout, stderr, as_json=invocation.as_json)
            )
        finally:
            for one in self._ends:
                os.close(one)
            self._ends.clear()

    def say(self, text: str) -> None:
        """Put a line into standard input."""
        assert self._hand is not None
        os.write(self._hand, text.encode() + b"\n")

    def end_input(self) -> None:
        """Close the hand's end of standard input."""
        hand, self._hand = self._hand, None
        if hand is not None:
            os.close(hand)

    async def line(self) -> str:
        """Return the next line of standard output."""
        return await self._line(self.stdout)

    async def news(self) -> str:
        """Return the next line of standard error."""
        return await self._line(self.stderr)

    async def fact(self) -> dict[str, Any]:
        """Return the next JSON line."""
        return dict(json.loads(await self.line()))

    async def ended(self) -> int:
        """Wait for the command's own end; return its exit code."""
        async with asyncio.timeout(DEADLINE):
            return await asyncio.shield(self.task)

    async def rest(self) -> tuple[str, str]:
        """Wait for the end; return what standard output and standard error still say."""
        await self.ended()
        out, err = await self.stdout.read(), await self.stderr.read()
        return out.decode(), err.decode() + self._parsed_error

    async def stop(self) -> None:
        """End the command as Ctrl-C does, and let go of all."""
        self.task.cancel()
        await asyncio.wait({self.task})
        self.end_input()
        for transport in self._readers:
            transport.close()

    async def _line(self, reader: asyncio.StreamReader) -> str:
        async with asyncio.timeout(DEADLINE):
            line = await reader.readline()
        assert line, (await self.rest(), self.task)
        return line.decode().removesuffix("\n")


@contextlib.asynccontextmanager
async def peer(
    *arguments: str,
    stdin: int | None = PIPE,
    stdout: int | None = PIPE,
    stderr: int | None = PIPE,
) -> AsyncIterator[Running]:
    """Run a `peer` command while inside; the descriptors given stay the test's."""
    running = await Running(arguments, (stdin, stdout, stderr)).start()
    try:
        yield running
    finally:
        await running.stop()


async def run_peer(*arguments: str, stdin: int | None = None) -> tuple[int, str, str]:
    """Run a `peer` command to its end; return its exit code, its output and its errors."""
    async with peer(*arguments, stdin=stdin) as running:
        out, err = await running.rest()
        return await running.ended(), out, err
