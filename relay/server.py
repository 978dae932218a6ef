"""The relay as one HTTP server: routes, start, and drain."""

import asyncio
import contextlib
import ssl
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self

import structlog
from aiohttp import web

from protocol.endpoint import read_entry
from protocol.errors import Code
from protocol.identity import Identity
from protocol.messages import (
    EARLY_HEADER,
    MAX_MESSAGE_BYTES,
    RESUME_HEADER,
    WEBSOCKET_PROTOCOL,
    PeerState,
)
from relay import http_answers
from relay.admission import Counts, Rates
from relay.broker import Broker
from relay.carriers import RawCarrier, WebSocketCarrier
from relay.config import ConfigError, RelayConfig
from relay.control import ControlConnection, Node
from relay.dns_server import DnsServer
from relay.legs import SocketLeg, TlsLeg, WebSocketLeg
from relay.metrics import Metrics
from relay.plane import Planes, TicketRefused
from relay.proofs import Proofs, may_probe
from relay.registry import Registry
from relay.takeover import accept_upgrade, is_raw_upgrade, is_tls, take_socket, take_transport
from relay.watches import Watches

__all__ = ["RelayServer"]

_log = structlog.get_logger("relay")

_ABOUT = (
    "This is a Roam Relay: it tells peers where other peers are, and joins those that cannot reach "
    "one another. Peers connect to /v1/control; see the project's docs/protocol.md.\n"
)


class RelayServer:
    """One relay: `async with RelayServer(config) as server` serves until the block ends.

    Raises `ConfigError` on entering where it cannot listen or use its certificate.
    """

    def __init__(self, config: RelayConfig, identity: Identity | None = None) -> None:
        self.config = config
        self.identity = identity or Identity.generate()
        self.guid = self.identity.guid
        self.metrics = Metrics()
        self.registry = Registry(
            grace=config.suspect_grace,
            remember=config.remember_offline,
            max_offline=config.max_offline,
        )
        self.url = ""
        self.draining = False

    async def __aenter__(self) -> Self:
        config = self.config
        loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self.planes = Planes(
            self.identity.public_key,
            self.metrics,
            clock=loop.time,
            spawn=self._spawn,
            lifetime=config.ticket_lifetime,
            idle=config.plane_idle,
            max_pending=config.max_pending_planes,
        )
        self.broker = Broker(
            self.registry, self.planes, self.metrics, pending_requests=config.pending_requests
        )
        self.planes.ask_other = lambda resume, own, other: self.broker.ask_for_leg(
            resume, own, other, loop.time()
        )
        self.watches = Watches(self.registry, grace=config.suspect_grace)
        self.proofs = Proofs(
            self.registry,
            self.metrics,
            allowed=lambda host: may_probe(host, config.host, config.networks),
            clock=loop.time,
            spawn=self._spawn,
            timeout=config.proof_timeout,
            lifetime=config.proof_lifetime,
        )
        self.dns = (
            DnsServer(
                config.dns,
                config.host,
                self.identity,
                self.registry,
                self.metrics,
                clock=loop.time,
                spawn=self._spawn,
            )
            if config.dns is not None
            else None
        )
        self.node = Node(
            config=config,
            identity=self.identity,
            registry=self.registry,
            broker=self.broker,
            watches=self.watches,
            proofs=self.proofs,
            dns=self.dns,
            metrics=self.metrics,
            clock=loop.time,
        )
        self._connects = Rates(config.connects_per_second, config.connects_burst)
        self._counts = Counts(config.max_connections_per_address, config.max_connections)
        self.metrics.gauges = {
            "peers": lambda: self.registry.counts(loop.time()),
            "watches": lambda: {"all": len(self.watches)},
            "connections_open": lambda: {"all": len(self.node.connections)},
            "planes_open": lambda: {
                "joined": len(self.planes.live),
                "pending": self.planes.pending,
            },
        }
        application = web.Application()
        application.router.add_get("/v1/control", self._control)
        application.router.add_get("/v1/plane/{ticket}", self._plane)
        application.router.add_get("/v1/peers/{guid}/services/{service}", self._lookup)
        application.router.add_get("/healthz", self._healthz)
        application.router.add_get("/readyz", self._readyz)
        application.router.add_get("/metrics", self._metrics)
        application.router.add_get("/", self._about)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        scheme, context = "http", None
        try:
            if config.tls_certificate is not None and config.tls_key is not None:
                scheme, context = "https", ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
                context.load_cert_chain(config.tls_certificate, config.tls_key)
            site = web.TCPSite(
                self._runner, config.host, config.port, ssl_context=context, backlog=1024
            )
            await site.start()
        except OSError as error:
            await self._runner.cleanup()
            raise ConfigError(
                f"cannot listen on {config.host} port {config.port}: {error}"
            ) from None
        port = self._runner.addresses[0][1]
        host = f"[{config.host}]" if ":" in config.host else config.host
        self.url = f"{scheme}://{host}:{port}"
        self._spawn(self._keep_time())
        try:
            if self.dns is not None:
                await self.dns.start(port)
        except ConfigError:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for connection in list(self.node.connections):
            connection.abort("shutdown")
        self.planes.close("shutdown")
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self.dns is not None:
            await self.dns.close()
        await self._runner.cleanup()

    async def drain(self) -> None:
        """Stop accepting, send every peer away with `restarting`, and let planes end.

        Returns when the last plane has ended, or after `drain_timeout`.
        """
        self.draining = True
        for site in list(self._runner.sites):
            await site.stop()
        for connection in list(self.node.connections):
            connection.restart(delay=0.5, spread=min(60.0, len(self.node.connections) / 500))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.config.drain_timeout):
                for plane in list(self.planes.live):
                    await asyncio.shield(plane.ended)

    # -- routes ---------------------------------------------------------------------------------

    async def _control(self, request: web.Request) -> web.StreamResponse:
        host, port = http_answers.source(request)
        raw = is_raw_upgrade(request)
        if not raw and not web.WebSocketResponse().can_prepare(request).ok:
            return http_answers.not_an_upgrade()
        if self.draining:
            return http_answers.refusal(Code.RESTARTING, "the relay goes down")
        wait = self._connects.take(host, asyncio.get_running_loop().time())
        if wait or not self._counts.add(host):
            return http_answers.refusal(Code.LIMIT_EXCEEDED, "too many connections", wait or 1.0)
        if raw:
            return await self._control_raw(request, host, port)
        try:
            websocket = web.WebSocketResponse(
                protocols=(WEBSOCKET_PROTOCOL,),
                compress=False,
                autoping=True,
                max_msg_size=2 * MAX_MESSAGE_BYTES,
                timeout=self.config.write_deadline,
            )
            await websocket.prepare(request)
            carrier = WebSocketCarrier(
                request,
                websocket,
                write_deadline=self.config.write_deadline,
                outbox_bytes=self.config.outbox_bytes,
            )
            connection = ControlConnection(self.node, carrier, "websocket", host, port)
            await carrier.run(connection)
        finally:
            self._counts.remove(host)
        return websocket

    async def _control_raw(self, request: web.Request, host: str, port: int) -> web.StreamResponse:
        loop = asyncio.get_running_loop()

        def make() -> RawCarrier:
            carrier = RawCarrier(
                lambda carrier: ControlConnection(self.node, carrier, "raw", host, port),
                write_deadline=self.config.write_deadline,
                outbox_bytes=self.config.outbox_bytes,
            )
            carrier.closed.add_done_callback(lambda _: self._counts.remove(host))
            return carrier

        response = await accept_upgrade(request)
        if is_tls(request):
            carrier = make()
            if take_transport(request, lambda _: carrier):
                await carrier.closed
            else:
                carrier.connection_lost(None)
            return response
        taken = take_socket(request)
        if taken is None:
            self._counts.remove(host)
            return response
        await loop.connect_accepted_socket(make, taken)
        return response

    async def _plane(self, request: web.Request) -> web.StreamResponse:
        raw = is_raw_upgrade(request)
        if not raw and not web.WebSocketResponse().can_prepare(request).ok:
            return http_answers.not_an_upgrade()
        guid, signature = request.query.get("guid", ""), request.query.get("signature", "")
        ticket, early = request.match_info["ticket"], http_answers.early_bytes(request)
        if early is None:
            return http_answers.refusal(Code.BAD_MESSAGE, f"{EARLY_HEADER} cannot be read")
        now = asyncio.get_running_loop().time()
        if self.planes.is_resume(ticket) and (wait := self.node.requests.take(guid, now)):
            return http_answers.refusal(Code.LIMIT_EXCEEDED, "too many requests", wait)
        try:
            plane = self.planes.admit(ticket, guid, signature)
        except TicketRefused as refused:
            return http_answers.refusal(refused.code or Code.INTERNAL, refused.reason)
        if not raw:
            websocket = web.WebSocketResponse(
                protocols=(WEBSOCKET_PROTOCOL,), compress=False, max_msg_size=1 << 22
            )
            websocket.headers[RESUME_HEADER] = plane.resumes[guid]
            await websocket.prepare(request)
            self.planes.attach(plane, WebSocketLeg(request, websocket), early)
            await asyncio.shield(plane.ended)
            return websocket
        response = await accept_upgrade(request, {RESUME_HEADER: plane.resumes[guid]})
        if is_tls(request):
            legs: list[TlsLeg] = []

            def take(transport: asyncio.Transport) -> asyncio.Protocol:
                legs.append(TlsLeg(transport))
                return legs[0].protocol

            if take_transport(request, take):
                self.planes.attach(plane, legs[0], early)
                await asyncio.shield(plane.ended)
        else:
            taken = take_socket(request)
            if taken is not None:
                self.planes.attach(plane, SocketLeg(taken), early)
        return response

    async def _lookup(self, request: web.Request) -> web.Response:
        """Answer P2P mode for a program without the library: what anyone may know."""
        now = asyncio.get_running_loop().time()
        registration = self.registry.get(request.match_info["guid"])
        service = request.match_info["service"]
        if registration is None:
            return http_answers.refusal(Code.UNKNOWN_PEER, "nobody with this GUID has registered")
        if service not in registration.services or not registration.may_learn(service, None):
            return http_answers.refusal(
                Code.UNKNOWN_SERVICE, "the peer offers no such service to anyone"
            )
        state = self.registry.state(registration, now)
        entries = registration.disclosable(service) if state is PeerState.ONLINE else ()
        endpoints = [
            {"host": entry.host, "port": entry.port, "phase": entry.phase, "seq": entry.seq}
            for entry in map(read_entry, entries)
        ]
        return http_answers.json(
            {
                "guid": registration.guid,
                "service": service,
                "state": state,
                "last_seen": round(registration.last_seen(now), 3),
                "endpoints": endpoints,
            }
        )

    async def _healthz(self, request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, request: web.Request) -> web.Response:
        return web.Response(
            text="draining\n" if self.draining else "ok\n", status=503 if self.draining else 200
        )

    async def _metrics(self, request: web.Request) -> web.Response:
        return web.Response(body=self.metrics.exposition(), content_type="text/plain")

    async def _about(self, request: web.Request) -> web.Response:
        return web.Response(text=_ABOUT)

    # -- inside ---------------------------------------------------------------------------------

    async def _keep_time(self) -> None:
        """Look at every deadline there is: requests a few times a second, the rest every second."""
        loop = asyncio.get_running_loop()
        beat = 0
        while True:
            await asyncio.sleep(0.1)
            now = loop.time()
            self.broker.expire(now)
            self.watches.tell(now)
            beat += 1
            if beat % 10 == 0:
                for connection in list(self.node.connections):
                    connection.watch_time(now)
                self.planes.sweep(now)
            if beat % 600 == 0:
                self.registry.forget(now)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)

    def _task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _log.error("a task failed", exc_info=task.exception())
