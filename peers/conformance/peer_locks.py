"""What a peer does with the locks of planes: which it chooses, and how the one that is not TLS is
opened, used and closed (docs/protocol.md §18).
"""

import os
from collections.abc import Callable

import msgpack

from peers.conformance.checks import Checks
from peers.conformance.credentials import own
from peers.conformance.end import ABORT, End
from peers.conformance.faults import Fault, NotTried, within
from peers.conformance.peer_stage import PEER, SERVICE, Opened, PeerStage, path_on
from peers.conformance.pipes import Pipe
from peers.conformance.talk import Map, Talk
from protocol.errors import RoamRelayError
from protocol.identity import Identity
from protocol.lock import CONTEXT_LOCK, LOCK_HEAD, Agreed, LockSide, NoiseLock
from protocol.offer import make_offer, open_answer

__all__: list[str] = []

check: Checks[PeerStage] = PEER
_RESUME = "0" * 32
_BOTH = ("tls", "noise")


class _Forger(Identity):
    """Signs its proof by a key that is not its own."""

    def sign(self, context: bytes, *parts: bytes) -> bytes:
        if context == CONTEXT_LOCK:
            return Identity.generate().sign(context, *parts)
        return super().sign(context, *parts)


class _Request:
    """A request in `central` of a peer that the kit plays, with an offer."""

    def __init__(self, peer: Opened) -> None:
        self.peer = peer
        self.caller = Identity.generate()
        self.end = End(SERVICE, revised=None)
        self.end.mode = "central"
        self.ticket = os.urandom(16).hex()
        self.offered: tuple[str, ...] = ()
        self.offer = b""

    async def ask(self, *locks: str) -> Map:
        """Have the relay pass it on; return the peer's answer."""
        self.offered = locks
        body = msgpack.packb({"locks": locks, "relay": self.peer.relay.identity.public_key})
        if locks:
            self.offer = make_offer(self.caller, self.peer.guid, self.end.id, body)
        number, talk = int.from_bytes(os.urandom(3), "big"), self.peer.at_relay.talk
        talk.say(
            "service_request_from",
            request=number,
            guid=self.caller.guid,
            service=SERVICE,
            mode="central",
            session=self.end.id,
            ticket=self.ticket,
            offer=self.offer,
        )
        return await talk.find("service_answer", request=number)

    def chosen(self, answer: Map) -> object:
        """Return the lock that an answer names; None where it names none.

        Raises:
            Fault: it refuses, or its offer does not hold.
        """
        if answer.get("verdict") != "accepted":
            raise Fault(f"refuses: {answer}")
        offer = answer.get("offer", b"")
        if not offer:
            return None
        try:
            body = open_answer(offer, self.peer.guid, self.caller.guid, self.end.id, self.offer)
        except RoamRelayError as error:
            raise Fault(f"what answers an offer does not hold: {error} (R7.72)") from None
        said = msgpack.unpackb(body)
        return said.get("lock") if isinstance(said, dict) else None

    async def leg(self) -> Pipe:
        """Return the other end of the peer's leg."""
        arrival = await self.peer.relay.leg(self.ticket, self.peer.guid)
        return arrival.accept_leg(_RESUME)

    def side(self) -> LockSide:
        """Return the caller's side of its lock."""
        relay = self.peer.relay.identity.public_key
        agreed = Agreed(relay, self.offered, "noise")
        return LockSide(self.caller, _key(self.peer), self.end.id, agreed, is_caller=True)


class NoisePipe(Pipe):
    """The caller's end of a stream that is locked by Noise. `prove` first."""

    def __init__(self, pipe: Pipe, side: LockSide) -> None:
        self._pipe = pipe
        self._lock = NoiseLock(side, os.urandom(32))
        self._received: list[bytes] = []
        self.changes: Callable[[bytes], bytes] = lambda data: data
        """What is done to what leaves."""

    @property
    def ended_in_order(self) -> bool:
        """Whether the other side has said the close."""
        return self._lock.ended

    async def prove(self) -> None:
        """Do the handshake.

        Raises:
            Fault: it fails.
        """
        self._lock.start()
        self._write()
        async with within("whole handshake of Noise"):
            while not self._lock.established:
                data = await self._pipe.receive()
                if not data:
                    raise Fault("the stream ended in the handshake of Noise")
                self._take(data)
        self._write()

    async def receive(self) -> bytes:
        while not self._received and not self._lock.ended:
            data = await self._pipe.receive()
            if not data:
                self.was_reset = self._pipe.was_reset
                return b""
            self._take(data)
        return self._received.pop(0) if self._received else b""

    def send(self, data: bytes) -> None:
        self._lock.send(data)
        self._write()

    async def flush(self) -> None:
        await self._pipe.flush()

    def close(self) -> None:
        self._lock.end()
        self._write()

    def abort(self) -> None:
        self._pipe.abort()

    def _take(self, data: bytes) -> None:
        try:
            plain = self._lock.receive(data)
        except RoamRelayError as error:
            raise Fault(f"the lock does not hold: {error}") from None
        if plain:
            self._received.append(plain)

    def _write(self) -> None:
        if leaving := self._lock.to_send():
            self._pipe.send(self.changes(leaving))


async def _locked(peer: Opened) -> tuple[_Request, NoisePipe]:
    """Open a path under Noise to the peer, as the caller."""
    request = _Request(peer)
    answer = await request.ask("noise")
    if answer.get("code") == "lock_unsupported":
        raise NotTried("the peer takes no Noise")
    if (chosen := request.chosen(answer)) != "noise":
        raise Fault(f"chooses {chosen!r} where Noise alone is offered (R18.2)")
    pipe = NoisePipe(await request.leg(), request.side())
    await pipe.prove()
    return request, pipe


@check("R18.2", "chooses `tls` where both sides take it, whatever stands first, and says so")
async def chooses_tls(stage: PeerStage) -> None:
    peer = await stage.standing()
    for locks in (_BOTH, _BOTH[::-1], ("later", *_BOTH)):
        request = _Request(peer)
        answer = await request.ask(*locks)
        if answer.get("code") == "lock_unsupported":
            raise NotTried("the peer takes no TLS on planes")
        chosen, leg = request.chosen(answer), await request.leg()
        if chosen is None:
            raise NotTried("the peer says nothing of locks")
        if chosen != "tls":
            raise Fault(f"chooses {chosen!r} of {locks}")
        await path_on(leg, own(request.caller), peer.guid)


@check("R18.3", "answers a request without locks as one for TLS alone")
async def without_locks(stage: PeerStage) -> None:
    peer = await stage.standing()
    request = _Request(peer)
    if (chosen := request.chosen(await request.ask())) is not None:
        raise Fault(f"chooses {chosen!r} where nothing was offered")
    await path_on(await request.leg(), own(request.caller), peer.guid)


@check("R18.4", "refuses with `lock_unsupported` where the two have no lock in common")
async def none_in_common(stage: PeerStage) -> None:
    peer = await stage.standing()
    asks = _Request(peer)
    chosen = asks.chosen(await asks.ask(*_BOTH))
    (await asks.leg()).abort()
    if chosen is None:
        raise NotTried("the peer says nothing of locks")
    answer = await _Request(peer).ask("later")
    if (answer.get("verdict"), answer.get("code")) != ("refused", "lock_unsupported"):
        raise Fault(f"answers {answer.get('verdict')} ({answer.get('code')})")


@check("R18.8", "opens the lock by Noise: its first bytes, both messages, its signature")
@check("R18.10", "puts the right prologue before the handshake")
@check("R18.13", "signs its role and the handshake hash")
@check("R18.16", "carries a session in records")
async def carries(stage: PeerStage) -> None:
    request, pipe = await _locked(await stage.standing())
    await request.end.take(Talk(pipe))
    request.end.send(b"one")
    if await request.end.messages(1) != [b"one"]:
        raise Fault("the message did not come back")
    request.end.put([ABORT, "refused", "the check is over"])


@check("R18.14", "says nothing behind its signature before the caller's has held")
@check("R18.15", "ends a path, without a word, whose caller signs what it must not")
async def wrong_proof(stage: PeerStage) -> None:
    peer = await stage.standing()
    request = _Request(peer)
    request.caller = _Forger.generate()
    answer = await request.ask("noise")
    if answer.get("code") == "lock_unsupported":
        raise NotTried("the peer takes no Noise")
    leg, side = await request.leg(), request.side()
    lock = NoiseLock(side, os.urandom(32))
    lock.start()
    leg.send(lock.to_send())
    said = b""
    async with within("whole answer of 134 bytes"):
        while len(said) < 134:
            data = await leg.receive()
            if not data:
                raise Fault("the stream ended in the handshake of Noise")
            said += data
    if not said.startswith(LOCK_HEAD):
        raise Fault(f"begins with {said[:4].hex()}, not with {LOCK_HEAD.hex()} (R18.8)")
    if len(said) > 134:
        raise Fault("says more than its signature before the caller has signed")
    try:
        lock.receive(said)
    except RoamRelayError as error:
        raise Fault(f"the lock does not hold: {error}") from None
    leg.send(lock.to_send())
    if await leg.end("end of a path whose caller signs what it must not"):
        raise Fault("says something to a caller that has signed what it must not")


@check("R18.7", "takes no TLS on a plane that is for Noise")
async def another_lock(stage: PeerStage) -> None:
    peer = await stage.standing()
    request = _Request(peer)
    answer = await request.ask("noise")
    if answer.get("code") == "lock_unsupported":
        raise NotTried("the peer takes no Noise")
    leg = await request.leg()
    leg.send(b"\x16\x03\x01\x00\x05hello")
    if await leg.end("end of a path with another lock than was agreed on"):
        raise Fault("answers another lock than was agreed on")


@check("R18.17", "answers the close by its own")
async def closes(stage: PeerStage) -> None:
    request, pipe = await _locked(await stage.standing())
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
        await request.end.take(Talk(pipe))
        pipe.changes = change
        request.end.send(b"spoilt")
        await pipe.end("end of a path with a record that is none")
        pipe.abort()


def _key(peer: Opened) -> bytes:
    return peer.identity.public_key
