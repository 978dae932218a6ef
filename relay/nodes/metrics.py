"""`/metrics` of all processes at one address: each sample says of which node it is.

Who may ask is decided by each process, as it is told what this one is told.
"""

import asyncio
import ssl
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from aiohttp import web

from relay.config import RelayConfig
from relay.listening import bind
from relay.log import log

__all__ = ["MetricsFront", "merged"]

_PATIENCE = 10.0
"""Seconds for a process to answer."""
_LONGEST = 1 << 24
_PASSED_ON = ("Authorization", "Forwarded", "X-Forwarded-For")
"""What a request says of who asks."""


class MetricsFront:
    """Where operators come; `nodes` returns the addresses of the processes that are here, by name.
    Call `open` first and `close` last."""

    def __init__(self, config: RelayConfig, nodes: Callable[[], Mapping[str, str]]) -> None:
        self._config = config
        self._nodes = nodes
        application = web.Application()
        application.router.add_get("/metrics", self._metrics)
        application.router.add_get("/healthz", self._healthz)
        application.router.add_get("/readyz", self._readyz)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        self.urls: tuple[str, ...] = ()

    async def open(self, context: ssl.SSLContext | None) -> None:
        """Listen, where operators have an address of their own.

        Raises:
            ConfigError: it cannot listen there.
        """
        await self._runner.setup()
        hosts = self._config.admin_hosts
        if not hosts:
            return
        bound = await bind(hosts, self._config.admin_port)
        for one in bound.tcp:
            await web.SockSite(self._runner, one, ssl_context=context).start()
        scheme = "http" if context is None else "https"
        shown = (f"[{host}]" if ":" in host else host for host in hosts)
        self.urls = tuple(f"{scheme}://{host}:{bound.port}" for host in shown)

    async def close(self) -> None:
        """Listen no more."""
        await self._runner.cleanup()

    async def _healthz(self, request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, request: web.Request) -> web.Response:
        is_ready = bool(self._nodes())
        return web.Response(text="ok\n" if is_ready else "none\n", status=200 if is_ready else 503)

    async def _metrics(self, request: web.Request) -> web.Response:
        headers = [
            f"{name}: {value}" for name in _PASSED_ON for value in request.headers.getall(name, ())
        ]
        texts = {}
        for name, url in self._nodes().items():
            try:
                status, text = await _fetch(url, headers)
            except (OSError, TimeoutError, ValueError, EOFError) as error:
                log.warning("a node gave no metrics", process=name, reason=str(error))
                continue
            if status != 200:
                return web.Response(status=status, text=text)
            texts[name] = text
        return web.Response(
            text=merged(texts), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        )


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
