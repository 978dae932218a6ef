"""What a peer does that has opened a session: over the relay, on its next paths, and to its end."""

import asyncio
import os

from peers.conformance.adapter import Said
from peers.conformance.calling import calling
from peers.conformance.checks import Checks
from peers.conformance.credentials import own
from peers.conformance.end import ABORT, CLOSE, CLOSED, FINISH
from peers.conformance.faults import Fault
from peers.conformance.opened import SERVICE, PlaneRequest, path_on
from peers.conformance.peer_stage import PEER, PeerStage
from peers.conformance.talk import Talk

__all__: list[str] = []

check: Checks[PeerStage] = PEER


# -- over the relay -------------------------------------------------------------------------------


@check("R8.7", "opens its leg in `central`, and is the lock's client on it")
@check("R9.2", "asks for a leg with the plane signature of its ticket")
async def central(stage: PeerStage) -> None:
    async with calling(stage, "central") as call:
        end = await call.opens()
        await call.do("send", message=b"x".hex())
        await end.messages(1)


@check("R3.3", "opens its leg as a WebSocket where that carries its control connection")
async def websocket_leg(stage: PeerStage) -> None:
    async with (
        stage.registered("websocket") as peer,
        calling(stage, "central", by=peer) as call,
    ):
        end = await call.opens()
        for size in (1, 300_000):
            await call.do("send", message=bytes(size).hex())
        if [len(payload) for payload in await end.messages(2)] != [1, 300_000]:
            raise Fault("other messages come over a WebSocket leg than were sent")


@check("R9.14", "comes back to the relay with the ticket for its next plane")
@check("R10.28", "names the next number and `resume` in the hello on it")
async def next_plane(stage: PeerStage) -> None:
    async with calling(stage, "central") as call:
        end = await call.opens()
        end.send(b"one")
        await call.do("receive")
        end.path.pipe.abort()
        path, hello = await call.hello_on(await call.leg(call.ticket))
        told = hello.get("resume"), hello.get("path"), hello.get("received", 0)
        if told != (True, 2, 1):
            raise Fault(f"resume, path and received are {told}, not (True, 2, 1)")
        path.say("path_welcome", **end.numbers())
        end.begin(path, hello)
        await call.do("send", message=b"x".hex())
        await end.messages(1)


@check("R8.19", "opens `auto` over the relay")
async def auto(stage: PeerStage) -> None:
    async with calling(stage, "auto") as call:
        end = await call.opens()
        await call.do("send", message=b"x".hex())
        await end.messages(1)


@check("R8.20", "looks for a direct path as soon as it has one over the relay, in `auto`")
@check("R8.21", "moves to the direct path when that has proven itself")
async def auto_moves(stage: PeerStage) -> None:
    (await stage.standing()).need_direct()
    async with calling(stage, "auto") as call:
        await call.asked()
        path, hello = await call.answered(entries=[call.entry])
        end = call.welcome(path, hello)
        await call.outcome
        old, call.mode = end.path, "p2p"  # It dials from here on.
        path, hello = await call.next_hello()
        if (hello.get("resume"), hello.get("mode")) != (True, "auto"):
            raise Fault(f"the hello on a direct path is {hello}")
        path.say("path_welcome", **end.numbers())
        end.begin(path, hello)
        await call.do("send", message=b"x".hex())
        await end.messages(1)
        old.pipe.abort()


@check("R8.9", "opens its leg as callee in `central`, and is the lock's server on it")
async def callee_in_central(stage: PeerStage) -> None:
    peer = await stage.standing()
    request = PlaneRequest(peer)
    if not peer.ways.direct and peer.ways.lock == "noise":
        path = Talk(await request.locked())
    else:
        request.chosen(await request.ask())
        path = Talk(await path_on(await request.leg(), own(request.caller), peer.guid))
    end = await request.end.take(path)
    end.send(b"one")
    if await end.messages(1) != [b"one"]:
        raise Fault("the message did not come back")
    end.put([ABORT, "refused", "the check is over"])


# -- what an application does ---------------------------------------------------------------------


@check("R8.22", "asks the relay for the next path of a session whose path is gone")
async def asks_for_the_next_path(stage: PeerStage) -> None:
    async with calling(stage) as call:
        end = await call.opens()
        await call.do("send", message=b"x".hex())
        await end.messages(1)
        end.path.pipe.abort()
        if not call.is_direct:
            # Its ticket comes first, and is good no more (R9.17).
            leg = await call.peer.relay.leg(call.ticket, call.peer.guid)
            leg.refuse("404 Not Found", "ticket_unknown")
        talk = call.peer.at_relay.talk
        asked = await talk.find("service_request_to", session=end.id, resume=True)
        wanted = {"guid": call.callee.guid, "service": SERVICE, "mode": call.mode}
        for name, right in wanted.items():
            if asked.get(name) != right:
                raise Fault(f"`{name}` is {asked.get(name)!r} in the request, not {right!r}")
        call.request = asked
        if call.is_direct:
            call.respond(entries=[call.entry])
            path, hello = await call.next_hello()
        else:
            path, hello = await call.answered()
        path.say("path_welcome", **end.numbers())
        end.begin(path, hello)
        await call.do("send", message=b"y".hex())
        await end.messages(2)


@check("R10.27", "loses a session that the other side does not know any more")
async def session_unknown(stage: PeerStage) -> None:
    async with calling(stage) as call:
        end = await call.opens()
        end.path.pipe.abort()
        path, _ = await call.next_hello()
        path.say("path_reject", code="session_unknown")
        path.pipe.close()
        try:
            told = await call.do("receive", seconds=20.0)
        except Said:
            return
        raise Fault(f"the session goes on: {told}")


@check("R11.56", "sends the rest of its messages before its close")
@check("R11.58", "is closed when it has both answers")
@check("R11.66", "takes what comes between its own close and the other one")
async def closes(stage: PeerStage) -> None:
    async with calling(stage) as call:
        end = await call.opens()
        for payload in (b"one", bytes(200_000), b"three"):
            await call.do("send", message=payload.hex())
        closing = asyncio.create_task(call.do("close", seconds=20.0))
        try:
            frame = await end.until(CLOSE, "`close`")
            if frame[1] != 3 or end.received != 3:
                came = f"{end.received} of 3 messages came before"
                raise Fault(f"`close` names {frame[1]}, and {came}")
            end.send(b"the rest of this side")
            end.put([CLOSED, 3], [CLOSE, 1])
            await end.until(CLOSED, "`closed`")
            await closing
        finally:
            # What it says where the check has failed before is nobody's.
            closing.cancel()
            await asyncio.gather(closing, return_exceptions=True)


@check("R11.61", "finishes by `finish`, and still takes what comes")
async def finishes(stage: PeerStage) -> None:
    async with calling(stage) as call:
        end = await call.opens()
        end.needs_second_revision()
        await call.do("send", message=b"one".hex())
        await call.do("finish")
        frame = await end.until(FINISH, "`finish`")
        if frame[1] != 1 or end.received != 1:
            raise Fault(f"`finish` names {frame[1]}, and {end.received} of 1 messages came before")
        end.send(b"an answer")
        if bytes.fromhex((await call.do("receive"))["message"]) != b"an answer":
            raise Fault("another message was received than was sent")


@check("R11.62", "says its `finish` again on a new path")
@check("R11.63", "closes by itself when both have finished")
async def finishes_again(stage: PeerStage) -> None:
    async with calling(stage) as call:
        end = await call.opens()
        end.needs_second_revision()
        await call.do("send", message=b"one".hex())
        await call.do("finish")
        await end.until(FINISH, "`finish`")
        end.path.pipe.abort()
        path, hello = await call.next_hello()
        path.say("path_welcome", **end.numbers())
        end.begin(path, hello)
        await end.until(FINISH, "`finish` on a new path")
        end.put([FINISH, 0])
        frame = await end.until(CLOSE, "`close` when both have finished")
        if frame[1] != 1:
            raise Fault(f"`close` names {frame[1]} of 1 messages")
        end.put([CLOSED, 1], [CLOSE, 0])
        await end.until(CLOSED, "`closed`")


@check("R11.64", "says no `finish` in the first revision")
async def no_finish(stage: PeerStage) -> None:
    async with calling(stage) as call:
        end = await call.opens(revised=False)
        try:
            await call.do("finish")
        except Said:
            await call.do("send", message=b"one".hex())
        await call.do("abort")
        while (await end.frame("`abort`"))[0] != ABORT:
            pass


@check("R11.69", "says `abort` when its application aborts")
async def aborts(stage: PeerStage) -> None:
    async with calling(stage) as call:
        end = await call.opens()
        await call.do("abort")
        while (await end.frame("`abort`"))[0] != ABORT:
            pass


@check("R11.12", "puts a large message into parts in the second revision")
@check("R11.10", "puts a large message into one frame in the first revision")
async def large_messages(stage: PeerStage) -> None:
    for revised in (False, True):
        async with calling(stage) as call:
            end = await call.opens(revised=revised)
            payload = os.urandom(1 << 20)
            await call.do("send", message=payload.hex())
            if await end.messages(1) != [payload]:
                raise Fault("another message came than was sent")
