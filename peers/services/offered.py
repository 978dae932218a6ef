"""The services that one peer offers, by name."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TypeVar

from peers.config import ServiceNameError, checked_service, log
from peers.location import MAX_RECORD_BYTES, Offered, OwnLocation, fits
from peers.services.admission import Accept, Admission
from peers.services.end import ConversationsEnd, ListenerEnd
from peers.services.listener import Listener
from protocol.errors import ConnectionClosed, RoamRelayError
from protocol.messages import MAX_SERVICES, Disclosure, LocationRecord

__all__ = ["Services", "ServicesChanged"]


@dataclass(frozen=True, slots=True)
class ServicesChanged:
    """There is one service more, or one less."""

    ended: str | None = None
    """The one that is not offered any more."""


_L = TypeVar("_L", bound=ListenerEnd)
_Terms = tuple[str, Disclosure, tuple[str, ...]]
"""A service as a record tells it, wherever it is."""


def _terms(one: Offered) -> _Terms:
    return one.service, one.disclosure, one.listed


def _terms_of(record: LocationRecord) -> frozenset[_Terms]:
    return frozenset((one.service, one.disclose, one.listed) for one in record.services)


_MAX_USED = 1_024
"""Names of services that are noted; a configuration names fewer."""


class Services:
    """The listeners of one peer, and the location record that tells of them.

    `tell` is told whenever there is one more, or one less. It must not raise. What cannot be in one
    record is not offered, where it `registers` with a relay.

    Where a relay cannot take what is offered now, what it has taken before stays in force, as far
    as it is still offered, until what is offered changes.
    """

    def __init__(
        self,
        location: OwnLocation,
        tell: Callable[[ServicesChanged], None],
        *,
        registers: bool = True,
        blocked: Collection[str] = (),
    ) -> None:
        self._blocked = set(blocked)
        """The GUIDs to which nothing is offered."""
        self.listeners: dict[str, ListenerEnd] = {}
        self._location = location
        self._tell = tell
        self._registers = registers
        self._closed = False
        self._in_force: frozenset[_Terms] = frozenset()
        """What a relay has taken last."""
        self._refused: frozenset[_Terms] = frozenset()
        """What a relay could not take, and why: see `refusal`."""
        self._refusal: RoamRelayError | None = None
        self.used: set[str] = set()
        """Names that were offered, or asked for."""

    def use(self, service: str) -> None:
        """Note that a service was offered or asked for. A program may ask for names without end:
        those above a bound are not noted."""
        if len(self.used) < _MAX_USED:
            self.used.add(service)

    def find(self, service: str, guid: str) -> ListenerEnd | None:
        """Return the listener of a service; None where it is not offered, or not to this peer,
        which learns no more than if there were none."""
        return None if guid in self._blocked else self.listeners.get(service)

    def blocks(self, guid: str) -> bool:
        """Whether nothing is offered to this peer."""
        return guid in self._blocked

    def block(self, guid: str, blocked: bool) -> None:
        """Offer nothing to this peer any more, or what is offered to others."""
        (self._blocked.add if blocked else self._blocked.discard)(guid)

    def offered(self) -> list[Offered]:
        """What is offered, as a record tells it."""
        return [listener.offered for listener in self.listeners.values()]

    def record(self, local_host: str) -> LocationRecord:
        """Return the location record of now, for a connection to the relay from this address."""
        self._location.used(local_host)
        offered = self.offered()
        if self.refusal is not None:
            offered = [one for one in offered if _terms(one) in self._in_force]
        return self._location.record(offered, most_bytes=MAX_RECORD_BYTES)

    def advance(self, seq: int) -> bool:
        """Give the next record a number above this one, if it is not beyond all clocks; return
        whether it is newer than it would have been."""
        return self._location.advance(seq)

    def accepted(self, record: LocationRecord) -> None:
        """A relay has put this record in force."""
        self._in_force = _terms_of(record)

    def refused(self, record: LocationRecord, error: RoamRelayError) -> None:
        """A relay cannot take this record."""
        refused = _terms_of(record)
        if refused != self._in_force and refused == self._offered_terms:
            self._refused, self._refusal = refused, error
            log.error("what is offered is not registered", reason=error.reason)

    @property
    def refusal(self) -> RoamRelayError | None:
        """Why what is offered now is not registered; None where nothing speaks against it."""
        return self._refusal if self._offered_terms == self._refused else None

    @property
    def _offered_terms(self) -> frozenset["_Terms"]:
        return frozenset(map(_terms, self.offered()))

    def offer(
        self,
        service: str,
        allow: Collection[str] | None,
        disclose: str | Collection[str],
        port: int | None,
        accept: Accept | None = None,
    ) -> Listener:
        """Offer a service; at another program's `port` where there is one.

        Raises:
            ValueError: not a service name, already offered, one more than a record may have, or
                `disclose` cannot be used or is too long.
            IdentityError, TypeError: as `Admission.checked`.
            ConnectionClosed: the peer is closed.
        """
        return self._offer(ListenerEnd, service, Admission.checked(allow, accept), disclose, port)

    def offer_conversations(
        self, service: str, disclose: str | Collection[str]
    ) -> ConversationsEnd:
        """Offer a service whose sessions carry conversations; nobody is admitted yet.

        Raises:
            ValueError, ConnectionClosed: as `offer`.
        """
        return self._offer(ConversationsEnd, service, Admission(frozenset()), disclose, None)

    def end(self, error: RoamRelayError | None) -> None:
        """Take every service back; what waits for them is told why."""
        for listener in list(self.listeners.values()):
            listener.close(error)

    def close(self) -> None:
        """Do so, and offer nothing more: who closes altogether has nothing to publish."""
        self._closed = True
        self.end(ConnectionClosed("the peer is closed"))

    def _offer(
        self,
        kind: type[_L],
        service: str,
        admission: Admission,
        disclose: str | Collection[str],
        port: int | None,
    ) -> _L:
        if self._closed:
            raise ConnectionClosed("the peer is closed")
        try:
            checked_service(service)
        except ServiceNameError as error:  # There is no unknown one: this peer is to offer it.
            raise ValueError(error.reason) from None
        self.use(service)
        if service in self.listeners:
            raise ValueError(f"{service} is offered already")
        if self._registers and len(self.listeners) >= MAX_SERVICES:
            raise ValueError(
                f"{service} cannot be offered: a peer has at most {MAX_SERVICES} services at once"
            )
        listener = kind(
            service,
            admission,
            disclose=disclose,
            on_closed=self._gone,
            port=port,
        )
        if self._registers and not fits([*self.offered(), listener.offered]):
            raise ValueError(
                f"{service} cannot be offered: the disclosure lists of all services together are "
                "too long for one location record"
            )
        self.listeners[service] = listener
        self._tell(ServicesChanged())
        return listener

    def _gone(self, listener: Listener) -> None:
        if self.listeners.get(listener.service) is listener:
            del self.listeners[listener.service]
            if not self._closed:
                self._tell(ServicesChanged(listener.service))
