"""Standard streams of every kind: what is read, what is written, and that the loop never waits."""

import asyncio
import contextlib
import fcntl
import io
import json
import os
import socket
import sys
import threading
import tty
from collections.abc import Iterator
from pathlib import Path

import pytest

from peers.cli.input import MAX_LINE, Input, InputFailed, InputKind, LineTooLong
from peers.cli.output import Output, OutputClosed, OutputFailed
from peers.cli.terminal import Terminal
from protocol.session.settings import MAX_PAYLOAD
from tests.support.readers import read_some

NASTY = "\x1b[31m[/etc/motd] \x9b31m\u202e[fd00::1]:4000"
SAFE = r"\x1b[31m[/etc/motd] \x9b31m\u202e[fd00::1]:4000"


class Source:
    """A standard input of one kind, and the hand that writes into it."""

    def __init__(self, kind: str, folder: Path) -> None:
        self._open: list[int] = []
        self.descriptor: int | None
        self.hand: int | None = None
        match kind:
            case "pipe" | "pipe that does not block":
                self.descriptor, self.hand = self._keep(*os.pipe())
                os.set_blocking(self.descriptor, kind == "pipe")
            case "socket":
                ours, theirs = socket.socketpair()
                self.descriptor, self.hand = self._keep(ours.detach(), theirs.detach())
            case "terminal":
                self.hand, self.descriptor = self._keep(*os.openpty())
            case "file":
                path = folder / "input"
                path.touch()
                self.descriptor, self.hand = self._keep(
                    os.open(path, os.O_RDONLY), os.open(path, os.O_WRONLY)
                )
            case "/dev/null":
                (self.descriptor,) = self._keep(os.open(os.devnull, os.O_RDONLY))
            case "nohup's":
                (self.descriptor,) = self._keep(os.open(os.devnull, os.O_WRONLY))
            case "not for reading":
                (self.descriptor,) = self._keep(os.open(folder / "out", os.O_WRONLY | os.O_CREAT))
            case "directory":
                (self.descriptor,) = self._keep(os.open(folder, os.O_RDONLY))
            case "closed":
                self.descriptor = None
            case _:
                raise AssertionError(kind)

    def _keep(self, *descriptors: int) -> tuple[int, ...]:
        self._open += descriptors
        return descriptors

    def say(self, data: bytes) -> None:
        """Put data in."""
        assert self.hand is not None
        os.write(self.hand, data)

    def end(self) -> None:
        """End the input as its kind does: Ctrl-D on a terminal, else closed at the other side."""
        assert self.hand is not None
        assert self.descriptor is not None
        if os.isatty(self.descriptor):
            os.write(self.hand, b"\x04")
        else:
            os.close(self.hand)
            self._open.remove(self.hand)

    def close(self) -> None:
        for one in self._open:
            os.close(one)
        self._open.clear()


@contextlib.contextmanager
def source(kind: str, folder: Path) -> Iterator[Source]:
    made = Source(kind, folder)
    try:
        yield made
    finally:
        made.close()


@contextlib.contextmanager
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe whose ends the test may close itself."""
    ends = os.pipe()
    try:
        yield ends
    finally:
        for one in ends:
            with contextlib.suppress(OSError):
                os.close(one)


async def all_of(reading: Input) -> list[bytes]:
    lines = []
    while (line := await reading.line()) is not None:
        lines.append(line)
    return lines


def readers() -> list[str]:
    return [one.name for one in threading.enumerate() if one.name.startswith("standard ")]


async def no_reader_is_left() -> None:
    async with asyncio.timeout(60):
        while readers():
            await asyncio.sleep(0.01)


SPEAKING = ["pipe", "pipe that does not block", "socket", "terminal", "file"]
SILENT = ["/dev/null", "nohup's", "not for reading", "closed"]


@pytest.mark.parametrize("kind", SPEAKING)
async def test_lines_come_from_every_kind_until_its_end(kind: str, tmp_path: Path) -> None:
    with source(kind, tmp_path) as given:
        given.say(b"one\n\ntwo\n")
        reading = Input(given.descriptor)
        try:
            assert reading.kind is (InputKind.TERMINAL if kind == "terminal" else InputKind.STREAM)
            assert [await reading.line() for _ in range(3)] == [b"one", b"", b"two"]
            given.end()
            assert await all_of(reading) == []
            assert await reading.line() is None
        finally:
            await reading.close()
    await no_reader_is_left()


@pytest.mark.parametrize("kind", SILENT)
async def test_where_nobody_means_to_send_there_is_nothing(kind: str, tmp_path: Path) -> None:
    with source(kind, tmp_path) as given:
        reading = Input(given.descriptor)
        assert reading.kind is InputKind.NONE
        assert await reading.line() is None
        await reading.close()


async def test_a_directory_is_told(tmp_path: Path) -> None:
    with source("directory", tmp_path) as given:
        reading = Input(given.descriptor)
        with pytest.raises(InputFailed, match="Is a directory"):
            await reading.line()
        with pytest.raises(InputFailed, match="Is a directory"):
            await reading.line()
        await reading.close()


async def test_a_terminal_that_goes_away_is_an_end(tmp_path: Path) -> None:
    with source("terminal", tmp_path) as given:
        reading = Input(given.descriptor)
        given.say(b"one\n")
        assert await reading.line() == b"one"
        waiting = asyncio.ensure_future(reading.line())
        assert given.hand is not None
        os.close(given.hand)
        given._open.remove(given.hand)
        async with asyncio.timeout(60):
            assert await waiting is None
        await reading.close()


@pytest.mark.parametrize("kind", ["pipe", "socket", "terminal"])
async def test_a_read_that_waits_is_ended_with_its_program(kind: str, tmp_path: Path) -> None:
    with source(kind, tmp_path) as given:
        reading = Input(given.descriptor)
        waiting = asyncio.ensure_future(reading.line())
        while not readers():
            await asyncio.sleep(0)
        await reading.close()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        for one in threading.enumerate():
            if one.name.startswith("standard "):
                one.join(5)
    await no_reader_is_left()


async def test_ends_of_lines_and_a_last_one_without(tmp_path: Path) -> None:
    with source("pipe", tmp_path) as given:
        given.say(b"dos\r\nin\rside\n \r\r\nlast")
        given.end()
        reading = Input(given.descriptor)
        assert await all_of(reading) == [b"dos", b"in\rside", b" \r", b"last"]
        await reading.close()


async def test_a_line_may_be_as_long_as_a_message_and_no_longer(tmp_path: Path) -> None:
    assert MAX_LINE == MAX_PAYLOAD
    with source("file", tmp_path) as given:
        for data in (b"a" * MAX_LINE, b"b" * (MAX_LINE + 1), b"c" * (3 << 20), b"d"):
            given.say(data + b"\n")
        given.say(b"e" * (2 << 20))
        given.end()
        reading = Input(given.descriptor)
        assert await reading.line() == b"a" * MAX_LINE
        for _ in range(2):
            with pytest.raises(LineTooLong, match="1 MiB"):
                await reading.line()
        assert await reading.line() == b"d"
        with pytest.raises(LineTooLong):
            await reading.line()
        assert await reading.line() is None
        await reading.close()


async def test_a_cancelled_reader_loses_nothing(tmp_path: Path) -> None:
    with source("pipe", tmp_path) as given:
        reading = Input(given.descriptor)
        got: list[bytes | None] = []
        for number in range(50):
            waiting = asyncio.ensure_future(reading.line())
            await asyncio.sleep(0)
            waiting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                got.append(await waiting)
            given.say(b"%d\n" % number)
        given.end()
        assert got + await all_of(reading) == [b"%d" % number for number in range(50)]
        await reading.close()


async def test_no_more_is_read_than_is_asked_for(tmp_path: Path) -> None:
    with source("pipe", tmp_path) as given:
        assert given.hand is not None
        os.set_blocking(given.hand, False)
        size = fcntl.fcntl(given.hand, fcntl.F_GETPIPE_SZ)
        lines = b"line\n" * (size // 5)
        reading = Input(given.descriptor)
        total = os.write(given.hand, lines)
        assert await reading.line() == b"line"
        with contextlib.suppress(BlockingIOError):
            while True:
                total += os.write(given.hand, b"x" * 4096)
        assert total <= 3 * size  # What the pipe holds, and one chunk.
        await reading.close()


async def test_writing_waits_for_its_reader_and_the_loop_does_not() -> None:
    with pipe() as (there, here):
        output = Output(here, "standard output", limit=100_000)
        written = 0

        async def write() -> None:
            nonlocal written
            for number in range(100):
                await output.write(bytes([number]) * 10_000)
                written += 1

        writing = asyncio.ensure_future(write())
        while not (stopped := not writing.done() and written >= 10):
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert stopped
        assert written < 30  # The pipe, the queue and one message more.
        read = bytearray()
        while len(read) < 1_000_000:
            read += await read_some(there)
        await writing
        assert bytes(read) == b"".join(bytes([number]) * 10_000 for number in range(100))
        await output.close(None)
    await no_reader_is_left()


async def test_notices_never_wait_and_tell_what_was_left_out() -> None:
    with pipe() as (there, here):
        output = Output(here, "standard error", limit=10_000)
        for number in range(10_000):
            output.notice(b"notice %d\n" % number)
        read = bytearray()
        os.set_blocking(there, False)
        while b"notice 20000\n" not in read:
            output.notice(b"notice 20000\n")
            await asyncio.sleep(0)
            with contextlib.suppress(BlockingIOError):
                read += os.read(there, 65_536)
        lines = read.decode().splitlines()
        assert lines[:3] == ["notice 0", "notice 1", "notice 2"]
        assert any("notices are left out here" in line for line in lines)
        await output.close(1.0)


async def test_a_reader_that_has_gone_ends_the_writing() -> None:
    with pipe() as (there, here):
        output = Output(here, "standard output")
        await output.write(b"x")
        await output.flush()
        os.close(there)
        await output.write(b"y")
        async with asyncio.timeout(60):
            assert isinstance(await output.failure(), OutputClosed)
        with pytest.raises(OutputClosed):
            await output.write(b"z")
        await output.close(0.5)
    await no_reader_is_left()


@pytest.mark.parametrize("after", [b"", b"said before"])
async def test_a_reader_that_has_gone_is_seen_without_a_word(after: bytes) -> None:
    with pipe() as (there, here):
        output = Output(here, "standard output")
        if after:
            await output.write(after)
            await output.flush()
        output.watch_reader()
        os.close(there)
        async with asyncio.timeout(60):
            assert isinstance(await output.failure(), OutputClosed)
        await output.close(0.5)


async def test_a_full_disk_is_told() -> None:
    descriptor = os.open("/dev/full", os.O_WRONLY)
    try:
        output = Output(descriptor, "standard output")
        await output.write(b"x")
        with pytest.raises(OutputFailed, match="cannot write to standard output: No space left"):
            await output.flush()
        await output.close(0.5)
    finally:
        os.close(descriptor)


async def test_a_closed_output_fails_and_closed_errors_do_not() -> None:
    async with Terminal(None, None, None) as terminal:
        terminal.notice("nobody sees it")
        with pytest.raises(OutputFailed, match="closed"):
            await terminal.answer("guid")


async def test_an_output_that_nobody_reads_does_not_hold_up_the_end() -> None:
    with pipe() as (_, here):
        output = Output(here, "standard output")
        await output.write(b"x" * 500_000)
        async with asyncio.timeout(60):
            await output.close(0.01)
    await no_reader_is_left()


class Screen:
    """A terminal's other end: what people see."""

    def __init__(self) -> None:
        self.master, self.descriptor = os.openpty()
        tty.setraw(self.descriptor)
        self._seen = b""

    async def see(self, text: str) -> str:
        """Wait until a text is seen; return all that was."""
        async with asyncio.timeout(60):
            while text.encode() not in self._seen:
                self._seen += await read_some(self.master)
        return self._seen.decode()

    def close(self) -> None:
        os.close(self.master)
        os.close(self.descriptor)


@pytest.fixture
def screen() -> Iterator[Screen]:
    made = Screen()
    try:
        yield made
    finally:
        made.close()


async def test_messages_act_on_no_terminal(screen: Screen) -> None:
    async with Terminal(None, screen.descriptor, screen.descriptor) as terminal:
        await terminal.message(NASTY.encode() + b"\xff\none\ttwo", "bob")
        terminal.notice(f"{NASTY}\nfaked line")
        await terminal.answer(NASTY)
        # Notices and messages are written by one each.
        await screen.see(r"\x0afaked line")
        seen = await screen.see(f"{SAFE}\\xff\none\ttwo\n")
        assert f"{SAFE}\\x0afaked line\n" in seen
        assert not set(seen) & set("\x1b\x9b\u202e")


async def test_messages_reach_programs_as_they_are() -> None:
    with pipe() as (there, here):
        async with Terminal(None, here, None) as terminal:
            await terminal.message(b"\x00\x1b[31m\xff\r\n", "bob")
        assert os.read(there, 100) == b"\x00\x1b[31m\xff\r\n\n"


async def test_with_json_every_line_is_an_object() -> None:
    with pipe() as (there, here):
        async with Terminal(None, here, None, as_json=True) as terminal:
            await terminal.message(f"{NASTY}\n".encode(), "bob")
            await terminal.message(b"\xff\n", "bob")
            await terminal.tell("not this", event="sent", files=["caf\udce9", {"a": "\ud800"}])
            await terminal.answer("not this", file="caf\udce9.txt")
        lines = [json.loads(line) for line in os.read(there, 10_000).decode().splitlines()]
    assert lines == [
        {"event": "message", "remote": "bob", "text": f"{NASTY}\n"},
        {"event": "message", "remote": "bob", "base64": "/wo="},
        {"event": "sent", "files": [r"caf\udce9", {"a": r"\ud800"}]},
        {"file": r"caf\udce9.txt"},
    ]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
async def test_every_encoding_will_do(
    screen: Screen, encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "__stdout__", page)
    with pipe() as (there, here):
        async with Terminal(None, here, screen.descriptor) as terminal:
            await terminal.answer("日 caf\udce9 é")
            await terminal.table("日", ("é",), [("\udce9",)])
            with terminal.bars() as bars, bars.add("日\udce9") as bar:
                bar.progress(1, 2)
                terminal.notice("日 ended")
        seen = os.read(there, 10_000).decode(encoding)
        assert r"caf\udce9" in seen
        assert ("日" in seen) == (encoding == "utf-8")
        # Lines of a table are drawn with what there is.
        assert r"\u250" not in seen
        await screen.see("日 ended" if encoding == "utf-8" else r"\u65e5 ended")


async def test_facts_are_whole_and_act_on_no_terminal() -> None:
    with pipe() as (there, here):
        async with Terminal(None, here, None, as_json=True) as terminal:
            await terminal.tell("not this", event="ended", reason=NASTY + "\n\u2028")
        line = os.read(there, 1000).decode()
        assert json.loads(line) == {"event": "ended", "reason": NASTY + "\n\u2028"}
        assert line.isascii()
        assert not set(line[:-1]) & {chr(code) for code in range(32)}


async def test_tables_keep_brackets_and_are_not_cut_in_a_file(tmp_path: Path) -> None:
    long = "later in order, and not clearly better " * 300
    with (tmp_path / "file").open("wb") as file:
        async with Terminal(None, file.fileno(), None) as terminal:
            await terminal.table(f"t {NASTY}", ("endpoint", "why"), [("[fd00::1]:4000", long)])
            await terminal.table("title " * 50, ("a",), [("b",)])
    lines = (tmp_path / "file").read_text().splitlines()
    assert SAFE in lines[0]
    assert ("title " * 50) in lines
    assert any("[fd00::1]:4000" in line and long.strip() in line for line in lines)


async def test_bars_keep_brackets_and_news_stand_above_them(screen: Screen) -> None:
    async with Terminal(None, None, screen.descriptor) as terminal:
        with terminal.bars() as bars:
            with bars.add("song[red].mp3 \x1b[5m") as bar:
                bar.progress(1, 2)
                await screen.see(r"song[red].mp3 \x1b[5m")
                bar.label("[/etc/motd]")
                await screen.see("[/etc/motd]")
                terminal.notice(f"news {NASTY}")
                seen = await screen.see("news")
                assert SAFE in await screen.see(SAFE)
            assert "\x9b31m" not in seen


async def test_bars_are_not_drawn_where_nobody_looks() -> None:
    with pipe() as (there, here):
        async with Terminal(None, None, here) as terminal:
            with terminal.bars() as bars, bars.add("file") as bar:
                bar.progress(1, 2)
                bar.label("other")
                terminal.notice("news")
        assert os.read(there, 1000) == b"news\n"


async def test_a_library_that_writes_text_never_waits() -> None:
    with pipe() as (_, here):
        async with Terminal(None, None, here) as terminal:
            stream = terminal.stream()
            for _ in range(2000):
                print("x" * 1000, file=stream, flush=True)
            assert isinstance(stream, io.TextIOBase)


SHELL = """
import asyncio, fcntl, os, signal, sys, termios
from peers.cli.input import Input

fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # This session's terminal, as a shell has it.
job = os.fork()
if not job:
    os.setpgid(0, 0)  # A job in the background: `peer listen chat &`.

    async def read():
        reading = Input(0)
        print("begun", flush=True)
        print((await reading.line()).decode(), flush=True)
        await reading.close()

    asyncio.run(read())
    os._exit(0)
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
os.read(3, 1)  # What was typed waits; the job has met it by now, or meets it later.
pid, status = os.waitpid(job, os.WNOHANG | os.WUNTRACED)
print("stopped" if pid and os.WIFSTOPPED(status) else "running", flush=True)
if pid:
    os.kill(job, signal.SIGKILL)
os.tcsetpgrp(0, job)  # `fg`
os.waitpid(job, 0)
"""


async def test_a_job_in_the_background_is_not_stopped_by_its_terminal() -> None:
    master, terminal = os.openpty()
    with pipe() as (there, here):
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            SHELL,
            stdin=terminal,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,
            preexec_fn=lambda: os.dup2(there, 3),
            pass_fds=(3,),
        )
        try:
            assert process.stdout is not None
            async with asyncio.timeout(60):
                assert await process.stdout.readline() == b"begun\n"
                os.write(master, b"typed\n")
                await asyncio.sleep(0.3)  # For a read that would stop it.
                os.write(here, b"x")
                assert await process.stdout.readline() == b"running\n"
                assert await process.stdout.readline() == b"typed\n"
                assert await process.wait() == 0
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
            os.close(master)
            os.close(terminal)
