"""A caller that opens one session, sends numbered lines while its path becomes a direct one, and
prints what came of it as JSON."""

import asyncio
import json
import sys
from collections.abc import Callable

from peers import Identity, PathKind, Peer, Session
from peers.config.peer import PeerConfig

_TIMEOUT = 60.0
_PAUSE = 0.01
"""Seconds between two lines."""
_AFTERWARDS = 20
"""Lines on the direct path."""
_WAYS = {"by a meeting": "met", "the other side has dialed": "dialed back"}
"""What `explain` says of how a path was made, and the word for it."""


async def main(config: str, guid: str, mode: str, patience: float) -> None:
    """Call `chat` of a peer; send `line 0` and more, until some were sent on a direct path, or
    there was none for so many seconds."""
    async with (
        asyncio.timeout(_TIMEOUT + patience),
        Peer(Identity.generate(), config=PeerConfig.load(config)) as peer,
    ):
        await peer.published()
        clock = asyncio.get_running_loop().time
        began = clock()
        async with await peer.connect(guid, "chat", mode=mode) as session:
            connected = clock() - began
            over = asyncio.Event()
            async with asyncio.TaskGroup() as tasks:
                sending = tasks.create_task(_send(session, over))
                direct = await _direct(session, clock, patience)
                over.set()
            way = _way(session) if direct is not None else ""
            said = {
                "connected": connected,
                "direct": None if direct is None else direct - began,
                "way": way,
                "sent": sending.result(),
            }
            await session.acknowledged()
    print(json.dumps(said), flush=True)


async def _direct(session: Session, clock: Callable[[], float], patience: float) -> float | None:
    """Return when the session had a direct path; None where it had none for so long."""
    try:
        async with asyncio.timeout(patience):
            async for change in session.events():
                if change.path is not None and change.path.kind is PathKind.DIRECT:
                    return clock()
    except TimeoutError:
        pass
    return None


async def _send(session: Session, over: asyncio.Event) -> int:
    """Send line after line until it is over, and some more; return how many."""
    number = 0
    while not over.is_set():
        await session.send(b"line %d" % number)
        number += 1
        await asyncio.sleep(_PAUSE)
    for further in range(number, number + _AFTERWARDS):
        await session.send(b"line %d" % further)
    return number + _AFTERWARDS


def _way(session: Session) -> str:
    chosen = [event for event in session.explain().events if event.what == "chosen"]
    text = f"{chosen[-1].where} {chosen[-1].reason}"
    return next((way for words, way in _WAYS.items() if words in text), "dialed")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4], float(sys.argv[4])))
