"""What a peer does that has opened a session: over the relay, on its next paths, and to its end."""

import asyncio
import os
from typing import Any

from peers.conformance.adapter import Said
from peers.conformance.calling import Call, calling
from peers.conformance.checks import Checks
from peers.conformance.credentials import own
from peers.conformance.end import ABORT, CLOSE, CLOSED, FINISH, End
from peers.conformance.faults import Fault
from peers.conformance.peer_stage import PEER, SERVICE, PeerStage, path_on
from peers.conformance.talk import Talk
from protocol.identity import Identity

__all__: list[str] = []

check: Checks[PeerStage] = PEER


# -- over the relay -------------------------------------------------------------------------------


@check("R8.7", "opens its leg in `central`, and is TLS client on it")
@check("R9.2", "asks for a leg with the plane signature of its ticket")
async def central(stage: PeerStage) -> None:
    async with calling(stage, "central") as call:
        end = await _over_a_leg(call)
        await call.do("send", message=b"x".hex())
        await end.messages(1)


@check("R3.3", "opens its leg as a WebSocket where that carries its control connection")
async def websocket_leg(stage: PeerStage) -> None:
    async with (
        stage.registered("websocket") as peer,
        calling(stage, "central", by=peer) as call,
    ):
        end = await _over_a_leg(call)
        for size in (1, 300_000):
            await call.do("send", message=bytes(size).hex())
        if [len(payload) for payload in await end.messages(2)] != [1, 300_000]:
            raise Fault("other messages come over a WebSocket leg than were sent")


async def _over_a_leg(call: Call, **response: Any) -> End:
    await call.asked()
    ticket = os.urandom(16).hex()
    call.respond(ticket=ticket, **response)
    arrival = await call.peer.relay.leg(ticket, call.peer.guid)
    path, hello = await call.hello_on(arrival.accept_leg(_RESUME))
    end = call.welcome(path, hello)
    await call.outcome
    return end


_RESUME = "0123456789abcdef" * 2


@check("R9.14", "comes back to the relay with the ticket for its next plane")
@check("R10.28", "names the next number and `resume` in the hello on it")
async def next_plane(stage: PeerStage) -> None:
    async with calling(stage, "central") as call:
        end = await _over_a_leg(call)
        end.send(b"one")
        await call.do("receive")
        end.path.pipe.abort()
        arrival = await call.peer.relay.leg(_RESUME, call.peer.guid)
        path, hello = await call.hello_on(arrival.accept_leg(_RESUME[::-1]))
        told = hello.get("resume"), hello.get("path"), hello.get("received", 0)
        if told != (True, 2, 1):
            raise Fault(f"resume, path and received are {told}, not (True, 2, 1)")
        path.say("path_welcome", **end.numbers())
        end.begin(path, hello)
        await call.do("send", message=b"x".hex())
        await end.messages(1)


@check("R8.19", "opens `auto` over the relay")
@check("R8.20", "looks for a direct path as soon as it has one")
@check("R8.21", "moves to the direct path when that has proven itself")
async def auto(stage: PeerStage) -> None:
    async with calling(stage, "auto") as call:
        end = await _over_a_leg(call, entries=[call.entry])
        old = end.path
        path, hello = await call.next_hello()
        if (hello.get("resume"), hello.get("mode")) != (True, "auto"):
            raise Fault(f"the hello on a direct path is {hello}")
        path.say("path_welcome", **end.numbers())
        end.begin(path, hello)
        await call.do("send", message=b"x".hex())
        await end.messages(1)
        old.pipe.abort()


@check("R8.9", "opens its leg as callee in `central`, and is TLS server on it")
async def callee_in_central(stage: PeerStage) -> None:
    peer = await stage.standing()
    talk, caller, ticket = peer.at_relay.talk, Identity.generate(), os.urandom(16).hex()
    end = End(SERVICE, revised=None)
    end.mode = "central"
    talk.say(
        "service_request_from",
        request=int.from_bytes(os.urandom(3), "big"),
        guid=caller.guid,
        service=SERVICE,
        mode="central",
        session=end.id,
        ticket=ticket,
    )
    answer = await talk.find("service_answer")
    if answer.get("verdict") != "accepted":
        raise Fault(f"refuses: {answer}")
    arrival = await peer.relay.leg(ticket, peer.guid)
    leg = arrival.accept_leg(_RESUME)
    path = Talk(await path_on(leg, own(caller), peer.guid))
    await end.take(path)
    end.send(b"one")
    if await end.messages(1) != [b"one"]:
        raise Fault("the message did not come back")
    end.put([ABORT, "refused", "the check is over"])


# -- what an application does ---------------------------------------------------------------------


@check("R8.22", "asks the relay for the next path of a session whose path is gone")
async def asks_for_the_next_path(stage: PeerStage) -> None:
    async with calling(stage) as call:
        end = await call.direct()
        await call.do("send", message=b"x".hex())
        await end.messages(1)
        end.path.pipe.abort()
        talk = call.peer.at_relay.talk
        asked = await talk.find("service_request_to", session=end.id, resume=True)
        wanted = {"guid": call.callee.guid, "service": SERVICE, "mode": "p2p"}
        for name, right in wanted.items():
            if asked.get(name) != right:
                raise Fault(f"`{name}` is {asked.get(name)!r} in the request, not {right!r}")
        call.request = asked
        call.respond(entries=[call.entry])
        path, hello = await call.next_hello()
        path.say("path_welcome", **end.numbers())
        end.begin(path, hello)
        await call.do("send", message=b"y".hex())
        await end.messages(2)


@check("R10.27", "loses a session that the other side does not know any more")
async def session_unknown(stage: PeerStage) -> None:
    async with calling(stage) as call:
        end = await call.direct()
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
        end = await call.direct()
        for payload in (b"one", bytes(200_000), b"three"):
            await call.do("send", message=payload.hex())
        closing = asyncio.create_task(call.do("close", seconds=20.0))
        frame = await end.until(CLOSE, "`close`")
        if frame[1] != 3 or end.received != 3:
            raise Fault(f"`close` names {frame[1]}, and {end.received} of 3 messages came before")
        end.send(b"the rest of this side")
        end.put([CLOSED, 3], [CLOSE, 1])
        await end.until(CLOSED, "`closed`")
        await closing


@check("R11.61", "finishes by `finish`, and still takes what comes")
async def finishes(stage: PeerStage) -> None:
    async with calling(stage) as call:
        end = await call.direct()
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
        end = await call.direct()
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
        end = await call.direct(revised=False)
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
        end = await call.direct()
        await call.do("abort")
        while (await end.frame("`abort`"))[0] != ABORT:
            pass


@check("R11.12", "puts a large message into parts in the second revision")
@check("R11.10", "puts a large message into one frame in the first revision")
async def large_messages(stage: PeerStage) -> None:
    for revised in (False, True):
        async with calling(stage) as call:
            end = await call.direct(revised=revised)
            payload = os.urandom(1 << 20)
            await call.do("send", message=payload.hex())
            if await end.messages(1) != [payload]:
                raise Fault("another message came than was sent")
