"""Which path is served by what."""

from aiohttp import web

from relay.http.control import ControlRoute
from relay.http.plane import PlaneRoute
from relay.http.public import PublicRoutes

__all__ = ["application"]


def application(control: ControlRoute, plane: PlaneRoute, public: PublicRoutes) -> web.Application:
    """Return the relay as an aiohttp application."""
    application = web.Application()
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
