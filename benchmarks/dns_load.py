"""A load of DNS queries: a process of its own, so that what it costs is not the server's.

`python -m benchmarks.dns_load HOST PORT NAME KIND COUNT WAY` keeps 64 questions under way over one
UDP socket and prints the seconds that it took, and how many were answered with a record. WAY is
`same`, or `mixed`: then no two questions have the same upper and lower case, as some resolvers ask.
"""

import asyncio
import sys
import time

import dns.message
import uvloop

_UNDER_WAY = 64
_LOST_AFTER = 2.0


class _Load(asyncio.DatagramProtocol):
    def __init__(self, wire: bytes, count: int, mixed: bool) -> None:
        self._wire = wire
        self._mixed = mixed
        self._letters = [place for place in range(13, 60) if chr(wire[place]).islower()]
        self._left = count
        self._waiting = 0
        self.answered = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        for _ in range(_UNDER_WAY):
            self._ask()

    def datagram_received(self, data: bytes, addr: object) -> None:
        self._waiting -= 1
        self.answered += data[6:8] != b"\0\0"
        self._ask()

    def _ask(self) -> None:
        if self._left:
            self._left -= 1
            self._waiting += 1
            wire = bytearray((self._left & 0xFFFF).to_bytes(2, "big") + self._wire[2:])
            if self._mixed:
                for bit, place in enumerate(self._letters):
                    if self._left >> bit & 1:
                        wire[place] -= 32
            self._transport.sendto(wire)  # type: ignore[attr-defined]
        elif not self._waiting and not self.done.done():
            self.done.set_result(None)


async def main() -> None:
    host, port, name, kind, count, way = sys.argv[1:7]
    wire = dns.message.make_query(name, kind, use_edns=0, payload=1232).to_wire()
    loop = asyncio.get_running_loop()
    began = time.perf_counter()
    transport, load = await loop.create_datagram_endpoint(
        lambda: _Load(wire, int(count), way == "mixed"), remote_addr=(host, int(port))
    )
    try:
        async with asyncio.timeout(_LOST_AFTER + int(count) / 500):
            await load.done
    except TimeoutError:
        pass
    print(time.perf_counter() - began, load.answered)
    transport.close()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
