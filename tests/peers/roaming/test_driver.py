"""Sessions over paths that die and addresses that change: every message once and in order."""

import asyncio
import contextlib
import tracemalloc
from collections.abc import AsyncIterator

import pytest

from peers import (
    Identity,
    Mode,
    PathKind,
    Peer,
    PeerConfig,
    RoamRelayError,
    Session,
    SessionLost,
    SessionSettings,
)
from peers.path.open_paths import Paths
from peers.path.path import Path
from protocol.endpoint import Endpoint
from protocol.errors import Code
from protocol.messages import PathHello
from relay.config import RelayConfig
from relay.server import RelayServer
from tests.support.addresses import Addresses, absent_addresses
from tests.support.direct_path import dial_direct
from tests.support.faults import mute
from tests.support.rooms import rooms

MODES = pytest.mark.parametrize("mode", list(Mode))
FAST = SessionSettings(ping_interval=0.2, silence_limit=0.6, resume_window=20.0)


async def pair(alice: Peer, bob: Peer, mode: Mode) -> tuple[Session, Session]:
    """Return both ends of a session that bob has opened."""
    listener = alice.listen("chat")
    await alice.published()
    here = await bob.connect(alice.guid, "chat", mode=mode)
    there = await asyncio.wait_for(anext(listener), 5)
    return here, there


def cut(session: Session) -> None:
    """Reset the session's path, as a router does that has lost its state."""
    assert isinstance(session.path, Path)
    session.path._stream.abort()


async def joined(session: Session, kind: PathKind | None = None, host: str | None = None) -> Path:
    """Wait until the session has a path, of this kind, from this local address."""
    async with asyncio.timeout(20):
        async for event in session.events():
            path = event.path
            if path is not None and kind in (None, path.kind) and host in (None, path.local_host):
                return path
    raise AssertionError("the session is over")


async def exchange(here: Session, there: Session, count: int = 200) -> None:
    """Send numbered messages both ways at once."""

    async def send(session: Session) -> None:
        for number in range(count):
            await session.send(b"%d" % number)
            if number % 50 == 0:
                await asyncio.sleep(0)

    async def receive(session: Session) -> None:
        for number in range(count):
            assert await session.receive() == b"%d" % number

    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        for session in (here, there):
            tasks.create_task(send(session))
            tasks.create_task(receive(session))


@contextlib.asynccontextmanager
async def moving(
    relay: RelayServer, number: int, hosts: int = 3
) -> AsyncIterator[tuple[Peer, Addresses, list[str]]]:
    """A peer, its first address, and the addresses that it may have."""
    names = [f"127.0.{number}.{last + 1}" for last in range(hosts)]
    with absent_addresses():
        addresses = Addresses(names)
        config = PeerConfig(relay=relay.url, sources=tuple(names), stagger=0.1, session=FAST)
        async with Peer(Identity.generate(), config=config, addresses=addresses) as peer:
            yield peer, addresses, names


@MODES
@pytest.mark.parametrize("side", ["caller", "callee"])
async def test_a_cut_path_is_replaced_and_nothing_is_lost(
    alice: Peer, bob: Peer, mode: Mode, side: str
) -> None:
    here, there = await pair(alice, bob, mode)
    for _ in range(5):
        await joined(here)
        await joined(there)
        first = here.path
        cut(here if side == "caller" else there)
        await exchange(here, there)
        assert here.path is not first
    await here.close()
    await there.close()


@MODES
@pytest.mark.parametrize("who", ["caller", "callee", "both"])
async def test_a_session_follows_its_ends_to_their_new_addresses(
    relay: RelayServer, mode: Mode, who: str
) -> None:
    async with moving(relay, 21) as (alice, here, a), moving(relay, 22) as (bob, there, b):
        caller, callee = await pair(alice, bob, mode)
        for turn in (1, 2, 0):
            if who in ("caller", "both"):
                there.set(b[turn])
            if who in ("callee", "both"):
                here.set(a[turn])
            await exchange(caller, callee)
            if who in ("caller", "both"):
                await joined(caller, host=b[turn])
            if who in ("callee", "both"):
                await joined(callee, host=a[turn])
        await caller.close()


async def test_an_address_that_is_merely_added_disturbs_no_session(relay: RelayServer) -> None:
    """The draft's rule (§4.2.1)."""
    async with moving(relay, 21) as (alice, here, a), moving(relay, 22) as (bob, _, _):
        caller, callee = await pair(alice, bob, Mode.P2P)
        path = caller.path
        before = (await bob.locate(alice.guid, "chat")).entries
        here.set(a[0], a[1])
        async with asyncio.timeout(10):
            while (found := await bob.locate(alice.guid, "chat")).entries[0].host != a[1]:
                await asyncio.sleep(0)
        assert found.entries[0].seq > before[0].seq
        assert {entry.host for entry in found.entries} == {a[0], a[1]}
        await exchange(caller, callee)
        assert caller.path is path
        # New sessions try the new address first, at once.
        other = await bob.connect(alice.guid, "chat", mode="p2p", select="latest")
        tried = [event.where for event in other.explain().events if event.what == "candidate"]
        assert [where.partition(":")[0] for where in tried] == [a[1], a[0]]
        await other.close()


@MODES
async def test_a_path_that_goes_silent_is_given_up(relay: RelayServer, mode: Mode) -> None:
    async with moving(relay, 21) as (alice, _, _), moving(relay, 22) as (bob, _, _):
        caller, callee = await pair(alice, bob, mode)
        await exchange(caller, callee)
        assert mute(callee)
        await exchange(caller, callee)


async def test_without_any_network_a_session_waits(relay: RelayServer) -> None:
    async with moving(relay, 21) as (alice, here, a), moving(relay, 22) as (bob, _, _):
        caller, callee = await pair(alice, bob, Mode.COMBINED)
        here.set()
        async for event in callee.events():
            if event.path is None:
                assert "gone" in event.reason
                break
        waiting = asyncio.create_task(exchange(caller, callee))
        here.set(a[2])
        await waiting
        assert callee.path is not None
        assert callee.path.local_host == a[2]


async def test_auto_moves_to_a_direct_path_and_back(alice: Peer, bob: Peer) -> None:
    caller, callee = await pair(alice, bob, Mode.AUTO)
    assert caller.path is not None
    talking = asyncio.create_task(exchange(caller, callee, 3000))
    await joined(caller, PathKind.DIRECT)
    await joined(callee, PathKind.DIRECT)
    rooms(alice).direct.close()
    rooms(bob).direct.close()
    cut(caller)
    await joined(caller, PathKind.RELAYED)
    await joined(callee, PathKind.RELAYED)
    await talking


async def test_the_move_to_a_direct_path_leaves_no_moment_without_one(
    alice: Peer, bob: Peer
) -> None:
    for number in range(5):
        listener = alice.listen(f"chat-{number}")
        await alice.published()
        here = await bob.connect(alice.guid, f"chat-{number}", mode=Mode.AUTO)
        there = await asyncio.wait_for(anext(listener), 5)
        for end in (here, there):
            kinds = []
            async with asyncio.timeout(10):
                async for event in end.events():
                    kinds.append(event.path.kind if event.path else None)
                    if kinds[-1] is PathKind.DIRECT:
                        break
            assert None not in kinds
        await here.close()


async def test_who_does_not_disclose_stays_relayed_in_auto(alice: Peer, bob: Peer) -> None:
    listener = alice.listen("chat", disclose="nobody")
    await alice.published()
    caller = await bob.connect(alice.guid, "chat", mode="auto")
    callee = await anext(listener)
    for _ in range(3):
        await exchange(caller, callee)
        route = rooms(bob).sessions.find(caller.id)
        assert route is not None
        assert route.remote_entries == ()
        assert caller.path is not None
        assert caller.path.kind is PathKind.RELAYED
        cut(callee)
        await joined(caller)


async def test_direct_sessions_do_not_notice_a_relay_that_dies() -> None:
    config = RelayConfig(port=0)
    async with contextlib.AsyncExitStack() as stack:
        relay = await stack.enter_async_context(RelayServer(config))
        peer = PeerConfig(relay=relay.url)
        alice = await stack.enter_async_context(Peer(Identity.generate(), config=peer))
        bob = await stack.enter_async_context(Peer(Identity.generate(), config=peer))
        caller, callee = await pair(alice, bob, Mode.P2P)
        path = caller.path
        for connection in list(relay.connections):
            connection.abort("killed")
        await exchange(caller, callee)
        assert caller.path is path


async def test_the_resume_window_passes_and_both_sides_know_what_is_missing(
    relay: RelayServer,
) -> None:
    short = PeerConfig(
        relay=relay.url, session=SessionSettings(resume_window=0.5), request_timeout=0.2
    )
    async with contextlib.AsyncExitStack() as stack:
        alice = await stack.enter_async_context(Peer(Identity.generate(), config=short))
        bob = await stack.enter_async_context(Peer(Identity.generate(), config=short))
        caller, callee = await pair(alice, bob, Mode.P2P)
        await exchange(caller, callee)
        for peer in (alice, bob):
            rooms(peer).direct.close()
        cut(caller)
        await joined_never(caller)
        await caller.send(b"one")
        await caller.send(b"two")
        with pytest.raises(SessionLost, match=r"no path for 0\.5 s") as lost:
            await caller.receive()
        assert lost.value.unacknowledged == 2
        with pytest.raises(SessionLost) as lost:
            await callee.receive()
        assert lost.value.unacknowledged == 0


async def joined_never(session: Session) -> None:
    """Wait until the session has noticed that it has no path."""
    async for event in session.events():
        if event.path is None:
            return


async def test_a_session_that_the_other_side_gave_up_is_lost_at_once(
    alice: Peer, bob: Peer
) -> None:
    caller, callee = await pair(alice, bob, Mode.P2P)
    assert caller.path is not None
    mute(callee)
    callee.abort("enough")
    await caller.send(b"nobody reads this")
    cut(caller)
    with pytest.raises(SessionLost, match="given the session up") as lost:
        async with asyncio.timeout(5):
            await caller.receive()
    assert lost.value.unacknowledged == 1


async def test_a_close_whose_last_answer_was_lost_is_still_clean(alice: Peer, bob: Peer) -> None:
    caller, callee = await pair(alice, bob, Mode.P2P)
    await caller.send(b"last words")
    closing = asyncio.create_task(caller.close())
    assert await callee.receive() == b"last words"
    # What the callee says from now on does not arrive: its "closed" is lost with the path.
    assert callee.path is not None
    mute(callee)
    callee.path._stream.abort()
    await callee.close()
    await closing


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
        lambda path: _hello(caller, received=400, consumed=0),
        Paths(bob.identity),
        5,
    )
    assert welcome.received == 400
    made.abort()


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
        def path_data(self, path: Path, data: bytes) -> None:
            raise AssertionError("nothing is sent on a path that is refused")

        def path_writable(self, path: Path) -> None: ...

        def path_lost(self, path: Path, reason: str) -> None:
            gone.set()

    made.carry(User())
    await asyncio.wait_for(gone.wait(), 5)
    await exchange(caller, callee)


async def test_a_receiver_that_does_not_read_stops_its_sender(alice: Peer, bob: Peer) -> None:
    """Whatever is sent, memory stays within the windows and what the sockets hold."""
    caller, callee = await pair(alice, bob, Mode.P2P)
    window = SessionSettings().window
    message = bytes(100_000)

    async def flood() -> None:
        while True:
            await caller.send(bytes(message))

    tracemalloc.start()
    try:
        sending = asyncio.create_task(flood())
        async with asyncio.timeout(30):
            while caller.outstanding or caller._machine.writable:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert not sending.done()
    # All that was sent has arrived and waits for its reader: one window, and one more while under
    # way, in the copies that TLS and the stream make of it.
    assert callee._machine.received * len(message) <= window + len(message)
    assert peak < 4 * window
    assert len(await callee.receive()) == len(message)
    sending.cancel()


async def test_flows_from_every_address_and_one_that_fails(relay: RelayServer) -> None:
    async with moving(relay, 21) as (alice, here, a), moving(relay, 22) as (bob, _, _):
        alice.listen("chat")
        here.set(*a)
        async with asyncio.timeout(10):
            while len(rooms(alice).registration.connections) < 3:
                await asyncio.sleep(0.01)
        sources = {connection.local_host for connection in rooms(alice).registration.connections}
        assert sources == set(a)
        primary = rooms(alice).registration.connections[0]
        stream = primary._messages.stream
        # The primary flow goes silent: requests are still answered, over the next one.
        stream.transport.pause_reading()  # type: ignore[attr-defined]
        stream.write = lambda data: None  # type: ignore[method-assign]
        session = await bob.connect(alice.guid, "chat", mode="combined", timeout=5)
        assert session.path is not None
        found = await alice.locate(alice.guid, "chat", timeout=5)
        assert found.entries
        await session.close()


async def test_mutual_loss_settles_on_one_path(alice: Peer, bob: Peer) -> None:
    """Both sides see the loss at once and search at once, again and again."""
    caller, callee = await pair(alice, bob, Mode.COMBINED)
    for _ in range(30):
        for end in (caller, callee):
            await joined(end)
        for end in (caller, callee):
            if end.path is not None:
                end.drop_path("cut by the test")
            rooms(alice).sessions.relay_found()
            rooms(bob).sessions.relay_found()
        await exchange(caller, callee, 20)
