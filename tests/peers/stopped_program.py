"""A program that is stopped, and goes on: `python -m tests.peers.stopped_program RELAY GUID`.

It opens a session on uvloop, as the commands do, and prints what becomes of its path and what it
receives, one line each. At a line of its standard input it stops itself, in the middle of a
callback: then nothing waits for its sockets in the kernel, and the timers are the next to run.
"""

import asyncio
import os
import signal
import sys

import uvloop

from peers import Identity, Peer, PeerConfig, SessionSettings

SILENCE = 1.5
"""Seconds after which a silent path is dead."""
CONFIG = PeerConfig(session=SessionSettings(ping_interval=0.4, silence_limit=SILENCE))


def stop() -> None:
    os.read(sys.stdin.fileno(), 64)
    os.kill(os.getpid(), signal.SIGSTOP)


async def main(relay: str, guid: str) -> None:
    async with Peer(Identity.generate(), relay, config=CONFIG) as peer:
        print("registered", flush=True)
        asyncio.get_running_loop().add_reader(sys.stdin.fileno(), stop)
        if not guid:
            await asyncio.get_running_loop().create_future()  # Until it is interrupted.
        session = await peer.connect(guid, "chat", mode="p2p")

        async def follow() -> None:
            async for event in session.events():
                print("path" if event.path else f"no path: {event.reason}", flush=True)

        following = asyncio.create_task(follow())
        async for message in session:
            print(message.decode(), flush=True)
        await following


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(*sys.argv[1:]))
