"""The group chat of examples/: four members and a file, while relay and a member are killed."""

import asyncio
import contextlib
import hashlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from peers import Identity
from tests.support.ports import free_port
from tests.support.processes import environment

EXAMPLE = Path(__file__).parents[2] / "examples" / "group_chat.py"
LINES = 30
"""What each member says between two events."""


class Process:
    """A program, and what it has printed."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.printed: list[str] = []
        self._more = asyncio.Condition()
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            async with self._more:
                self.printed.append(line.decode().rstrip())
                self._more.notify_all()

    async def until(self, count: int, *words: str) -> None:
        """Wait until so many lines contain one of these words."""
        async with self._more:
            await self._more.wait_for(
                lambda: sum(any(word in line for word in words) for line in self.printed) >= count
            )

    def say(self, *lines: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("".join(f"{line}\n" for line in lines).encode())

    async def end(self, how: signal.Signals | None = None) -> int:
        """End it: by a signal, or by the end of its input."""
        if how is not None and self._process.returncode is None:
            self._process.send_signal(how)
        elif self._process.stdin is not None:
            self._process.stdin.close()
        code = await self._process.wait()
        await self._reading
        return code


async def started(*command: str) -> Process:
    return Process(
        await asyncio.create_subprocess_exec(
            sys.executable,
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=environment() | {"PYTHONPATH": str(EXAMPLE.parents[1])},
        )
    )


class Group:
    """A relay and four members."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()
        self.guids = [Identity.load_or_create(folder / f"{number}.key").guid for number in range(4)]
        (folder / "relay.toml").write_text(f'state = "{folder / "state"}"\n')
        self.processes: list[Process] = []

    async def relay(self) -> Process:
        ready = self._folder / "ready"
        ready.unlink(missing_ok=True)
        config = str(self._folder / "relay.toml")
        command = ("-m", "relay", "serve", "--config", config, "--port", str(self._port))
        process = await started(*command, "--ready-file", str(ready))
        self.processes.append(process)
        while not ready.exists():
            await asyncio.sleep(0.02)
        return process

    async def member(self, number: int) -> Process:
        others = [guid for guid in self.guids if guid != self.guids[number]]
        url = f"http://127.0.0.1:{self._port}"
        key, folder = str(self._folder / f"{number}.key"), str(self.folder_of(number))
        process = await started(str(EXAMPLE), url, key, folder, *others)
        self.processes.append(process)
        await process.until(1, "# here")
        return process

    def folder_of(self, number: int) -> Path:
        return self._folder / f"files-{number}"


@contextlib.asynccontextmanager
async def group(folder: Path) -> AsyncIterator[Group]:
    one = Group(folder)
    try:
        yield one
    finally:
        await asyncio.gather(*(process.end(signal.SIGKILL) for process in one.processes))


async def test_nothing_is_lost_between_those_who_live(tmp_path: Path) -> None:
    content = os.urandom(3 << 20)
    (tmp_path / "picture.png").write_bytes(content)
    async with asyncio.timeout(120), group(tmp_path) as it:
        relay = await it.relay()
        members = list(await asyncio.gather(*map(it.member, range(4))))
        names = [guid[:8] for guid in it.guids]

        def all_say(what: str, who: range = range(4)) -> None:
            for number in who:
                members[number].say(*(f"{what} {line}" for line in range(LINES)))

        all_say("first")
        for member in members:
            await member.until(3 * LINES, " first ")
        # The relay is killed while they talk, and comes back: with it what they say meanwhile.
        all_say("during")
        await relay.end(signal.SIGKILL)
        all_say("without")
        members[0].say(f"/drop {tmp_path / 'picture.png'}")
        relay = await it.relay()
        # One of them is killed while it talks and receives; the others go on.
        all_say("last", range(4))
        await members[3].end(signal.SIGKILL)
        all_say("afterwards", range(3))
        members[3] = await it.member(3)
        members[3].say("I am back")
        for number in range(3):
            await members[number].until(1, f"{names[3]} I am back")
            others = [names[other] for other in range(3) if other != number]
            await members[number].until(2 * LINES, *(f"{other} afterwards" for other in others))
        await members[3].until(3 * LINES, " afterwards ")
        await members[0].until(3, "has picture.png")
        parts = ("first", "during", "without", "last", "afterwards")
        said = [f"{what} {line}" for what in parts for line in range(LINES)]
        for number in range(3):
            printed = members[number].printed
            assert not [line for line in printed if "Traceback" in line]
            for other in {0, 1, 2} - {number}:
                heard = [line[9:] for line in printed if line.startswith(names[other])]
                assert heard == said, "each exactly once, and in its order"
            assert not [line for line in printed if f"{names[(number + 1) % 3]} is offline" in line]
        for number in (1, 2, 3):
            stored = [file for file in it.folder_of(number).iterdir() if "picture" in file.name]
            digests = {hashlib.sha256(file.read_bytes()).hexdigest() for file in stored}
            assert digests == {hashlib.sha256(content).hexdigest()}
        assert await asyncio.gather(*(member.end() for member in members)) == [0] * 4
