"""Leaves the messages of one conversation as letters, while no session can be had.

What is in a letter is decided in letters.py; here are when it is left, and what follows where the
relay does not take it: it is tried again, for ever, and a session may carry it meanwhile.
"""

import asyncio
import contextlib
import random
import time

from peers.config import log
from peers.conversations.keeper import Keeper
from peers.conversations.letters import Leaving
from peers.conversations.link import Links
from peers.mailbox import Mailbox
from peers.tasks import Waiters, backoff
from protocol.errors import LimitExceeded, RoamRelayError

__all__ = ["Courier"]

_LONGEST = 600.0
"""Seconds between two attempts at a mailbox that does not take a letter, at most."""
_TOGETHER = 0.5
"""Seconds for which an answer alone waits for more letters that it answers too."""
_LOOK = 3_600.0
"""Seconds after which it is looked again whether letters are void."""


class Courier:
    """Leaves letters for one conversation. Tell it by `go` that no session can be had."""

    def __init__(self, keeper: Keeper, links: Links, mailbox: Mailbox) -> None:
        self._keeper = keeper
        self._links = links
        self._mailbox = mailbox
        self._went = Waiters(asyncio.get_running_loop())
        self._is_away = False
        self._asked: tuple[int, int] | None = None
        """The epoch and number of the question that was left last."""
        self.error: RoamRelayError | None = None
        """Why the last letter was not taken; None where it was."""

    @property
    def is_away(self) -> bool:
        """Whether the other side was not there when it was looked for last, and has not come."""
        return self._is_away and self._links.newest is None

    def go(self) -> None:
        """The other side is not there."""
        self._is_away = True
        self._went.wake()
        self._keeper.grown.wake()

    def rest(self) -> None:
        """It has come."""
        self._is_away = False

    async def run(self) -> None:
        """Leave what is to be left, without end."""
        pauses = backoff(random.random, first=1.0, longest=_LONGEST)
        while True:
            while not self.is_away:
                await self._went.wait()  # No timeout: until then there is nothing to do.
            leaving, void_at = await self._next()
            if leaving is None:
                await self._more(void_at)
                continue
            if not leaving.last and not leaving.question:
                await asyncio.sleep(_TOGETHER)
            try:
                await self._leave()
            except RoamRelayError as error:
                if self.error is None:
                    log.info(
                        "a letter was not taken: it is tried again",
                        peer=self._keeper.row.remote[:8],
                        reason=str(error),
                    )
                self.error = error
                after = error.retry_after if isinstance(error, LimitExceeded) else 0.0
                await asyncio.sleep(min(max(next(pauses), after or 0.0), _LONGEST))
            else:
                self.error = None
                pauses = backoff(random.random, first=1.0, longest=_LONGEST)

    async def flush(self) -> None:
        """Answer what came, now: this conversation is being closed.

        Raises:
            RoamRelayError: the relay does not take it; it is answered when it is open again.
        """
        while self._keeper.owes and (await self._next())[0] is not None:
            await self._leave()

    async def _next(self, *, leaves: bool = False) -> tuple[Leaving | None, float | None]:
        leaving, void_at = await self._keeper.next_letter(lambda: self.is_away, leaves=leaves)
        if leaving is not None and self._was_asked(leaving):
            leaving = None
        return leaving, void_at

    async def _leave(self) -> None:
        row = self._keeper.row
        # Before it is known that letters are taken at all, nothing has left.
        prekey = await self._mailbox.prekey(row.remote, row.service)
        leaving, _ = await self._next(leaves=True)
        if leaving is None:
            return
        lifetime = await self._mailbox.put(
            row.remote,
            row.service,
            leaving.payload,
            prekey=prekey,
            message_id=leaving.id,
            lifetime=leaving.lifetime,
        )
        await self._keeper.has_left(leaving, lifetime)
        if leaving.question:
            self._asked = leaving.epoch, leaving.question

    def _was_asked(self, leaving: Leaving) -> bool:
        """Whether that is but a question, and was asked."""
        return self._asked == (leaving.epoch, leaving.question) and not leaving.answers

    async def _more(self, void_at: float | None) -> None:
        """Wait for something to leave, or for a letter that is not kept any more."""
        pause = _LOOK if void_at is None else min(max(void_at - time.time(), 0.05), _LOOK)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await self._keeper.grown.wait()
