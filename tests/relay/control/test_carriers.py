"""Carriers: a peer that does not read hinders nobody."""

import asyncio
import contextlib
import gc
import socket
import weakref
from collections.abc import AsyncIterator

import pytest

from protocol.errors import Code
from protocol.messages import (
    Error,
    Mode,
    ServiceAnswer,
    ServiceRequestFrom,
    ServiceRequestTo,
    ServiceResponse,
    Verdict,
)
from relay.control import CarrierLimits, RawCarrier
from relay.server import RelayServer
from tests.relay.client import Client, registered

SESSION = b"s" * 16


def request(callee: Client, number: int = 1, mode: Mode = Mode.COMBINED, timeout: float = 5.0):
    return ServiceRequestTo(number, callee.identity.guid, "chat", mode, SESSION, (), timeout)


async def test_a_frozen_peer_hinders_nobody_and_is_aborted(relay: RelayServer) -> None:
    async with (
        registered(relay.url) as alice,
        registered(relay.url, "chat") as bob,
        registered(relay.url, "chat") as cathy,
    ):
        assert cathy.identity.guid
        cathy.writer.transport.pause_reading()
        # Far more than the sockets' buffers and her outbox hold; nobody waits for her.
        connection = relay.registry.get(cathy.identity.guid).primary  # type: ignore[union-attr]
        reason = "r" * 500
        while not connection.is_closed:  # type: ignore[union-attr]
            connection.send(Error(Code.INTERNAL, reason))  # type: ignore[union-attr]
            await asyncio.sleep(0)
        assert relay.metrics.closes[Code.SLOW_CONSUMER.value] == 1
        alice.send(request(bob))
        asked = await bob.expect(ServiceRequestFrom)
        bob.send(ServiceAnswer(asked.request, Verdict.ACCEPTED, "", (bob.entry("chat", 1),)))
        answer = await alice.expect(ServiceResponse)
        assert answer.code is None
        assert len(answer.entries) == 1
        alice.send(request(cathy, 2))
        assert (await alice.expect(ServiceResponse)).code is Code.PEER_OFFLINE


class User:
    """Keeps what a carrier says."""

    def __init__(self) -> None:
        self.got = b""
        self.lost: list[str] = []
        self.gone = asyncio.Event()

    def carrier_data(self, data: bytes) -> None:
        self.got += data

    def carrier_lost(self, reason: str) -> None:
        self.lost.append(reason)
        self.gone.set()


@contextlib.asynccontextmanager
async def carried(
    limits: CarrierLimits,
) -> AsyncIterator[tuple[RawCarrier, User, socket.socket, list[str]]]:
    """Have a raw carrier on one end of a pair of sockets; what is last says when it lost it."""
    own, theirs = socket.socketpair()
    theirs.setblocking(False)
    user, lost = User(), list[str]()
    carrier = RawCarrier(lambda _: user, limits, lambda: lost.append("lost"))
    await asyncio.get_running_loop().connect_accepted_socket(lambda: carrier, own)
    with theirs:
        yield carrier, user, theirs, lost
        carrier.abort("the test is over")
        await asyncio.wait_for(carrier.closed, 60)


async def test_the_write_deadline_aborts_a_peer_that_stops_reading() -> None:
    async with carried(CarrierLimits(0.2, 1 << 24)) as (carrier, user, _, lost):
        carrier.write(bytes(1 << 23))
        await asyncio.wait_for(user.gone.wait(), 60)
        assert user.lost == [Code.SLOW_CONSUMER.value]
        assert lost == ["lost"]


async def test_a_full_outbox_aborts_at_once() -> None:
    async with carried(CarrierLimits(60.0, 100)) as (carrier, user, theirs, _):
        carrier.write(bytes(101))
        await asyncio.wait_for(user.gone.wait(), 60)
        assert user.lost == [Code.SLOW_CONSUMER.value]
        with contextlib.suppress(ConnectionResetError):
            assert theirs.recv(1) == b""


async def test_what_was_queued_leaves_before_the_end() -> None:
    async with carried(CarrierLimits(5.0, 1 << 24)) as (carrier, user, theirs, _):
        loop = asyncio.get_running_loop()
        carrier.write(b"one ")
        carrier.write(b"two")
        carrier.close("superseded")
        carrier.write(b" and no more")
        got = b""
        while piece := await asyncio.wait_for(loop.sock_recv(theirs, 100), 60):
            got += piece
        assert got == b"one two"
        await asyncio.wait_for(user.gone.wait(), 60)
        assert user.lost == ["superseded"]


async def test_the_end_is_told_once_and_says_who_ended_it() -> None:
    async with carried(CarrierLimits(5.0, 100)) as (carrier, user, theirs, lost):
        await asyncio.get_running_loop().sock_sendall(theirs, b"hello")
        theirs.shutdown(socket.SHUT_WR)
        await asyncio.wait_for(user.gone.wait(), 60)
        assert (user.got, user.lost) == (b"hello", ["peer_closed"])
        carrier.abort("too late")
        await asyncio.sleep(0)
        assert (user.lost, lost) == (["peer_closed"], ["lost"])


async def test_nothing_is_left_of_a_carrier_whose_end_was_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """No timer holds it, and what is said to it is no write to a socket that is gone."""
    async with carried(CarrierLimits(60.0, 1 << 20)) as (carrier, user, theirs, _):
        carrier.close("superseded")
        await asyncio.wait_for(user.gone.wait(), 60)
        carrier.abort("too late")
        assert user.lost == ["superseded"]
    left = weakref.ref(user)
    del carrier, user
    async with asyncio.timeout(60):
        while left() is not None:
            await asyncio.sleep(0.01)
            gc.collect()
    async with carried(CarrierLimits(60.0, 1 << 20)) as (carrier, user, theirs, _):
        theirs.close()
        await asyncio.wait_for(user.gone.wait(), 60)
        for _ in range(10):
            carrier.write(b"is anybody there?")
            await asyncio.sleep(0)
    assert not [record for record in caplog.records if "send" in record.getMessage()]


class Ending(asyncio.Transport):
    """A transport of uvloop's whose other end has closed, before anybody was told of it."""

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def is_closing(self) -> bool:
        return True

    def write(self, data: object) -> None:
        raise RuntimeError("unable to perform operation on <TCPTransport closed=True>")


async def test_what_is_said_while_the_other_end_closes_is_no_error() -> None:
    """It was logged as one: uvloop refuses to write where asyncio says nothing."""
    user = User()
    carrier = RawCarrier(lambda _: user, CarrierLimits(5.0, 100), lambda: None)
    carrier.connection_made(Ending())
    carrier.write(b"is anybody there?")
    await asyncio.sleep(0)
    carrier.connection_lost(None)
    assert user.lost == ["peer_closed"]


async def test_a_carrier_that_never_had_a_transport() -> None:
    carrier = RawCarrier(lambda _: User(), CarrierLimits(5.0, 100), lambda: None)
    assert not carrier.is_connected
    carrier.write(b"x")
    carrier.close("nothing")
    carrier.abort("nothing")
    await asyncio.sleep(0)
    assert not carrier.closed.done()
