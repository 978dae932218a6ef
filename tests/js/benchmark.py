"""`python -m tests.js.benchmark`: messages and mebibytes a second between a page in Chromium and a
peer of this library, beside a bare WebSocket between the same two programs, on loopback.
"""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from aiohttp import WSMsgType, web

from peers import Identity, Peer, Session
from tests.js.pages import call, open_page, served
from tests.relay.dashboard.chromium import Page, browser
from tests.support.processes import relay as relay_process

SMALL, LARGE = (100, 20_000), (65_536, 1_024)
"""Bytes of a message, and how many of them."""

OURS = """
(async () => {
  const session = driven.session, message = new Uint8Array(SIZE), begun = performance.now();
  for (let one = 0; one < COUNT; one++) await session.send(message);
  await session.receive();
  return (performance.now() - begun) / 1000;
})()
"""
THEIRS = """
(async () => {
  const session = driven.session;
  await session.send("go SIZE COUNT");
  const begun = performance.now();
  for (let one = 0; one < COUNT; one++) await session.receive();
  return (performance.now() - begun) / 1000;
})()
"""
BARE = """
(async () => {
  const socket = new WebSocket("URL");
  socket.binaryType = "arraybuffer";
  await new Promise((done) => { socket.onopen = done; });
  const message = new Uint8Array(SIZE), begun = performance.now();
  let got = 0;
  const over = new Promise((done) => {
    socket.onmessage = () => { if (++got === WANTED) done(); };
  });
  if (BACK) socket.send("go SIZE COUNT");
  else for (let one = 0; one < COUNT; one++) {
    socket.send(message);
    while (socket.bufferedAmount > 1 << 22) await new Promise((done) => setTimeout(done, 1));
  }
  await over;
  socket.close();
  return (performance.now() - begun) / 1000;
})()
"""


async def serve(session: Session) -> None:
    """Take messages until one says `done` is wanted: after each COUNT of a kind; or send some."""
    counts = dict((SMALL, LARGE))
    got = 0
    async for message in session:
        if message.startswith(b"go "):
            size, count = map(int, message.split()[1:])
            for _ in range(count):
                await session.send(bytes(size))
            continue
        got += 1
        if got == counts[len(message)]:
            got = 0
            await session.send(b"done")


@contextlib.asynccontextmanager
async def bare() -> AsyncIterator[str]:
    """Serve a WebSocket that does the same; yield its address."""

    async def handle(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(compress=False)
        await socket.prepare(request)
        counts = dict((SMALL, LARGE))
        got = 0
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                size, count = map(int, message.data.split()[1:])
                for _ in range(count):
                    await socket.send_bytes(bytes(size))
                continue
            got += 1
            if got == counts[len(message.data)]:
                await socket.send_bytes(b"done")
        return socket

    app = web.Application()
    app.router.add_get("/", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"ws://127.0.0.1:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


async def measure(page: Page, script: str, url: str = "") -> tuple[float, float]:
    """Return the median of three: messages, and mebibytes, a second."""
    rates = []
    for size, count in (SMALL, LARGE):
        filled = script.replace("URL", url).replace("SIZE", f"{size}").replace("COUNT", f"{count}")
        seconds = sorted([float(await page.run(filled)) for _ in range(3)])[1]
        rates.append(count / seconds)
    return rates[0], rates[1] * LARGE[0] / 2**20


async def main() -> None:
    """Measure, and print a table."""
    with tempfile.TemporaryDirectory() as name, relay_process(Path(name)) as (relay, _):
        async with (
            served() as url,
            bare() as socket,
            browser(Path(name)) as page,
            Peer(Identity.generate(), relay) as peer,
        ):
            serving = asyncio.ensure_future(peer.serve("chat", serve))
            await peer.published()
            await open_page(page, url)
            await call(page, "open", relay)
            await call(page, "connect", peer.guid, "chat")
            there = BARE.replace("BACK", "false").replace("WANTED", "1")
            back = BARE.replace("BACK", "true").replace("WANTED", "COUNT")
            print("| | messages of 100 bytes a second | MiB a second |\n| --- | --- | --- |")
            for what, script in (
                ("page to peer, a session by the relay", OURS),
                ("page to program, a bare WebSocket", there),
                ("peer to page, a session by the relay", THEIRS),
                ("program to page, a bare WebSocket", back),
            ):
                messages, mebibytes = await measure(page, script, socket)
                print(f"| {what} | {messages:,.0f} | {mebibytes:.0f} |", flush=True)
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(main())
