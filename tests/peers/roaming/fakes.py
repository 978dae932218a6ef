"""The rooms below `roaming`, as a test wants them: nothing is dialed, and nobody is asked."""

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncGenerator, Iterator
from typing import Any, cast

from peers import Identity, Mode, PeerConfig, SessionSettings
from peers.choice import Candidate
from peers.control import Presence
from peers.dialing import Door
from peers.host import Interfaces
from peers.location import OwnLocation
from peers.roaming.driver import Means
from peers.roaming.keeper import Looked
from peers.roaming.local import Local
from peers.roaming.locks import LOCKED_BY_TLS
from peers.roaming.offers import NOTHING_ASKED, Asked
from peers.roaming.route import Attempt, Route, Welcomed
from peers.roaming.sessions import Sessions
from peers.roaming.signs import Signs
from peers.session import Session, SessionEnd, SessionNews, Terms, Trace
from peers.tasks import Tasks
from protocol.endpoint import Entry, Phase, Provenance, SignedEntry, sign_entry
from protocol.errors import RoamRelayError
from protocol.lock import Agreed
from protocol.messages import PathWelcome
from tests.support.fake_path import FakePath

HERE, THERE = Identity.generate(), Identity.generate()
CALLER = Terms(THERE.guid, "chat", Mode.P2P, is_caller=True, discloses=True)
CALLEE = dataclasses.replace(CALLER, is_caller=False)
PATIENT = SessionSettings(ping_interval=3600.0, silence_limit=7200.0)
"""For whom a path that says nothing is no dead one."""


def config(**fields: Any) -> PeerConfig:
    """Return the configuration of a peer with a relay, that probes nothing and fears no silence."""
    known = {"relay": "http://192.0.2.99:1", "probe_interval": 0.0, "session": PATIENT}
    return PeerConfig(**(known | fields))


CONFIG = config()


def signed(
    *hosts: str,
    by: Identity = THERE,
    seq: int = 1,
    phase: Phase = Phase.PREFERRED,
    service: str = "chat",
) -> tuple[SignedEntry, ...]:
    """Return entries that are signed."""
    return tuple(
        sign_entry(by, Entry(seq, service, host, 9, phase, 60, Provenance.INTERFACE))
        for host in hosts
    )


def make_route(terms: Terms = CALLER, told: list[SessionNews] | None = None) -> Route:
    """Return a session that has had no path, and that nobody looks after."""
    trace = Trace(asyncio.get_running_loop().time)
    tell = [].append if told is None else told.append
    return Route(SessionEnd(b"s" * 16, terms, CONFIG.session, trace, tell), trace)


def make_local(config: PeerConfig = CONFIG) -> Local:
    """Return a peer at one address; it can make no path."""
    location = OwnLocation(HERE, 4000, configured=("198.51.100.1",), lifetime=60)
    door = Door(config, Interfaces(config), 4000)
    return Local(HERE, config, location, cast(Any, None), Tasks(), door)


def welcomed(path: FakePath | None = None, **fields: Any) -> Welcomed:
    """Return a path whose hello was accepted by a side that has had nothing."""
    return Welcomed((path or FakePath()).path, PathWelcome(**fields))


class Call:
    """Something that was asked for, and waits for what the test says."""

    def __init__(self, attempt: Attempt, timeout: float | None = None) -> None:
        self.attempt = attempt
        self.timeout = timeout
        self.only: Candidate | None = None
        self.cancelled = False
        self._result: asyncio.Future[Welcomed] = asyncio.get_running_loop().create_future()

    @property
    def waits(self) -> bool:
        """Whether nobody has said yet what comes of it."""
        return not self.cancelled and not self._result.done()

    async def wait(self) -> Welcomed:
        try:
            return await self._result
        except asyncio.CancelledError:
            self.cancelled = True
            raise

    def say_hello(self) -> None:
        """The hello leaves: the other side may take the path from now on."""
        self.attempt.hello(())

    def finds(self, path: FakePath | None = None, **fields: Any) -> FakePath:
        """It brings a path."""
        path = path or FakePath()
        self._result.set_result(welcomed(path, **fields))
        return path

    def fails(self, error: BaseException) -> None:
        self._result.set_exception(error)


class FakeRounds:
    """Rounds that end as the test says; the last one is under way."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.firsts = 0

    async def first(self, attempt: Attempt, timeout: float) -> Welcomed:
        self.firsts += 1
        self.calls.append(Call(attempt, timeout))
        return await self.calls[-1].wait()

    async def next(self, attempt: Attempt) -> Welcomed:
        self.calls.append(Call(attempt))
        return await self.calls[-1].wait()

    @property
    def last(self) -> Call:
        return self.calls[-1]


class NoMeetings:
    """Nothing is offered, and nobody is met."""

    def take(self, stream: object) -> bool:
        return False


class NoOffers:
    """Nothing is offered or heard, and planes are under TLS."""

    def ask(self, route: Route, mode: Mode | None = None) -> Asked:
        return NOTHING_ASKED

    def answered(self, route: Route, asked: Asked, answer: object) -> Agreed:
        return LOCKED_BY_TLS

    def heard(self, request: object) -> bytes:
        return b""


class FakeWays:
    """Ways that lead where the test says."""

    def __init__(self) -> None:
        self.meetings = NoMeetings()
        self.offers = NoOffers()
        self.directs: list[Call] = []
        self.changes: list[frozenset[str]] = []
        self.planes: list[str] = []

    def network_changed(self, gone: frozenset[str]) -> None:
        self.changes.append(gone)

    def entries_for(self, route: Route, first: str | None = None) -> tuple[SignedEntry, ...]:
        return route.entries_for(make_local().location, first)

    async def direct(
        self, attempt: Attempt, *, quick: bool = False, only: Candidate | None = None
    ) -> Welcomed:
        call = Call(attempt)
        call.only = only
        self.directs.append(call)
        return await call.wait()


class FakeProbes:
    """Looks that find what the test says, or raise it."""

    def __init__(self) -> None:
        self.looks = 0
        self.seen: Any = None
        self.best: Candidate | None = None
        self.fault: Exception | None = None

    async def look(self, route: Route, seen: object) -> Candidate | None:
        self.looks += 1
        self.seen = seen
        if self.fault is not None:
            raise self.fault
        return self.best


class FakeStandbys:
    """Looks for second paths that bring what the test says."""

    def __init__(self) -> None:
        self.looks: list[Route] = []
        self.reviews = 0
        self.result: Looked | RoamRelayError = Looked.NOTHING

    async def look(self, route: Route) -> Looked:
        self.looks.append(route)
        if isinstance(self.result, RoamRelayError):
            raise self.result
        return self.result

    def review(self, route: Route) -> None:
        self.reviews += 1


class FakePlanes:
    """Where the routes lead, as the test says, and paths by the relay that it makes."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.strayed = False

    def strays(self, route: Route) -> bool:
        return self.strayed

    async def next(self, attempt: Attempt) -> Welcomed:
        self.calls.append(Call(attempt))
        return await self.calls[-1].wait()


class FakeRegistration:
    """Counts who waits for the relay."""

    def __init__(self) -> None:
        self.held = 0

    @contextlib.contextmanager
    def awaited(self) -> Iterator[None]:
        self.held += 1
        try:
            yield
        finally:
            self.held -= 1


class World:
    """The sessions of one peer above fakes."""

    def __init__(self, **fields: Any) -> None:
        self.local = make_local(config(**fields))
        self.rounds = FakeRounds()
        self.ways = FakeWays()
        self.probes = FakeProbes()
        self.standbys = FakeStandbys()
        self.planes = FakePlanes()
        self.registration = FakeRegistration()
        self.watched: list[str] = []
        self.presences: asyncio.Queue[Presence | RoamRelayError] = asyncio.Queue()
        """What the relay says of whoever is watched."""
        self.sessions = Sessions(
            self.local,
            Means(
                cast(Any, self.ways),
                cast(Any, self.rounds),
                cast(Any, self.probes),
                cast(Any, self.registration),
                cast(Any, self.standbys),
                cast(Any, self.planes),
                Signs(self.watch, self.local.tasks.spawn),
            ),
        )

    async def watch(self, guid: str) -> AsyncGenerator[Presence, None]:
        """Watch a peer: what `presences` holds is said of it."""
        self.watched.append(guid)
        try:
            while True:
                said = await self.presences.get()
                if isinstance(said, RoamRelayError):
                    raise said
                yield said
        finally:
            self.watched.remove(guid)

    async def opening(self, terms: Terms = CALLER) -> "asyncio.Task[Session]":
        """Begin to open a session; its round is under way."""
        task = asyncio.get_running_loop().create_task(self.sessions.open(terms, 7.0))
        await turns()
        return task

    async def opened(self, terms: Terms = CALLER, path: FakePath | None = None) -> Session:
        """Open a session."""
        task = await self.opening(terms)
        self.rounds.last.say_hello()
        self.rounds.last.finds(path)
        return await task

    def accepted(
        self, path: FakePath | None = None, terms: Terms = CALLEE, name: bytes = b"a" * 16
    ) -> Route:
        """Take a session that another peer has begun."""
        route = self.sessions.make(name, terms)
        there = PathWelcome()
        assert self.sessions.accept(route, (path or FakePath()).path, 1, there, dialed_here=False)
        return route


async def turns(count: int = 10) -> None:
    """Let the loop turn, until what was ready has been done."""
    for _ in range(count):
        await asyncio.sleep(0)
