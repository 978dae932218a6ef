"""What a peer does in a session while its path lives: messages, acknowledgements, windows, ends."""

from typing import Any

from peers.conformance import vectors
from peers.conformance.checks import Checks
from peers.conformance.end import (
    ABORT,
    ACK,
    CLOSE,
    CLOSED,
    DATA,
    FINISH,
    LOCATION,
    PART,
    PING,
    PONG,
)
from peers.conformance.faults import Fault
from peers.conformance.opened import PathRefused
from peers.conformance.peer_stage import PEER, Called, PeerStage
from peers.conformance.subjects import came_back, came_back_once, in_both, in_second
from peers.conformance.talk import Talk

__all__: list[str] = []

check: Checks[PeerStage] = PEER

# -- messages -------------------------------------------------------------------------------------


@in_both("R11.1", "carries messages of 0 and of 1,048,576 bytes")
async def sizes(end: Called) -> None:
    large = bytes(range(256)) * 4096
    end.send(b"", b"x", large, b"")
    await came_back(end, 4)


@in_both("R11.2", "numbers its messages 1, 2, 3, however many stand in a frame")
async def many(end: Called) -> None:
    payloads = [b"%d" % number for number in range(2000)]
    end.sent += payloads
    end.put([DATA, 1, payloads[:1024]], [DATA, 1025, payloads[1024:]])
    await came_back(end, 2000)


@in_both("R11.17", "takes once what comes twice")
async def twice(end: Called) -> None:
    end.send(b"one", b"two", b"three")
    end.put([DATA, 1, [b"one", b"two"]], [DATA, 2, [b"two", b"three", b"four"]])
    end.sent.append(b"four")
    end.again(1)
    end.send(b"five")
    await came_back_once(end, 5)


@in_both("R11.19", "takes frames without a message for what they are")
async def empty_frames(end: Called) -> None:
    end.put([DATA, 1, []])
    end.send(b"one")
    end.put([DATA, 1, []], [DATA, 2, []])
    end.send(b"two")
    await came_back(end, 2)


@in_both("R11.18", "acknowledges what has arrived, and no more")
@in_both("R11.31", "says what was taken as length and 32 for each")
async def acknowledges(end: Called) -> None:
    for number in range(1, 4):
        end.send(b"x" * (number * 100))
        await end.acknowledged_up_to(number)
        # What is acknowledged beside that is said before the answer to a ping.
        await end.messages(number)
        end.put([PING, number])
        await end.until(PONG, "`pong`")
    # What the application has taken is told by itself, or with what comes next.
    end.send(*[b"y" * 60_000] * 40)
    await end.messages(43)
    await end.acknowledged_up_to(43)
    if end.consumed_there == 0:
        raise Fault("what was taken is never told")
    sums = [0]
    for payload in end.sent:
        sums.append(sums[-1] + len(payload) + 32)
    if end.consumed_there not in sums:
        raise Fault(f"{end.consumed_there} is no sum of weights: {sums[:5]} …")


@in_both("R11.28", "bears acknowledgements that are late")
@in_both("R11.27", "takes the highest acknowledgement for what holds")
async def late_acknowledgements(end: Called) -> None:
    end.send(b"one", b"two")
    await came_back(end, 2)
    late = [ACK, 0, 0, 0] if end.revised else [ACK, 0, 0]
    end.put(late, late)
    end.send(b"three")
    await came_back(end, 3)
    await end.move()
    end.put([4, 5])
    while (frame := await end.frame("`pong`"))[0] != PONG:
        if frame[0] == DATA:
            raise Fault(f"sends message {frame[1]} again, which was acknowledged before (R11.27)")


@in_both("R11.38", "tells at an eighth of the window what was taken")
async def tells_what_was_taken(end: Called) -> None:
    window = min(end.window, end.welcome.get("window", 8 << 20))
    piece = b"x" * 32_768
    count = window // 2 // len(piece)
    end.send(*[piece] * count)
    await end.messages(count)
    while end.consumed_there < count * (len(piece) + 32) - window // 8:
        await end.until(ACK, "acknowledgement that tells what was taken")


@in_both("R11.7", "answers a ping with its number")
async def ping(end: Called) -> None:
    for number in (0, 1, 2**32 - 1):
        end.put([4, number])
        answer = await end.until(PONG, "`pong`")
        if answer[1] != number:
            raise Fault(f"ping {number} is answered with {answer[1]}")


@in_both("R11.4", "reads frames in whatever pieces they come")
async def pieces(end: Called) -> None:
    end.sent.append(b"hello")
    for byte in b"\x93\x00\x01\x91\xc4\x05hello":
        end.write(bytes([byte]))
        await end.path.pipe.flush()
    await came_back(end, 1)


@in_both("R11.8", "passes over entries that are not signed by the other side")
async def location(end: Called) -> None:
    end.put([LOCATION, [[b"no entry", bytes(64)]]], [LOCATION, []])
    end.send(b"one")
    await came_back(end, 1)


@in_second("R11.9", "passes over `switch` while no path stands ready")
async def switch(end: Called) -> None:
    end.put([10, 2])
    end.send(b"one")
    await came_back(end, 1)


# -- parts ----------------------------------------------------------------------------------------


@in_second("R11.20", "puts a message together from its parts")
@in_second("R11.23", "has a message when all its bytes are there")
@in_second("R11.21", "takes once the parts that come twice")
async def parts(end: Called) -> None:
    whole = bytes(range(250)) * 4
    end.sent += [whole, b"next"]
    end.put(
        [PART, 1, 0, 1000, whole[:400]],
        [PART, 1, 0, 1000, whole[:300]],
        [4, 9],
        [PART, 1, 200, 1000, whole[200:700]],
        [PART, 1, 700, 1000, whole[700:]],
        [PART, 1, 0, 1000, whole[:100]],
        [DATA, 2, [b"next"]],
    )
    await came_back(end, 2)


@in_second("R11.25", "takes a message whole of which parts have arrived")
async def whole_after_parts(end: Called) -> None:
    whole = b"a message" * 10
    end.sent.append(whole)
    end.put([PART, 1, 0, len(whole), whole[:20]], [DATA, 1, [whole]])
    end.send(b"next")
    await came_back(end, 2)


@in_second("R11.26", "acknowledges the bytes of parts")
async def acknowledges_parts(end: Called) -> None:
    end.sent.append(bytes(50_000))
    end.put([PART, 1, 0, 50_000, bytes(20_000)])
    while (ack := await end.until(ACK, "acknowledgement of a part"))[3] == 0:
        pass
    if ack[1:2] != [0] or ack[3] != 20_000:
        raise Fault(f"acknowledges {ack[1]} messages and {ack[3]} bytes")


# -- windows --------------------------------------------------------------------------------------


@check("R11.34", "begins no message beyond the window of the other side")
@check("R11.32", "takes the smaller of both windows")
async def window(stage: PeerStage) -> None:
    peer = await stage.standing()
    end = await peer.session(window=2048)
    end.acks = False
    end.send(*[bytes(500)] * 12)
    # A message weighs 532: three are below 2,048, and the fourth may reach past it.
    await end.messages(4)
    try:
        await end.messages(5, 0.4)
    except Fault:
        pass
    else:
        raise Fault("5 messages of 532 are on their way, though none was taken of 2,048")
    end.acks = True
    end.consumed = 4 * 532
    end.acknowledge()
    await end.messages(12)
    end.put([ABORT, "refused", "the check is over"])


@check("R11.35", "ends a session whose other side goes beyond its window")
async def beyond_the_window(stage: PeerStage) -> None:
    peer = await stage.standing()
    end = await peer.session(window=1024)
    end.acks = False
    there = end.welcome.get("window", 8 << 20)
    # It sends each message back, and so takes no more when this side takes none.
    payload = bytes(65_000)
    for _ in range((there + (2 << 20)) // len(payload) + 8):
        end.send(payload)
        await end.path.pipe.flush()
    await end.refused("limit_exceeded")


# -- ends -----------------------------------------------------------------------------------------


@in_both("R11.57", "answers `close` with all that it has, `closed`, and its own `close`")
async def closes(end: Called) -> None:
    end.send(b"one", b"two")
    end.put([CLOSE, 2])
    seen: list[list[Any]] = []
    while {CLOSE, CLOSED} - {frame[0] for frame in seen}:
        seen.append(await end.frame("`close` and `closed`"))
        if seen[-1][0] == ABORT:
            raise Fault(f"an abort ({seen[-1][1]}) in answer to a close")
    said = {frame[0]: frame[1] for frame in seen if frame[0] in (CLOSE, CLOSED)}
    if said[CLOSED] != 2:
        raise Fault(f"`closed` names {said[CLOSED]} of 2 messages")
    if said[CLOSE] != end.received:
        raise Fault(f"`close` names {said[CLOSE]}, but {end.received} messages came before it")
    end.put([CLOSED, end.received])
    await _path_ends(end.path)


async def _path_ends(path: Talk) -> None:
    await path.closed("when the session is over")
    if not path.pipe.ended_in_order:
        raise Fault("the path was cut, and not closed in order")


@in_both("R11.65", "closes the path when the session is over")
@in_both("R10.11", "says the close of the lock at the end of a path")
async def path_ends(end: Called) -> None:
    await _close(end)
    await _path_ends(end.path)


async def _close(end: Called) -> None:
    end.put([CLOSE, len(end.sent)])
    await end.until(CLOSE, "`close`")
    end.put([CLOSED, end.received])


@in_second("R11.61", "goes on with what it has to send when the other side has finished")
async def finishes(end: Called) -> None:
    end.send(*[b"%d" % number for number in range(100)])
    end.put([FINISH, 100])
    await came_back(end, 100)
    await end.until(CLOSE, "`close` of a side that has sent all")
    end.put([CLOSED, end.received], [CLOSE, 100])
    await end.until(CLOSED, "`closed`")
    await _path_ends(end.path)


@in_both("R11.69", "ends a session at an abort")
@in_both("R11.68", "knows nothing of a session that it has given up")
async def aborts(end: Called) -> None:
    peer = end.peer
    end.put([ABORT, "refused", "the check says so"])
    await end.path.closed("behind an abort")
    if peer is None:
        return
    try:
        path = await peer.path(end.caller, end)
    except PathRefused as refused:
        code: object = refused.code
    else:
        path.put(end.hello(path=2))
        code = (await path.expect("path_reject")).get("code")
    if code != "session_unknown":
        raise Fault(f"a session that was aborted is refused with {code} (R11.68)")


def _refused(vector: dict[str, Any], revision: int) -> None:
    what = f"aborts with `{vector['code']}` at {vector['what']} (revision {revision})"

    @check(str(vector["rule"]), what)
    async def refused_frame(stage: PeerStage) -> None:
        end = await (await stage.standing()).session(revised=revision == 2)
        end.write(vectors.whole(vector))
        await end.refused(str(vector["code"]))


for one in vectors.load()["refused_frames"]:
    for number in one["revisions"]:
        # How much arrives at once is not for the kit to say.
        if "at once" not in one["what"]:
            _refused(one, number)


@in_both("R11.37", "bears frames that bring nothing, or ends the session by `limit_exceeded`")
async def floods(end: Called) -> None:
    end.put(*[[4, 1]] * 5000)
    end.send(b"one")
    try:
        await came_back(end, 1)
    except Fault as fault:
        if "limit_exceeded" not in str(fault):
            raise
