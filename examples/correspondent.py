"""A correspondent node: in each mode, talk with a mobile node and send it a file.

python examples/correspondent.py RELAY-URL KEY-FILE GUID FILE

Prints one JSON object for each mode.
"""

import asyncio
import json
import statistics
import sys
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from peers import Identity, Mode, Peer
from peers.cli.file_transfer import send_file

PINGS = 50


async def talk(peer: Peer, guid: str, mode: Mode, file: Path, bar: Progress) -> dict[str, object]:
    """Run one session of each service in one mode; return what was seen."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    session = await peer.connect(guid, "ping", mode=mode)
    setup = loop.time() - began
    times = []
    async with session:
        for number in range(PINGS):
            message = f"message {number}".encode()
            sent = loop.time()
            await session.send(message)
            if await session.receive() != message:
                raise SystemExit(f"{mode.value}: message {number} came back changed")
            times.append(loop.time() - sent)
        path = session.path  # In auto it has moved to a direct one by now.
        assert path is not None
    task = bar.add_task(mode.value, total=file.stat().st_size)
    session = await peer.connect(guid, "file", mode=mode)
    began = loop.time()
    async with session:
        digest = await send_file(session, file, lambda done, size: bar.update(task, completed=done))
    seconds = loop.time() - began
    return {
        "mode": mode.value,
        "path": path.kind.value,
        "local": path.local,
        "remote": path.remote,
        "setup_ms": setup * 1000,
        "round_trip_ms": statistics.median(times) * 1000,
        "megabytes_per_second": file.stat().st_size / seconds / 1e6,
        "sha256": digest,
    }


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
                print(json.dumps(await talk(peer, guid, mode, file, bar)), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], Path(sys.argv[4])))
