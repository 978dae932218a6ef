"""The services that one peer offers, by name."""

from collections.abc import Callable, Collection

import msgspec

from peers.services.listener import Listener
from protocol.errors import ConnectionClosed, RoamRelayError
from protocol.messages import Service

__all__ = ["Services"]

_SERVICE = msgspec.json.Decoder(Service)


class Services:
    """`changed` is called whenever there is one more, or one less."""

    def __init__(self, changed: Callable[[], object]) -> None:
        self.listeners: dict[str, Listener] = {}
        self._changed = changed
        self._closed = False

    def offer(
        self,
        service: str,
        allow: Collection[str] | None,
        disclose: str | Collection[str],
        port: int | None,
    ) -> Listener:
        """Offer a service; at another program's `port` where there is one.

        Raises:
            ValueError: not a service name, already offered, or `disclose` cannot be used.
            ConnectionClosed: the peer is closed.
        """
        if self._closed:
            raise ConnectionClosed("the peer is closed")
        try:
            _SERVICE.decode(msgspec.json.encode(service))
        except msgspec.ValidationError:
            raise ValueError(
                f"not a service name: {service!r} (1 to 63 of a-z, 0-9 and inner hyphens)"
            ) from None
        if service in self.listeners:
            raise ValueError(f"{service} is offered already")
        listener = Listener(service, allow=allow, disclose=disclose, on_close=self._gone, port=port)
        self.listeners[service] = listener
        self._changed()
        return listener

    def end(self, error: RoamRelayError | None) -> None:
        """Take every service back; what waits for them is told why."""
        for listener in list(self.listeners.values()):
            listener.close(error)

    def close(self) -> None:
        """Do so, and offer nothing more."""
        self._closed = True
        self.end(ConnectionClosed("the peer is closed"))

    def _gone(self, listener: Listener) -> None:
        if self.listeners.get(listener.service) is listener:
            del self.listeners[listener.service]
            self._changed()
