"""Return routability: which endpoints of a peer the relay may disclose (design §9).

An address that a peer's own connection comes from needs no proof. At any other the relay itself
completes one TLS handshake, in which the peer's key must show. Nothing else is sent, and what came
of it is told to nobody. One probe at a time for each peer, few in all, with growing pauses
(`turns.py` decides), only where the operator allows it (`scopes.py`), and few to any address, by
whoever names it (`protocol.dialing`): a peer can make neither a port scanner nor a flood of it.
"""

import asyncio
import contextlib
from collections.abc import Callable, Collection, Coroutine, Generator, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, assert_never

from protocol.dialing import Attempt, Budgets, Outcome, Rate, Share, outcome_of
from protocol.endpoint import Endpoint, Entry, Phase, open_entry
from protocol.errors import Code, RoamRelayError
from protocol.messages import EndpointQuery, EndpointResponse
from relay.limits import SIGNATURE, cause_of
from relay.log import log, short
from relay.metrics import Metrics
from relay.presence.handshake import Handshake
from relay.presence.queries import ANSWERED_AFTER, Asker, Queries, Query
from relay.presence.records import Services
from relay.presence.registry import RegisteredPeer, Registry
from relay.presence.turns import Begin, CallOff, Turns

__all__ = ["ProofRules", "Proofs"]

_PROBE = "a probe"
_SHARES: Mapping[Hashable, Share] = {
    _PROBE: Share(
        Rate(32, 1.0), Rate(6, 20.0), Rate(16, 5.0), Rate(128, 1.0), Rate(1024, 0.05),
        first_pause=5.0, longest_pause=600.0,
    )
}  # fmt: skip
"""What probes may cost others, beside the turns: where a peer's key was met, nothing. A peer's own
rate is that of its turns; an address or a network has few whoever names it."""


@dataclass(frozen=True, slots=True)
class ProofRules:
    """What the operator allows probes; times are seconds."""

    allowed: Callable[[Endpoint, Collection[str]], bool]
    """Whether an endpoint may be dialed, for a peer that is observed at these addresses."""
    timeout: float
    """For one probe."""
    lifetime: float
    """For which a proof holds."""


@dataclass(frozen=True, slots=True)
class _Named:
    """The endpoints that a peer names and that need a proof: the same as long as its record and the
    addresses that it comes from are. Which of them may be dialed costs 10 µs each to say, and is
    asked before and after each probe of each of them."""

    services: Services
    observed_hosts: frozenset[str]
    endpoints: tuple[Endpoint, ...]


class Proofs:
    """The probes of one relay: carries out what `Turns` decides."""

    def __init__(
        self,
        registry: Registry,
        metrics: Metrics,
        rules: ProofRules,
        clock: Callable[[], float],
        spawn: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        self._registry = registry
        self._metrics = metrics
        self._rules = rules
        self._clock = clock
        self._spawn = spawn
        self._turns = Turns(rules.lifetime)
        self._budgets = Budgets(_SHARES)
        self._queries = Queries()
        self._changed: asyncio.Event | None = None
        """Set to look again; None while nobody looks."""
        self._handshakes: dict[str, asyncio.Timeout] = {}
        """Those under way, by the peer that is probed."""
        self._named: dict[str, _Named] = {}
        """Of peers that have endpoints to prove, as long as the turns know them."""

    @property
    def working(self) -> int:
        """Peers whose endpoints are probed, or will be again."""
        return len(self._turns)

    def ask(self, asker: Asker, query: EndpointQuery, now: float) -> Generator[float, None, None]:
        """Answer a question, now or later. It tells what a look-up of the peer would tell, were the
        endpoint in its record: and the peer itself, what it would find proven of its own.

        A generator, as `Registry.checking`: it yields what the next step costs.
        """
        queries = self._queries
        if wait := queries.wait_of(asker, now):
            self._decline(asker, query.request, wait)
            return
        yield SIGNATURE
        try:
            entry = open_entry(query.guid, query.entry)
        except RoamRelayError as error:
            code = error.code or Code.BAD_MESSAGE
            asker.send(EndpointResponse(query.request, code=code, reason=error.reason[:512]))
            return
        registration = self._registry.get(query.guid)
        may_learn = registration is not None and _may_learn(registration, asker, entry)
        if may_learn and registration is not None and entry.endpoint in registration.proofs:
            asker.send(EndpointResponse(query.request, True))
            return
        due = now + ANSWERED_AFTER
        waiting = Query(asker, query.request, query.guid, entry.endpoint, due)
        gone = queries.put(waiting)
        for other in (waiting,) if gone is None else gone:
            self._decline(other.asker, other.number, ANSWERED_AFTER)
        if gone is None or not may_learn or not queries.want(query.guid, entry, now):
            return
        self.consider(query.guid)

    def lost(self, asker: Asker) -> None:
        """A connection has ended."""
        self._queries.lost(asker)

    def expire(self, now: float) -> None:
        """Answer the questions whose time is over: call it a few times a second."""
        for query in self._queries.expired(now):
            query.asker.send(EndpointResponse(query.number))

    def forget(self, now: float) -> None:
        """Forget what was asked for and is not asked for any more: call it every now and then."""
        for guid in self._queries.forget(now):
            self._refresh(guid)

    def consider(self, guid: str) -> None:
        """A peer has registered or updated: prove what is not proven."""
        self._refresh(guid)
        if self._changed is not None:
            self._changed.set()
        elif self.working:
            self._changed = asyncio.Event()
            self._spawn(self._keep(self._changed))

    async def _keep(self, changed: asyncio.Event) -> None:
        """Probe as long as any peer has an endpoint to prove."""
        try:
            while self.working:
                changed.clear()
                for action in self._turns.time(self._clock()):
                    match action:
                        case Begin(guid, endpoint):
                            self._begin(guid, endpoint)
                        case CallOff(guid):
                            self._call_off(guid)
                        case _:
                            assert_never(action)
                due = self._turns.next_timeout()
                with contextlib.suppress(TimeoutError):
                    # Without a deadline it is a probe that ends, and tells.
                    async with asyncio.timeout(None if due is None else due - self._clock()):
                        await changed.wait()
        finally:
            self._changed = None

    def _begin(self, guid: str, endpoint: Endpoint) -> None:
        attempt = Attempt(guid, endpoint, _PROBE)
        if endpoint not in self._refresh(guid):  # Its peer has gone meanwhile.
            self._finished(guid, endpoint, False)
        elif self._budgets.refusal(attempt, self._clock()) is not None:
            self._metrics.proofs["left alone"] += 1
            self._finished(guid, endpoint, False)
        else:
            self._spawn(self._prove(attempt))

    def _call_off(self, guid: str) -> None:
        handshake = self._handshakes.get(guid)
        if handshake is not None and not handshake.expired():
            handshake.reschedule(0.0)

    def _refresh(self, guid: str) -> list[Endpoint]:
        """Return the endpoints of a live peer that need a probe, now or later."""
        registration = self._registry.get(guid)
        primary = registration.primary if registration is not None else None
        if registration is None or primary is None:
            self._named.pop(guid, None)
            self._turns.wants(guid, "", (), self._clock())
            return []
        found = dict.fromkeys(self._named_by(registration))
        kept = self._queries.kept(guid)
        over = [one for one in registration.proofs if one not in found and one not in kept]
        for endpoint in over:
            del registration.proofs[endpoint]
        if over:
            self._registry.proven(guid)
        for endpoint in self._queries.wanted(guid):
            if self._rules.allowed(endpoint, registration.observed_hosts):
                found[endpoint] = None
        self._turns.wants(guid, cause_of(primary.observed_host).wide, found, self._clock())
        return list(found)

    def _named_by(self, peer: RegisteredPeer) -> tuple[Endpoint, ...]:
        """Return the endpoints in a live peer's record that need a probe, now or later."""
        named = self._named.get(peer.guid)
        if (
            named is not None
            and named.services is peer.services
            and named.observed_hosts == peer.observed_hosts
        ):
            return named.endpoints
        endpoints = dict.fromkeys(
            entry.endpoint
            for _, entries in peer.services.values()
            for entry in entries
            if not peer.observed(entry.host)
        )
        hosts = peer.observed_hosts
        found = tuple(one for one in endpoints if self._rules.allowed(one, hosts))
        if found:
            self._named[peer.guid] = _Named(peer.services, hosts, found)
        else:
            self._named.pop(peer.guid, None)
        return found

    async def _prove(self, attempt: Attempt) -> None:
        outcome = Outcome.CALLED_OFF
        try:
            outcome = await self._probe(attempt.remote, attempt.endpoint)
        finally:
            self._budgets.over(attempt, outcome, self._clock())
            self._finished(attempt.remote, attempt.endpoint, outcome is Outcome.MET)
            self._metrics.proofs["proven" if outcome is Outcome.MET else "failed"] += 1

    def _finished(self, guid: str, endpoint: Endpoint, proven: bool) -> None:
        lasts = self._clock() + self._rules.lifetime if proven else None
        is_asked = endpoint in self._queries.wanted(guid)
        answered = self._queries.settled(guid, endpoint, lasts)
        wanting = self._refresh(guid)
        self._turns.finished(guid, proven, self._clock())
        if self._changed is not None:
            self._changed.set()
        registration = self._registry.get(guid)
        if registration is None or (endpoint not in wanting and not is_asked):
            return
        for query in answered:
            query.asker.send(EndpointResponse(query.number, True))
        if not proven:
            if endpoint in registration.proofs:
                del registration.proofs[endpoint]
                self._registry.proven(guid)
            return
        if endpoint not in registration.proofs:
            log.debug("endpoint proven", peer=short(guid), at=str(endpoint))
        registration.proofs[endpoint] = None
        self._registry.proven(guid)

    def _decline(self, asker: Asker, number: int, wait: float) -> None:
        reason = "too many questions about endpoints"
        code = Code.LIMIT_EXCEEDED
        asker.send(EndpointResponse(number, code=code, reason=reason, retry_after=wait))

    async def _probe(self, guid: str, endpoint: Endpoint) -> Outcome:
        """Shake hands at an endpoint; return whose key has shown there, or what else has."""
        began = self._clock()
        transport: asyncio.Transport | None = None
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._rules.timeout) as allowed:
                self._handshakes[guid] = allowed
                try:
                    transport, handshake = await loop.create_connection(
                        Handshake, endpoint.host, endpoint.port
                    )
                    met = await handshake.met
                finally:
                    del self._handshakes[guid]
            return Outcome.MET if met == guid else Outcome.WRONG_KEY
        except TimeoutError:
            had_its_time = self._clock() - began >= self._rules.timeout
            return Outcome.REFUSED if transport is not None and had_its_time else Outcome.SILENT
        except OSError as error:
            # Connected, and then no TLS.
            return outcome_of(error) if transport is None else Outcome.REFUSED
        finally:
            if transport is not None:
                transport.abort()


def _may_learn(registration: RegisteredPeer, asker: Asker, entry: Entry) -> bool:
    """Whether who asks may learn that a peer was met where an entry says. For a service that the
    peer does not offer it has told the entry to whom it calls."""
    if entry.phase is Phase.LEAVING:
        return False
    if asker.guid == registration.guid:
        return asker.observed_host == entry.host
    is_offered = entry.service in registration.services
    return not is_offered or registration.may_learn(entry.service, asker.guid)
