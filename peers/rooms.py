"""The rooms of an open peer, and how they are closed, in order. They are built in peer.py."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any

from peers.config import log
from peers.control import Registration, Watching
from peers.dns import Names
from peers.location import OwnLocation
from peers.publication import Publication
from peers.roaming import Candidates, Incoming, Local, Lookup, Outgoing, Sessions, Ways
from peers.services import Services
from peers.tasks import unless
from peers.transport import DirectServer
from peers.whereabouts import Whereabouts

__all__ = ["Leaving", "Rooms"]

_LAST_WORDS = 0.2
"""Seconds for what was said last to leave, where the sessions have taken all the time there was."""


@dataclass(frozen=True, slots=True)
class Rooms:
    """What an open peer consists of."""

    loop: asyncio.AbstractEventLoop
    """The one that all of it runs in."""
    direct: DirectServer
    location: OwnLocation
    services: Services
    names: Names | None
    registration: Registration
    local: Local
    candidates: Candidates
    ways: Ways
    lookup: Lookup
    sessions: Sessions
    outgoing: Outgoing
    incoming: Incoming
    presence: Watching
    publication: Publication
    whereabouts: Whereabouts


class Leaving:
    """A peer that is being closed: its sessions cleanly, as far as it is possible within `grace`
    seconds. When `at_once` is set, nothing waits for anybody else any more."""

    def __init__(self, rooms: Rooms, grace: float) -> None:
        self.at_once = asyncio.Event()
        self.closing = rooms.loop.create_task(_close(rooms, self.at_once, grace))


async def _close(rooms: Rooms, at_once: asyncio.Event, grace: float) -> None:
    """End everything, each step on its own: what one of them raises is logged, and stops none."""

    async def closed(step: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            await unless(at_once, step)
        except Exception:
            log.exception("closing a peer")

    began = rooms.loop.time()
    for end in (rooms.direct.close, rooms.services.close, rooms.presence.close):
        try:
            end()
        except Exception:
            log.exception("closing a peer")
    # A session that has no path just now may still find one, to be closed cleanly on it.
    await closed(partial(rooms.sessions.close, grace))
    rooms.sessions.abort()
    await closed(rooms.registration.close)
    if rooms.names is not None:
        await closed(rooms.names.withdraw)
    for last in (rooms.registration.close, rooms.local.tasks.close):
        await last()
    left = max(began + grace - rooms.loop.time(), _LAST_WORDS)
    await closed(partial(rooms.local.paths.close, left))
    await rooms.local.paths.abort()
