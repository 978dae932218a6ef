"""What a peer does at a relay that asks for an invitation, and at one that changes its key
(docs/protocol.md §7).
"""

import asyncio
import os
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager

from peers.conformance.checks import Checks
from peers.conformance.faults import Fault, NotTried
from peers.conformance.peer_stage import PEER, Opened, PeerStage
from peers.conformance.played_relay import Control
from protocol.identity import Identity
from protocol.invitation import BadInvitation, Token, opened
from protocol.succession import link

__all__: list[str] = []

check: Checks[PeerStage] = PEER
_FEATURES = ["offer", "succession"]


# -- invitations ----------------------------------------------------------------------------------


async def _shown(peer: Opened, *, asks: bool) -> tuple[Control, bytes]:
    """Have it register, at a relay that asks for an invitation or does not; return what it shows,
    and end the connection."""
    control = await peer.relay.control()
    control.challenge(**({"invitation": True} if asks else {}))
    await control.proven()
    control.talk.pipe.abort()
    shown = control.register.get("invitation", b"")
    if not isinstance(shown, bytes) or len(shown) > 1024:
        raise Fault("`invitation` is a bin of 1,024 bytes at most (R7.8)")
    return control, shown


@check("R7.10", "shows its invitation where the relay asks for it, signed for this challenge")
@check("R7.8", "shows no invitation where the relay asks for none")
async def invitation(stage: PeerStage) -> None:
    operator = Identity.generate()
    token = Token.make(operator, os.urandom(32), expires=2**40)
    async with stage.fresh(invitation=token.text) as peer:
        before = b""
        for _ in range(2):
            control, shown = await _shown(peer, asks=True)
            if not shown:
                raise NotTried("its adapter takes no invitation")
            keys = (operator.public_key,), control.identity.public_key
            try:
                found = opened(shown, *keys, control.nonce, peer.guid)
            except BadInvitation as error:
                raise Fault(f"what it shows admits nobody: {error} (R7.10)") from None
            if found != token.invitation:
                raise Fault("shows another statement than the token has (R7.10)")
            if shown == before:
                raise Fault("shows at two challenges the same (R7.10)")
            before = shown
        if (await _shown(peer, asks=False))[1]:
            raise Fault("shows its invitation to a relay that has not asked (R7.8)")


# -- the succession -------------------------------------------------------------------------------


def _pinned(stage: PeerStage, key: Identity) -> AbstractAsyncContextManager[Opened]:
    """A peer that is to take no other relay than this one."""
    return stage.fresh(relay_guid=key.guid)


async def _told(peer: Opened, key: Identity, links: Sequence[bytes]) -> None:
    """Register it under a key that it expects, tell it of these links, and end the connection.

    Raises:
        NotTried: its adapter pins no relay, or the peer knows nothing of successions.
    """
    peer.relay.identity = key
    control = await peer.relay.control()
    if "succession" not in control.hello.get("features", ()):
        control.talk.pipe.abort()
        raise NotTried("the peer does not name `succession`")
    if control.hello.get("relay") is None:
        control.talk.pipe.abort()
        raise NotTried("its adapter pins no relay")
    if control.hello["relay"] != key.guid:
        raise Fault(f"wants the relay {control.hello['relay']}, not {key.guid}")
    control.challenge(features=_FEATURES, succession=links)
    # Not registered, it comes back sooner.
    await control.proven()
    control.talk.pipe.abort()


@check("R7.52", "expects the last key of a succession from the next connection on", slow=True)
@check(
    "R7.53",
    "registers under the key that it expected, where a succession stands beside it",
    slow=True,
)
async def follows(stage: PeerStage) -> None:
    keys = [Identity.generate() for _ in range(3)]
    async with _pinned(stage, keys[0]) as peer:
        await _told(peer, keys[0], [link(keys[0], keys[1]), link(keys[1], keys[2])])
        await _told(peer, keys[2], [])
        # The first one may be a thief's by now.
        peer.relay.identity = keys[0]
        control = await peer.relay.control()
        control.challenge(features=_FEATURES)
        said = await control.talk.closed("behind a challenge under a key that was left")
        if any(one.get("type") == "register" for one in said if isinstance(one, dict)):
            raise Fault("registers with a relay whose key it has left (R7.52)")
        peer.relay.identity = keys[2]
        await peer.relay.registered(seconds=20.0)


@check(
    "R7.51",
    "goes on as if there were none where a succession does not hold as a whole",
    slow=True,
)
async def does_not_hold(stage: PeerStage) -> None:
    first, second, third = (Identity.generate() for _ in range(3))
    whole = link(first, second)

    async def passed_over(*links: bytes) -> None:
        async with _pinned(stage, first) as peer:
            await _told(peer, first, links)
            await _told(peer, first, [])

    async def left() -> None:
        async with _pinned(stage, first) as peer:
            await _told(peer, first, [whole])
            await _told(peer, second, [link(second, first)])
            await _told(peer, second, [])

    # Side by side, as each comes back a while after it was cut.
    done = await asyncio.gather(
        passed_over(whole[:32] + bytes(64) + whole[96:]),
        passed_over(whole[:96] + bytes(64)),
        passed_over(whole, link(third, second)),
        passed_over(whole, link(second, first)),
        left(),
        return_exceptions=True,
    )
    for one in done:
        if isinstance(one, BaseException):
            raise one
