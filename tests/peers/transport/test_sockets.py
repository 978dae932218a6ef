"""A SYN that is lost costs a few round trips: on a clock of its own, and with the kernel."""

import asyncio
import errno
import socket
import ssl
import struct
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from peers.transport import sockets as module
from peers.transport.listening import DirectServer
from peers.transport.relay_url import RelayAddress
from peers.transport.sockets import (
    Address,
    Dialed,
    dial,
    dial_any,
    dial_relay,
    fresh_after,
    in_turn,
    open_tcp,
    resolve,
)
from tests.support.virtual_time import run

NOWHERE = Address("192.0.2.1", 9)
LOOPS: list[Callable[[], asyncio.AbstractEventLoop]] = [
    asyncio.SelectorEventLoop,
    uvloop.new_event_loop,
]


# -- when -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("round_trip", "starts"),
    [
        (0.0001, (0.03, 0.09)),
        (0.01, (0.03, 0.09)),
        (0.05, (0.1, 0.3)),
        (0.15, (0.3, 0.9)),
        (0.4, (0.8,)),
        (0.5, ()),
        (None, (0.3, 0.9)),
    ],
)
def test_two_round_trips_and_then_twice_that(
    round_trip: float | None, starts: tuple[float, ...]
) -> None:
    assert fresh_after(round_trip) == pytest.approx(starts)


@given(round_trip=st.floats(0, 1e6) | st.none())
def test_at_most_three_sockets_and_none_after_the_kernels_own_second(
    round_trip: float | None,
) -> None:
    starts = fresh_after(round_trip)
    assert len(starts) <= 2
    assert list(starts) == sorted(starts)
    assert all(0.03 <= start < 1.0 for start in starts)


# -- on a clock that jumps ------------------------------------------------------------------------


class Kernel:
    """Answers each SYN as it is told: seconds until it connects, an error, or None for never."""

    def __init__(self, *fates: float | OSError | None) -> None:
        self.fates = list(fates)
        self.sockets: list[socket.socket] = []
        self.starts: list[float] = []
        self.took = 0.0

    def connect(self, one: socket.socket, where: tuple[str, int]) -> "asyncio.Future[None]":
        self.sockets.append(one)
        self.starts.append(asyncio.get_running_loop().time())
        return asyncio.ensure_future(self._answer(self.fates[len(self.sockets) - 1]))

    async def _answer(self, fate: float | OSError | None) -> None:
        await asyncio.sleep(3600 if fate is None else 0.0 if isinstance(fate, OSError) else fate)
        if isinstance(fate, OSError):
            raise fate
        if fate is None:
            raise OSError(errno.ETIMEDOUT, "Connection timed out")

    def dial(self, round_trip: float | None = None, **more: Any) -> Dialed:
        async def timed() -> Dialed:
            loop = asyncio.get_running_loop()
            try:
                return await dial(NOWHERE, round_trip=round_trip, connect=self.connect, **more)
            finally:
                self.took = loop.time()

        return run(timed())

    @property
    def open(self) -> list[int]:
        return [number for number, one in enumerate(self.sockets) if one.fileno() >= 0]


def test_what_answers_in_time_is_dialed_once() -> None:
    kernel = Kernel(0.09)
    dialed = kernel.dial(0.05)
    assert dialed.connected is kernel.sockets[0]
    assert kernel.starts == [0.0]
    assert dialed.round_trip == pytest.approx(0.09)
    dialed.connected.close()


@pytest.mark.parametrize(
    ("round_trip", "fates", "took", "won"),
    [
        (0.05, (None, 0.05, 0.05), 0.15, 1),
        (0.05, (None, None, 0.05), 0.35, 2),
        (None, (None, 0.01, 0.01), 0.31, 1),
        (0.001, (None, 0.001, 0.001), 0.031, 1),
        (0.05, (0.12, 0.3, 0.05), 0.12, 0),
        (0.05, (0.6, 0.9, 0.05), 0.35, 2),
        (0.5, (1.5,), 1.5, 0),
    ],
)
def test_the_first_that_connects_wins_and_the_others_are_closed(
    round_trip: float | None, fates: tuple[float | None, ...], took: float, won: int
) -> None:
    kernel = Kernel(*fates)
    dialed = kernel.dial(round_trip)
    assert kernel.took == pytest.approx(took)
    assert kernel.open == [won]
    assert dialed.connected is kernel.sockets[won]
    # What took as long as the kernel waits before it repeats a SYN tells no round trip.
    fate = fates[won]
    assert fate is not None
    expected = None if fate >= 1 else pytest.approx(fate)
    assert dialed.round_trip == expected
    dialed.connected.close()


@pytest.mark.parametrize("code", [errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH])
@pytest.mark.parametrize("at", [0, 1, 2])
def test_an_error_on_one_socket_ends_the_dial_at_once(code: int, at: int) -> None:
    fates: list[float | OSError | None] = [None, None, None]
    fates[at] = OSError(code, "no")
    kernel = Kernel(*fates)
    with pytest.raises(OSError, match="no") as failed:
        kernel.dial(0.05)
    assert failed.value.errno == code
    assert kernel.took == pytest.approx([0.0, 0.1, 0.3][at])
    assert not kernel.open


@pytest.mark.skipif(not hasattr(socket, "TCP_SYNCNT"), reason="Linux's alone")
def test_a_syn_is_repeated_as_often_as_is_said() -> None:
    """Else a host that says nothing gets one each second, for as long as somebody waits."""

    async def scene(repeats: int | None) -> set[int]:
        found = set()

        def connect(one: socket.socket, where: tuple[str, int]) -> "asyncio.Future[None]":
            found.add(one.getsockopt(socket.IPPROTO_TCP, socket.TCP_SYNCNT))
            return asyncio.get_running_loop().create_future()

        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5.0):
                await dial(NOWHERE, repeats=repeats, connect=connect)
        return found

    assert run(scene(1)) == {1}
    assert run(scene(None)) != {1}


def test_silence_is_the_callers_to_end() -> None:
    kernel = Kernel(None, None, None)

    async def limited() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(10):
                await dial(NOWHERE, round_trip=0.05, connect=kernel.connect)

    run(limited())
    assert len(kernel.sockets) == 3
    assert not kernel.open


def test_who_runs_out_of_sockets_goes_on_with_those_that_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = []

    def scarce(address: Address, source: str | None, port: int) -> socket.socket:
        if made:
            raise OSError(errno.EMFILE, "Too many open files")
        made.append(one := socket.socket())
        return one

    monkeypatch.setattr(module, "_socket", scarce)
    kernel = Kernel(0.7)
    dialed = kernel.dial(0.05)
    assert kernel.took == pytest.approx(0.7)
    dialed.connected.close()
    with pytest.raises(OSError, match="Too many"):
        Kernel(0.1).dial(0.05)


def test_a_dial_that_is_cancelled_leaves_no_socket_wherever_it_was() -> None:
    """In each turn of the loop in which it can be: between its starts, and as one of them wins."""
    for fates in ((None, None, None), (0.1, None, None), (None, 0.05, None), (0.2, 0.05, None)):
        for step in range(60):
            kernel = Kernel(*fates)
            ended = run(_cancelled_after(step, kernel))
            assert not kernel.open, (fates, step, ended)


async def _cancelled_after(step: int, kernel: Kernel) -> str:
    dialing = asyncio.create_task(dial(NOWHERE, round_trip=0.05, connect=kernel.connect))
    for _ in range(step):
        # Turns and time in turn: the clock jumps to what is due next where nothing is ready.
        await asyncio.sleep(0 if step % 2 else 0.01)
    dialing.cancel()
    try:
        (await dialing).connected.close()
    except asyncio.CancelledError:
        return "cancelled"
    return "won"


# -- with the kernel ------------------------------------------------------------------------------


def in_loop(loop: Callable[[], asyncio.AbstractEventLoop], work: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=loop, debug=True) as runner:
        runner.run(asyncio.wait_for(work, 60))


def full(host: str = "127.0.0.1") -> tuple[socket.socket, socket.socket]:
    """Return a listening socket that drops SYNs, as its queue is full, and the one that fills it:
    one is accepted from it, and it takes them again."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    server = socket.create_server((host, 0), family=family, backlog=0)
    return server, socket.create_connection(server.getsockname()[:2], timeout=5)


@pytest.mark.parametrize("loop", LOOPS, ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_lost_syn_does_not_cost_a_second(
    loop: Callable[[], asyncio.AbstractEventLoop], host: str
) -> None:
    server, first = full(host)
    dialed_sockets: list[socket.socket] = []

    async def scene() -> None:
        running = asyncio.get_running_loop()

        def connect(one: socket.socket, where: tuple[str, int]) -> "asyncio.Future[None]":
            dialed_sockets.append(one)
            if len(dialed_sockets) == 2:
                server.accept()[0].close()  # Now there is room.
            return module.connecting(one, where)

        began = running.time()
        dialed = await dial(
            Address(host, server.getsockname()[1]), round_trip=0.001, connect=connect, source=host
        )
        took = running.time() - began
        assert len(dialed_sockets) == 2
        # The kernel would have repeated the first one, after a second.
        assert dialed.connected is dialed_sockets[1]
        assert dialed_sockets[0].fileno() == -1
        # A timer of uvloop may be a moment early.
        assert took >= 0.029
        stream = await open_tcp(dialed.connected)
        stream.abort()
        await asyncio.sleep(0)

    with server, first:
        in_loop(loop, scene())


@pytest.mark.parametrize("loop", LOOPS, ids=["asyncio", "uvloop"])
def test_a_refusal_is_told_at_once(loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

    dialed_sockets: list[socket.socket] = []

    def connect(one: socket.socket, where: tuple[str, int]) -> "asyncio.Future[None]":
        dialed_sockets.append(one)
        return module.connecting(one, where)

    async def scene() -> None:
        with pytest.raises(ConnectionRefusedError):
            await dial(Address("127.0.0.1", port), round_trip=60.0, connect=connect)
        assert len(dialed_sockets) == 1, "nothing else was waited for"

    in_loop(loop, scene())


@pytest.mark.parametrize("loop", LOOPS, ids=["asyncio", "uvloop"])
def test_a_dial_that_is_cancelled_in_the_kernel_leaves_no_socket(
    loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    server, first = full()
    seen: list[socket.socket] = []

    async def scene() -> None:
        running = asyncio.get_running_loop()
        third = asyncio.Event()

        def connect(one: socket.socket, where: tuple[str, int]) -> "asyncio.Future[None]":
            seen.append(one)
            if len(seen) == 3:
                running.call_soon(third.set)
            return module.connecting(one, where)

        address = Address("127.0.0.1", server.getsockname()[1])
        dialing = asyncio.create_task(dial(address, round_trip=0.001, connect=connect))
        await third.wait()
        dialing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await dialing
        assert [one.fileno() for one in seen] == [-1] * 3

    with server, first:
        in_loop(loop, scene())


async def test_an_answer_that_is_only_read_late_brings_no_fresh_socket() -> None:
    """A machine that is busy looks at its sockets when the time is over already."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        begun: list[socket.socket] = []

        def connect(one: socket.socket, where: tuple[str, int]) -> "asyncio.Future[None]":
            begun.append(one)
            one.setblocking(True)
            one.connect(where)
            one.setblocking(False)
            return asyncio.ensure_future(asyncio.sleep(0.1))

        dialed = await dial(Address(*server.getsockname()[:2]), round_trip=0.001, connect=connect)
        assert len(begun) == 1
        dialed.connected.close()


@pytest.mark.parametrize("host", ["relay..example", "x" * 70, "a." + "b" * 64 + ".example", ".."])
async def test_what_is_no_host_name_is_an_error_like_any_other(host: str) -> None:
    with pytest.raises(OSError, match=r"host name|not known|resolution|Name"):
        await resolve(host, 9)


async def test_a_literal_is_its_own_address_and_a_name_has_some() -> None:
    assert await resolve("2001:db8::1", 9) == [Address("2001:db8::1", 9)]
    assert await resolve("fe80::1%3", 9) == [Address("fe80::1%3", 9)]
    assert Address("127.0.0.1", 9) in await resolve("localhost", 9)


# -- several addresses ----------------------------------------------------------------------------

FOUR, OTHER_FOUR = Address("192.0.2.1", 9), Address("192.0.2.2", 9)
SIX, OTHER_SIX = Address("2001:db8::1", 9), Address("2001:db8::2", 9)


class Fates:
    """Stands for `dial`: what becomes of each address, as `Kernel` says it."""

    def __init__(self, fates: dict[str, float | OSError | None]) -> None:
        self.fates = fates
        self.starts: dict[str, float] = {}
        self.told: list[float | None] = []
        self.made: list[socket.socket] = []
        self.took = 0.0

    async def dial(
        self,
        address: Address,
        *,
        source: str | None = None,
        round_trip: float | None = None,
        port: int | None = None,
    ) -> Dialed:
        self.starts[address.host] = asyncio.get_running_loop().time()
        self.told.append(round_trip)
        fate = self.fates[address.host]
        await asyncio.sleep(3600 if fate is None else 0.0 if isinstance(fate, OSError) else fate)
        if isinstance(fate, OSError):
            raise fate
        self.made.append(socket.socket())
        return Dialed(self.made[-1], address, 0.02)

    async def race(self, *addresses: Address, **more: Any) -> Dialed:
        loop = asyncio.get_running_loop()
        try:
            return await dial_any(addresses, **more)
        finally:
            self.took = loop.time()


def fates(monkeypatch: pytest.MonkeyPatch, said: dict[Address, float | OSError | None]) -> Fates:
    made = Fates({address.host: fate for address, fate in said.items()})
    monkeypatch.setattr(module, "dial", made.dial)
    return made


REFUSED = ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
UNREACHABLE = OSError(errno.ENETUNREACH, "Network is unreachable")


@pytest.mark.parametrize(
    ("dead", "took"), [(None, 0.3), (REFUSED, 0.05), (UNREACHABLE, 0.05)], ids=str
)
def test_a_family_that_leads_nowhere_costs_a_stagger_at_most(
    monkeypatch: pytest.MonkeyPatch, dead: OSError | None, took: float
) -> None:
    made = fates(monkeypatch, {SIX: dead, FOUR: 0.05})
    dialed = run(made.race(SIX, FOUR))
    assert dialed.address == FOUR
    assert made.took == pytest.approx(took)
    dialed.connected.close()


def test_the_first_that_answers_wins_and_what_comes_late_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = fates(monkeypatch, {SIX: 0.3, FOUR: 0.05})
    dialed = run(made.race(SIX, FOUR))
    assert made.starts == {SIX.host: 0.0, FOUR.host: 0.25}
    assert [one.fileno() >= 0 for one in made.made] == [
        one is dialed.connected for one in made.made
    ]
    dialed.connected.close()


def test_families_take_turns_and_who_has_answered_before_is_first() -> None:
    given_order = [SIX, OTHER_SIX, FOUR, OTHER_FOUR]
    assert in_turn(given_order, lambda one: False) == [SIX, FOUR, OTHER_SIX, OTHER_FOUR]
    assert in_turn(given_order, lambda one: one == OTHER_FOUR) == [OTHER_FOUR, SIX, FOUR, OTHER_SIX]
    assert in_turn([SIX, SIX, OTHER_SIX], lambda one: False) == [SIX, OTHER_SIX]
    assert in_turn([], lambda one: False) == []


def test_a_name_with_any_number_of_addresses_is_dialed_at_a_few() -> None:
    many = [Address(f"192.0.2.{last}", 9) for last in range(1, 100)]
    assert len(in_turn([*many, SIX], lambda one: False)) == 8
    assert in_turn([*many, SIX], lambda one: False)[1] == SIX, "of each family"


def test_where_none_answers_what_each_has_said_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    made = fates(monkeypatch, {SIX: UNREACHABLE, FOUR: REFUSED})
    with pytest.raises(OSError, match=r"2001:db8::1: Network is unre.*; 192.0.2.1: Connection ref"):
        run(made.race(SIX, FOUR))
    made = fates(monkeypatch, {SIX: REFUSED, FOUR: REFUSED})
    with pytest.raises(ConnectionRefusedError):
        run(made.race(SIX, FOUR))
    with pytest.raises(OSError, match="no address to dial"):
        run(made.race())


async def test_addresses_are_dialed_from_their_own_family() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        three = ["::1", "127.0.0.2", "127.0.0.1"]
        relay = RelayAddress(f"http://relay.example:{port}", addresses=three)
        dialed = await dial_relay(relay, "127.0.0.1")
        assert dialed.address.host == "127.0.0.1"
        assert relay.trips.get("127.0.0.1", "127.0.0.1") == dialed.round_trip
        dialed.connected.close()
    with pytest.raises(OSError, match=r"(?s)(?=.*not one family)(?=.*127.0.0.2)(?=.*127.0.0.1)"):
        await dial_relay(relay, "127.0.0.1")


async def test_the_relays_round_trip_is_given_to_the_next_dial(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = fates(monkeypatch, {NOWHERE: 0.0})
    relay = RelayAddress("http://192.0.2.1:9")
    for source in (None, None, "192.0.2.7"):
        (await dial_relay(relay, source)).connected.close()
    assert made.told == [None, 0.02, 0.02]


# -- the stream -----------------------------------------------------------------------------------


async def test_a_handshake_that_is_cancelled_leaves_no_socket() -> None:

    with socket.create_server(("127.0.0.1", 0)) as server:
        dialed = await dial(Address(*server.getsockname()[:2]))
        opening = asyncio.create_task(
            open_tcp(dialed.connected, ssl.create_default_context(), "relay.example")
        )
        other, _ = server.accept()
        other.setblocking(False)
        with other:
            loop = asyncio.get_running_loop()
            assert await asyncio.wait_for(loop.sock_recv(other, 1), 60), "the ClientHello"
            opening.cancel()
            with pytest.raises(asyncio.CancelledError):
                await opening
            with pytest.raises(asyncio.CancelledError):
                await opening
            await _until_closed(dialed.connected)


async def test_a_peer_that_resets_while_the_stream_is_made() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        dialed = await dial(Address(*server.getsockname()[:2]))
        other, _ = server.accept()
        other.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        other.close()
        stream = await open_tcp(dialed.connected)
        stream.abort()
        await _until_closed(dialed.connected)


async def _until_closed(one: socket.socket) -> None:
    async with asyncio.timeout(60):
        while one.fileno() >= 0:
            await asyncio.sleep(0)


# -- from the port at which a peer listens --------------------------------------------------------


@pytest.fixture
def there() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


def shared_port() -> DirectServer:
    """Listen at a port that nobody has at another address of this host: none but that one can be
    left from with any address."""
    while True:
        own = DirectServer.bind(["127.0.0.1"], 0)
        try:
            module._socket(NOWHERE, None, own.port).close()
        except OSError:
            own.close()
            continue
        return own


async def test_the_first_socket_leaves_from_the_listening_port(there: socket.socket) -> None:
    own = shared_port()
    try:
        dialed = await dial(Address(*there.getsockname()), port=own.port)
        with dialed.connected:
            assert dialed.connected.getsockname() == ("127.0.0.1", own.port)
    finally:
        own.close()


@pytest.mark.parametrize("source", [None, "127.0.0.1"])
async def test_where_both_ends_have_a_connection_any_port_is_taken_at_once(
    there: socket.socket, source: str | None
) -> None:
    own, at = shared_port(), Address(*there.getsockname())
    made: list[socket.socket] = []

    def connect(one: socket.socket, where: tuple[str, int]) -> "asyncio.Future[None]":
        made.append(one)
        return module.connecting(one, where)

    try:
        first = await dial(at, source=source, port=own.port)
        # Without a round trip that is known, and so without a fresh socket for 300 ms.
        second = await dial(at, source=source, port=own.port, connect=connect)
        with first.connected, second.connected:
            assert first.connected.getsockname()[1] == own.port
            assert second.connected.getsockname()[1] != own.port
        assert len(made) == 2
    finally:
        own.close()


async def test_where_another_program_has_the_port_any_is_taken(there: socket.socket) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        dialed = await dial(Address(*there.getsockname()), port=port)
        with dialed.connected:
            assert dialed.connected.getsockname()[1] != port


def test_a_fresh_socket_leaves_from_any_port() -> None:
    ports: list[int] = []

    def connect(one: socket.socket, where: tuple[str, int]) -> "asyncio.Future[None]":
        ports.append(one.getsockname()[1])
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if len(ports) == 3:
            answer.set_result(None)
        return answer

    own = shared_port()
    try:
        dialed = run(dial(NOWHERE, port=own.port, connect=connect))
        dialed.connected.close()
        assert ports[0] == own.port
        assert own.port not in ports[1:]
    finally:
        own.close()


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("error", [errno.EINVAL, errno.ECONNREFUSED, errno.EHOSTUNREACH])
def test_where_the_shared_port_is_not_let_through_any_port_is_tried(error: int, late: bool) -> None:
    ports: list[int] = []

    def connect(one: socket.socket, where: tuple[str, int]) -> "asyncio.Future[None]":
        ports.append(one.getsockname()[1])
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[None] = loop.create_future()
        if len(ports) == 2:
            answer.set_result(None)
        elif late:
            loop.call_later(0.1, answer.set_exception, OSError(error, "not from there"))
        else:
            answer.set_exception(OSError(error, "not from there"))
        return answer

    own = shared_port()
    try:
        dialed = run(dial(NOWHERE, port=own.port, connect=connect))
        dialed.connected.close()
        assert ports[0] == own.port
        assert own.port not in ports[1:]
        assert len(ports) == 2
    finally:
        own.close()


async def test_who_refuses_any_port_has_refused() -> None:
    own = shared_port()
    with socket.create_server(("127.0.0.1", 0)) as gone:
        at = Address(*gone.getsockname())
    try:
        with pytest.raises(ConnectionRefusedError):
            await dial(at, port=own.port)
    finally:
        own.close()
