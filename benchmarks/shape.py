"""`python -m benchmarks.shape`: how much of the code one `connect` goes through, how many
parameters the largest constructors have, and what `import peers` costs.

For another version of the project, run this file with that version first on the path; it uses the
public names alone:

    git worktree add ../before 186971b
    cd ../before && PYTHONPATH=. ../HERE/.venv/bin/python ../HERE/benchmarks/shape.py
"""

import ast
import asyncio
import json
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import click

import peers
import protocol
import relay
from peers import Identity, Mode, Peer
from relay.config import RelayConfig
from relay.server import RelayServer

PACKAGES = [Path(str(package.__file__)).parent for package in (peers, relay, protocol)]
ROOT = PACKAGES[0].parent
_QUIET = 0.13
"""Seconds after a session, so that the end of its path is not counted with the next one."""


class Calls:
    """The calls of one block whose code is in the three packages, whoever makes them."""

    def __init__(self) -> None:
        self.made = 0
        self.steps = 0
        """Calls, and coroutines that go on: what `sys.setprofile` tells as a call."""
        self.files: set[Path] = set()
        self._known: dict[str, Path | None] = {}

    def __enter__(self) -> "Calls":
        sys.setprofile(self._happened)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    @property
    def rooms(self) -> set[str]:
        """The folders inside the packages; a file beside them is a room of its own."""
        return {".".join(file.with_suffix("").parts[:2]) for file in self.files}

    def _happened(self, frame: FrameType, event: str, argument: object) -> None:
        if event != "call":
            return
        code = frame.f_code
        if code.co_filename not in self._known:
            path = Path(code.co_filename)
            ours = any(path.is_relative_to(package) for package in PACKAGES)
            self._known[code.co_filename] = path.relative_to(ROOT) if ours else None
        file = self._known[code.co_filename]
        if file is None:
            return
        self.steps += 1
        self.files.add(file)
        # RESUME's argument is 0 where a function begins, and not where a coroutine goes on.
        self.made += code.co_code[frame.f_lasti + 1] & 3 == 0


async def one_connect(caller: Peer, callee: Peer, mode: Mode) -> Calls:
    """Return the calls of one `connect`, of both ends and of the relay."""
    with Calls() as calls:
        session = await caller.connect(callee.guid, "shape", mode=mode)
    await session.close()
    await asyncio.sleep(_QUIET)
    return calls


async def _take(peer: Peer) -> None:
    async for _ in peer.listen("shape"):
        pass  # The caller closes it.


async def connects(runs: int) -> list[dict[str, Any]]:
    """Return the medians of so many connects in each mode, after one to warm up."""
    rows = []
    async with (
        RelayServer(RelayConfig(port=0)) as server,
        Peer(Identity.generate(), server.url) as callee,
        Peer(Identity.generate(), server.url) as caller,
    ):
        taking = asyncio.create_task(_take(callee))
        await asyncio.sleep(0)
        await callee.published()
        for mode in Mode:
            done = [await one_connect(caller, callee, mode) for _ in range(runs + 1)][1:]
            row: dict[str, Any] = {"mode": mode.value}
            for name, count in (
                ("calls", lambda one: one.made),
                ("steps", lambda one: one.steps),
                ("files", lambda one: len(one.files)),
                ("rooms", lambda one: len(one.rooms)),
            ):
                row[name] = round(statistics.median(map(count, done)))
            rows.append(row)
        taking.cancel()
        await asyncio.gather(taking, return_exceptions=True)
    return rows


def constructors() -> Iterator[tuple[int, str, str]]:
    """Yield each written constructor: its parameters without `self`, its class, its file."""
    for package in PACKAGES:
        for file in sorted(package.rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text())):
                if not isinstance(node, ast.ClassDef):
                    continue
                for made in node.body:
                    if isinstance(made, ast.FunctionDef) and made.name == "__init__":
                        given = made.args
                        names = [*given.posonlyargs, *given.args, *given.kwonlyargs]
                        yield len(names) - 1, node.name, str(file.relative_to(ROOT))


def importing(runs: int) -> dict[str, Any]:
    """Return what `import peers` costs in a new interpreter: medians of its time, on the clock and
    of the CPU, and its modules."""
    script = (
        "import sys, time; before = set(sys.modules); began = time.process_time(); import peers; "
        "cpu = time.process_time() - began; new = set(sys.modules) - before; "
        "print(cpu * 1000, len(new), 'aiohttp' in new)"
    )
    times, used = [], []
    for _ in range(runs + 1):
        done = subprocess.run(
            [sys.executable, "-X", "importtime", "-c", script],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        (line,) = (line for line in done.stderr.splitlines() if line.endswith("| peers"))
        times.append(int(line.split("|")[1]) / 1000)
        cpu, modules, aiohttp = done.stdout.split()
        used.append(float(cpu))
    return {
        "milliseconds": round(statistics.median(times[1:])),
        "cpu": round(statistics.median(used[1:])),
        "modules": int(modules),
        "aiohttp": aiohttp == "True",
    }


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--runs", default=5, show_default=True, help="Of each; medians are shown.")
def main(as_json: bool, runs: int) -> None:
    """Say how much of the code one connect goes through."""
    largest = sorted(constructors(), key=lambda one: -one[0])
    found = {
        "connect": asyncio.run(connects(runs)),
        "constructors": [one for one in largest if one[0] > 5] or largest[:3],
        "import": importing(runs),
    }
    if as_json:
        json.dump(found, sys.stdout, indent=1)
        return
    print(f"one connect, both ends and the relay, in {ROOT.name}:")
    for row in found["connect"]:
        print(
            "  {mode:9}{calls:5} calls {steps:5} steps {files:4} files {rooms:4} rooms".format(
                **row
            )
        )
    print("the largest constructors, by parameters:")
    for many, name, file in found["constructors"]:
        print(f"  {many:3}  {name} ({file})")
    told = "import peers: {milliseconds} ms, {cpu} ms of CPU, {modules} modules"
    print(told.format(**found["import"]), end="")
    print(", aiohttp among them" if found["import"]["aiohttp"] else ", without aiohttp")


if __name__ == "__main__":
    main()
