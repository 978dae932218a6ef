"""What the relay's HTTP routes answer where there is no upgrade: JSON, and codes with a status."""

import base64
import binascii

import msgspec
from aiohttp import web

from protocol.errors import Code, RoamRelayError
from protocol.messages import CODE_HEADER, EARLY_HEADER, MAX_EARLY, UPGRADE_TOKEN
from relay.http.origin import Headers

__all__ = [
    "early_bytes",
    "early_in_query",
    "json",
    "nobody",
    "not_an_upgrade",
    "refusal",
    "refused",
]

_STATUS = {
    Code.TICKET_UNKNOWN: 404,
    Code.TICKET_USED: 409,
    Code.TICKET_EXPIRED: 410,
    Code.TICKET_FOREIGN: 403,
    Code.NOT_ADMITTED: 403,
    Code.REFUSED: 403,
    Code.BAD_MESSAGE: 400,
    Code.LIMIT_EXCEEDED: 429,
    Code.RESTARTING: 503,
    Code.CLUSTER_UNAVAILABLE: 503,
    Code.PEER_OFFLINE: 404,
    Code.UNKNOWN_PEER: 404,
    Code.UNKNOWN_SERVICE: 404,
}


def json(body: object, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(body),
        status=status,
        content_type="application/json",
        headers=headers,
    )


def refusal(code: Code, reason: str, retry_after: float | None = None) -> web.Response:
    headers = {CODE_HEADER: code.value}
    if retry_after is not None:
        headers["Retry-After"] = str(int(retry_after + 1))
    body = {"code": code, "reason": reason}
    return json(body, _STATUS.get(code, 500), headers)


def refused(error: RoamRelayError, retry_after: float | None = None) -> web.Response:
    """Return what an error of ours is on HTTP."""
    return refusal(error.code or Code.INTERNAL, error.reason, retry_after)


def nobody() -> web.Response:
    """Return what is left to say where the sender has gone: nobody reads it."""
    return web.Response(status=400)


def not_an_upgrade(dropped: str) -> web.Response:
    """Say that a request asks for no upgrade; what is to be done about it where a proxy has dropped
    what does: no peer asks without it."""
    reason = f"ask for an upgrade to {UPGRADE_TOKEN} or websocket"
    if dropped:
        reason += f"; where a peer has asked, {dropped}: it must pass Upgrade and Connection on"
    return json(
        {"code": Code.UPGRADE_REQUIRED, "reason": reason},
        426,
        {
            "Upgrade": f"{UPGRADE_TOKEN}, websocket",
            "Connection": "Upgrade",
            CODE_HEADER: Code.UPGRADE_REQUIRED.value,
        },
    )


def early_bytes(headers: Headers) -> bytes | None:
    """Return the bytes that a request brings for the other leg; None where they are malformed."""
    try:
        data = base64.b64decode(headers.get(EARLY_HEADER, ""), validate=True)
    except (binascii.Error, ValueError):
        return None
    return data if len(data) <= MAX_EARLY else None


def early_in_query(text: str) -> bytes | None:
    """Return the same of a page, which can set no header: base64url without padding."""
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    return data if len(data) <= MAX_EARLY else None
