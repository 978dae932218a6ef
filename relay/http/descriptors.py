"""The process's file descriptors: how many there are, and which of them connections may take.

A relay that has none left can neither take a connection nor join a plane, and says nothing: the
last ones are kept for peers that are known, and the very last for what is no connection.
"""

import sys
from dataclasses import dataclass

__all__ = ["Descriptors", "raise_limit"]

if sys.platform != "win32":
    import resource

_MOST = 1 << 20
"""What a process may have on Linux unless its `fs.nr_open` was changed: a hard limit without an end
is this."""


@dataclass(frozen=True, slots=True)
class Descriptors:
    """What connections may take. The kernel hands out the lowest free number: the number of a new
    descriptor says how many are in use at least."""

    limit: int

    @property
    def for_known(self) -> int:
        """The first number that no connection gets: the rest is for files, pipes and probes."""
        return self.limit - min(256, max(16, self.limit // 32))

    @property
    def for_strangers(self) -> int:
        """The first number that is kept for networks of which a peer has registered."""
        return self.for_known - min(4_096, self.limit // 8)

    @property
    def connections(self) -> int:
        """Control connections that there may be at most: the rest is for planes, and for who has
        just come."""
        return max(1, self.for_strangers * 3 // 4)

    @property
    def share(self) -> int:
        """What one network may have of these, and what all who have just come may have."""
        return max(1, self.for_strangers // 2)

    @classmethod
    def of_process(cls) -> "Descriptors":
        """Return those that the process may have now."""
        if sys.platform == "win32":
            return cls(_MOST)
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return cls(_MOST if soft == resource.RLIM_INFINITY else min(soft, _MOST))


def raise_limit() -> tuple[int, int]:
    """Raise the soft limit of this process to the hard one; return both, as they were and as it is
    now. The limit is the process's: only a program that is nothing but a relay does this."""
    before = Descriptors.of_process().limit
    if sys.platform != "win32":
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = _MOST if hard == resource.RLIM_INFINITY else min(hard, _MOST)
        if wanted > before:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return before, Descriptors.of_process().limit
