"""One mapped port: when the router is asked, asked again, and told that it is not needed any more.

PURE: `now → datagrams`, with `next_timeout`. Times are seconds of any clock that only grows. PCP is
tried first, then NAT-PMP.
"""

from dataclasses import replace
from enum import Enum

from peers.gateway.messages import (
    ADDRESS_REQUEST,
    Answer,
    Kind,
    nat_pmp_request,
    pcp_request,
    read,
)
from protocol.endpoint import Endpoint
from protocol.errors import ProtocolViolation

__all__ = ["LIFETIME", "Lease", "State"]

LIFETIME = 120
"""Seconds for which a mapping is asked for: what is left of a program that was killed."""
_TRIES = (0.25, 0.5, 1.0, 2.0)
"""Seconds for each request to be answered, before it is said again (RFC 6886 §3.1)."""
_FIRST_REST, _LONGEST_REST = 60.0, 3600.0
"""Seconds after which a router is asked again that does not answer, or refuses."""
_SHORTEST = 10.0
"""Seconds between two renewals at the least, whatever a router grants."""


class State(Enum):
    """Whether there is a mapping, and what is done about it."""

    ASKING = "asking"
    HELD = "held"
    RENEWING = "renewing"
    RESTING = "resting"
    CLOSED = "closed"


class Lease:
    """A mapping of a TCP port of the host `here`, from `now` on. `nonce` is 12 random bytes."""

    def __init__(self, here: str, port: int, nonce: bytes, now: float) -> None:
        self._here = here
        self._port = port
        self._nonce = nonce
        self._speaks_pcp = True
        self.state = State.ASKING
        self._tries = 0
        self._due = now
        self._rest = _FIRST_REST
        self._ends = now
        """When the mapping that is held ends by itself."""
        self._address = ""
        self._said: Answer | None = None
        """What NAT-PMP says in two answers, of the request that is under way."""
        self._external = 0
        """The port that others come to, as far as one was given."""
        self.mapped: Endpoint | None = None
        """Where the router says that others reach this peer; None where they do not."""
        self.reason = ""
        """Why there is none, in words."""

    def next_timeout(self) -> float | None:
        """Return when `handle_timeout` must be called next; None for never."""
        if self.state is State.CLOSED:
            return None
        return min(self._due, self._ends) if self.mapped is not None else self._due

    def handle_timeout(self, now: float) -> list[bytes]:
        """Return what is to be sent to the router now."""
        if self.state is State.CLOSED:
            return []
        if self.mapped is not None and now >= self._ends:
            self.mapped = None
            if self.state is State.HELD:
                self.state = State.RESTING
        if now < self._due:
            return []
        if self.state in (State.HELD, State.RESTING):
            self.state = State.RENEWING if self.state is State.HELD else State.ASKING
            self._tries, self._address, self._said = 0, "", None
        if self._tries == len(_TRIES):
            if not self._speaks_pcp:
                # What was granted holds for its time, whoever answers now.
                self._give_up("the router does not answer", now, self.mapped)
                return []
            # Some that know the older words alone say nothing to the newer ones.
            self._speaks_pcp, self._tries = False, 0
        self._due = now + _TRIES[self._tries]
        self._tries += 1
        return self._request(LIFETIME)

    def receive(self, data: bytes, now: float) -> None:
        """Take what the router has said; what was not asked for means nothing."""
        answer = read(data)
        if answer is None or self.state not in (State.ASKING, State.RENEWING):
            return
        if answer.kind is Kind.PCP:
            self._receive_pcp(answer, now)
        elif self._speaks_pcp:
            return
        elif answer.result:
            self._give_up(f"the router refuses: {answer.kind.value}, result {answer.result}", now)
        elif answer.kind is Kind.ADDRESS:
            self._address = answer.host
        elif answer.internal == self._port:
            self._said = answer
        if self._said is not None and self._address:
            self._hold(replace(self._said, host=self._address), now)

    def close(self) -> list[bytes]:
        """It is not needed any more: return what takes the mapping back. Nothing answers that in
        time; what is lost ends by itself."""
        asked = self.state in (State.ASKING, State.RENEWING) and self._tries > 0
        held = asked or self.mapped is not None
        self.state, self.mapped = State.CLOSED, None
        return self._request(0)[:1] if held else []

    # -- inside ---------------------------------------------------------------------------------

    def _request(self, lifetime: int) -> list[bytes]:
        suggested = self._external or self._port
        if self._speaks_pcp:
            return [pcp_request(self._nonce, self._here, self._port, suggested, lifetime)]
        return [nat_pmp_request(self._port, suggested, lifetime), ADDRESS_REQUEST]

    def _receive_pcp(self, answer: Answer, now: float) -> None:
        if not self._speaks_pcp:
            return
        if answer.result == 1:
            self._speaks_pcp, self._tries, self._due = False, 0, now
        elif answer.nonce != self._nonce or answer.internal != self._port:
            return
        elif answer.result:
            self._give_up(f"the router refuses: {answer.kind.value}, result {answer.result}", now)
        else:
            self._hold(answer, now)

    def _hold(self, answer: Answer, now: float) -> None:
        try:
            at = Endpoint.parse(answer.host, answer.port)
        except ProtocolViolation:
            self._give_up("the router names no address", now)
            return
        if not answer.lifetime:
            self._give_up("the router grants no time", now)
            return
        self.mapped, self.reason, self.state = at, "", State.HELD
        # Not for longer than was asked for: it may be gone, and nobody would know.
        self._ends = now + min(answer.lifetime, LIFETIME)
        self._external, self._rest = answer.port, _FIRST_REST
        self._due = now + max(min(answer.lifetime, LIFETIME) / 2, _SHORTEST)

    def _give_up(self, reason: str, now: float, mapped: Endpoint | None = None) -> None:
        self.reason, self.state, self.mapped = reason, State.RESTING, mapped
        self._speaks_pcp = True
        self._due = now + self._rest
        self._rest = min(2 * self._rest, _LONGEST_REST)
