"""What a peer does with a second path that is to stand ready beside a session's own."""

from peers.conformance.end import ACK, DATA
from peers.conformance.faults import Fault, NotTried
from peers.conformance.peer_stage import Called
from peers.conformance.subjects import came_back, came_back_once, in_second
from peers.conformance.talk import Talk

__all__: list[str] = []

PING, PONG, SWITCH = 4, 5, 10
FEATURES = ["session-2", "standby"]


async def _named(end: Called) -> None:
    """Go over to a path on which both sides name that a second one may stand ready."""
    if end.peer is not None:
        end.peer.need_direct()
    await end.move(features=FEATURES)
    if "standby" not in end.welcome.get("features", ()):
        raise NotTried("the peer does not name `standby`")


async def _beside(end: Called, **changed: object) -> Talk:
    """Say hello for a second path."""
    peer = end.peer
    if peer is None:
        raise Fault("the session of the kit has no peer")
    path = await peer.path(end.caller, end)
    fields = {"features": FEATURES, "standby": True} | changed
    path.put(end.hello(**fields))
    return path


async def _standing(end: Called) -> Talk:
    await _named(end)
    path = await _beside(end)
    await path.expect("path_welcome")
    return path


@in_second("R10.43", "leaves the session where it is while a second path stands ready")
async def stays(end: Called) -> None:
    end.send(b"one")
    await came_back(end, 1)
    path = await _standing(end)
    end.send(b"two")
    await came_back_once(end, 2)
    path.put([PING, 77])
    if (frame := await path.next("`pong` on the second path"))[:2] != [PONG, 77]:
        raise Fault(f"sends {frame} on a path that stands ready, and no `pong`")


@in_second("R10.42", "looks at no number where a path is to stand ready")
async def no_number(end: Called) -> None:
    await _named(end)
    path = await _beside(end, path=1)
    await path.expect("path_welcome")
    end.send(b"one")
    await came_back(end, 1)


@in_second(
    "R10.44", "ends a second path on which more comes than it may carry, and not the session"
)
async def too_much(end: Called) -> None:
    path = await _standing(end)
    path.put([DATA, 1, [b"on the second path"]])
    await path.closed("behind data on a path that stands ready")
    end.send(b"one")
    await came_back_once(end, 1)


@in_second("R10.46", "goes on over the second path behind `switch`")
@in_second("R10.47", "says again behind `switch` what is not acknowledged")
async def switched(end: Called) -> None:
    await _named(end)
    end.send(b"one")
    await came_back(end, 1)
    path = await _beside(end)
    await path.expect("path_welcome")
    old = end.path
    old.pipe.abort()
    end.number += 1
    end.talk = path
    end.put([SWITCH, end.number])
    end.put([ACK, end.received, end.consumed, 0])
    end.send(b"two")
    await came_back_once(end, 2)


@in_second("R10.48", "closes a second path on which `switch` has an old number")
async def old_number(end: Called) -> None:
    path = await _standing(end)
    path.put([SWITCH, 1])
    await path.closed("behind `switch` with an old number")
    end.send(b"one")
    await came_back_once(end, 1)


@in_second("R10.45", "has one second path, the last that was dialed")
async def one_alone(end: Called) -> None:
    first = await _standing(end)
    second = await _beside(end)
    await second.expect("path_welcome")
    await first.closed("when another path has taken its place")
    second.put([PING, 78])
    await second.next("`pong` on the second path")
