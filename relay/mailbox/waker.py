"""Tells the operator's endpoint who has mail: behind it may be a push service that wakes phones.

A POST with `{"guid": "…"}` and nothing more: neither from whom nor what. What is in wakes.py says
whom of, and when. Nothing waits for it: a letter is stored, whatever the endpoint does.
"""

import asyncio
import ssl
from collections.abc import Callable, Coroutine
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from relay.log import guarded, log
from relay.mailbox.wakes import Wakes
from relay.metrics import Metrics

__all__ = ["Waker"]

_AT_ONCE = 8
"""Requests on their way."""
_TIMEOUT = 10.0
"""Seconds for one of them."""
_TELL = 60.0
"""Seconds between two warnings that it does not answer."""


class Waker:
    """The endpoint of one relay's mailbox."""

    def __init__(
        self,
        url: str,
        pause: float,
        waits: Callable[[str], int],
        metrics: Metrics,
        spawn: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        """`waits` returns how many letters wait for a peer."""
        self._url = url
        self._waits = waits
        self._metrics = metrics
        self._spawn = spawn
        self._wakes = Wakes(pause)
        self._came = asyncio.Event()
        self._is_running = False
        self._warned = -_TELL
        self._secure: ssl.SSLContext | None = None
        """How an `https://` endpoint is met; None before that."""

    def came(self, guid: str) -> None:
        """A letter has come for a peer that does not read."""
        if not self._wakes.came(guid, monotonic()):
            self._metrics.wakes["too_many"] += 1
            return
        self._came.set()
        if not self._is_running:
            self._is_running = True
            self._spawn(self._run())

    def read(self, guid: str) -> None:
        """A peer fetches its letters."""
        self._wakes.read(guid)

    async def _run(self) -> None:
        """Tell of everybody, until nobody is left to be told of."""
        try:
            if self._secure is None and self._url.startswith("https:"):
                # In a thread: it reads all authorities of the system, for tens of milliseconds.
                self._secure = await asyncio.to_thread(ssl.create_default_context)
            while self._wakes:  # Somebody may come while the last connection is closed.
                await self._tell_all()
        finally:
            self._is_running = False

    async def _tell_all(self) -> None:
        connector = aiohttp.TCPConnector(limit=_AT_ONCE, ssl=self._secure or False)
        timeout = aiohttp.ClientTimeout(_TIMEOUT)
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout) as http,
            asyncio.TaskGroup() as tasks,
        ):
            places = asyncio.Semaphore(_AT_ONCE)
            while self._wakes:
                self._came.clear()
                # No timeout: each that has a place gives it back after its own.
                await places.acquire()
                guid = self._wakes.take(monotonic())
                if guid is not None:
                    tasks.create_task(self._tell(http, guid, places))
                    continue
                places.release()
                if self._wakes:
                    await self._wait(self._wakes.next_timeout(monotonic()))

    async def _wait(self, timeout: float | None) -> None:
        try:
            async with asyncio.timeout(timeout):
                await self._came.wait()
        except TimeoutError:
            pass

    async def _tell(
        self, http: aiohttp.ClientSession, guid: str, places: asyncio.Semaphore
    ) -> None:
        outcome = "failed"
        try:
            with guarded("telling who has mail"):
                outcome = await self._ask(http, guid)
        finally:
            places.release()
            self._metrics.wakes[outcome] += 1
            if outcome == "failed":
                self._wakes.failed(guid, monotonic(), waits=self._waits(guid) > 0)
            else:
                self._wakes.told(guid, monotonic())
            self._came.set()

    async def _ask(self, http: aiohttp.ClientSession, guid: str) -> str:
        """Return what became of it: `told`; `unknown`, where the endpoint does not know the peer;
        else `failed`: that is tried again."""
        try:
            # What it answers beside the status is not read, and nobody is led elsewhere.
            async with http.post(self._url, json={"guid": guid}, allow_redirects=False) as answer:
                status = answer.status
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self._warn(type(error).__name__)
            return "failed"
        if 200 <= status < 300:
            return "told"
        if status in (404, 410):
            return "unknown"
        self._warn(f"status {status}")
        return "failed"

    def _warn(self, why: str) -> None:
        # Its path may be a secret between the operator and the endpoint.
        now = monotonic()
        if now - self._warned >= _TELL:
            self._warned = now
            host = urlsplit(self._url).hostname
            log.warning("who has mail cannot be told", endpoint=host, reason=why)
