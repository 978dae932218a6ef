"""A correspondent node: in each mode, talk with a mobile node and send it a file.

python examples/correspondent.py RELAY-URL KEY-FILE GUID FILE

Prints one JSON object for each mode: what was seen, or the error that ended it.
"""

import asyncio
import json
import statistics
import sys
import time
import urllib.request
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from peers import Identity, Mode, Peer, RoamRelayError
from peers.cli.file_transfer import send_file

MESSAGES = 50


def plane_bytes(relay: str) -> int:
    """Return the relay's own count of bytes through planes."""
    with urllib.request.urlopen(f"{relay}/metrics", timeout=30) as answer:
        lines = answer.read().decode().splitlines()
    return int(sum(float(line.split()[-1]) for line in lines if "plane_bytes_total{" in line))


async def talk(peer: Peer, guid: str, mode: Mode, file: Path, bar: Progress) -> dict[str, object]:
    """Run one session of each service in one mode; return what was seen."""
    began = time.perf_counter()
    session = await peer.connect(guid, "ping", mode=mode)
    setup = time.perf_counter() - began
    times = []
    in_order = 0
    async with session:
        for number in range(MESSAGES):
            message = f"message {number}".encode()
            sent = time.perf_counter()
            await session.send(message)
            in_order += await session.receive() == message
            times.append(time.perf_counter() - sent)
        path = session.path  # In auto often a direct one by now.
        assert path is not None
    task = bar.add_task(mode.value, total=file.stat().st_size)
    session = await peer.connect(guid, "file", mode=mode)
    began = time.perf_counter()
    async with session:
        told = await send_file(session, file, lambda done, size: bar.update(task, completed=done))
    seconds = time.perf_counter() - began
    return {
        "path": path.kind.value,
        "local": path.local,
        "remote": path.remote,
        "setup_ms": setup * 1000,
        "messages": MESSAGES,
        "in_order": in_order,
        "round_trip_ms": statistics.median(times) * 1000,
        "megabytes_per_second": file.stat().st_size / seconds / 1e6,
        "sha256": told.sha256,
    }


async def visit(
    peer: Peer, relay: str, guid: str, mode: Mode, file: Path, bar: Progress
) -> dict[str, object]:
    """Return what was seen in one mode, and how many bytes the relay moved meanwhile."""
    before = await asyncio.to_thread(plane_bytes, relay)
    try:
        seen = await talk(peer, guid, mode, file, bar)
    except RoamRelayError as error:
        seen = {"error": f"{type(error).__name__}: {error}"}
    relayed = await asyncio.to_thread(plane_bytes, relay) - before
    return {"mode": mode.value, **seen, "relayed": relayed}


async def main(relay: str, key: str, guid: str, file: Path) -> None:
    """Visit the mobile node in every mode."""
    bar = Progress(
        TextColumn("{task.description:>8}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        console=Console(stderr=True),
    )
    async with Peer(Identity.load_or_create(key), relay) as peer:
        with bar:
            for mode in Mode:
                print(json.dumps(await visit(peer, relay, guid, mode, file, bar)), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], Path(sys.argv[4])))
