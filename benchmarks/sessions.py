"""What an open, quiet session costs at its caller, its callee and the relay, each a process of its
own, and what is left of it five seconds after it was closed. An allocator gives little back to the
system: what is left of as many more, which find that room, is what a closed session holds.

`python -m benchmarks.sessions URL` is the callee, and with `GUID MODE` behind it the caller, which
does what it is told on standard input.
"""

import asyncio
import sys
import time
from collections.abc import Iterator
from contextlib import suppress

from benchmarks.ends import line_of, running, tell
from benchmarks.measure import Row, Server, cpu_seconds, resident
from benchmarks.peers import peer_relay
from peers import Identity, Mode, Peer, PeerConfig, RoamRelayError, Session

__all__ = ["measure_sessions"]

_HERE = "benchmarks.sessions"
_AT_ONCE = 8
_WARM = 20
_MOST = 10_000
_LEFT = 5.0
"""Seconds after the end at which what is left is measured."""


def measure_sessions(name: str, mode: Mode, many: int, seconds: float) -> list[Row]:
    """Return what `many` open sessions cost all three, which are quiet for so many seconds."""
    what = f"{many} sessions, {mode.value}"
    with peer_relay() as server, running(_HERE, _url(server)) as callee:
        guid = line_of(callee)
        with running(_HERE, _url(server), guid, mode.value) as caller:
            tell(caller, f"open {_WARM}")
            tell(caller, "close")
            pids = {"caller": caller.pid, "callee": callee.pid, "relay": server.pid}
            before = {who: resident(pid) for who, pid in pids.items()}
            tell(caller, f"open {many}")
            opened = {who: resident(pid) for who, pid in pids.items()}
            used = {who: cpu_seconds(pid) for who, pid in pids.items()}
            time.sleep(seconds)
            idle = {who: cpu_seconds(pid) - used[who] for who, pid in pids.items()}
            tell(caller, "close")
            time.sleep(_LEFT)
            left = {who: resident(pid) for who, pid in pids.items()}
            tell(caller, f"open {many}")
            tell(caller, "close")
            time.sleep(_LEFT)
            again = {who: resident(pid) for who, pid in pids.items()}
    rows = []
    for who in pids:
        grown, kept = (max(0, after[who] - before[who]) / many / 1024 for after in (opened, left))
        more = max(0, again[who] - left[who]) / many / 1024
        hourly = idle[who] / seconds / many * 3.6e6
        rows += [
            Row(name, f"{what}: memory at the {who}", grown, "KiB"),
            Row(name, f"{what}: 5 s after its end at the {who}", kept, "KiB"),
            Row(name, f"{what}: the same after as many more at the {who}", more, "KiB"),
            Row(name, f"{what}: CPU of a quiet one in an hour at the {who}", hourly, "ms"),
        ]
    return rows


def _url(server: Server) -> str:
    """Return where a relay is."""
    return f"http://{server.host}:{server.port}"


async def _listen(url: str) -> None:
    # All come from one peer: its share is not what is measured.
    config = PeerConfig(relay=url, max_sessions=_MOST, sessions_per_peer=_MOST)
    async with Peer(Identity.generate(), config=config) as peer, asyncio.TaskGroup() as tasks:

        async def told() -> None:
            await peer.published()
            print(peer.guid, flush=True)

        async def hold(session: Session) -> None:
            with suppress(RoamRelayError):  # The caller says what went wrong.
                async for _ in session:
                    pass

        listener = peer.listen("quiet")
        tasks.create_task(told())
        async for session in listener:
            tasks.create_task(hold(session))


async def _connect(url: str, guid: str, mode: Mode) -> None:
    lines = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    sessions: list[Session] = []
    async with Peer(Identity.generate(), url) as peer:
        while words := (await lines.readline()).decode().split():
            if words[0] == "open":
                waiting = iter(range(int(words[1])))

                async def work(waiting: Iterator[int] = waiting) -> None:
                    for _ in waiting:
                        sessions.append(await peer.connect(guid, "quiet", mode=mode))

                async with asyncio.TaskGroup() as tasks:
                    for _ in range(_AT_ONCE):
                        tasks.create_task(work())
            else:
                for session in sessions:
                    await session.close()
                sessions.clear()
            print("done", flush=True)


if __name__ == "__main__":
    if len(sys.argv) == 2:
        asyncio.run(_listen(sys.argv[1]))
    else:
        asyncio.run(_connect(sys.argv[1], sys.argv[2], Mode(sys.argv[3])))
