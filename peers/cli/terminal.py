"""What a command reads and writes: lines in, messages and facts out, news and bars for people.

The one place that knows standard streams. News go to standard error as one line each, or with
`--json` to standard output as one object a line; what was asked for, and what others send, goes to
standard output. Text of others never acts: it is no markup, and control characters are escaped.
"""

import asyncio
import base64
import contextlib
import importlib.util
import io
import os
import re
import sys
from collections.abc import Coroutine, Iterator, Sequence
from types import TracebackType
from typing import Any, Self

import msgspec

from peers.cli.bars import Bars
from peers.cli.input import Input
from peers.cli.output import Output
from protocol.errors import MissingExtra
from protocol.extras import LIBRARIES
from protocol.text import shown

__all__ = ["Terminal", "standard_descriptors"]

_GRACE = 0.5
"""Seconds for what waits to be written when a command ends before its time."""
_ACTS_IN_JSON = re.compile("[\x7f-\x9f\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""What msgspec leaves as it is in a string, and a terminal acts on."""


class Terminal:
    """The standard streams of one command; None for one that is closed. Use it as a context
    manager inside a running loop."""

    def __init__(
        self,
        stdin: int | None,
        stdout: int | None,
        stderr: int | None,
        *,
        as_json: bool = False,
    ) -> None:
        self.input = Input(stdin)
        self.as_json = as_json
        self._out = Output(stdout, "standard output")
        self._err = Output(stderr, "standard error")
        self._bars: Bars | None = None
        self._told = False
        """Whether it was said that nothing draws here."""
        encoding = getattr(sys.__stdout__, "encoding", None)
        self._encoding = encoding if isinstance(encoding, str) else "utf-8"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            await self.input.close()
        finally:
            try:
                await self._out.close(_GRACE)
            finally:
                await self._err.close(_GRACE)

    async def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Do a command's work, and return when all that it printed is written, as long as its
        reader takes; end it when standard output cannot be written any more.

        Raises:
            OutputFailed: that, or `OutputClosed`; and whatever the work raises.
        """
        working = asyncio.ensure_future(work)
        failing = asyncio.ensure_future(self._out.failure())
        try:
            # No timeout: each command has its own.
            await asyncio.wait({working, failing}, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                raise failing.result()
            try:
                working.result()
            finally:
                await self._out.flush()
        finally:
            working.cancel()
            failing.cancel()
            await asyncio.gather(working, failing, return_exceptions=True)

    def ends_unread(self) -> None:
        """End the command as soon as nobody reads standard output, not at the next message: for
        those that only print."""
        self._out.watch_reader()

    # -- what is said ---------------------------------------------------------------------------

    async def message(self, data: bytes, remote: str) -> None:
        """Print a message of another peer and a newline; wait while nobody reads. To a program it
        goes as it is, or with `--json` as a fact, to a terminal without anything that would act
        there."""
        if self.as_json:
            try:
                content = {"text": data.decode()}
            except UnicodeDecodeError:
                content = {"base64": base64.b64encode(data).decode()}
            await self._out.write(_json({"event": "message", "remote": remote} | content))
            return
        if self._out.is_terminal:
            text = data.decode(errors="backslashreplace")
            data = self._encode(shown(text, keep="\n\t"))
        await self._out.write(data + b"\n")

    async def tell(self, text: str, **facts: Any) -> None:
        """Tell what has happened: the text to people, the facts to programs."""
        if self.as_json:
            await self._out.write(_json(facts))
        else:
            self.notice(text)

    async def answer(self, text: str, **facts: Any) -> None:
        """Print what was asked for: lines of text, or the facts."""
        line = _json(facts) if self.as_json else self._encode(shown(text, keep="\n") + "\n")
        await self._out.write(line)

    def notice(self, text: str) -> None:
        """Tell people something, in one line, whoever reads the facts."""
        if self._bars is not None and self._bars.are_drawn:
            self._bars.above(shown(text))
        else:
            self._err.notice(self._encode(shown(text) + "\n"))

    async def table(
        self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]
    ) -> None:
        """Print a table as wide as it needs to be; on a terminal long cells are folded. Where
        nothing draws tables here it has no lines, and that is said once."""
        if not self._draws():
            lines = _plain(columns, rows)
            await self._out.write(self._encode("".join(f"{line}\n" for line in (title, *lines))))
            return
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table()
        for column in columns:
            table.add_column(Text(column), overflow="fold")
        for row in rows:
            table.add_row(*(Text(shown(cell)) for cell in row))
        page = _Page(self._encoding)
        is_terminal = self._out.is_terminal
        console = Console(file=page, force_terminal=is_terminal)
        if not is_terminal:
            cells = [cell for row in (columns, *rows) for cell in row]
            room = sum(2 * len(shown(cell)) + 4 for cell in cells)  # A letter is two wide at most.
            console.width = console.measure(table, options=console.options.update(width=room))[1]
        # Not the table's own title, which is cut into lines as wide as the table.
        console.print(Text(shown(title)), soft_wrap=not is_terminal)
        console.print(table)
        await self._out.write(self._encode(page.getvalue()))

    @contextlib.contextmanager
    def bars(self) -> Iterator[Bars]:
        """Show bars on a terminal while inside; nothing where standard error is none."""
        with Bars(self.stream() if self._err.is_terminal and self._draws() else None) as bars:
            self._bars = bars
            try:
                yield bars
            finally:
                self._bars = None

    def stream(self) -> io.TextIOBase:
        """Return standard error for a library that writes text: a log, bars. It never waits."""
        return _Stream(self._err, self._encoding)

    def _draws(self) -> bool:
        """Whether tables and bars can be drawn; says the next step, once, where they cannot."""
        there = importlib.util.find_spec(LIBRARIES["tables"]) is not None
        if not there and not self._told:
            self._told = True
            self.notice(str(MissingExtra("what draws tables and bars", "tables")))
        return there

    def _encode(self, text: str) -> bytes:
        return text.encode(self._encoding, "backslashreplace")


def _plain(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [[shown(cell) for cell in line] for line in (columns, *rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]


class _Page(io.StringIO):
    """Text that will be written in another encoding: rich draws lines that this one has."""

    def __init__(self, encoding: str) -> None:
        super().__init__()
        self._codec = encoding

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._codec


class _Stream(io.TextIOBase):
    def __init__(self, output: Output, encoding: str) -> None:
        self._output = output
        self._codec = encoding

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._codec

    def write(self, text: str) -> int:
        self._output.notice(text.encode(self._codec, "backslashreplace"))
        return len(text)

    def isatty(self) -> bool:
        return self._output.is_terminal


def _json(facts: dict[str, Any]) -> bytes:
    try:
        text = msgspec.json.encode(facts).decode()
    except UnicodeEncodeError:  # A file's name that is no UTF-8; JSON is.
        text = msgspec.json.encode(_whole(facts)).decode()
    return _ACTS_IN_JSON.sub(lambda one: f"\\u{ord(one[0]):04x}", text).encode() + b"\n"


def _whole(value: Any) -> Any:
    """Return facts with each half of a character, which UTF-8 has not, written as `\\udce9`."""
    match value:
        case str():
            return value.encode(errors="backslashreplace").decode()
        case dict():
            return {name: _whole(one) for name, one in value.items()}
        case list() | tuple():
            return [_whole(one) for one in value]
        case _:
            return value


def standard_descriptors() -> tuple[int | None, int | None, int | None]:
    """Return the descriptors of the standard streams; None for one that is closed.

    A closed one is opened on /dev/null: the next socket would get its number, and libuv aborts a
    process that closes a socket with such a number.
    """
    streams = (sys.stdin, sys.stdout, sys.stderr)
    given = [None if stream is None else number for number, stream in enumerate(streams)]
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # The lowest free number is this one.
    return given[0], given[1], given[2]
