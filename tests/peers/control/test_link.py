"""How a peer stands with its relay: the word, the cause, and that equal ones are told once."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from peers import (
    Identity,
    LinkState,
    Peer,
    PeerConfig,
    RelayMisconfigured,
    RelayUnavailable,
    Status,
)
from peers.control import Link
from protocol.errors import Code
from relay.config import RelayConfig
from relay.server import RelayServer
from tests.relay.certificates import certificate
from tests.support.ports import free_port

GONE, MORE = RelayUnavailable("the relay is silent"), RelayUnavailable("refused")
SUPERSEDED = RelayUnavailable("another one", code=Code.SUPERSEDED)


def test_the_words_in_their_order() -> None:
    link = Link(has_relay=True)
    seen = [link.status.state]
    for step in (
        lambda: link.lost(GONE, lasting=False),
        link.registered,
        lambda: link.lost(GONE, lasting=False),
        link.registered,
        link.restarting,
        lambda: link.lost(GONE, lasting=False),
        link.registered,
        lambda: link.ended(SUPERSEDED),
        link.closed,
    ):
        assert step()
        seen.append(link.status.state)
    assert [state.value for state in seen] == [
        "connecting",
        "connecting",
        "registered",
        "lost",
        "back",
        "restarting",
        "restarting",
        "back",
        "superseded",
        "closed",
    ]


def test_equal_ones_are_told_once_and_another_cause_again() -> None:
    link = Link(has_relay=True)
    assert link.registered()
    assert not link.registered()
    assert link.lost(GONE, lasting=False)
    assert not link.lost(RelayUnavailable(GONE.reason), lasting=False)
    assert link.lost(MORE, lasting=False)
    assert link.lost(MORE, lasting=True)
    assert link.status == Status(LinkState.LOST, MORE, lasting=True)


def test_the_end_stays() -> None:
    link = Link(has_relay=True)
    assert link.ended(RelayUnavailable("no", code=Code.NOT_ADMITTED))
    assert link.status.state is LinkState.ENDED
    assert not link.lost(GONE, lasting=False)
    assert not link.restarting()
    assert link.closed()
    assert link.status.cause is not None
    assert Link(has_relay=False).status.state is LinkState.NONE


# -- of real peers --------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def followed(peer: Peer) -> AsyncIterator["asyncio.Queue[Status]"]:
    """What the program hears, from before the peer is opened."""
    heard: asyncio.Queue[Status] = asyncio.Queue()

    async def follow() -> None:
        async for status in peer.events():
            heard.put_nowait(status)
        heard.put_nowait(Status(LinkState.NONE))

    task = asyncio.create_task(follow())
    try:
        yield heard
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(heard: "asyncio.Queue[Status]", state: LinkState) -> Status:
    async with asyncio.timeout(60):
        while (status := await heard.get()).state is not state:
            pass
    return status


async def test_a_relay_that_goes_and_comes_back() -> None:
    async with contextlib.AsyncExitStack() as stack:
        port = free_port()
        relay = await stack.enter_async_context(RelayServer(RelayConfig(port=port)))
        peer = Peer(Identity.generate(), relay.url)
        assert peer.status.state is LinkState.CONNECTING
        async with followed(peer) as heard:
            assert (await heard.get()).state is LinkState.CONNECTING
            await peer.start()
            assert peer.status.is_registered
            assert (await heard.get()).state is LinkState.REGISTERED
            await relay.drain()
            await stack.aclose()
            lost = await until(heard, LinkState.RESTARTING)
            assert not peer.status.is_registered
            assert not lost.lasting
            async with RelayServer(RelayConfig(port=port)):
                back = await until(heard, LinkState.BACK)
                assert back.cause is None
                assert peer.status.is_registered
                await peer.close()
            await until(heard, LinkState.CLOSED)
            assert (await heard.get()).state is LinkState.NONE, "the iteration has ended"
        assert [status.state async for status in peer.events()] == [LinkState.CLOSED]


@pytest.mark.expected_errors("registration ended")
async def test_superseded_is_a_word_of_its_own(relay: RelayServer) -> None:
    identity = Identity.generate()
    first, second = Peer(identity, relay.url), Peer(identity, relay.url)
    async with first, followed(first) as heard, second:
        status = await until(heard, LinkState.SUPERSEDED)
        assert status.cause is not None
        assert status.cause.code is Code.SUPERSEDED


@pytest.mark.expected_errors("Error on transport creation")  # asyncio, of a refused handshake.
@pytest.mark.parametrize("cause", ["sources", "certificate", "https at http"])
async def test_what_waiting_will_not_cure_is_told_at_once(
    relay: RelayServer, tmp_path: Path, cause: str
) -> None:
    """And it goes on trying, for as long as it was told."""
    async with contextlib.AsyncExitStack() as stack:
        url = relay.url
        sources: tuple[str, ...] = ()
        match cause:
            case "sources":
                sources, words = ("192.0.2.77",), "sources"
            case "certificate":
                chain, key = certificate(tmp_path)
                config = RelayConfig(port=0, tls_certificate=chain, tls_key=key)
                url = (await stack.enter_async_context(RelayServer(config))).url
                words = "relay_ca"
            case _:
                url, words = url.replace("http:", "https:"), "does not speak TLS"
        patient = PeerConfig(sources=sources, connect_timeout=60.0)
        peer = Peer(Identity.generate(), url, config=patient)
        heard = await stack.enter_async_context(followed(peer))
        starting = asyncio.create_task(peer.start())
        async with asyncio.timeout(60):
            while not (status := await heard.get()).lasting:
                pass
        assert status.state is LinkState.CONNECTING
        assert words in str(status.cause)
        assert not starting.done()
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)

        hasty = PeerConfig(sources=sources, connect_timeout=3.0)
        with pytest.raises(RelayMisconfigured, match=words):
            await Peer(Identity.generate(), url, config=hasty).start()
