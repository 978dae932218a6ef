"""A relay with a zone, for each test."""

from collections.abc import AsyncIterator

import pytest

from relay.server import RelayServer
from tests.relay.dns.asking import serving


@pytest.fixture
async def server() -> AsyncIterator[RelayServer]:
    async with serving() as running:
        yield running
