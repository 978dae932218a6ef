"""Opening a session from this side: with its rules, its deadline, and its fallbacks.

`combined` becomes `auto` where no direct path can be made. Where there is no relay to ask, and a
zone is configured, both become `p2p`, by the DNS. `central` becomes nothing else: it hides
addresses.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, replace

from peers.choice import Select
from peers.config import PathFacts, PathKind, PeerConfig, Policy, log
from peers.control import Presence
from peers.roaming.sessions import Roaming
from peers.session import Session
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

__all__ = ["Opening", "Wanted"]

_DIRECT = 4.0
"""Seconds for a session in `combined`, from the request to its direct path, before it is opened in
`auto` instead."""
_LOOK_AGAIN = 2.0
"""Seconds between two looks into the DNS for a peer that is waited for: it tells nobody."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A session as the program has asked for it."""

    guid: str
    service: str
    mode: Mode
    timeout: float
    policy: Policy
    select: Select | str


class Opening:
    """Opens the sessions of one peer. `watch` tells how another peer stands."""

    def __init__(
        self,
        config: PeerConfig,
        roaming: Roaming,
        watch: Callable[[str], AsyncGenerator[Presence, None]],
    ) -> None:
        self._config = config
        self._roaming = roaming
        self._watch = watch

    async def wait_and_open(self, wanted: Wanted) -> Session:
        """Open a session as soon as the peer is there and offers the service."""
        if self._config.relay is None:
            return await self._look_and_open(wanted)
        async with contextlib.aclosing(self._watch(wanted.guid)) as presences:
            async for presence in presences:
                if presence.state is PeerState.ONLINE:
                    with contextlib.suppress(PeerOffline, UnknownPeer, UnknownService):
                        return await self.open(wanted)
        raise ConnectionClosed("the peer is closed")

    async def open(self, wanted: Wanted) -> Session:
        """Open a session; what it raises is that of `Peer.connect`.

        The fallbacks are taken unless the policy or the configuration forbids them.
        """
        within = wanted.policy.within
        try:
            async with asyncio.timeout(within):
                if wanted.mode in (Mode.COMBINED, Mode.AUTO) and self._config.ddns is not None:
                    return await self._with_names(wanted)
                return await self._with_relay(wanted)
        except TimeoutError:
            raise PathFailed(
                f"no path within {within:g} s: the policy says 'within {within:g}'"
            ) from None

    # -- inside ---------------------------------------------------------------------------------

    async def _look_and_open(self, wanted: Wanted) -> Session:
        while True:
            try:
                return await self.open(wanted)
            except (UnknownPeer, UnknownService, PathFailed, NameServerUnavailable) as error:
                log.debug("not there yet", peer=wanted.guid[:8], reason=error.reason)
            await asyncio.sleep(_LOOK_AGAIN)

    async def _with_names(self, wanted: Wanted) -> Session:
        if self._config.relay is not None:
            try:
                return await self._with_relay(wanted)
            except RelayUnavailable as error:
                if error.code is not None or not self._config.fallback:
                    raise
                log.info("no relay, the DNS instead", peer=wanted.guid[:8], reason=error.reason)
        return await self._open(replace(wanted, mode=Mode.P2P))

    async def _with_relay(self, wanted: Wanted) -> Session:
        forbidden = wanted.policy.refusal(PathFacts(PathKind.RELAYED))
        if wanted.mode is not Mode.COMBINED or forbidden or not self._config.fallback:
            return await self._open(wanted)
        try:
            async with asyncio.timeout(_DIRECT):
                return await self._open(wanted)
        except (PathFailed, Refused, TimeoutError) as error:
            if isinstance(error, Refused) and error.code is not Code.NO_ENDPOINT:
                raise
            reason = str(error) or f"none within {_DIRECT:g} s"
            log.info("no direct path, mode auto instead", peer=wanted.guid[:8], reason=reason)
        return await self._open(replace(wanted, mode=Mode.AUTO))

    async def _open(self, wanted: Wanted) -> Session:
        session = Session(
            session_id=os.urandom(16),
            remote=wanted.guid,
            service=wanted.service,
            mode=wanted.mode,
            caller=True,
            discloses=wanted.mode is not Mode.CENTRAL,
            settings=self._config.session,
            owner=self._roaming,
            policy=wanted.policy,
            select=wanted.select,
        )
        await self._roaming.open(session, wanted.timeout)
        return session
