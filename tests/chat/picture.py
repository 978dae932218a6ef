"""`make chat-picture`: two who talk, as docs/pictures/chat.svg."""

import asyncio
import tempfile
from pathlib import Path

from tests.chat.world import eventually, relay_at, screen

PICTURE = Path(__file__).parents[2] / "docs" / "pictures" / "chat.svg"


async def main() -> None:
    """Let two talk, and draw the screen of one."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        async with (
            relay_at(0) as relay,
            screen(place, relay.url, "alice") as alice,
            screen(place, relay.url, "bob") as bob,
        ):
            await alice.answer("ctrl+n", bob.messenger.link.text)
            await bob.answer("ctrl+n", alice.messenger.link.text)
            await alice.write("Are you on the train already?")
            await alice.mark("already?", "✓✓ read")
            await bob.write("Since noon. Wi-Fi, then the phone's network, then Wi-Fi again")
            await alice.shows("again")
            await alice.write("And not one word was lost")
            await alice.mark("lost", "✓✓ read")
            await eventually(lambda: "because" in alice.status and "online" in alice.status)
            PICTURE.write_text(alice.app.export_screenshot(title="roam chat"))


if __name__ == "__main__":
    asyncio.run(main())
