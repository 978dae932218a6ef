"""Opening a direct path: a TCP connection on which both sides have proven who they are.

A TLS handshake that has no answer after some round trips is begun again on a fresh socket, beside
the first: a packet that is lost then costs round trips, and not the time-outs of the kernel. All of
them are one candidate; the first that is done wins, and the others are closed.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from peers.choice import Candidate
from peers.config import PathKind
from peers.dialing import Ask, Door, Passage
from peers.path.end import Flight, PathEnd
from peers.path.open_paths import Paths
from peers.tasks import Attempts
from peers.transport import RawStream
from protocol.dialing import Outcome
from protocol.errors import PathFailed, RoamRelayError, WrongIdentity

__all__ = ["Dialing", "Proven", "open_direct"]


_ROUND_TRIPS = 3
_SOONEST = 0.1
"""Seconds; a handshake computes some milliseconds at either end, and more where they are busy."""
_LONGEST = 1.0
"""Seconds after which nothing is begun again: by then the kernel has sent again what was lost."""


def _again_after(round_trip: float) -> tuple[float, ...]:
    """Return when a handshake without an answer is begun again, in seconds after the first."""
    wait = max(_ROUND_TRIPS * round_trip, _SOONEST)
    return tuple(start for start in (wait, 3 * wait) if start < _LONGEST)


@dataclass(frozen=True, slots=True)
class Proven:
    """A candidate at which the wanted peer has answered, and the path there."""

    candidate: Candidate
    path: PathEnd
    round_trip: float
    """Seconds of the handshake's round trip."""


@dataclass(frozen=True, slots=True)
class Dialing:
    """How a direct path is dialed."""

    source: str | None = None
    """This host's address; None is the route's."""
    round_trip: float | None = None
    """The usual one in seconds, where it is known: it says how soon a packet is taken for lost."""
    make_flight: Callable[[bool], Flight | None] = lambda is_met: None
    """Called for each stream, once it is open: makes what leaves before TLS, with messages only
    where the peer's key was met before; None where nothing does."""


_PLAIN = Dialing()


async def open_direct(
    door: Door,
    ask: Ask,
    paths: Paths,
    timeout: float,
    dialing: Dialing = _PLAIN,
) -> PathEnd:
    """Make one direct path as it is asked for. Both sides are proven then, and no hello is said
    yet.

    Raises:
        DialRefused: this peer does not dial there.
        PathFailed: nothing answered there, or no peer.
        WrongIdentity: another peer answered.
    """
    loop = asyncio.get_running_loop()
    async with door.passing(ask) as passage:
        patience = door.patience(ask, timeout)
        began = loop.time()
        try:
            async with asyncio.timeout(patience):
                stream = await passage.connect(dialing.source, dialing.round_trip)
        except TimeoutError:
            passage.outcome = Outcome.SILENT
            raise PathFailed(f"{ask.endpoint}: no answer within {patience:g} s") from None
        except OSError as error:
            raise PathFailed(f"{ask.endpoint}: {error.strerror or error}") from None
        left = timeout if patience == timeout else began + patience - loop.time()
        known = stream.round_trip or dialing.round_trip
        attempt = _Attempt(passage, ask, paths, dialing)
        starts = () if known is None else _again_after(known)
        return await attempt.first_proven(stream, starts, max(left, 0.0))


class _Attempt:
    """The handshakes of one dial."""

    def __init__(self, passage: Passage, ask: Ask, paths: Paths, dialing: Dialing) -> None:
        self._passage = passage
        self._ask = ask
        self._paths = paths
        self._dialing = dialing
        self._loop = asyncio.get_running_loop()

    async def first_proven(
        self, stream: RawStream, starts: Sequence[float], timeout: float
    ) -> PathEnd:
        """Prove the peer on a stream, or on those that are opened beside it after so many seconds;
        all of it within `timeout` seconds."""
        first = self._paths.make(stream, PathKind.DIRECT, server=False)
        began, begun = self._loop.time(), 0
        failed: dict[int, RoamRelayError] = {}
        won: PathEnd | None = None
        try:
            async with Attempts[PathEnd](PathEnd.abort) as attempts:
                attempts.start(0, self._prove(first, timeout))
                while won is None:
                    wait = None
                    if begun < len(starts):
                        wait = max(began + starts[begun] - self._loop.time(), 0.0)
                    ended = await attempts.over(wait)
                    for number, result in ended:
                        if isinstance(result, RoamRelayError):
                            failed[number] = result
                        elif won is None:
                            won = result
                        else:
                            result.abort()
                    other = _other(failed)
                    if won is None and (other is not None or not attempts):
                        raise other or failed[min(failed)]
                    if not ended:
                        begun += 1
                        attempts.start(begun, self._again(began + timeout))
        finally:
            if won is not first:
                first.abort()
        return won

    async def _prove(self, path: PathEnd, timeout: float) -> PathEnd:
        flight = self._dialing.make_flight(self._passage.is_met)
        try:
            await path.prove(self._ask.remote, timeout, flight)
        except RoamRelayError:
            if flight is not None:
                flight.failed()
            raise
        return path

    async def _again(self, until: float) -> PathEnd:
        with self._passage.again() as may:
            if not may:
                raise PathFailed(f"{self._ask.endpoint}: not dialed again")
            try:
                async with asyncio.timeout_at(until):
                    stream = await self._passage.connect(
                        self._dialing.source, self._dialing.round_trip
                    )
            except TimeoutError:
                raise PathFailed(f"{self._ask.endpoint}: no answer") from None
            except OSError as error:
                raise PathFailed(f"{self._ask.endpoint}: {error.strerror or error}") from None
            path = self._paths.make(stream, PathKind.DIRECT, server=False)
            return await self._prove(path, max(until - self._loop.time(), 0.0))


def _other(failed: dict[int, RoamRelayError]) -> WrongIdentity | None:
    """Return what says that another peer has answered: it will again."""
    others = (error for error in failed.values() if isinstance(error, WrongIdentity))
    return next(others, None)
