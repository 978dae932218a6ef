"""Debian's Chromium without a window, driven by its debugging protocol over a WebSocket:
what a page logs, what it shows, and a picture of it.
"""

import asyncio
import base64
import contextlib
import itertools
import json
import os
import shutil
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Self

import aiohttp
import pytest

__all__ = ["Page", "browser"]

CHROMIUM = shutil.which("chromium")
LONG = 60.0
"""Seconds for anything to happen."""


class Page:
    """One tab of a browser."""

    def __init__(
        self, socket: aiohttp.ClientWebSocketResponse, http: aiohttp.ClientSession, debugging: str
    ) -> None:
        self._socket = socket
        self._http = http
        self._debugging = debugging
        self._numbers = itertools.count(1)
        self.complaints: list[str] = []
        """What the console, the log and uncaught errors have said."""

    async def begin(self) -> Self:
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self.ask(f"{domain}.enable")
        return self

    @contextlib.asynccontextmanager
    async def another(self) -> AsyncIterator["Page"]:
        """Open one more tab beside this one."""
        tab = (await self.ask("Target.createTarget", url="about:blank"))["targetId"]
        where = f"{self._debugging}/devtools/page/{tab}"
        async with self._http.ws_connect(where, max_msg_size=0) as socket:
            yield await Page(socket, self._http, self._debugging).begin()

    async def ask(self, method: str, **words: Any) -> dict[str, Any]:
        """Ask for one thing, and hear what is said meanwhile."""
        number = next(self._numbers)
        await self._socket.send_json({"id": number, "method": method, "params": words})
        async with asyncio.timeout(LONG):
            while True:
                said = json.loads(await self._socket.receive_str())
                if said.get("id") == number:
                    assert "error" not in said, said
                    return dict(said["result"])
                self._hear(said)

    def _hear(self, said: dict[str, Any]) -> None:
        words = said.get("params", {})
        match said.get("method"):
            case "Runtime.exceptionThrown":
                self.complaints.append(str(words["exceptionDetails"]))
            case "Runtime.consoleAPICalled":
                self.complaints.append(str(words["args"]))
            case "Log.entryAdded":
                self.complaints.append(f"{words['entry']['text']} {words['entry'].get('url', '')}")

    async def run(self, script: str) -> Any:
        """Run a script; return what it is, or what its promise becomes."""
        found = await self.ask(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    async def until(self, script: str) -> Any:
        """Run a script again and again, until what it is is true."""
        async with asyncio.timeout(LONG):
            while not (found := await self.run(script)):
                await asyncio.sleep(0.05)
        return found

    async def look(self, *, width: int, dark: bool) -> None:
        """Be of a width, and of a theme."""
        await self.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=900,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.ask("Emulation.setEmulatedMedia", features=[scheme])

    async def open(self, url: str) -> None:
        """Open an address, and wait until the page is there."""
        await self.ask("Page.navigate", url=url)
        await self.until(
            f"location.href === {json.dumps(url)} && document.readyState === 'complete'"
        )

    async def network(self, *, up: bool) -> None:
        """Take the network from the page, or give it back."""
        await self.ask(
            "Network.emulateNetworkConditions",
            offline=not up,
            latency=0,
            downloadThroughput=-1,
            uploadThroughput=-1,
        )

    async def show(self) -> None:
        """Put it in front of the others, which are hidden then."""
        await self.ask("Page.bringToFront")

    async def press(self, key: str) -> None:
        """Press a key and let go of it."""
        words = {"key": key, "code": key, "windowsVirtualKeyCode": {"Tab": 9, "Enter": 13}[key]}
        text = {"text": "\r"} if key == "Enter" else {}
        await self.ask("Input.dispatchKeyEvent", type="keyDown", **words, **text)
        await self.ask("Input.dispatchKeyEvent", type="keyUp", **words)

    async def picture(self) -> bytes:
        """Return all of the page as a PNG."""
        size = (await self.ask("Page.getLayoutMetrics"))["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        found = await self.ask("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        return base64.b64decode(found["data"])


@contextlib.asynccontextmanager
async def browser(folder: Path, *flags: str) -> AsyncIterator[Page]:
    """Run a browser whose files are in a folder, with more flags; yield its tab."""
    if CHROMIUM is None:
        if os.environ.get("LAB_REQUIRED"):
            raise AssertionError("needs chromium")
        pytest.skip("needs chromium")
    process = await asyncio.create_subprocess_exec(
        *(CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"),
        *("--disable-dev-shm-usage", "--disable-background-networking", "--disable-sync"),
        *("--disable-component-update", "--disable-extensions", "--hide-scrollbars", *flags),
        *("--remote-debugging-port=0", f"--user-data-dir={folder / 'profile'}", "about:blank"),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        env={**os.environ, "HOME": str(folder)},
        start_new_session=True,
    )
    try:
        ready = folder / "profile" / "DevToolsActivePort"
        async with asyncio.timeout(LONG):
            while not (ready.exists() and len(ready.read_text().splitlines()) == 2):
                assert process.returncode is None
                await asyncio.sleep(0.02)
        port = ready.read_text().splitlines()[0]
        async with aiohttp.ClientSession() as http:
            async with http.get(f"http://127.0.0.1:{port}/json/list") as answer:
                (tab,) = [one for one in await answer.json() if one["type"] == "page"]
            where = tab["webSocketDebuggerUrl"]
            async with http.ws_connect(where, max_msg_size=0) as socket:
                yield await Page(socket, http, f"ws://127.0.0.1:{port}").begin()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
