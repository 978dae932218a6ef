"""The operator's endpoint, as it is told by a running relay that somebody has mail."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from protocol.mail import Letter, LetterResponse, LetterWindow
from relay.config import ConfigError, MailboxConfig, RelayConfig
from relay.mailbox import waker, wakes
from relay.metrics import Metrics
from relay.server import RelayServer
from relay.tasks import Tasks
from tests.relay.certificates import certificate
from tests.relay.mailbox.test_on_sockets import leave, named, take_letters


class Endpoint:
    """What an operator has put before a push service."""

    def __init__(self) -> None:
        self.asked: asyncio.Queue[tuple[dict[str, str], dict[str, object]]] = asyncio.Queue()
        self.status = 204
        self.url = ""

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.put_nowait((dict(request.headers), await request.json()))
        return web.Response(status=self.status, headers={"Location": "/elsewhere"})

    async def told(self) -> dict[str, object]:
        return (await asyncio.wait_for(self.asked.get(), 60))[1]


@pytest.fixture
async def endpoint() -> AsyncIterator[Endpoint]:
    found = Endpoint()
    app = web.Application()
    app.router.add_post("/wake/secret", found.answer)
    async with TestServer(app) as server:
        found.url = str(server.make_url("/wake/secret"))
        yield found


@asynccontextmanager
async def serving(tmp_path: Path, url: str, pause: float = 60.0) -> AsyncIterator[RelayServer]:
    mailbox = MailboxConfig(wake_url=url, wake_pause=pause)
    async with RelayServer(
        RelayConfig(port=0, state=str(tmp_path / "state"), mailbox=mailbox)
    ) as relay:
        yield relay


async def outcomes(relay: RelayServer, **wanted: int) -> None:
    async with asyncio.timeout(60):
        while dict(relay.metrics.wakes) != wanted:
            await asyncio.sleep(0.01)


async def test_who_is_away_is_told_of_once_and_nothing_but_its_name(
    tmp_path: Path, endpoint: Endpoint
) -> None:
    async with serving(tmp_path, endpoint.url) as relay, named(relay.url) as alice:
        async with named(relay.url) as bob:
            await take_letters(bob)
            identity = bob.identity
        for name in range(3):
            alice.send(leave(bob, name))
            assert (await alice.expect(LetterResponse)).code is None
        assert await endpoint.told() == {"guid": identity.guid}
        await outcomes(relay, told=1)
        async with named(relay.url, identity) as bob:
            bob.send(LetterWindow(8))
            for _ in range(3):
                await bob.expect(Letter)
            alice.send(leave(bob, 4))
            await bob.expect(Letter)
        assert endpoint.asked.empty()


async def test_who_was_asleep_before_its_connection_ended_is_told_of(
    tmp_path: Path, endpoint: Endpoint
) -> None:
    async with serving(tmp_path, endpoint.url) as relay, named(relay.url) as alice:
        async with named(relay.url) as bob:
            await take_letters(bob)
            bob.send(LetterWindow(8))
            alice.send(leave(bob, 1))
            await bob.expect(Letter)
            assert endpoint.asked.empty()
        assert await endpoint.told() == {"guid": bob.identity.guid}


@pytest.mark.parametrize("status", [302, 400, 500])
async def test_an_endpoint_that_fails_is_asked_again_and_loses_no_letter(
    tmp_path: Path,
    endpoint: Endpoint,
    status: int,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(wakes, "FIRST_AGAIN", 0.01)
    endpoint.status = status
    async with serving(tmp_path, endpoint.url, pause=1.0) as relay, named(relay.url) as alice:
        async with named(relay.url) as bob:
            await take_letters(bob)
        alice.send(leave(bob, 1))
        assert (await alice.expect(LetterResponse)).code is None
        await endpoint.told()
        endpoint.status = 200
        await endpoint.told()
        await outcomes(relay, failed=1, told=1)
        assert "secret" not in caplog.text
        assert "who has mail cannot be told" in caplog.text


async def test_whom_the_endpoint_does_not_know_it_is_not_told_of_again(
    tmp_path: Path, endpoint: Endpoint
) -> None:
    endpoint.status = 410
    async with serving(tmp_path, endpoint.url, pause=1.0) as relay, named(relay.url) as alice:
        async with named(relay.url) as bob:
            await take_letters(bob)
        alice.send(leave(bob, 1))
        await endpoint.told()
        await outcomes(relay, unknown=1)


async def test_an_endpoint_that_is_not_there_or_never_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever leaves a letter notices nothing of it; and the relay closes all the same."""
    monkeypatch.setattr(waker, "_TIMEOUT", 0.2)
    silent = socket.create_server(("127.0.0.1", 0))  # Its kernel accepts, and nobody reads.
    port = silent.getsockname()[1]
    for url in ("http://127.0.0.1:1/", f"http://127.0.0.1:{port}"):
        async with serving(tmp_path, url) as relay, named(relay.url) as alice:
            async with named(relay.url) as bob:
                await take_letters(bob)
            alice.send(leave(bob, 1))
            assert (await alice.expect(LetterResponse)).code is None
            await outcomes(relay, failed=1)
    assert caplog.text.count("who has mail cannot be told") == 2
    silent.close()


@pytest.mark.parametrize(
    "is_trusted",
    [
        True,
        pytest.param(False, marks=pytest.mark.expected_errors("Error on transport creation")),
    ],
)
async def test_over_https_it_is_told_where_its_certificate_verifies(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    is_trusted: bool,
) -> None:
    file, key = certificate(tmp_path)
    if is_trusted:
        monkeypatch.setenv("SSL_CERT_FILE", file)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(file, key)
    found, app = Endpoint(), web.Application()
    app.router.add_post("/", found.answer)
    server = TestServer(app, scheme="https")
    await server.start_server(ssl=context)
    try:
        url = f"https://127.0.0.1:{server.port}/"
        async with serving(tmp_path, url) as relay, named(relay.url) as alice:
            async with named(relay.url) as bob:
                await take_letters(bob)
            alice.send(leave(bob, 1))
            assert (await alice.expect(LetterResponse)).code is None
            if is_trusted:
                assert await found.told() == {"guid": bob.identity.guid}
                await outcomes(relay, told=1)
            else:
                await outcomes(relay, failed=1)
                assert found.asked.empty()
                assert "who has mail cannot be told" in caplog.text
    finally:
        await server.close()


async def test_it_ends_when_nobody_is_left_to_be_told_of_and_begins_with_the_next(
    endpoint: Endpoint,
) -> None:
    tasks, metrics = Tasks(), Metrics()
    one = waker.Waker(endpoint.url, 0.05, lambda guid: 0, metrics, tasks.spawn)
    for _ in range(3):
        one.came("g" * 52)
        assert await endpoint.told() == {"guid": "g" * 52}
        async with asyncio.timeout(60):
            while len(tasks):
                await tasks.wait()
    assert metrics.wakes["told"] == 3


async def test_who_comes_while_the_last_connection_is_closed_is_told_of(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks, metrics = Tasks(), Metrics()
    one = waker.Waker(endpoint.url, 0.05, lambda guid: 0, metrics, tasks.spawn)
    close, others = aiohttp.ClientSession.close, ["h" * 52]

    async def closed(self: aiohttp.ClientSession) -> None:
        await close(self)
        while others:
            one.came(others.pop())

    monkeypatch.setattr(aiohttp.ClientSession, "close", closed)
    one.came("g" * 52)
    assert await endpoint.told() == {"guid": "g" * 52}
    assert await endpoint.told() == {"guid": "h" * 52}
    async with asyncio.timeout(60):
        while len(tasks):
            await tasks.wait()


@pytest.mark.parametrize(
    "url", ["", "push.example", "ftp://push.example", "https://", "https://u:p@push.example/x"]
)
def test_a_url_that_is_none_is_refused_where_it_is_written(url: str) -> None:
    with pytest.raises(ConfigError, match=r"mailbox: wake_url"):
        MailboxConfig(wake_url=url)
