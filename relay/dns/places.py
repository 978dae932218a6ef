"""Who may hold the zone's TCP connections when there are more than places: shares for networks.

Pure: times go in, who must go comes out. Whoever comes from a network that holds less than others
finds a place: the network that holds most gives up the connection that has been quiet longest.
"""

from collections import OrderedDict
from typing import Generic, TypeVar

__all__ = ["Places"]

_K = TypeVar("_K")


class Places(Generic[_K]):
    """`in_all` places for connections, each known by a key and its source network."""

    def __init__(self, per_network: int, in_all: int) -> None:
        self._per_network = per_network
        self._in_all = in_all
        self._networks: dict[str, OrderedDict[_K, None]] = {}
        """By network: its connections, the one that has been quiet longest first."""
        self._since: dict[_K, tuple[float, str]] = {}
        """When each was last served, or came; and its network."""

    def __len__(self) -> int:
        return len(self._since)

    def held(self, network: str) -> int:
        """Return how many places a network holds."""
        return len(self._networks.get(network, ()))

    def enter(self, key: _K, network: str, now: float) -> _K | None:
        """Give a place to a newcomer; return who must leave for it, which is the newcomer itself
        where its own network holds the most."""
        leaving: _K | None = None
        if self.held(network) >= self._per_network:
            return key
        if len(self._since) >= self._in_all:
            most = max(map(len, self._networks.values()))
            if self.held(network) >= most:
                return key
            quiet = [next(iter(held)) for held in self._networks.values() if len(held) == most]
            leaving = min(quiet, key=lambda one: self._since[one][0])
            self.leave(leaving)
        self._networks.setdefault(network, OrderedDict())[key] = None
        self._since[key] = now, network
        return leaving

    def served(self, key: _K, now: float) -> None:
        """A whole message of this connection was answered."""
        if key in self._since:
            network = self._since[key][1]
            self._since[key] = now, network
            self._networks[network].move_to_end(key)

    def leave(self, key: _K) -> None:
        """Give a place back; only the first time counts."""
        if key in self._since:
            _, network = self._since.pop(key)
            del self._networks[network][key]
            if not self._networks[network]:
                del self._networks[network]
