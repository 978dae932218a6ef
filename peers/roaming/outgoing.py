"""Opening a session from this side: with its rules, its deadline, and its fallbacks.

`combined` becomes `auto` where no direct path can be made. Where there is no relay to ask, and a
zone is configured, both become `p2p`, by the DNS. `central` becomes nothing else: it hides
addresses.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import replace

from peers.config import PathFacts, PathKind, PeerConfig, log
from peers.control import Presence
from peers.roaming.sessions import Sessions
from peers.session import Session, Terms
from peers.tasks import Attempts
from protocol.errors import (
    Code,
    ConnectionClosed,
    LimitExceeded,
    NameServerUnavailable,
    PathFailed,
    PeerOffline,
    Refused,
    RelayUnavailable,
    RequestTimeout,
    RoamRelayError,
    UnknownPeer,
    UnknownService,
    WrongIdentity,
)
from protocol.messages import Mode, PeerState

__all__ = ["Outgoing"]

_DIRECT = 4.0
"""Seconds for a session in `combined`, from the request to its direct path, before it is opened in
`auto` instead."""
_LOOK_AGAIN = 2.0
"""Seconds between two looks into the DNS for a peer that is waited for: it tells nobody; and until
a relay that says that the peer is there is asked again, where it was lost over the request."""
_NOT_THERE = UnknownPeer, UnknownService, PeerOffline
_NOT_BY_NAME = *_NOT_THERE, PathFailed, WrongIdentity, NameServerUnavailable
"""What the zone's word of a peer that has gone, or has not come yet, may lead to: another host has
its address by now, perhaps."""
_PASSING = None, Code.HEARTBEAT_TIMEOUT, Code.RESTARTING, Code.CLUSTER_UNAVAILABLE
"""Codes of a relay that is not there, or not for peers elsewhere, and comes back."""


class Outgoing:
    """Opens the sessions of one peer. `watch` tells how another peer stands, as the relay has it;
    `find` looks a peer's service up in the zone."""

    def __init__(
        self,
        config: PeerConfig,
        sessions: Sessions,
        watch: Callable[[str], AsyncGenerator[Presence, None]],
        find: Callable[[str, str], Awaitable[object]],
    ) -> None:
        self._config = config
        self._sessions = sessions
        self._watch = watch
        self._find = find

    async def wait_and_open(self, terms: Terms, timeout: float) -> Session:
        """Open a session as soon as the peer is there and offers the service, whoever says so: the
        relay, or the zone, as far as they are configured."""
        turn = asyncio.Lock()
        if self._config.relay is None:
            return await self._look_and_open(terms, timeout, turn)
        if self._config.ddns is None or terms.mode is Mode.CENTRAL:
            return await self._watch_and_open(terms, timeout, turn)
        async with Attempts(Session.abort) as waiting:
            waiting.start(0, self._watch_and_open(terms, timeout, turn))
            waiting.start(1, self._look_and_open(terms, timeout, turn))
            while True:
                for _, result in await waiting.over(None):
                    if not isinstance(result, RoamRelayError):
                        return result
                    if not isinstance(result, LimitExceeded) or not waiting:
                        raise result
                    log.info("one who tells less", peer=terms.remote[:8], reason=result.reason)

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

    async def _watch_and_open(self, terms: Terms, timeout: float, turn: asyncio.Lock) -> Session:
        """Open it when the relay says that the peer is there. Nobody else opens one meanwhile."""
        async with contextlib.aclosing(self._watch(terms.remote)) as presences:
            async for presence in presences:
                if presence.state is PeerState.ONLINE:
                    with contextlib.suppress(*_NOT_THERE):
                        return await self._open_there(terms, timeout, turn)
        raise ConnectionClosed("the peer is closed")

    async def _open_there(self, terms: Terms, timeout: float, turn: asyncio.Lock) -> Session:
        """Open a session with a peer that the relay says is there, however often the relay is lost
        meanwhile: it does not say so again."""
        while True:
            try:
                async with _taking(turn):
                    return await self.open(terms, timeout)
            except (RelayUnavailable, RequestTimeout) as error:
                if isinstance(error, RelayUnavailable) and error.code not in _PASSING:
                    raise
                log.debug("lost over a request", peer=terms.remote[:8], reason=error.reason)
            await asyncio.sleep(_LOOK_AGAIN)

    async def _look_and_open(self, terms: Terms, timeout: float, turn: asyncio.Lock) -> Session:
        """Open it when the zone says where the peer is. Nobody else opens one meanwhile."""
        silent = (RelayUnavailable, RequestTimeout) if self._config.relay is not None else ()
        while True:
            try:
                if self._config.relay is None:
                    return await self.open(terms, timeout)
                await self._find(terms.remote, terms.service)
                async with _taking(turn):
                    return await self.open(replace(terms, mode=Mode.P2P), timeout)
            except (*_NOT_BY_NAME, *silent) as error:
                log.debug("not there yet", peer=terms.remote[:8], reason=error.reason)
            await asyncio.sleep(_LOOK_AGAIN)

    async def _with_names(self, terms: Terms, timeout: float) -> Session:
        by_name = replace(terms, mode=Mode.P2P)
        if self._config.relay is None:
            return await self._sessions.open(by_name, timeout)
        try:
            return await self._with_relay(terms, timeout)
        except RelayUnavailable as error:
            passes = error.code in (None, Code.CLUSTER_UNAVAILABLE)
            if not passes or not self._config.fallback:
                raise
            log.info("no relay, the DNS instead", peer=terms.remote[:8], reason=error.reason)
        except (UnknownPeer, PeerOffline) as error:
            if not self._config.fallback:
                raise
            # It may register by the DNS alone.
            try:
                await self._find(terms.remote, terms.service)
                log.info("not at the relay, the DNS instead", peer=terms.remote[:8])
                return await self._sessions.open(by_name, timeout)
            except _NOT_BY_NAME:
                raise error from None
        return await self._sessions.open(by_name, timeout)

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


@contextlib.asynccontextmanager
async def _taking(turn: asyncio.Lock) -> AsyncGenerator[None, None]:
    """Open a session inside: nobody else does meanwhile, nor ever where it succeeds."""
    await turn.acquire()
    try:
        yield
    except BaseException:
        turn.release()
        raise
