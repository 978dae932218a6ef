"""The services that one peer offers, by name."""

from collections.abc import Callable, Collection
from dataclasses import dataclass

from peers.config import checked_service
from peers.location import Offered, OwnLocation
from peers.services.listener import Listener
from protocol.errors import ConnectionClosed, RoamRelayError
from protocol.messages import LocationRecord

__all__ = ["Services", "ServicesChanged"]


@dataclass(frozen=True, slots=True)
class ServicesChanged:
    """There is one service more, or one less."""

    ended: str | None = None
    """The one that is not offered any more."""


class Services:
    """The listeners of one peer, and the location record that tells of them.

    `tell` is told whenever there is one more, or one less. It must not raise.
    """

    def __init__(self, location: OwnLocation, tell: Callable[[ServicesChanged], None]) -> None:
        self.listeners: dict[str, Listener] = {}
        self._location = location
        self._tell = tell
        self._closed = False

    def find(self, service: str) -> Listener | None:
        """Return the listener of a service; None where it is not offered."""
        return self.listeners.get(service)

    def offered(self) -> list[Offered]:
        """What is offered, as a record tells it."""
        return [listener.offered for listener in self.listeners.values()]

    def record(self, local_host: str) -> LocationRecord:
        """Return the location record of now, for a connection to the relay from this address."""
        self._location.used(local_host)
        return self._location.record(self.offered())

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
        checked_service(service)
        if service in self.listeners:
            raise ValueError(f"{service} is offered already")
        listener = Listener(
            service,
            allow=allow,
            disclose=disclose,
            on_closed=self._gone,
            port=port,
        )
        self.listeners[service] = listener
        self._tell(ServicesChanged())
        return listener

    def end(self, error: RoamRelayError | None) -> None:
        """Take every service back; what waits for them is told why."""
        for listener in list(self.listeners.values()):
            listener.close(error)

    def close(self) -> None:
        """Do so, and offer nothing more: who closes altogether has nothing to publish."""
        self._closed = True
        self.end(ConnectionClosed("the peer is closed"))

    def _gone(self, listener: Listener) -> None:
        if self.listeners.get(listener.service) is listener:
            del self.listeners[listener.service]
            if not self._closed:
                self._tell(ServicesChanged(listener.service))
