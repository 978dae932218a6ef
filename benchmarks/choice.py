"""How often the best of several addresses is chosen when it is better by 10 ms.

Each address is a proxy that holds bytes back: 40 ms of round trip, and 30 at one of them. All runs
in this one process, so that the proxies' own work is in the way: a far network is kinder.
"""

import asyncio
from contextlib import AsyncExitStack

from benchmarks.measure import Row, relay_server
from peers import Identity, Peer, PeerConfig
from tests.support.addresses import Addresses
from tests.support.delay_proxy import DelayProxy

__all__ = ["measure_choice"]

_DELAY, _BETTER = 0.020, 0.015
"""Seconds each way."""


async def measure_choice(count: int) -> list[Row]:
    """Return the share of sessions on the best address, among 2, 3 and 8."""
    rows = []
    with relay_server() as server:
        url = f"http://{server.host}:{server.port}"
        for many in (2, 3, 8):
            right = 0
            for number in range(count):
                right += await _best_is_chosen(url, many, number % many)
            rows.append(
                Row(
                    "roam-relay, p2p",
                    f"best of {many} addresses chosen, better by 10 ms",
                    100 * right / count,
                    "%",
                )
            )
    return rows


async def _best_is_chosen(url: str, many: int, best: int) -> bool:
    hosts = [f"127.0.73.{last}" for last in range(1, many + 1)]
    # The callee's flow comes from an address where it does not listen: only the proxies lead to it.
    own = ("127.0.74.1",)
    config = PeerConfig(relay=url, advertise=tuple(hosts), listen_hosts=("127.0.0.1",), sources=own)
    async with AsyncExitStack() as stack:
        callee = await stack.enter_async_context(
            Peer(Identity.generate(), config=config, addresses=Addresses(own))
        )
        caller = await stack.enter_async_context(Peer(Identity.generate(), url))
        for number, host in enumerate(hosts):
            delay = _BETTER if number == best else _DELAY
            proxy = DelayProxy(lambda delay=delay: delay)  # type: ignore[misc]
            await stack.enter_async_context(proxy.run(host, ("127.0.0.1", callee.port)))
        callee.listen("choice")
        await callee.published()
        async with asyncio.timeout(30):
            while len((await caller.locate(callee.guid, "choice")).entries) < many + 1:
                await asyncio.sleep(0.02)

        session = await caller.connect(callee.guid, "choice", mode="p2p")
        try:
            assert session.path is not None
            return session.path.remote.startswith(f"{hosts[best]}:")
        finally:
            session.abort()
