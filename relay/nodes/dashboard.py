"""The dashboard of all processes: while somebody looks, each is read as a page reads it.

How one picture is made of what they tell is in `joined.py`.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from time import monotonic
from typing import Any

import msgspec

from relay.dashboard import EVENTS, Change
from relay.log import guarded, log
from relay.nodes.joined import Joined
from relay.nodes.request import NO_ANSWER, asked
from relay.process import build_info, process_now

__all__ = ["NodesView"]

_LONGEST = 1 << 24
"""Bytes of one event."""
_SILENCE = 60.0
"""Seconds without a word after which it is asked anew. One that hangs is ended long before."""
_AGAIN = 0.5
"""Seconds until one that tells nothing is asked again."""
_READY = 1.0
"""Seconds for all to tell how they are, before who looks is told of those that have."""

_decode = msgspec.json.Decoder().decode
_Spawn = Callable[[Coroutine[Any, Any, None]], object]


class NodesView:
    """All processes of one relay, as their operator sees them."""

    def __init__(
        self,
        names: Sequence[str],
        nodes: Callable[[], Mapping[str, str]],
        authorization: Callable[[], str],
        spawn: _Spawn,
    ) -> None:
        """`nodes` returns where those that serve now are asked, by name; `authorization` what they
        want to be shown."""
        self._names = names
        self._nodes = nodes
        self._authorization = authorization
        self._spawn = spawn
        self._joined = Joined(names)
        self._told = asyncio.Event()
        """Set with each thing that is told."""
        self._enough = asyncio.Event()
        """Nobody looks any more; another one with each that begins."""
        self.change = Change()

    @property
    def rows(self) -> list[dict[str, Any]]:
        """All peers that are shown."""
        return self._joined.rows

    def begin(self) -> None:
        """Somebody looks from now on: read them all."""
        self._joined = Joined(self._names)
        self._enough = asyncio.Event()
        self._spawn(self._read_all(self._joined, self._enough))

    async def ready(self) -> None:
        """Wait until each has told how it is; not for long: one may hang."""
        try:
            async with asyncio.timeout(_READY):
                while not self._joined.are_heard:
                    self._told.clear()
                    await self._told.wait()
        except TimeoutError:
            pass  # The others are shown, and it is said that it is silent.

    def looking(self, now: float) -> Iterator[None]:
        """Look once."""
        own = {"version": build_info()["version"], "started": process_now().started}
        self.change = self._joined.look(now, self._nodes().keys(), own)
        yield

    def end(self) -> None:
        """Nobody looks any more."""
        self._enough.set()
        self._joined = Joined(self._names)
        self.change = Change()

    # -- inside ---------------------------------------------------------------------------------

    async def _read_all(self, joined: Joined, enough: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        reading = [loop.create_task(self._keep_reading(name, joined)) for name in self._names]
        try:
            # No timeout: for as long as somebody looks.
            await enough.wait()
        finally:
            for one in reading:
                one.cancel()
            await asyncio.gather(*reading, return_exceptions=True)

    async def _keep_reading(self, name: str, joined: Joined) -> None:
        said = ""
        while True:
            url = self._nodes().get(name)
            if url is not None:
                with guarded("reading what a node shows"):
                    try:
                        await self._read(name, url, joined)
                    except EOFError:
                        said = ""  # It has ended, which its supervisor says.
                    except NO_ANSWER as error:
                        # Once, however often it is asked.
                        if said != (reason := str(error) or "no answer"):
                            log.warning("a node shows nothing", process=name, reason=reason)
                        said = reason
                    finally:
                        joined.ended(name)
            await asyncio.sleep(_AGAIN)

    async def _read(self, name: str, url: str, joined: Joined) -> None:
        """Read one until it ends."""
        async with asked(url, EVENTS, self._authorization(), _LONGEST) as (status, reader):
            if status != 200:
                raise ValueError(f"it says {status}")
            while True:
                async with asyncio.timeout(_SILENCE):
                    event = await reader.readuntil(b"\n\n")
                first, _, second = event.partition(b"\n")
                kind = first.removeprefix(b"event: ").decode()
                data = _decode(second.removeprefix(b"data: "))
                joined.told(name, kind, data, monotonic())
                self._told.set()
