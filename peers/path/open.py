"""Opening a direct path: a TCP connection on which both sides have proven who they are."""

import asyncio
from dataclasses import dataclass

from peers.choice import Candidate
from peers.config import PathKind
from peers.path.open_paths import Paths
from peers.path.path import Path
from peers.transport import Address, dial, open_tcp
from protocol.endpoint import Endpoint
from protocol.errors import PathFailed

__all__ = ["Proven", "open_direct"]


@dataclass(frozen=True, slots=True)
class Proven:
    """A candidate at which the wanted peer has answered, and the path there."""

    candidate: Candidate
    path: Path
    round_trip: float
    """Seconds of the handshake's round trip."""


async def open_direct(
    endpoint: Endpoint,
    guid: str,
    paths: Paths,
    timeout: float,
    *,
    source: str | None = None,
    round_trip: float | None = None,
) -> Path:
    """Make one direct path to `guid` at `endpoint`, from the local address `source` (None: the
    route's). Both sides are proven then, and nothing is said yet. `round_trip` is the usual one in
    seconds, where it is known: it says how soon a SYN is taken for lost.

    Raises:
        PathFailed: nothing answered there, or no peer.
        WrongIdentity: another peer answered.
    """
    address = Address(endpoint.host, endpoint.port)
    try:
        async with asyncio.timeout(timeout):
            dialed = await dial(address, source=source, round_trip=round_trip)
            stream = await open_tcp(dialed.connected)
    except TimeoutError:
        raise PathFailed(f"{endpoint}: no answer within {timeout:g} s") from None
    except OSError as error:
        raise PathFailed(f"{endpoint}: {error.strerror or error}") from None
    path = paths.make(stream, PathKind.DIRECT, server=False)
    await path.prove(guid, timeout)
    return path
