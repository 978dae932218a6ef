"""The nodes of a relay that is several, as it names them, and which of them is tried next.

PURE: what the relay has said goes in, where to try and in which order comes out. Chance says once
of each node how early it comes, by its weight: peers are spread, and all connections of one peer
come to the same node.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from peers.control.account import KnownRelay
from peers.transport import RelayAddress
from protocol.errors import RelayUnavailable
from protocol.messages import MAX_NODES, RelayNode

__all__ = ["Nodes", "Way"]


@dataclass(frozen=True, slots=True)
class Way:
    """A relay that is tried."""

    address: RelayAddress
    named_by: KnownRelay | None = None
    """The relay that has named it as another one of its nodes: then it must have that one's key,
    and is dialed as far as a relay's word goes. None: the peer's own configuration has."""


class Nodes:
    """Of one registration. `draw` gives numbers from 0 to 1."""

    def __init__(self, draw: Callable[[], float]) -> None:
        self._draw = draw
        self._draws: dict[str, float] = {}
        """What chance has said of each."""
        self._known: dict[str, tuple[Way, int]] = {}
        """With the weight of each; by its URL."""
        self._away: dict[str, Way] = {}
        """Where the relay has sent this peer as it goes down, until it is registered again."""
        self._left = ""
        """Which one it was that goes down."""

    def registered(self, relay: KnownRelay, nodes: Sequence[RelayNode]) -> None:
        """This peer is registered there, and the relay names its nodes."""
        self._away, self._left = {}, ""
        self.told(relay, nodes)

    def told(self, relay: KnownRelay, nodes: Sequence[RelayNode]) -> None:
        """The relay names its nodes anew. What is no URL of one is passed over."""
        if not nodes:
            return  # One that does not know them.
        self._known = {}
        for node in nodes[:MAX_NODES]:
            if (way := _way(relay, node.url)) is not None:
                self._known[str(way.address)] = way, node.weight
        self._draws = {url: self._draw_of(url) for url in self._known}

    def sent_away(self, relay: KnownRelay, urls: Sequence[str]) -> None:
        """The relay goes down, and says where to go."""
        self._left = str(relay.address)
        ways = [way for url in urls[:MAX_NODES] if (way := _way(relay, url)) is not None]
        self._away = {str(way.address): way for way in ways}
        self._draws = {url: self._draw_of(url) for url in (*self._known, *self._away)}

    def has_other(self, address: RelayAddress, configured: Sequence[RelayAddress]) -> bool:
        """Whether there is another one to try than the one at an address."""
        named = self._known.keys() | self._away.keys()
        return bool(({str(one) for one in configured} | named) - {str(address)})

    def ways(self, configured: Sequence[RelayAddress]) -> list[Way]:
        """Return where to try, in order: those that the relay has sent this peer to, what is
        configured, and then what else the relay has named; one that goes down comes last."""
        own = {str(address): Way(address) for address in configured}
        named = self._in_order(url for url in self._known if url not in own)
        away = self._in_order(self._away)
        order = dict.fromkeys((*away, *own, *named))
        if self._away and self._left in order:
            del order[self._left]
            order[self._left] = None
        known = {url: way for url, (way, _) in self._known.items()}
        ways = {**self._away, **known, **own}
        return [ways[url] for url in order]

    def _in_order(self, urls: Iterable[str]) -> list[str]:
        # The largest of random numbers to the power 1/weight comes from each in proportion to it.
        def rank(url: str) -> float:
            weight = self._known[url][1] if url in self._known else 1
            return -float(max(self._draw_of(url), 1e-12) ** (1 / max(weight, 1e-3)))

        return sorted(urls, key=rank)

    def _draw_of(self, url: str) -> float:
        if url not in self._draws:
            self._draws[url] = self._draw()
        return self._draws[url]


def _way(relay: KnownRelay, url: str) -> Way | None:
    try:
        return Way(relay.address.beside(url), relay)
    except RelayUnavailable:
        return None
