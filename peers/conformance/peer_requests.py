"""What a peer does with the requests of others that the relay passes on."""

import os

from peers.conformance.checks import Checks
from peers.conformance.credentials import own
from peers.conformance.end import DATA
from peers.conformance.faults import Fault
from peers.conformance.opened import SERVICE, Opened, PlaneRequest, server_on
from peers.conformance.peer_stage import PEER, Listener, PeerStage
from peers.conformance.played_relay import opened, signed_by
from peers.conformance.talk import Map
from protocol.identity import Identity

__all__: list[str] = []

check: Checks[PeerStage] = PEER


async def _asked(peer: Opened, mode: str, **more: object) -> Map:
    """Have the peer asked for a session; return its answer."""
    talk, number = peer.at_relay.talk, int.from_bytes(os.urandom(3), "big")
    fields: Map = {
        "request": number,
        "guid": Identity.generate().guid,
        "service": SERVICE,
        "mode": mode,
        "session": os.urandom(16),
        **more,
    }
    talk.say("service_request_from", **fields)
    return await talk.find("service_answer", request=number)


def _announced(peer: Opened) -> str:
    """Return a mode in which the relay announces sessions to a peer."""
    return "combined" if peer.ways.direct else "central"


@check("R7.18", "accepts a request for its service")
async def accepts(stage: PeerStage) -> None:
    async with stage.registered() as peer:
        request = PlaneRequest(peer)
        request.chosen(await request.ask("tls", "noise"))


@check("R8.10", "says where it is in `combined`")
async def accepts_in_combined(stage: PeerStage) -> None:
    async with stage.registered() as peer:
        peer.need_direct()
        answer = await _asked(peer, "combined")
        if answer.get("verdict") != "accepted":
            raise Fault(f"the verdict is {answer.get('verdict')!r} ({answer.get('code')})")
        if not answer.get("entries"):
            raise Fault("an answer in `combined` says where to dial (R8.10)")
        for signed in answer["entries"]:
            opened(peer.guid, signed)


@check("R8.7", "discloses no address in `central`")
async def central_discloses_nothing(stage: PeerStage) -> None:
    async with stage.registered() as peer:
        answer = await PlaneRequest(peer).ask("tls", "noise")
        if answer.get("verdict") != "accepted" or answer.get("entries"):
            raise Fault(f"the answer is {answer}")


@check("R7.18", "refuses a request for a service that it does not offer")
async def refuses_unknown_service(stage: PeerStage) -> None:
    async with stage.registered() as peer:
        answer = await _asked(peer, _announced(peer), service="none")
        if answer.get("verdict") != "refused":
            raise Fault("accepts a request for a service that it does not offer")
        if answer.get("code") not in ("unknown_service", "refused", None):
            raise Fault(f"refuses with {answer.get('code')}")


@check("R8.24", "answers `session_unknown` to a request for the next path of no session")
async def unknown_session(stage: PeerStage) -> None:
    async with stage.registered() as peer:
        answer = await _asked(peer, _announced(peer), resume=True)
        if (answer.get("verdict"), answer.get("code")) != ("refused", "session_unknown"):
            raise Fault(f"answers {answer.get('verdict')} ({answer.get('code')})")


@check("R7.17", "answers a request as often as it comes")
async def asked_twice(stage: PeerStage) -> None:
    async with stage.registered() as peer:
        request = PlaneRequest(peer)
        if peer.ways.direct:
            request.end.mode = "combined"
        for _ in range(2):
            answer = await request.ask("tls", "noise")
            if answer.get("verdict") != "accepted":
                raise Fault("refuses the same request when it comes again")


@check("R8.14", "dials in `combined` a caller that has not come a second after its answer")
@check("R8.15", "says in that hello what the request said, and path 1")
async def dials_the_caller(stage: PeerStage) -> None:
    async with stage.registered() as peer, Listener() as listener:
        peer.need_direct()
        caller, session = Identity.generate(), os.urandom(16)
        entry = signed_by(caller, SERVICE, listener.port)
        answer = await _asked(peer, "combined", guid=caller.guid, session=session, entries=[entry])
        if answer.get("verdict") != "accepted":
            raise Fault(f"refuses: {answer}")
        path, guid = await server_on(await listener.next(), own(caller))
        hello = await path.expect("path_hello")
        if guid != peer.guid:
            raise Fault(f"another peer dials: {guid}")
        wanted: Map = {"session": session, "service": SERVICE, "mode": "combined"}
        for name, right in wanted.items():
            if hello.get(name) != right:
                raise Fault(f"`{name}` is {hello.get(name)!r} in its hello, not {right!r} (R8.15)")
        if hello.get("resume", False) or hello.get("path", 1) != 1:
            raise Fault(f"a first hello with path {hello.get('path')} (R8.15)")
        path.say("path_welcome")
        path.put([DATA, 1, [b"x"]])
        await path.next("a frame behind the welcome")
