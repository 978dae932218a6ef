"""`make dashboard-pictures`: the dashboard of a relay that has something to do, at two widths and
in both themes, as docs/pictures/dashboard-*.png.
"""

import asyncio
import contextlib
import random
import tempfile
from pathlib import Path

from peers import Identity, Mode, Peer, RoamRelayError
from relay.config import RelayConfig
from relay.server import RelayServer
from tests.relay.dashboard.chromium import browser
from tests.relay.dashboard.crowd import come, crowd

PICTURES = Path(__file__).parents[3] / "docs" / "pictures"
SECONDS = 25
"""Of traffic before the first picture."""


async def talk(relay: RelayServer, seconds: float) -> None:
    """Be two peers that talk in every mode, and some who are looked for in vain."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    chance = random.Random(1)
    async with (
        Peer(Identity.generate(), relay.url) as alice,
        Peer(Identity.generate(), relay.url) as bob,
    ):
        listener = alice.listen("chat")
        await alice.published()
        sessions = []
        for mode in (Mode.CENTRAL, Mode.AUTO, Mode.COMBINED, Mode.P2P, Mode.CENTRAL):
            sessions.append(await bob.connect(alice.guid, "chat", mode=mode))
            sessions.append(await anext(listener))
        while loop.time() < end:
            one = chance.choice(sessions)
            await one.send(bytes(chance.randrange(60_000)))
            with contextlib.suppress(RoamRelayError):
                if chance.random() < 0.02:
                    await bob.connect(alice.guid, "camera", mode=Mode.COMBINED)
            for other in sessions:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.01):
                        await other.receive()
            await asyncio.sleep(chance.random() / 20)


async def move(relay: RelayServer, guids: list[str]) -> None:
    """Have peers of the crowd come from elsewhere, now and then."""
    chance = random.Random(2)
    while True:
        host = f"198.51.100.{chance.randrange(1, 255)}"
        come(relay.registry, chance.choice(guids), host, "chat")
        await asyncio.sleep(chance.random() * 3)


async def take() -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with RelayServer(RelayConfig(port=0)) as relay, browser(Path(folder)) as page:
            guids = [flow.guid for flow in crowd(relay.registry, 412)]
            await page.look(width=1280, dark=False)
            await page.open(f"{relay.url}/")
            await page.until("document.getElementById('status').textContent === 'live'")
            moving = asyncio.create_task(move(relay, guids))
            talking = asyncio.create_task(talk(relay, SECONDS + 20))
            await asyncio.sleep(SECONDS)
            for width, name in ((1280, "wide"), (390, "phone")):
                for dark in (False, True):
                    await page.look(width=width, dark=dark)
                    await asyncio.sleep(1.5)  # The next look is drawn so.
                    file = PICTURES / f"dashboard-{name}-{'dark' if dark else 'light'}.png"
                    file.write_bytes(await page.picture())
                    print(file.name, file.stat().st_size)
            for task in (moving, talking):
                task.cancel()
            ended = await asyncio.gather(moving, talking, return_exceptions=True)
            assert all(isinstance(one, asyncio.CancelledError) for one in ended), ended
            assert page.complaints == [], page.complaints


if __name__ == "__main__":
    asyncio.run(take())
