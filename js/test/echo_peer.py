"""A peer of the Python library for the package's tests: it says its GUID, echoes what is said to
its service `chat`, and calls whoever is named on a line of its input, to echo there as well."""

import asyncio
import sys

from peers import Identity, Peer, RoamRelayError, Session


async def echo(session: Session) -> None:
    try:
        async for message in session:
            await session.send(message)
        await session.close()
    except RoamRelayError as error:
        print(f"lost: {error}", flush=True)


async def main() -> None:
    async with Peer(Identity.generate(), sys.argv[1]) as peer:
        serving = asyncio.ensure_future(peer.serve("chat", echo))
        await peer.published()
        print(peer.guid, flush=True)
        calls = []
        while guid := (await asyncio.to_thread(sys.stdin.readline)).strip():
            session = await peer.connect(guid, "chat", mode="auto", wait=True)
            calls.append(asyncio.ensure_future(echo(session)))
        for task in (serving, *calls):
            task.cancel()
        await asyncio.gather(serving, *calls, return_exceptions=True)


asyncio.run(main())
