"""Relays that do not admit everybody, and what peers see of them."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from protocol.identity import Identity
from protocol.invitation import Token
from protocol.messages import Error, Registered
from relay.admission import Admit
from relay.config import RelayConfig
from relay.server import RelayServer
from tests.relay.client import TIMEOUT, Client, client

OPERATOR = Identity.generate()


@asynccontextmanager
async def door(
    folder: Path | None = None, *, admit: Admit | None = None, **settings: Any
) -> AsyncIterator[RelayServer]:
    """A relay with these settings; `folder` is its state."""
    state = None if folder is None else str(folder / "state")
    config = RelayConfig(**{"port": 0, "state": state} | settings)
    async with RelayServer(config, admit=admit) as server:
        yield server


@asynccontextmanager
async def invited(folder: Path, **settings: Any) -> AsyncIterator[RelayServer]:
    """A relay that admits who has an invitation of `OPERATOR`."""
    asks = {"admission": "invited", "operators": OPERATOR.guid}
    async with door(folder, **asks | settings) as server:
        yield server


def token(*, operator: Identity = OPERATOR, ends_in: float = 3600.0, **said: Any) -> Token:
    return Token.make(operator, os.urandom(32), expires=int(time.time() + ends_in), **said)


async def come(
    server: RelayServer,
    identity: Identity | None = None,
    token: Token | None = None,
    *,
    source: str | None = None,
) -> Registered | Error:
    """Register once; return what the relay says."""
    async with client(server.url, identity, source) as one:
        await one.ask_to_register(token=token)
        return await outcome(one)


async def outcome(one: Client) -> Registered | Error:
    """Return what the relay says to a registration."""
    async with asyncio.timeout(TIMEOUT):
        while True:
            for message in one.messages:
                if isinstance(message, Registered | Error):
                    return message
            data = await one.reader.read(65536)
            assert data, "the relay closed without a word"
            one.messages += one.decoder.receive(data)  # type: ignore[arg-type]


async def refusal(
    server: RelayServer,
    identity: Identity | None = None,
    token: Token | None = None,
    *,
    source: str | None = None,
) -> Error:
    """Register, which must fail; return what the relay says."""
    said = await come(server, identity, token, source=source)
    assert isinstance(said, Error), said
    return said
