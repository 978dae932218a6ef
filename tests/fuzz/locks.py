"""The lock of a plane that is not TLS, and what offers say of locks."""

from protocol.errors import ProtocolViolation
from protocol.identity import Identity
from protocol.lock import Agreed, Lock, LockSide, NoiseLock, chosen_of, read_lock, read_locks
from protocol.offer import MAX_BODY
from tests.fuzz.draws import Draw

__all__ = ["locks"]

_A, _B = (Identity.from_seed(bytes((number,)) * 32) for number in (1, 2))
_AGREED = Agreed(bytes(32), ("tls", "noise"), "noise")
_CALLER = LockSide(_A, _B.public_key, b"s" * 16, _AGREED, is_caller=True)
_CALLEE = LockSide(_B, _A.public_key, b"s" * 16, _AGREED, is_caller=False)
_SAID = (b"first", b"the second", b"x" * 300)


def locks(data: bytes) -> None:
    """What comes in a handshake means the same in whatever pieces, and opens nothing; of records
    that are changed on the way, what is heard is what was said, up to there; and what an offer says
    is a lock, or nothing."""
    draw = Draw(data)
    match draw.number(3):
        case 0:
            is_caller = bool(draw.number(2))
            pieces = draw.pieces(draw.rest())
            whole = _handshake(is_caller, [b"".join(pieces)])
            assert whole == _handshake(is_caller, pieces)
        case 1:
            _records(draw)
        case _:
            _offers(draw.rest()[:MAX_BODY])


def _handshake(is_caller: bool, pieces: list[bytes]) -> bool:
    """Return whether it goes on."""
    end = NoiseLock(_CALLER if is_caller else _CALLEE, b"e" * 32)
    end.start()
    try:
        for piece in pieces:
            assert end.receive(piece) == b""
    except ProtocolViolation:
        return False
    finally:
        assert not end.established
    return True


def _records(draw: Draw) -> None:
    here, there = NoiseLock(_CALLER, b"c" * 32), NoiseLock(_CALLEE, b"d" * 32)
    here.start()
    there.receive(here.to_send())
    here.receive(there.to_send())
    there.receive(here.to_send())
    for said in _SAID:
        here.send(said)
    here.end()
    sent = bytearray(here.to_send())
    at = draw.number(len(sent))
    match draw.number(4):
        case 0:
            del sent[at:]
        case 1:
            sent[at] ^= draw.number()
        case 2:
            sent[at:at] = draw.rest()
        case _:
            del sent[at : at + draw.number()]
    heard = b""
    try:
        for piece in draw.pieces(bytes(sent)):
            heard += there.receive(piece)
    except ProtocolViolation:
        assert not there.ended
    assert b"".join(_SAID).startswith(heard)
    if there.ended:
        assert heard == b"".join(_SAID)


def _offers(body: bytes) -> None:
    said = read_locks(body)
    if said is not None:
        offered, relay = said
        assert 1 <= len(offered) <= 8
        assert len(relay) == 32
        chosen = chosen_of(offered, tuple(Lock))
        agreed = Agreed(relay, offered, chosen or "other")
        side = LockSide(_A, _B.public_key, b"s" * 16, agreed, is_caller=True)
        assert len(side.prologue) < 400
    lock = read_lock(body)
    assert lock is None or 1 <= len(lock) <= 16
