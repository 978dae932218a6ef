"""From `connect()` to the first byte back, by mode and by the number of candidates, and what the
relay's proofs cost it.

The callee tells a number of addresses, all loopback's, and the relay has proven those that are
disclosed. Dead ones cannot be proven, and callers never see them.
"""

import asyncio
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from benchmarks.measure import Row, cpu_seconds, relay_server
from peers import Identity, Mode, Peer, PeerConfig, RoamRelayError

__all__ = ["measure_proofs", "measure_setup"]


@asynccontextmanager
async def _callee(url: str, alive: int, dead: int) -> AsyncIterator[Peer]:
    # Nothing listens at the dead ones, which come first; `alive` counts the address of the flow.
    hosts = [f"127.0.72.{last}" for last in range(1, dead + 1)]
    hosts += [f"127.0.71.{last}" for last in range(1, alive)]
    listening = ("127.0.0.1", *(host for host in hosts if host.startswith("127.0.71.")))
    config = PeerConfig(relay=url, advertise=tuple(hosts), listen_hosts=listening)
    async with Peer(Identity.generate(), config=config) as peer:
        yield peer


async def _echo(peer: Peer) -> None:
    async with asyncio.TaskGroup() as tasks:

        async def serve(session: object) -> None:
            try:
                async for message in session:  # type: ignore[attr-defined]
                    await session.send(message)  # type: ignore[attr-defined]
            except RoamRelayError:
                pass

        async for session in peer.listen("setup"):
            tasks.create_task(serve(session))


async def measure_setup(count: int) -> list[Row]:
    """Return the time to the first byte back, for each mode and number of candidates."""
    rows = []
    with relay_server() as server:
        url = f"http://{server.host}:{server.port}"
        for alive, dead in ((1, 0), (3, 0), (8, 0), (1, 2)):
            async with _callee(url, alive, dead) as callee:
                echo = asyncio.create_task(_echo(callee))
                await asyncio.sleep(0)
                await callee.published()
                async with Peer(Identity.generate(), url) as caller:
                    while len((await caller.locate(callee.guid, "setup")).entries) < alive:
                        await asyncio.sleep(0.02)
                    for mode in Mode:
                        seconds = []
                        for _ in range(count):
                            began = time.perf_counter()
                            session = await caller.connect(callee.guid, "setup", mode=mode)
                            await session.send(b"first")
                            await session.receive()
                            seconds.append(time.perf_counter() - began)
                            await session.close()
                        what = f"{alive} candidates" + (f" and {dead} unproven" if dead else "")
                        rows.append(
                            Row(
                                f"roam-relay, {mode.value}",
                                f"connect to first byte, {what}",
                                statistics.median(seconds) * 1e3,
                                "ms",
                            )
                        )
                echo.cancel()
                await asyncio.gather(echo, return_exceptions=True)
    return rows


async def measure_proofs(registrations: int) -> list[Row]:
    """Return the relay's CPU for a registration with none and with eight endpoints to prove."""
    rows = []
    with relay_server() as server:
        url = f"http://{server.host}:{server.port}"
        for proofs in (0, 8):
            before = cpu_seconds(server.pid)
            for _ in range(registrations):
                async with _callee(url, proofs + 1, 0) as callee:
                    callee.listen("setup")
                    await callee.published()
                    while len((await callee.locate(callee.guid, "setup")).entries) < proofs + 1:
                        await asyncio.sleep(0.01)
            cpu = (cpu_seconds(server.pid) - before) / registrations
            rows.append(
                Row("roam-relay", f"relay CPU a registration, {proofs} proofs", cpu * 1e3, "ms")
            )
    return rows
