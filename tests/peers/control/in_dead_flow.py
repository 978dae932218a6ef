"""What test_dead_flow.py runs inside a new network namespace: the packets of an idle peer's flow
vanish, as behind a router that has a new address, and new connections work. Prints how long it took
until the peer was reached again. The argument says whose flow it is, and which packets.
"""

import asyncio
import os
import socket
import subprocess
import sys
from pathlib import Path

from peers import Identity, Mode, Peer
from relay.config import RelayConfig
from relay.server import RelayServer
from tests.support.rooms import rooms

TCP_REPAIR = 19
"""Of Linux: a socket that is closed under it goes without a word."""


def ip(*words: str) -> None:
    subprocess.run(("ip", *words), check=True)


def alone() -> bool:
    """Whether this is a new namespace: one that others use is left as it is."""
    return (
        os.listdir("/sys/class/net") == ["lo"] or Path("/proc/net/dev").read_text().count(":") == 1
    )


def kill_flow(peer: Peer, relay_port: str, *, both_ways: bool) -> None:
    """Let nothing that the relay sends over the peer's flow arrive, nor what the peer sends."""
    connection = rooms(peer).registration.current
    assert connection is not None
    port = connection._messages.stream.local.rpartition(":")[2]
    flows = [("sport", relay_port, "dport", port), ("sport", port, "dport", relay_port)]
    for flow in flows[: 1 + both_ways]:
        ip("rule", "add", "pref", "10", "ipproto", "tcp", *flow, "blackhole")


def forget_flow(relay: RelayServer, peer: Peer) -> None:
    """Let the relay's host answer what comes over the peer's flow with a reset, as what comes from
    an address that it has never seen; and say nothing by itself."""
    (ends,) = [one for one in relay.connections if one.guid == peer.guid]
    transport = ends._carrier._transport  # type: ignore[attr-defined]
    transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
    # The relay itself learns nothing either.
    ends.carrier_lost = lambda reason: None  # type: ignore[method-assign]
    transport.abort()


async def main(whose: str, ways: str) -> None:
    if not alone():
        raise SystemExit("only in a network namespace of its own")
    loop = asyncio.get_running_loop()
    ip("link", "set", "lo", "up")
    # The table of this host's own addresses is asked first, unless it is put behind other rules.
    ip("rule", "add", "pref", "20", "lookup", "local")
    ip("rule", "del", "pref", "0")
    async with (
        RelayServer(RelayConfig(port=0)) as relay,
        Peer(Identity.generate(), relay.url) as alice,
        Peer(Identity.generate(), relay.url) as bob,
    ):
        listener = alice.listen("chat")
        await alice.published()
        dead = {"callee": alice, "caller": bob}[whose]
        if ways == "reset":
            await asyncio.sleep(1.0)  # Until all is acknowledged: what comes later is answered.
            forget_flow(relay, dead)
        else:
            kill_flow(dead, relay.url.rpartition(":")[2], both_ways=ways == "both")
        began = loop.time()
        session = await bob.connect(alice.guid, "chat", mode=Mode.CENTRAL)
        there = await anext(listener)
        await session.send(b"hello")
        assert await there.receive() == b"hello"
        print(f"{loop.time() - began:.1f} s")
        await session.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
