"""The keys of a relay: the one of now, and those that it had before, for as long as each is served.

Pure but for the clock that is handed in. On the disk they stand in one file beside the key
(`relay.rotation`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from protocol.identity import Identity

__all__ = ["Former", "Keys"]


@dataclass(frozen=True, slots=True)
class Former:
    """A key that the relay had before."""

    identity: Identity
    link: bytes
    """From it to the one that came after it (protocol/succession.py)."""
    until: float
    """Unix time up to which it is served."""


class Keys:
    """All of them; `former` are those of before, the oldest first. `clock` gives Unix time."""

    def __init__(
        self, current: Identity, former: Sequence[Former], clock: Callable[[], float]
    ) -> None:
        self.current = current
        self._former = tuple(former)
        self._clock = clock

    @property
    def served(self) -> tuple[Identity, ...]:
        """Those under which the relay answers, the one of now first."""
        now = self._clock()
        return self.current, *(one.identity for one in self._former if one.until > now)

    def wanted(self, guid: str | None, *, follows: bool) -> tuple[Identity, tuple[bytes, ...]]:
        """Return under which key a peer is answered, and the way from that to the one of now.

        `guid` is the one that it wants, and `follows` says that it can learn of another. Who
        cannot is an older program, which does not say what it wants: it is shown the oldest that
        is served, as that is what it may have pinned.
        """
        now = self._clock()
        for number, one in enumerate(self._former):
            if one.until > now and (not follows or one.identity.guid == guid):
                links = tuple(later.link for later in self._former[number:])
                return one.identity, links if follows else ()
        return self.current, ()
