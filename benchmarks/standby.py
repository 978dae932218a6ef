"""What a second path that stands ready costs a quiet session, in packets, bytes, CPU and memory.

Two peers and their relay, which heartbeats alone pass to, on a loopback interface of their own:
its counters are theirs. `python -m benchmarks.standby serve WORD` is the
callee, and with a GUID, a port and a number of sessions behind it the caller.
"""

import asyncio
import json
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from benchmarks.ends import line_of, running, tell
from benchmarks.measure import Row, cpu_seconds, relay_server, resident
from peers import Identity, Peer, PeerConfig, RoamRelayError, Session

__all__ = ["measure_standby"]

_HERE = ("127.0.1.1", "127.0.2.1")
_THERE = ("127.0.3.1", "127.0.4.1")
_WARM = 20
_WAIT = 60.0
"""Seconds for every session to have what it should."""
_IN_NAMESPACE = ("unshare", "--user", "--map-root-user", "--net")


def measure_standby(many: int, seconds: float) -> list[Row]:
    """Return what each of `many` open sessions costs that are quiet for so many seconds, with and
    without a second path; in a network namespace, which it makes."""
    done = subprocess.run(
        (*_IN_NAMESPACE, sys.executable, "-m", "benchmarks.standby", str(many), str(seconds)),
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[1],
        timeout=4 * (_WAIT + seconds),
        check=True,
    )
    return [Row(**row) for row in json.loads(done.stdout)]


def _measure(many: int, seconds: float) -> list[Row]:
    subprocess.run(("ip", "link", "set", "lo", "up"), check=True)
    for address in (*_HERE, *_THERE):
        subprocess.run(("ip", "address", "add", f"{address}/24", "dev", "lo"), check=True)
    return [row for word in ("never", "auto") for row in _with(word, many, seconds)]


def _with(word: str, many: int, seconds: float) -> list[Row]:
    with relay_server({}) as server:
        url = f"http://{server.host}:{server.port}"
        with running("benchmarks.standby", url, word, "serve") as callee:
            guid = line_of(callee)
            with running("benchmarks.standby", url, word, guid, str(many)) as caller:
                tell(caller, "go on")
                before = {who: resident(who.pid) for who in (callee, caller)}
                tell(caller, "go on")
                grown = {who: resident(who.pid) - was for who, was in before.items()}
                used = [cpu_seconds(who.pid) for who in (callee, caller)]
                packets, size = _passed()
                time.sleep(seconds)
                more_packets, more = _passed()
                idle = [cpu_seconds(who.pid) for who in (callee, caller)]
                tell(caller, "go on")
    hourly = 3600 / seconds / (_WARM + many)
    name = f"roam-relay, standby {word}"
    what = f"of {many} quiet sessions, p2p: each in an hour"
    return [
        Row(name, f"{what}: packets", (more_packets - packets) * hourly, ""),
        Row(name, f"{what}: bytes", (more - size) * hourly, "B"),
        Row(name, f"{what}: CPU at the callee", 1e3 * (idle[0] - used[0]) * hourly, "ms"),
        Row(name, f"{what}: CPU at the caller", 1e3 * (idle[1] - used[1]) * hourly, "ms"),
        Row(name, "memory of one at the callee", grown[callee] / many / 1024, "KiB"),
        Row(name, "memory of one at the caller", grown[caller] / many / 1024, "KiB"),
    ]


def _passed() -> tuple[int, int]:
    """Return the packets and bytes that have passed."""
    line = next(one for one in Path("/proc/net/dev").read_text().splitlines() if " lo:" in one)
    size, packets = line.split(":")[1].split()[:2]
    return int(packets), int(size)


def _config(url: str, word: str, sources: tuple[str, ...]) -> PeerConfig:
    return PeerConfig(
        relay=url,
        sources=sources,
        listen_hosts=("0.0.0.0",),
        standby=word,
        max_sessions=10_000,
        sessions_per_peer=10_000,
    )


async def _serve(url: str, word: str) -> None:
    async with (
        Peer(Identity.generate(), config=_config(url, word, _THERE)) as peer,
        asyncio.TaskGroup() as tasks,
    ):

        async def hold(session: Session) -> None:
            with suppress(RoamRelayError):
                async for _ in session:
                    pass

        listener = peer.listen("quiet")
        await peer.published()
        print(peer.guid, flush=True)
        async for session in listener:
            tasks.create_task(hold(session))


async def _call(url: str, word: str, guid: str, many: int) -> None:
    lines = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    async with Peer(Identity.generate(), config=_config(url, word, _HERE)) as peer:
        await lines.readline()
        warm = [await peer.connect(guid, "quiet", mode="p2p") for _ in range(_WARM)]
        print("what all share is there", flush=True)
        await lines.readline()
        sessions = [await peer.connect(guid, "quiet", mode="p2p") for _ in range(many)]
        async with asyncio.timeout(_WAIT):
            for session in sessions:
                async for event in session.events():
                    if word == "never" or event.standby is not None:
                        break
        print("all are quiet", flush=True)
        await lines.readline()
        for session in (*warm, *sessions):
            await session.close()
        print("closed", flush=True)


if __name__ == "__main__":
    match sys.argv[1:]:
        case [many, seconds]:
            print(json.dumps([asdict(row) for row in _measure(int(many), float(seconds))]))
        case [url, word, "serve"]:
            asyncio.run(_serve(url, word))
        case [url, word, guid, many]:
            asyncio.run(_call(url, word, guid, int(many)))
