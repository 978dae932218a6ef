"""A relay for each test, in the test's own process."""

from collections.abc import AsyncIterator

import pytest

from relay.config import RelayConfig
from relay.server import RelayServer


@pytest.fixture
async def relay() -> AsyncIterator[RelayServer]:
    # No time ends by itself what a busy machine may be slow with.
    config = RelayConfig(
        port=0,
        handshake_timeout=60.0,
        write_deadline=60.0,
        ticket_lifetime=60.0,
        pending_requests=4,
        outbox_bytes=65_536,
    )
    async with RelayServer(config) as server:
        yield server
