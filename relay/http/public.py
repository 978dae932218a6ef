"""What anybody may ask: where a peer is, as far as it tells everybody; and what this is."""

import asyncio
from collections.abc import Callable, Iterable
from urllib.parse import quote

from aiohttp import web

from protocol.endpoint import SignedEntry, read_entry
from protocol.errors import Code
from protocol.messages import Mode, PeerState, ServiceRequestTo, ServiceResponse
from relay.backplane import ALONE, Backplane, Question
from relay.http import answers
from relay.http.visit import visitor_of
from relay.limits import Counts
from relay.presence import GonePeer, RegisteredPeer, Registry

__all__ = ["PublicRoutes"]

_ELSEWHERE = 30.0
"""Units that a question to another node costs, at both."""
_OF_ONE, _AT_ONCE = 16, 256
"""Look-ups that wait for other nodes, of one network and in all."""
_PATIENCE = 5.0
"""Seconds for another node to answer."""

_ABOUT = (
    "This is a Roam Relay: it tells peers where other peers are, and joins those that cannot reach "
    "one another. Peers connect to /v1/control; see the project's docs/protocol.md.\n"
)


class PublicRoutes:
    """The routes of one relay."""

    def __init__(
        self,
        registry: Registry,
        clock: Callable[[], float],
        backplane: Backplane = ALONE,
        own: str = "",
    ) -> None:
        """`own` is the relay's GUID, which asks other nodes for who has none."""
        self._registry = registry
        self._backplane = backplane
        self._clock = clock
        self._own = own
        self._asking = Counts(_OF_ONE, _AT_ONCE)
        """Look-ups that wait for another node."""

    async def lookup(self, request: web.Request) -> web.Response:
        """Answer P2P mode for a program without the library: what anyone may know."""
        now = self._clock()
        known = self._registry.get(request.match_info["guid"])
        service = request.match_info["service"]
        if known is None:
            return await self._absent(request, request.match_info["guid"], service, now)
        if service not in known.services or not known.may_learn(service, None):
            return answers.refusal(
                Code.UNKNOWN_SERVICE, "the peer offers no such service to anyone"
            )
        endpoints = _shown(known.disclosable(service))
        return _found(known, service, PeerState.ONLINE, now, endpoints)

    async def _absent(
        self, request: web.Request, guid: str, service: str, now: float
    ) -> web.Response:
        """Answer for a peer that is not here: which services it has offered is not remembered."""
        home = self._registry.home(guid)
        refusal = self._backplane.refusal(now)
        if home is not None and (url := self._backplane.url_of(home.node)):
            where = f"{url.rstrip('/')}/v1/peers/{quote(guid)}/services/{quote(service)}"
            return web.Response(status=307, headers={"Location": where})
        if refusal is not None:
            return answers.refusal(Code.CLUSTER_UNAVAILABLE, refusal, 1.0)
        if home is not None:
            toll = visitor_of(request).toll
            if wait := toll.take(_ELSEWHERE):
                return answers.refusal(Code.LIMIT_EXCEEDED, "too much at once", wait)
            place = self._asking.take(toll.cause.network, toll.cause.wide)
            if place is None:
                return answers.refusal(Code.LIMIT_EXCEEDED, "too many look-ups wait", 1.0)
            with place:
                return await self._ask_elsewhere(guid, service, now)
        gone = self._registry.gone(guid)
        if gone is None:
            unknown = self._registry.unknown(now)
            return answers.refusal(Code.UNKNOWN_PEER, unknown.reason, unknown.retry_after)
        if not gone.shown:
            return answers.refusal(
                Code.UNKNOWN_SERVICE, "the peer offers no such service to anyone"
            )
        return _found(gone, service, self._registry.state(gone, now), now, [])

    async def _ask_elsewhere(self, guid: str, service: str, now: float) -> web.Response:
        """Answer what the node says that has the peer: it has no address to redirect to."""
        answered: asyncio.Future[ServiceResponse] = asyncio.get_running_loop().create_future()

        def take(response: ServiceResponse) -> None:
            if not answered.done():
                answered.set_result(response)

        wanted = ServiceRequestTo(0, guid, service, Mode.P2P, bytes(16), timeout=_PATIENCE)
        question = Question(self._own, "", wanted, take)
        try:
            if not self._backplane.ask(question, now):
                unknown = self._registry.unknown(now)
                return answers.refusal(Code.UNKNOWN_PEER, unknown.reason, unknown.retry_after)
            # Its timeout is the cluster's.
            response = await answered
        finally:
            self._backplane.drop(question)
        code = response.code
        if code in (Code.REFUSED, Code.NO_ENDPOINT):
            code = Code.UNKNOWN_SERVICE  # Who it is for is nobody's to know.
        if code is not None:
            reason = "the peer offers no such service to anyone"
            said = reason if code is Code.UNKNOWN_SERVICE else response.reason
            return answers.refusal(code, said, response.retry_after)
        return answers.json(
            {
                "guid": guid,
                "service": service,
                "state": response.state,
                "last_seen": round(response.last_seen or 0.0, 3),
                "endpoints": _shown(response.entries),
            }
        )

    async def about(self, request: web.Request) -> web.Response:
        """Say what this is."""
        return web.Response(text=_ABOUT)


def _shown(entries: Iterable[SignedEntry]) -> list[dict[str, object]]:
    return [
        {"host": entry.host, "port": entry.port, "phase": entry.phase, "seq": entry.seq}
        for entry in map(read_entry, entries)
    ]


def _found(
    peer: RegisteredPeer | GonePeer,
    service: str,
    state: PeerState,
    now: float,
    endpoints: list[dict[str, object]],
) -> web.Response:
    return answers.json(
        {
            "guid": peer.guid,
            "service": service,
            "state": state,
            "last_seen": round(peer.last_seen(now), 3),
            "endpoints": endpoints,
        }
    )
