"""One process that is kept running, whatever becomes of its program."""

import asyncio
import logging
import os
import sys
from pathlib import Path

import pytest

from relay.nodes.child import Child

TIMEOUT = 60.0


async def test_one_that_cannot_be_started_is_started_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "relay")
    program = tmp_path / "python"
    monkeypatch.setattr(sys, "executable", str(program))
    said = asyncio.Event()
    command = [os.path.realpath("/bin/sh"), "-c", "echo here; read line"]
    child = Child("one", command, b"", lambda line: said.set(), 0.0)
    keeping = asyncio.create_task(child.keep())
    async with asyncio.timeout(TIMEOUT):
        while not caplog.records:
            await asyncio.sleep(0.01)
            assert not keeping.done()
        assert "a process has ended" in caplog.records[0].getMessage()
        assert "No such file" in caplog.records[0].getMessage()
        program.write_text('#!/bin/sh\nshift 4\nexec "$@"\n')
        program.chmod(0o700)
        await said.wait()
        child.stop(9)
        await keeping


@pytest.mark.expected_errors("a process hangs")
async def test_a_line_without_an_end_ends_that_process_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING, "relay")
    command = [sys.executable, "-c", "import sys; sys.stdout.write('x' * 3_000_000)"]
    child = Child("one", command, b"", lambda line: None, 0.0)
    keeping = asyncio.create_task(child.keep())
    async with asyncio.timeout(TIMEOUT):
        while "a process has ended" not in caplog.text:
            await asyncio.sleep(0.01)
            assert not keeping.done()
        child.stop(9)
        await keeping


@pytest.mark.expected_errors("hearing a process")
async def test_what_cannot_be_heard_ends_nothing() -> None:
    heard = asyncio.Event()

    def told(line: bytes) -> None:
        if line == b"second\n":
            heard.set()
        raise RuntimeError("nobody expected it")

    command = [os.path.realpath("/bin/sh"), "-c", "echo first; echo second; read line"]
    child = Child("one", command, b"", told, 0.0)
    keeping = asyncio.create_task(child.keep())
    async with asyncio.timeout(TIMEOUT):
        await heard.wait()
        child.stop(9)
        await keeping


async def test_one_that_is_to_be_started_anew_is_another_process() -> None:
    said: asyncio.Queue[bytes] = asyncio.Queue()
    command = [os.path.realpath("/bin/sh"), "-c", "echo $$; read line"]
    child = Child("one", command, b"", said.put_nowait, 0.0)
    keeping = asyncio.create_task(child.keep())
    async with asyncio.timeout(TIMEOUT):
        first = await said.get()
        child.start_anew()
        assert await said.get() != first
        child.stop(9)
        await keeping
