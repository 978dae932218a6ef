"""What a page in a browser is told, which sees neither the headers of an answer nor a refusal; and
whose pages are served.

A page speaks a subprotocol of its own. To whoever does not, nothing here changes anything.
"""

from collections.abc import Iterable
from urllib.parse import urlsplit

import msgspec
from aiohttp import web

from protocol.hosts import is_address
from protocol.messages import CODE_HEADER, PAGE_PROTOCOL
from relay.http import answers
from relay.http.raw_request import is_raw_upgrade
from relay.http.takeover import can_become, chosen_protocol
from relay.http.visit import visitor_of

__all__ = ["Pages", "hands_out", "refuse_page"]

_REFUSED = 4000
"""What is added to the status of a refusal, for the code of a close frame."""
_CLOSES_WITHIN = 1.0
"""Seconds for a page to close as well: a browser does at once."""
_MOST = 1024
"""Bytes of a message that may come meanwhile."""
_ANY = "*"


class Pages:
    """The origins of pages that a relay serves."""

    def __init__(self, origins: Iterable[str] = ()) -> None:
        self._origins = frozenset(origin.rstrip("/").lower() for origin in origins)

    def serves(self, request: web.Request) -> bool:
        """Whether a request is a served page's, or no page's: none has the raw carrier."""
        named = request.headers.getall("Origin", ())
        return (
            is_raw_upgrade(request.headers)
            or not named
            or (len(named) == 1 and self._serves(named[0], request))
        )

    def let_read(self, request: web.Request, response: web.StreamResponse) -> None:
        """Let the page that asks read an answer, where it is served (CORS)."""
        if "Origin" not in request.headers:
            return
        response.headers["Vary"] = "Origin"
        if self.serves(request):
            response.headers["Access-Control-Allow-Origin"] = request.headers["Origin"]
            response.headers["Access-Control-Expose-Headers"] = f"{CODE_HEADER}, Retry-After"

    def _serves(self, origin: str, request: web.Request) -> bool:
        if _ANY in self._origins or origin.lower() in self._origins:
            return True
        host = _host_in(origin)
        if not host or host != _host_in(f"//{request.headers.get('Host', '')}"):
            return False
        # Over plain HTTP a name says nothing: anybody's may lead here (DNS rebinding). A
        # certificate is for a name, and a proxy has looked at it.
        return (
            is_address(host)
            or host == "localhost"
            or request.secure
            or bool(visitor_of(request).origin.proxy)
        )


def hands_out(ticket: str) -> str:
    """Return the text that tells a page the ticket for its session's next plane."""
    return msgspec.json.encode({"resume": ticket}).decode()


async def refuse_page(request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
    """Return a refusal as it is; to a page that asks for a WebSocket, say it in a close frame."""
    code = response.headers.get(CODE_HEADER, "")
    if not code or chosen_protocol(request) != PAGE_PROTOCOL:
        return response
    websocket = web.WebSocketResponse(
        protocols=(PAGE_PROTOCOL,),
        compress=False,
        timeout=_CLOSES_WITHIN,
        max_msg_size=_MOST,
    )
    if not can_become(websocket, request):
        return response
    reason = " ".join(filter(None, (code, response.headers.get("Retry-After", ""))))
    try:
        await websocket.prepare(request)
        await websocket.close(code=_REFUSED + response.status, message=reason.encode())
    except ConnectionError:
        return answers.nobody()
    return websocket


def _host_in(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
