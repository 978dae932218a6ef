"""Succession: a relay's key signs the one that comes after it: who pins the old one follows by it.

A link is what one change of keys leaves: the new key, the old key's signature over both, and the
new key's. With the first alone a thief of the old key could name a key that is somebody else's;
the second says that who is named agrees. A link by itself proves nothing to a peer: it counts only
behind a fresh challenge that is signed by the key with which the chain begins.
"""

from collections.abc import Iterable, Sequence

from protocol.errors import ProtocolViolation
from protocol.identity import Identity, guid_of, public_key_of, verify

__all__ = [
    "CONTEXT_SUCCEEDS",
    "CONTEXT_SUCCESSION",
    "LINK_BYTES",
    "MAX_LINKS",
    "follow",
    "link",
]

CONTEXT_SUCCESSION = b"roam-relay/1 succession\0"
"""What the old key signs: its own key, and the new one."""
CONTEXT_SUCCEEDS = b"roam-relay/1 succeeds\0"
"""What the new key signs: the old key, and its own."""
MAX_LINKS = 8
"""Links of one chain: so many changes may a peer have missed, and a stranger have us check."""

_KEY, _SIGNATURE = 32, 64
LINK_BYTES = _KEY + 2 * _SIGNATURE


def link(old: Identity, new: Identity) -> bytes:
    """Return the link from one key to the next."""
    both = (old.public_key, new.public_key)
    signatures = old.sign(CONTEXT_SUCCESSION, *both) + new.sign(CONTEXT_SUCCEEDS, *both)
    return new.public_key + signatures


def follow(pinned: str, links: Sequence[bytes], known: Iterable[str] = ()) -> tuple[str, ...]:
    """Return the GUIDs that a chain leads to from the one that is pinned, in order. `known` are
    those that came before it.

    Raises:
        ProtocolViolation: a signature does not hold, the chain is too long, or it comes back to a
            key that was left: who has stolen that one would be believed again.
        IdentityError: what is pinned is no GUID.
    """
    if len(links) > MAX_LINKS:
        raise ProtocolViolation(f"a succession of more than {MAX_LINKS} links")
    seen = {*known, pinned}
    guids: list[str] = []
    for one in links:
        if len(one) != LINK_BYTES:
            raise ProtocolViolation("a link of a succession of another length")
        old = public_key_of(guids[-1] if guids else pinned)
        new, first, second = one[:_KEY], one[_KEY : _KEY + _SIGNATURE], one[_KEY + _SIGNATURE :]
        guid = guid_of(new)
        verify(guid_of(old), first, CONTEXT_SUCCESSION, old, new)
        verify(guid, second, CONTEXT_SUCCEEDS, old, new)
        if guid in seen:
            raise ProtocolViolation("a succession that comes back to a key that was left")
        seen.add(guid)
        guids.append(guid)
    return tuple(guids)
