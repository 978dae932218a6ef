"""What test_dead_flow.py runs inside a new network namespace: the packets of two flows vanish, as
behind a router that has a new address, and new connections work. Prints how long it took.

One of the two peers is asked for, and probes its flow. The other one stands for how it would be
without that.
"""

import asyncio
import subprocess

from peers import Identity, Mode, Peer, PeerOffline, RequestTimeout
from peers.transport import tcp
from relay.config import RelayConfig
from relay.server import RelayServer
from tests.support.rooms import rooms


def ip(*words: str) -> None:
    subprocess.run(("ip", *words), check=True)


def kill_flow(peer: Peer, relay_port: str) -> None:
    """Let nothing that the relay sends over the peer's flow arrive."""
    connection = rooms(peer).registration.current
    assert connection is not None
    port = connection._messages.stream.local.rpartition(":")[2]
    flow = ("ipproto", "tcp", "sport", relay_port, "dport", port)
    ip("rule", "add", "pref", "10", *flow, "blackhole")


async def main() -> None:
    loop = asyncio.get_running_loop()
    ip("link", "set", "lo", "up")
    # The table of this host's own addresses is asked first, unless it is put behind other rules.
    ip("rule", "add", "pref", "20", "lookup", "local")
    ip("rule", "del", "pref", "0")
    probe = tcp.probe_when_idle
    async with RelayServer(RelayConfig(port=0)) as relay:
        port = relay.url.rpartition(":")[2]
        tcp.probe_when_idle = lambda connected, seconds: None
        async with Peer(Identity.generate(), relay.url) as other:
            tcp.probe_when_idle = probe
            async with (
                Peer(Identity.generate(), relay.url) as alice,
                Peer(Identity.generate(), relay.url) as bob,
            ):
                listener = alice.listen("chat")
                await alice.published()
                without = rooms(other).registration.current
                for peer in (alice, other):
                    kill_flow(peer, port)
                began = loop.time()
                said = []
                while True:
                    try:
                        session = await bob.connect(alice.guid, "chat", mode=Mode.CENTRAL)
                        break
                    except (PeerOffline, RequestTimeout) as error:
                        said.append(type(error).__name__)
                        await asyncio.sleep(0.2)
                there = await anext(listener)
                await session.send(b"hello")
                assert await there.receive() == b"hello"
                took = loop.time() - began
                assert rooms(other).registration.current is without, "it knows nothing yet"
                print(f"{took:.1f} s; the caller was told: {list(dict.fromkeys(said))}")
                await session.close()
            other_left = rooms(other).registration.current
            assert other_left is without


if __name__ == "__main__":
    asyncio.run(main())
