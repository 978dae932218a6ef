"""One process that is kept running: started, heard, started anew when it dies, stopped.

What it is told goes by its standard input, which also ends when this process does; what it says of
itself comes by its standard output, a line each. Its log is this process's own.
"""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic

from relay.log import guarded, log

__all__ = ["Child", "Told"]

_LEASH = str(Path(__file__).with_name("leash.py"))
_FIRST, _LONGEST = 0.1, 10.0
"""Seconds until a process that has died is started anew; twice as long each time, while it dies
again soon."""
_SOON = 30.0
"""Seconds after which one that dies has not died soon."""
_LONGEST_LINE = 1 << 20

Told = Callable[[bytes], None]
"""Told each line that a process says."""


class Child:
    """One process, by its name. `keep` runs it until `stop`."""

    def __init__(
        self, name: str, command: Sequence[str], first_word: bytes, told: Told, silence: float
    ) -> None:
        """`first_word` is what it is told at each start. One that says nothing for `silence`
        seconds hangs, and is killed; 0: it has nothing to say."""
        self.name = name
        self.word = first_word
        self._command = [sys.executable, "-I", "-S", _LEASH, str(os.getpid()), *command]
        self._told = told
        self._silence = silence
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = asyncio.Event()

    @property
    def pid(self) -> int | None:
        """The process now."""
        return None if self._process is None else self._process.pid

    def tell(self, word: bytes) -> None:
        """Tell it something, now and at each start from now on."""
        self.word = word
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.write(word)

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End it with a signal; it is not started anew."""
        self._stopping.set()
        self._signal(number)

    def start_anew(self) -> None:
        """Kill it; it is started anew."""
        self._signal(signal.SIGKILL)

    async def keep(self) -> None:
        """Run it, anew whenever it dies, until `stop`."""
        pause = _FIRST
        while not self._stopping.is_set():
            began = monotonic()
            ended: dict[str, object]
            try:
                ended = {"code": await self._run()}
            except OSError as error:
                # It could not begin: no descriptors or no memory, or its program has gone.
                ended = {"reason": error.strerror or str(error)}
            if self._stopping.is_set():
                return
            pause = _FIRST if monotonic() - began >= _SOON else pause
            log.warning("a process has ended", process=self.name, **ended, again_in=pause)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)
            pause = min(2 * pause, _LONGEST)

    # -- inside ---------------------------------------------------------------------------------

    async def _run(self) -> int:
        process = self._process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=_LONGEST_LINE,
            # A terminal's Ctrl-C is for this process, which tells the others.
            process_group=0,
        )
        try:
            if self._stopping.is_set():
                self._signal(signal.SIGKILL)
            if process.stdin is not None and self.word:
                process.stdin.write(self.word)
            if process.stdout is not None:
                await self._hear(process.stdout)
            # No timeout: it has closed its output, so it ends; `stop` has the last word.
            return await process.wait()
        finally:
            self._signal(signal.SIGKILL)
            await process.wait()
            self._process = None

    async def _hear(self, reader: asyncio.StreamReader) -> None:
        while True:
            line = await self._line(reader)
            if line is None:
                log.error("a process hangs, and is killed", process=self.name)
                self._signal(signal.SIGKILL)
                return
            if not line:
                return
            with guarded("hearing a process"):
                self._told(line)

    async def _line(self, reader: asyncio.StreamReader) -> bytes | None:
        """Return the next line, empty at the end; None where none comes in time."""
        for seconds in (self._silence, 1.0):  # Once more: this process may have been away itself.
            try:
                async with asyncio.timeout(seconds or None):
                    return await reader.readline()
            except TimeoutError:
                pass
            except ValueError:
                return None  # A line without an end, of something that it has lost control of.
        return None

    def _signal(self, number: int) -> None:
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)
