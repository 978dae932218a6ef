"""Serve the chat: `python -m examples.web`, with a relay of its own or at another one."""

import asyncio
import contextlib
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import click
from aiohttp import web

from examples.web.room import Room
from peers import Identity, Peer, RoamRelayError
from relay.config import RelayConfig
from relay.server import RelayServer

__all__ = ["application", "chat", "main"]

PAGE = Path(__file__).parent / "page"
BUNDLE = Path(__file__).parents[2] / "js" / "dist" / "roam-relay.min.js"
SERVICE = "room"
FILES = {
    "/": (PAGE / "index.html", "text/html"),
    "/chat.js": (PAGE / "chat.js", "text/javascript"),
    "/chat.css": (PAGE / "chat.css", "text/css"),
    "/roam-relay.js": (BUNDLE, "text/javascript"),
}


def application(relay: str, guid: str) -> web.Application:
    """Return what serves the page: for pages that attach to a relay, and call on a room."""
    sockets = relay.replace("http", "ws", 1)
    headers = {
        "Content-Security-Policy": (
            f"default-src 'none'; script-src 'self'; style-src 'self'; "
            f"connect-src 'self' {relay} {sockets}; base-uri 'none'; form-action 'none'; "
            f"frame-ancestors 'none'"
        ),
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-cache",
    }

    async def file(request: web.Request) -> web.Response:
        path, kind = FILES[request.path]
        body = await asyncio.to_thread(path.read_bytes)
        return web.Response(body=body, content_type=kind, charset="utf-8", headers=headers)

    async def room(_: web.Request) -> web.Response:
        return web.json_response(
            {"relay": relay, "guid": guid, "service": SERVICE}, headers=headers
        )

    app = web.Application()
    for where in FILES:
        app.router.add_get(where, file)
    app.router.add_get("/room.json", room)
    return app


@contextlib.asynccontextmanager
async def chat(relay: str | None, host: str, port: int) -> AsyncIterator[tuple[str, str, str]]:
    """Run the room and its page; yield the page's address, the relay's, and the room's GUID."""
    async with contextlib.AsyncExitStack() as stack:
        if relay is None:
            own = RelayServer(RelayConfig(host=(host,), port=0))
            relay = (await stack.enter_async_context(own)).url
        peer = await stack.enter_async_context(Peer(Identity.generate(), relay))
        serving = asyncio.ensure_future(peer.serve(SERVICE, Room().serve, max_sessions=500))
        stack.push_async_callback(_end, serving)
        runner = web.AppRunner(application(relay, peer.guid))
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, host, port).start()
        await peer.published()
        yield f"http://{host}:{runner.addresses[0][1]}/", relay, peer.guid


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _command() -> str:
    """Return how a terminal calls `peer`: what was installed for this program alone by its path."""
    beside = Path(sys.executable).with_name("peer")
    return "peer" if shutil.which("peer") or not beside.exists() else str(beside)


async def _run(relay: str | None, host: str, port: int) -> None:
    over = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, over.set)
    async with chat(relay, host, port) as (page, where, guid):
        click.echo(
            f"A chat:           {page}\n"
            f"As somebody else: {page}?as=bob   (in another tab, or another browser)\n"
            f"From a terminal:  {_command()} --relay {where} connect {guid} {SERVICE} --mode auto\n"
            "Take the network from one of them for a while, and give it back. Ctrl-C ends it all."
        )
        await over.wait()


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--relay", metavar="URL", help="A relay that is there; else one of its own.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to serve.")
@click.option("--port", default=8080, show_default=True, help="Where to serve the page.")
def main(relay: str | None, host: str, port: int) -> None:
    """Serve a chat for pages and terminals. docs/web.md.

    Browsers give pages the cryptography that they need only over https, and from this machine
    itself: elsewhere, put both this and the relay behind https.
    """
    if not BUNDLE.exists():
        raise click.ClickException(f"there is no {BUNDLE.name} yet: say `make demo-web`")
    try:
        asyncio.run(_run(relay, host, port))
    except (RoamRelayError, OSError) as error:
        raise click.ClickException(f"{error}") from None


if __name__ == "__main__":
    main()
