"""A conversation over two subjects of a NATS server.

python -m tests.lab.moves.rivals.nats_party listen|connect ADDRESS SERVER
"""

import asyncio
import sys

import nats
from nats.aio.msg import Msg

from tests.lab.moves.conversation import Conversation, say
from tests.lab.moves.rivals.nats_server import PORT

_SUBJECTS = {"listen": ("from-callee", "from-caller"), "connect": ("from-caller", "from-callee")}
_PING, _REDIAL, _CONNECT = 0.5, 0.1, 1


async def _quiet(error: Exception) -> None:
    """A lost connection is what is measured."""


async def _main(role: str, _: str, server: str) -> None:
    conversation = Conversation()
    own, other = _SUBJECTS[role]
    client = await nats.connect(
        f"nats://{server}:{PORT}",
        ping_interval=_PING,
        max_outstanding_pings=1,
        reconnect_time_wait=_REDIAL,
        max_reconnect_attempts=-1,
        connect_timeout=_CONNECT,
        error_cb=_quiet,
    )

    async def received(message: Msg) -> None:
        conversation.received(message.data)

    await client.subscribe(other, cb=received)
    await client.flush()
    say("ready" if role == "listen" else "up")
    if role == "listen":
        say("up")

    async def redial() -> None:
        while await conversation.changed.wait():
            conversation.changed.clear()
            await client.force_reconnect()

    redialing = asyncio.create_task(redial())
    await conversation.run(lambda: conversation.send_by(lambda data: client.publish(own, data)))
    redialing.cancel()


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
