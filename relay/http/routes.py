"""Which path is served by what, and what every request is asked first: where it comes from, and
whether the relay has time for it.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from aiohttp import web
from aiohttp.typedefs import Handler

from protocol.errors import Code
from relay.http import answers
from relay.http.control import ControlRoute
from relay.http.door import Doorkeeper
from relay.http.forwarded import BadForwarding
from relay.http.plane import PlaneRoute
from relay.http.public import PublicRoutes
from relay.http.visit import visitor_of
from relay.http.visitor import RawRoutes
from relay.limits import ANSWER, EXPOSITION

__all__ = ["Routes", "application", "for_peers"]

_NEVER_REFUSED = frozenset({"/v1/control", "/v1/plane/{ticket}", "/healthz", "/readyz"})
"""Peers have limits of their own behind these, and who asks whether the relay lives must not hear
that it does not. Beyond its share such a connection ends with its answer."""

_FOR_OPERATORS = frozenset({"/metrics", "/dashboard/events"})
"""What takes longer to answer."""

_WHILE_DRAINING = frozenset({"/healthz", "/readyz", "/metrics"})
"""What is answered while the relay drains; the rest is for the next one."""


@dataclass(frozen=True, slots=True)
class Routes:
    """What is served in one place."""

    http: Mapping[str, Handler]
    """By path."""
    raw: RawRoutes | None = None
    """What is served without aiohttp where it can be."""

    def with_more(self, http: Mapping[str, Handler]) -> "Routes":
        """Return these, and other paths."""
        return Routes({**self.http, **http}, self.raw)


def for_peers(control: ControlRoute, plane: PlaneRoute, public: PublicRoutes) -> Routes:
    """Return what is served where peers come."""
    return Routes(
        {
            "/v1/control": control.handle,
            "/v1/plane/{ticket}": plane.handle,
            "/v1/peers/{guid}/services/{service}": public.lookup,
            "/": public.about,
        },
        RawRoutes(control.handle_raw, plane.handle_raw),
    )


def application(doorkeeper: Doorkeeper, routes: Routes) -> web.Application:
    """Return an aiohttp application that serves paths."""

    @web.middleware
    async def from_somewhere(request: web.Request, handler: Handler) -> web.StreamResponse:
        visitor = visitor_of(request)
        decided, visitor.answer = visitor.answer, None
        if decided is not None:
            return decided
        try:
            visitor.asks(request.headers)
        except BadForwarding as error:
            doorkeeper.refused("bad_forwarding", visitor.origin.text, error.reason)
            return answers.refusal(Code.BAD_MESSAGE, error.reason)
        resource = request.match_info.route.resource
        path = resource.canonical if resource is not None else ""
        if doorkeeper.draining and path not in _WHILE_DRAINING:
            doorkeeper.refused("draining", visitor.origin.text)
            return answers.refusal(Code.RESTARTING, "the relay goes down")
        cost = EXPOSITION if path in _FOR_OPERATORS else ANSWER
        wait = visitor.toll.take(cost)
        if wait and path not in _NEVER_REFUSED:
            doorkeeper.refused("work", visitor.origin.text)
            refusal = answers.refusal(Code.LIMIT_EXCEEDED, "too much at once", wait)
            refusal.force_close()
            return refusal
        try:
            response = await handler(request)
        finally:
            # Requests that were sent together are here already: one is answered in a turn of the
            # loop, and others have theirs.
            await asyncio.sleep(0)
        if wait and not response.prepared:
            response.force_close()
        return response

    application = web.Application(middlewares=[from_somewhere])
    for path, handler in routes.http.items():
        application.router.add_get(path, handler)
    return application
