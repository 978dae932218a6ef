"""What others ask of this peer: who gets a session, who is refused, and why.

First what is judged, row by row; then the shell above fakes; then real peers.
"""

import asyncio
import dataclasses
import math
from typing import Any, cast

import msgpack
import pytest

from peers import (
    Identity,
    Mode,
    Peer,
    PeerConfig,
    Refused,
    RoamRelayError,
    Session,
)
from peers.config import PathKind
from peers.path import PathEnd
from peers.path.open_paths import Paths
from peers.roaming import incoming as module
from peers.roaming.incoming import Incoming, Known, judge_path, judge_request
from peers.roaming.route import Attempt, Route, Welcomed
from peers.services import Admission, ListenerEnd, Services, SessionRequest
from peers.session import Terms
from protocol.endpoint import Endpoint
from protocol.errors import Code, PathFailed
from protocol.features import SESSION_FEATURES
from protocol.lock import LockSide
from protocol.messages import PathHello, PathWelcome, ServiceAnswer, ServiceRequestFrom
from relay.server import RelayServer
from tests.peers.roaming.fakes import CALLEE, CALLER, CONFIG, HERE, THERE, World, signed, turns
from tests.support.direct_path import dial_direct
from tests.support.fake_path import FakePath
from tests.support.sessions import exchange, pair
from tests.support.virtual_time import run

# -- what is judged ---------------------------------------------------------------------------

OPEN = ListenerEnd("chat", Admission(), disclose="anyone", on_closed=lambda listener: None)
CLOSED_TO = ListenerEnd(
    "chat", Admission.checked([HERE.guid]), disclose="anyone", on_closed=lambda listener: None
)
KNOWN = Known(CALLEE, has_had_path=True)
NEW = Known(CALLEE, has_had_path=False)
OPENED_HERE = Known(CALLER, has_had_path=True)

FALLS_BACK = Known(dataclasses.replace(CALLEE, mode=Mode.COMBINED), True, falls_back=True)


def request(**fields: Any) -> ServiceRequestFrom:
    known = {"request": 7, "guid": THERE.guid, "service": "chat", "mode": Mode.P2P}
    return ServiceRequestFrom(**({"session": b"a" * 16} | known | fields))


def of(known: Known, **fields: Any) -> Known:
    """Return it with other terms."""
    return dataclasses.replace(known, terms=dataclasses.replace(known.terms, **fields))


@pytest.mark.parametrize(
    ("asked", "known", "listener", "room", "expected"),
    [
        (request(), None, OPEN, True, None),
        (request(), None, None, True, Code.UNKNOWN_SERVICE),
        (request(), None, CLOSED_TO, True, Code.REFUSED),
        (request(), None, OPEN, False, Code.LIMIT_EXCEEDED),
        # The same request over another flow is no new one, whether there is room or not.
        (request(), NEW, OPEN, False, None),
        (request(), KNOWN, OPEN, True, None),
        (request(), KNOWN, None, True, Code.UNKNOWN_SERVICE),
        (request(), of(NEW, remote=HERE.guid), OPEN, True, Code.REFUSED),
        (request(), of(NEW, service="mail"), OPEN, True, Code.REFUSED),
        (request(mode=Mode.AUTO), NEW, OPEN, True, Code.REFUSED),
        (request(), OPENED_HERE, OPEN, True, Code.REFUSED),
        # Who comes back is known by its key, on either side of the session.
        (request(resume=True), KNOWN, None, False, None),
        (request(resume=True), OPENED_HERE, None, False, None),
        (request(resume=True), None, OPEN, True, Code.SESSION_UNKNOWN),
        (request(resume=True), of(KNOWN, remote=HERE.guid), OPEN, True, Code.SESSION_UNKNOWN),
        (request(resume=True, mode=Mode.AUTO), KNOWN, OPEN, True, Code.SESSION_UNKNOWN),
        # Over the relay too, where both have named that, and then by the same peer alone.
        (request(resume=True, mode=Mode.AUTO), FALLS_BACK, None, False, None),
        (request(resume=True, mode=Mode.COMBINED), FALLS_BACK, None, False, None),
        (request(resume=True, mode=Mode.CENTRAL), FALLS_BACK, OPEN, True, Code.SESSION_UNKNOWN),
        (
            request(resume=True, mode=Mode.AUTO),
            of(FALLS_BACK, remote=HERE.guid),
            OPEN,
            True,
            Code.SESSION_UNKNOWN,
        ),
        (request(mode=Mode.AUTO), FALLS_BACK, OPEN, True, Code.REFUSED),
    ],
)
def test_requests_that_are_accepted_and_refused(
    asked: ServiceRequestFrom,
    known: Known | None,
    listener: ListenerEnd | None,
    room: bool,
    expected: Code | None,
) -> None:
    refusal = judge_request(asked, known, listener, room=room)
    assert (refusal and refusal.code) == expected


def hello(**fields: Any) -> PathHello:
    known = {"session": b"a" * 16, "service": "chat", "mode": Mode.P2P}
    return PathHello(**(known | fields))


DIRECT, RELAYED = PathKind.DIRECT, PathKind.RELAYED


@pytest.mark.parametrize(
    ("said", "kind", "known", "listener", "expected"),
    [
        (hello(), DIRECT, None, OPEN, None),
        (hello(), DIRECT, None, None, Code.UNKNOWN_SERVICE),
        (hello(), DIRECT, None, CLOSED_TO, Code.REFUSED),
        (hello(version=99), DIRECT, KNOWN, OPEN, Code.VERSION_UNSUPPORTED),
        # The modes but p2p are announced by the relay.
        (hello(mode=Mode.COMBINED), DIRECT, None, OPEN, Code.SESSION_UNKNOWN),
        (hello(mode=Mode.CENTRAL), RELAYED, None, OPEN, Code.SESSION_UNKNOWN),
        (hello(mode=Mode.AUTO), RELAYED, None, OPEN, Code.SESSION_UNKNOWN),
        (hello(mode=Mode.COMBINED), DIRECT, of(NEW, mode=Mode.COMBINED), OPEN, None),
        (hello(mode=Mode.CENTRAL), RELAYED, of(NEW, mode=Mode.CENTRAL), OPEN, None),
        (hello(mode=Mode.AUTO), RELAYED, of(NEW, mode=Mode.AUTO), OPEN, None),
        (hello(mode=Mode.AUTO), DIRECT, of(NEW, mode=Mode.AUTO), OPEN, None),
        # Each mode has its kinds of path.
        (hello(), RELAYED, KNOWN, OPEN, Code.SESSION_UNKNOWN),
        (hello(mode=Mode.COMBINED), RELAYED, KNOWN, OPEN, Code.SESSION_UNKNOWN),
        (hello(mode=Mode.CENTRAL), DIRECT, KNOWN, OPEN, Code.SESSION_UNKNOWN),
        # A session in combined may go on over the relay, where both have named that.
        (hello(mode=Mode.COMBINED, resume=True), RELAYED, FALLS_BACK, None, None),
        (hello(mode=Mode.COMBINED, resume=True), DIRECT, FALLS_BACK, None, None),
        (hello(mode=Mode.AUTO, resume=True), RELAYED, FALLS_BACK, OPEN, Code.SESSION_UNKNOWN),
        (
            hello(mode=Mode.COMBINED, resume=True),
            RELAYED,
            of(FALLS_BACK, remote=HERE.guid),
            OPEN,
            Code.SESSION_UNKNOWN,
        ),
        # A session that is known is its own peer's, in its own mode, for its own service.
        (hello(resume=True), DIRECT, KNOWN, None, None),
        (hello(resume=True), DIRECT, OPENED_HERE, None, None),
        (hello(), DIRECT, of(KNOWN, remote=HERE.guid), OPEN, Code.SESSION_UNKNOWN),
        (hello(), DIRECT, of(KNOWN, service="mail"), OPEN, Code.SESSION_UNKNOWN),
        (hello(), DIRECT, of(KNOWN, mode=Mode.COMBINED), OPEN, Code.SESSION_UNKNOWN),
        (hello(resume=True), DIRECT, None, OPEN, Code.SESSION_UNKNOWN),
        # One that was announced begins with its first path: the service may be gone by then, or
        # closed to this peer.
        (hello(), DIRECT, NEW, None, Code.UNKNOWN_SERVICE),
        (hello(), DIRECT, NEW, CLOSED_TO, Code.REFUSED),
        (hello(), DIRECT, dataclasses.replace(OPENED_HERE, has_had_path=False), None, None),
    ],
)
def test_paths_that_are_accepted_and_refused(
    said: PathHello,
    kind: PathKind,
    known: Known | None,
    listener: ListenerEnd | None,
    expected: Code | None,
) -> None:
    refusal = judge_path(said, kind, THERE.guid, known, listener)
    assert (refusal and refusal.code) == expected


# -- the shell above fakes --------------------------------------------------------------------


class Flow:
    """A control connection that keeps what is answered."""

    def __init__(self) -> None:
        self.answers: list[ServiceAnswer] = []

    def answer(self, answer: ServiceAnswer) -> None:
        self.answers.append(answer)

    @property
    def codes(self) -> list[Code | None]:
        return [one.code for one in self.answers]


class Coming(FakePath):
    """A path that another peer has dialed: it says this hello."""

    def __init__(self, said: PathHello, kind: PathKind = DIRECT) -> None:
        super().__init__(kind)
        self.remote_guid = THERE.guid
        self.said = said
        self.welcomes: list[PathWelcome] = []
        self.rejected: Code | None = None

    async def accept(self, timeout: float, take_flight: Any = None) -> PathHello:
        return self.said

    def welcome(self, answer: PathWelcome) -> None:
        self.welcomes.append(answer)

    def reject(self, code: Code, reason: str) -> None:
        self.rejected = code
        self.finish()


class FakePaths:
    """Makes the path that is coming of any stream."""

    def __init__(self) -> None:
        self.coming: Coming | None = None

    def make(self, stream: object, kind: PathKind, *, server: bool, side: LockSide | None) -> Any:
        assert server
        assert side is None
        assert self.coming is not None
        return self.coming


class Home(World):
    """A peer that offers services."""

    def __init__(self, **fields: Any) -> None:
        super().__init__(**fields)
        self.paths = FakePaths()
        self.local = dataclasses.replace(self.local, paths=cast(Any, self.paths))
        self.services = Services(self.local.location, lambda event: None)
        self.listener = self.services.offer("chat", None, "anyone", None)
        self.legs: asyncio.Queue[str] = asyncio.Queue()
        self.leg_opens = asyncio.Event()
        self.forbids: Any = None
        self.meetings, self.offers = self.ways.meetings, self.ways.offers
        self.incoming = Incoming(
            self.local,
            self.services,
            self.sessions,
            cast(Any, self),
            cast(Any, self),
        )

    # -- as its ways and its candidates -------------------------------------------------------

    def entries_for(self, route: Route, first: str | None = None) -> Any:
        return self.ways.entries_for(route, first)

    async def direct(self, attempt: Attempt) -> Welcomed:
        return await self.ways.direct(attempt)

    async def open_plane(self, connection: object, ticket: str, url: str) -> Any:
        self.legs.put_nowait(ticket)
        await self.leg_opens.wait()
        raise PathFailed("the other leg did not come")

    def refusal(self, terms: Terms, path: object) -> Any:
        return self.forbids

    # -- what others do -----------------------------------------------------------------------

    def asks(self, **fields: Any) -> Flow:
        """A request comes over a flow."""
        flow = Flow()
        self.incoming.request(cast(Any, flow), request(**fields))
        return flow

    async def comes(self, said: PathHello, kind: PathKind = DIRECT, ticket: str = "") -> Coming:
        """A path comes."""
        self.paths.coming = Coming(said, kind)
        await self.incoming.serve(cast(Any, None), kind, ticket)
        return self.paths.coming


def test_a_leg_brings_the_ticket_of_its_session_s_next_plane() -> None:
    async def scene() -> None:
        home = Home()
        home.asks(mode=Mode.AUTO, ticket="t" * 43)
        said = hello(mode=Mode.AUTO)
        await home.comes(said, PathKind.RELAYED, "next")
        route = home.sessions.find(said.session)
        assert route is not None
        assert route.ticket == "next"
        home.leg_opens.set()
        home.sessions.abort()
        await home.local.tasks.close()

    run(scene())


def test_the_same_request_over_two_flows_is_answered_twice_and_announced_once() -> None:
    async def scene() -> None:
        home = Home()
        fields = {"mode": Mode.AUTO, "ticket": "t" * 43}
        one, two = home.asks(**fields), home.asks(request=8, **fields)
        assert (one.codes, two.codes) == ([None], [None])
        assert one.answers[0].entries == two.answers[0].entries != ()
        await turns()
        assert home.legs.qsize() == 1, "one leg for one ticket"
        path = await home.comes(hello(mode=Mode.AUTO))
        assert len(path.welcomes) == 1
        assert len(home.sessions.live) == 1
        # A leg that has failed may be asked for again.
        home.leg_opens.set()
        await turns()
        home.asks(**fields)
        await turns()
        assert home.legs.qsize() == 2
        home.sessions.abort()
        await home.local.tasks.close()

    run(scene())


def test_a_path_for_a_service_that_was_closed_after_the_request_is_refused() -> None:
    async def scene() -> None:
        home = Home()
        assert home.asks(mode=Mode.COMBINED).codes == [None]
        home.listener.close()
        path = await home.comes(hello(mode=Mode.COMBINED))
        assert path.rejected is Code.UNKNOWN_SERVICE
        home.sessions.end_announced("chat")
        path = await home.comes(hello(mode=Mode.COMBINED))
        assert path.rejected is Code.SESSION_UNKNOWN
        assert home.sessions.live == []

    run(scene())


@pytest.mark.parametrize("again", [False, True])
def test_a_service_that_is_closed_while_a_caller_is_met_begins_no_session(again: bool) -> None:
    async def scene() -> None:
        home = Home()
        theirs = signed("192.0.2.1")
        assert home.asks(mode=Mode.COMBINED, entries=theirs).codes == [None]
        await asyncio.sleep(4 * CONFIG.stagger + 0.01)
        (meeting,) = home.ways.directs
        home.listener.close()
        if again:
            home.sessions.end_announced("chat")
            home.listener = home.services.offer("chat", None, "anyone", None)
        path = meeting.finds()
        await turns()
        assert path.end == "aborted"
        assert home.sessions.live == []
        assert home.sessions.find_announced(b"a" * 16) is None
        waiting = asyncio.ensure_future(anext(home.listener, None))
        await turns()
        assert waiting.done() is not again, "the service that was opened anew has no session"
        home.services.close()
        assert await waiting is None

    run(scene())


@pytest.mark.parametrize(
    ("fields", "met"),
    [
        ({"mode": Mode.COMBINED, "entries": signed("192.0.2.1")}, True),
        ({"mode": Mode.COMBINED}, False),
        ({"mode": Mode.AUTO, "entries": signed("192.0.2.1")}, False),
        ({"mode": Mode.P2P, "entries": signed("192.0.2.1")}, False),
    ],
)
def test_who_may_be_unable_to_reach_this_peer_is_met(fields: dict[str, Any], met: bool) -> None:
    async def scene() -> None:
        home = Home()
        home.asks(**fields)
        await asyncio.sleep(2)
        assert len(home.ways.directs) == met
        if met:
            path = home.ways.directs[0].finds()
            session = await anext(home.listener)
            assert session.path is path
        home.sessions.abort()
        await home.local.tasks.close()

    run(scene())


def test_a_caller_that_is_met_tells_its_word_in_its_welcome() -> None:
    async def scene() -> None:
        home = Home()
        home.asks(mode=Mode.COMBINED, entries=signed("192.0.2.1"))
        await asyncio.sleep(2)
        home.ways.directs[0].finds(metadata=b"room 7")
        session = await anext(home.listener)
        assert session.metadata == b"room 7"
        home.sessions.abort()
        await home.local.tasks.close()

    run(scene())


def test_a_program_that_is_to_be_asked_meets_nobody_before() -> None:
    """Who is dialed has taken the session, and cannot be refused any more."""

    async def scene() -> None:
        home = Home()
        home.listener.close()
        asked: list[SessionRequest] = []

        def accept(request: SessionRequest) -> bool:
            asked.append(request)
            return request.metadata == b"room 7"

        listener = home.services.offer("chat", None, "anyone", None, accept)
        home.asks(mode=Mode.COMBINED, entries=signed("192.0.2.1"))
        await asyncio.sleep(2)
        assert home.ways.directs == []
        path = await home.comes(hello(mode=Mode.COMBINED, metadata=b"room 8"))
        assert (path.rejected, path.welcomes) == (Code.REFUSED, [])
        path = await home.comes(hello(mode=Mode.COMBINED, metadata=b"room 7"))
        session = await anext(listener)
        assert (session.metadata, session.path) == (b"room 7", path)
        # What a later path says is passed over, and nobody is asked.
        later = await home.comes(hello(mode=Mode.COMBINED, path=2, resume=True, metadata=b"other"))
        assert (session.metadata, session.path, len(asked)) == (b"room 7", later, 2)
        home.sessions.abort()
        await home.local.tasks.close()

    run(scene())


def test_nobody_is_asked_about_what_is_refused_anyhow() -> None:
    async def scene() -> None:
        home = Home()
        home.listener.close()

        def accept(request: SessionRequest) -> bool:
            raise AssertionError("it is asked")

        home.services.offer("chat", [HERE.guid], "anyone", None, accept)
        assert (await home.comes(hello())).rejected is Code.REFUSED
        assert (await home.comes(hello(mode=Mode.AUTO))).rejected is Code.SESSION_UNKNOWN
        home.services.listeners["chat"].close()
        home.services.offer("chat", None, "anyone", None, accept)
        home.forbids = "only relayed"
        assert (await home.comes(hello())).rejected is Code.REFUSED
        assert home.sessions.live == []

    run(scene())


def test_a_caller_that_has_come_by_itself_is_not_met() -> None:
    async def scene() -> None:
        home = Home()
        home.asks(mode=Mode.COMBINED, entries=signed("192.0.2.1"))
        path = await home.comes(hello(mode=Mode.COMBINED))
        session = await anext(home.listener)
        await asyncio.sleep(2)
        assert (session.path, home.ways.directs) == (path, [])
        session.abort()

    run(scene())


def test_a_policy_of_this_side_refuses_a_path_and_is_named() -> None:
    async def scene() -> None:
        home = Home()
        home.forbids = "only relayed"
        path = await home.comes(hello())
        assert path.rejected is Code.REFUSED
        assert home.sessions.live == []

    run(scene())


def test_an_older_path_is_refused_and_the_session_stays() -> None:
    async def scene() -> None:
        home = Home()
        first = await home.comes(hello(path=3))
        session = await anext(home.listener)
        late = await home.comes(hello(path=2, resume=True))
        assert late.rejected is Code.PATH_SUPERSEDED
        assert (session.path, first.end) == (first, "")
        newer = await home.comes(hello(path=4, resume=True))
        assert session.path is newer
        assert home.listener.refusal(THERE.guid) is None
        session.abort()

    run(scene())


def test_one_caller_uses_its_share_up_and_others_go_on() -> None:
    async def scene() -> None:
        home = Home()

        def ask(number: int, guid: str) -> Code | None:
            name = number.to_bytes(16)
            return home.asks(session=name, guid=guid, mode=Mode.COMBINED).codes[0]

        assert {ask(number, THERE.guid) for number in range(128)} == {None}
        assert ask(128, THERE.guid) is Code.LIMIT_EXCEEDED
        assert ask(0, THERE.guid) is None, "the same request again is none more"
        other = Identity.generate().guid
        assert ask(1000, other) is None
        # As many as there is room for in all, of as many keys as somebody likes to make.
        for number in range(1100, 1100 + 1024 - 129):
            assert ask(number, Identity.generate().guid) is None
        assert ask(5000, Identity.generate().guid) is None, "who has most loses one"
        first = (0).to_bytes(16)
        assert home.sessions.find_announced(first) is None
        assert home.sessions.find_announced((1).to_bytes(16)) is not None
        assert ask(1, THERE.guid) is None, "it is there"
        # Those whose caller does not come make room.
        await asyncio.sleep(home.local.config.path_timeout + 11)
        assert ask(6000, THERE.guid) is None
        home.sessions.abort()

    run(scene())


@pytest.mark.parametrize("timeout", [math.inf, -math.inf, math.nan, 1e300])
def test_a_relay_cannot_have_a_session_waited_for_without_end(timeout: float) -> None:
    async def scene() -> None:
        home = Home()
        assert home.asks(mode=Mode.COMBINED, timeout=timeout).codes == [None]
        assert home.sessions.find_announced(b"a" * 16) is not None
        await turns()
        assert home.sessions.find_announced(b"a" * 16) is not None, "it may come in its time"
        await asyncio.sleep(home.local.config.path_timeout + 61)
        assert home.sessions.find_announced(b"a" * 16) is None
        home.sessions.abort()
        await home.local.tasks.close()

    run(scene())


def test_legs_of_planes_are_opened_for_one_caller_so_many_times_at_once() -> None:
    async def scene() -> None:
        home = Home()

        def ask(number: int, guid: str, ticket: str = "") -> Code | None:
            name = number.to_bytes(16)
            ticket = ticket or f"{number}"
            return home.asks(session=name, guid=guid, mode=Mode.CENTRAL, ticket=ticket).codes[0]

        assert {ask(number, THERE.guid) for number in range(64)} == {None}
        assert ask(64, THERE.guid) is Code.LIMIT_EXCEEDED
        assert ask(0, THERE.guid) is None, "the same request again is none more"
        assert ask(100, Identity.generate().guid) is None
        home.leg_opens.set()
        await turns()
        assert ask(64, THERE.guid) is None, "nothing came of the others"
        home.sessions.abort()
        await home.local.tasks.close()

    run(scene())


def test_where_all_legs_are_used_who_has_most_loses_the_oldest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_MAX_LEGS", 3)

    async def scene() -> None:
        home = Home()
        for number in range(3):
            home.asks(
                session=number.to_bytes(16), guid=THERE.guid, mode=Mode.CENTRAL, ticket=f"{number}"
            )
        await turns()
        assert home.legs.qsize() == len(home.local.tasks) == 3
        for number in range(3, 5):
            flow = home.asks(
                session=number.to_bytes(16),
                guid=Identity.generate().guid,
                mode=Mode.CENTRAL,
                ticket=f"{number}",
            )
            assert flow.codes == [None]
        await turns()
        assert len(home.local.tasks) == 3, "two were given up"
        home.sessions.abort()
        await home.local.tasks.close()

    run(scene())


# -- between real peers -----------------------------------------------------------------------


def _hello(session: Session, **fields: object) -> PathHello:
    known = {"resume": True, "path": 99}
    return PathHello(session.id, "chat", session.mode, **(known | fields))  # type: ignore[arg-type]


async def test_paths_that_are_not_for_a_session(alice: Peer, bob: Peer) -> None:
    caller, callee = await pair(alice, bob, Mode.P2P)
    await exchange(caller, callee)
    path = callee.path
    endpoint = Endpoint("127.0.0.1", alice.port)

    async def dial(identity: Identity, hello: PathHello) -> Code | None:
        try:
            made, _ = await dial_direct(
                endpoint, alice.guid, lambda path: hello, Paths(identity), 5
            )
        except RoamRelayError as error:
            return error.code
        made.abort()
        return None

    stranger = Identity.generate()
    numbers = {"received": 200, "consumed": 0}
    assert await dial(stranger, _hello(caller, **numbers)) is Code.SESSION_UNKNOWN
    assert await dial(bob.identity, _hello(caller, path=1, **numbers)) is Code.PATH_SUPERSEDED
    unknown = PathHello(bytes(16), "chat", Mode.P2P, resume=True)
    assert await dial(bob.identity, unknown) is Code.SESSION_UNKNOWN
    other = PathHello(caller.id, "chat", Mode.COMBINED, resume=True, path=99)
    assert await dial(bob.identity, other) is Code.SESSION_UNKNOWN
    assert callee.path is path
    await exchange(caller, callee)
    await caller.close()
    await callee.close()
    # A closed session answers its own peer for a while, and nobody else.
    assert await dial(stranger, _hello(caller, **numbers)) is Code.SESSION_UNKNOWN
    made, welcome = await dial_direct(
        endpoint,
        alice.guid,
        lambda path: _hello(caller, received=400, consumed=0, features=SESSION_FEATURES),
        Paths(bob.identity),
        5,
    )
    assert welcome.received == 400
    heard = bytearray()
    gone = asyncio.Event()

    class Reader:
        def path_data(self, path: PathEnd, data: bytes) -> None:
            heard.extend(data)

        def path_heard(self, path: PathEnd) -> None: ...
        def path_writable(self, path: PathEnd) -> None: ...
        def path_lost(self, path: PathEnd, reason: str) -> None:
            gone.set()

    made.carry(Reader())
    async with asyncio.timeout(60):
        await gone.wait()
    assert heard == msgpack.packb([3, 400]) + msgpack.packb([2, 400]), (
        "it says again that it has closed"
    )


async def test_numbers_from_the_future_end_the_path_and_not_the_session(
    alice: Peer, bob: Peer
) -> None:
    caller, callee = await pair(alice, bob, Mode.P2P)
    await exchange(caller, callee)
    endpoint = Endpoint("127.0.0.1", alice.port)
    made, _ = await dial_direct(
        endpoint,
        alice.guid,
        lambda path: _hello(caller, received=10**6),
        Paths(bob.identity),
        5,
    )
    gone = asyncio.Event()

    class User:
        def path_data(self, path: PathEnd, data: bytes) -> None:
            raise AssertionError("nothing is sent on a path that is refused")

        def path_heard(self, path: PathEnd) -> None: ...

        def path_writable(self, path: PathEnd) -> None: ...

        def path_lost(self, path: PathEnd, reason: str) -> None:
            gone.set()

    made.carry(User())
    await asyncio.wait_for(gone.wait(), 60)
    await exchange(caller, callee)


async def test_a_callee_has_its_policy_too(relay: RelayServer, bob: Peer) -> None:
    config = PeerConfig(relay=relay.url, policies={"chat": "only relayed"})
    async with Peer(Identity.generate(), config=config) as alice:
        alice.listen("chat")
        await alice.published()
        with pytest.raises(Refused, match="only relayed"):
            await bob.connect(alice.guid, "chat", mode="p2p")
        session = await bob.connect(alice.guid, "chat", mode="central")
        await session.close()
