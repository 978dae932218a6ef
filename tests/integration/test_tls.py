"""A relay that serves https:// itself: both carriers, all modes, and a bad certificate."""

import asyncio
import logging
from pathlib import Path

import pytest

from peers import Carrier, Identity, Mode, Peer, PeerConfig, RelayUnavailable
from relay.config import RelayConfig
from relay.server import RelayServer
from tests.relay.certificates import certificate as made


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[str, str]:
    return made(tmp_path)


@pytest.mark.parametrize("carrier", list(Carrier))
@pytest.mark.parametrize("mode", list(Mode))
async def test_modes_over_https(certificate: tuple[str, str], carrier: Carrier, mode: Mode) -> None:
    chain, secret = certificate
    config = PeerConfig(carrier=carrier, relay_ca=chain)
    async with (
        RelayServer(RelayConfig(port=0, tls_certificate=chain, tls_key=secret)) as relay,
        Peer(Identity.generate(), relay.url, config=config) as alice,
        Peer(Identity.generate(), relay.url, config=config) as bob,
    ):
        assert relay.url.startswith("https://")
        listener = alice.listen("chat")
        await alice.published()
        session = await bob.connect(alice.guid, "chat", mode=mode)
        there = await anext(listener)
        data = bytes(range(256)) * 4000
        await session.send(data)
        assert await there.receive() == data
        await there.send(b"back")
        assert await session.receive() == b"back"
        await session.close()


async def test_a_certificate_of_nobody_is_refused(certificate: tuple[str, str]) -> None:
    chain, secret = certificate
    async with RelayServer(RelayConfig(port=0, tls_certificate=chain, tls_key=secret)) as relay:
        config = PeerConfig(connect_timeout=4.0)
        with pytest.raises(RelayUnavailable, match=r"(?i)certificate"):
            async with Peer(Identity.generate(), relay.url, config=config):
                pass


@pytest.mark.parametrize("carrier", list(Carrier))
async def test_authorities_that_are_replaced_are_believed_by_the_next_attempt(
    certificate: tuple[str, str], carrier: Carrier, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    chain, secret = certificate
    (tmp_path / "other").mkdir()
    other, _ = made(tmp_path / "other")
    config = PeerConfig(carrier=carrier, relay_ca=other, connect_timeout=60.0)
    caplog.set_level(logging.WARNING, "peers")
    async with RelayServer(RelayConfig(port=0, tls_certificate=chain, tls_key=secret)) as relay:

        async def replace() -> None:
            async with asyncio.timeout(50):
                while not any("not accepted" in one for one in caplog.messages):
                    await asyncio.sleep(0.01)
            Path(chain).rename(other)

        replacing = asyncio.create_task(replace())
        async with Peer(Identity.generate(), relay.url, config=config) as peer:
            assert peer.relay_guid == relay.guid
        await replacing
    assert "'relay_ca'" in caplog.text, "the next step"
