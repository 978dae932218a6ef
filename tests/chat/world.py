"""A relay and messengers with their screens, in one process."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

from textual.pilot import Pilot
from textual.widgets import Input, Static

from examples.chat.app import ChatApp
from examples.chat.messenger import Messenger, Place
from peers import PeerConfig
from relay.config import RelayConfig
from relay.server import RelayServer
from tests.support.addresses import Addresses

__all__ = ["LOOPBACK", "Screen", "eventually", "screen"]

LOOPBACK = PeerConfig(listen_hosts=("127.0.0.1",))
DEADLINE = 60.0
"""Seconds; nothing here takes as long, on a busy machine either."""


async def eventually(holds: Callable[[], bool], *, pause: float = 0.03) -> None:
    """Let the loop turn until something holds that has no event of its own."""
    async with asyncio.timeout(DEADLINE):
        while not holds():
            await asyncio.sleep(pause)


@dataclass
class Screen:
    """One messenger on its screen."""

    app: ChatApp
    pilot: Pilot[None]
    messenger: Messenger = field(init=False)

    def __post_init__(self) -> None:
        self.messenger = self.app.messenger

    @property
    def said(self) -> list[str]:
        """The lines of the conversation, as plain text."""
        return [
            str(line.content) for line in self.app.screen_stack[0].query(".line").results(Static)
        ]

    @property
    def status(self) -> str:
        """The status line."""
        return str(self.app.screen_stack[0].query_one("#status", Static).content)

    async def press(self, *keys: str) -> None:
        """Press keys."""
        await self.pilot.press(*keys)

    async def answer(self, key: str, text: str) -> None:
        """Press the key of a question, and answer it."""
        before = self.app.screen
        await self.press(key)
        await eventually(lambda: self.app.screen is not before)
        asked = self.app.screen
        asked.query_one(Input).value = text
        await self.press("enter")
        await eventually(lambda: self.app.screen is not asked)

    async def write(self, text: str) -> None:
        """Write a message."""
        box = self.app.query_one("#input", Input)
        box.value = text
        box.focus()
        await self.press("enter")

    async def shows(self, text: str) -> None:
        """Wait until a line has this text."""
        await eventually(lambda: any(text in line for line in self.said))

    async def mark(self, text: str, mark: str) -> None:
        """Wait until the line of a message has this mark."""
        await eventually(lambda: any(text in line and line.endswith(mark) for line in self.said))


@contextlib.asynccontextmanager
async def screen(
    folder: Path, relay: str | None, name: str, addresses: Addresses | None = None
) -> AsyncIterator[Screen]:
    """Run a messenger whose things are in a folder, at the addresses that a test gives it."""
    config = LOOPBACK
    if addresses is not None:
        config = PeerConfig(listen_hosts=("0.0.0.0",), sources=addresses.all)
    place = Place(folder / name, folder / f"{name}-downloads", config, addresses)
    async with Messenger(place, relay, name.capitalize()) as messenger:
        app = ChatApp(messenger)
        app.animation_level = "none"
        async with app.run_test(size=(100, 30)) as pilot:
            yield Screen(app, pilot)


def relay_at(port: int) -> RelayServer:
    """Return a relay that listens at a port."""
    return RelayServer(RelayConfig(port=port))
