"""What those who look at the dashboard are told, once a second: one look for all of them, however
many there are, and none while nobody looks.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator, Sequence
from typing import Any, Protocol

import msgspec

from relay.dashboard.view import Change
from relay.log import guarded
from relay.loop_time import LoopTime

__all__ = ["MAX_VIEWERS", "Looked", "Stream", "TooMany"]

MAX_VIEWERS = 16
"""Pages that are told at once; one more is refused."""
_INTERVAL = 1.0
"""Seconds between two looks."""
_KEPT = 8
"""Looks that are kept for a page that reads slowly; one that is further behind begins anew."""
_ROWS = 250
"""Peers that are told in one turn of the loop: some 0.3 ms."""

_encode = msgspec.json.Encoder().encode


class TooMany(Exception):
    """As many look as may."""


class Looked(Protocol):
    """What is looked at: `View`, or what shows several processes as one relay."""

    change: Change
    """What the last look has found."""

    @property
    def rows(self) -> list[dict[str, Any]]:
        """All peers, as they were at the last look."""

    def begin(self) -> None:
        """Somebody looks from now on."""

    async def ready(self) -> None:
        """Wait until there is something to look at; not for long."""

    def looking(self, now: float) -> Iterator[None]:
        """Look once; others may have their turn at each step."""

    def end(self) -> None:
        """Nobody looks any more."""


class Stream:
    """The dashboard of one relay. Call `close` at the end."""

    def __init__(
        self,
        view: Looked,
        loop_time: LoopTime,
        spawn: Callable[[Coroutine[Any, Any, None]], object],
        interval: float = _INTERVAL,
        most: int = MAX_VIEWERS,
    ) -> None:
        """`most` pages are told at once."""
        self._most = most
        self._view = view
        self._loop_time = loop_time
        self._spawn = spawn
        self._interval = interval
        self._viewers = 0
        self._number = 0
        """Of the last look."""
        self._looks: deque[tuple[int, tuple[bytes, ...]]] = deque(maxlen=_KEPT)
        """The last ones with their numbers, and what is told of each."""
        self._looked = asyncio.Event()
        """Set with each look, and replaced."""
        self._runs = False
        self._is_closed = False

    @property
    def viewers(self) -> int:
        """Pages that are told now."""
        return self._viewers

    def close(self) -> None:
        """Tell nobody any more."""
        self._is_closed = True
        self._looked.set()

    async def told(self) -> AsyncGenerator[bytes, None]:
        """Yield what one page is told, as server-sent events, until it or the relay has enough: all
        that there is at first, then what has changed.

        Raises:
            TooMany: as many look as may.
        """
        if self._viewers >= self._most:
            raise TooMany
        self._viewers += 1
        try:
            if not self._runs:
                self._runs = True
                self._view.begin()
                self._spawn(self._keep_looking())
            seen = -1
            while True:
                looks = [look for look in self._looks if look[0] > seen]
                if looks and (seen < 0 or looks[0][0] > seen + 1):
                    seen = self._number
                    yield _event("start", b"{}")
                    async for part in _rows(self._view.rows):
                        yield part
                    yield looks[-1][1][-1]
                    continue
                for number, parts in looks:
                    for part in parts:
                        yield part
                    seen = number
                # No timeout: a look comes every second, or the end.
                if self._is_closed:
                    return
                if not looks:
                    await self._looked.wait()
        finally:
            self._viewers -= 1

    async def _keep_looking(self) -> None:
        """Look once a second while anybody is told."""
        loop = self._loop_time
        try:
            await self._view.ready()
            while self._viewers and not self._is_closed:
                with guarded("looking for the dashboard"):
                    began = loop.clock()
                    for _ in self._view.looking(began):
                        loop.served("dashboard", "", began)
                        await asyncio.sleep(0)
                        began = loop.clock()
                    loop.served("dashboard", "", began)
                    await self._tell()
                await asyncio.sleep(self._interval)
        finally:
            self._runs = False
            self._looks.clear()
            self._view.end()

    async def _tell(self) -> None:
        change = self._view.change
        # Of the first look all rows are told to each page by itself.
        parts = [part async for part in _rows([] if change.is_first else change.rows)]
        said = {
            "now": change.now,
            "gone": change.gone,
            "news": change.news,
            "more_news": change.more_news,
        }
        parts.append(_event("change", _encode(said)))
        self._number += 1
        self._looks.append((self._number, tuple(parts)))
        looked, self._looked = self._looked, asyncio.Event()
        looked.set()


async def _rows(rows: Sequence[dict[str, Any]]) -> AsyncIterator[bytes]:
    """Yield rows as events; others have their turns between them."""
    for begin in range(0, len(rows), _ROWS):
        yield _event("rows", _encode(rows[begin : begin + _ROWS]))
        await asyncio.sleep(0)


def _event(name: str, data: bytes) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), data)
