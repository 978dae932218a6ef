"""The relay as one server: start, drain, close, and the beat that looks at all deadlines."""

import asyncio
import contextlib
from collections.abc import Collection, Sequence, Set
from operator import methodcaller
from os import urandom
from time import monotonic, time
from types import TracebackType
from typing import Self

from msgspec import structs

from protocol.endpoint import Endpoint
from protocol.identity import Identity
from protocol.lateness import Lateness
from relay.admission import Admission, AdmissionRules, Admit, Book
from relay.backplane import ALONE
from relay.broker import Broker, BrokerLimits
from relay.config import CERTIFICATE, LIVE, PACE, RelayConfig, Siblings
from relay.control import Carrier, CarrierLimits, ControlConnection, Reception, Rooms, Source
from relay.dashboard import DashboardRoutes, Stream, View
from relay.departure import send_away
from relay.http import (
    AdminRoutes,
    AdminToken,
    Arrivals,
    ControlRoute,
    Deadlines,
    Descriptors,
    Doorkeeper,
    Fronts,
    Handover,
    Pages,
    PlaneRoute,
    Proxies,
    PublicRoutes,
    Rules,
    for_peers,
    is_near,
    tell_of_limits,
)
from relay.keys import Former, Keys
from relay.limits import Shares, record_budget
from relay.listening import serves
from relay.log import guarded
from relay.metrics import Metrics
from relay.operator import Desk, LocalDoor, Present
from relay.optional import ZoneParts, book_of, cluster_of, mailbox_of, zone_of
from relay.plane import DetourLimits, Detours, PlaneLimits, Planes, pace_of
from relay.presence import (
    Keeping,
    KnownPeers,
    Presence,
    ProofRules,
    Proofs,
    Registry,
    Watches,
    may_probe,
    may_probe_port,
)
from relay.succession import Succession, names, take_folder
from relay.tasks import Tasks, closing, uninterrupted
from relay.tls import Certificate
from relay.turns import in_turns, one_by_one

__all__ = ["BOOK", "STORES", "RelayServer"]

BOOK, _KNOWN = "relay.sqlite", "known.sqlite"
"""The files in the state folder: what an operator has said, and who was here."""
STORES = {BOOK: Book.VERSION, _KNOWN: KnownPeers.VERSION}
"""The same, each with the version of its tables."""

_BEAT, _HEARING = 0.1, 0.3
"""Seconds between two looks at the deadlines, and at what the operator has said elsewhere."""


class RelayServer:
    """One relay: `async with RelayServer(config) as server` serves until the block ends.

    Raises `ConfigError` on entering where it cannot listen or use its certificate.
    """

    def __init__(
        self,
        config: RelayConfig,
        identity: Identity | None = None,
        *,
        admit: Admit | None = None,
        former: Sequence[Former] = (),
        siblings: Siblings | None = None,
    ) -> None:
        """`admit` decides who is admitted, in place of `admission` (docs/admission.md). `former`
        are identities of before that are still served, the oldest first (docs/state.md). `siblings`
        is what processes of one machine share that are one relay (docs/scaling.md)."""
        if not isinstance(config, RelayConfig):
            raise TypeError(f"config is a RelayConfig, not {type(config).__name__}")
        if not (identity is None or isinstance(identity, Identity)):
            raise TypeError(f"identity is an Identity, not {type(identity).__name__}")
        if not (admit is None or callable(admit)):
            raise TypeError(f"admit is an async function, not {type(admit).__name__}")
        self.config = config
        self._siblings = siblings
        self.identity = identity or Identity.generate()
        self.guid = self.identity.guid
        self.keys = Keys(self.identity, former, time)
        """Under which it answers."""
        self.metrics = Metrics()
        self.url = ""
        """Where it serves; the first of `urls`."""
        self.drain_asked = asyncio.Event()
        """Set when its operator asks for its end: then whoever runs it drains it."""
        self.urls: tuple[str, ...] = ()
        self.admin_urls: tuple[str, ...] = ()
        """Where operators come, if that is an address of its own."""
        self._descriptors = Descriptors.of_process()
        self._certificate: Certificate | None = None
        """What https:// shows, once it listens."""
        self._listening: tuple[Endpoint, ...] = ()
        """Where it serves, the zone too."""
        self._tasks = Tasks()
        self._stack = contextlib.AsyncExitStack()
        self._folder = contextlib.ExitStack()
        """Holds the state folder."""
        self._local_door: LocalDoor | None = None
        self._succession = Succession(self._give_up)
        self.cluster = cluster_of(
            config, self.identity, self.metrics, monotonic, shares_port=siblings is not None
        )
        """The others that are one relay with this one."""
        backplane = self.cluster or ALONE
        self.registry = Registry(
            grace=config.suspect_grace,
            remember=config.remember_offline,
            max_offline=config.max_offline,
            backplane=backplane,
        )
        self.planes = Planes(
            (self.identity.public_key, *(one.identity.public_key for one in former)),
            PlaneLimits.of(config, self._descriptors.limit),
            self.metrics,
            monotonic,
            self._tasks.spawn,
        )
        self.broker = Broker(
            self.registry,
            self.planes,
            self.metrics,
            BrokerLimits(
                config.pending_requests, config.requests_per_second, config.requests_burst
            ),
            backplane,
        )
        self.watches = Watches(self.registry, grace=config.suspect_grace)
        self._proxies = Proxies(
            config.trusted_proxies or (),
            own_host=config.trusted_proxies is None and config.only_on_loopback,
        )
        self.doorkeeper = Doorkeeper(Rules(config, self._proxies, self._descriptors), self.metrics)
        self.proofs = Proofs(
            self.registry,
            self.metrics,
            ProofRules(
                self.may_probe,
                config.proof_timeout,
                config.proof_lifetime,
            ),
            monotonic,
            self._tasks.spawn,
        )
        self._known = KnownPeers(
            Keeping(
                config.in_state(_KNOWN) if config.state is not None else None,
                config.max_offline,
                config.remember_offline,
            ),
            time,
        )
        self.admission = Admission(
            AdmissionRules(
                config.admission, frozenset(config.listed_guids), config.admission_timeout, admit
            ),
            book_of(self._book, self.cluster, siblings, time),
            self.metrics,
            time,
            self._tasks.spawn,
        )
        self.dns = zone_of(
            config,
            self._descriptors.share,
            ZoneParts(
                self.keys, self.registry, self.admission, self.metrics, monotonic, self.cluster
            ),
        )
        self._presence = Presence(
            self.registry,
            self.watches,
            self.proofs,
            Shares(record_budget(config.max_connections)),
            self._known,
        )
        self.mailbox = mailbox_of(config, self.cluster, self.metrics, time, self._tasks.spawn)
        self._reception = Reception(
            config,
            self.keys,
            Rooms(self.admission, self.dns, self.planes.pacer, self.mailbox, backplane),
            self.metrics,
            monotonic,
        )
        self.operator = Desk(
            self.admission,
            Present(self._presence, self.planes, self.dns, self.metrics, self, self.mailbox),
            monotonic,
            time,
        )
        """What an operator, or the program that embeds the relay, can do with it."""
        self.metrics.gauges |= {
            "peers": lambda: self.registry.counts(monotonic()),
            "watches": lambda: {"all": len(self.watches)},
            "connections_open": lambda: {"all": len(self.connections)},
            "pipes": lambda: self.planes.pipes,
            "newcomers": lambda: {"all": self.doorkeeper.newcomers},
            "planes_open": lambda: {"joined": self.planes.live, "pending": self.planes.pending},
        }
        self._admin_token = AdminToken()
        held = self.registry, self.planes, self.metrics
        nodes = tuple if self.cluster is None else self.cluster.nodes_now
        view = View(held, urandom(32), with_addresses=config.dashboard_addresses, nodes=nodes)
        self._dashboard = Stream(view, self.metrics.loop, self._tasks.spawn)
        admin = AdminRoutes(self.doorkeeper, self.metrics, self._admin_token)
        public = PublicRoutes(self.registry, monotonic, backplane, self.guid)
        most = DetourLimits.of(config, self._descriptors.limit)
        detours = Detours(self.cluster, most, self.metrics, self._tasks.spawn)
        self._handover = Handover.of(config, siblings)
        limits = CarrierLimits(config.write_deadline, config.outbox_bytes)
        self._fronts = Fronts(
            config,
            Arrivals(
                self.doorkeeper,
                Deadlines(config.handshake_timeout, config.write_deadline),
                self._reception.charge,
                self._tasks.spawn,
            ),
            for_peers(
                ControlRoute(self.doorkeeper, limits, self._connect, monotonic),
                PlaneRoute(self.planes, self.broker, self._reception, detours, self._handover),
                public,
                Pages(config.pages),
            ),
            admin.metrics | DashboardRoutes(admin, self._dashboard, public.about).routes,
            admin.health,
        )

    async def __aenter__(self) -> Self:
        try:
            # Bounded: the host's resolver and SQLite have timeouts of their own.
            await uninterrupted(self._start())
        except BaseException:
            await uninterrupted(self._stack.aclose())
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await uninterrupted(self._stack.aclose())

    @property
    def connections(self) -> Set[ControlConnection]:
        """The control connections that are not over."""
        return self._reception.connections

    @property
    def draining(self) -> bool:
        """Whether the relay accepts nobody any more."""
        return self.doorkeeper.draining

    def may_probe(self, endpoint: Endpoint, observed: Collection[str]) -> bool:
        """Whether the relay may dial an endpoint for a peer that is observed at these addresses.
        What the relay serves on says where its peers are only where no proxy stands between; and
        neither a proxy nor the relay itself is a peer."""
        config, host = self.config, endpoint.host
        if self._proxies.trusts(host) or serves(self._listening, endpoint):
            return False
        is_neighbour = not config.trusted_proxies and any(map(is_near, observed))
        return may_probe_port(endpoint.port, host in observed) and all(
            may_probe(host, own if is_neighbour else "", config.networks) for own in config.hosts
        )

    def reload(self, config: RelayConfig) -> tuple[str, ...]:
        """Take over what can be changed while the relay serves, and read the files of its
        certificate and its token anew; return the keys that differ and need a restart.

        Who is connected stays so, also above a lower limit.

        Raises:
            ConfigError: the certificate, or the token, cannot be used. All is as it was.
        """
        old = self.config
        keys = {
            name
            for name in RelayConfig.__struct_fields__
            if getattr(config, name) != getattr(old, name)
        }
        taken = keys & LIVE
        token = AdminToken()
        token.load(config)
        if (
            self._certificate is not None
            and config.tls_certificate is not None
            and config.tls_key is not None
        ):
            self._certificate.load(config.tls_certificate, config.tls_key)
            taken |= keys & CERTIFICATE
        self._admin_token.take(token)
        self.config = structs.replace(old, **{name: getattr(config, name) for name in taken})
        self.doorkeeper.allow(self.config)
        if keys & taken:
            tell_of_limits(self.config, self._descriptors)
        if taken & PACE:
            self.planes.pacer.allow(pace_of(self.config))
        self._reception.requests.allow(config.requests_per_second, config.requests_burst)
        return tuple(sorted(keys - taken))

    async def drain(self) -> None:
        """Stop accepting peers, send each away with `restarting`, and let planes end. A relay that
        starts meanwhile gets the ports and the state as soon as it asks for them.

        Returns when the last plane has ended, or after `drain_timeout`.
        """
        self.doorkeeper.draining = True
        # Who asks is told that it drains, until the end or until the next relay wants the port.
        ports = self._fronts.ports | ({self.dns.port} if self.dns is not None else set())
        # Of a port that is shared, the others go on.
        names_of_all = names(ports, self.config.state)
        if self._siblings is not None or not await self._succession.open(names_of_all):
            self._fronts.close()
        elsewhere = self.cluster.leave() if self.cluster is not None else ()
        await send_away(list(self.connections), elsewhere, self.metrics.loop)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.config.drain_timeout):
                await self.planes.finished()

    # -- inside ---------------------------------------------------------------------------------

    @property
    def _book(self) -> str | None:
        if self._siblings is not None:
            return self._siblings.book
        return None if self.config.state is None else self.config.in_state(BOOK)

    async def _start(self) -> None:
        """Start everything. What closes it is on the stack from before the first of it starts."""
        tell_of_limits(self.config, self._descriptors)
        enter = self._stack.enter_async_context
        await enter(closing("the succession", self._succession.close))
        if self.config.state is not None:
            self._stack.callback(self._folder.close)
            await take_folder(self._folder, self.config.state)
        await enter(closing("the book of who is admitted", self.admission.book.close))
        await self.admission.book.open()
        await enter(closing("who is known", self._known.close))
        await self._known.open()
        if self.mailbox is not None:
            await enter(closing("the mailbox", self.mailbox.close))
            await self.mailbox.open()
        self._admin_token.load(self.config)
        await enter(closing("the HTTP servers", self._fronts.cleanup))
        if self.dns is not None:
            await enter(closing("the DNS server", self.dns.close))
        await enter(closing("the tasks", self._tasks.close))
        await enter(closing("the connections", self._send_away))
        if self.config.state is not None and self.config.operator_socket:
            door = LocalDoor(self.config.in_state(self.config.operator_socket), self.operator)
            self._local_door = door
            await enter(closing("the operator's door", door.close))
            await door.open()
        await enter(closing("the listener", self._shut))
        self.registry.started(monotonic())
        await self._listen()
        if self.dns is not None:
            port, is_shared = self._fronts.peers.port, self._siblings is not None
            self._listening += await self.dns.start(port, is_shared=is_shared)
        if self.cluster is not None:
            self.metrics.gauges["cluster_now"] = self.cluster.counts
            urls = self.urls if self._siblings is None else self._fronts.siblings.urls
            self._tasks.spawn(self.cluster.serve(urls, self._presence, self.broker))
        if self.cluster is not None or self._siblings is not None:
            self._tasks.spawn(self._hear_of_operator())
        self._tasks.spawn(self._known.load(self.registry, monotonic))
        self._tasks.spawn(self._keep_time())

    async def _hear_of_operator(self) -> None:
        """Take over what the operator says elsewhere; one time after the other."""
        while True:
            await asyncio.sleep(_HEARING)
            with guarded("reading what the operator has said"):
                await self.operator.hear()

    async def _give_up(self) -> None:
        """Close what the next relay needs; planes go on."""
        self._fronts.close()
        if self._local_door is not None:
            with guarded("closing the operator's door"):
                await self._local_door.close()
        if self.dns is not None:
            with guarded("closing the DNS server"):
                await self.dns.close()
        for store in (self.admission.book, self._known, self.mailbox):
            if store is not None:
                with guarded("closing a store"):
                    await store.close()
        self._folder.close()

    async def _listen(self) -> None:
        config, context = self.config, None
        if config.tls_certificate is not None and config.tls_key is not None:
            certificate = Certificate(config.tls_certificate, config.tls_key)
            certificate.look(time())
            self._certificate = certificate
            self.metrics.gauges["certificate_seconds"] = lambda: {
                "left": round(certificate.ends - time())
            }
            context = certificate.context
        await self._fronts.open(context, is_shared=self._siblings is not None)
        if self._handover is not None:
            self._handover.open(self._fronts.peers.take)
            self._stack.callback(self._handover.close)
        self._listening += self._fronts.endpoints
        self.urls, self.admin_urls = self._fronts.peers.urls, self._fronts.operators.urls
        self.url = self.urls[0]

    def _connect(self, carrier: Carrier, source: Source) -> ControlConnection:
        return ControlConnection(carrier, source, self._presence, self.broker, self._reception)

    async def _shut(self) -> None:
        self._fronts.close()
        self._dashboard.close()
        self.doorkeeper.end_all("shutdown")

    async def _send_away(self) -> None:
        for connection in list(self.connections):
            with guarded("closing a connection"):
                connection.abort("shutdown")
        with guarded("closing the planes"):
            self.planes.close("shutdown")

    async def _keep_time(self) -> None:
        """Look at every deadline there is: requests a few times a second, the rest every second.
        What fails at one of them keeps no other from its turn."""
        beat, lateness, wait = 0, Lateness(), _BEAT
        loop = self.metrics.loop
        now = monotonic()
        while True:
            due = now + wait
            await asyncio.sleep(wait)
            now = monotonic()
            loop.beat(due)
            if (turn := lateness.turn(due, now)) is not None:
                wait = turn  # What was said meanwhile is read before anybody is judged silent.
                continue
            wait = _BEAT
            with guarded("looking at requests"):
                await in_turns(loop, self.broker.expiring(now))
            with guarded("answering about endpoints"):
                self.proofs.expire(now)
            with guarded("telling watchers"):
                await in_turns(loop, self.watches.telling(now))
            beat += 1
            if beat % 10 == 0:
                with guarded("forgetting what was asked"):
                    self.proofs.forget(now)
                looking = one_by_one(
                    "looking at a connection",
                    methodcaller("watch_time", now),
                    list(self.connections),
                )
                await in_turns(loop, looking)
                with guarded("looking at planes"):
                    await in_turns(loop, self.planes.sweeping(now))
                with guarded("keeping who is known"):
                    self._tasks.spawn(self._known.write())
            if beat % 30 == 0 and self._certificate is not None:
                with guarded("looking at the certificate"):
                    self._certificate.look(time())
            if beat % 600 == 0:
                with guarded("forgetting peers"):
                    await in_turns(loop, self.registry.forgetting(now))
                if self.mailbox is not None:
                    with guarded("dropping letters that have expired"):
                        self.mailbox.sweep()
                if not self._succession.is_over:
                    with guarded("dropping bans that are over"):
                        self._tasks.spawn(self.admission.book.drop_old())
