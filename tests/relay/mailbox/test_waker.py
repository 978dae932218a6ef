"""The operator's endpoint, as it is told by a running relay that somebody has mail."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from protocol.mail import Letter, LetterResponse, LetterWindow
from relay.config import ConfigError, MailboxConfig, RelayConfig
from relay.mailbox import waker, wakes
from relay.server import RelayServer
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
        return (await asyncio.wait_for(self.asked.get(), 20))[1]


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
    async with asyncio.timeout(20):
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
    "url", ["", "push.example", "ftp://push.example", "https://", "https://u:p@push.example/x"]
)
def test_a_url_that_is_none_is_refused_where_it_is_written(url: str) -> None:
    with pytest.raises(ConfigError, match=r"mailbox: wake_url"):
        MailboxConfig(wake_url=url)
