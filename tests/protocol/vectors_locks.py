"""The vectors of locks: which one is chosen, and a whole path under Noise with fixed keys."""

from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from protocol.identity import Identity
from protocol.lock import LOCK_HEAD, Agreed, Lock, LockSide, NoiseLock, chosen_of

__all__ = ["vectors"]

_EPHEMERAL = bytes(range(64, 96)), bytes(range(96, 128))
"""The caller's private half, and the callee's."""
_CHOICES: tuple[tuple[str, tuple[str, ...] | None, tuple[Lock, ...]], ...] = (
    ("R18.2", ("tls", "noise"), (Lock.TLS, Lock.NOISE)),
    ("R18.2", ("noise", "tls"), (Lock.NOISE, Lock.TLS)),
    ("R18.2", ("noise",), (Lock.TLS, Lock.NOISE)),
    ("R18.2", ("tls", "noise"), (Lock.NOISE,)),
    ("R18.2", ("later", "noise"), (Lock.TLS, Lock.NOISE)),
    ("R18.3", None, (Lock.TLS, Lock.NOISE)),
    ("R18.4", ("noise",), (Lock.TLS,)),
    ("R18.4", ("tls",), (Lock.NOISE,)),
    ("R18.4", ("later",), (Lock.TLS, Lock.NOISE)),
    ("R18.4", None, (Lock.NOISE,)),
)
_SAID: tuple[tuple[str, bytes], ...] = (
    ("caller", b"the hello, and what follows it"),
    ("callee", b"the welcome"),
    ("caller", bytes(300)),
    ("callee", b"!"),
    ("caller", b""),
    ("callee", b""),
)
"""What each says in its order; nothing at all is the close."""


def vectors(relay: Identity, caller: Identity, callee: Identity, session: bytes) -> dict[str, Any]:
    """Return the groups of the file."""
    by_offer = Agreed(relay.public_key, ("tls", "noise"), "noise")
    key = bytes(range(32))
    following = AESGCM(key).encrypt(bytes(4) + b"\xff" * 8, bytes(32), b"")[:32]
    return {
        "chosen_locks": [
            {
                "rule": rule,
                "offered": None if offered is None else list(offered),
                "taken": [lock.value for lock in taken],
                "chosen": chosen_of(offered, taken),
            }
            for rule, offered, taken in _CHOICES
        ],
        "locks": [
            _path(rule, agreed, caller, callee, session)
            for rule, agreed in (("R18.10", by_offer), ("R18.6", by_offer.by_ticket()))
        ],
        "lock_keys": [{"rule": "R18.21", "key": key.hex(), "next": following.hex()}],
    }


def _path(
    rule: str, agreed: Agreed, caller: Identity, callee: Identity, session: bytes
) -> dict[str, Any]:
    asking = LockSide(caller, callee.public_key, session, agreed, is_caller=True)
    asked = LockSide(callee, caller.public_key, session, agreed, is_caller=False)
    sides = {
        "caller": NoiseLock(asking, _EPHEMERAL[0]),
        "callee": NoiseLock(asked, _EPHEMERAL[1]),
    }
    sides["caller"].start()
    first = sides["caller"].to_send()
    sides["callee"].receive(first)
    answer = sides["callee"].to_send()
    sides["caller"].receive(answer)
    proof = sides["caller"].to_send()
    sides["callee"].receive(proof)
    records = []
    for who, plain in _SAID:
        if plain:
            sides[who].send(plain)
        else:
            sides[who].end()
        records.append({"by": who, "plain": plain.hex(), "bytes": sides[who].to_send().hex()})
    second = len(LOCK_HEAD) + 48
    return {
        "rule": rule,
        "caller": caller.guid,
        "callee": callee.guid,
        "session": session.hex(),
        "relay": agreed.relay.hex(),
        "offered": list(agreed.offered),
        "chosen": agreed.chosen,
        "caller_ephemeral": _EPHEMERAL[0].hex(),
        "callee_ephemeral": _EPHEMERAL[1].hex(),
        "prologue": asking.prologue.hex(),
        "first": first.hex(),
        "second": answer[:second].hex(),
        "handshake_hash": sides["caller"].handshake_hash.hex(),
        "callee_proof": answer[second:].hex(),
        "caller_proof": proof.hex(),
        "records": records,
    }
