"""Where some routes are served: an HTTP server behind the entrance that its connections come by."""

import logging
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass

from aiohttp import web

from protocol.endpoint import Endpoint
from relay.http.door import Doorkeeper
from relay.http.entrance import Deadlines, Entrance, Served, Serves
from relay.http.routes import Routes, application
from relay.limits import Charge
from relay.listening import bind
from relay.log import NAME, guarded
from relay.tasks import Spawn

__all__ = ["Arrivals", "Front"]


@dataclass(frozen=True, slots=True)
class Arrivals:
    """What all fronts of a relay share: who lets in, for how long, and who is charged."""

    doorkeeper: Doorkeeper
    deadlines: Deadlines
    charge: Charge
    spawn: Spawn

    def entrance(self, served: Serves) -> Entrance:
        """Return an entrance by which they come to who serves them."""
        return Entrance(served, self.doorkeeper, self.deadlines, self.charge, self.spawn)


class Front:
    """One of a relay's fronts. Call `open` first; `close`, and at the end `cleanup`."""

    def __init__(self, routes: Routes, arrivals: Arrivals) -> None:
        self._runner = web.AppRunner(
            application(arrivals.doorkeeper, routes),
            access_log=None,
            shutdown_timeout=0.1,
            logger=logging.getLogger(f"{NAME}.http"),
        )
        self._entrance = arrivals.entrance(Served(self._runner, routes.raw))
        self.urls: tuple[str, ...] = ()
        """Where it serves."""
        self.endpoints: tuple[Endpoint, ...] = ()
        self.port = 0

    async def open(
        self,
        hosts: Sequence[str],
        port: int,
        context: ssl.SSLContext | None = None,
        *,
        is_shared: bool = False,
    ) -> None:
        """Listen at each host; by https:// where there is a context. A port that is shared is that
        of other processes too.

        Raises:
            ConfigError: it cannot listen there.
        """
        await self._runner.setup()
        bound = await bind(hosts, port, is_shared=is_shared)
        self._entrance.open(bound.tcp, context)
        self.port, self.endpoints = bound.port, bound.endpoints
        scheme = "http" if context is None else "https"
        shown = (f"[{host}]" if ":" in host else host for host in hosts)
        self.urls = tuple(f"{scheme}://{host}:{self.port}" for host in shown)

    def take(self, sock: socket.socket) -> None:
        """Serve a connection that has come to another process, which has read nothing of it."""
        self._entrance.take(sock)

    def close(self) -> None:
        """Accept nobody any more. Who is here already stays."""
        with guarded("closing a listener"):
            self._entrance.close()

    async def cleanup(self) -> None:
        """End everything that HTTP still has."""
        await self._runner.cleanup()
