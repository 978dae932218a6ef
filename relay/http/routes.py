"""Which path is served by what, and what every request is asked first: where it comes from, and
whether the relay has time for it.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from aiohttp import web
from aiohttp.typedefs import Handler

from protocol.errors import Code
from relay.http import answers
from relay.http.control import ControlRoute
from relay.http.door import Doorkeeper
from relay.http.forwarded import BadForwarding
from relay.http.page import Pages, refuse_page
from relay.http.plane import PlaneRoute
from relay.http.public import PublicRoutes
from relay.http.visit import visitor_of
from relay.http.visitor import RawRoutes
from relay.limits import ANSWER, EXPOSITION

__all__ = ["Routes", "application", "for_peers"]

_NEVER_REFUSED = frozenset({"/v1/control", "/v1/plane/{ticket}", "/healthz", "/readyz"})
"""Peers have limits of their own behind these, and who asks whether the relay lives must not hear
that it does not. Beyond its share such a connection ends with its answer."""

_UPGRADED = frozenset({"/v1/control", "/v1/plane/{ticket}"})
_LOOKUP = "/v1/peers/{guid}/services/{service}"

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
    pages: Pages = field(default_factory=Pages)
    """Whose pages are served."""

    def with_more(self, http: Mapping[str, Handler]) -> "Routes":
        """Return these, and other paths."""
        return replace(self, http={**self.http, **http})


def for_peers(
    control: ControlRoute, plane: PlaneRoute, public: PublicRoutes, pages: Pages
) -> Routes:
    """Return what is served where peers come."""
    return Routes(
        {
            "/v1/control": control.handle,
            "/v1/plane/{ticket}": plane.handle,
            _LOOKUP: public.lookup,
            "/": public.about,
        },
        RawRoutes(control.handle_raw, plane.handle_raw),
        pages,
    )


def application(doorkeeper: Doorkeeper, routes: Routes) -> web.Application:
    """Return an aiohttp application that serves paths."""

    @web.middleware
    async def for_pages(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await handler(request)
        path = _path_of(request)
        if path == _LOOKUP:
            routes.pages.let_read(request, response)
        if path in _UPGRADED and not response.prepared:
            return await refuse_page(request, response)
        return response

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
        path = _path_of(request)
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
        if path in _UPGRADED and not routes.pages.serves(request):
            visitor.refused("foreign_page", request.headers["Origin"][:80])
            return answers.refusal(
                Code.REFUSED, "pages of this origin are not served: 'page_origins' names those"
            )
        try:
            response = await handler(request)
        finally:
            # Requests that were sent together are here already: one is answered in a turn of the
            # loop, and others have theirs.
            await asyncio.sleep(0)
        if wait and not response.prepared:
            response.force_close()
        return response

    application = web.Application(middlewares=[for_pages, from_somewhere])
    for path, handler in routes.http.items():
        application.router.add_get(path, handler)
    return application


def _path_of(request: web.Request) -> str:
    """Return the path of a request as it is served; empty where nothing is there."""
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else ""
