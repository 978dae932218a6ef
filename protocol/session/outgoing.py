"""The messages of this side, from `send` until the other side has them: as frames and as numbers.

Numbers come in pairs, as in pace.py: messages, and bytes of the next one. In the first revision of
the frames a message arrives whole or not at all, and the second number is 0.

Costs: O(1) a message, and a copy of each fragment; a resume is O(unacknowledged).
"""

from collections import deque

from protocol.errors import ProtocolViolation
from protocol.session.early import Early
from protocol.session.frames import FRAME_BYTES, FRAME_MESSAGES, WRITE_BYTES, Frame, pack
from protocol.session.pace import Pace, Position
from protocol.session.queue import NOTHING, filled, spared

__all__ = ["Outgoing"]

_HEADER = 5
"""Bytes that a payload of a flight takes beside its own, about."""


class Outgoing:
    """What was sent and is not known to have arrived. It knows no states, and no other frame."""

    __slots__ = (
        "_furthest",
        "_in_flight",
        "_in_parts",
        "_part_acknowledged",
        "_part_written",
        "acknowledged",
        "pace",
        "sent",
        "unsent",
        "weight",
    )

    def __init__(self) -> None:
        self.sent = 0
        """Messages that were given to `send`."""
        self.weight = 0
        """Their weight."""
        self.acknowledged = 0
        """Those of them that the other side has received."""
        self.unsent: deque[bytes] = NOTHING
        """What must still be written on the current path; of the first one, a part may be."""
        self._in_flight: deque[bytes] = NOTHING
        self._part_acknowledged = 0
        self._part_written = 0
        self._furthest: Position = (0, 0)
        """What has ever been written, on any path."""
        self._in_parts = False
        self.pace = Pace()

    @property
    def messages(self) -> tuple[bytes, ...]:
        """What the other side is not known to have, in order: each message whole."""
        return (*self._in_flight, *self.unsent)

    def spare(self) -> None:
        """Nothing was sent for a while: hold no more than there is."""
        self.unsent = spared(self.unsent)
        self._in_flight = spared(self._in_flight)
        self.pace.spare()

    def begin(self, *, in_parts: bool, patience: int) -> None:
        """Begin on a new path: what is not acknowledged is written again, from the first byte on
        that is missing there. `in_parts` says that the other side takes parts of messages."""
        if self._in_flight:
            self.unsent = unsent = filled(self.unsent)
            unsent.extendleft(reversed(self._in_flight))
            self._in_flight = NOTHING
        self._part_written = self._part_acknowledged
        self._in_parts = in_parts
        self.pace.begin(patience)

    def early(self, patience: int, now: float) -> Early:
        """Return what leaves first on a new path to a side that takes parts, whose numbers are not
        known yet: a first flight of it. `begin` takes all of it back."""
        self.begin(in_parts=True, patience=patience)
        frames, ends = [], []
        while self.unsent and self.pace.room > 0:
            end, frame = self.frame(now)
            frames.append(frame)
            ends.append(end)
        return Early(tuple(frames), tuple(ends), now)

    def go_on_behind(self, early: Early) -> None:
        """This stands at the head of the path that has begun, and was read there."""
        if not early.ends:
            return
        self._in_flight = in_flight = filled(self._in_flight)
        unsent = self.unsent
        for end, frame in zip(early.ends, early.frames, strict=True):
            if end <= (self.acknowledged, self._part_acknowledged):
                continue
            while self.acknowledged + len(in_flight) < end[0]:
                in_flight.append(unsent.popleft())
                self._part_written = 0
            self._part_written = max(self._part_written, end[1])
            self.pace.wrote(end, len(frame), early.when)

    def oldest(self, limit: int) -> bytes:
        """Return about `limit` bytes of the oldest that the other side is not known to have, as
        frames for a side that takes parts. It may be acknowledged then; nothing else changes."""
        number, offset = self.acknowledged, self._part_acknowledged
        frames: list[bytes] = []
        batch: list[bytes] = []
        queues = self._in_flight, self.unsent
        for payload in (payload for queue in queues for payload in queue):
            if limit <= 0 or len(batch) == FRAME_MESSAGES:
                break
            if not offset and len(payload) <= limit:
                batch.append(payload)
                limit -= len(payload) + _HEADER
                number += 1
                continue
            if batch:
                frames.append(pack((Frame.DATA, number - len(batch) + 1, batch)))
                batch = []
            piece = memoryview(payload)[offset : offset + limit]
            frames.append(pack((Frame.PART, number + 1, offset, len(payload), piece)))
            limit -= len(piece) + _HEADER
            offset += len(piece)
            if offset < len(payload):
                break
            number, offset = number + 1, 0
        if batch:
            frames.append(pack((Frame.DATA, number - len(batch) + 1, batch)))
        self._furthest = max(self._furthest, (number, offset))
        return b"".join(frames)

    def room(self, limit: int) -> int:
        """Return how many bytes of `limit` should be written at once; less than one where it is too
        early for more."""
        if not self._in_parts:
            return limit
        pace = self.pace
        # Small fragments leave one by one, so that TLS gives each of them a record of its own.
        return min(limit, pace.room, WRITE_BYTES if pace.fragment >= FRAME_BYTES // 4 else 1)

    def frame(self, now: float) -> tuple[Position, bytes]:
        """Return the next frame of `unsent`, which is not empty, and where it ends."""
        first = self.acknowledged + len(self._in_flight) + 1
        size = self.pace.fragment if self._in_parts else FRAME_BYTES
        if self._part_written or (self._in_parts and len(self.unsent[0]) > size):
            end, frame = self._part(first, size)
        else:
            end, frame = self._batch(first, size)
        if end > self._furthest:
            self._furthest = end
        self.pace.wrote(end, len(frame), now)
        return end, frame

    def check(self, received: int, consumed: int, partial: int) -> None:
        """Refuse numbers that cannot be true.

        Raises:
            ProtocolViolation: more than went out, or below 0.
        """
        if min(received, consumed, partial) < 0:
            raise ProtocolViolation("a number below 0")
        if consumed > self.weight:
            raise ProtocolViolation(f"{consumed} taken, but {self.weight} were sent")
        if (received, partial) > self._furthest:
            raise ProtocolViolation(
                f"message {received} was acknowledged, but only {self._furthest[0]} went out"
            )
        index = received - self.acknowledged
        if partial and index >= 0:
            in_flight = self._in_flight
            known = len(in_flight)
            payload = in_flight[index] if index < known else self.unsent[index - known]
            if partial >= len(payload):
                raise ProtocolViolation(f"message {received + 1} is whole, and not received")

    def acknowledge(self, received: int, partial: int, now: float) -> bool:
        """Forget what has arrived; return whether that is more than was known before. Numbers
        below earlier ones are only late."""
        newly = received - self.acknowledged
        if newly < 0 or (not newly and partial <= self._part_acknowledged):
            return False
        in_flight, unsent = self._in_flight, self.unsent
        if newly < len(in_flight):
            for _ in range(newly):
                in_flight.popleft()
        else:
            beyond = newly - len(in_flight)
            in_flight.clear()
            for _ in range(beyond):
                unsent.popleft()
            if beyond:
                self._part_written = 0
            self._part_written = max(self._part_written, partial)
        self.acknowledged = received
        self._part_acknowledged = partial
        self.pace.arrived((received, partial), now)
        return True

    def _part(self, number: int, size: int) -> tuple[Position, bytes]:
        payload, offset = self.unsent[0], self._part_written
        piece = memoryview(payload)[offset : offset + size]
        frame = pack((Frame.PART, number, offset, len(payload), piece))
        offset += len(piece)
        if offset < len(payload):
            self._part_written = offset
            return (number - 1, offset), frame
        self._part_written = 0
        self._in_flight = in_flight = filled(self._in_flight)
        in_flight.append(self.unsent.popleft())
        return (number, 0), frame

    def _batch(self, first: int, most: int) -> tuple[Position, bytes]:
        unsent = self.unsent
        batch: list[bytes] = []
        size = 0
        while unsent and size < most and len(batch) < FRAME_MESSAGES:
            payload = unsent[0]
            if batch and size + len(payload) > most:
                break
            size += len(payload)
            batch.append(unsent.popleft())
        self._in_flight = in_flight = filled(self._in_flight)
        in_flight.extend(batch)
        return (first + len(batch) - 1, 0), pack((Frame.DATA, first, batch))
