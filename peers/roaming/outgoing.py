"""Opening a session from this side: with its rules, its deadline, and its fallbacks.

`combined` becomes `auto` where no direct path can be made. Where there is no relay to ask, and a
zone is configured, both become `p2p`, by the DNS. `central` becomes nothing else: it hides
addresses.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace

from peers.config import PathFacts, PathKind, PeerConfig, log
from peers.control import Presence
from peers.roaming.sessions import Sessions
from peers.session import Session, Terms
from protocol.errors import (
    Code,
    ConnectionClosed,
    NameServerUnavailable,
    PathFailed,
    PeerOffline,
    Refused,
    RelayUnavailable,
    UnknownPeer,
    UnknownService,
)
from protocol.messages import Mode, PeerState

__all__ = ["Outgoing"]

_DIRECT = 4.0
"""Seconds for a session in `combined`, from the request to its direct path, before it is opened in
`auto` instead."""
_LOOK_AGAIN = 2.0
"""Seconds between two looks into the DNS for a peer that is waited for: it tells nobody."""


class Outgoing:
    """Opens the sessions of one peer. `watch` tells how another peer stands."""

    def __init__(
        self,
        config: PeerConfig,
        sessions: Sessions,
        watch: Callable[[str], AsyncGenerator[Presence, None]],
    ) -> None:
        self._config = config
        self._sessions = sessions
        self._watch = watch

    async def wait_and_open(self, terms: Terms, timeout: float) -> Session:
        """Open a session as soon as the peer is there and offers the service."""
        if self._config.relay is None:
            return await self._look_and_open(terms, timeout)
        async with contextlib.aclosing(self._watch(terms.remote)) as presences:
            async for presence in presences:
                if presence.state is PeerState.ONLINE:
                    with contextlib.suppress(PeerOffline, UnknownPeer, UnknownService):
                        return await self.open(terms, timeout)
        raise ConnectionClosed("the peer is closed")

    async def open(self, terms: Terms, timeout: float) -> Session:
        """Open a session; what it raises is that of `Peer.connect`.

        The fallbacks are taken unless the policy or the configuration forbids them.
        """
        within = terms.policy.within
        try:
            async with asyncio.timeout(within):
                if terms.mode in (Mode.COMBINED, Mode.AUTO) and self._config.ddns is not None:
                    return await self._with_names(terms, timeout)
                return await self._with_relay(terms, timeout)
        except TimeoutError:
            raise PathFailed(
                f"no path within {within:g} s: the policy says 'within {within:g}'"
            ) from None

    # -- inside ---------------------------------------------------------------------------------

    async def _look_and_open(self, terms: Terms, timeout: float) -> Session:
        while True:
            try:
                return await self.open(terms, timeout)
            except (UnknownPeer, UnknownService, PathFailed, NameServerUnavailable) as error:
                log.debug("not there yet", peer=terms.remote[:8], reason=error.reason)
            await asyncio.sleep(_LOOK_AGAIN)

    async def _with_names(self, terms: Terms, timeout: float) -> Session:
        if self._config.relay is not None:
            try:
                return await self._with_relay(terms, timeout)
            except RelayUnavailable as error:
                if error.code is not None or not self._config.fallback:
                    raise
                log.info("no relay, the DNS instead", peer=terms.remote[:8], reason=error.reason)
        return await self._sessions.open(replace(terms, mode=Mode.P2P), timeout)

    async def _with_relay(self, terms: Terms, timeout: float) -> Session:
        forbidden = terms.policy.refusal(PathFacts(PathKind.RELAYED))
        if terms.mode is not Mode.COMBINED or forbidden or not self._config.fallback:
            return await self._sessions.open(terms, timeout)
        try:
            async with asyncio.timeout(_DIRECT):
                return await self._sessions.open(terms, timeout)
        except (PathFailed, Refused, TimeoutError) as error:
            if isinstance(error, Refused) and error.code is not Code.NO_ENDPOINT:
                raise
            reason = str(error) or f"none within {_DIRECT:g} s"
            log.info("no direct path, mode auto instead", peer=terms.remote[:8], reason=reason)
        return await self._sessions.open(replace(terms, mode=Mode.AUTO), timeout)
