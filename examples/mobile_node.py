"""A mobile node that offers two services: `ping` echoes messages, `file` stores files.

python examples/mobile_node.py RELAY-URL KEY-FILE FOLDER
"""

import asyncio
import sys
from collections.abc import Awaitable
from pathlib import Path

from peers import Identity, Peer, RoamRelayError, Session
from peers.cli.file_transfer import receive_file
from peers.cli.parts import Parts


async def echo(session: Session) -> None:
    """Send every message back."""
    async for message in session:
        await session.send(message)


async def store(session: Session, folder: Path) -> None:
    """Receive one file."""
    await receive_file(session, Parts(folder), lambda done, size: None)
    await session.close()


async def serve(what: Awaitable[None]) -> None:
    """Serve one session: when it fails, the others go on."""
    try:
        await what
    except RoamRelayError as error:
        print(f"a session has failed: {error}", file=sys.stderr)


async def main(relay: str, key: str, folder: Path) -> None:
    """Offer both services until the process is stopped."""
    async with Peer(Identity.load_or_create(key), relay) as peer:
        pings, files = peer.listen("ping"), peer.listen("file")
        await peer.published()
        print(peer.guid, flush=True)
        async with asyncio.TaskGroup() as tasks:

            async def serve_pings() -> None:
                async for session in pings:
                    tasks.create_task(serve(echo(session)))

            tasks.create_task(serve_pings())
            async for session in files:
                tasks.create_task(serve(store(session, folder)))


if __name__ == "__main__":
    try:
        asyncio.run(main(sys.argv[1], sys.argv[2], Path(sys.argv[3])))
    except KeyboardInterrupt:
        sys.exit(0)
