"""What a relay does with planes: tickets, the legs that they admit, and the bytes between."""

import base64

from peers.conformance.checks import Checks
from peers.conformance.faults import QUIET, Fault, within
from peers.conformance.pipes import Pipe
from peers.conformance.relay_stage import RAW, RELAY, Answer, Member, RelayStage
from peers.conformance.talk import Talk
from protocol.identity import Identity

__all__: list[str] = []

check: Checks[RelayStage] = RELAY


class _Plane:
    """A plane that was agreed on, and nobody has come to."""

    def __init__(self, caller: Member, callee: Member) -> None:
        self.caller = caller
        self.callee = callee
        self.tickets = ("", "")

    @classmethod
    async def agreed(cls, stage: RelayStage) -> "_Plane":
        plane = cls(await Member(stage).offering(), await Member(stage).offering())
        caller, callee = plane.caller, plane.callee
        number = caller.ask(callee.guid, "central")
        asked = await callee.answer()
        response = await caller.here.find("service_response", request=number)
        plane.tickets = response["ticket"], asked["ticket"]
        return plane

    async def legs(self, *, websocket: tuple[bool, bool] = (False, False)) -> tuple[Answer, Answer]:
        """Open both."""
        mine, theirs = self.tickets
        first = await self.caller.leg(mine, websocket=websocket[0])
        second = await self.callee.leg(theirs, websocket=websocket[1])
        return first, second


async def _arrives(pipe: Pipe, wanted: bytes) -> None:
    heard = b""
    while len(heard) < len(wanted):
        async with within(f"byte {len(heard)} of {len(wanted)}"):
            data = await pipe.receive()
        if not data:
            raise Fault(f"the plane ended after {len(heard)} of {len(wanted)} bytes")
        heard += data
    if heard != wanted:
        raise Fault("other bytes arrive than were sent")


@check("R9.7", "answers 101 at once to the first leg")
@check("R9.8", "moves bytes both ways, unchanged")
async def both_ways(stage: RelayStage) -> None:
    for websocket in ((False, False), (True, False), (False, True), (True, True)):
        plane = await _Plane.agreed(stage)
        first, second = await plane.legs(websocket=websocket)
        one, other = first.stream, second.stream
        data = bytes(range(256)) * 1000
        one.send(data)
        await _arrives(other, data)
        other.send(data[::-1])
        await _arrives(one, data[::-1])


@check("R9.8", "keeps what comes before the other leg is there")
async def early_on_the_stream(stage: RelayStage) -> None:
    plane = await _Plane.agreed(stage)
    first = await plane.caller.leg(plane.tickets[0])
    first.stream.send(b"before anybody was there")
    second = await plane.callee.leg(plane.tickets[1])
    await _arrives(second.stream, b"before anybody was there")


@check("R9.9", "passes the end of one direction on, and goes on with the other")
async def half_close(stage: RelayStage) -> None:
    plane = await _Plane.agreed(stage)
    first, second = await plane.legs()
    one, other = first.stream, second.stream
    one.send(b"the last of this side")
    one.close()
    await _arrives(other, b"the last of this side")
    if await other.end():
        raise Fault("more arrives than was sent")
    other.send(b"and an answer")
    await _arrives(one, b"and an answer")


@check("R9.10", "ends both legs where one that has no half-close ends")
async def websocket_ends(stage: RelayStage) -> None:
    plane = await _Plane.agreed(stage)
    first, second = await plane.legs(websocket=(True, False))
    first.stream.send(b"x")
    await _arrives(second.stream, b"x")
    first.stream.close()
    await second.stream.end()


@check("R9.12", "takes early bytes with the request for a leg")
@check("R9.13", "sends them to the other leg before anything else")
async def early_bytes(stage: RelayStage) -> None:
    plane = await _Plane.agreed(stage)
    early = b"\xfb\xff\xfe" * 1365  # `+` and `/` in base64, and no padding.
    for count in (len(early), 1):
        plane = await _Plane.agreed(stage)
        told = base64.b64encode(early[:count]).decode()
        first = await plane.caller.leg(plane.tickets[0], f"Roam-Relay-Early: {told}")
        first.stream.send(b"behind them")
        second = await plane.callee.leg(plane.tickets[1])
        await _arrives(second.stream, early[:count] + b"behind them")


async def _refused(answer: Answer, status: int, code: str) -> None:
    if answer.status != status or answer.code != code:
        told = answer.status if answer.status == 101 else f"{answer.status} ({answer.code})"
        raise Fault(f"status {told}, not {status} ({code})")


@check("R9.12", "refuses early bytes that are no padded base64, or too many")
async def bad_early_bytes(stage: RelayStage) -> None:
    plane = await _Plane.agreed(stage)
    too_many = base64.b64encode(bytes(4097)).decode()
    for told in ("%%%", "QQ", "QQ=", "-_8=", too_many):
        answer = await plane.caller.leg(plane.tickets[0], f"Roam-Relay-Early: {told}")
        await _refused(answer, 400, "bad_message")
    await plane.legs()


@check("R9.5", "judges a request for a leg in the order of the page")
@check("R9.6", "uses nothing up before the owner's signature holds")
@check("R9.4", "keeps a ticket good for its owner that another has shown")
async def order(stage: RelayStage) -> None:
    plane = await _Plane.agreed(stage)
    caller, callee, stranger = plane.caller, plane.callee, await stage.member()
    mine, theirs = plane.tickets
    bad_early = "Roam-Relay-Early: %"
    await _refused(await stage.ask(caller.leg_target(mine)), 426, "upgrade_required")
    await _refused(await caller.leg("f" * 32, bad_early), 400, "bad_message")
    await _refused(await caller.leg("f" * 32), 404, "ticket_unknown")
    await _refused(await stranger.leg(mine), 403, "ticket_foreign")
    await _refused(await callee.leg(mine), 403, "ticket_foreign")
    for signature in ("%", "A" * 85, base64.urlsafe_b64encode(bytes(63)).decode() + "=="):
        answer = await stage.ask(caller.leg_target(mine, signature=signature), *RAW)
        if answer.status not in (400, 403):
            raise Fault(f"status {answer.status} for the signature {signature[:8]!r}…")
    forged = Member(stage, Identity.generate())
    forged.challenge = caller.challenge
    await _refused(await forged.leg(mine), 403, "ticket_foreign")
    first = await caller.leg(mine)
    if first.status != 101:
        raise Fault(f"status {first.status} for the owner, when others had shown it (R9.4)")
    await _refused(await caller.leg(mine), 409, "ticket_used")
    await callee.leg(theirs)


@check("R9.3", "takes a plane signature for its own key alone")
async def another_relay(stage: RelayStage) -> None:
    plane = await _Plane.agreed(stage)
    mine = plane.tickets[0]
    right, other = plane.caller.challenge["guid"], Identity.generate().guid
    plane.caller.challenge["guid"] = other
    answer = await plane.caller.leg(mine)
    plane.caller.challenge["guid"] = right
    await _refused(answer, 403, "ticket_foreign")
    await plane.legs()


@check("R8.8", "lets a leg come before, with and after the callee's answer")
@check("R8.9", "lets a callee open its leg before it answers")
async def leg_before_answer(stage: RelayStage) -> None:
    caller, callee = await stage.member(), await Member(stage).offering()
    number = caller.ask(callee.guid, "central")
    asked = await callee.here.find("service_request_from")
    leg = await callee.leg(asked["ticket"])
    leg.stream.send(b"early")
    callee.here.say("service_answer", request=asked["request"], verdict="accepted")
    response = await caller.here.find("service_response", request=number)
    mine = await caller.leg(response["ticket"])
    await _arrives(mine.stream, b"early")


@check("R9.14", "gives each leg a ticket for the next plane")
@check("R9.15", "asks the other peer for its leg of the next plane")
@check("R9.16", "takes a ticket for the next plane once")
async def next_plane(stage: RelayStage) -> None:
    plane = await _Plane.agreed(stage)
    first, second = await plane.legs()
    tickets = [answer.headers.get("roam-relay-resume", "") for answer in (first, second)]
    if any(len(ticket) != 32 for ticket in tickets) or tickets[0] == tickets[1]:
        raise Fault(f"the tickets for the next plane are {tickets} (R9.14)")
    first.pipe.abort()
    again = await plane.caller.leg(tickets[0])
    if again.status != 101:
        raise Fault(f"status {again.status} for a ticket for the next plane")
    asked = await plane.callee.answer()
    if not asked.get("resume") or asked.get("guid") != plane.caller.guid:
        raise Fault(f"asks the other peer by {asked} (R9.15)")
    other = await plane.callee.leg(asked["ticket"])
    again.stream.send(b"here again")
    await _arrives(other.stream, b"here again")
    used = await plane.caller.leg(tickets[0])
    if used.status == 101:
        raise Fault("a ticket for the next plane is good twice (R9.16)")
    foreign = await plane.caller.leg(tickets[1])
    await _refused(foreign, 403, "ticket_foreign")


@check("R9.16", "keeps a ticket for the next plane good while the other peer is away")
async def next_plane_while_away(stage: RelayStage) -> None:
    plane = await _Plane.agreed(stage)
    first, second = await plane.legs()
    ticket = first.headers["roam-relay-resume"]
    first.pipe.abort()
    second.pipe.abort()
    plane.callee.here.pipe.close()
    await plane.callee.here.closed("that the peer has left")
    await _refused(await plane.caller.leg(ticket), 404, "peer_offline")
    back = Member(stage, plane.callee.identity)
    back.seq = plane.callee.seq + 10
    await back.join({"service": "chat"})
    again = await plane.caller.leg(ticket)
    if again.status != 101:
        raise Fault(f"status {again.status} when the other peer is back")


@check("R9.8", "reads nothing of a leg before the other one is there", slow=True)
async def waits(stage: RelayStage) -> None:
    plane = await _Plane.agreed(stage)
    first = await plane.caller.leg(plane.tickets[0])
    await Talk(first.stream).silence("before the other leg", QUIET * 8)
