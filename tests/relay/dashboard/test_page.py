"""The page in Debian's Chromium: nothing on the console, whatever strangers call things, with 5,000
peers, by keyboard, on a phone and in the dark.
"""

import json
from pathlib import Path

import pytest

from relay.config import RelayConfig
from relay.server import RelayServer
from tests.relay.dashboard.chromium import browser
from tests.relay.dashboard.crowd import HOSTILE, come, crowd, guid_of

TEXT = "document.getElementById('found').textContent"
CHOOSE = """
by("by").value = "peer"; by("by").dispatchEvent(new Event("change"));
"""
NAMELESS = """
[...document.querySelectorAll("input, select")].filter(one => !one.labels.length).length +
[...document.querySelectorAll("svg[role=img]")].filter(one => !one.ariaLabel).length
"""


async def test_the_page(tmp_path: Path) -> None:
    async with RelayServer(RelayConfig(port=0)) as relay, browser(tmp_path) as page:
        flows = list(crowd(relay.registry, 5_000))
        come(relay.registry, guid_of(-1), "198.51.100.1", HOSTILE)
        await page.look(width=1280, dark=False)
        await page.open(f"{relay.url}/")
        await page.until("document.getElementById('found').textContent.startsWith('5001 peers')")
        assert await page.run("document.getElementById('status').textContent") == "live"

        # What strangers call things is text.
        shown = "[...document.querySelectorAll('#peers bdi')].map(one => one.textContent)"
        assert HOSTILE[:63] + "…" in await page.run(shown)
        assert await page.run("document.querySelectorAll('img, #peers script').length") == 0
        assert await page.run("document.title") == "Roam Relay"

        # However many there are, the page is as long as with some hundred.
        assert await page.run("document.querySelectorAll('#peers tr').length") <= 100
        await page.run(CHOOSE)
        assert await page.run("document.querySelectorAll('#peers tr').length") == 100
        assert "the first 100 of 5001" in await page.run(TEXT)

        # A move is told as it happens, and who is looked for is found by the keyboard alone.
        come(relay.registry, flows[7].guid, "192.0.2.200", "chat")
        await page.until("document.querySelector('#news .moved') !== null")
        await page.run("document.body.focus()")
        seen = []
        for _ in range(12):
            await page.press("Tab")
            seen.append(await page.run("document.activeElement.id"))
        controls = [one for one in seen if one in ("pause", "by", "filter")]
        assert controls[:3] == ["pause", "by", "filter"]
        await page.run("document.getElementById('filter').focus()")
        await page.ask("Input.insertText", text=flows[7].guid[:12])
        assert await page.run("document.querySelectorAll('#peers tr').length") == 1
        assert await page.run("document.querySelector('#peers td:last-child').textContent") == "1"

        # Nothing is wider than a phone, in the dark either.
        await page.look(width=360, dark=True)
        wide = await page.run("document.documentElement.scrollWidth")
        assert wide <= 360
        # Every control and every picture has a name, as a screen reader says it.
        nameless = await page.run(NAMELESS)
        assert nameless == 0
        assert page.complaints == []


@pytest.mark.nightly
async def test_a_token_is_asked_for_and_taken(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("a-token-of-enough-characters")
    file.chmod(0o600)
    async with (
        RelayServer(RelayConfig(port=0, admin_token=str(file))) as relay,
        browser(tmp_path) as page,
    ):
        await page.open(f"{relay.url}/")
        await page.until("!document.getElementById('locked').hidden")
        assert await page.run("document.activeElement.id") == "token"
        for said, then in (("wrong", "This is not the token."), (file.read_text(), "live")):
            await page.run(f"document.getElementById('token').value = {json.dumps(said)}")
            await page.press("Enter")
            await page.until(f"document.body.textContent.includes({json.dumps(then)})")
        await page.until("document.getElementById('status').textContent === 'live'")
        # The browser itself says 401 of what was refused, and nobody else says anything.
        assert all("401" in one for one in page.complaints), page.complaints
