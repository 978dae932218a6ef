"""The kit's end of a session: it keeps the numbers, and looks whether the other end keeps to them.

It writes what a check wants, also what is wrong; what it reads is held to docs/protocol.md §11.
"""

import os
from collections import deque
from typing import Any

from peers.conformance.faults import Fault, NotTried, within
from peers.conformance.talk import Map, Talk

__all__ = [
    "ABORT",
    "ACK",
    "CLOSE",
    "CLOSED",
    "DATA",
    "FINISH",
    "LOCATION",
    "PART",
    "PING",
    "PONG",
    "SWITCH",
    "End",
]

DATA, ACK, CLOSE, CLOSED, PING, PONG, ABORT, LOCATION, PART, FINISH, SWITCH = range(11)
_LAYOUTS = {
    DATA: (int, list),
    CLOSE: (int,),
    CLOSED: (int,),
    PING: (int,),
    PONG: (int,),
    ABORT: (str, str),
    LOCATION: (list,),
}
_REVISED = {PART: (int, int, int, bytes), FINISH: (int,), SWITCH: (int,)}
WEIGHT = 32
LARGEST = 1 << 20


class End:
    """One end of a session, in the mode `p2p` unless it is told another."""

    def __init__(self, service: str, *, revised: bool | None, window: int = 8 << 20) -> None:
        """`revised` None takes the revision that the other end speaks."""
        self.id = os.urandom(16)
        self.service = service
        self.mode = "p2p"
        self.revised = revised
        self.window = window
        self.number = 1
        """Of its last path."""
        self.talk: Talk | None = None
        self.ticket = ""
        """For its next plane, where its last path went over one."""
        self.sent: list[bytes] = []
        self.acknowledged = 0
        self.consumed_there = 0
        self.received = 0
        self.consumed = 0
        self.part = b""
        """What has arrived of the next message."""
        self.inbox: deque[bytes] = deque()
        self.acks = True
        """Whether what arrives is acknowledged, and taken."""
        self.welcome: Map = {}

    # -- the head of a path ---------------------------------------------------------------------

    @property
    def features(self) -> list[str]:
        """What this end names."""
        return [] if self.revised is False else ["session-2"]

    def needs_second_revision(self) -> None:
        """Go on only in the second revision.

        Raises:
            NotTried: the other end speaks the first.
        """
        if not self.revised:
            raise NotTried("the peer does not name `session-2`")

    def numbers(self) -> Map:
        """Return the numbers of a hello or a welcome."""
        numbers: Map = {
            "received": self.received,
            "consumed": self.consumed,
            "window": self.window,
            "features": self.features,
        }
        return numbers | ({"partial": len(self.part)} if self.part else {})

    def hello(self, **changed: Any) -> Map:
        """Return a hello; `changed` are fields that are to be other than right."""
        fields: Map = {
            "type": "path_hello",
            "session": self.id,
            "service": self.service,
            "mode": self.mode,
            "path": self.number,
            **self.numbers(),
        }
        return fields | ({"resume": True} if self.talk is not None else {}) | changed

    async def take(self, talk: Talk, **changed: Any) -> "End":
        """Say hello on a path, and be welcomed there: the session is on it from then on.

        Raises:
            Fault: another answer comes.
            NotTried: it does not speak the revision that is to be tried.
        """
        talk.put(self.hello(**changed))
        self.welcome = await talk.expect("path_welcome")
        there = "session-2" in self.welcome.get("features", ())
        if self.revised and not there:
            talk.pipe.abort()
            raise NotTried("the peer does not name `session-2`")
        if self.revised is None:
            self.revised = there
        self.begin(talk, self.welcome)
        return self

    def begin(self, talk: Talk, there: Map) -> None:
        """Go on over a path, with what the other side has said at its head."""
        self._acknowledge(there.get("received", 0), there.get("consumed", 0))
        self.talk = talk

    # -- frames ---------------------------------------------------------------------------------

    @property
    def path(self) -> Talk:
        """The path that it is on."""
        if self.talk is None:
            raise Fault("the session of the kit has no path")
        return self.talk

    def put(self, *frames: list[Any]) -> None:
        """Write frames, together."""
        self.path.put(*frames)

    def write(self, data: bytes) -> None:
        """Write bytes, whatever they are."""
        self.path.pipe.send(data)

    def send(self, *payloads: bytes, written: bool = True) -> None:
        """Send messages; with `written` false they are only noted, as what was lost on its way."""
        first = len(self.sent) + 1
        self.sent += payloads
        if written:
            self.again(first)

    def again(self, first: int) -> None:
        """Write all messages from this number on, once more or for the first time."""
        for number in range(first, len(self.sent) + 1):
            payload = self.sent[number - 1]
            if not self.revised or len(payload) <= 65_536:
                self.put([DATA, number, [payload]])
                continue
            for offset in range(0, len(payload), 65_536):
                piece = payload[offset : offset + 65_536]
                self.put([PART, number, offset, len(payload), piece])

    def acknowledge(self) -> None:
        """Say what has arrived, and that it was taken."""
        numbers = [self.received, self.consumed]
        self.put([ACK, *numbers, len(self.part)] if self.revised else [ACK, *numbers])

    async def frame(self, what: str, seconds: float | None = None) -> list[Any]:
        """Return the next frame, when it was held to the rules and answered.

        Raises:
            Fault: none comes, or one that breaks a rule.
        """
        frame = await self.path.next(what, seconds)
        self._check(frame)
        match frame:
            case [0, first, payloads]:
                self._arrived(first, payloads)
            case [8, number, offset, total, piece]:
                self._arrived_part(number, offset, total, piece)
            case [1, received, consumed, *_]:
                self._acknowledge(received, consumed)
            case [4, number]:
                self.put([PONG, number])
            case _:
                pass
        return list(frame)

    async def until(self, kind: int, what: str, seconds: float | None = None) -> list[Any]:
        """Return the next frame of this kind; others are read on the way."""
        async with within(what, seconds):
            while True:
                frame = await self.frame(what, seconds)
                if frame[0] == kind:
                    return frame
                if frame[0] == ABORT:
                    raise Fault(f"an abort ({frame[1]}: {frame[2]}) where {what} was to come")

    async def messages(self, count: int, seconds: float | None = None) -> list[bytes]:
        """Return the messages that have arrived, once there are so many in all."""
        async with within(f"message {count}", seconds):
            while self.received < count:
                frame = await self.frame(f"message {count}", seconds)
                if frame[0] == ABORT:
                    raise Fault(f"an abort ({frame[1]}: {frame[2]}) before message {count}")
        return list(self.inbox)

    async def acknowledged_up_to(self, count: int, seconds: float | None = None) -> None:
        """Wait until so many messages are acknowledged."""
        async with within(f"acknowledgement of message {count}", seconds):
            while self.acknowledged < count:
                await self.until(ACK, f"acknowledgement of message {count}", seconds)

    async def refused(self, code: str) -> None:
        """The other end must end the session by this code, and the path.

        Raises:
            Fault: it does not.
        """
        abort: list[Any] = []
        for frame in await self.path.closed("behind an abort"):
            if isinstance(frame, list) and frame[:1] == [ABORT]:
                abort = frame
        if not abort:
            raise Fault(f"no `abort` with {code}: the path ended without a word")
        if abort[1] != code:
            raise Fault(f"`abort` with {abort[1]}, not {code}")

    # -- what it is held to ---------------------------------------------------------------------

    def _check(self, frame: object) -> None:
        if not isinstance(frame, list) or not frame:
            raise Fault(f"{str(frame)[:80]} is no frame (R11.4)")
        kind, *fields = frame
        layouts = _LAYOUTS | (_REVISED if self.revised else {})
        ack = (int,) * (3 if self.revised else 2)
        layout = ack if kind == ACK else layouts.get(kind)
        if layout is None or [type(field) for field in fields] != list(layout):
            raise Fault(f"no frame of this revision: {str(frame)[:80]} (R11.5)")
        largest = 73_728 if self.revised else LARGEST + 65_536
        if self.path.size > largest:
            raise Fault(f"a frame of {self.path.size} bytes (R11.10, R11.12)")

    def _arrived(self, first: int, payloads: list[Any]) -> None:
        if not 1 <= first <= self.received + 1:
            raise Fault(f"message {first} follows message {self.received} (R11.16)")
        size = sum(map(len, payloads))
        if len(payloads) > 1024 or (size > 65_536 and (self.revised or len(payloads) > 1)):
            raise Fault(f"{len(payloads)} messages of {size} bytes in one frame (R11.11)")
        for payload in payloads[self.received + 1 - first :]:
            self._whole(payload)

    def _arrived_part(self, number: int, offset: int, total: int, piece: bytes) -> None:
        if number <= self.received:
            return
        if number > self.received + 1 or offset > len(self.part):
            raise Fault(f"part {offset} of message {number} leaves a gap (R11.20)")
        if not piece or offset + len(piece) > total or len(piece) > 65_536:
            raise Fault("a part that is none (R11.22)")
        self.part += piece[len(self.part) - offset :]
        if len(self.part) == total:
            whole, self.part = self.part, b""
            self._whole(whole)
        elif self.acks:
            self.acknowledge()

    def _whole(self, payload: bytes) -> None:
        self.received += 1
        self.part = b""
        self.inbox.append(payload)
        if self.acks:
            self.consumed += len(payload) + WEIGHT
            self.acknowledge()

    def _acknowledge(self, received: int, consumed: int) -> None:
        if received > len(self.sent):
            raise Fault(
                f"{received} messages are acknowledged, but {len(self.sent)} went out (R11.29)"
            )
        weight = sum(map(len, self.sent)) + WEIGHT * len(self.sent)
        if consumed > weight:
            raise Fault(f"{consumed} bytes are taken, but {weight} went out (R11.29)")
        self.acknowledged = max(self.acknowledged, received)
        self.consumed_there = max(self.consumed_there, consumed)
