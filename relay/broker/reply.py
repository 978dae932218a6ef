"""The response to a service request: exactly one, whatever happens on the way to it."""

from collections.abc import Callable
from enum import Enum
from typing import Any, Protocol

from msgspec import structs

from protocol.endpoint import SignedEntry
from protocol.errors import Code
from protocol.messages import Message, Mode, PeerState, ServiceRequestTo, ServiceResponse
from relay.limits import Cause, cause_of
from relay.metrics import Metrics, RequestTold
from relay.presence import RegisteredPeer
from relay.tally import Figures

__all__ = ["NOT_TOLD", "Asker", "Elsewhere", "Reply", "told_of"]


class Asker(Protocol):
    """Who is told what comes of a request."""

    guid: str
    observed_host: str
    """Where it comes from; empty where that is not known."""
    observed_port: int
    """0 where that is not known."""
    cause: Cause
    """Who is charged for what it asks."""
    asks: dict[Any, None]
    """Its requests that wait: the broker's to fill."""

    @property
    def features(self) -> frozenset[str]:
        """What it and the relay have both named."""

    @property
    def had(self) -> Figures:
        """What it has had: to be added to."""

    def send(self, message: Message) -> None:
        """Queue a message."""


class Seen(Protocol):
    """Whose connection it is that the relay sees."""

    observed_host: str
    observed_port: int


NOT_TOLD = "", 0
"""Without an offer, which is most often: not even asked then."""


def told_of(
    flow: Seen | None, mode: Mode, entries: tuple[SignedEntry, ...], offer: bytes
) -> tuple[str, int]:
    """Return where the relay sees the flow on which one side has made an offer, for the other one;
    nothing where that one learns none of its addresses besides."""
    if flow is None or not (offer and entries and flow.observed_host and flow.observed_port):
        return NOT_TOLD
    return (flow.observed_host, flow.observed_port) if mode in _DIRECT else NOT_TOLD


class Elsewhere:
    """Somebody at another node: what it may be told was looked at there, and so were its rates."""

    def __init__(self, guid: str, host: str, answered: Callable[[ServiceResponse], None]) -> None:
        self.guid = guid
        self.observed_host, self.observed_port = host, 0
        self.features: frozenset[str] = frozenset()
        self.cause = cause_of(host, guid)
        self.asks: dict[Any, None] = {}
        self.had = Figures()
        self._answered = answered

    def send(self, message: Message) -> None:
        if isinstance(message, ServiceResponse):
            self._answered(message)


class _State(Enum):
    OWED = "owed"
    GOOD = "good"
    FAILED = "failed"


# Python 3.11 looks an enum's member up in 0.3 µs: as long as a look-up of a peer takes.
_OWED, _GOOD, _FAILED = _State
_ONLINE = PeerState.ONLINE
_DIRECT = Mode.COMBINED, Mode.AUTO
"""The modes in which the other side is asked, and may learn addresses."""


class Reply:
    """What one request is answered with. The first word counts, and later ones are not said."""

    __slots__ = ("_metrics", "_state", "caller", "request", "ticket")

    def __init__(
        self, caller: Asker, request: ServiceRequestTo, metrics: Metrics, ticket: str | None = None
    ) -> None:
        self.caller = caller
        self.request = request
        self.ticket = ticket
        """The caller's, for the plane that was made for the request."""
        self._metrics = metrics
        self._state = _OWED

    @property
    def failed(self) -> bool:
        """Whether nothing comes of the request."""
        return self._state is _FAILED

    def succeed(
        self,
        callee: RegisteredPeer,
        now: float,
        entries: tuple[SignedEntry, ...] = (),
        offer: bytes = b"",
        flow: Seen | None = None,
    ) -> None:
        """Tell the caller how to reach the callee, and what that one offers, on its `flow`."""
        host, port = told_of(flow, self.request.mode, entries, offer) if offer else NOT_TOLD
        self._give(
            _GOOD,
            "ok",
            ServiceResponse(
                self.request.request,
                state=_ONLINE,
                last_seen=callee.last_seen(now),
                entries=entries,
                ticket=self.ticket,
                offer=offer,
                observed_host=host,
                observed_port=port,
            ),
        )

    def offline(self, state: PeerState, last_seen: float) -> None:
        """Tell the caller since when, in seconds, the callee has not been heard of."""
        code = Code.PEER_OFFLINE
        reason = f"the peer is {state.value}: last seen {last_seen:.0f} s ago"
        response = ServiceResponse(self.request.request, code, reason, state, last_seen)
        self._give(_FAILED, code.value, response)

    def fail(self, code: Code, reason: str, retry_after: float | None = None) -> None:
        """Tell the caller why not."""
        if code is Code.LIMIT_EXCEEDED and self._state is _OWED:
            self.caller.had.refusals += 1
        response = ServiceResponse(self.request.request, code, reason, retry_after=retry_after)
        self._give(_FAILED, code.value, response)

    def pass_on(self, response: ServiceResponse) -> None:
        """Tell the caller what another node has answered."""
        code = response.code
        ticket = response.ticket or (self.ticket if code is None else None)
        own = structs.replace(response, request=self.request.request, ticket=ticket)
        if code is None:
            self._give(_GOOD, "ok", own)
        else:
            self._give(_FAILED, code.value, own)

    def drop(self) -> None:
        """There is nobody left to tell."""
        self._state = _FAILED

    def _give(self, state: _State, outcome: str, response: ServiceResponse) -> None:
        if self._state is not _OWED:
            return
        self._state = state
        # `value` is looked up by Python code; this is where it is (enum's documentation names it).
        self._metrics.requests[self.request.mode._value_, outcome] += 1
        asked = self._metrics.asked
        if asked is not None:  # Somebody looks at the dashboard.
            request = self.request
            asked.append(
                RequestTold(
                    self.caller.guid, request.guid, request.service, request.mode.value, outcome
                )
            )
        self.caller.send(response)
