"""What the plane of a session is locked by: what both sides agree on. PURE."""

from collections.abc import Sequence

from peers.session import Terms
from protocol.errors import Code, RoamRelayError
from protocol.identity import Identity, public_key_of
from protocol.lock import Agreed, Lock, LockSide, chosen_of, read_locks
from protocol.messages import ServiceRequestFrom

__all__ = ["LOCKED_BY_TLS", "agreed_by", "check_lock", "side_of"]

LOCKED_BY_TLS = Agreed(bytes(32), (), Lock.TLS)
"""Of a plane for which nothing was said of locks."""


def agreed_by(
    request: ServiceRequestFrom, body: bytes, taken: Sequence[Lock], before: Agreed | None
) -> Agreed | None:
    """Return what the plane is locked by that a request asks for whose offer has this body, at a
    side that takes these locks; None where the two have none in common.

    `before` is what the session's last request was answered with: the plane of a ticket, for which
    nobody offers anything, has the same.
    """
    if request.resume and not request.offer and before is not None:
        return before.by_ticket()
    said = read_locks(body)
    offered, relay = said if said is not None else (None, LOCKED_BY_TLS.relay)
    chosen = chosen_of(offered, taken)
    return None if chosen is None else Agreed(relay, offered or (), chosen)


def check_lock(terms: Terms, agreed: Agreed) -> None:
    """Look whether this side, which has asked, takes what the other one has chosen.

    Raises:
        RoamRelayError: it does not, or has not offered it (`lock_unsupported`).
    """
    if agreed.chosen not in (agreed.offered or terms.locks_taken):
        raise RoamRelayError(
            f"a path by the relay would be locked by {agreed.chosen}: this side takes "
            f"{' or '.join(terms.locks_taken)} alone",
            code=Code.LOCK_UNSUPPORTED,
        )


def side_of(
    identity: Identity, remote: str, session: bytes, agreed: Agreed, *, is_caller: bool
) -> LockSide | None:
    """Return this side of the lock of a plane; None where that is TLS."""
    if agreed.chosen != Lock.NOISE:
        return None
    return LockSide(identity, public_key_of(remote), session, agreed, is_caller)
