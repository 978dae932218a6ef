"""Pages with the package in them: served, opened, and asked."""

import asyncio
import contextlib
import fcntl
import json
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from aiohttp import web

from tests.js.firefox import FirefoxTab
from tests.relay.dashboard.chromium import Page

__all__ = ["BUNDLE", "Tab", "build", "call", "open_page", "served"]

Tab = Page | FirefoxTab

ROOT = Path(__file__).parents[2]
BUNDLE = ROOT / "js" / "dist" / "roam-relay.min.js"
_CSP = (
    "default-src 'none'; script-src 'self'; connect-src http: ws:; img-src 'self'; base-uri 'none'"
)
_PAGE = '<!doctype html><title>peer</title><script type="module" src="/page.js"></script>'


def build() -> None:
    """Build the package, once for all workers that want it."""
    (ROOT / "js" / "build").mkdir(exist_ok=True)
    with (ROOT / "js" / "build" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made = ["make", "--no-print-directory", "js/dist/roam-relay.min.js"]
        done = subprocess.run(made, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


@contextlib.asynccontextmanager
async def served(host: str = "127.0.0.1") -> AsyncIterator[str]:
    """Serve the page; yield its address."""
    await asyncio.to_thread(build)

    def file(path: Path, kind: str) -> Any:
        text = path.read_bytes()

        async def answer(_: web.Request) -> web.Response:
            return web.Response(body=text, content_type=kind)

        return answer

    async def page(_: web.Request) -> web.Response:
        headers = {"Content-Security-Policy": _CSP}
        return web.Response(text=_PAGE, content_type="text/html", headers=headers)

    app = web.Application()
    app.router.add_get("/", page)
    app.router.add_get("/roam-relay.min.js", file(BUNDLE, "text/javascript"))
    app.router.add_get("/page.js", file(Path(__file__).with_name("page.js"), "text/javascript"))
    app.router.add_get("/favicon.ico", file(BUNDLE, "image/x-icon"))
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, host, 0).start()
    try:
        yield f"http://{host}:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


async def open_page(page: Tab, url: str) -> Tab:
    """Open the page, and wait for its script."""
    await page.open(url)
    await page.until("window.driven !== undefined")
    return page


async def call(page: Tab, method: str, *arguments: Any, on: str = "driven") -> Any:
    """Call a method of the page's peer."""
    words = ", ".join(json.dumps(one) for one in arguments)
    return await page.run(f"{on}.{method}({words})")
