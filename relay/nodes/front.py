"""Where operators of several processes come: `/metrics` and the dashboard of all.

Who may ask, how many at once and for how long they may take is as where one process serves alone.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from time import monotonic, time

from aiohttp import web

from protocol.errors import Code
from relay.config import RelayConfig
from relay.dashboard import DashboardRoutes, Stream
from relay.http import (
    AdminRoutes,
    AdminToken,
    Arrivals,
    Deadlines,
    Descriptors,
    Doorkeeper,
    Front,
    Proxies,
    Routes,
    Rules,
    refusal,
)
from relay.limits import Cause, Work, WorkRates
from relay.log import guarded, log
from relay.metrics import Metrics
from relay.nodes.dashboard import NodesView
from relay.nodes.metrics import gathered
from relay.tasks import Tasks
from relay.tls import Certificate

__all__ = ["AdminFront"]

_AT_ONCE = 8
"""Requests for the metrics that are served at once, as each is one to every process; and pages that
are told at once."""
_LOOKING = 3.0
"""Seconds between two looks at the certificate's files."""
_ABOUT = (
    "Here a Roam Relay of several processes is looked after: /metrics, and in a browser its "
    "dashboard.\n"
)


class AdminFront:
    """Where operators come. Call `open` first and `close` last."""

    def __init__(
        self,
        config: RelayConfig,
        names: Sequence[str],
        nodes: Callable[[], Mapping[str, str]],
    ) -> None:
        """`names` are those of all processes; `nodes` returns the addresses of those that serve
        now, by name."""
        self._config = config
        self._nodes = nodes
        self._token = AdminToken()
        self._certificate: Certificate | None = None
        self._tasks = Tasks()
        self._asking = 0
        metrics = Metrics()
        proxies = Proxies(
            config.trusted_proxies or (),
            own_host=config.trusted_proxies is None and config.only_on_loopback,
        )
        doorkeeper = Doorkeeper(Rules(config, proxies, Descriptors.of_process()), metrics)
        self._admin = AdminRoutes(doorkeeper, metrics, self._token)
        of_network = config.work_per_network
        self._work = Work(WorkRates(of_network, of_network, of_network, config.work_in_all))
        view = NodesView(names, nodes, lambda: self._token.header, self._tasks.spawn)
        self._dashboard = Stream(view, metrics.loop, self._tasks.spawn, most=_AT_ONCE)
        self._front = Front(
            Routes(
                DashboardRoutes(self._admin, self._dashboard, _about).routes
                | {
                    "/metrics": self._metrics,
                    "/healthz": self._admin.health["/healthz"],
                    "/readyz": self._readyz,
                }
            ),
            Arrivals(
                doorkeeper,
                Deadlines(config.handshake_timeout, config.write_deadline),
                self._charge,
                self._tasks.spawn,
            ),
        )
        self._close_all = doorkeeper.end_all

    @property
    def urls(self) -> tuple[str, ...]:
        """Where they come; nowhere, unless operators have an address of their own."""
        return self._front.urls

    async def open(self) -> None:
        """Listen, where operators have an address of their own.

        Raises:
            ConfigError: it cannot listen there, or the token or the certificate cannot be used.
        """
        config = self._config
        self._token.load(config)
        if not config.admin_hosts:
            return
        if not config.admin_is_on_loopback:
            if config.tls_certificate is not None and config.tls_key is not None:
                self._certificate = Certificate(config.tls_certificate, config.tls_key)
                self._tasks.spawn(self._keep_certificate(self._certificate))
            else:
                log.warning(
                    "the admin_token is sent unencrypted: name a certificate (tls_certificate), "
                    "or listen on a loopback address",
                    admin_host=" ".join(config.admin_hosts),
                )
        context = None if self._certificate is None else self._certificate.context
        await self._front.open(config.admin_hosts, config.admin_port, context)

    def reload(self, config: RelayConfig) -> None:
        """Read the files of the token and the certificate anew.

        Raises:
            ConfigError: one cannot be used. All is as it was.
        """
        token = AdminToken()
        token.load(config)
        if (
            self._certificate is not None
            and config.tls_certificate is not None
            and config.tls_key is not None
        ):
            self._certificate.load(config.tls_certificate, config.tls_key)
        self._token.take(token)

    async def close(self) -> None:
        """Listen no more."""
        self._front.close()
        self._dashboard.close()
        self._close_all("shutdown")
        await self._tasks.close()
        await self._front.cleanup()

    # -- inside ---------------------------------------------------------------------------------

    def _charge(self, cause: Cause, cost: float) -> float:
        return self._work.charge(cause, cost, monotonic())

    async def _keep_certificate(self, certificate: Certificate) -> None:
        while True:
            with guarded("looking at the certificate"):
                certificate.look(time())
            await asyncio.sleep(_LOOKING)

    async def _readyz(self, request: web.Request) -> web.Response:
        is_ready = bool(self._nodes())
        return web.Response(text="ok\n" if is_ready else "none\n", status=200 if is_ready else 503)

    async def _metrics(self, request: web.Request) -> web.Response:
        refused = self._admin.refusal(request)
        if refused is not None:
            return refused
        if self._asking >= _AT_ONCE:
            return refusal(Code.LIMIT_EXCEEDED, "too many ask for the metrics at once", 1.0)
        self._asking += 1
        try:
            # Who may know it is decided here already.
            text = await gathered(self._nodes(), request.headers.get("Authorization", ""))
        finally:
            self._asking -= 1
        content_type = "text/plain; version=0.0.4; charset=utf-8"
        return web.Response(text=text, headers={"Content-Type": content_type})


async def _about(request: web.Request) -> web.Response:
    """Say what this is."""
    return web.Response(text=_ABOUT)
