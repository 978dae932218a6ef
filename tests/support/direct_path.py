"""A direct path in one call, as an attacker or a peer of another make would make it."""

from collections.abc import Callable

from peers.dialing import Ask
from peers.path import PathEnd
from peers.path.open import open_direct
from peers.path.open_paths import Paths
from protocol.endpoint import Endpoint
from protocol.messages import PathHello, PathWelcome
from tests.support.doors import open_door


async def dial_direct(
    endpoint: Endpoint,
    guid: str,
    make_hello: Callable[[PathEnd], PathHello],
    paths: Paths,
    timeout: float,
) -> tuple[PathEnd, PathWelcome]:
    """Connect, prove both sides, and say hello."""
    path = await open_direct(open_door(), Ask(guid, endpoint), paths, timeout)
    return path, await path.ask(make_hello, timeout)
