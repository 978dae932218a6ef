"""What a relay does for pages in browsers: the subprotocol of theirs, and whose pages are served
(docs/protocol.md §18).
"""

import json
import os
from urllib.parse import urlsplit

from peers.conformance.checks import Checks
from peers.conformance.faults import Fault, NotTried, ended, within
from peers.conformance.frames import Kind, WebSocketFrames
from peers.conformance.relay_stage import NAMED, RELAY, WEBSOCKET, Answer, Member, RelayStage
from peers.conformance.talk import Talk

__all__: list[str] = []

check: Checks[RelayStage] = RELAY
PAGE = (*WEBSOCKET, "Sec-WebSocket-Protocol: roam-relay.1, roam-relay.1-page")
_ELSEWHERE = "Origin: https://elsewhere.invalid"


async def _page(stage: RelayStage, target: str, *headers: str) -> Answer:
    """Ask as a page.

    Raises:
        NotTried: the relay knows no pages.
    """
    answer = await stage.ask(target, *PAGE, *headers)
    named = answer.headers.get("sec-websocket-protocol")
    if named == "roam-relay.1" or answer.status == 426:
        raise NotTried("the relay knows nothing of pages")
    if answer.status != 101:
        raise Fault(f"refuses a page by status {answer.status}, which no page sees (R18.24)")
    if named != "roam-relay.1-page":
        raise Fault(f"names {named!r} to a page (R18.23)")
    return answer


async def _first(answer: Answer) -> tuple[Kind, bytes]:
    """Return the first frame that comes."""
    frames = WebSocketFrames(is_client=True)
    async with within("first frame"):
        while True:
            data = await answer.pipe.receive()
            if not data:
                raise ended("a first frame")
            frames.feed(data)
            for kind, payload in frames.take():
                return kind, payload


async def _closed(answer: Answer) -> tuple[int, str]:
    """Return the code and the reason of the close frame that comes first."""
    kind, payload = await _first(answer)
    if kind is not Kind.CLOSE or len(payload) < 2:
        raise Fault(f"a frame of kind {kind.name.lower()} in place of a close with its code")
    return int.from_bytes(payload[:2], "big"), payload[2:].decode()


@check("R18.23", "answers a page with the subprotocol of pages, wherever it stands")
async def named(stage: RelayStage) -> None:
    answer = await _page(stage, "/v1/control")
    member = Member(stage)
    member.talk = Talk(answer.stream)
    await member.challenged()


@check("R18.24", "says a refusal to a page in a close frame, with its status and its code")
async def refusals(stage: RelayStage) -> None:
    member = await stage.member()
    answer = await _page(stage, member.leg_target(os.urandom(16).hex()))
    if (said := await _closed(answer)) != (4404, "ticket_unknown"):
        raise Fault(f"closes with {said}")


@check("R18.25", "tells a page the ticket for its next plane in a text message, first of all")
@check("R18.27", "takes the early bytes of a page from the query of its request")
async def legs(stage: RelayStage) -> None:
    caller, callee = await Member(stage).offering(), await Member(stage).offering()
    number = caller.ask(callee.guid, "central")
    asked = await callee.answer()
    response = await caller.here.find("service_response", request=number)
    answer = await _page(stage, caller.leg_target(response["ticket"]) + "&early=_-8")
    kind, payload = await _first(answer)
    try:
        told = json.loads(payload) if kind is Kind.TEXT else {}
    except ValueError:
        told = {}
    ticket = told.get("resume") if isinstance(told, dict) else None
    if not (isinstance(ticket, str) and len(ticket) == 32):
        raise Fault(f"a frame of kind {kind.name.lower()} in place of the ticket")
    other = (await callee.leg(asked["ticket"])).stream
    async with within("early bytes of a page"):
        if (heard := await other.receive()) != b"\xff\xef":
            raise Fault(f"the early bytes arrive as {heard!r} (R18.27)")


@check("R18.26", "sends no text to who has not named the subprotocol of pages")
async def no_text(stage: RelayStage) -> None:
    caller, callee = await Member(stage).offering(), await Member(stage).offering()
    number = caller.ask(callee.guid, "central")
    asked = await callee.answer()
    response = await caller.here.find("service_response", request=number)
    answer = await caller.leg(response["ticket"], websocket=True)
    other = (await callee.leg(asked["ticket"])).stream
    other.send(b"the first")
    if (said := await _first(answer)) != (Kind.BINARY, b"the first"):
        raise Fault(f"a frame of kind {said[0].name.lower()} comes first")


@check("R18.29", "refuses pages of origins that it does not serve, and nobody without one")
async def origins(stage: RelayStage) -> None:
    answer = await _page(stage, "/v1/control", _ELSEWHERE)
    if (said := await _closed(answer)) != (4403, "refused"):
        raise Fault(f"closes with {said} to a page from elsewhere")
    answer = await stage.ask("/v1/control", *NAMED, _ELSEWHERE)
    if (answer.status, answer.code) != (403, "refused"):
        raise Fault(f"status {answer.status} ({answer.code}) to a page from elsewhere")
    own = urlsplit(stage.url).hostname
    for headers in ((), (f"Origin: https://{own}:9",)):
        answer = await stage.ask("/v1/control", *NAMED, *headers)
        if answer.status != 101:
            raise Fault(f"status {answer.status} with {headers or 'no origin'}")


@check("R18.30", "lets only pages that it serves read the look-up")
async def look_up(stage: RelayStage) -> None:
    await _page(stage, "/v1/control")
    target, own = f"/v1/peers/{'a' * 52}/services/chat", f"http://{urlsplit(stage.url).hostname}"
    for origin, right in ((own, own), ("https://elsewhere.invalid", None)):
        answer = await stage.ask(target, f"Origin: {origin}")
        if (allowed := answer.headers.get("access-control-allow-origin")) != right:
            raise Fault(f"allows {allowed!r} to a page of {origin}")
