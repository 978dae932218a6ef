"""One session that carries a conversation: frames in, frames out, and what they change.

Several sessions may carry one conversation for a while, as when both sides open one at once. Each
side sends what waits on one of them, and takes messages from the one on which the other side has
announced a line last: what still arrives on another one is passed over, and sent again.
"""

import asyncio
from collections import deque

from msgspec.structs import replace

from peers.config import log
from peers.conversations.keeper import INBOX, Keeper
from peers.conversations.numbers import Announce, Sender, Transmit
from peers.session import Session
from peers.tasks import Waiters
from protocol.conversation import (
    Acknowledged,
    Announced,
    Frame,
    Item,
    Letter,
    Messages,
    pack_frame,
    pack_item,
    read_frame,
)
from protocol.errors import (
    ProtocolViolation,
    RequestTimeout,
    RoamRelayError,
    SessionClosed,
    SessionLost,
)

__all__ = ["Link", "Links"]

_FRAME_BYTES = 49_152
"""Payload in one frame, about, unless a single message is larger."""
_FLYING = 16
"""Frames with messages that are on their way, not acknowledged."""
_AHEAD = 4 * _FLYING
"""Frames that may wait here until the store has taken those before. More than both sides together
have on their way: so nobody who sends waits for somebody who waits for him."""
_DOUBT, _LONGEST_DOUBT = 2.0, 60.0
"""Seconds without an acknowledgement of what has left after which the line is announced anew; twice
as many each time. What both sides have said on two sessions may have crossed: then what left on
this one was passed over there, and only another announcement brings it again. That goes behind what
is under way, so that a slow way carries nothing twice."""
_MORE = INBOX // 4
"""Room that is told by itself, when nothing comes that is to be acknowledged."""


class Links:
    """The sessions that carry one conversation now, the oldest first."""

    def __init__(self) -> None:
        self.all: list[Link] = []
        """Those that are not over."""
        self.source: Link | None = None
        """The one from which messages are taken."""
        self.error: RoamRelayError | None = None
        """Why no session could be opened last; None where one could."""
        self.changed = Waiters(asyncio.get_running_loop())
        """Woken when there is one more, or one less."""

    def failed(self, error: Exception) -> None:
        """No session could be opened."""
        if not isinstance(error, RoamRelayError):
            error = RequestTimeout(str(error) or "the other side has not come yet")
        self.error = error

    @property
    def newest(self) -> "Link | None":
        """The one on which this side sends; None where there is none."""
        return self.all[-1] if self.all else None


class Link:
    """Carries a conversation over one session, for as long as `run` runs."""

    def __init__(
        self, session: Session, keeper: Keeper, links: Links, *, opened_here: bool
    ) -> None:
        self._keeper = keeper
        self._links = links
        self._loop = asyncio.get_running_loop()
        self._came: deque[Frame] = deque()
        self._work = asyncio.Event()
        """Set when there may be something to do."""
        self._taken = asyncio.Event()
        """Set when frames that had come are dealt with."""
        self._epoch: int | None = None
        """What this session names; None before it has."""
        self._sender: Sender | None = None
        """None while another session is newer."""
        self._last: Acknowledged | None = None
        """What was said last of what has come."""
        self._ready: deque[tuple[int, Messages]] = deque()
        """Frames that are to leave, and the last number in each."""
        self._flying: deque[int] = deque()
        """The last number in each frame that has left, and is not acknowledged."""
        self._moved = 0.0
        """When the first of them left, or an acknowledgement came, by the loop's clock."""
        self._doubt = _DOUBT
        self._told = 0
        """The number up to which the other side knows of room."""
        self.session = session
        """What it runs over."""
        self.opened_here = opened_here
        """Whether this side has opened it."""

    async def run(self) -> None:
        """Carry the conversation until the session is over, or this is cancelled."""
        links, keeper = self._links, self._keeper
        links.all.append(self)
        links.changed.wake()
        try:
            async with asyncio.TaskGroup() as both:
                reading = both.create_task(self._read())
                waking = [
                    both.create_task(self._whenever(one)) for one in (keeper.grown, links.changed)
                ]
                try:
                    await self._deal(reading)
                finally:
                    for task in (reading, *waking):
                        task.cancel()
        except* (SessionClosed, SessionLost) as ended:
            log.debug("a session ended", peer=self.session.remote[:8], reason=str(ended))
        except* ProtocolViolation as fault:
            reason = str(fault.exceptions[0])
            log.warning("broke the protocol", peer=self.session.remote[:8], reason=reason)
            self.session.abort(reason)
        finally:
            links.all.remove(self)
            if links.source is self:
                links.source = None
            keeper.goes = False
            links.changed.wake()

    # -- inside ---------------------------------------------------------------------------------

    async def _read(self) -> None:
        async for data in self.session:
            frame = read_frame(data)
            if frame is None:
                continue
            self._came.append(frame)
            self._work.set()
            while len(self._came) >= _AHEAD:
                self._taken.clear()
                await self._taken.wait()  # No timeout: the store takes as long as it takes.

    async def _whenever(self, waiters: Waiters) -> None:
        while True:
            await waiters.wait()
            self._work.set()

    async def _deal(self, reading: "asyncio.Task[None]") -> None:
        reading.add_done_callback(lambda done: self._work.set())
        while True:
            self._work.clear()
            while self._came:
                frame = self._came.popleft()
                self._taken.set()
                await self._receive(frame)
            await self._send()
            await self._tell_room()
            if reading.done() and not self._came:
                return
            try:
                async with asyncio.timeout_at(self._moved + self._doubt if self._flying else None):
                    await self._work.wait()  # Else no timeout: the session has its own.
            except TimeoutError:
                self._doubt = min(2 * self._doubt, _LONGEST_DOUBT)
                self._sender = None
                self._ready.clear()

    async def _receive(self, frame: Frame) -> None:
        links, keeper = self._links, self._keeper
        match frame:
            case Announced():
                await self._acknowledge(await keeper.adopt(frame, self._become_source))
            case Messages():
                taken = await keeper.take(frame, lambda: links.source is self)
                if taken is not None:
                    await self._acknowledge(taken)
            case Acknowledged():
                while self._flying and self._flying[0] <= frame.received:
                    self._flying.popleft()
                    self._moved, self._doubt = self._loop.time(), _DOUBT
                if (sender := self._sender) is not None:
                    asked = sender.asked
                    asked = asked if asked is not None and asked.line == frame.line else None
                    await keeper.settle(sender.acknowledged(frame), frame, asked)

    def _become_source(self) -> None:
        self._links.source = self

    async def _acknowledge(self, frame: Acknowledged) -> None:
        self._told, self._last = frame.received + frame.room, frame
        await self.session.send(pack_frame(frame))

    async def _tell_room(self) -> None:
        """Say that there is room again, where the other side waits for that."""
        keeper = self._keeper
        known = self._last
        if known is None or self._links.source is not self:
            return
        more = known.received + keeper.room - self._told
        if more >= _MORE or (more > 0 and self._told <= known.received):
            room = Acknowledged(known.line, known.received, keeper.room, known.received)
            await self._acknowledge(room)

    async def _send(self) -> None:
        keeper = self._keeper
        if self._links.newest is not self:
            self._sender = None  # What is announced anew says what has arrived.
            self._ready.clear()
            return
        if self._sender is None:
            self._sender = Sender(keeper.queue)
            self._flying.clear()
        while len(self._flying) < _FLYING:
            if self._ready:
                last, messages = self._ready.popleft()
                if not self._flying:
                    self._moved = self._loop.time()
                self._flying.append(last)
                await self.session.send(pack_frame(messages))
                continue
            match self._sender.next():
                case None:
                    keeper.goes = self._sender.is_free
                    return
                case Announce(announced):
                    if self._epoch is None:
                        self._epoch = await keeper.begin_session()
                    named = replace(announced, epoch=self._epoch)
                    await self.session.send(pack_frame(named))
                case Transmit(line, first, count):
                    self._ready.extend(_frames(line, first, await keeper.load(first, count)))
        keeper.goes = False


def _frames(line: bytes, first: int, items: list[Item | None]) -> list[tuple[int, Messages]]:
    """Cut items into what stands in one frame each; with the last number in it."""
    frames: list[tuple[int, Messages]] = []
    part: list[Item | None] = []
    size = 0
    for number, item in enumerate([*items, None], first):
        weight = len(item.payload) if isinstance(item, Letter) else 0
        if part and (size + weight > _FRAME_BYTES or number == first + len(items)):
            packed = tuple(map(pack_item, part))
            frames.append((number - 1, Messages(line, number - len(part), packed)))
            part, size = [], 0
        part.append(item)
        size += weight
    return frames
