"""The programs of either version as children: a party, a relay, a command. Whatever they write is
kept, and every wait for them has a deadline."""

import asyncio
import itertools
import json
import re
import signal
import sys
from collections import deque
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from tests.compat.past import OLD, Tree
from tests.support.processes import KEEPS_NOTHING

__all__ = ["DEADLINE", "Child", "Command", "Failed", "Party", "Relay", "Said", "all_of"]

DEADLINE = 60.0
"""Seconds for anything to happen."""

TROUBLE = re.compile(
    r"Traceback \(most recent call last\)|was never (retrieved|awaited)|heartbeat_timeout"
)
"""What no program may say, whatever the other version does."""

KNOWN = {
    OLD: re.compile(
        r"Exception in callback <bound method RawCarrier\._flush |Error handling request from "
    )
}
"""What stands above the tracebacks that commit 186971b is known for, and that do no harm: its relay
writes to a connection that was reset in that very moment."""

HERE = Path(__file__).parent


async def all_of(*work: Coroutine[Any, Any, Any]) -> list[Any]:
    """Do it all at once; the first failure ends the others, and is raised."""
    try:
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(one) for one in work]
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise error from None
    return [task.result() for task in running]


class Said(Exception):
    """A party answers with one of the project's own errors: its name, its code and its reason."""

    def __init__(self, kind: str, code: str | None, reason: str) -> None:
        super().__init__(f"{kind} ({code}): {reason}")
        self.kind, self.code, self.reason = kind, code, reason


class Failed(AssertionError):
    """A child does not do what it is there for."""


class Child:
    """A process, and all that it has written to standard error."""

    def __init__(self, tree: Tree, name: str) -> None:
        self.tree = tree
        self.name = name
        self.errors: deque[str] = deque(maxlen=5_000)
        self._troubles: list[str] = []
        self._process: asyncio.subprocess.Process | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Start it; return when it can be used. Whatever comes of it, `stop` is called later."""
        raise NotImplementedError

    async def _begin(self, program: str, *arguments: str) -> None:
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, str(HERE / program), *arguments),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=1 << 20,
            env=self.tree.environment(),
            cwd=self.tree.folder,
        )
        self._tasks.append(asyncio.create_task(self._read_errors()))

    async def _read_errors(self) -> None:
        assert self._process is not None
        assert self._process.stderr is not None
        # No timeout: it ends with the process.
        async for line in self._process.stderr:
            self._heard(line.decode(errors="replace").rstrip("\n"))

    def _heard(self, line: str) -> None:
        """It has written a line to standard error."""
        above = list(self.errors)[-2:]
        self.errors.append(line)
        known = KNOWN.get(self.tree.name)
        if TROUBLE.search(line) and not (known and any(map(known.search, above))):
            self._troubles.append(f"{self.name}: {line}")

    async def line(self) -> dict[str, Any]:
        """Return the next line of standard output."""
        assert self._process is not None
        assert self._process.stdout is not None
        async with asyncio.timeout(DEADLINE):
            line = await self._process.stdout.readline()
        if not line:
            raise Failed(f"{self.name} has ended; {self.written()}")
        return dict(json.loads(line))

    async def loaded(self) -> None:
        """Check that it has loaded its own version and no other."""
        for file in (await self.line())["loaded"]:
            assert self.tree.holds(file), f"{self.name} runs {file}"

    async def exit(self) -> None:
        """Wait until it has ended; it must have nothing to complain of."""
        process = self._process
        if process is None:
            return
        assert process.stdin is not None
        process.stdin.close()
        try:
            async with asyncio.timeout(DEADLINE):
                await process.wait()
                await asyncio.gather(*self._tasks)
        except TimeoutError:
            process.kill()
            await process.wait()
            raise Failed(f"{self.name} does not end; {self.written()}") from None
        finally:
            for task in self._tasks:
                task.cancel()
        code, wanted = process.returncode, self.exit_code
        assert code == wanted, f"{self.name} ended with {code}; {self.written()}"

    exit_code = 0
    """With which it ends when all is well."""

    async def stop(self) -> None:
        """End it as an operator does."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGINT)
        await self.exit()

    def troubles(self) -> list[str]:
        """Return what it should not have said since this was asked last."""
        troubles, self._troubles = self._troubles, []
        return troubles

    def written(self, lines: int = 40) -> str:
        """Return the end of what it has written to standard error."""
        last = list(self.errors)[-lines:]
        return "\n".join([f"{self.name} said:", *last]) if last else f"{self.name} said nothing"


class Party(Child):
    """A process of tests/compat/party.py: `await party("connect", peer=…)` has it do something."""

    def __init__(self, tree: Tree) -> None:
        super().__init__(tree, f"{tree.name} party")
        self._numbers = itertools.count()
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._doing: dict[int, str] = {}

    async def start(self) -> None:
        await self._begin("party.py")
        self._tasks.append(asyncio.create_task(self._read_answers()))
        for name, file in (await self("where")).items():
            assert self.tree.holds(file), f"{self.name} has loaded {name} from {file}"

    async def __call__(self, do: str, deadline: float = DEADLINE, **arguments: Any) -> Any:
        """Have it do something; return what came of it.

        Raises:
            Said: one of the project's errors came of it.
            Failed: something else did, or nothing in time.
        """
        number = next(self._numbers)
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        self._doing[number] = do
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(
            json.dumps({"id": number, "do": do, **arguments}).encode() + b"\n"
        )
        try:
            async with asyncio.timeout(deadline):
                told = await answer
        except TimeoutError:
            others = sorted(set(self._doing.values()) - {do})
            raise Failed(
                f"{self.name}: no answer to {do} {arguments}; it also does {others}"
            ) from None
        finally:
            self._waiting.pop(number, None)
            del self._doing[number]
        if "broken" in told:
            raise Failed(f"{self.name}: {do} {arguments}:\n{told['broken']}")
        if "refused" in told:
            raise Said(**told["refused"])
        return told["done"]

    async def _read_answers(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        # No timeout: it ends with the process.
        async for line in self._process.stdout:
            told = json.loads(line)
            answer = self._waiting.pop(told["id"], None)
            if answer is not None and not answer.done():
                answer.set_result(told)
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_result({"broken": f"{self.name} has ended"})

    async def stop(self) -> None:
        """End it: it closes its peers."""
        await self.exit()


class Relay(Child):
    """A process of `relay serve`."""

    def __init__(self, tree: Tree, config: Path, *flags: str) -> None:
        super().__init__(tree, f"{tree.name} relay")
        self._flags = ("--config", str(config), "--log-format", "json", *flags)
        if tree.name != OLD:  # Which knows no such flag.
            self._flags += KEEPS_NOTHING
        self._serving: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.url = ""

    async def start(self) -> None:
        await self._begin("launch.py", "relay", "serve", *self._flags)
        await self.loaded()
        try:
            async with asyncio.timeout(DEADLINE):
                self.url = await self._serving
        except TimeoutError:
            raise Failed(f"{self.name} does not serve; {self.written()}") from None

    def _heard(self, line: str) -> None:
        super()._heard(line)
        if '"serving"' in line and not self._serving.done():
            self._serving.set_result(json.loads(line)["url"])


class Command(Child):
    """A process of the `peer` command, which says JSON lines."""

    def __init__(self, tree: Tree, *arguments: str, exit_code: int = 0) -> None:
        super().__init__(tree, f"{tree.name} peer")
        self._arguments = arguments
        self.exit_code = exit_code

    async def start(self) -> None:
        await self._begin("launch.py", "peers", *self._arguments)
        await self.loaded()
