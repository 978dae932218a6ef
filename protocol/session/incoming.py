"""The messages of the other side, from the path until the application takes them.

They are numbered as they arrive, in order; what arrives twice is known by its number. Nothing here
belongs to one path.

Costs: O(1) a message; of one that arrives in parts, what has arrived is held once.
"""

from collections import deque
from typing import Any

from protocol.errors import Code, ProtocolViolation
from protocol.session.idle import SMALL_PART, IdleFrames
from protocol.session.queue import NOTHING, filled, spared
from protocol.session.reassembly import Reassembly
from protocol.session.settings import MAX_PAYLOAD, MESSAGE_WEIGHT

__all__ = ["Incoming"]


class Incoming:
    """What has arrived. `window` bytes may wait here, and one message."""

    __slots__ = (
        "_reassembly",
        "_weight",
        "_window",
        "consumed",
        "ended_at",
        "idle",
        "inbox",
        "received",
    )

    def __init__(self, window: int) -> None:
        self._window = window
        self.inbox: deque[bytes] = NOTHING
        """Messages that nobody has taken yet, in order."""
        self.received = 0
        """Messages that have arrived."""
        self.consumed = 0
        """Weight of those that were taken."""
        self.ended_at: int | None = None
        """The last message, once the other side has said that nothing follows it."""
        self.idle = IdleFrames()
        self._reassembly = Reassembly()
        self._weight = 0

    @property
    def arrived(self) -> int:
        """Weight of all that has arrived, with the bytes of the message that is not whole."""
        return self._weight + self._reassembly.size

    @property
    def partial(self) -> int:
        """Bytes that have arrived of the message after those of `received`."""
        return self._reassembly.size

    def begin(self) -> None:
        """Begin on a new path: a message of which a part is here goes on where it was."""
        if not self._reassembly.size:
            self._reassembly.drop()

    def drop(self) -> None:
        """Forget the part of a message: the rest of it will not come."""
        self._reassembly.drop()

    def spare(self) -> deque[bytes]:
        """Nothing has come for a while: hold no more than there is. Return the inbox."""
        self.begin()
        self.inbox = spared(self.inbox)
        return self.inbox

    def take(self) -> bytes:
        """Take the next message.

        Raises:
            IndexError: there is none.
        """
        payload = self.inbox.popleft()
        self.consumed += len(payload) + MESSAGE_WEIGHT
        return payload

    def data(self, first: int, payloads: list[Any]) -> bool:
        """Take whole messages from number `first` on; return whether one of them is new.

        Raises:
            ProtocolViolation: a gap, no messages, or more than the window allows.
        """
        if first < 1 or first > self.received + 1:
            raise ProtocolViolation(f"message {first} follows message {self.received}")
        skip = self.received + 1 - first
        fresh = payloads[skip:] if skip else payloads
        if not fresh:
            self.idle.note()
            return False
        weight = 0
        for payload in fresh:
            if type(payload) is not bytes:
                raise ProtocolViolation("a payload must be bytes")
            weight += len(payload) + MESSAGE_WEIGHT
        self._check_room(weight)
        # A message that had arrived in part may come whole after all.
        if self._reassembly.size:
            self._reassembly.drop()
        self._weight += weight
        self.inbox = inbox = filled(self.inbox)
        inbox.extend(fresh)
        self.received += len(fresh)
        return True

    def part(self, number: int, offset: int, total: int, piece: bytes) -> bool:
        """Take a part of message `number`; return whether that makes it whole.

        Raises:
            ProtocolViolation: a gap, no part, or more than the window allows.
        """
        if not 1 <= number <= self.received + 1:
            raise ProtocolViolation(f"a part of message {number} follows message {self.received}")
        if number <= self.received:
            self.idle.note()
            return False
        reassembly = self._reassembly
        count = reassembly.fresh(offset, total, piece)
        if count < SMALL_PART and offset + len(piece) < total:
            self.idle.note()
        if count <= 0:
            return False
        self._check_room(reassembly.size + count + MESSAGE_WEIGHT)
        message = reassembly.add(count, total, piece)
        if message is None:
            return False
        self.inbox = inbox = filled(self.inbox)
        inbox.append(message)
        self._weight += total + MESSAGE_WEIGHT
        self.received += 1
        return True

    def end(self, count: int) -> None:
        """The other side has said that nothing follows message `count`.

        Raises:
            ProtocolViolation: another one has arrived last, or a part of one is here.
        """
        if count != self.received or self._reassembly.size:
            raise ProtocolViolation(f"closed after {count}, but {self.received} arrived")
        self.ended_at = count

    def _check_room(self, weight: int) -> None:
        if self.ended_at is not None:
            raise ProtocolViolation("a message after the close")
        # One message may reach past the window: the sender checks for room before it, not after.
        held = self._weight - self.consumed
        if held + weight > self._window + MAX_PAYLOAD + MESSAGE_WEIGHT:
            raise ProtocolViolation("more than the window allows", code=Code.LIMIT_EXCEEDED)
