"""What a peer does with the locks of planes: which it chooses, and how the one that is not TLS is
opened, used and closed (docs/protocol.md §18).
"""

from peers.conformance.checks import Checks
from peers.conformance.credentials import own
from peers.conformance.end import ABORT
from peers.conformance.faults import Fault, NotApplicable
from peers.conformance.noise import HEAD, NoisePipe
from peers.conformance.opened import Opened, PathRefused, PlaneRequest, path_on
from peers.conformance.peer_stage import PEER, PeerStage
from peers.conformance.talk import Talk
from protocol.identity import Identity

__all__: list[str] = []

check: Checks[PeerStage] = PEER
_BOTH = ("tls", "noise")


async def _chosen(request: PlaneRequest, *locks: str) -> object:
    """Return which of these locks is chosen.

    Raises:
        NotApplicable: the peer takes none of them, or says nothing of locks.
    """
    try:
        chosen = request.chosen(await request.ask(*locks))
    except PathRefused as refused:
        if refused.code == "lock_unsupported":
            raise NotApplicable(f"the peer takes no {' or '.join(locks)}") from None
        raise
    if chosen is None:
        raise NotApplicable("the peer says nothing of locks")
    return chosen


async def _locked(peer: Opened) -> tuple[PlaneRequest, NoisePipe]:
    """Have a plane under Noise asked for, as the caller; nothing is said on it yet."""
    request = PlaneRequest(peer)
    if (chosen := await _chosen(request, "noise")) != "noise":
        raise Fault(f"chooses {chosen!r} where Noise alone is offered (R18.2)")
    return request, NoisePipe(await request.leg(), request.facts())


@check("R18.2", "chooses `tls` where both sides take it, whatever stands first, and says so")
async def chooses_tls(stage: PeerStage) -> None:
    peer = await stage.standing()
    peer.need_tls()
    for locks in (_BOTH, _BOTH[::-1], ("later", *_BOTH)):
        request = PlaneRequest(peer)
        chosen, leg = await _chosen(request, *locks), await request.leg()
        if chosen != "tls":
            raise Fault(f"chooses {chosen!r} of {locks}")
        await path_on(leg, own(request.caller), peer.guid)


@check("R18.2", "chooses `noise` where that alone is common, and passes over later words")
async def chooses_noise(stage: PeerStage) -> None:
    peer = await stage.standing()
    for locks in (("noise",), ("later", "noise")):
        request = PlaneRequest(peer)
        if (chosen := await _chosen(request, *locks)) != "noise":
            raise Fault(f"chooses {chosen!r} of {locks}")
        pipe = NoisePipe(await request.leg(), request.facts())
        await pipe.prove()
        pipe.abort()


@check("R18.3", "answers a request without locks as one for TLS alone")
async def without_locks(stage: PeerStage) -> None:
    peer = await stage.standing()
    peer.need_tls()
    request = PlaneRequest(peer)
    if (chosen := request.chosen(await request.ask())) is not None:
        raise Fault(f"chooses {chosen!r} where nothing was offered")
    await path_on(await request.leg(), own(request.caller), peer.guid)


@check("R18.4", "refuses with `lock_unsupported` where the two have no lock in common")
async def none_in_common(stage: PeerStage) -> None:
    peer = await stage.standing()
    asks = PlaneRequest(peer)
    await _chosen(asks, *_BOTH)
    (await asks.leg()).abort()
    others: list[tuple[str, ...]] = [("later",)]
    if not peer.ways.direct and peer.ways.lock == "noise":
        others += [("tls",), ()]  # Who says nothing of locks takes TLS.
    for locks in others:
        answer = await PlaneRequest(peer).ask(*locks)
        if (answer.get("verdict"), answer.get("code")) != ("refused", "lock_unsupported"):
            raise Fault(f"answers {answer.get('verdict')} ({answer.get('code')}) to {locks}")


@check("R18.8", "opens the lock by Noise: its first bytes, both messages, its signature")
@check("R18.10", "puts the right prologue before the handshake")
@check("R18.13", "signs its role and the handshake hash")
@check("R18.16", "carries a session in records")
async def carries(stage: PeerStage) -> None:
    request, pipe = await _locked(await stage.standing())
    await pipe.prove()
    await request.end.take(Talk(pipe))
    request.end.send(b"one")
    if await request.end.messages(1) != [b"one"]:
        raise Fault("the message did not come back")
    request.end.put([ABORT, "refused", "the check is over"])


@check("R18.14", "says nothing behind its signature before the caller's has held")
@check("R18.15", "ends a path, without a word, whose caller signs what it must not")
async def wrong_proof(stage: PeerStage) -> None:
    _, pipe = await _locked(await stage.standing())
    await pipe.exchange()
    await pipe.callee_proof()
    await Talk(pipe).silence("before the caller has signed")
    pipe.send(pipe.signature(Identity.generate()))
    if await pipe.end("end of a path whose caller signs what it must not"):
        raise Fault("says something to a caller that has signed what it must not")


@check("R18.7", "takes no TLS on a plane that is for Noise")
async def another_lock(stage: PeerStage) -> None:
    request = PlaneRequest(await stage.standing())
    await _chosen(request, "noise")
    leg = await request.leg()
    leg.send(b"\x16\x03\x01\x00\x05hello")
    if await leg.end("end of a path with another lock than was agreed on"):
        raise Fault("answers another lock than was agreed on")


@check("R18.11", "ends a path whose shared secret is zero")
async def zero_secret(stage: PeerStage) -> None:
    request = PlaneRequest(await stage.standing())
    await _chosen(request, "noise")
    leg = await request.leg()
    leg.send(HEAD + bytes(32))
    if await leg.end("end of a path whose shared secret is zero"):
        raise Fault("answers an ephemeral key of zeros")


@check("R18.17", "answers the close by its own")
async def closes(stage: PeerStage) -> None:
    request, pipe = await _locked(await stage.standing())
    await pipe.prove()
    await request.end.take(Talk(pipe))
    request.end.put([ABORT, "refused", "the check is over"])
    pipe.close()
    await pipe.end("close of a path")
    if not pipe.ended_in_order:
        raise Fault("ends the stream without the record that is the close")


@check("R18.19", "ends a path on which a record is changed, out of order, or twice")
async def spoilt_records(stage: PeerStage) -> None:
    for change in (
        lambda data: data[:-1] + bytes((data[-1] ^ 1,)),
        lambda data: data + data,
        lambda data: (16_401).to_bytes(2, "big") + data[2:],
        lambda data: (15).to_bytes(2, "big") + data[2:],
    ):
        request, pipe = await _locked(await stage.standing())
        await pipe.prove()
        await request.end.take(Talk(pipe))
        pipe.changes = change
        request.end.send(b"spoilt")
        await pipe.end("end of a path with a record that is none")
        pipe.abort()
