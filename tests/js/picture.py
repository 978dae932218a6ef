"""`make web-picture`: the chat of examples/web as a page shows it, as docs/pictures/web.png."""

import asyncio
import tempfile
from pathlib import Path

from examples.web.__main__ import chat
from tests.js.test_chat import LOG, PEOPLE, come_in, give, say, terminal
from tests.relay.dashboard.chromium import browser

PICTURE = Path(__file__).parents[2] / "docs" / "pictures" / "web.png"


async def take() -> None:
    """Let three talk, and take the picture of one's page."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with (
            chat(None, "127.0.0.1", 0) as (url, relay, guid),
            browser(folder) as alice,
            alice.another() as bob,
            terminal(folder, relay, guid) as (typed, _),
        ):
            await alice.look(width=900, dark=False)
            await come_in(alice, url, "Alice")
            await come_in(bob, f"{url}?as=bob", "Bob")
            await alice.until(f"{PEOPLE}.includes('Bob') && {PEOPLE}.includes('(terminal)')")
            await say(bob, "Are you on the train already?")
            await alice.until(f"{LOG}.includes('train')")
            await say(alice, "Since noon. Wi-Fi, then the phone's network, then Wi-Fi again")
            await bob.until(f"{LOG}.includes('again')")
            typed.write(b"And not one word was lost\n")
            await alice.until(f"{LOG}.includes('lost')")
            file = folder / "timetable.pdf"
            file.write_bytes(bytes(2_000_000))
            await give(bob, file)
            await alice.until("document.querySelector('#transfers button') !== null")
            PICTURE.write_bytes(await alice.picture())
            print(PICTURE.name, PICTURE.stat().st_size)


if __name__ == "__main__":
    asyncio.run(take())
