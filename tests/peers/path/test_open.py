"""Opening a direct path: however it fails, it is an error of ours that names the endpoint."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Self

import pytest

from peers import Identity, Peer, WrongIdentity
from peers.config import PathKind
from peers.dialing import Ask
from peers.path import Dialing, Paths, open_direct
from protocol.endpoint import Endpoint
from protocol.errors import PathFailed, RoamRelayError
from protocol.first_bytes import flight_head
from tests.support.doors import open_door
from tests.support.servers import close_server


async def test_both_sides_are_proven_and_nothing_is_said(alice: Peer, bob: Peer) -> None:
    paths = Paths(bob.identity)
    endpoint = Endpoint("127.0.0.1", alice.port)
    path = await open_direct(
        open_door(), Ask(alice.guid, endpoint), paths, 10, Dialing("127.0.0.1")
    )
    assert (path.kind, path.remote, path.local_host) == (
        PathKind.DIRECT,
        str(endpoint),
        "127.0.0.1",
    )
    assert path.remote_guid == alice.guid
    assert path.round_trip is not None
    assert path.usual_round_trip is not None
    await paths.abort()


async def test_where_nobody_listens() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(PathFailed, match=rf"127\.0\.0\.1:{port}: "):
            await open_direct(
                open_door(),
                Ask("x", Endpoint("127.0.0.1", port)),
                Paths(Identity.generate()),
                timeout=10,
            )


@pytest.mark.parametrize("source", ["192.0.2.1", "not an address"])
async def test_from_an_address_that_this_host_has_not(alice: Peer, source: str) -> None:
    paths = Paths(Identity.generate())
    endpoint = Endpoint("127.0.0.1", alice.port)
    with pytest.raises(RoamRelayError, match=r"127\.0\.0\.1"):
        await open_direct(open_door(), Ask(alice.guid, endpoint), paths, 10, Dialing(source))
    await asyncio.wait_for(paths.close(3600.0), 60)  # There is nothing to wait for.


async def test_where_somebody_listens_and_says_nothing() -> None:
    paths = Paths(Identity.generate())
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        endpoint = Endpoint("127.0.0.1", deaf.getsockname()[1])
        with pytest.raises(PathFailed, match=r"no answer within 0\.2 s"):
            await open_direct(open_door(), Ask("x", endpoint), paths, 0.2)
        await asyncio.wait_for(paths.close(), 60)


async def test_where_another_peer_answers(alice: Peer) -> None:
    paths = Paths(Identity.generate())
    expected = Identity.generate().guid
    with pytest.raises(WrongIdentity, match=alice.guid):
        await open_direct(open_door(), Ask(expected, Endpoint("127.0.0.1", alice.port)), paths, 10)
    await asyncio.wait_for(paths.close(), 60)


class Swallowing:
    """In front of a peer: what the peer answers on the first connections is lost, and nobody is
    told."""

    def __init__(self, port: int, swallows: int) -> None:
        self._port = port
        self._swallows = swallows
        self.came = 0
        self.ended = 0
        self._changed = asyncio.Event()

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[Endpoint]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        try:
            yield Endpoint("127.0.0.1", server.sockets[0].getsockname()[1])
        finally:
            await close_server(server)

    async def all_but(self, left: int) -> None:
        async with asyncio.timeout(60):
            while self.came - self.ended > left:
                self._changed.clear()
                await self._changed.wait()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.came += 1
        swallowed = self.came <= self._swallows
        there, to = await asyncio.open_connection("127.0.0.1", self._port)
        asked = asyncio.create_task(_passed_on(reader, to))
        answered = asyncio.create_task(_passed_on(there, None if swallowed else writer))
        try:
            await asked
        finally:
            answered.cancel()
            await asyncio.wait({answered})
            for one in (writer, to):
                one.close()
            self.ended += 1
            self._changed.set()


async def _passed_on(reader: asyncio.StreamReader, to: asyncio.StreamWriter | None) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(1 << 16):
            if to is not None:
                to.write(data)


@pytest.mark.parametrize("lost", [1, 2])
async def test_a_handshake_whose_answer_is_lost_is_begun_again(alice: Peer, lost: int) -> None:
    """The kernel sends nothing again here: all was acknowledged."""
    paths = Paths(Identity.generate())
    between = Swallowing(alice.port, lost)
    async with between.open() as endpoint, asyncio.timeout(60):
        path = await open_direct(open_door(), Ask(alice.guid, endpoint), paths, 3600.0)
        assert (path.remote_guid, path.remote) == (alice.guid, str(endpoint))
        # Where the machine is busy, one more was begun than was needed.
        assert lost < between.came <= 3
        await between.all_but(1)
        await paths.abort()
        await between.all_but(0)


async def test_it_is_begun_again_twice_at_most_and_all_of_them_end() -> None:
    paths, came = Paths(Identity.generate()), list[asyncio.StreamWriter]()
    ended = asyncio.Semaphore(0)

    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.append(writer)
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()
        ended.release()

    server = await asyncio.start_server(deaf, "127.0.0.1", 0)
    endpoint = Endpoint("127.0.0.1", server.sockets[0].getsockname()[1])
    with pytest.raises(PathFailed, match="no answer within"):
        await open_direct(open_door(), Ask("x", endpoint), paths, 2.0)
    async with asyncio.timeout(60):
        for _ in range(3):
            await ended.acquire()
        await paths.close()
    await close_server(server)
    assert len(came) == 3


async def test_one_that_ends_at_once_is_not_begun_again() -> None:
    paths, came = Paths(Identity.generate()), 0

    async def hangs_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal came
        came += 1
        writer.close()

    server = await asyncio.start_server(hangs_up, "127.0.0.1", 0)
    endpoint = Endpoint("127.0.0.1", server.sockets[0].getsockname()[1])
    with pytest.raises(PathFailed):
        await open_direct(open_door(), Ask("x", endpoint), paths, 3600.0)
    await asyncio.wait_for(paths.close(), 60)
    await close_server(server)
    assert came == 1


async def test_who_is_cancelled_leaves_nothing() -> None:
    paths, came = Paths(Identity.generate()), asyncio.Semaphore(0)

    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.release()
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()

    server = await asyncio.start_server(deaf, "127.0.0.1", 0)
    endpoint = Endpoint("127.0.0.1", server.sockets[0].getsockname()[1])
    for connections in (1, 2, 3):
        dialing = asyncio.create_task(open_direct(open_door(), Ask("x", endpoint), paths, 3600.0))
        async with asyncio.timeout(60):
            for _ in range(connections):
                await came.acquire()
        dialing.cancel()
        await asyncio.wait({dialing})
        assert dialing.cancelled()
        await asyncio.wait_for(paths.close(), 60)
    await close_server(server)


class CountedFlight:
    """What leaves before TLS; nobody knows its key."""

    data = flight_head(b"k" * 16, b"r" * 32, 5) + b"bytes"

    def __init__(self) -> None:
        self.failures = 0
        self.met: list[bool] = []

    def make(self, is_met: bool) -> Self:
        self.met.append(is_met)
        return self

    def answered(self, data: bytes) -> None:
        raise AssertionError("nobody can answer it")

    def failed(self) -> None:
        self.failures += 1


async def test_who_makes_a_flight_is_told_whether_the_key_was_met_there(alice: Peer) -> None:
    paths, door, flight = Paths(Identity.generate()), open_door(), CountedFlight()
    ask = Ask(alice.guid, Endpoint("127.0.0.1", alice.port))
    for is_met in (False, True, True):
        flight.met.clear()
        path = await open_direct(door, ask, paths, 60, Dialing(make_flight=flight.make))
        assert path.remote_guid == alice.guid, "who cannot open it goes on with TLS"
        # Where the machine is busy, the handshake was begun again, with another one.
        assert set(flight.met) == {is_met}
    assert flight.failures == 0
    await paths.abort()


async def test_who_bears_nothing_before_tls_is_told_of(alice: Peer) -> None:
    """It was met there, and something else answers now."""
    paths, door, flight = Paths(Identity.generate()), open_door(), CountedFlight()

    async def tls_alone(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.append(await reader.read(1))
        writer.close()

    came: list[bytes] = []
    between = Swallowing(alice.port, 0)
    async with between.open() as endpoint, asyncio.timeout(60):
        ask = Ask(alice.guid, endpoint)
        await open_direct(door, ask, paths, 60)
        await paths.abort()
    server = await asyncio.start_server(tls_alone, "127.0.0.1", endpoint.port)
    with pytest.raises(PathFailed):
        await open_direct(door, ask, paths, 60, Dialing(make_flight=flight.make))
    assert set(came) == {b"R"}
    assert flight.failures > 0
    await asyncio.wait_for(paths.close(), 60)
    await close_server(server)
