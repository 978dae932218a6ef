"""A conversation over one stream of iroh, without its relays.

python -m tests.lab.moves.rivals.iroh_party listen
python -m tests.lab.moves.rivals.iroh_party connect ADDRESS SERVER ID PORT
"""

import asyncio
import sys

import iroh

from tests.lab.moves.conversation import Conversation, say

_ALPN = b"lab"


async def _endpoint() -> iroh.Endpoint:
    return await iroh.Endpoint.bind(
        iroh.EndpointOptions(
            preset=iroh.preset_minimal(),
            alpns=[_ALPN],
            relay_mode=iroh.RelayMode.disabled(),
            bind_addr="0.0.0.0:0",
        )
    )


async def _talk(conversation: Conversation, stream: iroh.BiStream) -> None:
    await conversation.over_streams(stream.recv().read, stream.send().write_all)


async def _listen() -> None:
    conversation = Conversation()
    endpoint = await _endpoint()
    port = endpoint.bound_sockets()[0].rpartition(":")[2]
    say(f"ready {endpoint.id()} {port}")

    async def talk() -> None:
        incoming = await endpoint.accept_next()
        connection = await (await incoming.accept()).connect()
        stream = await connection.accept_bi()
        await stream.recv().read_exact(1)
        await _talk(conversation, stream)

    await conversation.run(talk)
    await endpoint.close()


async def _connect(address: str, _: str, name: str, port: str) -> None:
    conversation = Conversation()
    endpoint = await _endpoint()
    there = iroh.EndpointAddr(iroh.EndpointId.from_string(name), None, [f"{address}:{port}"])
    connection = await endpoint.connect(there, _ALPN)
    stream = await connection.open_bi()
    await stream.send().write_all(b"!")
    await conversation.run(lambda: _talk(conversation, stream))
    await endpoint.close()


if __name__ == "__main__":
    asyncio.run(_listen() if sys.argv[1] == "listen" else _connect(*sys.argv[2:]))
