"""The chat of examples/web: two pages and a terminal talk, with presence, a file, and the path
shown; by the keyboard, with names for all that a screen reader meets, and no inline code.
"""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from examples.web.__main__ import chat
from examples.web.room import MOST_OF_ONE
from peers import Identity, Mode, Peer, Refused, SessionLost
from tests.js.pages import build
from tests.relay.dashboard.chromium import Page, browser

NAMELESS = """
[...document.querySelectorAll("input, select")].filter(one => !one.labels.length).length +
[...document.querySelectorAll("button")].filter(one => !one.textContent).length +
[...document.querySelectorAll("progress")].filter(one => !one.getAttribute("aria-label")).length
"""
LOG = "[...document.querySelectorAll('#log li')].map(one => one.textContent).join('|')"
PEOPLE = "[...document.querySelectorAll('#people li')].map(one => one.textContent).join('|')"
TRANSFERS = "document.getElementById('transfers').textContent"


async def come_in(page: Page, url: str, name: str) -> None:
    """Come into the room, by the keyboard alone."""
    await page.open(url)
    await page.run("document.getElementById('name').focus()")
    await page.ask("Input.insertText", text=name)
    await page.press("Enter")
    await page.until("document.getElementById('status').className === 'good'")


async def say(page: Page, text: str) -> None:
    """Say something, by the keyboard alone: who has come in stands in the field for it."""
    await page.until("document.activeElement.id === 'text'")
    await page.ask("Input.insertText", text=text)
    await page.press("Enter")


async def give(page: Page, file: Path) -> None:
    """Offer a file to the first of the others."""
    root = (await page.ask("DOM.getDocument"))["root"]["nodeId"]
    found = await page.ask("DOM.querySelector", nodeId=root, selector="#file")
    await page.ask("DOM.setFileInputFiles", files=[str(file)], nodeId=found["nodeId"])
    await page.run("document.querySelector('#give button').click()")


@contextlib.asynccontextmanager
async def terminal(
    folder: Path, relay: str, guid: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run `peer connect` as somebody at a terminal would."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "peers", "--relay", relay, "--key", str(folder / "terminal.key")),
        *("connect", guid, "room", "--mode", "auto"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "HOME": str(folder)},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield process.stdin, process.stdout
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGKILL)
        await process.wait()


async def test_two_pages_and_a_terminal(tmp_path: Path) -> None:
    await asyncio.to_thread(build)
    async with (
        chat(None, "127.0.0.1", 0) as (url, relay, guid),
        browser(tmp_path) as alice,
        alice.another() as bob,
        terminal(tmp_path, relay, guid) as (typed, read),
    ):
        await come_in(alice, url, "Alice")
        await come_in(bob, f"{url}?as=bob", "Bob <b>")
        await alice.until(f"{PEOPLE}.includes('Bob <b>') && {PEOPLE}.includes('(terminal)')")
        await say(alice, "hello <img src=x>")
        await bob.until(f"{LOG}.includes('Alice: hello <img src=x>')")
        async with asyncio.timeout(60):
            while b"hello" not in (line := await read.readline()):
                assert line
        typed.write(b"hello from a terminal\n")
        await alice.until(f"{LOG}.includes('hello from a terminal')")
        assert await alice.run("document.querySelectorAll('#log img, #people b').length") == 0

        # A file goes from page to page; the other one is asked.
        file = tmp_path / "picture.bin"
        file.write_bytes(os.urandom(300_000))
        await give(alice, file)
        await bob.until("document.querySelector('#transfers button') !== null")
        assert await bob.run(NAMELESS) == 0
        await bob.run("document.querySelector('#transfers button').click()")
        await bob.until("document.querySelector('#transfers a') !== null")
        await alice.until(f"{TRANSFERS}.includes('is there')")
        assert "picture.bin" in await bob.run(TRANSFERS)

        # Who is not in the room offers nothing; what is taken back leaves no buttons.
        there = await alice.run("document.getElementById('to').value")
        async with Peer(Identity.generate(), relay) as stranger:
            with pytest.raises(Refused, match="not in the room"):
                await stranger.connect(there, "file", mode=Mode.AUTO)
        async with Peer(Identity.generate(), relay) as other:
            member = await other.connect(guid, "room", mode=Mode.AUTO, metadata=b'{"name": "Cy"}')
            await bob.until(f"{PEOPLE}.includes('Cy')")
            said = b'{"file": {"a": 1}, "size": 5, "from": ["x"]}'
            offer = await other.connect(there, "file", mode=Mode.AUTO, metadata=said)
            await bob.until(f"{TRANSFERS}.includes('offers a file')")
            offer.abort("never mind")
            await bob.until(f"!{TRANSFERS}.includes('offers a file')")
            # JSON that nobody can read is what nobody has said.
            await member.send(b"[" * 200_000)
            await member.send(b'{"say": "still here"}')
            await bob.until(f"{LOG}.includes('Cy: still here')")
            for _ in range(MOST_OF_ONE):
                await other.connect(guid, "room", mode=Mode.AUTO, metadata=b'{"name": "Cy"}')
            with pytest.raises(SessionLost):
                async for _ in member:
                    pass
            await bob.until(f"{PEOPLE}.split('Cy').length - 1 === {MOST_OF_ONE}")
        await bob.until(f"!{PEOPLE}.includes('Cy')")

        # Who has lost the network is told so, and what they say meanwhile arrives.
        await alice.network(up=False)
        await alice.until("document.getElementById('status').className === 'bad'")
        await bob.until(f"{PEOPLE}.includes('Alice (no network)')")
        await say(alice, "from the tunnel")
        await alice.network(up=True)
        await bob.until(f"{LOG}.includes('from the tunnel')")
        await bob.until(f"!{PEOPLE}.includes('no network')")
        assert "noise" in await alice.run("document.getElementById('status').textContent")

        # Nothing is wider than a phone, everything has a name, nothing has complained.
        await bob.look(width=360, dark=True)
        assert await bob.run("document.documentElement.scrollWidth") <= 360
        assert await alice.run(NAMELESS) == 0
        assert bob.complaints == []
        assert all("net::ERR" in one or "WebSocket" in one for one in alice.complaints)
