"""The port at which this peer listens, as the one from which it dials its relay."""

from collections import OrderedDict

from peers.transport import RawStream, RelayAddress, Stream

__all__ = ["OwnPort"]

_MAX_RELAYS = 64
"""Relays of which the last connection is remembered; beyond it the oldest is forgotten."""


class OwnPort:
    """Says for which connections it is taken. Where the last one from there was given up, the
    relay's host may have it still, and would answer its packets: that costs round trips, and the
    next connection has none to lose."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._last: OrderedDict[str, Stream] = OrderedDict()
        """By relay the last connection that has left from there."""

    def towards(self, relay: RelayAddress) -> int | None:
        """Return the port from which a relay is dialed now; None is any."""
        last = self._last.pop(str(relay), None)
        if last is not None and (not isinstance(last, RawStream) or last.gave_up):
            return None
        return self.port or None

    def dialed(self, relay: RelayAddress, stream: Stream) -> None:
        """A connection to a relay is there, from whichever port."""
        if stream.local.rpartition(":")[2] != str(self.port):
            return
        self._last[str(relay)] = stream
        if len(self._last) > _MAX_RELAYS:
            self._last.popitem(last=False)
