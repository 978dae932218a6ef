"""Which path is served by what, and what every request is asked first: where it comes from."""

from aiohttp import web
from aiohttp.typedefs import Handler

from protocol.errors import Code
from relay.http import answers
from relay.http.control import ControlRoute
from relay.http.door import Doorkeeper
from relay.http.forwarded import BadForwarding
from relay.http.plane import PlaneRoute
from relay.http.public import PublicRoutes
from relay.http.visitor import visitor_of

__all__ = ["application"]


def application(
    doorkeeper: Doorkeeper, control: ControlRoute, plane: PlaneRoute, public: PublicRoutes
) -> web.Application:
    """Return the relay as an aiohttp application."""

    @web.middleware
    async def from_somewhere(request: web.Request, handler: Handler) -> web.StreamResponse:
        visitor = visitor_of(request)
        try:
            visitor.asks(request.headers)
        except BadForwarding as error:
            doorkeeper.refused("bad_forwarding", visitor.origin.text, error.reason)
            return answers.refusal(Code.BAD_MESSAGE, error.reason)
        return await handler(request)

    application = web.Application(middlewares=[from_somewhere])
    for path, handler in (
        ("/v1/control", control.handle),
        ("/v1/plane/{ticket}", plane.handle),
        ("/v1/peers/{guid}/services/{service}", public.lookup),
        ("/healthz", public.healthz),
        ("/readyz", public.readyz),
        ("/metrics", public.metrics),
        ("/", public.about),
    ):
        application.router.add_get(path, handler)
    return application
