"""`/metrics` of all processes at one address: each sample says of which node it is.

Who may ask, how many at once and for how long they may take is as where one process serves alone.
"""

import asyncio
from collections.abc import Callable, Mapping
from time import monotonic, time
from urllib.parse import urlsplit

from aiohttp import web

from protocol.errors import Code
from relay.config import RelayConfig
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
from relay.tasks import Tasks
from relay.tls import Certificate

__all__ = ["MetricsFront", "merged"]

_PATIENCE = 10.0
"""Seconds for a process to answer."""
_LONGEST = 1 << 24
_AT_ONCE = 8
"""Requests for the metrics that are served at once: each is one to every process."""
_LOOKING = 3.0
"""Seconds between two looks at the certificate's files."""


class MetricsFront:
    """Where operators come; `nodes` returns the addresses of the processes that are here, by name.
    Call `open` first and `close` last."""

    def __init__(self, config: RelayConfig, nodes: Callable[[], Mapping[str, str]]) -> None:
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
        self._front = Front(
            Routes(
                {
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
            return await self._gathered(request.headers.get("Authorization", ""))
        finally:
            self._asking -= 1

    async def _gathered(self, authorization: str) -> web.Response:
        """Return what all processes say; who may know it is decided here already."""
        headers = [f"Authorization: {authorization}"] if authorization else []
        here = self._nodes()
        found = await asyncio.gather(
            *(_fetch(url, headers) for url in here.values()), return_exceptions=True
        )
        texts = {}
        for name, one in zip(here, found, strict=True):
            if isinstance(one, BaseException):
                if not isinstance(one, _NO_ANSWER):
                    raise one
                log.warning("a node gave no metrics", process=name, reason=str(one))
            elif one[0] != 200:
                log.warning("a node gave no metrics", process=name, reason=f"it says {one[0]}")
            else:
                texts[name] = one[1]
        return web.Response(
            text=merged(texts), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        )


_NO_ANSWER = (OSError, TimeoutError, ValueError, EOFError, asyncio.LimitOverrunError)


async def _fetch(url: str, headers: list[str]) -> tuple[int, str]:
    parts = urlsplit(url)
    async with asyncio.timeout(_PATIENCE):
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=_LONGEST)
        try:
            lines = ("GET /metrics HTTP/1.1", f"Host: {parts.netloc}", "Connection: close")
            writer.write("\r\n".join((*lines, *headers, "", "")).encode("latin-1"))
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            return int(head.split()[1]), (await reader.read(-1)).decode()
        finally:
            writer.transport.abort()


def merged(texts: Mapping[str, str]) -> str:
    """Join what processes expose in the text format of Prometheus; each name is told about once."""
    about: dict[str, list[str]] = {}
    samples: dict[str, list[str]] = {}
    for node, text in texts.items():
        family, told = "", set(about)
        for line in text.splitlines():
            if line.startswith("# "):
                family = line.split(" ", 3)[2]
                if family not in told:
                    about.setdefault(family, []).append(line)
            elif line:
                samples.setdefault(family, []).append(_labelled(line, node))
    lines = (line for family in about for line in (*about[family], *samples.get(family, ())))
    return "".join(f"{line}\n" for line in lines)


def _labelled(line: str, node: str) -> str:
    name, space, rest = line.partition(" ")
    bare, brace, labels = name.partition("{")
    if not brace:
        return f'{name}{{node="{node}"}}{space}{rest}'
    return f'{bare}{{node="{node}",{labels}{space}{rest}'
