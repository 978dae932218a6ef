"""Offers: what this side tells the other one of a session with a request, and with its answer.

Each part is its feature's own: where the two can meet (meetings.py), and what the plane between
them is locked by (locks.py). What was offered is opened once; what does not hold is as none.
"""

from dataclasses import dataclass

from peers.control import Answered, ControlConnection, Registration
from peers.roaming.closed import Closed
from peers.roaming.local import Local
from peers.roaming.locks import LOCKED_BY_TLS
from peers.roaming.meetings import Meetings, Midway
from peers.roaming.route import Route
from protocol.errors import IdentityError, ProtocolViolation
from protocol.features import OFFER
from protocol.identity import public_key_of
from protocol.lock import Agreed, Lock, lock_part, locks_part, read_lock
from protocol.messages import Mode, ServiceRequestFrom
from protocol.offer import (
    answer_offer,
    body_of,
    body_with,
    make_offer,
    open_answer,
    open_offer,
)

__all__ = ["NOTHING_ASKED", "Asked", "Offers"]

_OVER_PLANES = (Mode.CENTRAL, Mode.AUTO)
"""The modes of a request that is answered with a plane."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What goes with a request."""

    offer: bytes = b""
    relay: bytes = b""
    """The relay's key, where locks are offered."""
    locks: tuple[Lock, ...] = ()


NOTHING_ASKED = Asked()


class Offers:
    """Of one peer."""

    def __init__(self, local: Local, registration: Registration, meetings: Meetings) -> None:
        self._local = local
        self._registration = registration
        self._meetings = meetings

    # -- this side asks ---------------------------------------------------------------------------

    def ask(self, route: Route, mode: Mode | None = None) -> Asked:
        """Return what goes with a session's request, in its mode or another; its offer is empty
        where there is nothing to offer, or the relay passes none on."""
        current = self._registration.current
        if current is None or OFFER not in current.relay.features:
            return NOTHING_ASKED
        session, relay = route.session, b""
        locks: tuple[Lock, ...] = ()
        parts = self._meetings.offer(route, current)
        if (mode or session.mode) in _OVER_PLANES:
            relay, locks = public_key_of(current.relay.guid), session.terms.locks_taken
            parts |= locks_part(locks, relay)
        if not parts:
            return NOTHING_ASKED
        offer = make_offer(self._local.identity, session.remote, session.id, body_with(parts))
        return Asked(offer, relay, locks)

    def answered(self, route: Route, asked: Asked, answer: Answered) -> Agreed:
        """The other side has accepted a request: return what it has chosen of locks."""
        self._meetings.answered(route, asked.offer, answer)
        if not asked.locks:
            # Who was asked takes a request that offers nothing for a ticket's.
            before = route.agreed if route.session.has_had_path else None
            return LOCKED_BY_TLS if before is None else before.by_ticket()
        lock = self._chosen(route, asked, answer.response.offer)
        agreed = Agreed(asked.relay, tuple(asked.locks), lock or Lock.TLS)
        if lock in asked.locks:
            route.agreed = agreed
        return agreed

    def _chosen(self, route: Route, asked: Asked, answering: bytes) -> str | None:
        """Return what an answer says of the lock; None where it says nothing that holds. That it is
        TLS need not be proven: that is what is taken where nothing is said."""
        lock = read_lock(body_of(answering))
        if lock is None or lock == Lock.TLS:
            return lock
        session, here = route.session, self._local.identity.guid
        try:
            open_answer(answering, session.remote, here, session.id, asked.offer)
        except ProtocolViolation as error:
            route.trace.note("dropped", reason=f"what the other side offers: {error.reason}")
            return None
        return lock

    # -- this side is asked -----------------------------------------------------------------------

    def heard(self, request: ServiceRequestFrom) -> bytes:
        """Return the body of what a request offers; empty where it offers nothing, or nothing that
        holds."""
        if not request.offer:
            return b""
        here = self._local.identity.guid
        try:
            return open_offer(request.offer, request.guid, here, request.session)
        except (ProtocolViolation, IdentityError):  # The relay may name anything as who asks.
            return b""

    def answer(
        self,
        connection: ControlConnection,
        known: Route | Closed,
        request: ServiceRequestFrom,
        body: bytes,
        agreed: Agreed,
    ) -> tuple[bytes, Midway | None]:
        """Return what answers a request whose offer has this body, with what is `agreed` of a
        plane, and the meeting that follows; empty and None where there is nothing to say. Who has
        missed the last word of a session meets nobody."""
        if not body:
            if request.offer and isinstance(known, Route):
                known.trace.note("dropped", reason="what the other side offers does not hold")
            return b"", None
        parts: dict[str, object] = {}
        midway = None
        if isinstance(known, Route):
            parts, midway = self._meetings.answer(connection, known, request, body)
        if agreed.offered:
            parts |= lock_part(agreed.chosen)
            known.agreed = agreed
        if not parts:
            return b"", None
        identity = self._local.identity
        asked, body = request.offer, body_with(parts)
        return answer_offer(identity, request.guid, request.session, asked, body), midway
