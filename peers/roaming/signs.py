"""Signs of another peer's return, from the relay: one watch for all sessions that wait for it.

A session that has no path asks the relay after growing pauses. A contact that was restarted is
there again before such a pause is over: the relay's word of it is a reason to ask at once, and no
more than that. A path that lives outranks it: only who has none waits here.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import dataclass, field

from peers.config import log
from peers.control import UNKNOWN, Presence
from peers.tasks import Spawn, unless
from protocol.errors import Refused, RoamRelayError
from protocol.messages import PeerState

__all__ = ["Signs"]

Sign = Callable[[bool], None]
"""Told that a peer is there; whether it may have been so before the last question, too."""


@dataclass(slots=True)
class _Awaited:
    """A peer that is waited for."""

    signs: dict[object, Sign] = field(default_factory=dict)
    watching: "asyncio.Task[None] | None" = None
    is_told: bool = False
    """Whether the relay has said how the peer stands, and says what changes."""


class Signs:
    """Watches the peers that sessions wait for. `watch` tells how one stands."""

    def __init__(
        self, watch: Callable[[str], AsyncGenerator[Presence, None]], spawn: Spawn
    ) -> None:
        self._watch = watch
        self._spawn = spawn
        self._awaited: dict[str, _Awaited] = {}

    @contextlib.contextmanager
    def awaiting(self, guid: str, sign: Sign) -> Iterator[None]:
        """Wait for a peer inside. A relay that does not let this peer watch it gives no sign."""
        awaited = self._awaited.setdefault(guid, _Awaited())
        mine = object()
        awaited.signs[mine] = sign
        if len(awaited.signs) == 1:
            awaited.watching = self._spawn(self._follow(guid, awaited))
        try:
            yield
        finally:
            del awaited.signs[mine]
            if not awaited.signs:
                del self._awaited[guid]
                if awaited.watching is not None:
                    awaited.watching.cancel()

    def look_again(self, guid: str) -> None:
        """Watch a peer anew that is waited for, where its watch has ended: it was refused while the
        relay still knew what was there before."""
        awaited = self._awaited.get(guid)
        if awaited is not None and (awaited.watching is None or awaited.watching.done()):
            awaited.watching = self._spawn(self._follow(guid, awaited))

    def will_come(self, guid: str) -> bool:
        """Whether the relay has said how a peer stands that is waited for, and will say what
        changes."""
        awaited = self._awaited.get(guid)
        return awaited is not None and awaited.is_told

    async def back(self, guid: str, over: asyncio.Event) -> bool:
        """Wait for a peer that the relay has just said to be away; return whether it is there
        again, and False when `over` is set before."""
        came = asyncio.Event()
        with self.awaiting(guid, lambda first: came.set()):
            # No timeout of its own: the ways that are under way besides have theirs.
            return bool(await unless(over, came.wait))

    async def _follow(self, guid: str, awaited: _Awaited) -> None:
        first = True
        try:
            async with contextlib.aclosing(self._watch(guid)) as presences:
                async for presence in presences:
                    if presence.state is PeerState.ONLINE:
                        _tell(awaited, first)
                    # Whoever was unknown may have been there all the time.
                    first = presence.state == UNKNOWN
                    awaited.is_told = not first
        except Refused:
            if not first:  # It is another program now, which offers nothing yet.
                _tell(awaited, False)
        except RoamRelayError as error:
            log.debug("no signs", peer=guid[:8], reason=error.reason)
        finally:
            awaited.is_told = False


def _tell(awaited: _Awaited, first: bool) -> None:
    for sign in list(awaited.signs.values()):
        sign(first)
