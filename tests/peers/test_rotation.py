"""A relay that changes its key, and the peers that know it by that."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from peers import Identity, Mode, Peer, PeerConfig, Session, WrongIdentity
from protocol.identity import Identity as Key
from protocol.messages import Challenge, Hello
from protocol.succession import link
from relay.config import RelayConfig
from relay.keys import Former
from relay.server import RelayServer
from tests.relay.client import client
from tests.support.ports import free_port

A, B = (Key.from_seed(bytes([number]) * 32) for number in range(1, 3))
TIMEOUT = 60.0


@asynccontextmanager
async def relay(identity: Key, port: int = 0, *former: Key) -> AsyncIterator[RelayServer]:
    until = time.time() + 3600
    kept = [Former(one, link(one, identity), until) for one in former]
    async with RelayServer(RelayConfig(port=port), identity, former=kept) as server:
        yield server


def config(pin: str | None, file: Path | None = None) -> PeerConfig:
    return PeerConfig(
        relay_guid=pin,
        relay_pin_file=str(file) if file is not None else None,
        listen_hosts=("127.0.0.1",),
    )


async def until_followed(peer: Peer) -> None:
    async for status in peer.events():
        if status.relay_guid == B.guid and status.is_registered:
            return


async def answered(session: Session, text: bytes) -> None:
    await session.send(text)
    assert await session.receive() == text


@pytest.mark.expected_errors("registration ended")
async def test_peers_that_pin_a_key_follow_it_to_the_next(tmp_path: Path) -> None:
    """Over the change and over the end of its period; their session is the same one."""
    file, alice = tmp_path / "alice.relay", Identity.generate()
    port = free_port()
    async with relay(A, port) as first:
        url = first.url

        async def echo(session: Session) -> None:
            async for message in session:
                await session.send(message)

        one = await Peer(alice, url, config=config(A.guid, file)).start()
        two = await Peer(Identity.generate(), url, config=config(A.guid)).start()
        serving = asyncio.create_task(one.serve("echo", echo))
        await one.published()
        session = await two.connect(alice.guid, "echo", mode=Mode.CENTRAL)
        await answered(session, b"before")
    try:
        async with asyncio.timeout(TIMEOUT):
            async with relay(B, port, A):
                await asyncio.gather(until_followed(one), until_followed(two))
                await answered(session, b"while both are served")
            while not file.exists():
                await asyncio.sleep(0.01)
            async with relay(B, port):
                await answered(session, b"under the new key alone")
                assert one.relay_guid == two.relay_guid == B.guid
                # What was written down is believed by the next program, and what was not is not.
                later = PeerConfig(relay_guid=A.guid, relay_pin_file=str(file))
                async with Peer(Identity.generate(), url, config=later) as third:
                    assert third.relay_guid == B.guid
                with pytest.raises(WrongIdentity, match=B.guid):
                    async with Peer(Identity.generate(), url, config=config(A.guid)):
                        pass
                await session.close()
            # A thief of the key that they have left, who could sign whatever he likes.
            async with relay(A, port):
                async for status in one.events():
                    if isinstance(status.cause, WrongIdentity):
                        break
                assert not one.status.is_registered
    finally:
        serving.cancel()
        await asyncio.gather(one.close(), two.close())


async def test_who_pins_nothing_or_the_new_key_is_served_by_it(tmp_path: Path) -> None:
    async with relay(B, 0, A) as server:
        for pin in (None, B.guid):
            async with Peer(Identity.generate(), server.url, config=config(pin)) as peer:
                assert peer.relay_guid == B.guid
                assert peer.status.relay_guid is None


async def test_an_older_peer_is_shown_the_key_that_it_may_have_pinned() -> None:
    """It names no features, is told of no succession, and registers by what it sees."""
    async with relay(B, 0, A) as server, client(server.url) as old:
        old.send(Hello(old.identity.guid, old.instance, bytes(32)))
        challenge = await old.expect(Challenge)
        assert challenge.guid == A.guid
        assert challenge.succession == ()
    async with relay(B, 0, A) as server, client(server.url) as old:
        await old.register()


async def test_what_does_not_hold_moves_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """A relay under its right key, with a chain that this key has not signed."""
    kept = [Former(A, link(B, A), time.time() + 3600)]
    async with (
        RelayServer(RelayConfig(port=0), B, former=kept) as server,
        Peer(Identity.generate(), server.url, config=config(A.guid)) as peer,
    ):
        assert peer.relay_guid == A.guid
        assert peer.status.relay_guid is None
    assert "the relay's new key is not believed" in caplog.text
