"""What a peer does when a session gets another path: after a cut, and while the old one lives."""

import random
from typing import Any

from peers.conformance.checks import Checks
from peers.conformance.end import ABORT, ACK, CLOSE, CLOSED, DATA, PART
from peers.conformance.faults import QUIET, Fault, NotTried
from peers.conformance.peer_stage import PEER, Called, Listener, PeerStage
from peers.conformance.played_relay import signed_by
from peers.conformance.subjects import came_back, came_back_once, in_both, in_second
from peers.conformance.talk import Talk, packed

__all__: list[str] = []

check: Checks[PeerStage] = PEER

SEED = 20
"""Of the chance in `many_cuts`: the same in every run."""


@in_both("R11.48", "names at a new path the numbers that are true")
async def true_numbers(end: Called) -> None:
    end.send(b"one", b"two", b"three")
    await came_back(end, 3)
    await end.acknowledged_up_to(3)
    await end.move()
    if end.welcome.get("received", 0) != 3:
        raise Fault(f"names {end.welcome.get('received', 0)} of 3 messages")
    if not 0 <= end.welcome.get("consumed", 0) <= 3 * 32 + 11:
        raise Fault(f"names {end.welcome.get('consumed', 0)} bytes as taken")


@in_both("R11.50", "begins a new path with an `ack`")
async def begins_with_ack(end: Called) -> None:
    end.send(b"one")
    await came_back(end, 1)
    await end.move()
    frame = await end.frame("`ack` on a new path")
    if frame[0] != ACK or frame[1] != 1:
        raise Fault(f"begins a new path with {frame}")


@in_both("R11.51", "sends again what is not acknowledged, with its old numbers")
async def sends_again(end: Called) -> None:
    end.acks = False
    end.send(b"one", b"two", b"three")
    await end.messages(3)
    # As if nothing of it had arrived.
    end.inbox.clear()
    end.received = end.consumed = 0
    await end.move()
    end.acks = True
    await came_back(end, 3)


@in_both("R11.51", "sends nothing again that a new path says has arrived")
async def sends_nothing_twice(end: Called) -> None:
    end.acks = False
    end.send(b"one", b"two")
    await end.messages(2)
    await end.move()
    end.put([4, 77])
    while (frame := await end.frame("`pong`"))[0] != 5:
        if frame[0] in (DATA, PART):
            raise Fault(f"sends message {frame[1]} again, which has arrived")


@in_both("R11.17", "takes once what is sent again on a new path")
async def skips_after_a_cut(end: Called) -> None:
    end.send(b"one", b"two")
    await came_back(end, 2)
    await end.move()
    end.again(1)
    end.send(b"three")
    await came_back_once(end, 3)


@in_both("R11.53", "goes over to a newer path while the old one lives")
@in_both("R11.17", "takes once what comes on both paths of a move")
async def both_alive(end: Called) -> None:
    end.send(b"one", b"two")
    await came_back(end, 2)
    await end.acknowledged_up_to(2)
    old = await end.move(cut=False)
    # What was on its way over the old path is said again on the new one.
    end.again(1)
    end.send(b"three", b"four")
    await came_back_once(end, 4)
    old.pipe.abort()


@in_both("R11.53", "passes over what still arrives on the path before")
async def old_path_is_over(end: Called) -> None:
    end.send(b"one")
    await came_back(end, 1)
    old = await end.move(cut=False)
    old.put([DATA, 2, [b"on the old path"]])
    await old.pipe.flush()
    end.send(b"on the new path")
    if (await end.messages(2))[1] != b"on the new path":
        raise Fault("takes a message from a path that was replaced")
    old.pipe.abort()


@in_both("R11.54", "bears a hello that is older than what was acknowledged meanwhile")
async def late_hello(end: Called) -> None:
    end.send(b"one", b"two")
    await came_back(end, 2)
    old = await end.move(cut=False, received=0, consumed=0)
    end.send(b"three")
    await came_back(end, 3)
    old.pipe.abort()


@in_both("R11.55", "ends a path whose numbers cannot be true, and not the session")
async def numbers_from_the_future(end: Called) -> None:
    end.send(b"one")
    await came_back(end, 1)
    peer = end.peer
    if peer is None:
        return
    path = await peer.path(end.caller, end)
    path.put(end.hello(path=2, received=99))
    await path.closed("behind numbers that cannot be true")
    end.send(b"two")
    await came_back(end, 2)


@in_both("R11.49", "forgets half a frame of the path before")
async def half_a_frame(end: Called) -> None:
    # Together, so that the half has arrived when the other has come back: a cut may lose the rest.
    end.acks = False  # Nothing may come behind it.
    end.send(b"one", written=False)
    end.write(packed([DATA, 1, [b"one"]]) + packed([DATA, 2, [b"half a message"]])[:-3])
    await came_back(end, 1)
    await end.move()
    end.acks = True
    end.send(b"two")
    await came_back(end, 2)


@in_second("R11.24", "keeps the parts of a message over paths")
async def parts_over_paths(end: Called) -> None:
    whole = bytes(range(200)) * 50
    end.sent.append(whole)
    end.put([PART, 1, 0, len(whole), whole[:6000]])
    while (await end.until(ACK, "acknowledgement of a part"))[3] < 6000:
        pass
    await end.move()
    if end.welcome.get("partial", 0) != 6000:
        raise Fault(f"names {end.welcome.get('partial', 0)} bytes of a part of 6000")
    end.put([PART, 1, 6000, len(whole), whole[6000:]])
    await came_back(end, 1)


@in_both("R11.6", "ends a path of another revision, and not the session")
async def another_revision(end: Called) -> None:
    end.send(b"one")
    await came_back(end, 1)
    peer = end.peer
    if peer is None:
        return
    if "session-2" not in end.welcome.get("features", ()):
        raise NotTried("the peer speaks the first revision alone")
    path = await peer.path(end.caller, end)
    path.put(end.hello(path=2, features=[] if end.revised else ["session-2"]))
    await path.closed("behind a hello of another revision")
    end.send(b"two")
    await came_back(end, 2)


async def _again_early(end: Called, *frames: list[Any], number: int) -> Talk:
    """Say hello on a new path, with frames right behind it."""
    peer = end.peer
    if peer is None:
        raise Fault("the session of the kit has no peer")
    if "early-data" not in end.welcome.get("features", ()):
        raise NotTried("the peer does not name `early-data`")
    path = await peer.path(end.caller, end)
    path.put(end.hello(path=number), *frames)
    return path


async def _welcomed(end: Called, path: Talk) -> None:
    end.welcome = await path.expect("path_welcome")
    end.begin(path, end.welcome)


@in_second("R10.36", "takes what stands behind a hello, and welcomes with the numbers from before")
async def early_data(end: Called) -> None:
    end.send(b"one")
    await came_back(end, 1)
    end.path.pipe.abort()
    end.send(b"two", b"three", written=False)
    path = await _again_early(end, [DATA, 2, [b"two"]], [DATA, 3, [b"three"]], number=2)
    await _welcomed(end, path)
    if end.welcome.get("received", 0) != 1:
        raise Fault(
            f"welcomes with {end.welcome.get('received', 0)} messages where 1 had come before"
        )
    await end.acknowledged_up_to(3)
    await came_back_once(end, 3)


@in_second("R10.36", "takes once what stands behind a hello and has come before")
async def early_twice(end: Called) -> None:
    whole = bytes(range(200)) * 50
    end.send(b"one")
    await came_back(end, 1)
    end.sent.append(whole)
    end.put([PART, 2, 0, len(whole), whole[:6000]])
    while (await end.until(ACK, "acknowledgement of a part"))[3] < 6000:
        pass
    end.path.pipe.abort()
    parts = [[PART, 2, at, len(whole), whole[at : at + 4000]] for at in (0, 4000, 8000)]
    path = await _again_early(end, [DATA, 1, [b"one"]], *parts, number=2)
    await _welcomed(end, path)
    await came_back_once(end, 2)


@in_second("R10.37", "discards what stands behind a hello that it rejects")
async def early_and_rejected(end: Called) -> None:
    end.send(b"one")
    await came_back(end, 1)
    path = await _again_early(end, [DATA, 2, [b"of a path that is too old"]], number=1)
    reject = await path.expect("path_reject")
    if reject.get("code") != "path_superseded":
        raise Fault(f"rejects an older path by {reject.get('code')}")
    await path.closed("behind `path_reject`")
    end.send(b"two")
    await came_back_once(end, 2)


@in_second("R10.38", "bears 65,536 bytes behind a hello")
async def early_and_large(end: Called) -> None:
    end.send(b"one")
    await came_back(end, 1)
    end.path.pipe.abort()
    end.send(bytes(65_500), written=False)
    path = await _again_early(end, [DATA, 2, [bytes(65_500)]], number=2)
    await _welcomed(end, path)
    await came_back_once(end, 2)


@in_both("R11.52", "says its close again on a new path")
async def close_is_said_again(end: Called) -> None:
    end.send(b"one")
    await came_back(end, 1)
    end.put([CLOSE, 1])
    await end.until(CLOSE, "`close`")
    # Neither what it said nor what was answered is known to have arrived.
    await end.move()
    end.put([CLOSE, 1])
    seen = set[int]()
    while {CLOSE, CLOSED} - seen:
        seen.add((await end.frame("`close` and `closed` on a new path"))[0])
    end.put([CLOSED, end.received])
    await end.path.closed("when the session is over")


@in_both("R11.67", "answers a resume of a session that has closed")
async def lingers(end: Called) -> None:
    end.put([CLOSE, 0])
    await end.until(CLOSE, "`close`")
    end.put([CLOSED, 0])
    await end.path.closed("when the session is over")
    await end.move()
    end.put([CLOSE, 0])
    await end.until(CLOSED, "`closed` for a close whose answer was lost")


@check("R10.28", "looks for the next path by itself, under the next number")
@check("R11.44", "dials the other side when its path was cut")
async def comes_back(stage: PeerStage) -> None:
    peer = await stage.standing()
    async with Listener() as listener:
        end = peer.called()
        entry = signed_by(end.caller, "chat", listener.port)
        await end.take(await peer.path(end.caller, end), entries=[entry])
        end.send(b"one")
        await came_back(end, 1)
        end.path.pipe.abort()
        path, guid = await peer.comes(end, listener)
        hello = await path.expect("path_hello")
        if guid != peer.guid:
            raise Fault(f"another peer than the session's comes: {guid}")
        wanted = {"session": end.id, "service": "chat", "mode": end.mode, "resume": True, "path": 2}
        for name, right in wanted.items():
            if hello.get(name) != right:
                raise Fault(f"`{name}` is {hello.get(name)!r} in its hello, not {right!r}")
        path.say("path_welcome", **end.numbers())
        end.begin(path, hello)
        end.send(b"two")
        await came_back(end, 2)
        end.put([ABORT, "refused", "the check is over"])
        await path.closed("behind an abort")


async def _called_back(stage: PeerStage, listener: Listener, features: list[str]) -> Called:
    """A session whose path is cut while what the peer has sent is not acknowledged, and the next
    path, on which the peer says hello."""
    peer = await stage.standing()
    end = peer.called(revised=True)
    entry = signed_by(end.caller, "chat", listener.port)
    await end.take(await peer.path(end.caller, end), entries=[entry], features=features)
    end.acks = False
    end.send(b"one", b"two")
    await came_back(end, 2)
    # As if nothing of it had arrived.
    end.inbox.clear()
    end.received = end.consumed = 0
    end.path.pipe.abort()
    path, _ = await peer.comes(end, listener)
    end.welcome = await path.expect("path_hello")
    end.talk = path
    end.acks = True
    return end


@check("R10.34", "sends nothing behind a hello to who has not named `early-data`")
async def nothing_early(stage: PeerStage) -> None:
    async with Listener() as listener:
        end = await _called_back(stage, listener, ["session-2"])
        await end.path.silence("behind a hello, before the welcome")
        end.path.say("path_welcome", **end.numbers())
        await came_back(end, 2)
        end.put([ABORT, "refused", "the check is over"])
        await end.path.closed("behind an abort")


@check("R10.35", "sends the oldest that is missing behind its hello, and waits then")
@check("R10.39", "goes on behind what stands behind its hello")
async def something_early(stage: PeerStage) -> None:
    features = ["session-2", "early-data"]
    async with Listener() as listener:
        end = await _called_back(stage, listener, features)
        if "early-data" not in end.welcome.get("features", ()):
            raise NotTried("the peer does not name `early-data`")
        numbers = end.numbers() | {"features": features}
        end.acks = False
        size = 0
        while end.received < 2:
            frame = await end.frame("data behind the hello", QUIET * 8)
            size += end.path.size
            if frame[0] not in (DATA, PART) or size > 65_536:
                raise Fault(f"{size} bytes, the last of frame {frame[0]}, behind its hello")
        await end.path.silence("behind the first flight, before the welcome")
        end.path.say("path_welcome", **numbers)
        end.acks = True
        end.send(b"three")
        while end.received < 3:
            frame = await end.frame("message 3")
            if frame[0] == DATA and frame[1] < 3:
                raise Fault(f"sends message {frame[1]} again behind the welcome")
        await came_back(end, 3)
        end.put([ABORT, "refused", "the check is over"])
        await end.path.closed("behind an abort")


async def _dialed_instead(end: Called) -> None:
    """The peer's path is cut in place of an answer, and the kit dials."""
    end.path.pipe.abort()
    end.number = 9
    peer = end.peer
    if peer is not None:
        await end.take(await peer.path(end.caller, end))


@check("R10.40", "begins the next path with what stood behind a hello that was not welcomed")
async def early_again(stage: PeerStage) -> None:
    async with Listener() as listener:
        end = await _called_back(stage, listener, ["session-2", "early-data"])
        await _dialed_instead(end)
        await came_back(end, 2)
        end.put([ABORT, "refused", "the check is over"])
        await end.path.closed("behind an abort")


@check("R10.40", "believes that what stood behind a hello has arrived, though it heard no welcome")
async def early_believed(stage: PeerStage) -> None:
    async with Listener() as listener:
        end = await _called_back(stage, listener, ["session-2", "early-data"])
        if "early-data" not in end.welcome.get("features", ()):
            raise NotTried("the peer does not name `early-data`")
        end.acks = False
        while end.received < 2:
            await end.frame("data behind the hello", QUIET * 8)
        end.acks = True
        await _dialed_instead(end)
        end.send(b"three")
        while end.received < 3:
            frame = await end.frame("message 3")
            if frame[0] == DATA and frame[1] < 3:
                raise Fault(f"sends message {frame[1]} again, which has arrived")
        await came_back(end, 3)
        end.put([ABORT, "refused", "the check is over"])
        await end.path.closed("behind an abort")


@check("R10.32", "dials no entry that the other side has not signed")
async def unsigned_entries(stage: PeerStage) -> None:
    peer = await stage.standing()
    peer.need_direct()
    async with Listener() as listener:
        end = peer.called()
        forged = signed_by(peer.relay.identity, "chat", listener.port)
        await end.take(await peer.path(end.caller, end), entries=[forged])
        end.path.pipe.abort()
        await listener.nobody(QUIET * 4)
        end.number = 9
        await end.move()
        end.put([ABORT, "refused", "the check is over"])


@in_both("R11.3", "loses nothing and doubles nothing under thirty cuts and moves")
async def many_cuts(end: Called) -> None:
    chance = random.Random(SEED)
    lived: list[Talk] = []
    for number in range(30):
        written = len(end.sent)
        lost = False
        for _ in range(chance.randrange(4)):
            # What is lost on its way takes all that follows with it.
            lost = lost or chance.random() < 0.3
            end.send(b"%d:" % number + bytes(chance.randrange(3000)), written=not lost)
            written += not lost
        if chance.random() < 0.5:
            await end.path.pipe.flush()
        if chance.random() < 0.5:
            await end.messages(chance.randint(min(end.received, written), written))
        lived.append(await end.move(cut=number % 3 > 0))
        there = end.welcome.get("received", 0)
        # Sometimes more is said again than is missing.
        end.again(max(1, there + 1 - chance.randrange(3)))
    await came_back(end, len(end.sent))
    for old in lived:
        old.pipe.abort()
