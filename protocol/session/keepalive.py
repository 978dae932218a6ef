"""For how long a direct path may be quiet: what was agreed, and what a network was seen to bear.

A NAT or a firewall forgets a connection that says nothing for a while, which may be a minute or
many hours, and tells nobody. The interval of a quiet path's pings begins at what is safe
everywhere, grows while paths live, and falls back when one has died of quiet. PURE: what happened
goes in, seconds come out.
"""

from collections import OrderedDict

__all__ = ["LONGEST_QUIET", "Keepalive", "Keepalives", "agreed_quiet"]

LONGEST_QUIET = 300.0
"""Seconds between two pings that a side bears which has no wish of its own: for so long, and a
little more, it may not notice that the other side is gone while it has nothing to say to it."""
_GROWTH = 1.5
"""How much longer the next quiet is tried than the one that a path has survived."""
_NEAR = 1.2
"""What is tried next keeps so far below what a path has died of."""
_TRIED_AGAIN = 20
"""Quiets survived at the same interval after which a death is taken for an accident."""
_MAX_NETWORKS = 64
"""Networks that are remembered; beyond it the one that was used least lately is forgotten."""


def agreed_quiet(here: float, there: float) -> float:
    """Return the longest that both sides let a path be quiet, in seconds, where both know of it;
    `here` and `there` are what they wish, 0 for no wish. 0 where neither has one."""
    wishes = [wish for wish in (here, there) if wish > 0]
    return min(*wishes, LONGEST_QUIET) if len(wishes) == 1 else min(wishes, default=0.0)


class Keepalive:
    """What one network was seen to bear. Times are seconds."""

    def __init__(self) -> None:
        self._lasted = 0.0
        """The longest quiet that a path has survived."""
        self._died: float | None = None
        """The shortest that one has not."""
        self._settled = 0
        """Quiets survived since then, of those that could not be longer."""

    def interval(self, safe: float, longest: float) -> float:
        """Return after how long a quiet path is pinged, between these two."""
        wanted = max(safe, self._lasted * _GROWTH)
        if self._died is not None:
            # Also where more was survived since: that may have been beside the NAT, in one network.
            wanted = max(safe, min(wanted, self._died / _NEAR))
        return min(wanted, max(longest, safe))

    def survived(self, quiet: float) -> None:
        """Something came on a path after it had been quiet for so long."""
        if self._died is not None and quiet * _GROWTH >= self._died / _NEAR:
            self._settled += 1
            if self._settled >= _TRIED_AGAIN:
                self._died, self._settled = None, 0
        self._lasted = max(self._lasted, quiet)

    def died(self, quiet: float) -> None:
        """A path that had been quiet for so long did not answer what came then."""
        self._settled = 0
        self._died = quiet if self._died is None else min(self._died, quiet)
        if self._lasted >= self._died / _NEAR:
            self._lasted = self._died / 2

    def why(self, interval: float, safe: float) -> str:
        """Say why the interval is what it is."""
        if self._died is not None:
            return f"a path died after {self._died:.3g} s, {self._lasted:.3g} s were survived"
        if self._lasted <= safe or interval <= safe:
            return "nothing longer was survived here yet"
        if interval <= self._lasted:
            return f"as both sides agreed; {self._lasted:.3g} s were survived"
        return f"{self._lasted:.3g} s were survived, longer is tried"


class Keepalives:
    """What was seen, by network: each is named by this host's own address there."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, Keepalive] = OrderedDict()

    def at(self, network: str) -> Keepalive:
        """Return what is known of a network."""
        known = self._known.setdefault(network, Keepalive())
        self._known.move_to_end(network)
        if len(self._known) > _MAX_NETWORKS:
            self._known.popitem(last=False)
        return known
