"""Debian's Firefox without a window, driven by WebDriver BiDi over a WebSocket: its tabs answer as
those of `tests.relay.dashboard.chromium` do. What only one of the two browsers has is not here.
"""

import asyncio
import contextlib
import itertools
import json
import os
import shutil
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

__all__ = ["FirefoxTab", "firefox"]

FIREFOX = shutil.which("firefox-esr") or shutil.which("firefox")
LONG = 60.0
"""Seconds for anything to happen."""
QUIET = {
    # Nothing is fetched but what the tests ask for.
    "app.normandy.enabled": False,
    "app.update.enabled": False,
    "browser.region.network.url": "",
    "browser.safebrowsing.malware.enabled": False,
    "browser.safebrowsing.phishing.enabled": False,
    "browser.shell.checkDefaultBrowser": False,
    "browser.startup.page": 0,
    "datareporting.policy.dataSubmissionEnabled": False,
    "dom.push.connection.enabled": False,
    "extensions.getAddons.cache.enabled": False,
    "extensions.update.enabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "services.settings.server": "data:,",
    "toolkit.telemetry.enabled": False,
    # Two cores are shared with what else is tested.
    "dom.ipc.processPrelaunch.enabled": False,
}


class _Connection:
    """Commands to one browser, answered in whatever order, and the events between."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self.tabs: dict[str, FirefoxTab] = {}

    async def ask(self, method: str, **words: Any) -> dict[str, Any]:
        number = next(self._numbers)
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            await self._socket.send_json({"id": number, "method": method, "params": words})
            async with asyncio.timeout(LONG):
                said = await answer
        finally:
            del self._waiting[number]
        assert said["type"] == "success", said
        return dict(said["result"])

    async def read(self) -> None:
        """Hand on what is said, until the browser ends."""
        async for message in self._socket:
            said = json.loads(message.data)
            answer = self._waiting.get(said.get("id", 0))
            if answer is not None and not answer.done():
                answer.set_result(said)
            elif said.get("method") == "log.entryAdded":
                words = said["params"]
                tab = self.tabs.get(words["source"].get("context", ""))
                if tab is not None:
                    tab.complaints.append(str(words["text"]))


class FirefoxTab:
    """One tab of a browser."""

    def __init__(self, connection: _Connection, context: str) -> None:
        self._connection = connection
        self._context = context
        self.complaints: list[str] = []
        """What the console and uncaught errors have said."""
        connection.tabs[context] = self

    @contextlib.asynccontextmanager
    async def another(self) -> AsyncIterator["FirefoxTab"]:
        """Open one more tab beside this one."""
        made = await self._connection.ask("browsingContext.create", type="tab")
        yield FirefoxTab(self._connection, made["context"])

    async def run(self, script: str) -> Any:
        """Run a script; return what it is, or what its promise becomes."""
        what = script.strip().rstrip(";")
        found = await self._connection.ask(
            "script.evaluate",
            expression=f"(async () => JSON.stringify((await ({what})) ?? null))()",
            target={"context": self._context},
            awaitPromise=True,
        )
        assert found["type"] == "success", found
        return json.loads(found["result"].get("value", "null"))

    async def until(self, script: str) -> Any:
        """Run a script again and again, until what it is is true."""
        async with asyncio.timeout(LONG):
            while not (found := await self.run(script)):
                await asyncio.sleep(0.05)
        return found

    async def open(self, url: str) -> None:
        """Open an address, and wait until the page is there."""
        await self._connection.ask(
            "browsingContext.navigate", context=self._context, url=url, wait="complete"
        )

    async def network(self, *, up: bool) -> None:
        """Take the network from the page, or give it back."""
        conditions = None if up else {"type": "offline"}
        await self._connection.ask(
            "emulation.setNetworkConditions",
            networkConditions=conditions,
            contexts=[self._context],
        )

    async def show(self) -> None:
        """Put it in front of the others, which are hidden then."""
        await self._connection.ask("browsingContext.activate", context=self._context)


@contextlib.asynccontextmanager
async def firefox(folder: Path) -> AsyncIterator[FirefoxTab]:
    """Run a browser whose files are in a folder; yield its tab."""
    if FIREFOX is None:
        if os.environ.get("LAB_REQUIRED"):
            raise AssertionError("needs firefox-esr")
        pytest.skip("needs firefox-esr")
    profile = folder / "firefox"
    profile.mkdir()
    lines = [
        f"user_pref({json.dumps(name)}, {json.dumps(value)});" for name, value in QUIET.items()
    ]
    (profile / "user.js").write_text("\n".join(lines) + "\n")
    process = await asyncio.create_subprocess_exec(
        *(FIREFOX, "--headless", "--no-remote", "--profile", str(profile)),
        *("--remote-debugging-port", "0", "about:blank"),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        env={**os.environ, "HOME": str(folder), "MOZ_HEADLESS": "1"},
        start_new_session=True,
    )
    try:
        port = await _port(process, profile / "WebDriverBiDiServer.json")
        async with (
            aiohttp.ClientSession() as http,
            http.ws_connect(f"ws://127.0.0.1:{port}/session", max_msg_size=0) as socket,
        ):
            connection = _Connection(socket)
            reading = asyncio.ensure_future(connection.read())
            try:
                await connection.ask("session.new", capabilities={})
                await connection.ask("session.subscribe", events=["log.entryAdded"])
                tree = await connection.ask("browsingContext.getTree")
                yield FirefoxTab(connection, tree["contexts"][0]["context"])
            finally:
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


async def _port(process: asyncio.subprocess.Process, ready: Path) -> int:
    """Return where the browser is driven, once it says so."""
    async with asyncio.timeout(LONG):
        while True:
            assert process.returncode is None
            with contextlib.suppress(OSError, ValueError):
                return int(json.loads(ready.read_text())["ws_port"])
            await asyncio.sleep(0.02)
