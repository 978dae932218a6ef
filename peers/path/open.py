"""Opening a direct path: a TCP connection on which both sides have proven who they are."""

import asyncio
from dataclasses import dataclass

from peers.choice import Candidate
from peers.config import PathKind
from peers.dialing import Ask, Door
from peers.path.end import PathEnd
from peers.path.open_paths import Paths
from protocol.dialing import Outcome
from protocol.errors import PathFailed

__all__ = ["Proven", "open_direct"]


@dataclass(frozen=True, slots=True)
class Proven:
    """A candidate at which the wanted peer has answered, and the path there."""

    candidate: Candidate
    path: PathEnd
    round_trip: float
    """Seconds of the handshake's round trip."""


async def open_direct(
    door: Door,
    ask: Ask,
    paths: Paths,
    timeout: float,
    *,
    source: str | None = None,
    round_trip: float | None = None,
) -> PathEnd:
    """Make one direct path as it is asked for, from the local address `source` (None: the
    route's). Both sides are proven then, and nothing is said yet. `round_trip` is the usual one in
    seconds, where it is known: it says how soon a SYN is taken for lost.

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
                stream = await passage.connect(source, round_trip)
        except TimeoutError:
            passage.outcome = Outcome.SILENT
            raise PathFailed(f"{ask.endpoint}: no answer within {patience:g} s") from None
        except OSError as error:
            raise PathFailed(f"{ask.endpoint}: {error.strerror or error}") from None
        path = paths.make(stream, PathKind.DIRECT, server=False)
        left = timeout if patience == timeout else began + patience - loop.time()
        await path.prove(ask.remote, max(left, 0.0))
        return path
