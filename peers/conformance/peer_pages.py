"""What a peer does that speaks to its relay as a page does: what it cannot see of HTTP comes as
close codes and a text, and what it cannot say in headers goes into the query (docs/protocol.md
§18).
"""

import time

from peers.conformance.calling import Call, calling
from peers.conformance.checks import Checks
from peers.conformance.faults import Fault, NotApplicable
from peers.conformance.noise import HEAD
from peers.conformance.opened import next_ticket
from peers.conformance.peer_stage import PEER, PeerStage
from peers.conformance.played_relay import Arrival
from peers.conformance.talk import Talk

__all__: list[str] = []

check: Checks[PeerStage] = PEER
_FIRST = len(HEAD) + 32


def _need_page(arrival: Arrival) -> Arrival:
    if not arrival.is_page:
        arrival.pipe.abort()
        raise NotApplicable("the peer does not speak as a page")
    return arrival


@check(
    "R18.23",
    "names `roam-relay.1` behind the pages' subprotocol, and goes on with that",
)
async def older_relay(stage: PeerStage) -> None:
    async with stage.fresh() as peer:
        arrival = _need_page(await peer.relay.arrival())
        if arrival.protocols != ["roam-relay.1-page", "roam-relay.1"]:
            raise Fault(f"names the protocols {arrival.protocols}")
        await Talk(arrival.accept(as_page=False)).expect("hello")


@check("R18.24", "takes a close frame of 4400 and more for a refusal, and stays away as it says")
async def refusals(stage: PeerStage) -> None:
    async with stage.fresh() as peer:
        for status, code in ((403, "not_admitted"), (503, "of_a_later_version")):
            _need_page(await peer.relay.arrival()).refuse_page(status, code)
        (await peer.relay.arrival()).refuse_page(429, "limit_exceeded", "2")
        began = time.monotonic()
        await peer.relay.registered(seconds=20.0)
        if time.monotonic() - began < 1.9:
            raise Fault("has come back before the seconds of the close frame were over")


async def _leg(call: Call) -> Arrival:
    """Answer the request of a call by a plane; return the request for its leg."""
    await call.asked()
    ticket = next_ticket()
    call.plane(ticket)
    return _need_page(await call.peer.relay.leg(ticket, call.peer.guid))


@check("R18.25", "reads the ticket for its next plane in the relay's first message")
@check("R18.26", "sends no text message")
async def next_plane(stage: PeerStage) -> None:
    async with calling(stage, "central") as call:
        ticket = next_ticket()
        path, hello = await call.hello_on((await _leg(call)).accept_leg(ticket))
        end = call.welcome(path, hello)
        await call.outcome
        end.path.pipe.abort()
        path, hello = await call.hello_on(await call.leg(ticket))
        path.say("path_welcome", **end.numbers())
        end.begin(path, hello)
        await call.do("send", message=b"x".hex())
        await end.messages(1)


@check("R18.27", "puts the first bytes of its lock into the query of its leg")
@check("R18.9", "sends as early bytes the first of its lock, and no others")
async def early_bytes(stage: PeerStage) -> None:
    async with calling(stage, "central") as call:
        arrival = await _leg(call)
        early = arrival.early()
        if not early:
            raise NotApplicable("the peer sends no early bytes, which it may")
        if len(early) != _FIRST or not early.startswith(HEAD):
            raise Fault(f"{len(early)} early bytes that begin with {early[:4].hex()} (R18.9)")
        path, hello = await call.hello_on(arrival.accept_leg(next_ticket()))
        end = call.welcome(path, hello)
        await call.outcome
        await call.do("send", message=b"x".hex())
        await end.messages(1)


@check("R18.27", "says its early bytes again to a relay that knows nothing of pages")
async def early_bytes_again(stage: PeerStage) -> None:
    async with calling(stage, "central") as call:
        leg = (await _leg(call)).accept_leg(next_ticket(), as_page=False)
        path, hello = await call.hello_on(leg)
        call.welcome(path, hello)
        await call.outcome
