"""Whose key the relay meets at an endpoint, and what else it may find there."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable

import pytest

from peers import Identity
from peers.path.tls import TlsContext
from relay.presence.handshake import Handshake, guid_in
from tests.support.servers import close_server

Answer = Callable[[bytes], bytes | None]
"""What somebody says to what has come; None ends the connection."""


class Somebody(asyncio.Protocol):
    def __init__(self, answer: Answer) -> None:
        self.answer = answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        said = self.answer(data)
        if said is None:
            self.transport.close()
            return
        # In pieces, as a network brings it.
        self.transport.write(said[: len(said) // 2])
        self.transport.write(said[len(said) // 2 :])

    def connection_lost(self, error: Exception | None) -> None:
        self.transport.close()


@contextlib.asynccontextmanager
async def met(answer: Answer) -> AsyncIterator[Handshake]:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Somebody(answer), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    transport, handshake = await loop.create_connection(Handshake, "127.0.0.1", port)
    try:
        async with asyncio.timeout(60):
            yield handshake
    finally:
        transport.abort()
        await close_server(server)


async def test_the_key_that_answers_is_met_and_a_few_bytes_are_said_for_it() -> None:
    identity, heard = Identity.generate(), list[int]()
    channel = TlsContext(identity).channel(server=True)
    channel.start()

    def answer(data: bytes) -> bytes:
        heard.append(len(data))
        if len(heard) == 1:
            channel.receive(data)
        return channel.to_send()

    async with met(answer) as handshake:
        assert await handshake.met == identity.guid
    assert heard[0] <= 300, "a victim's share of it"


async def test_what_is_no_tls_is_an_error() -> None:
    async with met(lambda data: b"HTTP/1.1 400 Bad Request\r\n\r\n") as handshake:
        with pytest.raises(ssl.SSLError):
            await handshake.met


async def test_an_end_before_the_key_has_shown_is_an_error() -> None:
    async with met(lambda data: None) as handshake:
        with pytest.raises(ConnectionResetError):
            await handshake.met


async def test_nobody_has_to_ask_what_came_of_it() -> None:
    """Else asyncio logs an exception that was never retrieved."""
    async with met(lambda data: b"no TLS at all") as handshake:
        while not handshake.met.done():
            await asyncio.sleep(0)


def test_a_certificate_of_another_kind_is_no_proof() -> None:
    assert guid_in(None) is None
    assert guid_in(b"no certificate") is None
