"""ICE on the lab of NATs, for comparison: aioice over UDP, with candidates of the host and of a
STUN server, and no TURN. Nothing of ours is in here.

A server where the relay would be answers STUN, and passes lines on between a callee and a caller,
as the relay does with a request. Needs the extra `rivals`.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aioice
from aioice import stun

__all__ = ["PORT", "STUN_PORT"]

PORT, STUN_PORT = 9001, 3478
_TIMEOUT = 30.0


class _Stun(asyncio.DatagramProtocol):
    """Says to each where it is seen."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        asked = stun.parse_message(data)
        answer = stun.Message(
            asked.message_method,
            stun.Class.RESPONSE,
            asked.transaction_id,
            {"XOR-MAPPED-ADDRESS": addr[:2]},
        )
        self._transport.sendto(bytes(answer), addr)


async def server(host: str) -> None:
    """Serve one callee, which comes first, and one caller."""
    streams: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
    both = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = len(streams)
        streams.append((reader, writer))
        if len(streams) == 2:
            both.set()
        await both.wait()
        while line := await reader.readline():
            streams[1 - number][1].write(line)

    loop = asyncio.get_running_loop()
    await loop.create_datagram_endpoint(_Stun, local_addr=(host, STUN_PORT))
    listening = await asyncio.start_server(serve, host, PORT)
    _say("ready")
    await listening.serve_forever()


@asynccontextmanager
async def _ice(host: str, controls: bool) -> AsyncIterator[aioice.Connection]:
    # aioice looks for its address at a STUN server of IPv4 alone; in IPv6 nothing is translated.
    at = None if ":" in host else (host, STUN_PORT)
    connection = aioice.Connection(ice_controlling=controls, stun_server=at)
    try:
        yield connection
    finally:
        await connection.close()


def _described(connection: aioice.Connection) -> bytes:
    told = {
        "candidates": [one.to_sdp() for one in connection.local_candidates],
        "username": connection.local_username,
        "password": connection.local_password,
    }
    return json.dumps(told).encode() + b"\n"


async def _learn(connection: aioice.Connection, line: bytes) -> None:
    told = json.loads(line)
    for candidate in told["candidates"]:
        await connection.add_remote_candidate(aioice.Candidate.from_sdp(candidate))
    await connection.add_remote_candidate(None)
    connection.remote_username, connection.remote_password = told["username"], told["password"]


async def callee(host: str) -> None:
    """Answer one caller, and wait to be ended."""
    reader, writer = await asyncio.open_connection(host, PORT)
    async with _ice(host, controls=False) as connection:
        _say("ready")
        line = await reader.readline()
        await connection.gather_candidates()
        writer.write(_described(connection))
        await _learn(connection, line)
        await connection.connect()
        while True:
            await connection.send(await connection.recv())


async def caller(host: str) -> None:
    """Call, and print how many seconds it took until a datagram had come back."""
    reader, writer = await asyncio.open_connection(host, PORT)
    clock = asyncio.get_running_loop().time
    began = clock()
    async with asyncio.timeout(_TIMEOUT), _ice(host, controls=True) as connection:
        await connection.gather_candidates()
        writer.write(_described(connection))
        await _learn(connection, await reader.readline())
        await connection.connect()
        await connection.send(b"here")
        await connection.recv()
        _say(json.dumps({"direct": clock() - began}))


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    try:
        asyncio.run(
            {"server": server, "callee": callee, "caller": caller}[sys.argv[1]](sys.argv[2])
        )
    except (ConnectionError, TimeoutError) as error:
        _say(json.dumps({"direct": None, "why": str(error)}))
