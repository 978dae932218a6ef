"""`python -m tests.js.peerjs`: two pages that talk by PeerJS and its own server, beside two that
talk by a session and a relay: how much, and what is there after the network was gone for a while.

All of it runs in a network namespace of its own, with one address beside the loopback's, as
browsers make no path over that. PeerJS is put into a temporary folder by npm: nothing else depends
on it.
"""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from tests.js.benchmark import SMALL
from tests.js.pages import call, open_page, served
from tests.relay.dashboard.chromium import Page, browser
from tests.support.ports import free_port
from tests.support.processes import relay as relay_process

PACKAGES = ("peerjs@1.5.5", "peer@1.0.2")
INSIDE = "ROAM_RELAY_PEERJS"
"""The variable that says in which folder the packages are, inside of the namespace."""
FLAGS = ("--disable-features=WebRtcHideLocalIpsWithMdns",)
"""Pages would tell one another names in place of addresses, which nobody there resolves."""
LARGE = (65_536, 256)
"""Bytes of a large message, and how many of them."""
MESSAGES = 10_000
"""Numbered messages."""
GONE = ((3.0, 200, False), (30.0, 50, False), (30.0, 50, True))
"""For how many seconds the network is gone; how many messages are said a second meanwhile; whether
the program watches the connection below PeerJS, which ends nothing where that alone has failed."""

PASS = "void (window.pass = (ms) => new Promise((done) => setTimeout(done, ms)))"
SESSION = """
(async () => {
  const session = driven.session, message = new Uint8Array(SIZE), begun = performance.now();
  for (let one = 0; one < COUNT; one++) await session.send(message);
  await session.receive();
  return (performance.now() - begun) / 1000;
})()
"""
SESSION_THERE = """
void (async () => {
  for (let got = 0; got < COUNT; got++) await driven.session.receive();
  await driven.session.send("done");
})()
"""
PEER = """
new Promise((done, failed) => {
  window.peer = new Peer(undefined, { host: "127.0.0.1", port: PORT, config: { iceServers: [] } });
  peer.on("open", done);
  peer.on("error", failed);
  // As its documentation says: the way back to its server.
  peer.on("disconnected", () => peer.reconnect());
  peer.on("connection", (conn) => {
    window.conn = conn;
    conn.on("data", (data) => window.hear?.(data));
  });
})
"""
CONNECT = """
(window.dial = (serialization) => new Promise((done) => {
  const conn = peer.connect("THERE", { reliable: true, serialization });
  window.conn = conn;
  const below = conn.peerConnection;
  below.addEventListener("connectionstatechange", () => {
    if (window.watches && below.connectionState === "failed") conn.close();
  });
  conn.on("open", () => done(true));
  conn.on("data", (data) => window.hear?.(data));
  conn.on("close", () => window.again?.());
  conn.on("error", () => window.again?.());
}))("KIND")
"""
CHANNEL = """
(async () => {
  const message = new Uint8Array(SIZE), begun = performance.now();
  const over = new Promise((done) => { window.hear = done; });
  for (let one = 0; one < COUNT; one++) {
    conn.send(message);
    while (conn.dataChannel.bufferedAmount > 1 << 22) await pass(1);
  }
  await over;
  return (performance.now() - begun) / 1000;
})()
"""
CHANNEL_THERE = """
void (() => { let got = 0; window.hear = () => { if (++got === COUNT) conn.send("done"); }; })()
"""
SAY_ALL = """
void (async () => {
  let isDialing = false;
  window.said = 0; window.dials = 0;
  // What its documentation leaves to the program: to connect again, here until that has worked.
  window.again = async () => {
    if (isDialing) return;
    isDialing = true;
    for (; !conn.open; dials += 1) {
      dial("KIND");
      for (let one = 0; one < 50 && !conn.open; one++) await pass(100);
    }
    isDialing = false;
  };
  const begun = performance.now();
  while (said < COUNT) {
    // What is said is due; while there is no connection it waits, and nothing of it is given away.
    const due = Math.min(COUNT, (performance.now() - begun) / 1000 * RATE);
    while (conn.open && said < due) conn.send(`${++said}`);
    await pass(10);
  }
})()
"""
SAY_ALL_SESSION = """
void (async () => {
  window.saidThere = 0;
  const begun = performance.now();
  while (saidThere < COUNT) {
    while (saidThere < Math.min(COUNT, (performance.now() - begun) / 1000 * RATE)) {
      await driven.session.send(`${++saidThere}`);
    }
    await pass(10);
  }
})()
"""
HEAR_ALL = """
void (() => {
  window.heard = []; window.heardThere = [];
  window.hear = (data) => heard.push(Number(data));
  window.reading ??= (async () => {
    for await (const one of driven.session) heardThere.push(Number(text(one)));
  })();
})()
"""
COUNTED = """
((numbers) => [
  COUNT - new Set(numbers).size, numbers.length - new Set(numbers).size,
  numbers.filter((one, place) => place && one <= numbers[place - 1]).length,
])
"""


def filled(script: str, **words: object) -> str:
    for name, word in words.items():
        script = script.replace(name, str(word))
    return script


def enter() -> None:
    """Fetch PeerJS, and go on in a namespace."""
    with tempfile.TemporaryDirectory() as name:
        npm = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", name, *PACKAGES]
        subprocess.run(npm, check=True)
        own = ["unshare", "--net"] + ([] if os.geteuid() == 0 else ["--map-root-user"])
        inside = [*own, sys.executable, "-m", "tests.js.peerjs", *sys.argv[1:]]
        sys.exit(subprocess.run(inside, env={**os.environ, INSIDE: name}, check=False).returncode)


def nft(rules: str) -> None:
    subprocess.run(["nft", "-f", "-"], input=rules, text=True, check=True)


@contextlib.contextmanager
def server(folder: Path, port: int) -> Any:
    """Run PeerJS's own server."""
    program = folder / "node_modules" / "peer" / "dist" / "bin" / "peerjs.js"
    process = subprocess.Popen(
        ["node", str(program), "--port", str(port), "--host", "127.0.0.1"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert "Started" in process.stdout.readline()
        yield
    finally:
        process.terminate()
        process.wait()


@contextlib.asynccontextmanager
async def pages(packages: Path) -> AsyncIterator[tuple[Page, Page, list[int]]]:
    """Two pages that are connected in both ways; the ports of the relay and of PeerJS's server."""
    port = free_port()
    with (
        tempfile.TemporaryDirectory() as name,
        relay_process(Path(name)) as (relay, _),
        server(packages, port),
    ):
        library = (packages / "node_modules" / "peerjs" / "dist" / "peerjs.min.js").read_text()
        async with (
            served() as url,
            browser(Path(name), *FLAGS) as first,
            first.another() as second,
        ):
            for page in (first, second):
                await open_page(page, url)
                await page.run(library + "\n;void 0")
                await page.run(PASS)
            guid = await call(second, "open", relay)
            await call(second, "listen", "chat")
            await call(first, "open", relay)
            await call(first, "connect", guid, "chat")
            await second.until("driven.session !== null")
            there = await second.run(filled(PEER, PORT=port))
            await first.run(filled(PEER, PORT=port))
            await first.run(f"void (window.there = '{there}')")
            await first.show()  # The timers of who is hidden come once a second.
            yield first, second, [int(relay.rpartition(":")[2]), port]


async def dial(first: Page, second: Page, kind: str) -> None:
    there = await first.run("there")
    await second.run("void (window.conn = null)")
    await first.run(filled(CONNECT, THERE=there, KIND=kind))
    await second.until("window.conn?.open")


async def rates(first: Page, second: Page) -> None:
    """Print medians of three: messages, and mebibytes, a second."""
    print("| | messages of 100 bytes a second | MiB a second |\n| --- | --- | --- |")
    ways = (
        ("page to page, a session by the relay", "", SESSION, SESSION_THERE),
        ("page to page, PeerJS as it comes", "binary", CHANNEL, CHANNEL_THERE),
        ('page to page, PeerJS with `serialization: "raw"`', "raw", CHANNEL, CHANNEL_THERE),
    )
    for what, kind, here, there in ways:
        if kind:
            await dial(first, second, kind)
        found = []
        for size, count in (SMALL, LARGE):
            seconds = []
            for _ in range(3):
                await second.run(filled(there, COUNT=count))
                seconds.append(float(await first.run(filled(here, SIZE=size, COUNT=count))))
            found.append(count / sorted(seconds)[1])
        print(f"| {what} | {found[0]:,.0f} | {found[1] * LARGE[0] / 2**20:.0f} |", flush=True)


async def losses(first: Page, second: Page, ports: list[int], how: tuple[float, int, bool]) -> None:
    """Say numbers while the network is gone three times; print what has come of them."""
    gone, rate, watches = how
    await first.run(f"void (window.watches = {json.dumps(watches)})")
    await dial(first, second, "binary")
    await second.run(HEAR_ALL)
    await first.run(filled(SAY_ALL, COUNT=MESSAGES, RATE=rate, KIND="binary"))
    await first.run(filled(SAY_ALL_SESSION, COUNT=MESSAGES, RATE=rate))
    whole = MESSAGES / rate
    numbers = ", ".join(map(str, ports))
    for _ in range(3):
        await asyncio.sleep(whole / 4 - gone)
        nft(
            "table inet gone { chain out { type filter hook output priority 0;\n"
            f"meta l4proto udp drop; tcp dport {{ {numbers} }} drop; "
            f"tcp sport {{ {numbers} }} drop; }}\n}}\n"
        )
        await asyncio.sleep(gone)
        nft("delete table inet gone")
    await asyncio.sleep(whole / 4)
    for page, name in ((first, "said"), (first, "saidThere"), (second, "heardThere.at(-1)")):
        await page.until(f"{name} === {MESSAGES}")
    with contextlib.suppress(TimeoutError):
        await second.until(f"heard.at(-1) === {MESSAGES}")
    theirs = "PeerJS, watched" if watches else "PeerJS"
    for what, name in (("a session by the relay", "heardThere"), (theirs, "heard")):
        lost, twice, unordered = await second.run(f"{filled(COUNTED, COUNT=MESSAGES)}({name})")
        print(f"| {gone:.0f} s | {what} | {lost:,} | {twice:,} | {unordered:,} |", flush=True)
    print(f"PeerJS was connected again {await first.run('dials')} times", flush=True)


def make_network() -> None:
    """Give the namespace an address that pages tell one another."""
    for words in (
        "link set lo up",
        "link add one type veth peer name other",
        "address add 198.51.100.1/24 dev one",
        "link set one up",
        "link set other up",
        # Pages that nobody gave a microphone tell the address alone by which the host goes out.
        "route add default via 198.51.100.2",
    ):
        subprocess.run(["ip", *words.split()], check=True)


async def main() -> None:
    """Measure, and print tables."""
    print(f"load {os.getloadavg()[0]:.1f}", flush=True)
    async with pages(Path(os.environ[INSIDE])) as (first, second, ports):
        if "losses" not in sys.argv:
            await rates(first, second)
        print(f"load {os.getloadavg()[0]:.1f}", flush=True)
        print(
            "| the network gone three times for | | lost | twice | out of order |\n|" + " --- |" * 5
        )
        for how in GONE:
            await losses(first, second, ports, how)
    print(f"load {os.getloadavg()[0]:.1f}", flush=True)


if __name__ == "__main__":
    if INSIDE in os.environ:
        make_network()
        asyncio.run(main())
    else:
        enter()
