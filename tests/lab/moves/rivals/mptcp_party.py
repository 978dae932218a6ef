"""A conversation over one MPTCP connection.

python -m tests.lab.moves.rivals.mptcp_party listen|connect ADDRESS
"""

import asyncio
import socket
import sys

from tests.lab.moves.conversation import Conversation, say

_PORT = 9200


def _socket() -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_MPTCP)
    made.setblocking(False)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made


async def _talk(
    conversation: Conversation, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    async def send(message: bytes) -> None:
        writer.write(message)
        await writer.drain()

    await conversation.over_streams(reader.read, send)


async def _listen() -> None:
    conversation = Conversation()
    listening = _socket()
    listening.bind(("0.0.0.0", _PORT))
    server = await asyncio.start_server(
        lambda reader, writer: _talk(conversation, reader, writer), sock=listening
    )
    say("ready")
    await conversation.listen_to_orders()
    server.close()


async def _connect(address: str) -> None:
    conversation = Conversation()
    dialing = _socket()
    # By hand: the loop would ask for addresses of this protocol, which resolvers do not know.
    dialing.setblocking(True)
    await asyncio.to_thread(dialing.connect, (address, _PORT))
    dialing.setblocking(False)
    reader, writer = await asyncio.open_connection(sock=dialing)
    await conversation.run(lambda: _talk(conversation, reader, writer))


if __name__ == "__main__":
    asyncio.run(_listen() if sys.argv[1] == "listen" else _connect(sys.argv[2]))
