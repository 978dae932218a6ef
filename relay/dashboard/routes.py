"""Where the dashboard is served: the page at `/`, for a browser of who may see it, and what it
shows as server-sent events.

The page has nothing in it but itself, whoever asks. What it shows is for whom the metrics are for.
"""

import base64
import contextlib
import hashlib
import re
from functools import cache
from importlib import resources

from aiohttp import web
from aiohttp.typedefs import Handler

from protocol.errors import Code
from relay.dashboard.stream import Stream, TooMany
from relay.http import AdminRoutes, refusal

__all__ = ["EVENTS", "DashboardRoutes", "page"]

EVENTS = "/dashboard/events"
_INLINE = re.compile(r"<(script|style)>(.*?)</\1>", re.DOTALL)
_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


@cache
def page() -> tuple[str, str]:
    """Return the page, and the policy under which a browser runs its own script and style, and
    nothing else, makes no HTML of any text, and asks nobody but this relay."""
    text = resources.files("relay.dashboard").joinpath("page.html").read_text(encoding="utf-8")
    hashes: dict[str, list[str]] = {"script": [], "style": []}
    for kind, content in _INLINE.findall(text):
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        hashes[kind].append(f"'sha256-{digest}'")
    policy = "; ".join(
        (
            "default-src 'none'",
            f"script-src {' '.join(hashes['script'])}",
            f"style-src {' '.join(hashes['style'])}",
            "connect-src 'self'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        )
    )
    return text, policy


class DashboardRoutes:
    """The routes of one relay, by path."""

    def __init__(self, admin: AdminRoutes, stream: Stream, otherwise: Handler) -> None:
        """`otherwise` answers at `/` whoever is no operator's browser."""
        self._admin = admin
        self._stream = stream
        self._otherwise = otherwise
        self.routes: dict[str, Handler] = {"/": self._page, EVENTS: self._events}

    async def _page(self, request: web.Request) -> web.StreamResponse:
        """Serve the page."""
        wants_page = "text/html" in request.headers.get("Accept", "")
        if not (wants_page and self._admin.is_for(request)):
            return await self._otherwise(request)
        text, policy = page()
        headers = _HEADERS | {"Content-Security-Policy": policy}
        return web.Response(text=text, content_type="text/html", headers=headers)

    async def _events(self, request: web.Request) -> web.StreamResponse:
        """Tell what the page shows, until it goes."""
        refused = self._admin.refusal(request, by_browser=True)
        if refused is not None:
            return refused
        # Told before the answer begins: it cannot be taken back.
        told = self._stream.told()
        async with contextlib.aclosing(told):
            try:
                first = await anext(told, b"")
            except TooMany:
                reason = "as many look at the dashboard as may: close one"
                return refusal(Code.LIMIT_EXCEEDED, reason, 5.0)
            response = web.StreamResponse(
                headers=_HEADERS | {"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"}
            )
            with contextlib.suppress(ConnectionError):  # The page has gone.
                await response.prepare(request)
                await response.write(first)
                async for part in told:
                    await response.write(part)
        return response
