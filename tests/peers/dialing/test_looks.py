"""What is read of a relay's answer to plain HTTP, whoever answers."""

import asyncio
from email.utils import formatdate
from time import time

import pytest

from peers.dialing import health_of
from peers.transport import RelayAddress
from protocol.errors import RelayUnavailable
from tests.support.servers import serving


async def health(answer: bytes) -> tuple[int, bytes, float | None]:
    """Return what is read where a server answers so."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.write_eof()
        await reader.read()

    async with serving(serve) as port:
        found = await health_of(RelayAddress(f"http://127.0.0.1:{port}"), 20.0)
    assert found.certificate_seconds is None
    return found.status, found.body, found.clock_ahead


def answer(*headers: str, body: str = "ok\n") -> bytes:
    length = f"Content-Length: {len(body)}"
    return "\r\n".join(("HTTP/1.1 200 OK", *headers, length, "", body)).encode()


@pytest.mark.parametrize("offset", [0, 0.9, 3600, -3600])
async def test_by_how_much_a_clock_is_ahead(offset: float) -> None:
    status, body, ahead = await health(answer(f"Date: {formatdate(time() - offset, usegmt=True)}"))
    assert (status, body) == (200, b"ok\n")
    assert ahead is not None
    assert abs(ahead - offset) < 30  # Of a machine that stood still meanwhile.
    assert (ahead == 0) is (abs(offset) < 1) or abs(offset) < 1


@pytest.mark.parametrize("date", ["", "Date: ", "Date: yesterday", "Date: 99999999999"])
async def test_what_is_no_date_says_nothing(date: str) -> None:
    assert (await health(answer(*filter(None, [date]))))[2] is None


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n" + b"x" * 99_999,
        b"HTTP/1.1 100 Continue\r\n\r\n" * 9_000,
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    ],
)
async def test_what_is_no_answer_is_nobody(said: bytes) -> None:
    with pytest.raises(RelayUnavailable):
        await health(said)
