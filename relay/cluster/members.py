"""What the cluster's news mean at this node: a peer that is at another node by right ends here, and
what another node asks is asked here. Decides nothing else; every node comes to the same."""

from collections.abc import Callable
from typing import assert_never

from msgspec import structs

from protocol.errors import Code
from protocol.features import OFFER
from protocol.messages import ServiceResponse
from relay.backplane import (
    AskedHere,
    CameElsewhere,
    Claim,
    News,
    Outranked,
    WentElsewhere,
)
from relay.broker import Broker, Elsewhere, Leg
from relay.log import log, short
from relay.presence import Presence

__all__ = ["Members"]


class Members:
    """The peers of one node, as the cluster sees them. `url` says where this node is reached."""

    def __init__(
        self,
        presence: Presence,
        broker: Broker,
        url: Callable[[], str],
        clock: Callable[[], float],
    ) -> None:
        self._presence = presence
        self._broker = broker
        self._url = url
        self._clock = clock

    def hear(self, news: News) -> None:
        """Take what has happened at another node."""
        now, registry = self._clock(), self._presence.registry
        match news:
            case Outranked(claim):
                self._end(claim)
            case CameElsewhere(claim):
                registry.came_elsewhere(claim.guid)
                self._presence.watches.changed(claim.guid, now)
            case WentElsewhere():
                registry.went_elsewhere(news, now)
                self._presence.watches.changed(news.guid, now)
            case AskedHere():
                self._ask(news, now)
            case _:
                assert_never(news)

    def _end(self, claim: Claim) -> None:
        """End a peer's connections here: it is at another node."""
        peer = self._presence.registry.get(claim.guid)
        if peer is None:
            return
        log.info("at another node", peer=short(claim.guid), node=claim.node)
        for flow in list(peer.flows.values()):
            if peer.instance == claim.instance:
                # The same program, which may hold this one still: it is not superseded.
                flow.end(Code.RESTARTING, "this peer is at another node of this relay now")
            else:
                flow.end(Code.SUPERSEDED, "another program with the same key has connected")

    def _ask(self, news: AskedHere, now: float) -> None:
        asked = news.asked

        def answered(response: ServiceResponse) -> None:
            # The plane is here, and the caller is not.
            url = self._url() if response.ticket is not None else ""
            news.answer(structs.replace(response, url=url))

        seen = asked.host, asked.port
        features = frozenset({OFFER}) if asked.offers else frozenset()
        caller = Elsewhere(asked.caller, seen, features, answered)
        leg = None if asked.ticket is None else Leg(asked.ticket, asked.url)
        self._broker.asked(caller, asked.request, leg, now)
