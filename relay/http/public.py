"""What anybody may ask: where a peer is, as far as it tells everybody; and what this is."""

from collections.abc import Callable
from urllib.parse import quote

from aiohttp import web

from protocol.endpoint import read_entry
from protocol.errors import Code
from protocol.messages import PeerState
from relay.backplane import ALONE, Backplane
from relay.http import answers
from relay.presence import GonePeer, RegisteredPeer, Registry

__all__ = ["PublicRoutes"]

_ABOUT = (
    "This is a Roam Relay: it tells peers where other peers are, and joins those that cannot reach "
    "one another. Peers connect to /v1/control; see the project's docs/protocol.md.\n"
)


class PublicRoutes:
    """The routes of one relay."""

    def __init__(
        self, registry: Registry, clock: Callable[[], float], backplane: Backplane = ALONE
    ) -> None:
        self._registry = registry
        self._backplane = backplane
        self._clock = clock

    async def lookup(self, request: web.Request) -> web.Response:
        """Answer P2P mode for a program without the library: what anyone may know."""
        now = self._clock()
        known = self._registry.get(request.match_info["guid"])
        service = request.match_info["service"]
        if known is None:
            return self._absent(request.match_info["guid"], service, now)
        if service not in known.services or not known.may_learn(service, None):
            return answers.refusal(
                Code.UNKNOWN_SERVICE, "the peer offers no such service to anyone"
            )
        endpoints = [
            {"host": entry.host, "port": entry.port, "phase": entry.phase, "seq": entry.seq}
            for entry in map(read_entry, known.disclosable(service))
        ]
        return _found(known, service, PeerState.ONLINE, now, endpoints)

    def _absent(self, guid: str, service: str, now: float) -> web.Response:
        """Answer for a peer that is not here: which services it has offered is not remembered."""
        home = self._registry.home(guid)
        refusal = self._backplane.refusal(now)
        if home is not None and (url := self._backplane.url_of(home.node)):
            where = f"{url.rstrip('/')}/v1/peers/{quote(guid)}/services/{quote(service)}"
            return web.Response(status=307, headers={"Location": where})
        if home is not None or refusal is not None:
            reason = refusal or "it is not known where the peer's node is reached"
            return answers.refusal(Code.CLUSTER_UNAVAILABLE, reason, 1.0)
        gone = self._registry.gone(guid)
        if gone is None:
            unknown = self._registry.unknown(now)
            return answers.refusal(Code.UNKNOWN_PEER, unknown.reason, unknown.retry_after)
        if not gone.shown:
            return answers.refusal(
                Code.UNKNOWN_SERVICE, "the peer offers no such service to anyone"
            )
        return _found(gone, service, self._registry.state(gone, now), now, [])

    async def about(self, request: web.Request) -> web.Response:
        """Say what this is."""
        return web.Response(text=_ABOUT)


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
