"""A relay and two peers for each test, all real, in the test's own process."""

from collections.abc import AsyncIterator

import pytest

from peers import Identity, Peer
from relay.config import RelayConfig
from relay.server import RelayServer


@pytest.fixture
async def relay() -> AsyncIterator[RelayServer]:
    async with RelayServer(RelayConfig(port=0)) as server:
        yield server


@pytest.fixture
async def alice(relay: RelayServer) -> AsyncIterator[Peer]:
    async with Peer(Identity.generate(), relay.url) as peer:
        yield peer


@pytest.fixture
async def bob(relay: RelayServer) -> AsyncIterator[Peer]:
    async with Peer(Identity.generate(), relay.url) as peer:
        yield peer
