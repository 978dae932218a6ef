"""Moving bytes from one socket to another, both ways, without bringing them into Python.

`os.splice` through a pipe where the system has it, one buffer for all elsewhere. A direction has a
pipe only while it moves bytes, or holds some that its target does not take: a plane that is idle
has no descriptors but its two sockets. Where all pipes are held so, the next one to move bytes gets
that of a target which has taken nothing for a while, of who has most of them. Either direction ends
on its own: the end of one stream is passed on as a half-close, after its last byte.
"""

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass

from relay.limits import EVENT, Bounds, Cause, Shares
from relay.log import log
from relay.plane.legs import SocketLeg
from relay.plane.pacing import Paces
from relay.plane.stages import Stage, Wait

if sys.platform == "linux":
    import fcntl

__all__ = ["Pipes", "SocketPlane"]

_PIPE_SIZES = (1 << 20, 1 << 18, 1 << 16)
"""Bytes, the wished-for first. What one user's pipes may hold has a bound in the kernel
(pipe-user-pages-soft): beyond it a pipe cannot be made larger."""
_KEPT = 8
"""Pipes that are kept for whoever moves bytes next."""
_PATIENCE = 256
"""How often bytes are copied before another pipe is tried, where one was not to be had."""
_SLICE = 4 << 20
"""Bytes that one direction may move in one callback, so that other connections get their turn."""
_COPY_BYTES = 1 << 18
_PATIENT = 1.0
"""Seconds for which a target may take nothing, and hold a pipe that somebody else wants."""
_PROGRESS = 1 << 16
"""Bytes that it has to take in that time to keep it."""
_SPILLED = 64
"""Directions whose bytes are kept in memory in place of a pipe, 1 MiB each at most."""
_ANY = 1 << 62
_BLOCKED = (BlockingIOError, InterruptedError)


class _Pipe:
    """A pipe between two sockets."""

    way = "splice"

    def __init__(self) -> None:
        self._out, self._in = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.size = 0
        for size in _PIPE_SIZES:
            with contextlib.suppress(OSError):
                self.size = fcntl.fcntl(self._in, fcntl.F_SETPIPE_SZ, size)
                break
        self.held = 0

    def fill(self, source: socket.socket, most: int) -> int:
        size = self.size if most > self.size else most
        count = os.splice(source.fileno(), self._in, size, flags=os.SPLICE_F_NONBLOCK)
        self.held += count
        return count

    def drain(self, target: socket.socket, most: int) -> int:
        size = self.held if most > self.held else most
        count = os.splice(self._out, target.fileno(), size, flags=os.SPLICE_F_NONBLOCK)
        self.held -= count
        return count

    def empty(self) -> bytes:
        """Take out what it holds."""
        data = b""
        while self.held:
            data += (piece := os.read(self._out, self.held))
            self.held -= len(piece)
        return data

    def close(self) -> None:
        os.close(self._in)
        os.close(self._out)


class _Copy:
    """A buffer between two sockets. It keeps nothing: what the target does not take stays in the
    source's own buffer, so that one serves all."""

    way = "copy"

    def __init__(self) -> None:
        self._view = memoryview(bytearray(_COPY_BYTES))
        self._source: socket.socket | None = None
        self.held = 0

    def fill(self, source: socket.socket, most: int) -> int:
        self._source = source
        self.held = source.recv_into(self._view, min(most, _COPY_BYTES), socket.MSG_PEEK)
        return self.held

    def drain(self, target: socket.socket, most: int) -> int:
        held, self.held = self.held, 0
        count = target.send(self._view[: min(held, most)])
        if self._source is not None:
            self._source.recv_into(self._view, count)
        return count


class Pipes:
    """The pipes of all planes of one relay: at most so many. Who gets none copies."""

    def __init__(self, most: int, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._stalled: Shares[_Direction] = Shares(Bounds(1, _ANY, _ANY, _ANY))
        """Those that hold a pipe, for the targets that do not read. One would be the bound: another
        has to give way as soon as there is no pipe left."""
        self._spilled: Shares[_Direction] = Shares(Bounds.of(_SPILLED))
        self._most = most if hasattr(os, "splice") else 0
        self._kept: list[_Pipe] = []
        self._copy = _Copy()
        self._waits = 0
        """How many go without before the next pipe is tried."""
        self.open = 0
        """How many there are, used or kept."""

    def take(self, cause: Cause) -> _Pipe | _Copy:
        """Return what to move bytes through, to a target of this cause; give it back when it holds
        none."""
        if self._kept:
            return self._kept.pop()
        if self.open < self._most and (pipe := self._make()) is not None:
            self.open += 1
            return pipe
        self._spill(cause)
        return self._kept.pop() if self._kept else self._copy

    def _make(self) -> _Pipe | None:
        if self._waits:
            self._waits -= 1
            return None
        try:
            pipe = _Pipe()
        except OSError:  # No descriptors left for one.
            self._waits = _PATIENCE
            return None
        if pipe.size < _PIPE_SIZES[-1]:
            # The user's bound is used up: through a page or two, splicing is slower than copying.
            pipe.close()
            self._waits = _PATIENCE
            return None
        return pipe

    def give_back(self, buffer: _Pipe | _Copy) -> None:
        """Nobody moves bytes through it any more."""
        if isinstance(buffer, _Copy):
            buffer.held = 0
        elif buffer.held or len(self._kept) >= _KEPT or len(self._kept) >= self._most:
            buffer.close()
            self.open -= 1
        else:
            self._kept.append(buffer)

    def stall(self, direction: "_Direction") -> None:
        """Its target does not take what its pipe holds."""
        if direction in self._stalled:
            if direction.moved - direction.moved_then < _PROGRESS:
                return
            self._stalled.remove(direction)
        direction.stalled_at, direction.moved_then = self._clock(), direction.moved
        self._stalled.put(direction.cause, direction)

    def flow(self, direction: "_Direction") -> None:
        """It holds no pipe for its target any more."""
        self._stalled.remove(direction)

    def drained(self, direction: "_Direction") -> None:
        """Nothing of it is in memory any more."""
        self._spilled.remove(direction)

    @property
    def spilled(self) -> int:
        """How many directions have bytes in memory."""
        return len(self._spilled)

    def _spill(self, cause: Cause) -> None:
        """Take a pipe from somebody who makes no use of it."""
        victims = self._stalled.room(cause)
        if not victims or self._clock() - victims[0].stalled_at < _PATIENT:
            return
        (victim,) = victims
        self._stalled.remove(victim)
        victim.spill()
        for direction in self._spilled.push(victim.cause, victim):
            direction.displace()

    def close_kept(self) -> None:
        """Keep none: nobody moves bytes."""
        while self._kept:
            self._kept.pop().close()
            self.open -= 1


# Python 3.11 looks an enum's member up in 0.3 µs: these are asked for with every piece.
_FLOWING, _ENDING, _DONE = Stage.FLOWING, Stage.ENDING, Stage.DONE
_NOTHING, _SOURCE, _TARGET, _TURN = Wait


def _nobody(*_: object) -> None:
    """Stands for who was told already, or has nothing to give."""


class _Direction:
    """One way of a plane."""

    def __init__(
        self, source: SocketLeg, target: SocketLeg, pipes: Pipes, displace: Callable[[], object]
    ) -> None:
        """`displace` ends the plane soon: others need what is held for it."""
        self.displace = displace
        self.source = source.socket
        self.target = target.socket
        self.toll = source.toll
        self.cause = target.toll.cause
        """Who has to read."""
        self.stalled_at = 0.0
        """Since when it does not; and how much had moved then."""
        self.moved_then = 0
        self.stage = _FLOWING
        self.wait = self.watched = _NOTHING
        """What it waits for; what the loop has been asked to tell."""
        self.moved = 0
        """Bytes that have left towards the target."""
        self.way = ""
        """How bytes were moved last."""
        self.turn: _Turn | None = None
        """There is one while it waits for it."""
        self._pipes = pipes
        self._buffer: _Pipe | _Copy | None = None
        """There is one while it holds bytes."""
        self._rest = memoryview(b"")
        """What a pipe held that somebody else got."""

    def pump(self, budget: int) -> None:
        """Move what can be moved now, up to so many bytes; what was taken out of a pipe leaves
        first, however much it is."""
        if self._rest and not self._drain():
            return
        buffer = self._buffer
        if buffer is None:
            buffer = self._buffer = self._pipes.take(self.cause)
        self.way = buffer.way
        try:
            self._pump(buffer, budget)
        finally:
            if not buffer.held:
                self._pipes.flow(self)
                self._give_back()
            elif self.wait is _TARGET:
                self._pipes.stall(self)

    def spill(self) -> None:
        """Give the pipe to somebody else; what it holds is kept in memory."""
        if isinstance(self._buffer, _Pipe):
            self._rest = memoryview(self._buffer.empty())
        self._give_back()

    def release(self) -> None:
        """Hold nothing any more; what was held is lost."""
        self._pipes.flow(self)
        self._pipes.drained(self)
        self._rest = memoryview(b"")
        self._give_back()
        self.displace = _nobody  # Neither holds the other: they go now, not with a collection.

    def _give_back(self) -> None:
        buffer, self._buffer = self._buffer, None
        if buffer is not None:
            self._pipes.give_back(buffer)

    def _drain(self) -> bool:
        """Move what is in memory; return whether all of it has left."""
        self.way = _Copy.way
        try:
            count = self.target.send(self._rest)
        except _BLOCKED:
            count = 0
        self.moved += count
        self._rest = self._rest[count:]
        if self._rest:
            self.wait = _TARGET
            return False
        self._pipes.drained(self)
        return True

    def _pump(self, buffer: _Pipe | _Copy, budget: int) -> None:
        target, source = self.target, self.source
        self.wait = _NOTHING
        while budget > 0 and self.stage is not _DONE:
            moved = 0
            is_empty = False
            if self.stage is _FLOWING and buffer.held < budget:
                try:
                    if buffer.fill(source, budget - buffer.held) == 0:
                        self.stage = _ENDING
                except _BLOCKED:
                    # Either nothing came, or the buffer is full: then writing goes first.
                    is_empty = not buffer.held
            if buffer.held:
                try:
                    moved = buffer.drain(target, budget)
                except _BLOCKED:
                    self.wait = _TARGET
                    break
            elif self.stage is _ENDING:
                self.stage = _DONE
                with contextlib.suppress(OSError):
                    target.shutdown(socket.SHUT_WR)
                break
            if is_empty:
                self.wait = _SOURCE
                break
            self.moved += moved
            budget -= max(moved, 1)
        # Out of budget it waits for nothing: the loop calls again after the others had their turn.


@dataclass(eq=False, slots=True)
class _Turn:
    """One way of a plane that has asked whether it may move bytes."""

    plane: "SocketPlane"
    paces: Paces
    direction: _Direction

    @property
    def cause(self) -> Cause:
        """Who sends what moves this way."""
        return self.paces.causes[self.plane._directions.index(self.direction)]

    def take_turn(self, granted: int) -> None:
        direction = self.direction
        direction.turn = None
        before = direction.moved
        try:
            self.plane._run(direction, granted)
        finally:
            self.paces.pacer.give_back(self.cause, granted - (direction.moved - before))


class SocketPlane:
    """Two sockets joined. `on_end` is called once, with a reason, when both are closed."""

    def __init__(
        self,
        legs: tuple[SocketLeg, SocketLeg],
        *,
        pipes: Pipes,
        count: Callable[[str, int], None],
        on_end: Callable[["SocketPlane", str], None],
        paces: Paces | None = None,
    ) -> None:
        """Without `paces` bytes move as fast as they can."""
        self._loop = asyncio.get_running_loop()
        self._sockets = [leg.socket for leg in legs]
        self._count = count
        self._on_end = on_end
        self._paces = paces
        self._over = False
        self._idle_since = self._loop.time()
        first, second = legs
        self._directions = (
            _Direction(first, second, pipes, self._displace),
            _Direction(second, first, pipes, self._displace),
        )

    @property
    def idle_since(self) -> float:
        """When bytes last moved; now, where some wait for their turn: it is the relay that lets
        them."""
        waits = any(one.turn is not None for one in self._directions)
        return self._loop.time() if waits else self._idle_since

    @property
    def moved(self) -> tuple[int, int]:
        """Bytes that have come from the first socket and left by the second one, and the other way
        round."""
        first, second = self._directions
        return first.moved, second.moved

    def start(self) -> None:
        """Begin to move bytes."""
        for direction in self._directions:
            self._run(direction)

    def close(self, reason: str) -> None:
        """End the plane now."""
        if self._over:
            return
        self._over = True
        for end in self._sockets:
            self._loop.remove_reader(end)
            self._loop.remove_writer(end)
            end.close()
        for direction in self._directions:
            direction.release()
            turn, direction.turn = direction.turn, None
            if turn is not None:
                turn.paces.pacer.leave(turn)
        on_end, self._on_end = self._on_end, _nobody
        on_end(self, reason)

    def _displace(self) -> None:
        self._loop.call_soon(self.close, "stalled")

    def _run(self, direction: _Direction, budget: int = 0) -> None:
        """Move up to so many bytes; 0: as many as may move now."""
        if self._over:
            return
        if not budget:
            if wait := direction.toll.take(EVENT):
                # Who sends has used up his share of the relay's time: he is not read for so long.
                self._watch(direction, _NOTHING)
                self._loop.call_later(wait, self._run, direction)
                return
            paces = self._paces
            if paces is not None and paces.pacer.is_on:
                self._ask(direction, paces)
                return
            budget = _SLICE
        before = direction.moved
        try:
            direction.pump(budget)
        except OSError as error:
            self._settle(direction, before)
            self.close("reset" if isinstance(error, ConnectionError) else "failed")
            return
        self._settle(direction, before)
        try:
            self._listen(direction)
        except Exception as error:
            self._failed(error)

    def _ask(self, direction: _Direction, paces: Paces) -> None:
        """Go on as soon as bytes may move."""
        if direction.turn is not None:
            return
        turn = _Turn(self, paces, direction)
        granted = paces.pacer.ask(turn, turn.cause)
        if granted:
            turn.take_turn(granted)
            return
        direction.turn, direction.wait = turn, _TURN
        try:
            self._listen(direction)
        except Exception as error:
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        log.error("a plane failed", exc_info=error)
        self.close("failed")

    def _listen(self, direction: _Direction) -> None:
        """Have the loop call again for what a direction waits for; or end, where nothing is."""
        if all(one.stage is _DONE for one in self._directions):
            self.close("finished")
            return
        if direction.wait is not direction.watched:
            self._watch(direction, direction.wait)
        if direction.stage is not _DONE and direction.wait is _NOTHING:
            self._loop.call_soon(self._run, direction)

    def _watch(self, direction: _Direction, wait: Wait) -> None:
        loop, source, target = self._loop, direction.source, direction.target
        match direction.watched:
            case Wait.SOURCE:
                loop.remove_reader(source)
            case Wait.TARGET:
                loop.remove_writer(target)
            case Wait.NOTHING | Wait.TURN:
                pass
        match wait:
            case Wait.SOURCE:
                loop.add_reader(source, self._run, direction)
            case Wait.TARGET:
                loop.add_writer(target, self._run, direction)
            case Wait.NOTHING | Wait.TURN:
                pass
        direction.watched = wait

    def _settle(self, direction: _Direction, before: int) -> None:
        moved = direction.moved - before
        if moved:
            self._idle_since = self._loop.time()
            self._count(direction.way, moved)
