"""One question to name servers, one signed update: what comes back, and what is left behind."""

import asyncio
import contextlib
import os
import socket
import struct
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import dns.message
import dns.rcode
import dns.tsig
import dns.update
import pytest

from peers import NameServerUnavailable, UpdateRefused
from peers.config.host_port import HostPort
from peers.dns import client
from peers.dns.client import Clock, ask, ask_any, system_servers, update
from tests.support.name_server import NameServer, answered, fake
from tests.support.ports import free_port
from tests.support.servers import close_server

NAME = "x.peers.example.org"
KEY = dns.tsig.Key("key.example.", b"0" * 32, "hmac-sha256")

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def text(query: dns.message.Message) -> list[bytes]:
    return [answered(query, 'TXT "x"')]


def truncated(query: dns.message.Message) -> list[bytes]:
    wire = bytearray(dns.message.make_response(query).to_wire())
    wire[2] |= 0x02
    return [bytes(wire)]


async def query_of(reader: asyncio.StreamReader) -> dns.message.Message:
    (length,) = struct.unpack("!H", await reader.readexactly(2))
    return dns.message.from_wire(
        await reader.readexactly(length), keyring={KEY.name: KEY}, continue_on_error=True
    )


def framed(wire: bytes) -> bytes:
    return struct.pack("!H", len(wire)) + wire


@contextlib.asynccontextmanager
async def streams(serve: Serve, port: int = 0, host: str = "127.0.0.1") -> AsyncIterator[HostPort]:
    """A name server over TCP."""

    handling: set[asyncio.Task[object]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        handling.add(task)
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                await serve(reader, writer)
        finally:
            writer.transport.abort()
            handling.discard(task)

    server = await asyncio.start_server(handle, host, port)
    try:
        yield HostPort(host, server.sockets[0].getsockname()[1])
    finally:
        await close_server(server)
        await server.wait_closed()
        while handling:  # Whoever asks has hung up.
            await asyncio.sleep(0)
        await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def both(serve: Serve) -> AsyncIterator[HostPort]:
    """One that says over UDP that the answer is too large."""
    port = free_port()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(
        lambda: NameServer(truncated), local_addr=("127.0.0.1", port)
    )
    try:
        async with streams(serve, port) as server:
            yield server
    finally:
        transport.close()


# -- questions -------------------------------------------------------------------------------------


async def test_a_name_server_without_an_address_is_an_answer_too() -> None:
    with pytest.raises(NameServerUnavailable, match="no address for the name server"):
        await ask([HostPort("does-not-exist.invalid")], NAME, "TXT", 2.0)


@pytest.mark.parametrize(
    "host", ["a..b", "..", ".", "a" * 70, "a" * 300, "a\0b", "\ud800", "", "é" * 70, "::1%\0"]
)
async def test_a_name_server_whose_name_is_none_is_our_error(host: str) -> None:
    """A zone's SOA record, or the system's configuration, may name anything."""
    with pytest.raises(NameServerUnavailable):
        await ask([HostPort(host)], NAME, "TXT", 0.5)
    with pytest.raises(NameServerUnavailable):
        await update(HostPort(host), dns.update.UpdateMessage("a."), KEY, Clock(), 0.5)


@pytest.mark.parametrize("name", ["a..b", "a" * 64, "a." * 130, "é" * 70, "\\", "\ud800"])
async def test_a_name_that_is_none_is_not_asked_for(name: str) -> None:
    async with fake(text) as (server, protocol):
        with pytest.raises(NameServerUnavailable, match="not a name"):
            await ask([server], name, "TXT", 2.0)
        assert not protocol.asked


async def test_the_address_that_answers_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a server with several addresses, some may not be reached from here."""

    async def addresses(server: HostPort) -> list[str]:
        return ["127.0.0.2", "127.0.0.1"]

    monkeypatch.setattr(client, "addresses_of", addresses)
    async with fake(text) as (server, _):
        found = await ask_any([HostPort("ns.example", server.port)], NAME, "TXT", 2.0)
        assert found.server == server
        assert [one.strings for one in found.answer.data] == [(b"x",)]


async def test_a_server_that_is_starting_is_waited_for() -> None:
    port = free_port()
    asking = asyncio.create_task(ask([HostPort("127.0.0.1", port)], NAME, "TXT", 10.0))
    await asyncio.sleep(0.1)  # The first datagram is refused by then, or is a little later.
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(
        lambda: NameServer(text), local_addr=("127.0.0.1", port)
    )
    try:
        assert (await asking).data
    finally:
        transport.close()


async def test_a_flood_of_garbage_hides_no_answer_and_ends() -> None:
    def garbage(count: int) -> Callable[[dns.message.Message], list[bytes]]:
        return lambda query: [query.to_wire()[:2] + b"\x80\0\0"] * count + text(query)

    async with fake(garbage(20)) as (server, _):
        assert (await ask([server], NAME, "TXT", 2.0)).data
    async with fake(garbage(100)) as (server, protocol):
        with pytest.raises(NameServerUnavailable, match="malformed"):
            await ask([server], NAME, "TXT", 2.0)
        assert len(protocol.asked) <= 4


async def test_what_is_too_large_comes_over_tcp() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        query = await query_of(reader)
        wire = answered(query, *["TXT " + '"' + "A" * 250 + '"'] * 100)
        for byte in (framed(wire)[:1], framed(wire)[1:700], framed(wire)[700:]):
            writer.write(byte)
            await writer.drain()
        await reader.read()

    async with both(serve) as server:
        assert (await ask([server], NAME, "TXT", 5.0)).data


async def _hangs_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readexactly(2)


async def _half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await query_of(reader)
    writer.write(b"\xff\xff" + b"\0" * 5000)
    await writer.drain()


async def _garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    query = await query_of(reader)
    writer.write(framed(query.to_wire()[:2] + b"\x80\0" + b"\xff" * 60_000))
    await reader.read()


async def _scrap(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await query_of(reader)
    writer.write(b"\0\0")
    await reader.read()


async def _another(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    query = dns.message.make_query("other.example", "TXT", id=(await query_of(reader)).id)
    writer.write(framed(answered(query, 'TXT "forged"')))
    await reader.read()


async def _still_truncated(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(framed(truncated(await query_of(reader))[0]))
    await reader.read()


async def _silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()  # Until whoever asks hangs up.


BROKEN = [_hangs_up, _half, _garbage, _scrap, _another, _still_truncated, _silent]


@pytest.mark.parametrize("serve", BROKEN)
async def test_what_a_broken_server_says_over_tcp_is_our_error(serve: Serve) -> None:
    async with both(serve) as server:
        with pytest.raises(NameServerUnavailable, match=str(server)):
            await ask([server], NAME, "TXT", 1.0)
        with pytest.raises(NameServerUnavailable):
            await update(server, dns.update.UpdateMessage("a."), KEY, Clock(), 1.0)


# -- what the system has configured ---------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe\x00",
        b"nameserver ..",
        b"nameserver a b",
        b"nameserver",
        b"search " + b"a" * 70,
    ],
)
async def test_a_configuration_that_cannot_be_read_names_no_server(
    tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "resolv.conf").write_bytes(content)
    for server in await system_servers(str(tmp_path / "resolv.conf")):
        with pytest.raises(NameServerUnavailable):
            await ask([server], NAME, "TXT", 0.2)
    assert await system_servers(str(tmp_path / "none")) == ()
    assert await system_servers(str(tmp_path)) == ()


async def test_the_systems_servers_are_taken_from_its_configuration(tmp_path: Path) -> None:
    (tmp_path / "resolv.conf").write_text("nameserver 192.0.2.1\nnameserver 2001:db8::1\n")
    found = await system_servers(str(tmp_path / "resolv.conf"))
    assert found == (HostPort("192.0.2.1"), HostPort("2001:db8::1"))


# -- updates --------------------------------------------------------------------------------------


async def _takes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(framed(dns.message.make_response(await query_of(reader)).to_wire()))
    await reader.read()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_an_update_is_sent_by_address_or_name(host: str) -> None:
    async with streams(_takes) as server:
        code = await update(
            HostPort(host, server.port), dns.update.UpdateMessage("a."), KEY, Clock(), 5.0
        )
        assert code == dns.rcode.NOERROR


async def test_an_update_is_sent_by_ipv6() -> None:
    async with streams(_takes, host="::1") as listening:
        server = HostPort.parse(f"[::1]:{listening.port}")
        code = await update(server, dns.update.UpdateMessage("a."), KEY, Clock(), 5.0)
        assert code == dns.rcode.NOERROR


async def test_an_update_that_does_not_fit_is_refused_here() -> None:
    message = dns.update.UpdateMessage("a.")
    for number in range(300):
        message.add(f"n{number}.a.", 30, "TXT", '"' + "x" * 250 + '"')
    with pytest.raises(UpdateRefused, match="too many"):
        await update(HostPort("127.0.0.1", 9), message, KEY, Clock(), 1.0)


# -- cancelled anywhere ---------------------------------------------------------------------------


def sockets() -> set[str]:
    """The sockets of this process."""
    found = set()
    for one in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found.add(os.readlink(f"/proc/self/fd/{one}"))
    return {one for one in found if one.startswith("socket:")}


class _Thread:
    """Name servers in a loop of their own, so that their sockets' ends do not wait for ours."""

    def __init__(self) -> None:
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.accepted: list[socket.socket] = []
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    @property
    def server(self) -> HostPort:
        return HostPort("127.0.0.1", self.listening.getsockname()[1])

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self.accepted.append(self.listening.accept()[0])

    def close(self) -> None:
        self.listening.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self.listening.close()
        for one in self.accepted:
            one.close()


@pytest.fixture
def silent() -> Iterator[_Thread]:
    serving = _Thread()
    yield serving
    serving.close()


@pytest.mark.parametrize("turns", range(12))
async def test_a_cancelled_update_or_question_leaves_no_socket(silent: _Thread, turns: int) -> None:
    server = silent.server
    async with fake(truncated) as (datagrams, _):
        before = sockets()
        for work in (
            update(server, dns.update.UpdateMessage("a."), KEY, Clock(), 5.0),
            ask([datagrams], NAME, "TXT", 5.0),
        ):
            task = asyncio.create_task(work)
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, NameServerUnavailable):
                await task
        end = time.monotonic() + 5
        while not (left := sockets() - before) <= {_name(one) for one in silent.accepted}:
            assert time.monotonic() < end, left
            await asyncio.sleep(0)
        assert len(asyncio.all_tasks()) == 1


def _name(one: socket.socket) -> str:
    return os.readlink(f"/proc/self/fd/{one.fileno()}")


@pytest.mark.parametrize("drops", [True, False], ids=["dropped", "refused"])
async def test_an_update_goes_to_the_address_of_the_server_that_answers(drops: bool) -> None:
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        (length,) = struct.unpack("!H", await reader.readexactly(2))
        asked.append(await reader.readexactly(length))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    message = dns.update.UpdateMessage("a.")
    with contextlib.ExitStack() as stack:
        if drops:
            full = socket.create_server(("::1", port), family=socket.AF_INET6, backlog=0)
            stack.enter_context(full)
            stack.enter_context(socket.create_connection(("::1", port), timeout=10))
        with pytest.raises(NameServerUnavailable, match="hung up"):
            await update(
                HostPort("::1", port), message, KEY, Clock(), 30.0, [HostPort("127.0.0.1", port)]
            )
    assert len(asked) == 1
    server.close()
